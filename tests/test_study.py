"""The study's list of runs, and what is kept of a run."""

import csv
import importlib
import json
import re

import numpy as np
import pytest

from scripts.study import kept, run
from scripts.study.rows import REPLICATES, rows, seeds

ROWS = rows()
# In the place of what the runner fills in.
FIELD = re.compile(r"\{[^}]+\}")


def parser_of(script):
    name = script.removesuffix(".py").replace("/", ".")
    return importlib.import_module(name).build_parser()


@pytest.mark.parametrize("script", sorted({command[0] for row in ROWS for command in row.commands}))
def test_a_script_takes_every_command_of_the_study(script):
    parser = parser_of(script)
    commands = {
        FIELD.sub("0.1", " ".join(command[1:])) for row in ROWS for command in row.commands if command[0] == script
    }
    for command in commands:
        parser.parse_args(command.split())


def test_a_run_comes_after_the_runs_that_it_needs():
    seen = set()
    for row in ROWS:
        assert set(row.needs) <= seen, row.name
        assert row.name not in seen
        seen.add(row.name)


def test_the_arms_of_a_replicate_share_their_training_seed_and_no_run_trains_with_its_statistics_seed():
    arms = [row for row in ROWS if row.block == "arms"]
    for replicate in REPLICATES["images"]:
        assert {seeds(row) for row in arms if row.replicate == replicate} == {(100 + replicate, 200 + replicate)}
    for row in ROWS:
        trained, statistics = seeds(row)[::-1]
        assert trained != statistics
        (seed,) = {command[command.index("--seed") + 1] for command in row.commands[:1]}
        if row.block != "checks":
            assert int(seed) == (statistics if trained is None else trained), row.name


def test_only_takes_runs_that_have_all_of_the_tags_of_a_list():
    chosen = run.chosen(["images,H1,replicate2", "texts,flood_easy"])
    names = {row.name for row in chosen}
    assert {"images-statistics-2", "images-arms-plain-2", "images-arms-flood_random-2"} <= names
    assert all(row.replicate == 2 if row.data == "images" else row.arm == "flood_easy" for row in chosen)
    with pytest.raises(run.InputError, match="no run has these tags"):
        run.chosen(["images,H9"])


def test_what_was_right_is_kept_as_bits_beside_the_accuracies(tmp_path):
    right = np.array([[1, 1, 0, 1, 0], [1, 0, 0, 0, 0]], bool)
    margin = np.where(right, 1.0, -1.0).astype(np.float32)
    margin[1, 4] = np.nan
    results = [
        {"kind": "clean", "name": "clean", "accuracy": 0.6, "calibration_error": 0.1},
        {"kind": "attack", "name": "pgd", "eps": 0.5 / 255, "norm": "linf", "accuracy": 0.2, "restarts": 1},
    ]
    folder = tmp_path / "judged0"
    folder.mkdir()
    (folder / "robustness_x.json").write_text(json.dumps({"results": results}))
    np.savez(folder / "robustness_x.npz", index=np.arange(5), label=np.arange(5), right=right, margin=margin)
    output = tmp_path / "instances" / "x.npz"
    accuracies = kept.judged([folder], None, output)
    assert accuracies == {"clean": 0.6, "calibration_error": 0.1, "pgd linf 0.5": 0.2}
    with np.load(output, allow_pickle=False) as found:
        assert list(found["conditions"]) == ["clean", "pgd linf 0.5"]
        assert np.array_equal(np.unpackbits(found["right"], axis=1, count=5), right)
        assert np.array_equal(np.unpackbits(found["missing"], axis=1, count=5), np.isnan(margin))


def test_a_line_is_added_with_the_columns_that_it_has_more(tmp_path):
    path = tmp_path / "rows.csv"
    kept.add_row(path, {"row": "a", "clean": 0.71234567})
    kept.add_row(path, {"row": "b", "clean": None, "fog 3": 0.5})
    with open(path, newline="") as file:
        found = list(csv.DictReader(file))
    assert [(line["row"], line["clean"], line["fog 3"]) for line in found] == [("a", "0.712346", ""), ("b", "", "0.5")]


@pytest.mark.parametrize(
    "row, name",
    [
        ({"kind": "perturbation", "name": "fog", "severity": 3}, "fog 3"),
        ({"kind": "attack", "name": "pgd", "eps": None, "steps": 8, "step_size": 0.03}, "pgd 8 x 0.03"),
        (
            {
                "kind": "attack",
                "name": "pgd",
                "eps": 1 / 255,
                "norm": "linf",
                "attack_loss": "ce+margin",
                "restarts": 5,
            },
            "pgd linf 1 climbing ce+margin from 5 starts",
        ),
        (
            {"kind": "attack", "name": "pgd", "eps": None, "steps": 4, "step_size": 0.06, "temperature": 0.1},
            "pgd 4 x 0.06 at temperature 0.1",
        ),
        ({"kind": "attack", "name": "deepwordbug", "eps": None, "source_model": "m"}, "deepwordbug made on plain"),
    ],
)
def test_a_condition_has_a_name_of_its_own(row, name):
    assert kept.condition_name(row) == name


def test_run_lists_what_is_planned(capsys, tmp_path):
    kept.add_row(tmp_path / "rows.csv", {"row": "images-arms-plain-1"})
    arguments = ["--list", "--only", "images,arms,replicate1,H1", "--results_dir", str(tmp_path)]
    run.main(run.build_parser().parse_args(arguments))
    assert capsys.readouterr().out.splitlines()[:2] == [
        "finished  images-arms-plain-1",
        "to do     images-arms-flood_robust-1",
    ]
