"""--tensorboard 1: the figures of log.jsonl as points, each exactly once, whenever the run was killed."""

import importlib.util
import json
import signal

import processes
import pytest
from conftest import refuses
from processes import ROOT

from robust_data import complete, settings
from robust_data.judge import event_files

DYING = ROOT / "tests" / "dying.py"
COLLECT = (ROOT / "data_statistics.py", "--dataset_len", 40, "--epochs", 3, "--bsz", 16, "-t", "identity")
SUBSET = (ROOT / "finetune_with_select_data.py", "--epochs", 2, "--bsz", 16, "--pgd_step", 1)
# Killed between the log and the points, after both, and when nothing is left to train.
MOMENTS = [
    ("robust_data.judge.event_files.Points.add", 2),
    ("robust_data.judge.epoch_log.epoch_line", 3),
    ("robust_data.train.resume.RunState.remove", 1),
]

needs_tensorboard = pytest.mark.skipif(
    importlib.util.find_spec("tensorboard") is None, reason="needs the package tensorboard"
)


@pytest.fixture
def hidden(monkeypatch):
    """No package tensorboard, whether or not it is installed."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tensorboard" else find(name))


def in_event_files(folder):
    """Every point of the event files, as often as it is there: the run, the name, the step and the value."""
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    return sorted(
        (path.parent.name, value.tag, event.step, pytest.approx(value.simple_value, rel=1e-6))
        for path in folder.glob("tensorboard/*/*")
        for event in LegacyEventFileLoader(str(path)).Load()
        for value in event.summary.value
    )


def in_log(folder):
    """The points that the log asks for."""
    return sorted(
        (figures["run"], f"{event_files.section(name)}/{name}", figures["global_step"], value)
        for figures in map(json.loads, (folder / "log.jsonl").read_text().splitlines())
        for name, value in event_files.points(figures)
    )


@pytest.mark.parametrize("kind", [settings.Collect, settings.FineTune])
def test_without_the_package_a_line_tells_how_to_get_it(kind, hidden):
    with refuses("--tensorboard"):
        complete.training(kind(tensorboard=1))
    assert complete.training(kind()).tensorboard == 0


def test_a_package_that_cannot_be_imported_is_told_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    with refuses("tensorboard"):
        event_files.Points(True, tmp_path / "log.jsonl", "run").__enter__()


def test_curves_are_sorted_and_settings_and_what_is_no_number_left_out():
    figures = {"run": "a", "epoch": 1, "global_step": 4, "train_loss": 0.5, "test_loss": None, "pgd_step": 3}
    figures |= {"adv_norm_type": "l2", "val_loss": float("nan")}
    assert dict(event_files.points(figures)) == {"epoch": 1, "train_loss": 0.5}
    sections = {
        "clean": ("train_loss", "test_accuracy", "judged_accuracy", "train_cross_entropy", "val_loss"),
        "perturbed": ("pgd_accuracy", "perturbed_accuracy", "judged_pgd_accuracy"),
        "groups": ("robust_loss", "non_robust_loss", "train_loss_robust", "eval_loss_other"),
        "run": ("lr", "epoch", "seconds", "peak_memory_mib"),
    }
    for section, names in sections.items():
        assert {event_files.section(name) for name in names} == {section}


@needs_tensorboard
@pytest.mark.parametrize("where, number", MOMENTS)
def test_a_collection_that_was_killed_has_every_point_once(tmp_path, where, number):
    given = (*COLLECT, "--save_every", 2, "--tensorboard", 1, "--output_dir", tmp_path)
    killed = processes.run(DYING, "kill", where, number, *given)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    again = processes.run(*given)
    assert again.returncode == 0, again.stderr
    assert in_event_files(tmp_path) == in_log(tmp_path)
    assert {step for _, _, step, _ in in_log(tmp_path)} == {3, 6, 9}


@needs_tensorboard
def test_it_changes_no_byte_and_several_runs_of_one_folder_stand_apart(tmp_path):
    for more in (("--seed", 1), ("--seed", 2)):
        for folder, switch in ((tmp_path / "with", 1), (tmp_path / "without", 0)):
            result = processes.run(*COLLECT, *more, "--tensorboard", switch, "--output_dir", folder)
            assert result.returncode == 0, result.stderr
    files = [{path.name: path.read_bytes() for path in folder.glob("*.npy")} for folder in sorted(tmp_path.iterdir())]
    assert files[0] == files[1] and len(files[0]) == 2
    assert in_event_files(tmp_path / "with") == in_log(tmp_path / "with")
    assert len(list((tmp_path / "with" / "tensorboard").iterdir())) == 2
    assert not (tmp_path / "without" / "tensorboard").exists()


@needs_tensorboard
def test_a_fine_tuning_that_is_looked_at_from_its_second_part_on_has_all_its_points(statistics, tmp_path):
    given = (*SUBSET, "--statistics_source", statistics, "--save_every", 2, "--output_dir", tmp_path)
    killed = processes.run(DYING, "kill", "robust_data.train.training.Trainer._train_step", 2, *given)
    assert killed.returncode == -signal.SIGKILL
    result = processes.run(*given, "--tensorboard", 1)
    assert result.returncode == 0, result.stderr
    assert in_event_files(tmp_path) == in_log(tmp_path)
    sections = {tag.partition("/")[0] for _, tag, _, _ in in_event_files(tmp_path)}
    assert sections == {"clean", "perturbed", "groups", "run"}


@needs_tensorboard
@pytest.mark.parametrize("script", ["collection", "fine-tuning"])
def test_a_finished_run_gets_its_points_when_it_is_asked_for_them(script, statistics, tmp_path):
    given = COLLECT if script == "collection" else (*SUBSET, "--statistics_source", statistics)
    given = (*given, "--output_dir", tmp_path)
    assert processes.run(*given).returncode == 0
    with open(tmp_path / "log.jsonl", "a") as log:
        log.write('{"run": "cut sh\n')
    again = processes.run(*given, "--tensorboard", 1)
    assert again.returncode == 0 and "finished already" in again.stdout + again.stderr
    (tmp_path / "log.jsonl").write_text((tmp_path / "log.jsonl").read_text().rpartition('{"run": "cut')[0])
    assert in_event_files(tmp_path) == in_log(tmp_path) != []
