"""Classifiers: a dict of inputs in, logits out; resizing and normalisation are their first layers."""

from models.registry import build, names

__all__ = ["build", "names"]
