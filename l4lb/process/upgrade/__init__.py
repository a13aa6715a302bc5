"""Replacing the running process by a new one without refusing a connection."""
