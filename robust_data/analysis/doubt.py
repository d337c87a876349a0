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
# Binomial standard errors by which a model that has learned is above the best constant answer.
ABOVE_CONSTANT = 2


def doubt(rows: np.ndarray, metadata: Mapping[str, Any], use_untrained_model: bool = False) -> str | None:
    """Why the figures of a file say nothing of the instances, in one line, or None.

    Either the model diverged, or it has learned nothing: its clean accuracy at the last checkpoint is not above that of
    the best constant answer by more than `ABOVE_CONSTANT` standard errors. rows: the records (T, N); metadata: the JSON
    beside them. Raises InputError if no checkpoint counts.
    """
    counted = counted_checkpoints(rows, use_untrained_model)
    return _divergence(counted, metadata) or _nothing_learned(counted[-1])


def _nothing_learned(last: np.ndarray) -> str | None:
    """What is wrong where the records (N,) are of a model that is no better than a constant answer."""
    constant = np.unique(last["golden_label"], return_counts=True)[1].max() / len(last)
    accuracy = last["original_pred"].mean()
    if accuracy > constant + ABOVE_CONSTANT * math.sqrt(constant * (1 - constant) / len(last)):
        return None
    return (
        f"at the last checkpoint the clean accuracy is {100 * accuracy:.1f} %, and the best constant answer has "
        f"{100 * constant:.1f} %: the model has learned nothing, or gets other inputs than in training, and what is "
        "called robust is not; train for longer, or give the preprocess of the training"
    )


@np.errstate(invalid="ignore")  # of infinite losses
def _divergence(counted: np.ndarray, metadata: Mapping[str, Any]) -> str | None:
    """What is wrong where the mean loss of a checkpoint is beyond what can be.

    That is a clean loss above `LARGEST_CLEAN` times log(classes), a perturbed one above `LARGEST_PERTURBED`, or one
    that is not finite.
    """
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
