"""Metrics of a table small enough to check by hand."""

import numpy as np
import pytest

from robust_data.metrics import class_share, instance_metrics, min_max
from robust_data.records import DTYPE, column


@pytest.fixture
def records():
    """Three checkpoints of two instances; the second is never classified correctly."""
    table = np.zeros((3, 2), dtype=DTYPE)
    table["global_step"] = [[0], [5], [10]]
    table["index"], table["golden_label"] = [4, 9], [0, 1]
    table["original_pred"] = [[True, False], [False, False], [True, False]]
    table["after_perturb_pred"] = [[False, False], [False, True], [True, False]]
    table["original_loss"] = [[1, 2], [3, 2], [2, 2]]
    table["after_perturb_loss"] = [[2, 3], [4, 3], [6, 3]]
    table["original_probability"] = [[0.5, 0.1], [0.2, 0.1], [0.8, 0.1]]
    table["after_perturb_probability"] = [[0.25, 0], [0.2, 0], [0.6, 0]]
    table["original_margin"], table["original_el2n"] = [[1, -1], [-2, -1], [4, -1]], [[0.5, 1], [1, 1], [0, 1]]
    table["delta_norm"] = [[2, 0], [2, 0], [2, 0]]
    return table


def test_means_and_population_deviations_over_the_checkpoints(records):
    metrics = instance_metrics(records)
    assert metrics["index"].tolist() == [4, 9] and metrics["golden_label"].tolist() == [0, 1]
    assert metrics["perturbed_loss_mean"].tolist() == [4, 3]
    assert metrics["perturbed_loss_std"] == pytest.approx([np.sqrt(8 / 3), 0])
    assert metrics["loss_diff_mean"] == pytest.approx([2, 1])
    assert metrics["loss_diff_std"] == pytest.approx([np.sqrt(2), 0])
    assert metrics["probability_diff_mean"] == pytest.approx([-0.15, -0.1])


def test_flips_and_correctness_are_counted_over_the_checkpoints(records):
    metrics = instance_metrics(records)
    assert metrics["flip_times"].tolist() == [1, 1]
    assert metrics["flip_rate"] == pytest.approx([1 / 3, 1 / 3])
    assert metrics["original_correctness"].tolist() == [2, 0]


def test_the_neighbours_scores(records):
    metrics = instance_metrics(records)
    assert metrics["confidence"] == pytest.approx([0.5, 0.1])
    assert metrics["cartography_variability"] == pytest.approx([np.sqrt(0.06), 0], abs=1e-6)
    assert metrics["correctness"] == pytest.approx([2 / 3, 0])
    assert metrics["forgetting_events"].tolist() == [1, 0]
    assert metrics["aum"] == pytest.approx([1, -1])
    assert metrics["el2n"] == pytest.approx([0.5, 1])


def test_only_original_pred_counts_the_correct_checkpoints_and_drops_who_has_none(records):
    metrics = instance_metrics(records, only_original_pred=True)
    assert metrics["index"].tolist() == [4]
    assert metrics["perturbed_loss_mean"].tolist() == [4] and metrics["perturbed_loss_std"].tolist() == [2]
    assert metrics["flip_times"].tolist() == [1] and metrics["flip_rate"].tolist() == [0.5]
    assert metrics["confidence"] == pytest.approx([0.5])  # the neighbours' scores stay over all checkpoints


def test_the_normed_loss_difference_is_per_unit_of_change_and_zero_without_change(records):
    assert column(records, "normed_loss_diff").tolist() == [[0.5, 0], [0.5, 0], [2, 0]]


def test_min_max_scales_to_the_unit_interval_and_makes_a_constant_zero():
    assert min_max(np.array([2.0, 4, 3])).tolist() == [0, 1, 0.5]
    assert min_max(np.array([7.0, 7])).tolist() == [0, 0]


def test_the_class_explains_all_none_or_some_of_the_variance():
    labels = np.array([3, 3, 8, 8])
    assert class_share(np.array([1.0, 1, 5, 5]), labels) == 1
    assert class_share(np.array([1.0, 5, 1, 5]), labels) == 0
    assert class_share(np.array([0.0, 2, 2, 4]), labels) == pytest.approx(0.5)
    assert class_share(np.zeros(4), labels) == 0


def test_a_long_table_gives_what_its_slices_give(records, monkeypatch):
    whole = instance_metrics(records)
    monkeypatch.setattr("robust_data.metrics.SLICE", 1)
    for name, values in instance_metrics(records).items():
        assert np.array_equal(values, whole[name])
