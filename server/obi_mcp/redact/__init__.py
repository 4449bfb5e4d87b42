"""Takes secrets, and characters that deceive, out of what programs print: before any filter, and before any caller."""

from obi_mcp.redact.controls import strip_controls, strip_values
from obi_mcp.redact.hunks import HunkTrim
from obi_mcp.redact.redactor import Redactor
from obi_mcp.redact.stream import TextStream

__all__ = ["HunkTrim", "Redactor", "TextStream", "strip_controls", "strip_values"]
