"""Classifiers: a dict of inputs in, logits out; resizing and normalisation are their first layers."""

from robust_data.models.builder import MEMORY_FORMATS, build, image_side, names, short_name, starts_pretrained

__all__ = ["MEMORY_FORMATS", "build", "image_side", "names", "short_name", "starts_pretrained"]
