"""One self-contained HTML page about a delta: how good it is, on what, and how to use it."""
