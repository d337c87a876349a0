"""A run that is killed at any moment and started again ends with the bytes of a run left in peace."""

import functools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import processes
import pytest
from processes import ROOT

from robust_data import records
from robust_data.train.resume import Interrupted, RunState, StopRequest, follow, stop_requests

SCRIPT = str(ROOT / "data_statistics.py")
# 8 steps an epoch, checkpoints after 0, 4, 8, ..., 24 steps; states after every third step beside those.
RUN = ["--dataset_len", "60", "--epochs", "3", "--bsz", "8", "--statistic_interval", "0.5", "--save_every", "3"]
RUN += ["--eval_size", "16", "-t", "blur", "gaussian_noise"]
# Where a mishap is planned: in the middle of training, and of a collection.
TRAIN_STEP = "robust_data.train.training.Trainer._train_step"
COLLECT_BATCH = "robust_data.collection.perturb_batch"
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def run(folder, *more, mishap=(), start=processes.run, **environment):
    dying = [ROOT / "tests" / "dying.py", *mishap] if mishap else []
    return start(*dying, SCRIPT, *RUN, *more, "--output_dir", folder, env=ENVIRONMENT | environment)


def results(folder):
    return {path.name: path.read_bytes() for path in sorted(Path(folder).glob("*.npy"))}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    assert run(folder).returncode == 0
    assert len(results(folder)) == 2
    return results(folder)


def assert_finishes_as_undisturbed(folder, undisturbed, result):
    assert result.returncode == 0, result.stderr
    assert results(folder) == undisturbed
    assert {path.suffix for path in folder.iterdir()} == {".npy", ".json", ".jsonl"}
    assert (folder / "log.jsonl").read_text().count("\n") == 3


@pytest.mark.parametrize(
    "where, number",
    [
        (TRAIN_STEP, 11),  # in training
        (COLLECT_BATCH, 9),  # in the second collection
        ("robust_data.records.RecordFile.append", 6),  # between the two files of a checkpoint
        ("robust_data.files.sync", 4),  # behind a rename, in the middle of a save
        ("os.replace", 5),  # before a rename
        ("robust_data.records.RecordFile.finish", 2),  # one file has its name, the other not yet
        ("robust_data.train.resume.RunState.remove", 1),  # all is done but the state is still there
    ],
)
def test_killed_and_started_again_it_ends_with_the_same_bytes(tmp_path, undisturbed, where, number):
    assert run(tmp_path, mishap=("kill", where, number)).returncode == -signal.SIGKILL
    assert_finishes_as_undisturbed(tmp_path, undisturbed, run(tmp_path))


def test_the_other_options_of_training_end_with_the_same_bytes_too(tmp_path):
    options = ("--model_name", "resnet9_small", "--memory_format", "channels_last", "--optimizer", "sgd")
    options += ("--lr_schedule", "onecycle", "--augment", "rrc", "--lr", 0.01)
    options += ("--judge_every_epoch", 2, "--judge_instances", 20, "--pgd_step", 1)
    assert run(tmp_path / "undisturbed", *options).returncode == 0
    folder = tmp_path / "killed"
    assert run(folder, *options, mishap=("kill", TRAIN_STEP, 14)).returncode == -signal.SIGKILL
    assert_finishes_as_undisturbed(folder, results(tmp_path / "undisturbed"), run(folder, *options))
    curve = log_of(folder, "judged_pgd_accuracy")
    assert curve == log_of(tmp_path / "undisturbed", "judged_pgd_accuracy")
    assert [point is not None for point in curve] == [False, True, False]
    assert log_of(folder, "judged_instances") == [None, 20, None]


@pytest.mark.parametrize("where, number", [(TRAIN_STEP, 14), (COLLECT_BATCH, 33)])  # 16 batches a checkpoint
def test_training_ends_with_a_checkpoint_where_the_training_loss_is_reached(tmp_path, where, number):
    assert run(tmp_path / "whole").returncode == 0
    losses = log_of(tmp_path / "whole", "train_loss")
    assert losses == sorted(losses, reverse=True)
    enough = ("--stop_at_train_loss", losses[1])
    assert run(tmp_path / "undisturbed", *enough).returncode == 0
    for name in results(tmp_path / "whole"):
        # The untrained model, and two checkpoints an epoch.
        rows, about = records.load(tmp_path / "undisturbed" / name)
        assert np.array_equal(rows, records.load(tmp_path / "whole" / name)[0][:5])
        assert about["stopped_at_epoch"] == 2 and about["stopped"] is None and len(about["checkpoints"]) == 5
    assert log_of(tmp_path / "undisturbed", "stopped_at_epoch") == [None, 2]
    folder = tmp_path / "killed"
    assert run(folder, *enough, mishap=("kill", where, number)).returncode == -signal.SIGKILL
    again = run(folder, *enough)
    assert again.returncode == 0 and "stopped at --stop_at_train_loss" in again.stderr
    assert results(folder) == results(tmp_path / "undisturbed")
    assert log_of(folder, "train_loss") == losses[:2]


def log_of(folder, name):
    return [json.loads(line).get(name) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("where", [TRAIN_STEP, COLLECT_BATCH])
def test_sigterm_saves_says_how_to_continue_and_exits_with_143(tmp_path, undisturbed, where):
    result = run(tmp_path, mishap=("term", where, 10))
    assert result.returncode == 128 + signal.SIGTERM
    assert result.stderr.splitlines()[-1] == "data_statistics.py: interrupted by SIGTERM; the same command continues"
    again = run(tmp_path)
    assert "going on at step" in again.stderr
    assert_finishes_as_undisturbed(tmp_path, undisturbed, again)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_a_request_to_stop_and_a_second_one_acts_as_ever(number):
    came = []
    before = signal.signal(number, lambda *arguments: came.append(number))
    try:
        with stop_requests() as stop:
            signal.raise_signal(number)
            assert stop.signal == number and not came
            signal.raise_signal(number)
            assert came == [number]
    finally:
        signal.signal(number, before)


def test_a_run_under_nohup_outlives_its_terminal():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_requests() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert stop.signal is None
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("save_every, expected", [(None, [5, 10, 15, 20]), (8, [5, 8, 13, 16])])
def test_a_run_is_saved_every_few_minutes_and_every_so_many_steps(tmp_path, monkeypatch, save_every, expected):
    now, saved = [0.0], []
    monkeypatch.setattr("robust_data.train.resume.time.monotonic", lambda: now[0])
    trainer, state, stop = SimpleNamespace(step=0), RunState(tmp_path / "run.state", {}), StopRequest()

    def save():
        saved.append(trainer.step)
        state.save({"step": trainer.step})

    follow(trainer, state, stop, save, save_every, lambda figures: None)
    for _ in range(20):
        trainer.step, now[0] = trainer.step + 1, now[0] + 60
        trainer.on_step()
    assert saved == expected and state.load()["step"] == saved[-1]
    stop.ask(signal.SIGTERM)
    trainer.step += 1
    with pytest.raises(Interrupted):
        trainer.on_step()
    assert saved[-1] == state.load()["step"] == 21


def test_a_run_that_another_process_is_at_work_on_is_left_alone(tmp_path):
    assert run(tmp_path, mishap=("kill", TRAIN_STEP, 11)).returncode == -signal.SIGKILL
    (state,) = tmp_path.glob("*.state")
    with RunState(state, {}).held():
        result = run(tmp_path)
        assert result.returncode == 2 and "another process is at work on this run" in result.stderr
    assert len(result.stderr.splitlines()) == 1 and state.exists()


def test_data_of_ones_own_are_known_by_their_place_and_labels(tmp_path):
    def few(name, *labels):
        np.savez(tmp_path / name, images=np.zeros((8, 8, 8, 3), np.uint8), labels=np.array(labels * 4))
        return ("--dataset_name", "npz", "--data_dir", tmp_path / name, "--dataset_len", 8, "--epochs", 1)

    out = tmp_path / "out"
    assert run(out, *few("a.npz", 0, 1)).returncode == 0
    # The same data are found to be the same before a model is built.
    assert run(out, *few("a.npz", 0, 1), mishap=("kill", "robust_data.models.build", 1)).returncode == 0
    result = run(out, *few("b.npz", 0, 1))
    assert result.returncode == 2 and "--data_dir was" in result.stderr
    result = run(out, *few("a.npz", 1, 0))
    assert result.returncode == 2 and "8 labels differ" in result.stderr


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    assert run(folder).returncode == 0
    return folder


def test_a_finished_run_says_so_and_does_nothing(finished, undisturbed):
    before = {path: path.stat().st_mtime_ns for path in finished.iterdir()}
    result = run(finished)
    assert result.returncode == 0 and "finished already; --overwrite 1 collects again" in result.stderr
    assert {path: path.stat().st_mtime_ns for path in finished.iterdir()} == before


def test_a_finished_run_is_told_before_data_are_loaded_and_torch_is_imported(finished):
    command = [sys.executable, "-X", "importtime", SCRIPT, *RUN, "--output_dir", finished]
    result = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)
    imported = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    assert result.returncode == 0 and "saved" in result.stdout and "numpy" in imported
    assert not {"torch", "sklearn"} & imported


def test_other_arguments_under_the_same_name_are_refused_and_named(finished):
    result = run(finished, "--weight_decay", 0.5)
    assert result.returncode == 2 and "--weight_decay was 0.01, is 0.5" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_another_perturbation_joins_a_folder_after_the_same_training_alone(tmp_path):
    """Runs whose names tell no difference share the lines of the log."""
    given = (SCRIPT, "--dataset_len", 20, "--epochs", 1, "--output_dir", tmp_path)
    for joining in (("-t", "blur"), ("-t", "contrast", "--severity", 5)):
        assert processes.run(*given, *joining).returncode == 0
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    result = processes.run(*given, "-t", "fog", "--bsz", 5)
    assert result.returncode == 2 and "tblur_severity3.npy was made with other arguments: --bsz was 32" in result.stderr
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert processes.run(*given, "-t", "fog", "--bsz", 5, "--overwrite", 1).returncode == 0


def test_other_arguments_are_refused_for_a_run_that_is_half_done(tmp_path):
    run(tmp_path, mishap=("kill", TRAIN_STEP, 11))
    result = run(tmp_path, "--max_grad_norm", 2, "-t", "rotate")
    assert result.returncode == 2
    assert "--max_grad_norm was 1.0, is 2.0; --perturbations was ['blur', 'gaussian_noise'], is " in result.stderr


def test_overwrite_starts_anew(tmp_path):
    run(tmp_path, "--weight_decay", 0.5, mishap=("kill", TRAIN_STEP, 11))
    result = run(tmp_path, "--overwrite", 1)
    assert result.returncode == 0 and "going on" not in result.stderr
    (path, _) = sorted(tmp_path.glob("*.npy"))
    assert records.load(path)[1]["arguments"]["weight_decay"] == 0.01


def test_a_damaged_state_is_refused_with_the_remedy(tmp_path):
    run(tmp_path, mishap=("kill", TRAIN_STEP, 11))
    (state,) = tmp_path.glob("*.state")
    state.write_bytes(state.read_bytes()[:1000])
    result = run(tmp_path)
    assert result.returncode == 2 and "use --overwrite 1 to start anew" in result.stderr
    assert len(result.stderr.splitlines()) == 1


TWO = functools.partial(processes.run_together, 2)
TORCHRUN = functools.partial(processes.torchrun, 2)


@pytest.fixture(scope="module")
def undisturbed_two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed_two")
    assert run(folder, start=TWO).returncode == 0
    return results(folder)


def test_with_one_of_two_processes_killed_it_goes_on_to_the_bytes_of_two_left_in_peace(tmp_path, undisturbed_two):
    assert run(tmp_path, mishap=("kill", TRAIN_STEP, 11), start=TWO, RANK_TO_DIE="1").returncode != 0
    assert_finishes_as_undisturbed(tmp_path, undisturbed_two, run(tmp_path, start=TWO))


def test_the_launcher_restarts_what_was_killed(tmp_path, undisturbed_two):
    folder, start = tmp_path / "out", functools.partial(TORCHRUN, restarts=1)
    result = run(folder, mishap=("kill", TRAIN_STEP, 11), start=start, RANK_TO_DIE="0", ONCE=str(tmp_path / "once"))
    assert_finishes_as_undisturbed(folder, undisturbed_two, result)


@pytest.mark.parametrize("where", [TRAIN_STEP, COLLECT_BATCH])
def test_a_launcher_that_is_asked_to_stop_leaves_a_run_that_goes_on(tmp_path, undisturbed_two, where):
    result = run(tmp_path, mishap=("term_launcher", where, 5), start=TORCHRUN, RANK_TO_DIE="0")
    assert result.returncode != 0
    told = [line for line in result.stderr.splitlines() if "the same command continues" in line]
    assert len(told) == 1 and "interrupted by SIGTERM" in told[0]
    again = run(tmp_path, start=TWO)
    assert "going on at step" in again.stderr
    assert_finishes_as_undisturbed(tmp_path, undisturbed_two, again)
