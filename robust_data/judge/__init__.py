"""Judging: accuracy clean, attacked, perturbed."""
