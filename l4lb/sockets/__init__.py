"""Listening sockets: opened here, inherited from a predecessor, or passed in by the service manager."""
