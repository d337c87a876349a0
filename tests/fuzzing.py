"""Scripts called in this process with whatever a user may type, and files that are damaged in every way.

`call` runs a script as the shell would, up to where its work begins, and `complaint` says what is wrong with how it
ended: a script does its work, or ends with status 2 and one line, and leaves no half-written file behind. `ruined`
damages the bytes of a file. `fenced` lets nothing be written outside a folder, whatever the values ask for.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import json
import logging
import os
import random
import shutil
import sys
import traceback
import warnings
from pathlib import Path
from unittest import mock

import registry
from registry import LONGEST_LINE
from robust_data.command_line.parser import run_script

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = (".", "plot_utils", "scripts", "study", "new_fine_tune_flooding", "benchmarks")
# What is called where the work of a script begins, beside its own `main` where that is all work.
DEVICE, MODEL, FIGURE = "robust_data.train.building.prepare_device", "models.build", "matplotlib.use"
# None of them is a path that leads out of the folder in which the scripts are called.
NASTY = (
    *("", " ", "--", "-", "a\nb", "a\rb", "\udcff", "\0", "\u202e", "\x1b[31m", "\u00e4\u20ac", "\ufeff"),
    *("-1", "-2", "0", "1", "-0.0", "00", "1e400", "1e-400", "nan", "-inf", "inf", "1e308", "0x10", "\u0663", "1_0"),
    *("1/0", "0.5", "2147483648", "9" * 20, "9" * 5000, "1" + "0" * 400, "1,2", "True", "none", "null"),
    *(".", "a/b", "x" * 300, "b/" * 2500, "~nobody", "$x_{", "=1+1", "*", "[", "\\", "{}", "{seed}", "%s", "%(x)s"),
)
# What a writer leaves that did not end.
LEFT_BEHIND = (".partial", ".lock", ".softlock", ".tmp", ".old")
# What a line on stderr that is no error begins with.
SAID = ("warning: ", "drawing the newest statistics file", "CPU with ")
UNTYPED = (None, [], {}, "x", "", -1, 0, 2**70, 1e308, True, [None], [[]], {"a": 1}, "9" * 5000, "\udcff", "a\nb")


class Reached(BaseException):
    """The script has come to where its work begins: devices, data, models."""


def scripts():
    """Every script that has a parser, by its path within the project."""
    found = [path for folder in FOLDERS for path in (ROOT / folder).glob("*.py")]
    return sorted(str(path.relative_to(ROOT)) for path in found if "\ndef build_parser" in path.read_text())


@functools.cache
def script(name):
    """A script as a module, and its parser."""
    with mock.patch.object(sys, "path", [*sys.path]):
        module = importlib.import_module(name.removesuffix(".py").replace("/", "."))
    return module, module.build_parser()


def options(name):
    """The options of a script, without --help; those of the older scripts, too."""
    _, parser = script(name)
    return sorted({action.option_strings[-1] for action in parser._actions if action.option_strings} - {"--help"})


def call(name, *arguments, work=()):
    """Call a script as from the shell; returns its exit status, None for a traceback, its stdout and its stderr.

    work: what is not to be called, by its path as `mock.patch` takes it; the script is then done, as with status 0.
    """
    out, err = io.StringIO(), io.StringIO()
    registry.warn_once.cache_clear()
    module, parser = script(name)
    if "--config" in arguments:  # the file decides what the line must still give
        parser = module.build_parser()
    with contextlib.ExitStack() as stack:
        for target in work:
            stack.enter_context(mock.patch(target, side_effect=Reached))
        stack.enter_context(mock.patch.object(sys, "argv", [str(ROOT / name), *map(str, arguments)]))
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(err))
        stack.enter_context(_remarks_of_libraries(err))
        try:
            run_script(parser, module.main)
            status = 0
        except SystemExit as exit:
            status = exit.code or 0
        except Reached:
            status = 0
        except Exception:
            status = None
            err.write(traceback.format_exc())
    return status, out.getvalue(), err.getvalue()


def complaint(status, err):
    """What is wrong with how a script ended, in a few words; None if nothing is."""
    lines = err.splitlines()
    errors = [line for line in lines if not line.startswith(SAID)]
    if status not in (0, 2):
        return f"status {status}: {err[-3000:]}"
    if len(errors) != (status == 2) or (errors and ": error: " not in errors[0]):
        return f"status {status}, not one line: {err[-3000:]}"
    if any(len(line) > LONGEST_LINE + 100 for line in lines):
        return f"a line of {max(map(len, lines))} characters: {err[:300]}"
    return _complaint_of(err)


def _complaint_of(message):
    """What is wrong with the text of an error."""
    if any(word in message for word in ("allow_pickle", "weights_only", "trust_remote_code", "Traceback")):
        return f"advice of a library: {message}"
    return None


def left_behind(folder, before):
    """The files of a writer that did not end, new since `before`, what `listing` gave; None if there are none."""
    new = listing(folder).keys() - before.keys()
    left = [path for path in new if path.endswith(LEFT_BEHIND) or "/.download" in path]
    return f"left behind: {left}" if left else None


def listing(folder):
    """The files below a folder, by their path within it: size and time."""
    found = {}
    for parent, folders, names in os.walk(folder):
        # A value may be a path of hundreds of folders.
        folders[:] = folders if len(parent) < len(str(folder)) + 100 else []
        found |= {os.path.join(parent, name): os.lstat(os.path.join(parent, name)) for name in names}
    return {path: (about.st_size, about.st_mtime_ns) for path, about in found.items()}


def restore(folder, before):
    """Remove what is new since `before`, what `listing` gave."""
    kept = {path[len(str(folder)) + 1 :].split(os.sep)[0] for path in before}
    for name in set(os.listdir(folder)) - kept:
        path = Path(folder, name)
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in listing(folder).keys() - before.keys():
        os.unlink(path)


def attempt(read):
    """Call a reader; returns whether it refused what it read, and what is wrong with how, None if nothing is."""
    registry.warn_once.cache_clear()
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), _remarks_of_libraries(said):
            read()
    except registry.InputError as error:
        message = str(error)
        return True, f"not one line: {message}" if "\n" in message else _complaint_of(message)
    except Exception:
        return True, traceback.format_exc()[-3000:]
    others = [line for line in said.getvalue().splitlines() if not line.startswith(SAID)]
    return False, f"said {others}" if others else None


@contextlib.contextmanager
def _remarks_of_libraries(stream):
    """Write to a stream what users would see of warnings of Python and of transformers."""
    handler, logger = logging.StreamHandler(stream), logging.getLogger("transformers")
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", RuntimeWarning)
        logger.addHandler(handler)
        try:
            yield
        finally:
            logger.removeHandler(handler)
            stream.write("".join(f"{warning.category.__name__}: {warning.message}\n" for warning in warned))


def ruined(content, draw):
    """The bytes of a file, cut short, with bits flipped, overwritten, lengthened, or replaced; JSON wrongly typed."""
    how = draw.choice(("cut", "flip", "flip many", "head", "insert", "replace", "swap", "retype", "retype", "retype"))
    damaged = bytearray(content)
    if how == "retype":
        return _retyped(content, draw)
    if how == "cut":
        return bytes(damaged[: draw.randrange(len(damaged) + 1)])
    if how == "insert":
        place = draw.randrange(len(damaged) + 1)
        return bytes(damaged[:place]) + draw.randbytes(draw.randrange(1, 50)) + bytes(damaged[place:])
    if how == "replace":
        return draw.choice((b"", b"\0", b"null", b"[]", b"{}", b"[" * 100_000, b'{"a":' * 10_000, b"\xff" * 99, b"\n"))
    for _ in range({"flip": 1, "flip many": 20, "head": 3, "swap": 1}[how]):
        if damaged:
            place = draw.randrange(min(len(damaged), 200) if how in ("head", "swap") else len(damaged))
            damaged[place] = draw.randrange(256) if how == "swap" else damaged[place] ^ (1 << draw.randrange(8))
    return bytes(damaged)


def _retyped(content, draw):
    """A JSON, or a line of several, in which something has another type or is missing; else a number is another."""
    lines = content.splitlines()
    try:
        whole = json.loads(content)
    except ValueError:
        whole = None
    if whole is None:
        place = draw.randrange(len(lines)) if lines else 0
        try:
            of_line = json.loads(lines[place])
        except (ValueError, IndexError):
            return _renumbered(content, draw)
        return b"\n".join([*lines[:place], _changed(of_line, draw), *lines[place + 1 :]]) + b"\n"
    return _changed(whole, draw)


def _changed(content, draw):
    places = []

    def visit(part):
        for key in list(part) if isinstance(part, dict) else range(len(part)):
            places.append((part, key))
            if isinstance(part[key], (dict, list)):
                visit(part[key])

    if isinstance(content, (dict, list)):
        visit(content)
    if places:
        part, key = draw.choice(places)
        if draw.random() < 0.2:
            del part[key]
        else:
            part[key] = draw.choice(UNTYPED)
    return json.dumps(content).encode("utf-8", "surrogatepass")


def _renumbered(content, draw):
    """The bytes with another number, word or nothing in the place of one of its cells."""
    cells = content.split(b",") if b"," in content else content.split(b" ")
    cells[draw.randrange(len(cells))] = draw.choice(
        (b"", b"nan", b"-1", b"1e400", b"x", b'"', b"9" * 400, b"\xff", b"\0")
    )
    return (b"," if b"," in content else b" ").join(cells)


_fences: list[str] = []
_outside: list[str] = []
CHANGING = {"os.rename": 2, "os.remove": 1, "os.mkdir": 1, "os.rmdir": 1, "os.truncate": 1, "os.chmod": 1, "os.link": 2}


def _watch(event, arguments):
    if not _fences or (event != "open" and event not in CHANGING):
        return
    if event == "open":
        path, _, flags = arguments
        writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        paths = [path] if writes and isinstance(path, (str, bytes)) and os.fsdecode(path) != os.devnull else []
    else:
        paths = arguments[: CHANGING[event]]
    for path in filter(lambda path: not isinstance(path, int), paths):
        real = os.path.realpath(os.fsdecode(path))
        if not real.startswith(_fences[-1] + os.sep) and real != _fences[-1] and "__pycache__" not in real:
            _outside.append(f"{event} {real}")
            raise PermissionError(1, "outside the folder of the test", real)


@functools.cache
def _watching():
    sys.addaudithook(_watch)  # for as long as the process lives, with nothing to do while there is no fence


@contextlib.contextmanager
def fenced(folder):
    """Refuse every change of a file outside a folder, and raise AssertionError in the end if one was tried."""
    _watching()
    _fences.append(os.path.realpath(folder))
    try:
        yield
    finally:
        _fences.pop()
        tried = [_outside.pop() for _ in range(len(_outside))]
    assert not tried, tried


def draws(*seed):
    """Random numbers of their own for each file and each time."""
    return random.Random(repr(seed))
