"""Finding backends: one module for each kind of source, and what is believed of their answers."""
