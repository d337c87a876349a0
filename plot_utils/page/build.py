"""The HTML page about a statistics file, as one string: its template, styles, program and data."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from robust_data.analysis import lists
from robust_data.analysis.statistics_file import StatisticsFile
from robust_data.datasets.base import Dataset
from robust_data.plot_utils import instances
from robust_data.plot_utils.instances import GROUPS
from robust_data.plot_utils.maps import FLIP_RATE_EDGES, fifth_names, plane, possible_shares
from robust_data.plot_utils.page import files, sections, thumbnails
from robust_data.plot_utils.page.files import Comparison

FOLDER = Path(__file__).resolve().parent
# Text and numbers of a page, base64 and all, with what its pictures may take.
PAGE_BYTES = 38_000_000
TEXT_BYTES = 12_000_000
LONGEST_TEXT = 600
# The charts show at most so many checkpoints, first and last among them.
CHECKPOINTS_CHARTED = 24


def build_page(
    statistics: StatisticsFile, dataset: Dataset | None, rows: np.ndarray, comparison: Comparison | None = None
) -> str:
    """The page as one string; `rows` (int64) of the metrics are the instances it holds.

    comparison: of the file with others, if there are any.
    """
    groups = instances.group_numbers(statistics.metrics)
    names = class_names(statistics)
    perturb = instances.perturber(statistics)
    evidence, marked = lists.of_file(statistics)
    about = page_data(statistics, rows, names) | {"groupBounds": group_bounds(statistics.metrics, groups)}
    about["lists"] = [one.name for one in marked]
    arrays = page_arrays(statistics, rows, groups) | list_arrays(statistics, evidence, marked, rows)
    if comparison is not None:
        about["files"] = files.page_data(comparison)
        arrays["files"] = files.page_values(comparison, statistics.metrics["index"][rows])
    blocks = [data_block(name, array) for name, array in arrays.items()]
    samples = sections.sample_section(statistics, dataset, perturb, rows)
    if dataset is not None:
        index = statistics.metrics["index"][rows]
        about["kind"] = dataset.modality
        if dataset.sources is not None:
            blocks.append(json_block("sources", shortened_sources(instances.texts(dataset, index), dataset.modality)))
        if dataset.modality == "image":
            left = PAGE_BYTES - len(script(comparison is not None)) - len(samples) - sum(map(len, blocks))
            about["thumbnails"], sheets = thumbnails.pack(dataset, index, perturb, left)
            blocks += [text_block(name, content) for name, content in sheets.items()]
    return filled(
        script(comparison is not None),
        {
            "title": html.escape(statistics.describe()),
            "summary": sections.summary(statistics, len(rows)),
            "lists": sections.list_section(marked, rows),
            "files-link": '<a href="#files">Files</a> ' if comparison else "",
            "files": fill("files.html", files.parts(comparison)) if comparison else "",
            "samples": samples,
            "across": plane(statistics).x_name,
            "classes": sections.class_table(statistics, names, groups),
            "settings": sections.settings(statistics),
            "data": json_block("page-data", about) + "".join(blocks),
        },
    )


def filled(program: str, parts: Mapping[str, str]) -> str:
    """The template with its parts, styles and program in place, and a policy that forbids anything from outside."""
    style = read("page.css")
    policy = (
        f"default-src 'none'; img-src data: blob:; style-src {content_hash(style)}; "
        f"script-src {content_hash(program)}; base-uri 'none'; form-action 'none'"
    )
    return fill("page.html", {**parts, "style": style, "program": program, "policy": policy})


def fill(template: str, parts: Mapping[str, str]) -> str:
    """A template with its parts in place; in one pass, so that nothing in a part can be taken for a place to fill."""
    return re.sub(r"<!--\{([\w-]+)\}-->", lambda place: parts[place[1]], read(template))


def script(several: bool) -> str:
    """The one script of a page, about one or several files: the library that draws the plots, and the program."""
    programs = ["plot.js", *(["files.js"] if several else []), "page.js"]
    return "\n".join(map(read, ["vendor/echarts.min.js", *programs]))


def read(name: str) -> str:
    """A file that every page holds."""
    return (FOLDER / name).read_text(encoding="utf-8")


def content_hash(text: str) -> str:
    """What a content security policy calls an inline script or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def class_names(statistics: StatisticsFile) -> list[str]:
    """The names of classes 0, 1, ... up to the last that is a label or a prediction."""
    last = statistics.rows[-1]
    highest = max(int(last[field].max()) for field in ("golden_label", "original_class", "after_perturb_class"))
    return [statistics.label_name(label) for label in range(highest + 1)]


def page_data(statistics: StatisticsFile, rows: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """What the program must know besides the arrays."""
    epochs, unit = checkpoint_times(statistics)
    shown = plane(statistics)
    return {
        "stem": statistics.path.stem,
        "instances": len(rows),
        "classNames": list(names),
        "groupNames": list(GROUPS.values()),
        "flipEdges": list(FLIP_RATE_EDGES),
        "flipNames": fifth_names(possible_shares(statistics, "flip_rate")),
        "across": {"name": shown.x_name, "explained": shown.x_meaning},
        "times": epochs[charted_checkpoints(len(epochs))].tolist(),
        "timeUnit": unit,
        "reference": statistics.reference,
        "kind": None,
        "thumbnails": None,
    }


def page_arrays(statistics: StatisticsFile, rows: np.ndarray, groups: np.ndarray) -> dict[str, np.ndarray]:
    """What the program draws: an entry per instance, [K], or per charted checkpoint and instance, [C, K]."""
    metrics, columns = statistics.metrics, statistics.columns[rows]
    last = statistics.rows[-1]
    charted = np.ix_(charted_checkpoints(len(statistics.rows)), columns)
    right, still_right = (statistics.rows[field][charted] for field in ("original_pred", "after_perturb_pred"))
    return {
        "index": metrics["index"][rows].astype(np.float64),
        "label": metrics["golden_label"][rows].astype(np.int32),
        "group": groups[rows],
        "sensitivity": metrics["perturbed_loss_mean"][rows].astype(np.float32),
        "across": metrics[plane(statistics).x][rows].astype(np.float32),
        "flipRate": metrics["flip_rate"][rows].astype(np.float32),
        "cleanClass": last["original_class"][columns],
        "perturbedClass": last["after_perturb_class"][columns],
        # Three digits are enough for a chart, at half the size.
        "cleanLoss": half(statistics.rows["original_loss"][charted]),
        "perturbedLoss": half(statistics.rows["after_perturb_loss"][charted]),
        # Bit 0: the clean input was classified correctly; bit 1: the perturbed one.
        "correct": right + 2 * still_right.astype(np.uint8),
    }


def list_arrays(
    statistics: StatisticsFile, evidence: lists.Evidence, marked: Sequence[lists.MarkedList], rows: np.ndarray
) -> dict[str, np.ndarray]:
    """Which lists an instance is on, a bit for each, and by what: an entry per instance, [K]."""
    bits = sum(one.members.astype(np.uint8) << place for place, one in enumerate(marked))
    # Where an instance was never learned there is no step.
    steps = np.append(statistics.counted["global_step"][:, 0], np.nan).astype(np.float32)
    return {
        "listed": bits[rows],
        "fragileShare": evidence.fragile_share[rows].astype(np.float32),
        "aum": evidence.aum[rows].astype(np.float32),
        "learnedAt": steps[evidence.learned_at[rows].astype(np.int64) - 1],
        "rankInClass": evidence.rank_in_class[rows].astype(np.float32),
    }


def half(values: np.ndarray) -> np.ndarray:
    """Half-precision numbers as uint16, for a language that has no such numbers; infinite where too large."""
    with np.errstate(over="ignore"):
        return values.astype("<f2").view("<u2")


def charted_checkpoints(count: int) -> np.ndarray:
    """The rows of the checkpoints that the charts show, evenly spread from the first to the last."""
    return np.unique(np.linspace(0, count - 1, min(count, CHECKPOINTS_CHARTED)).round().astype(np.int64))


def checkpoint_times(statistics: StatisticsFile) -> tuple[np.ndarray, str]:
    """The epoch of every checkpoint, float64 [T], or its step where no epochs are known; and which of the two it is."""
    epochs = [checkpoint.get("epoch") for checkpoint in statistics.metadata.get("checkpoints") or []]
    if len(epochs) == len(statistics.rows) and None not in epochs:
        return np.array(epochs, dtype=np.float64), "epoch"
    return statistics.rows["global_step"][:, 0].astype(np.float64), "step"


def group_bounds(metrics: Mapping[str, np.ndarray], groups: np.ndarray) -> list[float | None]:
    """Where on the map the robust group ends and the non-robust one begins, in nats; None where it has no instance."""
    sensitivity, names = metrics["perturbed_loss_mean"], list(GROUPS)
    ends = (("robust", np.max), ("non_robust", np.min))
    found = [(sensitivity[groups == names.index(group)], end) for group, end in ends]
    bounds = [float(end(own)) if len(own) else None for own, end in found]
    return [bound if bound is not None and np.isfinite(bound) else None for bound in bounds]


def shortened_sources(sources: Sequence[str], modality: str) -> list[str]:
    """The texts, cut so that all of them fit the page; of files the folder and the name."""
    if modality != "text":
        return ["/".join(Path(source).parts[-2:]) for source in sources]
    longest = min(LONGEST_TEXT, max(40, TEXT_BYTES // max(1, len(sources))))
    return [shortened(source, longest) for source in sources]


def shortened(text: str, longest: int) -> str:
    """The text, cut so that it takes no more than this many bytes."""
    encoded = text.encode()
    if len(encoded) <= longest:
        return text
    ellipsis = "\N{HORIZONTAL ELLIPSIS}"
    return encoded[: longest - len(ellipsis.encode())].decode(errors="ignore") + ellipsis


# How data lie in the page: blocks that no browser runs, each found by its id.


def json_block(name: str, content: Any) -> str:
    """A JSON block; no text in it can end the block, since `<` is written as an escape."""
    text = json.dumps(content, allow_nan=False, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return f'<script type="application/json" id="{name}">{text}</script>\n'


def data_block(name: str, array: np.ndarray) -> str:
    """An array in little-endian bytes, as base64."""
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return text_block(f"data-{name}", base64.b64encode(little.tobytes()).decode())


def text_block(name: str, content: str) -> str:
    return f'<script type="text/plain" id="{name}">{content}</script>\n'
