"""How loaded backends are: asked of them, read, and turned into weights."""
