"""Agents report the load of their host in one line; this package has the agent and the client that asks it."""
