"""A disk that is full at any one moment ends a run in one line, and the same command then goes on to the same files."""

import contextlib
import errno
import resource

import disk
import pytest
from fuzzing import call

# They hold times; a figure as PDF holds its date.
WITH_TIMES = (".json", ".jsonl", ".csv", ".pdf")


@pytest.fixture(scope="module")
def commands(tmp_path_factory, few_digits):
    """By name what is called with an output folder, after a collection and a model that was fine-tuned by it."""
    folder = tmp_path_factory.mktemp("finished")
    data = ("--dataset_name", "npz", "--data_dir", few_digits, "--dataset_len", 12)
    collection = ("data_statistics.py", *data, "--epochs", 2, "--bsz", 6, "-t", "blur", "--save_every", 1)
    assert run(*collection, "--output_dir", folder)[0] == 0
    (statistics,) = folder.glob("*.npy")
    fine_tuning = ("new_fine_tune_flooding/new_fine_tune_flooding.py", "--statistics_source", statistics, "--bsz", 6)
    fine_tuning = (*fine_tuning, "--pgd_step", 0, "--epochs")
    assert run(*fine_tuning, 1, "--output_dir", folder)[0] == 0
    judgement = ("evaluate_robustness.py", *data[:4], "--max_instances", 8, "--model_name", folder / "model")
    return {
        "collection": (*collection, "--output_dir", ""),
        "fine-tuning": (*fine_tuning, 2, "--save_steps", 1, "--output_dir", ""),
        "judgement": (*judgement, "--attacks", "none", "--output_dir", ""),
        "selection": ("scripts/select_instances.py", "--statistics", statistics, "--output", "chosen"),
        "map": ("plot_utils/plotting.py", "--statistics", statistics, "--output", "map"),
        "conversion": ("scripts/convert_statistics.py", "--input", statistics, "--output", "older.npy"),
    }


def run(*command):
    """Status and stderr of a script whose last argument is where its output goes."""
    status, _, err = call(*map(str, command))
    assert status in (0, 2) and err.count("error: ") == (status == 2), err
    return status, err


def files_of(folder):
    """By name what a file holds, or how many lines; a lock that could not be removed stays until it is used again."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {
        str(path.relative_to(folder)): path.read_bytes().count(b"\n") * (path.suffix != ".pdf")
        if path.suffix in WITH_TIMES
        else path.read_bytes()
        for path in paths
    }


def check(command, folder, share, error):
    """At every so many-th place a full disk is one line, and the same command then ends with the same files."""
    out = folder / "out"
    command = (*command[:-1], out / command[-1])
    out.mkdir()
    with disk.full(out) as places:
        assert run(*command)[0] == 0
    expected = files_of(out)
    assert len(places) > 5
    for at in range(1, len(places) + 1, max(1, round(len(places) * share))):
        out.rename(folder / f"until_{at}")
        out.mkdir()
        with disk.full(out, at, error) as until:
            run(*command)
        assert run(*command)[0] == 0, until[-1]
        found = files_of(out)
        assert found.keys() == expected.keys(), until[-1]
        assert all(found[name] == expected[name] for name in expected), until[-1]


@pytest.mark.parametrize(
    "what, share, error",
    [
        *(("collection", 0.3, errno.ENOSPC), ("fine-tuning", 0.3, errno.EDQUOT), ("selection", 0.15, errno.EFBIG)),
        # Every moment; but figures take a second each, and come last: of the places of what draws one some.
        *(pytest.param(what, 0, errno.ENOSPC, marks=pytest.mark.slow) for what in ("collection", "conversion")),
        *(pytest.param(what, 0, errno.ENOSPC, marks=pytest.mark.slow) for what in ("fine-tuning", "selection")),
        *(pytest.param(what, 0.1, errno.ENOSPC, marks=pytest.mark.slow) for what in ("judgement", "map")),
    ],
)
def test_a_disk_full_at_some_moment_is_one_line_and_loses_nothing(commands, tmp_path, what, share, error):
    check(commands[what], tmp_path, share, error)


@contextlib.contextmanager
def largest(size):
    """Within this block no file grows beyond so many bytes, whoever writes it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("what, size", [("collection", 0), ("collection", 1000), ("fine-tuning", 40000)])
def test_a_real_limit_on_the_size_of_files_is_one_line(commands, tmp_path, what, size):
    command = (*commands[what][:-1], tmp_path)
    with largest(size):
        status, err = run(*command)
    assert status == 2 and "File too large" in err
    assert run(*command)[0] == 0
