"""The progress bar is that of the whole command: it ends at 100 %, and begins where a run goes on."""

from __future__ import annotations

import importlib
import io
import re
import sys

import numpy as np
import pytest

from robust_data.running import run_bar
from robust_data.running.run_bar import RunBar, Work, phase
from robust_data.running.training import Trainer


class Terminal(io.StringIO):
    def isatty(self):
        return True

    def lines(self):
        """Each state of the bar that was drawn."""
        return [line.strip() for line in self.getvalue().split("\r") if line.strip()]

    def percentages(self):
        return [int(found) for found in re.findall(r"(\d+)%", self.getvalue())]


class Clock:
    seconds = 0.0

    def __call__(self):
        return self.seconds


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def bar(clock):
    return RunBar(stream=Terminal(), clock=clock)


def visit(bar, clock, kind, visits, seconds_each):
    """So many visits of one instance each."""
    with bar.phase(kind, visits, visits) as counted:
        for _ in range(visits):
            clock.seconds += seconds_each
            counted.update()


def test_each_kind_of_work_counts_with_the_time_it_has_taken(bar, clock):
    bar.begin({"train": Work(20, 3), "collect": Work(30, 2)})
    assert bar.share == 0 and bar.seconds_left() is None
    visit(bar, clock, "collect", 10, seconds_each=1)
    # Half a second for a pass, so 20 visits of 1 s, and as many of three passes each, none of which has been timed.
    assert bar.seconds_left() == pytest.approx(20 * 1 + 20 * 1.5)
    assert bar.share == pytest.approx(20 / 120)
    visit(bar, clock, "train", 10, seconds_each=0.1)
    assert bar.seconds_left() == pytest.approx(20 * 1 + 10 * 0.1)
    visit(bar, clock, "train", 10, seconds_each=0.3)
    visit(bar, clock, "collect", 20, seconds_each=1)
    assert bar.seconds_left() == 0 and bar.share == 1


def test_what_lies_between_two_steps_counts_with_the_later_one(bar, clock):
    bar.begin({"train": Work(20)})
    visit(bar, clock, "train", 5, seconds_each=1)
    clock.seconds += 5  # a state is saved
    visit(bar, clock, "train", 5, seconds_each=1)
    assert bar.seconds_left() == pytest.approx(10 * 15 / 10)


def test_the_line_tells_the_share_of_the_whole_and_the_time_left(bar, clock):
    bar.begin({"train": Work(100), "collect": Work(100)})
    with bar.phase("train", 50, 50, "epoch 1/2") as counted:
        clock.seconds = 60
        counted.update(50)
    assert bar.stream.lines()[-1].startswith("epoch 1/2:  25%|") and "| 01:00<03:00" in bar.stream.lines()[-1]
    assert bar.stream.getvalue().endswith("\r")  # nothing stands where the next line is printed


def test_the_other_processes_work_at_the_same_pace(bar):
    bar.begin({"collect": Work(30)})
    with bar.phase("collect", 10, 30) as counted:
        counted.update(5)
        assert bar.share == pytest.approx(0.5)
    assert bar.share == 1


def test_a_run_that_goes_on_begins_where_it_was_and_times_what_it_does_itself(bar, clock):
    bar.begin({"train": Work(10)}, {"train": Work(4)})
    assert bar.share == pytest.approx(0.4) and bar.seconds_left() is None
    visit(bar, clock, "train", 2, seconds_each=3)
    assert bar.seconds_left() == pytest.approx(4 * 3)
    assert bar.stream.percentages()[0] == 40


def test_several_runs_count_as_equally_large(clock):
    bar = RunBar(4, stream=Terminal(), clock=clock)
    bar.end()  # found finished
    bar.begin({"train": Work(10)}, {"train": Work(5)})
    assert bar.share == pytest.approx(0.25 + 0.125)
    visit(bar, clock, "train", 5, seconds_each=2)
    assert bar.stream.lines()[0].startswith("run 2/4, train:  38%|")
    bar.end()
    assert bar.share == pytest.approx(0.5) and bar.seconds_left() == pytest.approx(2 * 10 * 2)


def test_a_training_that_ends_early_leaves_what_follows_it(bar, clock):
    bar.begin({"train": Work(100), "collect": Work(20)})
    visit(bar, clock, "train", 10, seconds_each=1)
    bar.cut_short({"collect": Work(5)})
    assert bar.share == pytest.approx(115 / 120) and bar.seconds_left() == pytest.approx(5)
    visit(bar, clock, "collect", 5, seconds_each=1)
    assert bar.share == 1


def test_one_pass_alone_has_a_bar_if_it_is_wanted(monkeypatch):
    for wanted in (True, False):
        monkeypatch.setattr(sys, "stderr", Terminal())
        with phase(wanted, "evaluate", 4) as counted:
            counted.update(4)
        assert sys.stderr.percentages() == ([0, 100] if wanted else [])


@pytest.mark.parametrize("stream, rank", [(Terminal(), "1"), (io.StringIO(), "0")])
def test_only_the_main_process_shows_it_and_only_on_a_terminal(stream, rank, monkeypatch):
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", "2")
    bar = RunBar(stream=stream)
    bar.begin({"train": Work(2)})
    with bar.phase("train", 2, 2) as counted:
        counted.update(2)
    assert stream.getvalue() == ""


@pytest.fixture
def bars(monkeypatch):
    """The bars that scripts make, on a terminal; each knows its share when its runs began, and all that it had."""
    made = []

    class Watched(RunBar):
        def __init__(self, *given, **options):
            super().__init__(*given, **options, stream=Terminal())
            self.begun, self.shares = [], []
            made.append(self)

        def begin(self, *given):
            super().begin(*given)
            self.begun.append(self.share)

        def count(self, *given):
            super().count(*given)
            self.shares.append(self.share)

    monkeypatch.setattr(run_bar, "RunBar", Watched)
    return made


def start(script, *given):
    module = importlib.import_module(script)
    module.main(module.build_parser().parse_args([*map(str, given)]))


def collect(few_digits, folder, *more):
    data = ("--dataset_name", "npz", "--data_dir", few_digits, "--dataset_len", 40, "--val_len", 8)
    start("data_statistics", *data, "--epochs", 3, "--bsz", 16, "--output_dir", folder, *more)


def assert_goes_from(begin, bar, to=1.0):
    """The counts of every part of the work add up to all of it."""
    assert bar.begun[0] == pytest.approx(begin) and bar.shares[-1] == pytest.approx(to)
    assert bar.shares == sorted(bar.shares)
    assert bar.stream.percentages()[0] == round(100 * begin) and bar.stream.percentages()[-1] == round(100 * to)


def test_a_collection_counts_training_recording_and_judging(few_digits, tmp_path, bars):
    collect(few_digits, tmp_path, "-t", "blur", "pgd", "--collect_on", "test", "--judge_every_epoch", 2)
    (bar,) = bars
    assert_goes_from(0, bar)
    titles = {line.partition(":")[0] for line in bar.stream.lines()}
    assert titles == {"collect", "epoch 1/3", "epoch 2/3", "epoch 3/3", "evaluate", "pgd, 5 steps"}


class Killed(BaseException):
    pass


def test_a_collection_that_goes_on_begins_where_it_was(few_digits, tmp_path, bars, monkeypatch):
    train_step, steps = Trainer._train_step, []

    def fifth_fails(*given, **named):
        steps.append(1)
        if len(steps) == 5:
            raise Killed
        train_step(*given, **named)

    monkeypatch.setattr(Trainer, "_train_step", fifth_fails)
    with pytest.raises(Killed):
        collect(few_digits, tmp_path, "-t", "blur", "--save_every", 1)
    collect(few_digits, tmp_path, "-t", "blur", "--save_every", 1)
    stopped_at = bars[0].share
    assert 0.3 < stopped_at < 0.7
    assert_goes_from(stopped_at, bars[1])


def test_a_collection_that_reaches_its_loss_early_ends_at_100_percent(few_digits, tmp_path, bars):
    collect(few_digits, tmp_path, "-t", "blur", "--stop_at_train_loss", 100)
    assert_goes_from(0, bars[0])


def test_seeds_share_one_bar_and_what_is_finished_counts(few_digits, tmp_path, bars):
    collect(few_digits, tmp_path, "-t", "blur", "--seeds", 3)
    collect(few_digits, tmp_path, "-t", "blur", "--seeds", 3, 4, 5)
    assert_goes_from(1 / 3, bars[1])
    assert bars[1].begun == pytest.approx([1 / 3, 2 / 3])
    assert bars[1].stream.lines()[-1].startswith("run 3/3, ")


SUBSET = ("finetune_with_select_data", "--group", "swing", "--do_pgd_training", 1, "--adv_steps", 2)


@pytest.mark.parametrize(
    "script, more",
    [
        (SUBSET, ("--judge_every_epoch", 2, "--judge_instances", 8)),
        (("new_fine_tune_flooding.new_fine_tune_flooding",), ("--judge_every_epoch", 1)),
        (("new_fine_tune_flooding.new_fine_tune_flooding",), ("--stop_at_train_loss", 100)),
    ],
)
def test_a_fine_tuning_counts_training_and_judging(statistics, tmp_path, bars, script, more):
    training = ("--epochs", 3, "--bsz", 16, "--pgd_step", 2)
    start(*script, "--statistics_source", statistics, *training, *more, "--output_dir", tmp_path)
    assert_goes_from(0, bars[0])


def test_a_judgement_counts_attacks_perturbations_and_published_corruptions(statistics, few_digits, tmp_path, bars):
    training = ("--epochs", 1, "--pgd_step", 0, "--output_dir", tmp_path / "tuned")
    start("finetune_with_select_data", "--statistics_source", statistics, *training)
    with np.load(few_digits) as data:
        np.save(tmp_path / "labels.npy", np.tile(data["test_labels"], 5))
        np.save(tmp_path / "fog.npy", np.tile(data["test_images"], (5, 1, 1, 3)))
    data = ("--dataset_name", "npz", "--data_dir", few_digits, "--corruptions_dir", tmp_path)
    conditions = ("-t", "blur", "--severities", 1, 2, "--pgd_step", 2, "--restarts", 2)
    model = ("--model_name", tmp_path / "tuned" / "model", "--output_dir", tmp_path / "judged")
    start("evaluate_robustness", *data, *conditions, *model)
    assert_goes_from(0, bars[1])
    assert {line.partition(":")[0] for line in bars[1].stream.lines()} == {"judge", "published"}


def test_attacks_on_words_are_part_of_the_run(bert, sst2, tmp_path, bars):
    data = ("--dataset_name", "glue", "--task_name", "sst2", "--data_dir", sst2, "--model_name", bert)
    start("data_statistics", *data, "--dataset_len", 16, "--epochs", 1, "--output_dir", tmp_path)
    assert_goes_from(0, bars[0])
    (path,) = tmp_path.glob("*.npy")
    attack = ("--do_attack", 1, "--attack_method", "deepwordbug", "--num_examples", 4, "--pgd_step", 1)
    given = ("--statistics_source", path, "--model_name", bert, "--epochs", 1, "--output_dir", tmp_path / "tuned")
    start("new_fine_tune_flooding.new_fine_tune_flooding", *given, *attack)
    assert_goes_from(0, bars[1])
    assert bars[1].stream.lines()[-1].startswith("deepwordbug: 100%|")
