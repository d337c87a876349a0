"""States, logs and JSONs that no run wrote, or that are gone: one line each, which names the file and the remedy."""

import functools
import json
import pickle
from pathlib import Path

import processes
import pytest
import torch

import data_statistics
from plot_utils import plotting
from registry import InputError
from robust_data import complete, records
from robust_data.collect import outputs as finished
from robust_data.settings import Collect
from robust_data.train import identity, saved_models
from robust_data.train.resume import RunState
from scripts import compare_models

ROOT = Path(__file__).resolve().parent.parent
FINE_TUNING = ROOT / "new_fine_tune_flooding" / "new_fine_tune_flooding.py"


def told(result):
    """The only line that says what is wrong; a run that gets so far says before what it is about to do."""
    assert result.returncode == 2 and "Traceback" not in result.stderr, result.stderr
    lines = [line for line in result.stderr.splitlines() if " error: " in line]
    assert len(lines) == 1 and lines[0] == result.stderr.splitlines()[-1] and len(lines[0]) < 600, result.stderr
    return lines[0]


@pytest.mark.parametrize(
    "content",
    [None, [1, 2], {"a": torch.zeros(3)}, {"arguments": None}, {"arguments": "null"}, {"arguments": "[" * 10**5}],
    ids=str,
)
def test_a_state_of_another_program_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "run.state")
    with pytest.raises(InputError, match="run.state cannot be read .*; use --overwrite 1 to start anew"):
        RunState(tmp_path / "run.state", {"seed": 1}).load()


@pytest.mark.parametrize("content", [b"null", b"", bytes(range(256)) * 9, pickle.dumps({"arguments": "{}"})])
def test_a_state_that_is_none_is_refused_without_a_librarys_warning(tmp_path, content, recwarn):
    (tmp_path / "run.state").write_bytes(content)
    with pytest.raises(InputError, match="run.state cannot be read"):
        RunState(tmp_path / "run.state", {"seed": 1}).load()
    assert not recwarn.list


@pytest.fixture(scope="module")
def kept(statistics, tmp_path_factory):
    """A fine-tuning that was killed, how to go on with it, and its state."""
    folder = tmp_path_factory.mktemp("kept")
    given = ("--statistics_source", statistics, "--epochs", 1, "--bsz", 40, "--pgd_step", 0, "--output_dir", folder)
    state = folder / "run.state"
    where = "robust_data.train.saved_models.save_model"
    killed = processes.run(ROOT / "tests" / "dying.py", "kill", where, 1, FINE_TUNING, *given)
    assert killed.returncode == -9 and state.exists(), killed.stderr
    return state, functools.partial(processes.run, FINE_TUNING, *given), torch.load(state, weights_only=True)


@pytest.mark.parametrize("part", [{}, {"step": 10**9}, {"model": {}}], ids=str)
def test_a_state_with_foreign_parts_is_refused(kept, part):
    state, go_on, content = kept
    torch.save(content | {"trainer": content["trainer"] | part if part else None}, state)
    assert "run.state cannot be read" in told(go_on())


def test_a_log_that_is_no_text_is_told(kept, statistics, tmp_path):
    (tmp_path / "log.jsonl").write_bytes(bytes(range(256)))
    given = ("--statistics_source", statistics, "--epochs", 1, "--pgd_step", 0, "--output_dir", tmp_path)
    assert "log.jsonl holds no text in UTF-8" in told(processes.run(FINE_TUNING, *given))


@pytest.mark.parametrize(
    "content", ["null", "[" * 10**5, '{"known_by": {}, "arguments": ' + "[" * 900 + "]" * 900 + "}"]
)
def test_a_model_whose_arguments_cannot_be_read_is_told(tmp_path, content):
    (tmp_path / "args.json").write_text(content)
    with pytest.raises(InputError, match="holds a model without the arguments of its run; use --overwrite 1 or"):
        saved_models.saved_arguments(tmp_path)


def test_of_many_arguments_that_differ_some_are_named(tmp_path):
    with pytest.raises(InputError, match="--a0 was None, is 0.5; .*--a15 was .*; and 12 more; use those"):
        identity.check_arguments({}, {f"a{number}": number + 0.5 for number in range(20)}, tmp_path)


def test_a_json_deleted_beside_its_statistics_is_told(statistics, tmp_path):
    job = complete.collection(Collect(perturbations=["blur"], output_dir=str(tmp_path)))
    (path,) = finished.file_paths(job).values()
    path.write_bytes(statistics.read_bytes())
    with pytest.raises(InputError, match="lies without the JSON that tells of its run; restore it, or use --overw"):
        finished.is_finished(job)


def test_arguments_that_are_null_are_none(statistics, tmp_path):
    path = tmp_path / "statistics.npy"
    path.write_bytes(statistics.read_bytes())
    path.with_suffix(".json").write_text(json.dumps({"arguments": None, "label_names": None, "severity": None}))
    assert records.load(path)[1] == {"severity": None}


@pytest.mark.parametrize(
    "script, given",
    [(data_statistics, ["--output_dir", ""]), (data_statistics, ["--output_dir=", "--seeds", "1", "2"])]
    + [(plotting, ["--output_dir", ""]), (compare_models, ["--results_dir", ""])],
)
def test_an_empty_name_is_no_folder(script, given, capsys):
    with pytest.raises(SystemExit, match="2"):
        script.build_parser().parse_args(given)
    assert "'' names no folder; name one, or . for this one" in capsys.readouterr().err
