"""OBI in containers of a Docker engine: what is asked of the engine, and what it answers."""
