"""What the daemon does beside a loop that was not written for it."""
