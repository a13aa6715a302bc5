"""Where networks are in the world, as databases in MaxMind's format say."""
