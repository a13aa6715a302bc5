"""l4lb: a TCP load balancer with a native data plane, built for AI inference fleets."""

__version__ = "0.1.0"
