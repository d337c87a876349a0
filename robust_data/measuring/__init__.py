"""Statistics of a training run: how they are recorded, and a statistics file opened."""
