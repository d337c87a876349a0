"""The figures of the study's page."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from robust_data.plot_utils.comparisons import draw_panel, legend
from robust_data.plot_utils.figures import pyplot
from robust_data.study.analysis import Contrast, HeldOut, Parts

if TYPE_CHECKING:  # matplotlib takes a second to import
    from matplotlib.figure import Figure

COLOUR, OTHER, GREY = "#0b5cad", "#c8501e", "#59616d"


def draw_contrasts(found: Sequence[Contrast], margin: float) -> Figure:
    """Every pair a point, the mean with its interval; the margin of "no effect" is shaded. In points of accuracy."""
    names = [f"{contrast.name}: {contrast.first} - {contrast.second}" for contrast in found]
    return _draw_differences(found, names, margin, "difference of the primary endpoint (points)")


def draw_endpoints(found: Mapping[str, Contrast], margin: float) -> Figure:
    """One contrast by every endpoint, drawn alike; the margin is that of the primary endpoint."""
    first, second = next((contrast.first, contrast.second) for contrast in found.values())
    return _draw_differences(list(found.values()), list(found), margin, f"{first} - {second} (points)")


def _draw_differences(found: Sequence[Contrast], names: Sequence[str], margin: float, what: str) -> Figure:
    figure, panel = pyplot().subplots(figsize=(7.2, 1.2 + 0.42 * len(found)), layout="constrained")
    draw_panel(panel, list(zip(names, found, strict=True)), margin)
    figure.supxlabel(textwrap.fill(f"{what}; {legend('replicates', margin)}", 84), fontsize=10)
    return figure


def draw_held_out(found: HeldOut) -> Figure:
    """The loss of held-out robust and non-robust instances over the training: means, and thin lines for replicates."""
    figure, panels = pyplot().subplots(1, 2, figsize=(8, 3.2), layout="constrained")
    for panel, name, curves, colour in zip(
        panels, ("robust", "non-robust"), (found.robust, found.non_robust), (COLOUR, OTHER)
    ):
        panel.plot(found.step, curves.T, color=colour, alpha=0.3, linewidth=0.8)
        panel.plot(found.step, curves.mean(axis=0), color=colour, linewidth=2, marker="o", markersize=4)
        panel.set_title(f"{name} instances", fontsize=10)
        panel.set_xlabel("training step")
        panel.grid(alpha=0.25)
    panels[0].set_ylabel("held-out perturbed loss (nats)")
    return figure


def draw_folds(found: Mapping[str, Mapping[str, Mapping[str, np.ndarray]]]) -> Figure:
    """By modality the lead along the ascent of plain training's model: means, and thin lines for replicates."""
    figure, panels = pyplot().subplots(
        1, len(found), figsize=(4 * len(found), 3.2), layout="constrained", squeeze=False
    )
    for panel, (data, arms) in zip(panels[0], found.items()):
        for (arm, columns), colour in zip(arms.items(), (GREY, COLOUR, OTHER)):
            way = [float(name.rpartition(" ")[2]) for name in columns if name.startswith("lead at")]
            leads = np.array([values for name, values in columns.items() if name.startswith("lead at")])
            panel.plot(way, leads, color=colour, alpha=0.3, linewidth=0.8)
            panel.plot(way, leads.mean(axis=1), color=colour, linewidth=2, marker="o", markersize=4, label=arm)
        panel.axhline(0, color=GREY, linewidth=0.8)
        panel.set_title(data, fontsize=10)
        panel.set_xlabel("along plain's ascent (l2)")
        panel.grid(alpha=0.25)
        panel.legend(fontsize=8, frameon=False)
    panels[0, 0].set_ylabel("lead of the golden label (nats)")
    return figure


def draw_parts(found: Mapping[str, Parts]) -> Figure:
    """What sensitivity is made of, a bar for each perturbation."""
    names = list(found)
    figure, panel = pyplot().subplots(figsize=(7.2, 0.9 + 0.32 * len(names)), layout="constrained")
    left = np.zeros(len(names))
    shown = {"class": "class_share", "clean loss": "clean_loss", "rest, repeated": "reliable", "rest, noise": "noise"}
    for (label, field), colour in zip(shown.items(), ("#6b4c9a", OTHER, COLOUR, "#c9ced6")):
        values = np.array([getattr(found[name].parts, field) for name in names])
        panel.barh(names, values, left=left, color=colour, label=label)
        left += values
    panel.set_xlim(0, 1)
    panel.invert_yaxis()
    panel.set_xlabel("share of the variance of sensitivity")
    figure.legend(loc="outside upper center", ncols=4, fontsize=9)
    return figure


def draw_correlations(names: Sequence[str], matrix: np.ndarray) -> Figure:
    """The rank correlations between perturbations, with their numbers."""
    side = 1.8 + 0.48 * len(names)
    figure, panel = pyplot().subplots(figsize=(side + 0.8, side), layout="constrained")
    image = panel.imshow(matrix, vmin=min(0, matrix.min()), vmax=1, cmap="cividis")
    for (row, column), value in np.ndenumerate(matrix):
        colour = "black" if value > 0.6 else "white"
        shown = f"{value:.2f}".replace("0.", ".", 1)
        panel.text(column, row, shown, ha="center", va="center", fontsize=7, color=colour)
    panel.set_xticks(range(len(names)), names, rotation=90)
    panel.set_yticks(range(len(names)), names)
    figure.colorbar(image, shrink=0.7, label="rank correlation")
    return figure


def draw_curves(blocks: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]]) -> Figure:
    """Accuracy under PGD against clean accuracy along the training, the mean of each arm; the end is a dot.

    A panel for each block; plain training is in all, in grey.
    """
    figure, panels = _panels(len(blocks))
    plain = blocks.get("arms", {}).get("plain")
    for panel, (block, curves) in zip(panels, blocks.items()):
        if plain is not None:
            _draw_curve(panel, *plain, GREY, "plain")
        others = [name for name in curves if plain is None or name != "plain"]
        for name, colour in zip(others, _colours(len(others))):
            _draw_curve(panel, *curves[name], colour, name)
        _name_panel(panel, block)
    figure.supxlabel("clean accuracy (%), 500 test images", fontsize=10)
    figure.supylabel("accuracy under PGD, linf 0.5 of 255 (%)", fontsize=10)
    return figure


def _draw_curve(panel: Any, clean: np.ndarray, attacked: np.ndarray, colour: Any, name: str) -> None:
    panel.plot(100 * clean, 100 * attacked, color=colour, linewidth=1.2, label=name)
    panel.plot(100 * clean[-1], 100 * attacked[-1], "o", color=colour, markersize=5)


def draw_dose(blocks: Mapping[str, Mapping[str, tuple[Sequence[float], Sequence[float]]]]) -> Figure:
    """The gain over plain training against the final cross-entropy of the chosen instances, a dot for each run.

    A panel for each block.
    """
    figure, panels = _panels(len(blocks))
    for panel, (block, points) in zip(panels, blocks.items()):
        for (name, (dose, gain)), colour in zip(points.items(), _colours(len(points))):
            panel.scatter(dose, gain, s=22, alpha=0.8, color=colour, label=name)
        panel.axhline(0, color=GREY, linewidth=1)
        _name_panel(panel, block)
    figure.supxlabel("dose: final cross-entropy of the chosen instances (nats)", fontsize=10)
    figure.supylabel("primary endpoint minus plain's (points)", fontsize=10)
    return figure


def draw_counterfactual(effects: Mapping[str, Mapping[str, Contrast]], margin: float) -> Figure:
    """The effect of one standard deviation of each feature, with its interval: a panel for each outcome."""
    figure, panels = pyplot().subplots(
        1, len(effects), figsize=(2.2 + 1.9 * len(effects), 2.8), layout="constrained", sharey=True
    )
    for panel, (outcome, of_feature) in zip(panels, effects.items()):
        draw_panel(panel, list(of_feature.items()), margin)
        panel.set_title(outcome, fontsize=9)
    figure.supxlabel("effect of one standard deviation (points), with its 95 % interval", fontsize=10)
    return figure


def draw_predicted(predicted: np.ndarray, real: np.ndarray) -> Figure:
    """Predicted against real outcome of the halves held out, a dot for each, in points."""
    figure, panel = pyplot().subplots(figsize=(4, 3.8), layout="constrained")
    panel.axline((real.mean(), real.mean()), slope=1, color=GREY, linewidth=1)
    panel.scatter(predicted, real, s=22, alpha=0.8, color=COLOUR)
    panel.set_xlabel("predicted primary endpoint (%)")
    panel.set_ylabel("real primary endpoint (%)")
    panel.grid(alpha=0.25)
    return figure


def draw_costs(blocks: Mapping[str, Mapping[str, tuple[float, float]]]) -> Figure:
    """What every arm reaches against what its training costs: a panel for each block."""
    figure, panels = _panels(len(blocks))
    for panel, (block, points) in zip(panels, blocks.items()):
        for (name, (passes, reached)), colour in zip(points.items(), _colours(len(points))):
            panel.scatter(passes, reached, s=30, color=colour, label=name)
        _name_panel(panel, block)
    figure.supxlabel("passes in training, per instance and epoch", fontsize=10)
    figure.supylabel("endpoint of the use (%)", fontsize=10)
    return figure


def _panels(count: int) -> tuple[Figure, Sequence[Any]]:
    """A figure with so many panels below one another, which share their axes."""
    figure, panels = pyplot().subplots(
        count, 1, figsize=(7.6, 0.6 + 3.2 * count), layout="constrained", squeeze=False, sharex=True, sharey=True
    )
    for panel in panels[:, 0]:
        panel.grid(alpha=0.25)
    return figure, panels[:, 0]


def _name_panel(panel: Any, block: str) -> None:
    panel.set_title(f"block {block}", fontsize=10)
    panel.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8, frameon=False)


def _colours(count: int) -> list[Any]:
    """As many colours as there are arms, at most 20 different ones."""
    return [pyplot().get_cmap("tab10" if count <= 10 else "tab20")(number) for number in range(count)]
