"""Training: the loop, its batches, its processes, its state on the disk."""
