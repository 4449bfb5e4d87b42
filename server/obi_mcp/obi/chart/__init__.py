"""The chart that ships with the server: its values for an installation (``values``), presets by platform (``presets``),
the chart itself under a name and with defaults of the caller's (``files``), and what Flux and Argo CD read to install
it (``delivery``).

Nothing is imported here: a server that only lists its tools needs none of it.
"""
