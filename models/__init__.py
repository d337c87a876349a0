"""Classifiers: a dict of inputs in, logits out; resizing and normalisation are their first layers."""

import sys

from robust_data.models.builder import MEMORY_FORMATS, build, image_side, names, short_name, starts_pretrained

__all__ = ["MEMORY_FORMATS", "build", "image_side", "names", "short_name", "starts_pretrained"]

sys.modules[__name__] = sys.modules["robust_data.models"]  # also for `import models` in a checkout
