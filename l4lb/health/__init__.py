"""Active health checks: what a check says, how often it is asked, and what follows from it."""
