"""Types of configuration values: how each is read, bounded, and described to an editor. A module for each kind."""

FROM_FILE = {"from_file": True}
"""Validation context of data that people wrote: there, a duration must have its unit."""
