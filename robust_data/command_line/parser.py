"""The parser of every script, and how a script runs: wrong input ends in one line on stderr and exit status 2."""

from __future__ import annotations

import argparse
import contextlib
import errno
import io
import os
import signal
import sys
import traceback
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from robust_data.command_line import config, older, without_effect
from robust_data.registry import InputError, nearest, one_line, shown
from robust_data.settings import switch
from robust_data.train import launch
from robust_data.train.launch import Interrupted

WRONG_USE = 2
# What other programs call our options, as far as the letters do not tell.
ELSEWHERE = {
    **dict.fromkeys(("batch_size", "train_batch_size", "per_device_train_batch_size"), "bsz"),
    **dict.fromkeys(("eval_batch_size", "per_device_eval_batch_size"), "eval_size"),
    **dict.fromkeys(("num_epochs", "num_train_epochs", "max_epochs"), "epochs"),
    "learning_rate": "lr",
}
# What else than MemoryError the libraries raise where there is too little memory.
TOO_LITTLE_MEMORY = ("out of memory", "can't allocate memory", "Storage size calculation overflowed")


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Shows each default, but for None, which the help text puts in words, and command lines as they are."""

    def _get_help_string(self, action: argparse.Action) -> str:
        hide = action.default is None or isinstance(action.default, bool)
        return action.help or "" if hide else super()._get_help_string(action)

    def _metavar_formatter(self, action: argparse.Action, default_metavar: str):
        # The number types say what they take in words; a metavar in capitals would repeat the option's name.
        default_metavar = "0|1" if action.type is switch else "N" if action.type is not None else default_metavar
        return super()._metavar_formatter(action, default_metavar)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        fill = super()._fill_text
        parts = (part.strip() for part in text.split("\n\n"))
        return "\n\n".join(
            part if part.startswith(("python ", "robust-data ")) else fill(part, width, indent) for part in parts
        )


class _Store(argparse._StoreAction):
    """Keeps an option's value; the values of one that takes several add up where the line has it more than once."""

    def __call__(self, parser, namespace, values, option_string=None):
        if self.option_strings and self.nargs in ("+", "*"):
            values = [*parser.listed.get(self.dest, ()), *values]
            parser.listed[self.dest] = values
        super().__call__(parser, namespace, values, option_string)


class Parser(argparse.ArgumentParser):
    """A parser that shows defaults in --help and answers a mistake with one line and exit status 2.

    most_used: the names of options that --help shows first.
    """

    def __init__(self, most_used: Sequence[str] = (), **options: Any):
        super().__init__(formatter_class=_Help, allow_abbrev=False, **options)
        self._most_used = most_used
        self.register("action", None, _Store)
        # What the line that is being read has given so far to the options that take several values.
        self.listed: dict[str, list[Any]] = {}
        # The file of arguments that is being read instead of the command line.
        self._reading: str | None = None

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> argparse.Namespace:
        args = self._sound(sys.argv[1:] if args is None else args)
        namespace = self._configured(args) if namespace is None else namespace
        # An option of the older scripts has no default of its own.
        own = [action for action in self._actions if action.default is not argparse.SUPPRESS]
        before = {action.dest: action.default for action in own} | vars(namespace)
        recorded = {*vars(namespace)}
        parsed = self._parse(args, namespace)
        for name in config.settled_by(args, self) & recorded:
            before[name] = self.get_default(name)
            setattr(parsed, name, before[name])
        older.settle(self, parsed)
        vars(parsed).pop("config", None)
        without_effect.tell(parsed, {name for name, value in vars(parsed).items() if value != before.get(name)})
        return parsed

    def format_help(self) -> str:
        """What the script is for, the options that a newcomer needs, and all others by their groups."""
        help = self._get_formatter()
        needed = [action for action in self._actions if action.required]
        others = argparse.Action([], "options", metavar="[options]")
        help.add_usage(self.usage, [*needed, others], [])
        help.add_text(self.description)
        named = {action.dest: action for action in self._actions if action.dest in self._most_used}
        first = [named[name] for name in self._most_used]
        rest = [
            (group.title, [one for one in group._group_actions if one not in first]) for group in self._action_groups
        ]
        for title, actions in [("most used", first), *rest]:
            help.start_section(title)
            help.add_arguments(actions)
            help.end_section()
        return help.format_help()

    def _sound(self, line: Sequence[str]) -> Sequence[str]:
        """The line itself, once none of its words has a fault."""
        for word in line:
            if fault := fault_of(word):
                self.error(f"argument {ascii(word)[1:-1][:100]} {fault}")
        return line

    def _parse(self, line: Sequence[str], namespace: argparse.Namespace) -> argparse.Namespace:
        self.listed = {}
        parsed, unknown = self.parse_known_args(line, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}{self._nearest(unknown)}")
        return parsed

    def _nearest(self, unknown: Sequence[str]) -> str:
        """The option that the first unknown one most likely means, in words; nothing where none is unknown."""
        own = self._option_string_actions.items()
        names = {name: name for name, action in own if name.startswith("--") and action.help is not argparse.SUPPRESS}
        names |= {f"--{word}": f"--{name}" for word, name in ELSEWHERE.items() if f"--{name}" in names}
        asked = next((word.partition("=")[0] for word in unknown if word.startswith("--")), None)
        return "" if asked is None else f"; nearest: {names[nearest(asked, names, 1)[0]]}"

    def _get_value(self, action: argparse.Action, text: str) -> Any:
        """The value of a text; what its type says of a wrong one is told as it is."""
        try:
            return (action.type or str)(text)
        except ValueError as error:
            raise argparse.ArgumentError(action, str(error)) from None

    def _configured(self, line: Sequence[str]) -> argparse.Namespace:
        """The arguments of the file that --config names; what it gives need not be on the line."""
        name = config.named_on(line) if "--config" in self._option_string_actions else None
        if name is None:
            return argparse.Namespace()
        required = [action for action in self._actions if action.required]
        for action in required:
            action.required = False
        try:
            self._reading = name
            recorded = self._parse(self._sound(config.words(self, name)), argparse.Namespace())
        finally:
            self._reading = None
            for action in required:
                action.required = True
        for action in required:
            action.required = getattr(recorded, action.dest, None) is None
        return recorded

    def error(self, message: str) -> NoReturn:
        message = message if self._reading is None else f"--config {self._reading}: {message}"
        print(f"{self.prog}: error: {shown(message)}", file=sys.stderr)
        raise SystemExit(WRONG_USE)


def fault_of(argument: str) -> str | None:
    """What is wrong with one argument of a command line, whichever option it belongs to; None if nothing is."""
    if any(unicodedata.category(character) == "Cs" for character in argument):
        return "is not in UTF-8; rename the file or folder that it names"
    if any(unicodedata.category(character) == "Cc" for character in argument):
        return "holds a line break or another control character; leave it out"
    # argparse takes the value away, and hands on an empty list.
    if argument.startswith("--") and argument.endswith("=--"):
        return "has no value; give one"
    return None


def run_script(parser: Parser, main: Callable[[argparse.Namespace], None]) -> None:
    """Parse the command line and call `main`; wrong input ends in one line on stderr and exit status 2.

    A run that a signal stopped exits with 128 plus the signal's number. A run whose output has lost its reader still
    does its work, and then exits as if SIGPIPE had stopped it. With several processes, the first one that fails
    reports, with its rank.
    """
    launch.end_with_launcher()
    if launch.process_count() == 1:
        _run(parser, main)
        return
    try:
        _run(parser, main)
    except SystemExit as exit:
        launch.leave(exit.code or 0)
    launch.leave(0)


def _run(parser: Parser, main: Callable[[argparse.Namespace], None]) -> None:
    """Call `main`; an exception becomes a report and a SystemExit. A fault of ours in a single process is raised."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # as stderr: what the terminal's encoding lacks ends no run
        sys.stdout.reconfigure(errors="backslashreplace")
    output = _Output(sys.stdout)
    try:
        with contextlib.redirect_stdout(output):
            try:
                args = parser.parse_args()
                launch.check_environment()
                main(args)
            finally:
                output.flush()
    except launch.NotMet as error:
        print(f"{parser.prog}: error: {shown(error)}", file=sys.stderr)
        raise SystemExit(WRONG_USE) from None
    except InputError as error:
        _report(parser, f"error: {shown(error)}")
        raise SystemExit(WRONG_USE) from None
    except Interrupted as error:
        _report(parser, f"{error}; the same command continues")
        raise SystemExit(128 + error.signal_number) from None
    except KeyboardInterrupt:
        # Nothing was saved: only a run that `resume.stop_requests` stopped can promise to continue.
        _report(parser, "interrupted")
        raise SystemExit(128 + signal.SIGINT) from None
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            _report(parser, f"error: {error.strerror}; make room and give the same command again")
            raise SystemExit(WRONG_USE) from None
        if isinstance(error, OSError) and error.filename is not None:
            shortened = one_line(os.fsdecode(error.filename), 200) if isinstance(error.filename, str | bytes) else ""
            _report(parser, f"error: {error.strerror}: {shortened}; name another, or see to its permissions")
            raise SystemExit(WRONG_USE) from None
        if isinstance(error, MemoryError) or any(words in str(error) for words in TOO_LITTLE_MEMORY):
            reason = one_line(error, 300) or "no more is free"
            _report(parser, f"error: too little memory ({reason}); give smaller batches, images or numbers")
            raise SystemExit(WRONG_USE) from None
        if launch.process_count() == 1:
            raise
        _report(parser, f"failed:\n{traceback.format_exc()}")
        raise SystemExit(1) from None
    if isinstance(output.failure, BrokenPipeError):
        raise SystemExit(128 + signal.SIGPIPE)
    if output.failure is not None:
        reason = output.failure.strerror or output.failure
        _report(parser, f"error: what was printed could not be written ({reason}); the files are complete")
        raise SystemExit(WRONG_USE)


class _Output:
    """Standard output that may fail while the work goes on: the rest of the text is lost, and `failure` tells why."""

    def __init__(self, stream: Any):
        self._stream = stream
        self.failure: OSError | None = None

    def write(self, text: str) -> int:
        self._attempt(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        self._attempt(self._stream.flush)

    def _attempt(self, action: Callable[[], Any]) -> None:
        if self.failure is not None:
            return
        try:
            action()
        except OSError as error:
            self.failure = error
            # Python would try to write what is left, and complain, once more at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _report(parser: Parser, message: str) -> None:
    """Print to stderr. With several processes, only the first one that fails prints, with its rank."""
    if launch.process_count() > 1:
        from robust_data.train import distributed

        if not distributed.first_to_fail():
            return
        message = f"rank {os.environ['RANK']}: {message}"
    with contextlib.suppress(OSError):  # the terminal is gone, for example
        print(f"{parser.prog}: {message}", file=sys.stderr)
