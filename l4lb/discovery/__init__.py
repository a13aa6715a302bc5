"""Discovery of backends: a module for each kind of source, and the rules for accepting what they report."""
