"""The toolset ``helm``: charts, values and releases of OBI's."""
