"""Tools by subject: what they are called, take and give, as plain data; ``app`` offers them over MCP.

The registry is the list in ``registry.py``, written by hand.
"""
