"""claude-loop: shows, live and truthfully, what coding agents left working alone are doing."""

__version__ = "0.1.0"
