"""Tells a person who is not looking: notifications of what runs and agents ask for, and an outward heartbeat."""
