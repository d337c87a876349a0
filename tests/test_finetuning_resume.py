"""A fine-tuning run that is stopped and started again ends with the model, log and row of an undisturbed run."""

import functools
import os
import signal

import numpy as np
import processes
import pytest
from conftest import log_of, table
from processes import ROOT

FLOODING = ROOT / "new_fine_tune_flooding" / "new_fine_tune_flooding.py"
SUBSET = ROOT / "finetune_with_select_data.py"
# 3 steps an epoch, the last of them smaller.
RUN = ("--epochs", 3, "--bsz", 16, "--save_every", 2, "--save_steps", 4, "--pgd_step", 1, "--attack_every_epoch", 1)
# Two subsets in turn, of 8 and of 20 instances, each step two ascent steps.
IN_TURN = ("--cycle_train", 1, "--select_ratio", 0.2, "--select_metric2", "aum", "--select_ratio2", 0.5)
IN_TURN += ("--do_pgd_training", 1, "--adv_steps", 2)
# The chosen of every batch are perturbed and attacked.
MIXED = ("--do_pgd_training", 1, "--adv_steps", 2, "--augment_chosen", "gaussian_noise")
TRAIN_STEP = "robust_data.train.training.Trainer._train_step"
TWO = functools.partial(processes.run_together, 2)
# What no two runs have in common.
CLOCKS = {"finished", "wall_seconds", "seconds", "instances_per_second", "peak_memory_mib", "model_folder"}


def errors(process):
    """What a script says on stderr but for warnings, which is one line."""
    lines = [line for line in process.stderr.splitlines() if not line.startswith("warning: ")]
    assert len(lines) == 1, process.stderr
    return lines


@pytest.fixture
def run(statistics):
    def run(folder, *more, script=FLOODING, mishap=(), start=processes.run, **environment):
        dying = [ROOT / "tests" / "dying.py", *mishap] if mishap else []
        command = [*dying, script, "--statistics_source", statistics, *RUN, *more, "--output_dir", folder]
        return start(*command, env=os.environ | environment)

    return run


def outcome(folder):
    """All that the run left, but for the time it took."""
    names = {path.name for path in folder.iterdir() if not path.name.startswith("model_step")}
    assert names == {"log.jsonl", "results.csv", "model"}  # nothing hidden, no state, no lock
    rows, lines = table(folder / "results.csv"), log_of(folder)
    assert len(rows) == 1 and len(lines) == 3
    weights = {path.parent.name: path.read_bytes() for path in folder.glob("*/model.safetensors")}
    return [{key: entry[key] for key in entry.keys() - CLOCKS} for entry in (*rows, *lines)], weights


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The outcome of a run left in peace, which is run when first asked for."""
    known = {}

    def look(run, *more, script=FLOODING, start=processes.run):
        if (more, script, start) not in known:
            folder = tmp_path_factory.mktemp("undisturbed")
            assert run(folder, *more, script=script, start=start).returncode == 0
            known[more, script, start] = outcome(folder)
        return known[more, script, start]

    return look


@pytest.mark.parametrize(
    "where, number",
    [
        (TRAIN_STEP, 6),  # in training
        ("robust_data.fine_tune.job.robustness", 2),  # after an epoch's last step, while the model is judged
        ("robust_data.judge.epoch_log.epoch_line", 2),  # the epoch is in the log, but not in the state
        ("robust_data.train.saved_models.save_model", 2),  # a model on the way is due
        ("robust_data.train.saved_models.sync", 3),  # a model on the way is half written
        ("os.rename", 3),  # a model is about to take its name, the last one
        ("robust_data.fine_tune.results_file.append", 1),  # the model is there, the row is not
        ("robust_data.train.resume.RunState.remove", 1),  # all is done but the state is still there
    ],
)
def test_killed_and_started_again_it_ends_as_undisturbed(tmp_path, run, undisturbed, where, number):
    assert run(tmp_path, mishap=("kill", where, number)).returncode == -signal.SIGKILL
    result = run(tmp_path)
    assert result.returncode == 0 and "going on at step" in result.stderr
    assert outcome(tmp_path) == undisturbed(run)


@pytest.mark.parametrize("script, more, step", [(SUBSET, IN_TURN, "3 of 4"), (FLOODING, MIXED, "3 of 9")])
def test_subsets_in_turn_and_adversarial_training_go_on_too(tmp_path, run, undisturbed, script, more, step):
    mishap = ("kill", TRAIN_STEP, 4)
    assert run(tmp_path, *more, script=script, mishap=mishap).returncode == -signal.SIGKILL
    assert f"going on at step {step}" in run(tmp_path, *more, script=script).stderr
    assert outcome(tmp_path) == undisturbed(run, *more, script=script)


@pytest.mark.parametrize("what, number", [("term", signal.SIGTERM), ("int", signal.SIGINT)])
@pytest.mark.parametrize("where", [TRAIN_STEP, "robust_data.fine_tune.job.robustness"])
def test_a_signal_saves_and_says_how_to_continue(tmp_path, run, undisturbed, what, number, where):
    result = run(tmp_path, mishap=(what, where, 2))
    assert result.returncode == 128 + number
    last = result.stderr.splitlines()[-1]
    assert last == f"new_fine_tune_flooding.py: interrupted by {number.name}; the same command continues"
    assert not (tmp_path / "results.csv").exists()
    # Asked in the second step it stops after it; asked while the second epoch is judged, at once.
    step = 2 if where.endswith("_train_step") else 6
    again = run(tmp_path)
    assert f"going on at step {step} of 9" in again.stderr
    assert outcome(tmp_path) == undisturbed(run)


def test_one_of_two_processes_killed(tmp_path, run, undisturbed):
    mishap = ("kill", TRAIN_STEP, 6)
    assert run(tmp_path, mishap=mishap, start=TWO, RANK_TO_DIE="1").returncode != 0
    assert run(tmp_path, start=TWO).returncode == 0
    assert outcome(tmp_path) == undisturbed(run, start=TWO)


def test_a_finished_run_says_so_and_does_nothing_unless_overwritten(tmp_path, run):
    assert run(tmp_path).returncode == 0
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    result = run(tmp_path, "--results_file", tmp_path / "results.csv")
    assert result.returncode == 0 and "is finished already; --overwrite 1 trains again" in result.stderr
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before

    refused = run(tmp_path, "--b", 0.5)
    assert refused.returncode == 2 and "--b was 0.2, is 0.5" in "".join(errors(refused))

    weights = (tmp_path / "model" / "model.safetensors").read_bytes()
    assert run(tmp_path, "--overwrite", 1, "--b", 0.5).returncode == 0
    assert (tmp_path / "model" / "model.safetensors").read_bytes() != weights


def test_other_statistics_under_the_same_name_are_refused(tmp_path, run, statistics):
    from robust_data import records

    rows, about = records.load(statistics)
    mine = tmp_path / "mine.npy"
    records.save(mine, rows, about)
    folder, source = tmp_path / "out", ("--statistics_source", mine)
    run(folder, *source, mishap=("kill", TRAIN_STEP, 6))
    rows = np.array(rows)
    rows["after_perturb_loss"] = rows["after_perturb_loss"][:, ::-1]
    records.save(mine, rows, about)
    result = run(folder, *source)
    assert result.returncode == 2 and "chosen instances was" in "".join(errors(result))
