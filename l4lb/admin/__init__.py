"""The admin server: metrics, health and a JSON API over HTTP. It asks `control.api.Control` and decides nothing."""
