"""The edges: bytes in, bytes out, no decisions."""
