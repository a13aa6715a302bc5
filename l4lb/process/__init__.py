"""The process around a balancer: start, signals, privileges, the watchdog, stop."""
