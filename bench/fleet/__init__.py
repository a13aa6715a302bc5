"""Balancers and policies in front of simulated model servers, over TCP. See README.md."""
