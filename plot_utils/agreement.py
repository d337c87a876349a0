"""The matrix of rank correlations between statistics files."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from plot_utils.figures import pyplot

if TYPE_CHECKING:  # matplotlib takes a second to import
    from matplotlib.figure import Figure

# With more files the numbers in the cells would not be read.
MOST_WITH_NUMBERS = 16
LONGEST_TITLE = 60


def draw_matrix(correlations: np.ndarray, titles: Sequence[str], heading: str) -> Figure:
    """A cell for each pair of F files, coloured from -1 to 1.

    correlations: float [F, F]; above the diagonal over all instances, below it inside the classes; the diagonal is left
    empty. titles: of the files, at the rows; the columns have their numbers.
    """
    count = len(titles)
    side = max(2.4, 0.62 * count if count <= MOST_WITH_NUMBERS else 0.3 * count)
    figure, axis = pyplot().subplots(figsize=(side + 4.6, side + 1.5), layout="constrained")
    shown = np.ma.array(correlations, mask=np.eye(count, dtype=bool))
    image = axis.imshow(shown, vmin=-1, vmax=1, cmap="PuOr_r")
    for row, column in zip(*np.nonzero(~np.eye(count, dtype=bool))) if count <= MOST_WITH_NUMBERS else ():
        value = correlations[row, column]
        axis.text(
            column,
            row,
            f"{value:.2f}",
            ha="center",
            va="center",
            fontsize=9,
            color="white" if abs(value) > 0.6 else "black",
        )
    lines = [textwrap.fill(f"{number}: {title}", LONGEST_TITLE) for number, title in enumerate(titles, 1)]
    axis.set_yticks(range(count), lines, fontsize=8)
    axis.set_xticks(range(count), range(1, count + 1), fontsize=8)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    figure.suptitle(f"{heading}\nabove the diagonal: all instances; below: inside the classes", fontsize=10)
    figure.colorbar(image, ax=axis, label="rank correlation (Spearman)", shrink=0.9)
    return figure
