"""The control plane: owns the configuration, decides what the data plane should do, and tells it."""
