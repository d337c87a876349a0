"""Runs: one process or many, training, logs, saved models, and going on after a stop."""
