"""The admin server: metrics, health and a JSON API over HTTP. It asks `status.Control` and decides nothing."""

DEFAULT_SOCKET = "/run/l4lb/admin.sock"
"""Where a process creates its admin socket, and where the commands look for it, unless they are told another path."""
