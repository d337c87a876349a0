"""scripts/compare_statistics.py: what it says of files whose agreement is known, and what it refuses."""

import json

import numpy as np
import processes
import pytest
from conftest import table
from looking import ROOT, assert_refused, random_records

from robust_data import records
from robust_data.analysis import several
from robust_data.analysis.statistics_file import open_statistics

LABELS = np.arange(60) % 3


def compare(*arguments):
    return processes.run(ROOT / "scripts" / "compare_statistics.py", *arguments)


def save(path, rows, **metadata):
    """Write a statistics file of `toy` under blur; `seed` and other arguments go where a run writes them."""
    arguments = {name: metadata.pop(name) for name in ("seed", "lr") if name in metadata}
    described = {"dataset_name": "toy", "split": "train", "perturbation": "blur", "arguments": arguments, **metadata}
    records.save(path, rows, described)
    return path


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """Two seeds of one run, the second twice as sensitive, and a run of another perturbation that ranks in reverse."""
    folder = tmp_path_factory.mktemp("compared")
    first, second, reverse = (random_records(LABELS) for _ in range(3))
    second["after_perturb_loss"] *= 2
    reverse["after_perturb_loss"] = 20 - first["after_perturb_loss"].mean(axis=0)
    reverse["after_perturb_pred"] = first["after_perturb_pred"]
    paths = [
        save(folder / "one.npy", first, seed=1),
        save(folder / "two.npy", second, seed=2),
        save(folder / "three.npy", reverse, seed=1, perturbation="rotate"),
    ]
    process = compare(*paths, "--output", folder / "result", "--set_percentage", "0.25", "--use_untrained_model", "1")
    assert process.returncode == 0 and process.stderr == "", process.stderr
    return folder, process.stdout


def test_pairs_have_their_correlation_and_overlap(compared):
    folder, _ = compared
    same, reverse, _ = table(folder / "result_pairs.csv")
    assert same["files"].endswith("two.npy") and reverse["files"].endswith("three.npy")
    names = ("correlation", "within_class", "robust_overlap", "swing_overlap", "non_robust_overlap", "by_chance")
    assert [float(same[name]) for name in names] == pytest.approx([1, 1, 1, 1, 1, 0.25])
    assert [float(reverse[name]) for name in names[:2]] == pytest.approx([-1, -1])
    assert float(reverse["robust_overlap"]) == float(reverse["non_robust_overlap"]) == 0


def test_files_that_differ_in_the_seed_alone_are_decomposed_together(compared):
    folder, printed = compared
    seeds, alone = table(folder / "result_parts.csv")
    assert seeds["files"].count(".npy") == 2 and alone["files"].endswith("three.npy")
    parts = [float(seeds[name]) for name in ("class", "clean_loss", "rest_reliable", "rest_noise")]
    assert sum(parts) == pytest.approx(1)
    assert float(seeds["reliability"]) == pytest.approx(1)
    assert alone["rest_reliable"] == alone["reliability"] == "" and "1 2" in printed
    assert (folder / "result.png").exists() and (folder / "result.pdf").exists()


def test_what_the_records_do_not_depend_on_parts_no_replicates(tmp_path):
    """Nor does an option that the one JSON lacks, as it is older, and that is off in the other."""
    paths = [save(tmp_path / f"{seed}.npy", random_records(LABELS, seed=seed), seed=seed) for seed in (1, 2, 3)]
    for path, more in zip(
        paths[1:], ({"tensorboard": 1, "pgd_step": 0}, {"judge_every_epoch": 2, "freeze_encoder": 0})
    ):
        about = json.loads(path.with_suffix(".json").read_text())
        about["arguments"] |= more
        path.with_suffix(".json").write_text(json.dumps(about))
    assert several.replicates(list(map(open_statistics, paths))) == [[0, 1, 2]]


def test_a_subset_is_compared_on_the_instances_of_both(tmp_path):
    rows = random_records(LABELS)
    whole, part = save(tmp_path / "whole.npy", rows, seed=1), save(tmp_path / "part.npy", rows[:, ::2], seed=2)
    process = compare(whole, part)
    assert process.returncode == 0 and "30 instances are in all 2 files" in process.stderr
    (pair,) = table(next(tmp_path.glob("compared_*_pairs.csv")))
    assert float(pair["correlation"]) == pytest.approx(1)


@pytest.mark.parametrize(
    "change, told",
    [
        ({"dataset_name": "other"}, "data set 'toy' and 'other'"),
        ({"split": "test"}, "split 'train' and 'test'"),
        ({"labels": 1}, "20 of 60 labels differ"),
    ],
)
def test_files_of_different_data_are_refused(tmp_path, change, told):
    rows, other = random_records(LABELS), random_records(LABELS)
    if change.pop("labels", 0):
        other["golden_label"][:] = np.where(np.arange(len(LABELS)) < 20, (LABELS + 1) % 3, LABELS)
    paths = save(tmp_path / "one.npy", rows), save(tmp_path / "two.npy", other, **change)
    assert_refused(compare(*paths), "different data", told)
