"""What a balancer tells its successor about its backends, and how the successor takes it over."""
