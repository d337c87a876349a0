"""The examples run as they stand, offline, and end with the command to call next."""

import importlib.metadata
import json
import os
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


def test_the_loop_of_ones_own_goes_the_whole_circle(tmp_path):
    result = processes.run(EXAMPLES / "own_loop.py", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    (path,) = saved(result.stdout, tmp_path)
    rows, clean = records.load(path)[0], records.load(next(tmp_path.rglob("*_clean.npy")))[0]
    assert rows["global_step"][:, 0].tolist() == clean["global_step"][:, 0].tolist() == [1, 2, 3, 4, 5]
    assert rows["original_pred"][-1].mean() > 0.9 and path.with_suffix(".png").stat().st_size > 0
    robust, others = (float(word) for word in result.stdout.split() if word[0].isdigit())
    assert robust < others
    assert all(line.startswith("step ") for line in result.stderr.splitlines()), result.stderr


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
    (path,) = saved(result.stdout, tmp_path)
    rows = records.load(path)[0]
    assert rows["global_step"][:, 0].tolist() == steps and np.isfinite(rows["after_perturb_loss"]).all()
    assert rows["original_pred"][-1].mean() > 0.8 and path.with_suffix(".png").stat().st_size > 0


def test_each_example_fits_on_a_page():
    for path in EXAMPLES.glob("*.py"):
        assert len(path.read_text().splitlines()) <= 60, path


@pytest.mark.slow
def test_the_notebook_runs_from_its_first_cell_to_its_last(tmp_path):
    cells = json.loads((EXAMPLES / "robust_data_map.ipynb").read_text())["cells"]
    program = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    environment = os.environ | {"MPLBACKEND": "agg", "PYTHONPATH": str(EXAMPLES.parent)}
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert result.returncode == 0, result.stderr
    assert [line.split(":")[0] for line in result.stdout.splitlines()] == ["plain", "flooded"]
    assert list(tmp_path.rglob("*.html"))
