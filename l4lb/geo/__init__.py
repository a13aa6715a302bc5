"""Where networks are in the world, from databases in MaxMind's format."""
