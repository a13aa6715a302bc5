"""Addresses and outgoing connections of the control plane: interfaces, host names, connecting, TLS."""
