"""The examples run as they stand, offline, and end with the command to call next."""

import importlib.metadata
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import processes
import pytest

from robust_data import records

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def saved(out, folder):
    """The statistics files that an example says it has saved."""
    return [folder / line.removeprefix("saved ") for line in out.splitlines() if line.startswith("saved ")]


def test_the_example_of_a_loop_of_ones_own_ends_with_a_command_that_draws(tmp_path):
    result = processes.run(EXAMPLES / "own_loop.py", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    for path in saved(result.stdout, tmp_path):
        rows = records.load(path)[0]
        assert rows["global_step"][:, 0].tolist() == [0, 1, 2, 3, 4, 5] and rows.shape[1] == 1797
        assert rows["original_pred"][-1].mean() > 0.9
    assert all(line.startswith("step ") for line in result.stderr.splitlines()), result.stderr
    python, *command = shlex.split(result.stdout.splitlines()[-1].removeprefix("next: "))
    drawn = processes.run(*command, cwd=tmp_path)
    assert python == "python" and drawn.returncode == 0, drawn.stderr
    assert [path.with_suffix(".png").exists() for path in saved(result.stdout, tmp_path)] == [False, True]


@pytest.mark.parametrize(
    "package, example, steps",
    [
        ("accelerate", "hugging_face_trainer", [8, 16, 24, 32, 40]),
        ("lightning", "lightning_loop", [29, 58, 87, 116, 145]),
    ],
    ids=["hugging_face_trainer", "lightning_loop"],
)
def test_the_example_of_a_trainer_records_at_the_end_of_each_epoch(package, example, steps, tmp_path):
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{package} is not installed (examples/requirements.txt)")
    command = [sys.executable, EXAMPLES / f"{example}.py"]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert result.returncode == 0, result.stderr
    paths = saved(result.stdout, tmp_path)
    assert len(paths) == 2
    for path in paths:
        rows = records.load(path)[0]
        assert rows["global_step"][:, 0].tolist() == steps and np.isfinite(rows["after_perturb_loss"]).all()
        assert rows["original_pred"][-1].mean() > 0.8
    assert result.stdout.splitlines()[-1].startswith("next: python ")
