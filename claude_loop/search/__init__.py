"""Full-text search: an index beside the log, filled behind it."""
