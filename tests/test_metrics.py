"""Metrics of a table small enough to check by hand."""

import numpy as np
import pytest
from conftest import refuses

from robust_data.metrics import (
    class_share,
    clean_loss_correlation,
    counted_checkpoints,
    describe_counted,
    instance_metrics,
    min_max,
    rank_correlation,
    summarise,
)
from robust_data.records import DTYPE, DTYPE_WITH_INPUT_GRADIENT, column


@pytest.fixture
def records():
    """Three checkpoints of two instances; the second is never classified correctly."""
    table = np.zeros((3, 2), dtype=DTYPE)
    table["global_step"] = [[5], [10], [15]]
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
    assert metrics["forgetting_events"].tolist() == [1, 3]  # never learned: as often as there are checkpoints
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


@pytest.fixture
def with_untrained(records):
    """The same records behind a checkpoint of the untrained model, at which everything is different."""
    untrained = np.zeros((1, 2), dtype=DTYPE)
    for field in ("index", "golden_label"):
        untrained[field] = records[field][0]
    untrained["original_loss"] = untrained["after_perturb_loss"] = 1000
    untrained["original_pred"] = [[True, True]]
    return np.concatenate([untrained, records])


@pytest.mark.parametrize("only_original_pred", [False, True])
def test_the_untrained_model_is_left_out_of_every_metric(records, with_untrained, only_original_pred):
    expected = instance_metrics(records, only_original_pred)
    found = instance_metrics(with_untrained, only_original_pred)
    assert found.keys() == expected.keys()
    for name, values in found.items():
        assert np.array_equal(values, expected[name]), name


def test_the_untrained_model_is_counted_where_that_is_asked_for(with_untrained):
    metrics = instance_metrics(with_untrained, use_untrained_model=True)
    assert metrics["perturbed_loss_mean"].tolist() == [253, 252.25]
    assert metrics["flip_times"].tolist() == [2, 2] and metrics["flip_rate"].tolist() == [0.5, 0.5]
    assert metrics["original_correctness"].tolist() == [3, 1]
    assert metrics["forgetting_events"].tolist() == [1, 1]  # the untrained model had the second right by chance
    assert instance_metrics(with_untrained)["forgetting_events"].tolist() == [1, 3]


def test_the_counted_checkpoints_are_a_view_and_are_told(records, with_untrained):
    assert np.shares_memory(counted_checkpoints(with_untrained), with_untrained)
    assert describe_counted(with_untrained) == "3 of 4 checkpoints, without the untrained model's"
    assert describe_counted(with_untrained, True) == "4 checkpoints, the untrained model's among them"
    assert describe_counted(records) == describe_counted(records, True) == "3 checkpoints"


def test_a_file_of_the_untrained_model_alone_is_refused_with_the_remedy(with_untrained):
    with refuses("--use_untrained_model"):
        instance_metrics(with_untrained[:1])
    assert instance_metrics(with_untrained[:1], use_untrained_model=True)["perturbed_loss_mean"].tolist() == [1000] * 2


def test_the_rank_correlation_shares_ranks_among_equal_values():
    # ranks 1, 2.5, 2.5, 4 and 2, 1, 3, 4: their products around the mean rank sum to 3, their squares to 4.5 and 5
    assert rank_correlation(np.array([1.0, 2, 2, 9]), np.array([3.0, 1, 4, 5])) == pytest.approx(3 / np.sqrt(22.5))
    assert rank_correlation(np.array([1.0, 2, 3]), np.array([9.0, 4, 1])) == pytest.approx(-1)
    assert rank_correlation(np.ones(3), np.arange(3.0)) == 0


def test_clean_loss_explains_all_of_itself_and_the_summary_says_what_of_sensitivity(records):
    metrics = instance_metrics(records)
    metrics["original_loss_mean"] = np.array([1.0, 2])
    assert clean_loss_correlation(metrics, "original_loss_mean") == pytest.approx(1)
    assert summarise(metrics) == pytest.approx(
        {
            "sensitivity": 3.5,
            "variability": np.sqrt(8 / 3) / 2,
            "flip_rate": 1 / 3,
            "class_share": 1,
            "clean_loss_correlation": -1,
        }
    )


def test_the_input_gradient_is_averaged_over_all_counted_checkpoints_where_it_was_recorded(records):
    assert "input_gradient" not in instance_metrics(records)
    more = np.zeros(records.shape, dtype=DTYPE_WITH_INPUT_GRADIENT)
    for field in DTYPE.names:
        more[field] = records[field]
    more["original_input_gradient"] = [[1, 3], [2, 3], [6, 0]]
    assert instance_metrics(more)["input_gradient"] == pytest.approx([3, 2])
    assert instance_metrics(more, only_original_pred=True)["input_gradient"] == pytest.approx([3])
