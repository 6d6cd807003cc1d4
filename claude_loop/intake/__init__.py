"""Ways in: limits, redaction, the spool and parsers."""
