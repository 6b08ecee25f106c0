"""The paper's four studies as a grid of cells that a killed run goes on with.

`python -m headviz study NAME` runs one. It needs the core and the small worlds, and no page.
"""
