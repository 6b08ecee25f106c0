"""The page. Only this folder knows gradio, plotly and pandas; nothing in the core imports it."""
