"""Tells a person who is not looking: notifications of what a run's state asks for, and an outward heartbeat."""
