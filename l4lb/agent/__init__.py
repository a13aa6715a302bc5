"""Agents: programs beside backends that say in one line how their host is doing, and who asks them."""
