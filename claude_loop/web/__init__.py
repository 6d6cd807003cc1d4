"""The pages the server hands out."""
