"""The admin server: metrics, health and a JSON API over HTTP. It asks `status.Control` and decides nothing."""
