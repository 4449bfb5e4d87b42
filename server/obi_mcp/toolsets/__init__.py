"""Tools by subject; the registry is the list in base.py, written by hand."""
