"""The process of ``claude-loop run``: small, of the standard library alone, and no friend of the daemon's fate."""
