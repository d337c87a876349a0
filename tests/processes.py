"""Scripts as processes of their own, quickly: forked from a process that has imported the slow libraries already.

A forked process is a real one, with real signals, exit statuses, output and files; it begins where the interpreter
would call the script, imports all of the project itself, and ends where the interpreter would take down its modules.
Only that of the libraries falls away, which takes seconds before and half a second behind a script. A forked process
shares the hash seed of the process that it comes from, so runs of one test session agree on the order of sets:
`test_processes.py` compares a forked run with a launched one.

Run as a program, this file is the process that others are forked from: it serves one request a connection on the
socket whose descriptor is its argument.
"""

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import random
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIBRARIES = (
    *("torch", "torch.distributed", "torchvision", "torchvision.models", "transformers", "matplotlib.pyplot"),
    *("PIL.Image", "numpy", "sklearn.datasets", "safetensors.torch", "tqdm"),
)


class Process:
    """A script that runs, as `subprocess.Popen` has it; what it writes is read when it has ended."""

    def __init__(self, command, cwd, environment):
        self.args = command
        self._out, self._err = tempfile.TemporaryFile(), tempfile.TemporaryFile()
        self._answers, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        request = {"command": command, "cwd": str(cwd), "environment": environment}
        with theirs, open(os.devnull) as nothing:
            descriptors = [theirs.fileno(), nothing.fileno(), self._out.fileno(), self._err.fileno()]
            socket.send_fds(_server(), [json.dumps(request).encode()], descriptors)
        self.pid = int(self._answers.recv(100))
        self.returncode = None

    def kill(self):
        self.send_signal(signal.SIGKILL)

    def send_signal(self, number):
        """Send a signal to the process; nothing happens where it has ended, as with `subprocess.Popen`."""
        with contextlib.suppress(ProcessLookupError):  # it may end at any moment
            if self.poll() is None:
                os.kill(self.pid, number)

    def poll(self):
        """The exit status, negative for the signal that ended the process; None while it runs."""
        if self.returncode is None and select.select([self._answers], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def wait(self):
        if self.returncode is None:
            self.returncode = os.waitstatus_to_exitcode(int(self._answers.recv(100)))
            self._answers.close()
        return self.returncode

    def output(self):
        """What it has written to stdout so far."""
        return os.pread(self._out.fileno(), 2**20, 0)

    def communicate(self):
        """What it wrote to stdout and to stderr, as text, once it has ended."""
        self.wait()
        texts = []
        for file in (self._out, self._err):
            with file:
                file.seek(0)
                texts.append(file.read().decode())
        return tuple(texts)


def start(script, *arguments, cwd=None, env=None):
    """Start a script as `python script arguments...`; returns the `Process`."""
    command = list(map(str, (script, *arguments)))
    return Process(command, cwd or os.getcwd(), dict(os.environ if env is None else env))


def run(script, *arguments, cwd=None, env=None):
    """Run a script to its end; returns what `subprocess.run(..., capture_output=True, text=True)` does."""
    process = start(script, *arguments, cwd=cwd, env=env)
    out, err = process.communicate()
    return subprocess.CompletedProcess([sys.executable, *process.args], process.returncode, out, err)


def free_port():
    """A port of this machine that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def run_together(count, script, *arguments, cwd=None, env=None):
    """Run a script in `count` processes that meet, as torchrun starts them; the first that fails ends the others.

    Returns what `run` does: the first status that is not 0, and what the processes wrote, one behind the other.
    """
    variables = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    environment = dict(os.environ if env is None else env) | variables
    ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]
    started = [start(script, *arguments, cwd=cwd, env=environment | rank) for rank in ranks]
    running, status = list(started), 0
    while running:
        # As torchrun does: half a minute to end in, and then no more.
        ended, _, _ = select.select([process._answers for process in running], [], [], 30 if status else None)
        if not ended:
            for process in running:
                process.kill()
        running = [process for process in running if process.poll() is None]
        failed = [process.returncode for process in started if process.returncode]
        if failed and not status:
            status = failed[0]
            for process in running:
                process.send_signal(signal.SIGTERM)
    out, err = map("".join, zip(*(process.communicate() for process in started)))
    return subprocess.CompletedProcess([sys.executable, *started[0].args], status, out, err)


def torchrun(count, script, *arguments, restarts=0, env=None):
    """Run a script in `count` processes by torchrun itself, which takes seconds; returns what `run` does."""
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", count)
    command = list(map(str, (*launcher, "--max_restarts", restarts, script, *arguments)))
    return subprocess.run(command, capture_output=True, text=True, env=env)


@functools.cache
def _server():
    """The socket to ask for processes; the process behind it ends with this one."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        command = [sys.executable, __file__, str(theirs.fileno())]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        nothing = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
        subprocess.Popen(command, pass_fds=[theirs.fileno()], env=environment, cwd=ROOT, **nothing)
    atexit.register(ours.close)
    return ours


def _serve(requests):
    """Fork a process for every request. Returns, in that process alone, the command it is to run."""
    while True:
        message, descriptors, _, _ = socket.recv_fds(requests, 2**20, 4)
        if not message:
            sys.exit()
        if os.fork() == 0:
            requests.close()
            return _become(json.loads(message), *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        with contextlib.suppress(ChildProcessError):  # those that have told how their process ended
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _become(request, answers, *standard):
    """Fork once more: the first process waits for the second and tells how it ended, the second becomes the script."""
    child = os.fork()
    if child:
        for descriptor in standard:
            os.close(descriptor)
        os.write(answers, str(child).encode())
        os.write(answers, str(os.waitpid(child, 0)[1]).encode())
        os._exit(0)
    os.close(answers)
    for number, descriptor in enumerate(standard):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = request["command"]
    sys.path[0] = str(Path(sys.argv[0]).resolve().parent)
    # A process that was launched would have its own, too.
    random.seed()
    sys.modules["numpy"].random.seed()
    return sys.argv[0]


_leave_with = []  # the exit status of a script that has ended


def _run(script):
    """Run the script, and note how it ends; Ctrl-C ends it in the interpreter's own way."""
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        _leave_with.append(end.code if isinstance(end.code, int) else int(end.code is not None))
        raise
    except Exception:
        _leave_with.append(1)
        raise
    _leave_with.append(0)


def _leave():
    """End here, when errors are told, threads have ended and all functions that are registered later were called."""
    if _leave_with:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(_leave_with[0])


if __name__ == "__main__":
    atexit.register(_leave)
    socket_to_serve = socket.socket(fileno=int(sys.argv[1]))
    os.environ.setdefault("MPLBACKEND", "Agg")
    for name in LIBRARIES:
        importlib.import_module(name)
    # Nothing that is here now is looked at again by a child's garbage collection, so its pages stay shared.
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    script = _serve(socket_to_serve)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _run(script)
