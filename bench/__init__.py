"""Benchmarks of l4lb. `python -m bench` lists them; README.md says what they measure."""
