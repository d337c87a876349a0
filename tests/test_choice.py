"""What the scripts choose, as their arguments say."""

import numpy as np
import pytest
from looking import write_statistics

from robust_data import complete, selection, settings
from robust_data.analysis import choice
from robust_data.fine_tune.methods import FloodingRun, SoftLabelsRun
from robust_data.finetune_with_select_data import build_parser as subset_parser
from robust_data.metrics import permuted_within_class
from robust_data.new_fine_tune_flooding.new_fine_tune_flooding import build_parser as flooding_parser
from robust_data.new_fine_tune_flooding.new_fine_tune_soft_label import build_parser as soft_label_parser
from robust_data.scripts.select_instances import build_parser as select_parser
from robust_data.scripts.select_instances import default_stem

LABELS = np.arange(40) % 4
PARSERS = {
    settings.Choose: select_parser,
    settings.TrainSubset: subset_parser,
    FloodingRun: flooding_parser,
    SoftLabelsRun: soft_label_parser,
}
BALANCED = ("--do_balance_labels", 1, "--within_class", 1)


@pytest.fixture
def statistics(tmp_path):
    return write_statistics(tmp_path / "s.npy", LABELS)[0]


def job(kind, statistics, *given):
    parsed = PARSERS[kind]().parse_args(["--statistics", str(statistics), *map(str, given)])
    return complete.selection(settings.of(kind, parsed))


@pytest.mark.parametrize("kind", PARSERS)
def test_every_script_that_selects_draws_at_random_and_permutes(kind, statistics):
    drawn = choice.choose(job(kind, statistics, "--select_metric", "random", "--seed", 3, *BALANCED))
    options = {"balance": True, "seed": 3}
    assert drawn.index.tolist() == selection.select(drawn.statistics.metrics, "random", 0.3, **options).tolist()
    assert np.bincount(LABELS[drawn.index]).tolist() == [3] * 4 and drawn.explained == {}
    permuted = choice.choose(job(kind, statistics, "--permute_statistics", 1, "--seed", 3, *BALANCED))
    metrics = permuted_within_class(drawn.statistics.metrics, 3)
    expected = selection.select(metrics, "perturbed_loss_mean_r", 0.3, balance=True, within_class=True)
    assert permuted.index.tolist() == expected.tolist()
    plain = choice.choose(job(kind, statistics, "--seed", 3, *BALANCED))
    assert plain.index.tolist() != expected.tolist()


def test_a_permuted_choice_says_so_and_has_a_name_of_its_own(statistics):
    asked = job(settings.Choose, statistics, "--permute_statistics", 1, "--seed", 3)
    chosen = choice.choose(asked)
    assert any(line.startswith("permuted: ") and "negative control" in line for line in chosen.describe(asked))
    assert default_stem(asked, chosen).name == "perturbed_loss_mean_r_0.3_permuted_seed3"


def test_two_random_subsets_in_turn_are_different_ones(statistics):
    in_turn = ("--cycle_train", 1, "--select_metric", "random", "--select_metric2", "random", "--select_ratio", 0.5)
    chosen = choice.choose(job(settings.TrainSubset, statistics, *in_turn))
    assert len(chosen.index) == len(chosen.second) == 20 and set(chosen.index) != set(chosen.second)


def test_a_tilted_draw_is_a_list_that_training_takes(statistics, tmp_path):
    """Written by one script, taken whole by another, in the place of a metric, as one of two subsets, too."""
    asked = job(settings.Choose, statistics, "--tilt", "sensitivity=2", "flip_rate_r=0.5", "--select_ratio", 0.5)
    drawn = choice.choose(asked)
    assert np.bincount(LABELS[drawn.index]).tolist() == [5] * 4
    assert default_stem(asked, drawn).name == "random_0.5_sensitivity2_flip_rate_r0.5_seed42_do_balance_labels"
    assert "random tilted by 2 times sensitivity, 0.5 times flip_rate_r" in drawn.describe(asked)[0]
    np.save(tmp_path / "half.npy", drawn.index)
    listed = ("--select_metric", tmp_path / "half.npy")
    for kind in PARSERS:
        assert choice.choose(job(kind, statistics, *listed)).index.tolist() == drawn.index.tolist()
    taken = choice.choose(job(settings.Choose, statistics, *listed, "--select_ratio", 0.2))
    assert taken.index.tolist() == drawn.index[:4].tolist()
    in_turn = ("--cycle_train", 1, "--select_ratio", 0.1, "--select_metric2", tmp_path / "half.npy")
    both = choice.choose(job(settings.TrainSubset, statistics, *in_turn, "--select_ratio2", 1))
    assert both.second.tolist() == drawn.index.tolist()
