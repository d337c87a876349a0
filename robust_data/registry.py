"""What the catalogues of perturbations, datasets and models have in common: names, and their errors.

This module is the floor of the house: it imports the standard library alone, and `perturbations`,
`datasets`, `models` and `robust_data` all stand on it.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

_NOT_IN_UTF8 = re.compile("[\ud800-\udfff]")
# A longer line, with a path of thousands of characters in it, hides what it says.
LONGEST_LINE = 2000


class InputError(ValueError):
    """What the user gave cannot be used; the message is one line: argument, value, remedy."""


def printable(text: str) -> str:
    r"""A text as it is, but for what UTF-8 cannot hold: bytes of a file's name in another encoding, as \xe9."""
    return _NOT_IN_UTF8.sub(lambda found: _escaped(ord(found[0])), text)


def _escaped(code: int) -> str:
    # Python keeps the bytes 0x80..0xff of a name that is not UTF-8 at 0xdc80..0xdcff.
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"


def one_line(message: object, longest: int | None = None) -> str:
    """A text, such as an error's, on one line that every terminal can show, cut to a length."""
    text = " ".join(printable(str(message)).split())
    text = "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)
    return text if longest is None or len(text) <= longest else f"{text[: longest - 3]}..."


def shown(message: object) -> str:
    """A message on one line, cut in its middle where it is too long: what is wrong comes first, the remedy last."""
    text = one_line(message)
    half = (LONGEST_LINE - 5) // 2
    return text if len(text) <= LONGEST_LINE else f"{text[:half]} ... {text[-half:]}"


@functools.lru_cache
def warn_once(message: str) -> None:
    """One line on stderr that says it is a warning, the first time; of several processes from the main one alone."""
    if (os.environ.get("RANK") or "0") == "0":
        print(f"warning: {shown(message)}", file=sys.stderr)


def no_model_in(folder: str | os.PathLike) -> InputError:
    """What to say of a folder without a config.json; names the folders within it that have one."""
    within = sorted(path.parent.name for path in Path(folder).glob("*/config.json"))
    remedy = f"give {Path(folder) / within[0]}" if within else "give one that holds a saved model"
    return InputError(f"--model_name {folder} is incomplete: it holds no config.json; {remedy}")


def hub_options(name: str, argument: str = "--model_name") -> dict[str, Any]:
    """What every `from_pretrained` of transformers gets beside the name or folder of a model.

    Code that comes with a model is never run. A name is looked up once, without the retries of half a minute for each
    of a model's files that transformers makes on a machine without a network. Raises InputError for one that neither
    the Hugging Face hub nor its cache on this machine gives; it names the argument.
    """
    return {"trust_remote_code": False, "local_files_only": os.path.isdir(name) or not _is_on_hub(name, argument)}


@functools.lru_cache
def _is_on_hub(name: str, argument: str) -> bool:
    """Whether the hub has a model; False where it cannot be asked but the cache has it."""
    if name.count("/") > 1 or name.startswith((".", "/", "~")):
        raise InputError(f"{argument} {name}: there is no such folder; make it by training, or name another")
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    try:
        HfApi().model_info(name, timeout=10)
        return True
    except (RepositoryNotFoundError, HFValidationError):
        reason = "the Hugging Face hub shows no such model"
    except Exception as error:  # the libraries under the hub's raise whatever the network does to them
        if isinstance(try_to_load_from_cache(name, "config.json"), str):
            return False
        reason = f"not in the cache, and the hub cannot be reached ({' '.join(str(error).split())[:100]})"
    raise InputError(f"{argument} {name}: {reason}; connect to the network, or give a model's name or folder")


def nearest(name: str, names: Iterable[str], count: int = 3) -> list[str]:
    """The `count` names most like `name`, in either case of letters, best first."""
    spelled = {known.lower(): known for known in names}
    return [spelled[known] for known in difflib.get_close_matches(name.lower(), spelled, n=count, cutoff=0.0)]


class Registry(Mapping[str, Any]):
    """Entries by name; an unknown name is refused with the nearest ones.

    `kind` is the word for one entry in error messages, such as "dataset".
    """

    def __init__(self, kind: str):
        self.kind = kind
        self._entries: dict[str, Any] = {}
        self._aliases: dict[str, str] = {}

    def add(self, name: str, entry: Any, aliases: Iterable[str] = ()) -> None:
        for taken in (name, *aliases):
            if taken in self._entries or taken in self._aliases:
                raise ValueError(f"two {self.kind}s are registered as '{taken}'")
        self._entries[name] = entry
        self._aliases.update(dict.fromkeys(aliases, name))

    def canonical(self, name: str) -> str:
        """The name an alias stands for; a canonical name is its own. Raises InputError if unknown."""
        name = self._aliases.get(name, name)
        if name not in self._entries:
            raise InputError(f"unknown {self.kind} '{name}'; nearest: {', '.join(nearest(name, self))}")
        return name

    def __getitem__(self, name: str) -> Any:
        return self._entries[self.canonical(name)]

    def __contains__(self, name: object) -> bool:
        return name in self._entries or name in self._aliases

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


class LazyModule:
    """Stands for a module that takes seconds to import, and imports it at the first use.

    The catalogues must name their entries in `--help` at once, so they must not wait for torch.
    """

    def __init__(self, name: str):
        self._name = name

    @functools.cached_property
    def _module(self) -> ModuleType:
        return importlib.import_module(self._name)

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._module, attribute)
