"""The OBI agent that this server runs on its own host: found, looked after, started, watched and ended."""
