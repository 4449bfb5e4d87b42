"""How much a call may carry and give: known before anything else of these tools is loaded."""

from __future__ import annotations

MAX_CONFIG = 262_144
"""Characters of a configuration: what the policy reads."""
MOST_LINES = 500
"""Records of the log in one answer."""
