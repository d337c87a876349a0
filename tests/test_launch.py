"""What a process does when its launcher, here a shell, is gone, and how it leaves."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
WAIT = """
import signal, sys, threading
sys.path.insert(0, sys.argv[1])
from robust_data.running import launch
launch.GRACE = 0.1
if sys.argv[2] == "deaf":
    signal.signal(signal.SIGTERM, lambda *arguments: None)
launch.end_with_launcher()
print("here", flush=True)
while True:
    threading.Event().wait(0.1)
"""


@pytest.mark.parametrize("kind", ["plain", "deaf"])
def test_a_process_ends_when_its_launcher_was_killed(kind):
    command = ["sh", "-c", '"$@" & wait', "sh", sys.executable, "-c", WAIT, str(ROOT), kind]
    environment = os.environ | {"TORCHELASTIC_RUN_ID": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as launcher:
        assert launcher.stdout.readline() == "here\n"
        os.kill(launcher.pid, signal.SIGKILL)
        assert launcher.stdout.read() == ""  # comes when the last process that could write has ended


def test_a_process_leaves_with_its_status_and_all_that_it_said():
    said = f"import sys; sys.path.insert(0, {str(ROOT)!r})"
    said += "; from robust_data.running import launch; print('bye'); launch.leave(7)"
    result = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (7, "bye\n", "")
