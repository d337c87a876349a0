"""What all figures share: matplotlib without a screen, how a figure is saved, titles and names for several files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robust_data import files
from robust_data.analysis.metadata import HEADLINE, facts
from robust_data.registry import printable

# What figures are annotated with: matplotlib takes a second to import.
if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
else:
    Axes = Figure = Any

# Of the name of a file; leaves room for a suffix such as .png.
LONGEST_NAME = 240


def pyplot() -> Any:
    """matplotlib.pyplot, drawing to files; imported at the first figure, since it takes a second."""
    # A notebook hands its own backend down, and one that is not installed ends the import.
    os.environ["MPLBACKEND"] = "Agg"
    import matplotlib

    matplotlib.use("Agg")
    # Names are drawn letter by letter, whatever mathematics their marks would be.
    matplotlib.rcParams.update({"text.usetex": False, "text.parse_math": False})
    import matplotlib.pyplot

    return matplotlib.pyplot


def save_figure(figure: Figure, stem: Path) -> list[Path]:
    """Write the figure as PNG and PDF, atomically; returns both paths. Raises InputError if that fails."""
    paths = []
    for suffix in ("png", "pdf"):
        # Not with_suffix, which would cut a name at the point of its learning rate.
        path = stem.with_name(f"{stem.name}.{suffix}")
        with files.atomic_write(path) as file:
            # Without a date in it the same map is the same file.
            figure.savefig(file, format=suffix, dpi=150, metadata={"CreationDate": None} if suffix == "pdf" else None)
        paths.append(path)
    pyplot().close(figure)
    return paths


def panel_titles(opened: Sequence[tuple[Path, Mapping[str, Any]]]) -> tuple[str, list[str]]:
    """What several statistics files have in common, and a title for each that says how it differs from the others.

    opened: path and metadata of each. The common part is empty where nothing is known. If two files have the same
    metadata, the titles add the folders, then the names of the files.
    """
    known = [facts(metadata) for _, metadata in opened]
    names = dict.fromkeys([*HEADLINE, *(name for one in known for name in one)])
    differing = [name for name in names if len({one.get(name) for one in known}) > 1]
    common = ", ".join(known[0][name] for name in HEADLINE if name in known[0] and name not in differing)
    parts = [[one[name] for name in differing if name in one] for one in known]
    for place in (lambda path: path.absolute().parent.name, lambda path: path.stem, str):
        titles = [", ".join(part) for part in parts]
        if len(set(titles)) == len(titles) and all(titles):
            break
        for part, (path, _) in zip(parts, opened):
            part.append(printable(place(path)))
    return common, [", ".join(part) for part in parts]


def distinct_parts(names: Sequence[str], separator: str = "_") -> dict[str, str]:
    """A short name for each name: no part that all names share, and no more parts than make the short names differ.

    The parts lie between separators. In the name of a run all that stands before `_model`, the script, is one part.
    """
    return dict(zip(names, map(separator.join, _distinct([_parts(name, separator) for name in names]))))


def _parts(name: str, separator: str) -> list[str]:
    script, found, rest = name.partition(f"{separator}model")
    return [script, *f"model{rest}".split(separator)] if found else name.split(separator)


def _distinct(names: Sequence[list[str]]) -> list[list[str]]:
    """The parts that `distinct_parts` keeps of each name, a list of parts; all parts of a single name."""
    if len(names) == 1:
        return [*names]
    common = set.intersection(*map(set, names))
    own = [[part for part in name if part not in common] for name in names]
    alike: dict[str, list[int]] = {}
    for number, parts in enumerate(own):
        alike.setdefault(parts[0] if parts else "", []).append(number)
    kept = [parts[:1] or name[:1] for parts, name in zip(own, names)]
    if len(alike) == 1:  # the names differ only in the order of their parts
        return [*names]
    for numbers in alike.values():
        if len(numbers) > 1:
            for number, more in zip(numbers, _distinct([own[number][1:] or own[number] for number in numbers])):
                kept[number] = kept[number] + more
    return kept if len(set(map(tuple, kept))) == len(kept) else [*names]


def joined_name(stem: str, paths: Sequence[Path]) -> str:
    """A name for what is made of several files: the parts in which their names differ, and a hash of their paths."""
    names = [path.stem for path in paths]
    if len(set(names)) < len(names):
        names = [path.absolute().parent.name for path in paths]
    short = distinct_parts(list(dict.fromkeys(names)))
    places = "\n".join(os.path.relpath(path, paths[0].parent) for path in paths)
    digest = hashlib.sha256(places.encode()).hexdigest()[:6]
    return "_".join([stem, *(short[name] for name in names), digest])


def fitted(name: str) -> str:
    """The name of a figure without its suffix, shortened if it is too long for a file system."""
    return files.fitting(name, LONGEST_NAME)
