"""What nobody should type, and lines on stderr that stay lines: each ends at once, with what to give instead."""

from __future__ import annotations

import pytest
from fuzzing import call

from registry import LONGEST_LINE, InputError, warn_once
from robust_data import complete
from robust_data.command_line.parser import Parser, run_script
from robust_data.settings import Collect, Judgement

STEMS = {
    "plot_utils/plotting.py": ("--statistics", "x.npy"),
    "plot_utils/sample_images.py": ("--statistics", "x.npy"),
    "plot_utils/training_curves.py": ("--log", "log.jsonl"),
    "scripts/compare_statistics.py": ("x.npy", "y.npy"),
    "scripts/export_statistics.py": ("--statistics", "x.npy"),
    "scripts/select_instances.py": ("--statistics", "x.npy"),
}


@pytest.mark.parametrize("script", STEMS)
@pytest.mark.parametrize("stem", [".", "/", ""])
def test_an_output_without_the_name_of_a_file_is_refused(script, stem):
    status, _, err = call(script, *STEMS[script], f"--output={stem}")
    assert status == 2 and f"argument --output: '{stem}' names a folder; add the name of the files in it" in err


def refusal(main, monkeypatch, capsys):
    """What a script prints to stderr that ends in bad input."""
    monkeypatch.setattr("sys.argv", ["script.py"])
    with pytest.raises(SystemExit) as exit:
        run_script(Parser(prog="script.py"), main)
    assert exit.value.code == 2
    return capsys.readouterr().err


def test_a_long_line_keeps_its_beginning_and_its_end(monkeypatch, capsys):
    def main(args):
        raise InputError(f"--data_dir {'x' * 10_000} is no folder; give another")

    line = refusal(main, monkeypatch, capsys)
    assert len(line) < LONGEST_LINE + 100 and line.startswith("script.py: error: --data_dir xxx")
    assert line.endswith("x is no folder; give another\n") and "x ... x" in line


def test_a_long_warning_is_cut_too(capsys):
    warn_once(f"{'y' * 10_000} is not there")
    line = capsys.readouterr().err
    assert len(line) < LONGEST_LINE + 100 and line.endswith("y is not there\n")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        MemoryError("Unable to allocate 8.00 EiB for an array with shape (9, 9) and data type float64"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to\nlose"),
        RuntimeError("CUDA out of memory. Tried to allocate 9.00 GiB"),
    ],
)
def test_too_little_memory_is_one_line(error, monkeypatch, capsys):
    def main(args):
        raise error

    line = refusal(main, monkeypatch, capsys)
    assert line.startswith("script.py: error: too little memory (") and line.count("\n") == 1
    assert line.endswith("; give smaller batches, images or numbers\n")


def test_another_error_of_torch_is_not_called_too_little_memory(monkeypatch):
    def main(args):
        raise RuntimeError("shapes cannot be multiplied")

    monkeypatch.setattr("sys.argv", ["script.py"])
    with pytest.raises(RuntimeError, match="shapes"):
        run_script(Parser(prog="script.py"), main)


@pytest.mark.parametrize("kind, completed", [(Collect, complete.collection), (Judgement, complete.judging)])
@pytest.mark.parametrize("task", ["a/b", "x" * 300, "sst2"])
def test_a_task_of_a_data_set_without_tasks_is_refused(kind, completed, task):
    with pytest.raises(
        InputError, match=f"--task_name {task}: --dataset_name digits has no tasks; leave the option out"
    ):
        completed(kind(dataset_name="digits", task_name=task))


def test_an_unknown_task_is_told_before_data_are_looked_for():
    job = Collect(dataset_name="glue", task_name="sst3", model_name="bert-base-uncased")
    with pytest.raises(InputError, match="unknown task of glue 'sst3'; nearest: sst2"):
        complete.collection(job)


def test_more_samples_than_there_are_instances_take_no_more_room(statistics, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, err = call(
        *("plot_utils/sample_images.py", "--statistics", statistics, "--per_group", 10**9, "--output", "samples")
    )
    assert status == 0 and "saved samples.png" in out, err
