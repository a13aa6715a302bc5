"""Hands the run-time state of a balancer over to its successor: exported as records, read, and restored."""
