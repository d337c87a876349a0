"""The figures of the study's page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from plot_utils.figures import pyplot
from plot_utils.paired import draw_panel
from scripts.study.analysis import Contrast, HeldOut, Parts

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
    figure.supxlabel(f"{what}; dots: replicates, bars: 95 % interval", fontsize=10)
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


def draw_curves(curves: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    """Accuracy under PGD against clean accuracy along the training, the mean of each arm; the end is a dot."""
    figure, panel = pyplot().subplots(figsize=(7.6, 4.6), layout="constrained")
    colours = pyplot().get_cmap("tab10")
    for number, (name, (clean, attacked)) in enumerate(curves.items()):
        dashed = "--" if number >= 10 else "-"
        panel.plot(100 * clean, 100 * attacked, dashed, color=colours(number % 10), linewidth=1.2, label=name)
        panel.plot(100 * clean[-1], 100 * attacked[-1], "o", color=colours(number % 10), markersize=5)
    panel.set_xlabel("clean accuracy (%), 500 test images")
    panel.set_ylabel("accuracy under PGD, linf 0.5 of 255 (%)")
    panel.grid(alpha=0.25)
    figure.legend(loc="outside center right", fontsize=8)
    return figure


def draw_dose(points: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> Figure:
    """The gain over plain training against the final cross-entropy of the chosen instances, a dot for each run."""
    figure, panel = pyplot().subplots(figsize=(7.6, 4), layout="constrained")
    colours = pyplot().get_cmap("tab20")
    for number, (name, (dose, gain)) in enumerate(points.items()):
        panel.scatter(dose, gain, s=22, alpha=0.8, color=colours(number % 20), label=name)
    panel.axhline(0, color=GREY, linewidth=1)
    panel.set_xlabel("dose: final cross-entropy of the chosen instances (nats)")
    panel.set_ylabel("primary endpoint minus plain's (points)")
    panel.grid(alpha=0.25)
    figure.legend(loc="outside center right", fontsize=8)
    return figure
