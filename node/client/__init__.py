"""A client: chooses a path, pays each hop for each token, samples, and goes on when a hop dies."""
