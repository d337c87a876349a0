"""Robustness of a trained model: clean, attacked, perturbed, and on published corruptions."""
