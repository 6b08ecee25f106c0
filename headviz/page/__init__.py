"""The page: panels over one shared session, and the scripts that hold a visitor's state.

It alone may know gradio, plotly and pandas. It must not compute: what it shows, the session gives,
and nothing in any other room imports it but the command that opens it.
"""
