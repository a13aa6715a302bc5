"""The balancer: keeps engine, sockets, health checks, discovery and state in step, one module for each part."""
