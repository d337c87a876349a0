"""Whether recorded losses can be those of a model that has learned anything; without torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from robust_data.metrics import counted_checkpoints
from robust_data.records import is_clean_only

# A model that knows nothing has a mean loss of log(classes); ten times that means that it gives the golden label less
# than the tenth power of its share.
LARGEST_CLEAN = 10
# Nats. A strong attack makes losses large, but no float32 logits of a trained model lie so far apart on average.
LARGEST_PERTURBED = 1000.0
KINDS = {"original": "clean", "after_perturb": "perturbed"}


@np.errstate(invalid="ignore")  # of infinite losses
def divergence(rows: np.ndarray, metadata: Mapping[str, Any], use_untrained_model: bool = False) -> str | None:
    """What is wrong, in one line, where the mean loss of a checkpoint that counts is beyond what can be.

    That is a clean loss above `LARGEST_CLEAN` times log(classes), a perturbed one above `LARGEST_PERTURBED`, or one
    that is not finite. rows: the records (T, N); metadata: the JSON beside them. Raises InputError if none counts.
    """
    counted = counted_checkpoints(rows, use_untrained_model)
    classes = max(2, len(metadata.get("label_names") or []), int(counted["golden_label"][0].max()) + 1)
    limits = {"original": LARGEST_CLEAN * math.log(classes)}
    if not is_clean_only(counted):
        limits["after_perturb"] = LARGEST_PERTURBED
    for prefix, limit in limits.items():
        means = counted[f"{prefix}_loss"].mean(axis=1, dtype=np.float64)
        beyond = np.flatnonzero(~(means <= limit))
        if len(beyond):
            step = counted["global_step"][beyond[0], 0]
            return (
                f"at {len(beyond)} of {len(counted)} checkpoints the mean {KINDS[prefix]} loss is beyond {limit:.3g} "
                f"nats, first at step {step} with {means[beyond[0]]:.3g}: the model diverged, or its batch norm has "
                "seen too few batches, and the figures say nothing of the instances; lower --lr, train for longer, or "
                "take another model"
            )
    return None
