"""Balancers in front of simulated model servers; see README.md."""
