"""Finding backends: one module for each kind of source, and what is accepted of their answers."""
