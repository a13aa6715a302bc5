"""Types of configuration values: how each is parsed, bounded, and described to an editor. A module for each kind."""

FROM_FILE = {"from_file": True}
"""Validation context for data that people wrote: there, a duration must have a unit."""
