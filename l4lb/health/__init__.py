"""Health checks: when a backend is checked, what a result means, and what follows from it."""
