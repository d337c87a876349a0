"""Agreement between measurements, and the decomposition of sensitivity, where the answer is known by construction."""

import numpy as np
import pytest
from conftest import refuses

from robust_data.analysis.agreement import (
    decompose,
    overlap,
    rank_correlation_within_class,
    reliability,
)

CLASSES, SIZE = 4, 3000
LABELS = np.repeat(np.arange(CLASSES), SIZE)


def part(seed):
    """A standard normal column whose mean in every class is 0."""
    drawn = np.random.default_rng(seed).standard_normal((CLASSES, SIZE))
    return ((drawn - drawn.mean(axis=1, keepdims=True)) / drawn.std(axis=1, keepdims=True)).ravel()


def test_the_parts_of_a_sensitivity_made_of_known_parts():
    # Variances: class 1.25 (of 0, 1, 2, 3), clean loss 4 * 1, own of the instance 2, noise of the replicate 1.
    clean, own = part(0), np.sqrt(2) * part(1)
    replicates = np.stack([LABELS + 2 * clean + own + part(seed) for seed in (2, 3, 4)])
    found = decompose(replicates, np.stack([clean + LABELS % 2] * 3), LABELS)
    assert found.class_share == pytest.approx(1.25 / 8.25, abs=0.01)
    assert found.clean_loss == pytest.approx(4 / 8.25, abs=0.01)
    assert found.rest == pytest.approx(3 / 8.25, abs=0.01)
    assert found.rest_reliability == pytest.approx(2 / 3, abs=0.02)
    assert found.reliable == pytest.approx(2 / 8.25, abs=0.01)
    assert found.noise == pytest.approx(1 / 8.25, abs=0.01)
    assert found.class_share + found.clean_loss + found.reliable + found.noise == pytest.approx(1)
    assert found.class_chance == 3 / (4 * 3000 - 1)


@pytest.mark.parametrize(
    "sensitivity, shares", [(1.0 * LABELS, (1, 0, 0)), (part(0), (0, 1, 0)), (part(1) - 0 * LABELS, (0, 0, 1))]
)
def test_a_sensitivity_of_one_part_alone(sensitivity, shares):
    found = decompose(sensitivity, part(0), LABELS)
    assert (found.class_share, found.clean_loss, found.rest) == pytest.approx(shares, abs=0.01)
    assert found.rest_reliability is found.reliable is found.noise is None


def test_a_clean_loss_that_is_the_class_explains_nothing_beyond_it():
    found = decompose(LABELS + part(0), 0.1 * LABELS, LABELS)
    assert found.clean_loss == pytest.approx(0, abs=1e-9)


def test_reliability_of_a_common_part_and_noise():
    replicates = np.stack([part(0) + part(seed) + 5 * LABELS for seed in (1, 2, 3)])
    found = reliability(replicates, LABELS)
    assert found.replicates == 3
    assert found.single == pytest.approx(1 / 2, abs=0.02)
    assert found.mean == pytest.approx(3 / 4, abs=0.02)
    assert reliability(replicates).single > 0.95  # the class comes back, too
    assert reliability(np.stack([part(1), 3 * part(1) + 1])).single == pytest.approx(1)
    assert reliability(np.stack([part(0), -part(0)])).mean == pytest.approx(-1)


def test_correlation_inside_the_classes_does_not_see_the_class():
    labels = np.array([0, 0, 0, 1, 1, 1, 2])
    first = np.array([1.0, 2, 3, 11, 12, 13, 99])
    assert rank_correlation_within_class(first, np.array([3.0, 2, 1, 13, 12, 11, 99]), labels) == pytest.approx(-1)
    assert rank_correlation_within_class(first, np.array([3.0, 2, 1, 11, 12, 13, 99]), labels) == pytest.approx(0)
    assert rank_correlation_within_class(first, first, np.arange(7)) == 0


def test_overlap_counts_what_both_have():
    found = overlap(np.array([1, 2, 3, 4]), np.array([9, 4, 3]), 12)
    assert (found.share, found.chance) == (0.5, 0.25)


@pytest.mark.parametrize(
    "call, told",
    [
        (lambda: reliability(part(0)), "at least 2 replicates"),
        (lambda: decompose(np.ones(3), np.arange(3), np.arange(3)), "no variance"),
        (lambda: decompose(np.array([1, np.inf]), np.arange(2), np.arange(2)), "1 values are not finite"),
        (lambda: decompose(np.ones((2, 3)), np.ones(3), np.arange(3)), "the shape"),
        (lambda: decompose(np.ones(1), np.ones(1), np.zeros(1)), "at least 2"),
    ],
)
def test_what_has_no_answer_is_refused(call, told):
    with refuses(told):
        call()
