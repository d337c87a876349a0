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


def row(kind, name, accuracy, severity=None, eps=None, norm=None):
    entry = {"kind": kind, "name": name, "severity": severity, "eps": eps, "norm": norm}
    return entry | {"accuracy": accuracy, "instances": 40}


def judge(folder, clean, attacked, *blurred, index="a"):
    """What evaluate_robustness.py writes, as far as the table needs it."""
    folder.mkdir(parents=True)
    rows = [row("clean", "clean", clean), row("attack", "pgd", attacked, None, 1 / 255, "linf")]
    rows += [row("perturbation", "blur", accuracy, severity) for severity, accuracy in enumerate(blurred, start=1)]
    rows += [row("published", "blur", 0.5, 1)]
    (folder / "robustness_model.json").write_text(json.dumps({"results": rows, "index_sha256": index}))


def run(script, folder):
    script.main(script.build_parser().parse_args(["--results_dir", str(folder)]))


def test_mean_and_deviation_over_seeds_and_mean_over_severities(script, tmp_path, capsys):
    judge(tmp_path / "flooding_seed1", 0.8, 0.3, 0.6, 0.4)
    judge(tmp_path / "flooding_seed2", 0.9, 0.3, 0.8, 0.4)
    judge(tmp_path / "only_robust_seed1", 0.5, 0.1, 0.2, 0.2)
    run(script, tmp_path)
    printed = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in printed]
    assert cells[0] == ["method", "seeds", "clean", "pgd linf 0.00392", "blur", "published blur"]
    assert cells[1] == ["flooding", "2", "85.0 ± 7.1", "30.0 ± 0.0", "55.0 ± 7.1", "50.0 ± 0.0"]
    assert cells[2] == ["only_robust", "1", "50.0", "10.0", "20.0", "50.0"]
    assert (
        (tmp_path / "comparison.csv")
        .read_text()
        .splitlines()[1]
        .endswith("2,85.0 ± 7.1,30.0 ± 0.0,55.0 ± 7.1,50.0 ± 0.0")
    )


def test_the_size_of_an_attack_without_eps_is_in_the_heading(script, tmp_path, capsys):
    effort = {"steps": 8, "step_size": 0.06, "restarts": 1, "special_tokens": 0}
    for seed, more in ((1, {}), (2, {"steps": 9})):
        (tmp_path / f"plain_seed{seed}").mkdir()
        rows = [row("clean", "clean", 0.9), row("attack", "pgd", 0.3) | effort | more]
        (tmp_path / f"plain_seed{seed}" / "robustness_model.json").write_text(json.dumps({"results": rows}))
        if seed == 1:
            run(script, tmp_path)
            assert capsys.readouterr().out.splitlines()[0].split("  ")[-1] == "pgd 8 x 0.06"
    with pytest.raises(InputError, match="judged under different conditions"):
        run(script, tmp_path)


def test_what_cannot_be_compared(script, tmp_path):
    with pytest.raises(InputError, match="judge a model first"):
        run(script, tmp_path)
    judge(tmp_path / "a_seed1", 0.8, 0.3, 0.6)
    judge(tmp_path / "b_seed1", 0.8, 0.3)
    with pytest.raises(InputError, match="different conditions"):
        run(script, tmp_path)
    judge(tmp_path / "other" / "a_seed1", 0.8, 0.3, 0.6)
    judge(tmp_path / "other" / "b_seed1", 0.8, 0.3, 0.6, index="b")
    with pytest.raises(InputError, match="different conditions"):
        run(script, tmp_path / "other")
    (tmp_path / "other" / "a_seed1" / "robustness_z.json").write_text("{}")
    with pytest.raises(InputError, match="holds several"):
        run(script, tmp_path / "other")
    (tmp_path / "b_seed1" / "robustness_model.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        run(script, tmp_path)
    assert not (tmp_path / "comparison.csv").exists()
