"""A process that the tests fork does what a launched one does."""

import subprocess
import sys

import processes
import pytest
from processes import ROOT

COLLECT = ("--dataset_len", 40, "--epochs", 1, "--bsz", 16, "-t", "gaussian_noise", "pgd")


def launch(script, *arguments, cwd):
    command = [sys.executable, script, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


def test_a_forked_script_writes_what_a_launched_one_does(tmp_path):
    written = []
    for start, folder in ((launch, tmp_path / "launched"), (processes.run, tmp_path / "forked")):
        folder.mkdir()
        result = start(ROOT / "data_statistics.py", *COLLECT, cwd=folder)
        assert result.returncode == 0, result.stderr
        files = {path.name: path.read_bytes() for path in sorted(folder.rglob("*.npy"))}
        written.append((result.stdout, files))
    assert written[0] == written[1] and len(files) == 2


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
