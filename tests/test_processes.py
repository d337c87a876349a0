"""A process that the tests fork does what a launched one does, for every script that they start so."""

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import processes
import pytest
from looking import ROOT, write_statistics

COLLECT = ("--dataset_len", 40, "--epochs", 1, "--bsz", 16, "-t", "gaussian_noise", "pgd")


def launch(script, *arguments, cwd):
    command = [sys.executable, script, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


@pytest.fixture(scope="module")
def statistics(tmp_path_factory):
    path = tmp_path_factory.mktemp("statistics") / "statistics.npy"
    return write_statistics(path, np.arange(24) % 3, label_names=["a", "b", "c"], dataset_name="mine")[0]


# What each is given, and which of the files that it writes have the same bytes whenever they are made.
GIVEN = {
    "data_statistics.py": (COLLECT, "*.npy"),
    "finetune_with_select_data.py": (("--epochs", "x"), "*"),
    "evaluate_robustness.py": (("--model_name", "nowhere", "--split", "dev"), "*"),
    "plot_utils/plotting.py": (("--statistics", "STATISTICS", "--output", "map"), "*"),
    "plot_utils/sample_images.py": (("--statistics", "STATISTICS", "--output", "samples"), "*"),
    "plot_utils/report.py": (("--statistics", "STATISTICS", "--output", "page.html"), "*"),
    "scripts/select_instances.py": (("--statistics", "STATISTICS", "--output", "robust"), "*"),
    "scripts/convert_statistics.py": (("--input", "STATISTICS", "--output", "old.npy"), "*"),
}


@pytest.mark.parametrize("script", GIVEN)
def test_a_forked_script_ends_and_writes_as_a_launched_one(script, statistics, tmp_path):
    given, same = GIVEN[script]
    given = [statistics if part == "STATISTICS" else part for part in given]
    ended, written = [], []
    for start, folder in ((launch, tmp_path / "launched"), (processes.run, tmp_path / "forked")):
        folder.mkdir()
        result = start(ROOT / script, *given, cwd=folder)
        ended.append((result.returncode, result.stdout, result.stderr if result.returncode else None))
        written.append({path.name: path.read_bytes() for path in sorted(folder.rglob(same)) if path.is_file()})
    assert ended[0] == ended[1]
    assert written[0] == written[1]


def test_a_signal_ends_a_forked_process_as_it_does_any_other(tmp_path):
    script = tmp_path / "wait.py"
    script.write_text("import time\nprint('here', flush=True)\ntime.sleep(60)\n")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        process = processes.start(script)
        while b"here" not in process.output():
            assert process.poll() is None
        process.send_signal(number)
        assert process.wait() == -number


def test_a_signal_to_a_process_that_has_ended_is_no_error(tmp_path):
    script = tmp_path / "nothing.py"
    script.write_text("")
    process = processes.start(script)
    while b"" != process.output() or process.poll() is None:
        pass
    process.kill()
    assert process.wait() == 0
    unnoticed = processes.start(script)
    while Path(f"/proc/{unnoticed.pid}").exists():
        pass
    unnoticed.kill()
    assert unnoticed.wait() == 0


def test_a_forked_process_has_its_own_arguments_environment_and_folder(tmp_path):
    script = tmp_path / "say.py"
    script.write_text(
        "import os, sys\nprint(sys.argv, os.environ, os.getcwd(), sys.path[0], file=sys.stderr)\nsys.exit(7)\n"
    )
    result = processes.run(script, 1, "two", cwd=tmp_path, env={"ONLY": "this"})
    assert (result.returncode, result.stdout) == (7, "")
    assert result.stderr == f"{[str(script), '1', 'two']} environ({{'ONLY': 'this'}}) {tmp_path} {tmp_path}\n"


@pytest.mark.parametrize(
    "ending",
    [
        "sys.exit('why')",
        "sys.exit(3)",
        "raise ValueError('bad')",
        "atexit.register(print, 'last')",
        "threading.Timer(0.1, print, ['late']).start()",
        "sys.stdout.write('a line without an end')",
    ],
)
def test_a_forked_script_ends_as_the_interpreter_ends_it(ending, tmp_path):
    script = tmp_path / "end.py"
    script.write_text(f"import atexit, sys, threading\n{ending}\n")
    ends = []
    for result in (launch(script, cwd=tmp_path), processes.run(script, cwd=tmp_path)):
        ends.append((result.returncode, result.stdout, result.stderr.splitlines()[-1:]))
    assert ends[0] == ends[1]


def test_of_processes_that_run_together_the_first_that_fails_ends_the_others(tmp_path):
    script = tmp_path / "rank.py"
    script.write_text(
        "import os, sys, time\n"
        "print(os.environ['RANK'], 'of', os.environ['WORLD_SIZE'], flush=True)\n"
        "if len(sys.argv) > 1:\n    sys.exit(7) if os.environ['RANK'] == '1' else time.sleep(60)\n"
    )
    result = processes.run_together(2, script)
    assert (result.returncode, result.stdout) == (0, "0 of 2\n1 of 2\n")
    result = processes.run_together(2, script, "fail")
    assert result.returncode == 7 and "1 of 2\n" in result.stdout
