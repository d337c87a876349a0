"""Selection, against a table of ten instances that can be checked by eye."""

import numpy as np
import pytest
from conftest import refuses

from robust_data.metrics import class_share, normal_scores, permuted_within_class, residual, within_class
from robust_data.selection import explained, group, select

# The index jumps and the classes alternate, so that places, indices and labels cannot be mixed up.
INDEX = [2, 3, 5, 8, 11, 12, 20, 21, 30, 40]
LABEL = [0, 1, 0, 1, 0, 1, 0, 1, 0, 1]
LOSS_ = [5, 1, 1, 4, 9, 7, 3, 3, 2, 8]
STD__ = [0, 2, 1, 0, 0, 0, 5, 4, 0, 0]
BY_LOSS = [3, 5, 30, 20, 21, 8, 2, 12, 40, 11]  # ascending; 3 before 5 and 20 before 21 are ties


@pytest.fixture
def metrics():
    table = {
        "index": np.array(INDEX),
        "golden_label": np.array(LABEL),
        "perturbed_loss_mean": np.array(LOSS_, float),
        "perturbed_loss_std": np.array(STD__, float),
        "flip_times": np.zeros(10, int),
        "original_loss_mean": np.array(LOSS_, float) ** 3,
        "loss_diff_mean": np.array([0, 0, 10, 10, 5, 5, 5, 5, 5, 5], float),
        "loss_diff_std": np.array([0, 10, 0, 10, 5, 5, 5, 5, 5, 5], float),
        "constant": np.ones(10),
    }
    return table


def chosen(metrics, *arguments, **options):
    return select(metrics, *arguments, **options).tolist()


@pytest.mark.parametrize(
    "select_metric, ratio, expected",
    [
        ("perturbed_loss_mean_r", 0.3, [3, 5, 30]),
        ("perturbed_loss_mean_r", 0.4, [3, 5, 30, 20]),  # 20 and 21 tie: the lower index
        ("perturbed_loss_mean", 0.3, [11, 40, 12]),
        ("perturbed_loss_mean", 0.7, [11, 40, 12, 2, 8, 20, 21]),  # ties by index in this direction too
        ("perturbed_loss_mean_r", 1.0, BY_LOSS),
        ("perturbed_loss_mean_r", 0.25, [3, 5, 30]),  # 2.5 instances: halves up
        ("perturbed_loss_mean_r", 0.24, [3, 5]),
        ("perturbed_loss_mean_r", 0.05, [3]),
        ("constant", 0.2, [2, 3]),
        ("top_left", 0.1, [3]),  # a low mean and a high deviation, as in the older code
        ("top_right", 0.1, [8]),
        ("bottom_left", 0.1, [2]),
        ("bottom_right", 0.1, [5]),
        ("loss_diff_mean+loss_diff_std", 0.3, [8, 11, 12]),  # all in the middle tie
        ("loss_diff_mean_r+loss_diff_std", 0.1, [3]),
        ("loss_diff_mean+constant", 0.2, [5, 8]),  # a constant axis decides nothing
        ("non_robust_perturbed_loss_mean_r", 0.3, [11, 40, 12]),
        ("non_robust_perturbed_loss_mean_r", 0.6, [11, 40, 12, 2, 8, 21]),  # the complement leaves 20 out
        ("non_robust_perturbed_loss_mean_r", 1.0, BY_LOSS[::-1]),
        ("non_robust_bottom_left", 0.1, [8]),
    ],
)
def test_grammar(metrics, select_metric, ratio, expected):
    assert chosen(metrics, select_metric, ratio) == expected


UNEQUAL = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 7])


@pytest.mark.parametrize("ratio", [0.1, 0.25, 0.3, 0.5, 0.6, 0.7])
@pytest.mark.parametrize("labels", [None, UNEQUAL])
@pytest.mark.parametrize("name", ["perturbed_loss_mean_r", "bottom_left", "perturbed_loss_std"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"balance": True},
        {"within_class": True},
        {"from_two_end": True, "ratio_proportion": 0.7},
        {"balance": True, "within_class": True, "from_two_end": True},
    ],
)
def test_non_robust_is_the_complement(metrics, ratio, labels, name, options):
    rest = chosen(metrics, name, 1 - ratio, labels, **options)
    complement = chosen(metrics, f"non_robust_{name}", ratio, labels, **options)
    assert sorted(rest + complement) == INDEX


@pytest.mark.parametrize(
    "ratio, proportion, expected",
    [
        (0.4, 0.5, [3, 5, 11, 40]),
        (0.4, 0.75, [3, 5, 30, 11]),
        (0.4, 0.0, [11, 40, 12, 2]),
        (0.4, 1.0, [3, 5, 30, 20]),
        (0.3, 0.5, [3, 5, 11]),  # 1.5 from the front: halves up
        (1.0, 0.5, [3, 5, 30, 20, 21, 11, 40, 12, 2, 8]),
    ],
)
def test_two_ends(metrics, ratio, proportion, expected):
    options = {"from_two_end": True, "ratio_proportion": proportion}
    assert chosen(metrics, "perturbed_loss_mean_r", ratio, **options) == expected


def test_the_complement_of_two_ends_is_the_middle(metrics):
    assert chosen(metrics, "non_robust_perturbed_loss_mean_r", 0.6, from_two_end=True) == [12, 2, 8, 21, 20, 30]


@pytest.mark.parametrize(
    "ratio, expected",
    [
        (0.4, [3, 5, 30, 21]),  # class 0: 5, 30; class 1: 3, 21
        (0.5, [3, 5, 30, 21]),  # a fifth instance would be one too many for its class
        (0.6, [3, 5, 30, 20, 21, 8]),
        (1.0, BY_LOSS),
    ],
)
def test_balance(metrics, ratio, expected):
    assert chosen(metrics, "perturbed_loss_mean_r", ratio, balance=True) == expected


def test_balance_with_a_small_class_and_other_labels(metrics):
    labels = np.array([0, 0, 0, 0, 0, 0, 0, 0, 7, 7])  # 30 and 40
    assert chosen(metrics, "perturbed_loss_mean_r", 0.8, labels, True) == [3, 5, 30, 40]
    assert chosen(metrics, "perturbed_loss_mean_r", 0.2, labels, True) == [3, 30]
    # The balanced selection takes two of either class: all others are left over.
    assert chosen(metrics, "non_robust_perturbed_loss_mean_r", 0.2, labels, True) == [11, 12, 2, 8, 21, 20]


def test_balanced_two_ends(metrics):
    options = {"balance": True, "from_two_end": True}
    # class 0 by loss: 5, 30, 20, 2, 11; class 1: 3, 21, 8, 12, 40
    assert chosen(metrics, "perturbed_loss_mean_r", 0.4, **options) == [3, 5, 11, 40]


def test_within_class(metrics):
    # class 0 has mean 4, class 1 mean 4.6: 3 has -3.6, 5 -3, 30 -2, 21 -1.6, 20 -1, 8 -0.6
    assert chosen(metrics, "perturbed_loss_mean_r", 0.6, within_class=True) == [3, 5, 30, 21, 20, 8]
    centred = within_class(metrics)
    assert centred["index"].tolist() == INDEX
    assert class_share(centred["perturbed_loss_mean"], centred["golden_label"]) == pytest.approx(0)


def test_what_the_class_and_clean_loss_explain(metrics):
    # the class means lie 0.3 to each side of 4.3; the variance is 7.41 around it
    by = explained("non_robust_perturbed_loss_mean_r", metrics)["perturbed_loss_mean"]
    assert by.class_share == pytest.approx(0.09 / np.var(LOSS_))
    assert by.clean_loss == pytest.approx(1)  # the cube ranks alike
    assert list(explained("top_left", metrics)) == ["loss_diff_mean", "loss_diff_std"]
    assert explained("constant", metrics)["constant"].clean_loss == 0


@pytest.mark.parametrize(
    "name, fraction, expected",
    [
        ("robust", 0.3, [5, 3, 30]),  # 5 has the smaller deviation at an equal loss
        ("robust", 0.4, [5, 3, 30, 21]),
        ("non_robust", 0.3, [11, 40, 12]),
        ("swing", 0.4, [21, 20, 8, 2]),
        ("swing", 0.3, [21, 20, 8]),  # three before, four after
        ("swing", 1.0, [5, 3, 30, 21, 20, 8, 2, 12, 40, 11]),
    ],
)
def test_groups(metrics, name, fraction, expected):
    assert group(metrics, name, fraction).tolist() == expected


def test_the_last_ties_of_a_group_go_by_flips_and_index(metrics):
    metrics["perturbed_loss_mean"][:] = metrics["perturbed_loss_std"][:] = 1
    metrics["flip_times"] = np.array([3, 2, 2, 0, 1, 0, 3, 3, 3, 3])
    assert group(metrics, "robust", 0.5).tolist() == [8, 12, 11, 3, 5]


def test_random_group(metrics):
    half, most = group(metrics, "random", 0.5, seed=1), group(metrics, "random", 0.8, seed=1)
    assert len(half) == 5 and len(set(most)) == 8 and set(most) <= set(INDEX)
    assert most[:5].tolist() == half.tolist()
    assert group(metrics, "random", 0.5, seed=2).tolist() != half.tolist()


def test_a_random_selection_is_the_random_group_and_has_a_complement(metrics):
    for options in ({}, {"balance": True}, {"balance": True, "within_class": True}):
        drawn = chosen(metrics, "random", 0.4, seed=3, **options)
        assert drawn == group(metrics, "random", 0.4, seed=3, **options).tolist()
        rest = chosen(metrics, "non_robust_random", 0.6, seed=3, **options)
        assert sorted(drawn + rest) == INDEX
    assert [LABEL[INDEX.index(index)] for index in drawn].count(0) == 2
    assert chosen(metrics, "random", 0.4, seed=4) != chosen(metrics, "random", 0.4, seed=3)
    assert explained("random", metrics) == {}


def of_sensitivity_and_clean_loss(sensitivity, clean, labels):
    return {
        "index": np.array([10, 11, 12, 13]),
        "golden_label": np.array(labels),
        "perturbed_loss_mean": np.array(sensitivity, float),
        "original_loss_mean": np.array(clean, float),
    }


def test_the_residual_is_what_the_rank_of_clean_loss_leaves_of_that_of_sensitivity():
    # Centred ranks -1.5 -.5 .5 1.5 and -1.5 -.5 1.5 .5: a slope of 4 / 5.
    metrics = of_sensitivity_and_clean_loss([1, 2, 30, 400], [0.1, 0.2, 9, 3], [0] * 4)
    assert residual(metrics) == pytest.approx([-0.3, -0.1, -0.7, 1.1])
    assert chosen(metrics, "residual", 1.0) == [13, 11, 10, 12]
    assert chosen(metrics, "residual_r", 0.5) == [12, 10]
    assert chosen(metrics, "non_robust_residual_r", 0.5) == [13, 11]
    assert list(explained("residual_r", metrics)) == ["residual"]
    alike = of_sensitivity_and_clean_loss([2, 1, 1, 5], [7] * 4, [0] * 4)
    assert residual(alike).tolist() == [0.5, -1, -1, 1.5]  # constant clean loss explains nothing; ties share a rank


def test_the_residual_within_the_class_is_that_of_the_differences_from_the_class_mean():
    metrics = of_sensitivity_and_clean_loss([1, 3, 110, 100], [5, 1, 7, 9], [0, 0, 1, 1])
    # Centred ranks -1.5 -.5 1.5 .5 and -.5 -1.5 .5 1.5, a slope of .6: -1.2 .4 1.2 -.4.
    assert chosen(metrics, "residual", 1.0) == [12, 11, 13, 10]
    # Differences -1 1 5 -5 and 2 -2 -1 1; centred ranks -.5 .5 1.5 -1.5 and 1.5 -1.5 -.5 .5: .4 -.4 1.2 -1.2.
    assert chosen(metrics, "residual", 1.0, within_class=True) == [12, 10, 11, 13]
    assert chosen(metrics, "residual", 0.5, within_class=True, balance=True) == [12, 10]


def test_permuted_metrics_stay_together_and_in_their_class(metrics):
    labels = np.array([0, 1, 0, 1, 0, 1, 0, 1, 0, 7])
    permuted = permuted_within_class(metrics, 5, labels)
    assert permuted["index"].tolist() == INDEX and permuted["golden_label"].tolist() == LABEL
    assert (permuted["original_loss_mean"] == permuted["perturbed_loss_mean"] ** 3).all()
    for label in (0, 1):
        of_class = labels == label
        assert sorted(permuted["perturbed_loss_mean"][of_class]) == sorted(metrics["perturbed_loss_mean"][of_class])
    assert permuted["perturbed_loss_mean"][9] == 8  # alone in its class
    assert permuted["perturbed_loss_mean"].tolist() != metrics["perturbed_loss_mean"].tolist()
    again, other = (permuted_within_class(metrics, seed, labels)["perturbed_loss_mean"] for seed in (5, 6))
    assert again.tolist() == permuted["perturbed_loss_mean"].tolist() != other.tolist()
    backwards = permuted_within_class({name: values[::-1] for name, values in metrics.items()}, 5, labels[::-1])
    assert backwards["perturbed_loss_mean"][::-1].tolist() == again.tolist()


def test_balanced_group(metrics):
    assert group(metrics, "robust", 0.4, balance=True).tolist() == [5, 3, 30, 21]
    assert group(metrics, "swing", 0.2, balance=True).tolist() == [20, 8]


def test_the_order_of_the_rows_does_not_matter(metrics):
    shuffled = np.random.default_rng(0).permutation(10)
    other = {name: values[shuffled] for name, values in metrics.items()}
    assert chosen(other, "perturbed_loss_mean_r", 1.0) == BY_LOSS
    for name in ("robust", "random"):
        assert group(other, name, 0.6).tolist() == group(metrics, name, 0.6).tolist()


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda m: select(m, "perturbed_los_mean_r", 0.3), "perturbed_loss_mean"),
        (lambda m: select(m, "loss_diff_mean+nothing", 0.3), "'nothing'"),
        (lambda m: select(m, "golden_label", 0.3), "golden_label"),
        (lambda m: select(m, "random_r", 0.3), "random"),
        (lambda m: select(m, "residual+random", 0.3), "random"),
        (lambda m: select(m | {"original_loss_mean": np.full(10, np.nan)}, "residual", 0.3), "original_loss_mean"),
        (lambda m: select(m, "non_robust_", 0.3), "metric"),
        (lambda m: select(m, "non_robust_perturbed_loss_mean_r", 0.02), "0.02"),
        (lambda m: select(m, "input_gradient_r", 0.3), "--record_input_gradient 1"),
        *((lambda m, ratio=ratio: select(m, "constant", ratio), f"{ratio}") for ratio in (0.0, 1.01, np.nan, 0.04)),
        (lambda m: select(m, "constant", 0.1, balance=True), "2 classes"),
        (lambda m: select(m, "constant", 0.5, balance=True, classes=range(3)), "class 2"),
        (lambda m: select(m, "constant", 0.5, from_two_end=True, ratio_proportion=1.5), "ratio_proportion"),
        (lambda m: select({name: v[:0] for name, v in m.items()}, "constant", 0.5), "only_original_pred"),
        (lambda m: group(m, "robusst", 0.3), "robust"),
        (lambda m: group(m, "robust", 0.0), "0.0"),
        (lambda m: group(m, "swing", 0.01), "0.01"),
        (lambda m: group(m, "swing", 0.5, balance=True, classes=[0, 1, 4]), "class 4"),
    ],
)
def test_bad_input(metrics, call, words):
    with refuses(words):
        call(metrics)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_not_ranked_by(metrics, value):
    metrics["perturbed_loss_mean"] = metrics["perturbed_loss_mean"].astype(float)
    metrics["perturbed_loss_mean"][3] = value
    for choose in (
        lambda: select(metrics, "flip_times+perturbed_loss_mean_r", 0.5),
        lambda: group(metrics, "robust", 0.5),
    ):
        with refuses("perturbed_loss_mean"):
            choose()


@pytest.fixture
def many():
    """Two classes of 1000 instances and two metrics, correlated, of which the second is 0 for half of the instances."""
    draws = np.random.default_rng(0)
    first = draws.normal(size=2000)
    second = np.maximum(0, first + draws.normal(size=2000))
    label = np.arange(2000) % 2
    return {"index": np.arange(2000) * 3, "golden_label": label, "first": first + 10 * label, "second": second}


def test_normal_scores_are_of_the_class_and_without_the_columns_before(many):
    scores = normal_scores(np.stack([many["first"], many["second"]], axis=1), many["golden_label"])
    for label in (0, 1):
        of_class = scores[many["golden_label"] == label]
        assert np.abs(of_class.mean(axis=0)).max() < 1e-9
        assert (np.argsort(of_class[:, 0]) == np.argsort(many["first"][many["golden_label"] == label])).all()
    assert np.abs(np.cov(scores.T, bias=True) - np.eye(2)).max() < 1e-9


def test_a_tilted_draw_takes_as_many_of_each_class_and_more_of_what_it_leans_to(many):
    labels = many["golden_label"]
    scores = normal_scores(np.stack([many["first"], many["second"]], axis=1), labels)

    def means(tilt, seed):
        rows = select(many, "random", 0.5, balance=True, tilt=tilt, seed=seed) // 3
        assert np.bincount(labels[rows]).tolist() == [500, 500] and len(set(rows.tolist())) == 1000
        return scores[rows].mean(axis=0)

    untilted = np.array([means({"first": 0, "second": 0}, seed) for seed in range(20)])
    assert np.abs(untilted.mean(axis=0)).max() < 0.03 and 0.01 < untilted.std() < 0.05
    one, other = means({"first": 1.0, "second": 0}, 1), means({"first_r": 1.0, "second": 0}, 1)
    assert one[0] > 0.3 and other[0] < -0.3 and abs(one[1]) < 0.1 > abs(other[1])
    tilt = {"first": 0.5, "second": -1.0}
    assert means(tilt, 3).tolist() == means(tilt, 3).tolist() != means(tilt, 4).tolist()


def test_two_instances_come_in_either_order_by_the_odds_of_their_sums():
    pair = {"index": np.array([4, 9]), "golden_label": np.zeros(2, int), "first": np.array([1.0, 2.0])}
    # Their normal scores, scaled to a deviation of 1, are -1 and 1.
    first = [chosen(pair, "random", 0.5, tilt={"first": 0.5}, seed=seed) == [9] for seed in range(2000)]
    assert np.mean(first) == pytest.approx(np.e / (1 + np.e), abs=0.03)


@pytest.mark.parametrize("tilt", [{"nothing": 1}, {"constant": 1}, {"first": 1, "twice": 1}, {"random": 1}])
def test_a_tilt_that_says_nothing_is_refused(many, tilt):
    with refuses("--tilt"):
        select(many | {"constant": np.ones(2000), "twice": 2 * many["first"]}, "random", 0.5, tilt=tilt)


def test_a_list_of_indices_is_a_ranking_of_its_own(metrics):
    ranking = np.array([40, 3, 12, 5, 8])
    assert chosen(metrics, ranking, 1.0) == ranking.tolist()
    assert chosen(metrics, ranking, 0.6) == [40, 3, 12]
    assert chosen(metrics, ranking, 0.8, balance=True) == [40, 5]  # it has one of class 0
    for wrong in ([40, 4], [40, 3, 40]):
        with refuses("--select_metric"):
            select(metrics, np.array(wrong), 1.0)
