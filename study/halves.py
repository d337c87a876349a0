"""Halves of the training images: at random, or leaning towards some scores and away from others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from robust_data import files
from robust_data.metrics import normal_scores
from robust_data.selection import select

# In the order in which each is freed of those before it; `control` is a score that is drawn.
FEATURES = {
    "clean loss": "clean_loss",
    "sensitivity to gaussian_blur": "sensitivity/gaussian_blur/5",
    "sensitivity to gaussian_noise": "sensitivity/gaussian_noise/5",
    "flip rate": "flip_rate/gaussian_blur/5",
    "input gradient": "input_gradient",
    "random score": "control",
}
# What else a user would rank by; each is tried alone.
ALONE = {
    "sensitivity": "sensitivity/gaussian_blur/5",
    "clean loss": "clean_loss",
    "EL2N": "el2n",
    "AUM": "aum",
    "forgetting": "forgetting",
    "input gradient": "input_gradient",
    "random score": "control",
}
CONTROL_SEED, TILT_SEED = 700, 500


def means(runs: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The mean of every score over the statistics runs, float64 [N], and the control; `index` and `golden_label`."""
    found = {name: np.mean([run[name] for run in runs], axis=0) for name in runs[0] if name not in ("index", "label")}
    found["index"], found["golden_label"] = (runs[0][name].astype(np.int64) for name in ("index", "label"))
    return found | {"control": np.random.default_rng(CONTROL_SEED).normal(size=len(found["index"]))}


def features(scores: Mapping[str, np.ndarray]) -> np.ndarray:
    """The features that halves lean by, float64 [N, 6]: see `metrics.normal_scores`; scores: of `means`."""
    return normal_scores(np.stack([scores[name] for name in FEATURES.values()], axis=1), scores["golden_label"])


def weights(number: int) -> np.ndarray:
    """How far the half of this number leans by each feature: float64 [6], drawn from N(0, 1)."""
    return np.random.default_rng(TILT_SEED + number).normal(size=len(FEATURES))


def tilted(runs: Sequence[Mapping[str, np.ndarray]], number: int) -> np.ndarray:
    """The indices of the half of this number, int64 ascending: of each class those with the largest sum of weights
    times features and a Gumbel draw."""
    named = zip(FEATURES.values(), weights(number).tolist())
    seed = TILT_SEED + number
    # Names of our own, as some of these mean another metric there.
    scores = means(runs)
    own = {name: scores[name] for name in ("index", "golden_label")}
    own |= {f"score/{name}": scores[name] for name in FEATURES.values()}
    tilt = {f"score/{name}": weight for name, weight in named}
    return np.sort(select(own, "random", 0.5, balance=True, tilt=tilt, seed=seed))


def random(images: Path, seed: int) -> np.ndarray:
    """The indices of a random half of the images in a file, int64 ascending, as many of each class."""
    with np.load(images, allow_pickle=False) as found:
        labels = found["labels"]
    draws = np.random.default_rng(seed)
    places = [draws.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
    return np.sort(np.concatenate([of_class[: len(of_class) // 2] for of_class in places]))


def save(path: Path, half: np.ndarray) -> None:
    with files.atomic_write(path) as file:
        np.save(file, half)
