"""Where events are kept: one port, several backends."""
