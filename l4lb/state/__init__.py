"""The state of a balancer as frozen values, and the pure functions that decide what the next state is."""
