"""l4lb next to HAProxy, nginx and no balancer: subjects, scenarios, rounds, summary, report and plot."""
