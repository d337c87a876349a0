"""Scripts as processes of their own, quickly: forked from a server that has imported the slow libraries already.

A forked process is a real one, with real signals, exit statuses, output and files; it begins where the interpreter
would call the script, imports all of the project itself, and ends where the interpreter would take down its modules.
Only that of the libraries falls away, which takes seconds before and half a second behind a script. A forked process
shares the hash seed of the process that it comes from, so runs of one test session agree on the order of sets:
`test_processes.py` compares a forked run with a launched one.
"""

import atexit
import contextlib
import functools
import multiprocessing
import os
import random
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from multiprocessing import connection
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIBRARIES = (
    *("torch", "torch.distributed", "torchvision", "torchvision.models", "transformers", "matplotlib.pyplot"),
    *("PIL.Image", "numpy", "sklearn.datasets", "safetensors.torch", "tqdm"),
)


@functools.cache
def _server():
    """What forks processes, and the path on which a script of its own finds modules but for those of its folder."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*LIBRARIES])
    told = subprocess.run([sys.executable, "-c", "import sys; print(*sys.path[1:], sep='\\n')"], capture_output=True)
    return context, told.stdout.decode().splitlines()


class Process:
    """A script that runs, as `subprocess.Popen` has it; what it writes is read when it has ended."""

    def __init__(self, command, cwd, environment):
        self.args = command
        self._files = tempfile.NamedTemporaryFile(), tempfile.NamedTemporaryFile()
        context, path = _server()
        given = (command, str(cwd), environment, path, [file.name for file in self._files])
        self._process = context.Process(target=_become, args=given)
        self._process.start()
        self.pid, self.sentinel = self._process.pid, self._process.sentinel

    @property
    def returncode(self):
        """The exit status, negative for the signal that ended the process; None while it runs."""
        return self._process.exitcode

    def kill(self):
        self.send_signal(signal.SIGKILL)

    def send_signal(self, number):
        """Send a signal to the process; nothing happens where it has ended, as with `subprocess.Popen`."""
        with contextlib.suppress(ProcessLookupError):  # it may end at any moment
            if self.returncode is None:
                os.kill(self.pid, number)

    def wait(self):
        self._process.join()
        return self.returncode

    def communicate(self):
        """What it wrote to stdout and to stderr, as text, once it has ended."""
        self.wait()
        texts = [Path(file.name).read_bytes().decode() for file in self._files]
        for file in self._files:
            file.close()
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
        ended = connection.wait([process.sentinel for process in running], 30 if status else None)
        if not ended:
            for process in running:
                process.kill()
        running = [process for process in running if process.returncode is None]
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


def _become(command, cwd, environment, path, outputs):
    """In the fork: run the script, and end, as the interpreter does."""
    for number, name in enumerate(outputs, 1):
        os.dup2(os.open(name, os.O_WRONLY | os.O_APPEND), number)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    multiprocessing.set_start_method(None, force=True)
    sys.argv, sys.path[:] = command, [str(Path(command[0]).resolve().parent), *path]
    # A process that was launched would have its own, too.
    random.seed()
    sys.modules["numpy"].random.seed()
    status = 0
    try:
        runpy.run_path(command[0], run_name="__main__")
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if not isinstance(end.code, int | None):
            print(end.code, file=sys.stderr)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except Exception:
        sys.excepthook(*sys.exc_info())
        status = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
