"""The toolset ``kubernetes``: OBI in a cluster, by intent; every read and write is a command on the guarded road."""
