"""Pure parsers of what other programs write: no I/O, no clock, nothing raised for strange input."""
