"""The table that puts judged models beside one another."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from registry import InputError

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "compare_models.py"


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location("compare_models", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def judge(folder, clean, attacked, *blurred):
    """What evaluate_robustness.py writes, as far as the table needs it."""
    folder.mkdir(parents=True)
    rows = [{"name": "clean", "eps": None, "norm": None, "accuracy": clean}]
    rows += [{"name": "pgd", "eps": 1 / 255, "norm": "linf", "accuracy": attacked}]
    rows += [{"name": "blur", "eps": None, "norm": None, "accuracy": accuracy} for accuracy in blurred]
    (folder / "robustness_model.json").write_text(json.dumps({"results": rows}))


def run(script, folder):
    script.main(script.build_parser().parse_args(["--results_dir", str(folder)]))


def test_mean_and_deviation_over_seeds_and_mean_over_severities(script, tmp_path, capsys):
    judge(tmp_path / "flooding_seed1", 0.8, 0.3, 0.6, 0.4)
    judge(tmp_path / "flooding_seed2", 0.9, 0.3, 0.8, 0.4)
    judge(tmp_path / "only_robust_seed1", 0.5, 0.1, 0.2, 0.2)
    run(script, tmp_path)
    printed = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in printed]
    assert cells[0] == ["method", "seeds", "clean", "pgd linf 0.00392", "blur"]
    assert cells[1] == ["flooding", "2", "85.0 ± 7.1", "30.0 ± 0.0", "55.0 ± 7.1"]
    assert cells[2] == ["only_robust", "1", "50.0", "10.0", "20.0"]
    assert (tmp_path / "comparison.csv").read_text().splitlines()[1] == "flooding,2,85.0 ± 7.1,30.0 ± 0.0,55.0 ± 7.1"


def test_what_cannot_be_compared(script, tmp_path):
    with pytest.raises(InputError, match="judge a model first"):
        run(script, tmp_path)
    judge(tmp_path / "a_seed1", 0.8, 0.3, 0.6)
    judge(tmp_path / "b_seed1", 0.8, 0.3)
    with pytest.raises(InputError, match="different conditions"):
        run(script, tmp_path)
    (tmp_path / "b_seed1" / "robustness_model.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        run(script, tmp_path)
    assert not (tmp_path / "comparison.csv").exists()
