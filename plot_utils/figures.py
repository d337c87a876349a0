"""What all figures share: matplotlib without a screen, and how a figure is saved."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from robust_data import files

if TYPE_CHECKING:  # matplotlib takes a second to import
    from types import ModuleType

    from matplotlib.figure import Figure


def pyplot() -> ModuleType:
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
