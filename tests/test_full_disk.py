"""A disk that is full at any one moment ends a run in one line, and the same command then goes on to the same files."""

import contextlib
import errno
import io
import os
import re
import resource
import sys
from types import SimpleNamespace

import pytest
from full_disk import FullDisk

import data_statistics
import evaluate_robustness
from new_fine_tune_flooding import new_fine_tune_flooding
from plot_utils import plotting
from registry import warn_once
from robust_data.command_line.parser import run_script
from scripts import convert_statistics, select_instances

# They hold times; a figure as PDF holds its date.
WITH_TIMES = (".json", ".jsonl", ".csv", ".pdf")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, few_digits):
    """A collection, and a model that was fine-tuned by it."""
    folder = tmp_path_factory.mktemp("finished")
    data = ("--dataset_name", "npz", "--data_dir", few_digits, "--dataset_len", 12)
    collection = (data_statistics, *data, "--epochs", 2, "--bsz", 6, "-t", "blur", "--save_every", 1)
    assert run(*collection, "--output_dir", folder).status == 0
    (statistics,) = folder.glob("*.npy")
    short = ("--statistics_source", statistics, "--bsz", 6, "--pgd_step", 0)
    assert run(new_fine_tune_flooding, *short, "--epochs", 1, "--output_dir", folder).status == 0
    judgement = (evaluate_robustness, *data[:4], "--max_instances", 8, "--model_name", folder / "model")
    commands = {
        "collection": (*collection, "--output_dir", "{}"),
        "fine-tuning": (new_fine_tune_flooding, *short, "--epochs", 2, "--save_steps", 1, "--output_dir", "{}"),
        "judgement": (*judgement, "--attacks", "none", "--output_dir", "{}"),
        "selection": (select_instances, "--statistics", statistics, "--output", "{}/chosen"),
        "map": (plotting, "--statistics", statistics, "--output", "{}/map"),
        "conversion": (convert_statistics, "--input", statistics, "--output", "{}/older.npy"),
    }
    return commands


def run(module, *arguments):
    """Run a script in this process: its status, and what it wrote to stderr."""
    warn_once.cache_clear()
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "argv", [module.__name__, *map(str, arguments)])
        try:
            run_script(module.build_parser(), module.main)
            status = 0
        except SystemExit as end:
            status = end.code
    return SimpleNamespace(status=status, err=err.getvalue())


def files_of(folder):
    """By name what a file holds, or how many lines; a lock that could not be removed stays until it is used again."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {
        str(path.relative_to(folder)): path.read_bytes().count(b"\n") * (path.suffix != ".pdf")
        if path.suffix in WITH_TIMES
        else path.read_bytes()
        for path in paths
    }


def check(command, folder, share, error=errno.ENOSPC):
    """At every so many-th place a full disk is one line, and the same command then ends with the same files."""
    disk = FullDisk(folder / "out")
    command = [str(one).replace("{}", str(disk.folder)) if index else one for index, one in enumerate(command)]
    (folder / "out").mkdir()
    with disk.mounted():
        assert run(*command).status == 0
    expected, count = files_of(folder / "out"), len(disk.places)
    assert count > 5
    for at in range(1, count + 1, max(1, round(count * share))):
        (folder / "out").rename(folder / f"until_{at}")
        (folder / "out").mkdir()
        disk = FullDisk(folder / "out", at, error)
        with disk.mounted():
            full = run(*command)
        where = f"place {at}, {disk.places[at - 1]}: {full.err}"
        assert full.status in (0, 2), where
        assert len(re.findall("error: ", full.err)) == (full.status == 2), where
        assert run(*command).status == 0, where
        found = files_of(folder / "out")
        assert found.keys() == expected.keys(), where
        assert all(found[name] == expected[name] for name in expected), where


@pytest.mark.parametrize("what, share", [("collection", 0.3), ("fine-tuning", 0.3), ("selection", 0.15)])
def test_a_disk_full_at_some_moment_is_one_line_and_loses_nothing(finished, tmp_path, what, share):
    check(finished[what], tmp_path, share)


@pytest.mark.parametrize("error", [errno.EDQUOT, errno.EFBIG], ids=os.strerror)
def test_a_quota_and_a_limit_on_the_size_of_files_count_as_a_full_disk(finished, tmp_path, error):
    check(finished["selection"], tmp_path, 0.3, error)


@pytest.mark.parametrize("limit", [0, 1000, 40000])
def test_a_real_limit_on_the_size_of_files_is_one_line(finished, tmp_path, limit):
    command = [
        str(one).replace("{}", str(tmp_path)) if index else one for index, one in enumerate(finished["collection"])
    ]
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        full = run(*command)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert full.status == 2 and len(re.findall("error: .* cannot be written: File too large", full.err)) == 1, full.err
    assert run(*command).status == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "what, share",
    # Figures take a second each, and come last: of the places of what draws one some.
    [("collection", 0), ("fine-tuning", 0), ("selection", 0), ("conversion", 0), ("judgement", 0.05), ("map", 0.1)],
)
def test_a_disk_full_at_any_moment_is_one_line_and_loses_nothing(finished, tmp_path, what, share):
    check(finished[what], tmp_path, share)
