"""The kept results of the study: the lines of rows.csv, and what is known of single instances."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path

import numpy as np

from robust_data.registry import InputError
from robust_data.study import kept
from robust_data.study.rows import VALIDATION, Row, rows

# The attacks whose mean is the primary endpoint: PGD of every size, cross-entropy, one start.
PRIMARY = re.compile(r"pgd linf [\d.]+|pgd \d+ x [\d.]+")
PRIMARY_ENDPOINT = "primary endpoint"
# Of the attacks of one size those that differ in how they search, and what an instance is under all of them.
SIZE = re.compile(r"linf [\d.]+|\d+ x [\d.]+")
WORST_OF_ATTACKS, WORST_OF_WHITE_BOX = "worst of all attacks", "worst of white-box attacks"
WORST_OF_WORDS = "worst of all attacks on words"
# By block: one whose replicates count with it once that is complete.
MORE_REPLICATES = {"text_arms": "seventh_text_arms"}
# By data: blocks of stronger attacks, and of such as were made on another arm's model.
# Of those of severity 3 what study 2's training on noise and blur has not seen.
UNSEEN = ("snow", "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression")
UNSEEN_CORRUPTIONS = "weather and digital corruptions"
USES = ("attacked", "corrupted", "left_out", "left_out_10")
CHECKS = {"images": ("checks", "half_checks"), "texts": ("checks", "mild_checks", "turned_checks", "turned_sweep")}


class Results:
    """The kept results in a folder."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.lines = {line["row"]: line for line in kept.read_rows(folder / "rows.csv")}
        self._right: dict[str, tuple[dict[str, np.ndarray], np.ndarray]] = {}
        if not self.lines:
            raise InputError(f"--results_dir {folder} has no rows.csv with a finished run; run.py makes it")

    @cached_property
    def planned(self) -> dict[str, list[Row]]:
        """The rows of the plan by data and block, as "images arms"."""
        found: dict[str, list[Row]] = {}
        for row in rows():
            found.setdefault(f"{row.data} {row.block}", []).append(row)
        return found

    def finished(self, block: str) -> tuple[int, int]:
        """How many runs of a block are finished, and how many are planned."""
        planned = self.planned[block]
        return sum(row.name in self.lines for row in planned), len(planned)

    def is_complete(self, block: str) -> bool:
        """Whether every run of the block is finished; else it decides nothing."""
        done, planned = self.finished(block)
        return done == planned

    def of_arm(self, data: str, block: str, arm: str) -> dict[int, dict[str, str]]:
        """The lines of an arm by replicate."""
        blocks, more = {block}, MORE_REPLICATES.get(block)
        if more is not None and self.is_complete(f"{data} {more}"):
            blocks.add(more)
        lines = (line for line in self.lines.values() if (line["data"], line["arm"]) == (data, arm))
        found = [line for line in lines if line["block"] in blocks]
        return {int(line["replicate"]): line for line in sorted(found, key=lambda line: int(line["replicate"]))}

    def right(self, line: dict[str, str]) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Which instances a model got right, float [N] by condition, NaN where not judged, and their labels [N]."""
        name = line["row"]
        if name not in self._right:
            with np.load(self.folder / "instances" / f"{name}.npz", allow_pickle=False) as found:
                labels = found["label"]
                right = np.unpackbits(found["right"], axis=1, count=len(labels)).astype(np.float64)
                if "missing" in found:
                    right[np.unpackbits(found["missing"], axis=1, count=len(labels)).astype(bool)] = np.nan
                self._right[name] = dict(zip(found["conditions"].tolist(), right)), labels
        return self._right[name]

    def endpoints(self, line: dict[str, str]) -> dict[str, np.ndarray]:
        """Every endpoint of every judged instance, float [n] in points, 0 to 100; the primary one comes first.

        Of `USES` also the worst of all attacks, and the corruptions that no training there has seen. Of `CHECKS` also
        the worst of all attacks by gradient, and of those made on the model itself: right under every
        attack of a size, the mean over sizes; and the worst of all attacks on words, which have no size.
        """
        right, _ = self.right(line)
        primary = tuple(filter(PRIMARY.fullmatch, right))
        parts = {PRIMARY_ENDPOINT: primary} if primary else {}
        parts |= {name: (name,) for name in right if not _corrupted(name)}
        corruptions = tuple(filter(_corrupted, right))
        parts |= {f"{len(corruptions)} corruptions": corruptions} if corruptions else {}
        found = {name: 100 * np.mean([right[one] for one in of], axis=0) for name, of in parts.items()}
        if line["block"] in (*CHECKS[line["data"]], *USES):
            own = [name for name in right if "made on" not in name]
            found[WORST_OF_WHITE_BOX] = 100 * _worst(right, own)
        if line["block"] in USES:
            found[UNSEEN_CORRUPTIONS] = 100 * np.mean([right[f"{name} 3"] for name in UNSEEN], axis=0)
        if line["block"] in CHECKS[line["data"]]:
            found[WORST_OF_ATTACKS] = 100 * _worst(right, [*right])
            if on_words := [right[name] for name in right if name.startswith("deepwordbug")]:
                found[WORST_OF_WORDS] = 100 * np.min(on_words, axis=0)
        return {name: values[~np.isnan(values)] for name, values in found.items()}

    def primary(self, line: dict[str, str]) -> np.ndarray:
        """The primary endpoint of every instance, float [N] in points, 0 to 100."""
        return self.endpoints(line)[PRIMARY_ENDPOINT]

    def worst_class(self, line: dict[str, str]) -> float:
        """The primary endpoint of the class in which it is lowest, in points."""
        of_instance, labels = self.primary(line), self.right(line)[1]
        return min(float(of_instance[labels == label].mean()) for label in np.unique(labels))

    def constant(self, data: str) -> float | None:
        """The accuracy of the best constant answer on the test instances, in percent; None where none is judged."""
        for line in self.lines.values():
            if line["data"] == data and line["replicate"] != str(VALIDATION) and line.get("clean"):
                labels = self.right(line)[1]
                return 100 * float(np.bincount(labels).max() / len(labels))
        return None

    def scores(self, data: str) -> dict[int, dict[str, np.ndarray]]:
        """The kept scores of every statistics run of the study, by replicate."""
        lines = self.of_arm(data, "statistics", "statistics")
        return {replicate: arrays(self.folder / "scores" / f"{line['row']}.npz") for replicate, line in lines.items()}


def _worst(right: dict[str, np.ndarray], names: list[str]) -> np.ndarray:
    """Which instances withstand every one of these attacks of a size: the mean over the sizes, 0 to 1 [N]."""
    by_size: dict[str, list[np.ndarray]] = {}
    for name in names:
        if size := SIZE.search(name):
            by_size.setdefault(size[0], []).append(right[name])
    return np.mean([np.min(of, axis=0) for of in by_size.values()], axis=0)


def _corrupted(condition: str) -> bool:
    return condition.endswith(" 3")


def arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file, float16 as float64."""
    with np.load(path, allow_pickle=False) as found:
        return {
            name: found[name].astype(np.float64) if found[name].dtype == np.float16 else found[name] for name in found
        }
