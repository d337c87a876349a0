#!/usr/bin/env python3
"""Draw the losses of training runs by epoch: train and test, and the groups of instances that a log tells apart.

Runs that differ in their seed alone are one curve: the mean, with a band of one standard deviation. The loss is the
cross-entropy, whatever a run minimises; that of groups by sensitivity is on perturbed inputs.
"""

from __future__ import annotations

import argparse
import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from robust_data.command_line.parser import Parser, run_script
from robust_data.plot_utils.figures import Axes, Figure, distinct_parts, fitted, joined_name, pyplot, save_figure
from robust_data.plot_utils.training_logs import Curve, Epochs, by_seed, chosen_runs, curve, is_number, read_logs
from robust_data.registry import InputError
from robust_data.settings import file_stem

# The colours of Okabe and Ito, which people with any colour vision can tell apart, and a marker each for grey prints.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
# What the logs call a loss, and what the figure calls it; a group keeps its colour from panel to panel. The groups are
# by sensitivity, of the size asked for, and their loss is on perturbed inputs; the chosen are those that are treated
# differently.
WHOLE_SET = {"train_cross_entropy": "train", "test_loss": "test"}
PERTURBED, TRAINED = "perturbed loss of groups", "chosen and other instances"
GROUPS = {
    PERTURBED: {"robust_loss": "robust group", "swing_loss": "swing group", "non_robust_loss": "non-robust group"},
    TRAINED: {
        "train_loss_robust": "chosen, mean over the epoch",
        "train_loss_other": "others, mean over the epoch",
        "eval_loss_robust": "chosen, after the epoch",
        "eval_loss_other": "others, after the epoch",
    },
}
OTHER = "other losses"
# A longer legend would cover the curves, and goes below the panels.
LEGEND_ENTRIES = 6
# A figure has no room for a longer name.
LONGEST_LABEL = 200


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    parser.add_argument(
        "--log", nargs="+", default=["results/log.jsonl"], metavar="FILE", help="log.jsonl of training scripts"
    )
    parser.add_argument("--exp", metavar="TEXT", help="only the runs whose name contains TEXT")
    parser.add_argument(
        "--labels", nargs="+", metavar="NAME", help="names for the runs, in the order in which they are drawn"
    )
    parser.add_argument(
        "--output", type=file_stem, metavar="STEM", help="write STEM.png and STEM.pdf; by default beside the first log"
    )
    return parser


def main(args: argparse.Namespace) -> None:
    runs = read_logs([Path(path) for path in args.log])
    if args.exp is not None:
        runs = chosen_runs(runs, args.exp)
    families = by_seed(runs)
    figure = draw_curves(families, run_names(families, args.labels))
    for path in save_figure(figure, output_stem(args)):
        print(f"saved {path}")


def output_stem(args: argparse.Namespace) -> Path:
    """Where the figure goes, without suffix; other runs are another figure."""
    if args.output:
        return Path(args.output)
    logs = [Path(path) for path in dict.fromkeys(args.log)]
    name = "training_curves" if len(logs) == 1 else joined_name("training_curves", logs)
    return logs[0].with_name(fitted(name + (f"_{args.exp}" if args.exp else "").replace("/", "_")))


def group_keys(seeds: Sequence[Epochs]) -> dict[str, dict[str, str]]:
    """The losses of groups of instances that these runs logged, and their names, by what they are."""
    found = dict.fromkeys(key for epochs in seeds for line in epochs.values() for key in line if is_number(line[key]))
    known = {"train_loss", *WHOLE_SET, *(key for keys in GROUPS.values() for key in keys)}
    others = {key: key.replace("_", " ") for key in sorted(found) if key.endswith("_loss") and key not in known}
    kinds = GROUPS | {OTHER: others}
    present = {kind: {key: name for key, name in keys.items() if key in found} for kind, keys in kinds.items()}
    return {kind: keys for kind, keys in present.items() if keys}


def run_names(families: Mapping[str, Sequence[Epochs]], labels: Sequence[str] | None = None) -> dict[str, str]:
    """What each run is called: by `labels`, or by what is its own. Raises InputError if they do not fit."""
    names = list(families)
    if labels is None:
        return distinct_parts(names)
    if any(len(label) > LONGEST_LABEL for label in labels):
        raise InputError(f"--labels: a name has more than {LONGEST_LABEL} characters; give shorter ones")
    if len(labels) != len(names) or len(set(labels)) < len(labels):
        raise InputError(
            f"--labels {' '.join(labels)}: give {len(names)} different names, in this order: "
            f"{', '.join(distinct_parts(names).values())}"
        )
    return dict(zip(names, labels))


def draw_curves(families: Mapping[str, Sequence[Epochs]], names: Mapping[str, str]) -> Figure:
    """Train and test loss of all runs in one panel, and a panel for each kind of groups of each run.

    families: the seeds of each run, as `by_seed` gives them. names: what each is called. Raises InputError if none has
    a loss.
    """
    whole = [run for run, seeds in families.items() if any(len(curve(seeds, key)[0]) for key in WHOLE_SET)]
    grouped = [(run, kind, keys) for run, seeds in families.items() for kind, keys in group_keys(seeds).items()]
    if not whole and not grouped:
        raise InputError("--log: no run has a loss to draw; give the log.jsonl of a training script")
    figure, panels = make_panels(bool(whole) + len(grouped))
    if whole:
        draw_whole_set(panels.pop(0), {names[run]: families[run] for run in whole})
    for (run, kind, keys), panel in zip(grouped, panels):
        draw_groups(panel, families[run], keys)
        panel.set_title(wrapped(f"{kind}, {names[run]}" if len(families) > 1 else kind), fontsize=9)
        panel.set_ylabel("mean perturbed loss (nats)" if kind == PERTURBED else "mean cross-entropy (nats)")
    if len(families) == 1:
        figure.suptitle(wrapped(next(iter(names.values())), 70 * len(figure.axes)), fontsize=9)
    return figure


def make_panels(count: int) -> tuple[Figure, list[Axes]]:
    """A figure with this many panels in up to three columns, on the same losses; returns it and the list of panels."""
    columns = min(3, count)
    lines = math.ceil(count / columns)
    figure, panels = pyplot().subplots(
        lines, columns, figsize=(5.6 * columns, 4.2 * lines), sharey=True, squeeze=False, layout="constrained"
    )
    for panel in panels.flat[count:]:
        panel.remove()
    for panel in panels.flat[:count]:
        panel.set_xlabel("epoch")
        panel.set_ylabel("mean cross-entropy (nats)")
        panel.tick_params(labelleft=True)
        panel.xaxis.get_major_locator().set_params(integer=True)
        panel.grid(alpha=0.25)
    return figure, list(panels.flat[:count])


def draw_whole_set(panel: Axes, families: Mapping[str, Sequence[Epochs]]) -> None:
    """Train (dashed) and test loss (solid) of each run, in one colour."""
    for number, (name, seeds) in enumerate(families.items()):
        for key, style in (("train_cross_entropy", "--"), ("test_loss", "-")):
            label = f"{wrapped(name)}: {WHOLE_SET[key]}" if len(families) > 1 else WHOLE_SET[key]
            draw_curve(panel, curve(seeds, key), number, label, linestyle=style)
    panel.set_title("whole set, " + seeds_drawn(list(families.values())), fontsize=9)
    # Named one by one, since a legend left to itself leaves out names that begin with an underscore.
    entries = panel.lines, [line.get_label() for line in panel.lines]
    if len(families) > LEGEND_ENTRIES // 2:
        panel.figure.legend(*entries, loc="outside lower center", ncols=4, fontsize=8, handlelength=3)
    else:
        panel.legend(*entries, fontsize=8, handlelength=3)


def draw_groups(panel: Axes, seeds: Sequence[Epochs], keys: Mapping[str, str]) -> None:
    """The loss of each group of instances, a colour and a marker each; keys: what the log and the figure call it."""
    order = [key for known in GROUPS.values() for key in known]
    for number, (key, name) in enumerate(keys.items()):
        draw_curve(panel, curve(seeds, key), order.index(key) if key in order else number, name)
    panel.legend(fontsize=8)


def draw_curve(panel: Axes, values: Curve, number: int, label: str, **style) -> None:
    """A mean with its band; `number` chooses colour and marker."""
    epochs, mean, spread = values
    if not len(epochs):
        return
    colour, marker = COLOURS[number % len(COLOURS)], MARKERS[(number + number // len(COLOURS)) % len(MARKERS)]
    # A marker at every epoch of a long run would hide the curve.
    every = max(1, len(epochs) // 12)
    panel.plot(epochs, mean, color=colour, marker=marker, markevery=every, markersize=4, label=label, **style)
    if spread.any():
        panel.fill_between(epochs, mean - spread, mean + spread, color=colour, alpha=0.18, linewidth=0)


def seeds_drawn(families: Sequence[Sequence[Epochs]]) -> str:
    """What curve and band mean, for a title."""
    counts = sorted({len(seeds) for seeds in families})
    if counts == [1]:
        return "one seed each" if len(families) > 1 else "one seed"
    among = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"mean and standard deviation over {among} seeds"


def wrapped(text: str, width: int = 60) -> str:
    """The text in lines of this length, broken after underscores too, as names of runs have no spaces."""
    return "\n".join(textwrap.wrap(text.replace("_", "_ "), width)).replace("_ ", "_")


if __name__ == "__main__":
    run_script(build_parser(), main)
