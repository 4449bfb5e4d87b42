"""What OBI sends: the built-in OTLP receiver, and where it keeps spans, metric points and log records."""
