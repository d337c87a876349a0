"""--config takes up the arguments that a run recorded, and the command line wins."""

import json

import processes
import pytest
from conftest import refuses
from processes import ROOT

from robust_data import data_statistics, finetune_with_select_data, records
from robust_data.new_fine_tune_flooding import new_fine_tune_flooding

RUN = ("--dataset_len", 24, "--epochs", 1, "--bsz", 8, "-t", "identity", "--optimizer", "sgd", "--overwrite", 1)


def parse(*given, script=data_statistics):
    return vars(script.build_parser().parse_args(list(map(str, given))))


def write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
    folder = tmp_path_factory.mktemp("first")
    result = processes.run(ROOT / "data_statistics.py", *RUN, "--output_dir", folder)
    assert result.returncode == 0, result.stderr
    (path,) = folder.glob("*.npy")
    return path


def test_a_run_is_repeated_by_naming_its_file(collected, tmp_path):
    result = processes.run(ROOT / "data_statistics.py", "--config", collected, "--output_dir", tmp_path)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / collected.name).read_bytes() == collected.read_bytes()
    first, second = (records.load(path)[1]["arguments"] for path in (collected, tmp_path / collected.name))
    assert first | {"output_dir": str(tmp_path), "overwrite": 0} == second
    # In the same folder it is the same run, which --overwrite was not asked for again.
    result = processes.run(ROOT / "data_statistics.py", "--config", collected.with_suffix(".json"))
    assert result.returncode == 0 and "finished already" in result.stderr


def test_a_fine_tuning_is_repeated_by_naming_its_model(statistics, tmp_path):
    script = ROOT / "new_fine_tune_flooding" / "new_fine_tune_flooding.py"
    given = ("--epochs", 1, "--pgd_step", 0, "--num_examples", -1, "--output_dir", tmp_path / "first")
    result = processes.run(script, "--statistics_source", statistics, *given)
    assert result.returncode == 0, result.stderr
    model = tmp_path / "first" / "model"
    assert parse("--config", model, script=new_fine_tune_flooding)["num_examples"] is None
    # As all is recorded, this is the same run; with another b it is not.
    assert "is finished already" in processes.run(script, "--config", model).stderr
    assert "--b was 0.2, is 0.1" in processes.run(script, "--config", model, "--b", 0.1).stderr


def test_a_list_on_the_line_takes_the_place_of_the_recorded_one_as_a_whole(tmp_path):
    path = write(tmp_path / "own.json", {"perturbations": ["fog", "snow"], "severity": [1, 2]})
    args = parse("--config", path, "-t", "blur", "-t", "rotate")
    assert (args["perturbations"], args["severity"]) == (["blur", "rotate"], [1, 2])


def test_the_command_line_wins_and_an_option_may_go_by_an_earlier_name(tmp_path):
    path = write(tmp_path / "own.json", {"epochs": 3, "lr": 1e-05, "severity": [1, 5], "attack_every_epoch": 2})
    args = parse("--config", path, "--lr", 0.5)
    assert (args["epochs"], args["lr"], args["severity"], args["judge_every_epoch"]) == (3, 0.5, [1, 5], 2)
    assert "config" not in args and args["bsz"] == parse()["bsz"]
    assert parse("--config", path, "-t", "blur", "--severity", 2)["severity"] == [2]


@pytest.mark.parametrize(
    "recorded, line",
    [({"select_metric": "aum", "select_ratio": 0.4}, "--group robust"), ({"group": "robust"}, "--select_metric aum")],
)
def test_what_an_option_of_the_line_stands_for_is_not_taken(recorded, line, tmp_path, capsys):
    path = write(tmp_path / "own.json", {"statistics_source": "x.npy", **recorded})
    args = parse("--config", path, *line.split(), script=finetune_with_select_data)
    assert {name: args[name] for name in recorded} == dict.fromkeys(recorded) and capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "content, named",
    [("{", ""), ("[1]", ""), ({"epoch": 1}, "epochs"), ({"statistics_source": "x.npy"}, "statistics_source")]
    + [({"epochs": wrong}, "epochs") for wrong in (None, {"a": 1}, [1, 2])],
)
def test_what_cannot_be_taken_is_told(content, named, tmp_path):
    path = write(tmp_path / "own.json", content)
    with refuses(f"--config {path}", named):
        parse("--config", path)


@pytest.mark.parametrize(
    "content",
    [{"epochs": -1}, {"lr": float("nan")}, {"optimizer": "adam"}, {"perturbations": ["--seed"]}, {"data_dir": "--"}],
)
def test_a_value_that_an_option_does_not_take_is_told_with_the_file(content, tmp_path, capsys):
    with pytest.raises(SystemExit):
        parse("--config", write(tmp_path / "own.json", content))
    (line,) = capsys.readouterr().err.splitlines()
    assert f"error: --config {tmp_path / 'own.json'}: argument " in line


def test_a_file_that_is_not_there_and_what_it_leaves_out(tmp_path, capsys):
    with refuses("absent"):
        parse("--config", tmp_path / "absent.npy")
    with pytest.raises(SystemExit):
        parse("--config", write(tmp_path / "own.json", {"b": 0.1}), script=new_fine_tune_flooding)
    assert "the following arguments are required: --statistics_source" in capsys.readouterr().err
