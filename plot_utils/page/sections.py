"""The parts of the report that stand as they are: summary, samples, classes and settings, as HTML."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from robust_data.analysis.lists import MarkedList
from robust_data.analysis.statistics_file import StatisticsFile
from robust_data.datasets.base import Dataset
from robust_data.metrics import class_share, clean_loss_correlation
from robust_data.plot_utils import instances
from robust_data.plot_utils.instances import GROUPS, Perturber, Sample, predictions, shortened
from robust_data.plot_utils.page import thumbnails

CLASSES_SAMPLED = 24
SAMPLES_PER_GROUP = 3
SAMPLE_SIDE = 96
LONGEST_TEXT = 300


def summary(statistics: StatisticsFile, drawn: int) -> str:
    """The figures of the whole file."""
    metrics, last = statistics.absolute, statistics.rows[-1][statistics.columns]
    drawn_values, sensitivity = statistics.metrics, f"sensitivity{statistics.reference}"
    share = class_share(drawn_values["perturbed_loss_mean"], drawn_values["golden_label"])
    count = f"{len(statistics):,}" + (
        f" ({drawn:,} of them on this page, drawn at random)" if drawn < len(statistics) else ""
    )
    figures = {
        "instances": count,
        "measured over": statistics.describe_counted(),
        "mean sensitivity": f"{metrics['perturbed_loss_mean'].mean():.3f} nats",
        "mean variability": f"{metrics['perturbed_loss_std'].mean():.3f} nats",
        "mean flip rate": f"{metrics['flip_rate'].mean():.3f}",
        f"{sensitivity}: explained by class": f"{share:.0%} of variance",
        f"{sensitivity}: rank correlation with clean loss": f"{clean_loss_correlation(drawn_values):.2f}",
        "accuracy at the end, clean": f"{last['original_pred'].mean():.1%}",
        "accuracy at the end, perturbed": f"{last['after_perturb_pred'].mean():.1%}",
    }
    return definition_list(figures)


def definition_list(entries: Mapping[str, Any]) -> str:
    items = (
        f"<div><dt>{html.escape(key)}</dt><dd>{html.escape(as_text(value))}</dd></div>"
        for key, value in entries.items()
    )
    return f"<dl>{''.join(items)}</dl>"


def as_text(value: Any) -> str:
    if value is None:
        return "\N{EN DASH}"
    return value if isinstance(value, str) else json.dumps(value)


def class_table(statistics: StatisticsFile, names: Sequence[str], groups: np.ndarray) -> str:
    """A line for each class: its size, accuracies at the end, mean of each measure, and the groups it fills."""
    metrics, last = statistics.absolute, statistics.rows[-1][statistics.columns]
    header = ["class", "instances", "accuracy, clean", "accuracy, perturbed", "sensitivity", "variability", "flip rate"]
    lines = []
    for label in np.unique(metrics["golden_label"]).tolist():
        own = metrics["golden_label"] == label
        measured = [metrics[name][own].mean() for name in ("perturbed_loss_mean", "perturbed_loss_std", "flip_rate")]
        accuracies = [last[field][own].mean() for field in ("original_pred", "after_perturb_pred")]
        shares = [(groups[own] == number).mean() for number in range(len(GROUPS))]
        lines.append([names[label], own.sum(), *accuracies, *measured, *shares])
    return table([*header, *GROUPS.values()], lines, "sortable")


def table(header: Sequence[str], lines: Sequence[Sequence[Any]], kind: str) -> str:
    """An HTML table; texts to the left, numbers to the right with three decimals unless they are whole."""
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in header)
    body = "".join(f"<tr>{''.join(map(cell, line))}</tr>" for line in lines)
    return f'<table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def cell(value: Any) -> str:
    if isinstance(value, str):
        return f'<th scope="row">{html.escape(value)}</th>'
    if value is None:
        return "<td>\N{EN DASH}</td>"
    shown = f"{value:,}" if isinstance(value, (int, np.integer)) else f"{value:.3f}"
    return f'<td data-value="{float(value)}">{shown}</td>'


def list_section(marked: Sequence[MarkedList], drawn: np.ndarray) -> str:
    """A line for each list: how many instances are on it, by which rule, and its two buttons.

    drawn: int64, the rows of the metrics that the map holds; the others cannot be shown or downloaded.
    """
    parts = []
    for number, listed in enumerate(marked):
        on_page = int(listed.members[drawn].sum())
        count = f"{int(listed.members.sum()):,} of {len(listed.members):,} instances"
        count += f", {on_page:,} of them on this page" if len(drawn) < len(listed.members) else ""
        off = "" if on_page else " disabled"
        parts.append(
            f'<div class="list"><h3>{html.escape(listed.name.capitalize())} <span class="quiet">{count}</span></h3>'
            f'<p>{html.escape(listed.rule[0].upper() + listed.rule[1:])}.</p><span class="buttons">'
            f'<button type="button" data-show="{number}"{off}>Show on the map</button>'
            f'<button type="button" data-save="{number}"{off}>Download {on_page:,} indices (CSV)</button></span></div>'
        )
    return "".join(parts)


def settings(statistics: StatisticsFile) -> str:
    """The JSON beside the file: circumstances, checkpoints, arguments, versions."""
    about = dict(statistics.metadata)
    if not about:
        return f"<p>There is no JSON beside {html.escape(statistics.path.name)}, which would tell the settings.</p>"
    nested = {name: about.pop(name, None) or {} for name in ("arguments", "versions")}
    checkpoints = [line for line in about.pop("checkpoints", None) or [] if isinstance(line, dict)]
    about.pop("label_names", None)
    parts = [details("Circumstances", definition_list({"file": statistics.path.name, **about}), is_open=True)]
    if checkpoints:
        columns = list(checkpoints[0])
        lines = [[line.get(column) for column in columns] for line in checkpoints]
        parts.append(details("Checkpoints", table([name.replace("_", " ") for name in columns], lines, "plain")))
    parts += [details(name.capitalize(), definition_list(entries)) for name, entries in nested.items() if entries]
    return "".join(parts)


def details(title: str, content: str, is_open: bool = False) -> str:
    return f"<details{' open' if is_open else ''}><summary>{title}</summary>{content}</details>"


def sample_section(
    statistics: StatisticsFile, dataset: Dataset | None, perturb: Perturber | None, drawn: np.ndarray
) -> str:
    """Instances that stand for each group within each class, under the name of the class.

    dataset: may be None, then a line says that there are none. drawn: int64, the rows of the metrics that the
    map holds, ascending.
    """
    if dataset is None:
        return "<p>Images and texts are not known; --dataset_name and --data_dir name them.</p>"
    labels = np.unique(statistics.metrics["golden_label"]).tolist()
    sampled = labels[:CLASSES_SAMPLED]
    samples = instances.choose_samples(statistics, sampled, SAMPLES_PER_GROUP)
    inputs = sample_inputs(dataset, perturb, np.array([sample.index for sample in samples]))
    places = {index: place for place, index in enumerate(statistics.metrics["index"][drawn].tolist())}
    items: dict[tuple[int, str], list[str]] = {}
    for sample, shown in zip(samples, inputs, strict=True):
        items.setdefault((sample.label, sample.group), []).append(sample_item(sample, places.get(sample.index), shown))
    parts = [] if len(sampled) == len(labels) else [f"<p>The first {len(sampled)} of {len(labels)} classes.</p>"]
    for label in sampled:
        groups = "".join(
            f'<div class="group"><h4>{title}</h4><ul>'
            + "".join(items.get((label, group), ['<li class="quiet none">none of this class</li>']))
            + "</ul></div>"
            for group, title in GROUPS.items()
        )
        name = html.escape(statistics.label_name(label))
        parts.append(f'<section class="class"><h3>{name}</h3><div class="groups">{groups}</div></section>')
    return "".join(parts)


def sample_inputs(dataset: Dataset, perturb: Perturber | None, index: np.ndarray) -> list[str]:
    """The text of each of these instances, int64 [K], or its picture and the perturbed one, as HTML."""
    if dataset.modality == "text":
        texts = (html.escape(shortened(text, LONGEST_TEXT)) for text in instances.texts(dataset, index))
        return [f'<span class="text">{text}</span>' for text in texts]
    pairs = (pair for batch in instances.pictures(dataset, index, perturb) for pair in zip(*batch))
    return [pair_of_images(pair, number) for pair, number in zip(pairs, index)]


def pair_of_images(pair: Sequence[np.ndarray], index: int) -> str:
    """The clean picture and, if there is one, the perturbed one: uint8 [H,W,3] each."""
    kind = ' class="crisp"' if thumbnails.is_tiny(pair[0].shape[:2]) else ""
    images = (
        f'<img{kind} src="{thumbnails.data_uri(picture, SAMPLE_SIDE)}" alt="instance {index}, {name}">'
        for picture, name in zip(pair, thumbnails.KINDS)
    )
    return f'<span class="pair">{"".join(images)}</span>'


def sample_item(sample: Sample, place: int | None, shown: str) -> str:
    """One instance: a button that pins it on the map, if it is there at a `place`. shown: its input, as HTML."""
    predicted = (html.escape(text).replace(" ", "&nbsp;", 1) for text in predictions(sample, LONGEST_TEXT))
    pin = "disabled" if place is None else f'data-row="{place}"'
    return (
        f'<li><button type="button" class="sample" {pin}>{shown}'
        f'<span class="predictions"><span>{"</span><span>".join(predicted)}</span></span>'
        f'<span class="quiet">{sample.sensitivity:.3g} nats, #{sample.index}</span></button></li>'
    )
