"""An opened statistics file: its metrics, what it says of itself, and the data set that it belongs to."""

import numpy as np
import pytest
from conftest import refuses
from looking import random_records, write_statistics

from robust_data import datasets, records
from robust_data.analysis.statistics_file import open_statistics
from robust_data.command_line.arguments import add_source
from robust_data.command_line.parser import Parser
from robust_data.metrics import instance_metrics, within_class
from robust_data.perturbations import PgdOptions
from robust_data.registry import warn_once
from robust_data.settings import Data, of


def data_arguments(*given):
    """The data arguments of a script that takes what is left out from the JSON."""
    parser = Parser()
    add_source(parser)
    return of(Data, parser.parse_args([*map(str, given)]))


@pytest.fixture
def digits():
    return datasets.load("digits", dataset_len=60, seed=7)


@pytest.fixture
def opened(digits, tmp_path):
    """Statistics of 60 digits drawn by seed 7, in which instance 0 was never classified correctly."""
    rows = random_records(digits.labels.numpy())
    rows["index"] = digits.index.numpy()
    rows["original_pred"][:, 0] = False
    used = {"dataset_len": 60, "seed": 7, "num_workers": 3, "resample_perturbation": 1, "adv_lr": 0.5}
    about = {
        "dataset_name": "digits",
        "label_names": list("abcdefghij"),
        "arguments": {"dataset_name": "digits", **used},
    }
    about |= {"perturbation": "blur", "severity": 2, "checkpoints": [{"severity": 1}, {"severity": 4}]}
    records.save(tmp_path / "s.npy", rows, about)
    return open_statistics(tmp_path / "s.npy")


def test_metrics_are_those_of_the_counted_checkpoints_and_relative_ones_differ_in_all_but_the_flip_rate(opened):
    expected = instance_metrics(opened.rows)
    relative = open_statistics(opened.path, relative=True)
    for name, values in expected.items():
        assert np.array_equal(opened.metrics[name], values) and np.array_equal(relative.absolute[name], values)
        wanted = values if name == "flip_rate" else within_class(expected)[name]
        assert np.array_equal(relative.metrics[name], wanted)


def test_instances_that_drop_out_leave_the_columns_of_the_others(opened):
    kept = open_statistics(opened.path, only_original_pred=True)
    dropped = sorted(set(range(60)) - set(kept.columns.tolist()))
    assert 0 in dropped and len(kept) == 60 - len(dropped)
    assert np.array_equal(kept.rows["index"][0][kept.columns], kept.metrics["index"])
    assert kept.dropped == f"; {len(dropped)} of 60 instances never classified correctly left out"


def test_the_last_checkpoint_tells_how_it_was_perturbed(opened):
    expected = {"name": "blur", "severity": 4, "seed": 7, "draw": 3, "pgd_options": PgdOptions()}
    assert opened.perturbation() == expected
    assert [opened.label_name(label) for label in (0, 9, 10)] == ["a", "j", "10"]


def test_data_are_loaded_as_they_were_collected_but_for_what_is_given(opened, digits):
    assert opened.load_dataset(data_arguments()).index.tolist() == digits.index.tolist()
    loading = opened.data_settings(data_arguments("--num_workers", 1, "--data_dir", "x"))
    assert loading == Data("digits", data_dir="x", num_workers=1, dataset_len=60) and opened.data_seed == 7


def test_without_a_json_the_data_must_be_named(tmp_path):
    opened = open_statistics(write_statistics(tmp_path / "alone.npy", np.arange(20) % 2)[0])
    with refuses("--dataset_name"):
        opened.data_settings(data_arguments())
    assert opened.data_settings(data_arguments("--dataset_name", "digits")) == Data("digits")


def test_data_that_nobody_named_may_be_missing_but_named_ones_must_be_there(opened, capsys):
    warn_once.cache_clear()
    opened.metadata["arguments"] |= {"dataset_name": "npz", "data_dir": "/nowhere.npz"}
    assert opened.find_dataset(data_arguments(), "the page shows none") is None
    warning = capsys.readouterr().err
    assert warning.startswith("warning: ") and "/nowhere.npz" in warning and "; the page shows none\n" in warning
    with refuses("nowhere"):
        opened.find_dataset(data_arguments("--image_size", 8), "")


def test_a_training_set_must_be_the_very_one_and_a_data_set_hold_it(opened, digits):
    whole = datasets.load("digits")
    opened.check_training_set(digits)
    opened.check_dataset(whole)
    with refuses("60"):
        opened.check_training_set(whole)
    with refuses("index"):
        opened.check_dataset(digits.subset(range(30)))


@pytest.mark.parametrize(
    "field, loss, told",
    [
        ("original_loss", 10.9, None),
        ("original_loss", 11.1, "1 of 3 checkpoints the mean clean loss"),
        ("original_loss", np.nan, "clean loss"),
        ("after_perturb_loss", 999, None),
        ("after_perturb_loss", 1.5e11, "perturbed loss"),
    ],
)
def test_losses_that_no_trained_model_has_are_told(field, loss, told, tmp_path, capsys):
    rows = random_records(np.arange(30) % 3)
    rows[field][0] = 1e20  # the untrained model's do not count
    rows[field][2] = loss
    records.save(tmp_path / "s.npy", rows, {"label_names": list("abc")})
    warn_once.cache_clear()
    open_statistics(tmp_path / "s.npy")
    err = capsys.readouterr().err
    assert err == "" if told is None else err.count("\n") == 1 and told in err
