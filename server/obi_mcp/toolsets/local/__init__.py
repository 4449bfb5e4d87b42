"""The toolset ``local``: OBI on this host, without a cluster."""
