"""The comparison of balancers: subjects, scenarios, measurement and reports behind `bench/run.py`."""
