"""What benchmarks share: processes, the load generator, CPU time, balancers, options, medians and tables."""
