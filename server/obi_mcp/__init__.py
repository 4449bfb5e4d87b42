"""obi-mcp: a Model Context Protocol server that runs OBI through kubectl, helm and obi, behind a policy."""

__version__ = "0.1.0"
