"""Paired comparisons against values computed by hand, and against scipy."""

import numpy as np
import pytest

from robust_data.judge.paired import bootstrap_interval, holm, is_equivalent, sign_flip_p


def test_six_pairs_of_one_sign_reach_two_of_64_patterns():
    assert sign_flip_p([1, 2, 3, 4, 5, 6]) == 2 / 64
    assert sign_flip_p([-0.1] * 6) == 2 / 64


def test_of_one_contrary_pair_the_size_decides():
    # As far from 0 as 1+1+1+1+1-1 = 4 are the patterns with at most one minus, and their mirror images.
    assert sign_flip_p([1, 1, 1, 1, 1, -1]) == 2 * (1 + 6) / 64
    # Only its own pattern and the one with all signs alike are as far as 1+1+1+1+1-0.1, on either side.
    assert sign_flip_p([1, 1, 1, 1, 1, -0.1]) == 4 / 64


def test_differences_of_nothing_show_nothing():
    assert sign_flip_p([0.0] * 8) == 1.0


def test_fewer_than_six_pairs_have_no_p():
    assert sign_flip_p([1, 2, 3, 4, 5]) is None


@pytest.mark.parametrize("count", [6, 8, 11])
def test_sign_flips_agree_with_scipy(count):
    stats = pytest.importorskip("scipy.stats")
    differences = np.random.default_rng(count).normal(0.4, 1, count)
    expected = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
    ).pvalue
    assert sign_flip_p(differences) == pytest.approx(expected, abs=1e-12)


def test_many_pairs_are_sampled():
    differences = np.random.default_rng(0).normal(0.5, 1, 24)
    assert 0 < sign_flip_p(differences) < 1
    assert sign_flip_p(differences) == sign_flip_p(differences)


def test_holm_by_hand():
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": None}) == pytest.approx(
        {"a": 0.03, "c": 0.06, "b": 0.06, "d": None}
    )
    assert holm({"a": 0.6, "b": 0.7}) == {"a": 1.0, "b": 1.0}


def test_the_interval_holds_the_mean_as_often_as_it_says():
    random, held, trials = np.random.default_rng(1), 0, 200
    for trial in range(trials):
        replicates = random.normal(0.1, 0.2, 12)
        instances = [np.where(random.random(400) < 0.5 + mean / 2, 1, -1) for mean in replicates]
        low, high = bootstrap_interval(instances, draws=400, seed=trial)
        held += low <= 0.1 <= high
    # A percentile bootstrap of twelve replicates is a little narrow.
    assert 0.86 < held / trials < 0.99


def test_one_number_per_replicate_is_resampled_over_replicates():
    differences = [np.array([value]) for value in (0.0, 1.0)]
    # Both the same in half of the samples: (0, 0), (1, 1); else one of each.
    assert bootstrap_interval(differences, level=0.9) == (0.0, 1.0)
    assert bootstrap_interval(differences, level=0.4) == (0.5, 0.5)


def test_replicates_without_a_difference_have_an_interval_of_no_width():
    assert bootstrap_interval([np.zeros(50)] * 6) == (0.0, 0.0)


def test_the_interval_is_the_same_every_time():
    instances = [np.random.default_rng(seed).integers(-1, 2, 100) for seed in range(6)]
    assert bootstrap_interval(instances, seed=3) == bootstrap_interval(instances, seed=3)


@pytest.mark.parametrize("interval, expected", [((-0.5, 1.4), True), ((-0.5, 1.6), False), ((-1.5, 1.5), True)])
def test_equivalence_takes_the_whole_interval(interval, expected):
    assert is_equivalent(interval, 1.5) is expected
