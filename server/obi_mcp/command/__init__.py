"""Text to Pipeline: lexer, grammar, parser."""
