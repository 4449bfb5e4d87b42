"""What we know about OBI itself; no I/O."""
