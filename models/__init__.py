"""Classifiers: a dict of inputs in, logits out; resizing and normalisation are their first layers."""

from models.registry import build, names, short_name

__all__ = ["build", "names", "short_name"]
