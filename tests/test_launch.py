"""What a process does when its launcher, here a shell, is gone, and how it leaves."""

import os
import signal
import socket
import subprocess
import sys

import processes
import pytest
from processes import ROOT

from robust_data.train import launch

WAIT = """
import signal, sys, threading
sys.path.insert(0, sys.argv[1])
from robust_data.train import launch
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


ALONE = """
import sys, threading
root = sys.argv.pop(1)
sys.path.insert(0, root)
from robust_data.command_line.parser import Parser, run_script

def main(args):
    print("here", file=sys.__stdout__, flush=True)
    while True:
        threading.Event().wait(0.1)

run_script(Parser(), main)
"""


def test_a_script_that_is_its_launchers_only_process_ends_with_it_too():
    command = ["sh", "-c", '"$@" & wait', "sh", sys.executable, "-c", ALONE, str(ROOT)]
    environment = os.environ | {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "1", "RANK": "0"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as launcher:
        assert launcher.stdout.readline() == "here\n"
        os.kill(launcher.pid, signal.SIGKILL)
        assert launcher.stdout.read() == ""


@pytest.mark.parametrize(
    ("variables", "missing"),
    [({"WORLD_SIZE": "2"}, "RANK"), ({"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": ""}, "MASTER_ADDR")],
)
def test_variables_of_a_launcher_that_are_incomplete_are_one_line(tmp_path, variables, missing):
    result = processes.run(ROOT / "data_statistics.py", "--output_dir", tmp_path, env=os.environ | variables)
    assert result.returncode == 2 and result.stderr.count("\n") == 1
    assert f"needs {missing}" in result.stderr and "unset WORLD_SIZE" in result.stderr
    wrong = processes.run(ROOT / "data_statistics.py", "--bsz", 0, env=os.environ | variables)
    assert wrong.returncode == 2 and wrong.stderr == "data_statistics.py: error: argument --bsz: 0 must be at least 1\n"


def test_empty_variables_of_a_launcher_are_none(monkeypatch):
    for variable in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR"):
        monkeypatch.setenv(variable, "")
    launch.check_environment()
    assert (launch.process_count(), launch.rank()) == (1, 0)


def meeting(rank, port):
    return {"WORLD_SIZE": "3", "RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}


def test_a_port_in_use_is_one_line(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        environment = os.environ | meeting(0, taken.getsockname()[1])
        result = processes.run(ROOT / "data_statistics.py", "--output_dir", tmp_path, env=environment)
    assert result.returncode == 2 and result.stderr.count("\n") == 1
    assert "address already in use" in result.stderr and "MASTER_PORT" in result.stderr


@pytest.mark.parametrize("rank", [0, 1])
def test_processes_that_never_come_are_told(tmp_path, rank):
    environment = os.environ | meeting(rank, processes.free_port())
    command = [ROOT / "data_statistics.py", "--rendezvous_timeout", 1, "--output_dir", tmp_path]
    result = subprocess.run([sys.executable, *map(str, command)], env=environment, capture_output=True, text=True)
    assert result.returncode == 2 and result.stderr.count("\n") == 1
    assert "the 3 processes cannot meet" in result.stderr and "--rendezvous_timeout" in result.stderr
