"""Scripts called in this process with whatever a user may type, and files that are damaged in every way.

`call` runs a script as the shell would, up to where its work begins, and `trial` says what is wrong with how that or a
reader ended: it does its work, or ends with status 2 and one line, changes nothing outside its folder, and leaves no
half-written file behind. `ruined` damages the bytes of a file.
"""

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

from disk import fenced

from robust_data import registry
from robust_data.command_line.parser import run_script

ROOT = Path(__file__).resolve().parent.parent
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
ADVICE_OF_LIBRARIES = ("allow_pickle", "weights_only", "trust_remote_code", "Traceback")
UNTYPED = (None, [], {}, "x", "", -1, 0, 2**70, 1e308, True, [None], [[]], {"a": 1}, "9" * 5000, "\udcff", "a\nb")
REPLACED = (b"", b"\0", b"null", b"[]", b"{}", b"[" * 100_000, b'{"a":' * 10_000, b"\xff" * 99, b"\n", b",nan,,9e999\n")


class Reached(BaseException):
    """The script has come to where its work begins: devices, data, models."""


def scripts():
    """Every script that has a parser, by its path within the project."""
    found = [path for pattern in ("*.py", "[!t]*/*.py") for path in ROOT.glob(pattern)]
    return sorted(str(path.relative_to(ROOT)) for path in found if "\ndef build_parser" in path.read_text())


@functools.cache
def script(name):
    """A script as a module, and its parser."""
    with mock.patch.object(sys, "path", [*sys.path]):
        module = importlib.import_module("robust_data." + name.removesuffix(".py").replace("/", "."))
    return module, module.build_parser()


def options(name):
    """The options of a script, without --help; those of the older scripts, too."""
    _, parser = script(name)
    return sorted({action.option_strings[-1] for action in parser._actions if action.option_strings} - {"--help"})


def call(name, *arguments, until=None):
    """Call a script as from the shell; returns its exit status, None for a traceback, its stdout and its stderr.

    until: what is not to be called, by its path as `mock.patch` takes it; the script is then done, as with status 0.
    """
    module, parser = script(name)
    if "--config" in arguments:  # the file decides what the line must still give
        parser = module.build_parser()
    out, status = io.StringIO(), 0
    with contextlib.ExitStack() as stack:
        if until:
            stack.enter_context(mock.patch(until, side_effect=Reached))
        stack.enter_context(mock.patch.object(sys, "argv", [str(ROOT / name), *map(str, arguments)]))
        stack.enter_context(contextlib.redirect_stdout(out))
        err = stack.enter_context(_heard())
        try:
            run_script(parser, module.main)
        except SystemExit as exit:
            status = exit.code or 0
        except Reached:
            pass
        except Exception:
            status = None
            err.write(traceback.format_exc())
    return status, out.getvalue(), err.getvalue()


@contextlib.contextmanager
def _heard():
    """What users would see on stderr, also of warnings of Python and of transformers."""
    registry.warn_once.cache_clear()
    err = io.StringIO()
    handler, logger = logging.StreamHandler(err), logging.getLogger("transformers")
    with contextlib.redirect_stderr(err), warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", RuntimeWarning)
        warnings.filterwarnings("ignore", "This DataLoader will create")  # of torch, on a machine of few cores
        logger.addHandler(handler)
        try:
            yield err
        finally:
            logger.removeHandler(handler)
            err.write("".join(f"{warning.category.__name__}: {warning.message}\n" for warning in warned))


def run(name, *arguments, until=None, named=""):
    """As `call`; returns whether the script refused what it got, and what is wrong with how, None if nothing is.

    named: what an error must name.
    """
    status, _, err = call(name, *arguments, until=until)
    errors = [line for line in err.splitlines() if not line.startswith(SAID)]
    if status not in (0, 2) or len(errors) != (status == 2) or (errors and ": error: " not in errors[0]):
        return True, f"status {status}: {err[-3000:]}"
    if errors and named not in errors[0]:
        return True, f"{named} is not named: {err}"
    if any(len(line) > registry.LONGEST_LINE + 100 for line in err.splitlines()):
        return True, f"a long line: {err[:300]}"
    return status == 2, _advice(err)


def read(reader):
    """Call a reader; returns what `run` does."""
    try:
        with _heard() as err:
            reader()
    except registry.InputError as error:
        return True, f"not one line: {error}" if "\n" in str(error) else _advice(str(error))
    except Exception:
        return True, traceback.format_exc()[-3000:]
    others = [line for line in err.getvalue().splitlines() if not line.startswith(SAID)]
    return False, f"said {others}" if others else None


def _advice(message):
    return f"advice of a library: {message}" if any(word in message for word in ADVICE_OF_LIBRARIES) else None


def trial(ground, action, unpacks=False):
    """What `action` returns, see `run`, which is also wrong if it leaves or changes files that it should not.

    ground: the folder of all good files. unpacks: whether files may come before it is known what they hold.
    """
    before = _listing(ground)
    with fenced(ground):
        refused, fault = action()
    after = _listing(ground)
    left = [path for path in after.keys() - before.keys() if path.endswith(LEFT_BEHIND) or "/.download" in path]
    for name in {*os.listdir(ground)} - {path[len(str(ground)) + 1 :].split(os.sep)[0] for path in before}:
        shutil.rmtree(ground / name) if (ground / name).is_dir() else (ground / name).unlink()
    for path in _listing(ground).keys() - before.keys():
        os.unlink(path)
    if refused and after != before and not unpacks:
        fault = fault or "files were written or changed"
    return refused, fault or (f"left behind: {left}" if left else None)


def _listing(folder):
    """The files below a folder, by their path: size and time."""
    found = {}
    for parent, folders, names in os.walk(folder):
        # A value may be a path of hundreds of folders.
        folders[:] = folders if len(parent) < len(str(folder)) + 100 else []
        found |= {os.path.join(parent, name): os.lstat(os.path.join(parent, name)) for name in names}
    return {path: (about.st_size, about.st_mtime_ns) for path, about in found.items()}


def ruined(content, draw):
    """The bytes of a file, cut short, with bits flipped, lengthened, or replaced; JSON wrongly typed."""
    damaged = bytearray(content)
    place = draw.randrange(min(len(damaged), draw.choice((200, len(damaged)))) or 1)
    how = draw.choice(("cut", "flip", "insert", "replace", "retype", "retype", "retype"))
    if how == "cut":
        return bytes(damaged[:place])
    if how == "insert":
        return bytes(damaged[:place] + draw.randbytes(draw.randrange(1, 50)) + damaged[place:])
    if how == "replace":
        return draw.choice(REPLACED)
    lines = content.splitlines()
    for whole in ([content], lines) if how == "retype" else ():
        number = draw.randrange(len(whole) or 1)
        with contextlib.suppress(ValueError, IndexError):
            whole[number] = _retyped(json.loads(whole[number]), draw)
            return b"\n".join(whole)
    for _ in range(draw.choice((1, 3, 20))):
        if damaged:
            damaged[place] ^= 1 << draw.randrange(8)
            place = draw.randrange(len(damaged))
    return bytes(damaged)


def _retyped(content, draw):
    """JSON in which something has another type or is missing."""
    places = []

    def visit(part):
        if isinstance(part, dict | list):
            for key in list(part) if isinstance(part, dict) else range(len(part)):
                places.append((part, key))
                visit(part[key])

    visit(content)
    if places:
        part, key = draw.choice(places)
        if draw.random() < 0.2:
            del part[key]
        else:
            part[key] = draw.choice(UNTYPED)
    return json.dumps(content).encode("utf-8", "surrogatepass")


def draws(*seed):
    """Random numbers of their own for each file and each time."""
    return random.Random(repr(seed))
