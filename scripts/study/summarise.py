#!/usr/bin/env python3
"""Rebuild docs/study.md and its figures from the kept results of the study, offline, and print the verdicts.

A block of which a run is missing is named, and decides nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

# The script also starts from its own folder, where the packages beside it would not be found.
ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from robust_data import files
from robust_data.command_line.parser import Parser, run_script

if TYPE_CHECKING:  # numpy and matplotlib are imported once the arguments are right
    from scripts.study.analysis import Cell, Contrast, Results

QUESTIONS = {
    "H1": "Does the choice matter?",
    "H2": "Is it more than difficulty?",
    "H3": "Is choosing worth it?",
    "H4": "Do robust instances make a model robust?",
    "H5": "Does training overfit the robust ones?",
}


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    parser.add_argument("--results_dir", default="results/study", metavar="FOLDER", help="default: %(default)s")
    parser.add_argument("--output", default="docs/study.md", metavar="FILE", help="the page; default: %(default)s")
    return parser


def main(args: argparse.Namespace) -> None:
    from scripts.study.analysis import Results

    results, page = Results(Path(args.results_dir)), Path(args.output)
    files.output_folder(str(page.parent), "--output")
    text = "\n".join(written(results, page))
    with files.atomic_write(page, "w") as file:
        file.write(text)
    print(f"saved {page}")


def written(results: Results, page: Path) -> Iterator[str]:
    """The lines of the page; draws its figures beside it, and prints the verdicts."""
    from scripts.study import analysis

    yield "# The study: does it matter *which* instances?"
    yield ""
    yield "This page is made by `python scripts/study/summarise.py` from the files in `results/study`. What was"
    yield "planned, and why, is in [study_plan.md](study_plan.md). CIFAR-10 (JPEG): the images were re-encoded, so no"
    yield "figure compares with published ones."
    yield ""
    yield from _state(results)
    for data, title in (("images", "Images: CIFAR-10 (JPEG)"), ("texts", "Texts: SST-2")):
        yield from (f"## {title}", "")
        found = analysis.contrasts(results, data)
        if found:
            yield from _hypotheses(found, data, page, results)
        if data == "images":
            yield from _controls(analysis.controls(results))
        for block in dict.fromkeys(row.block for row in analysis.rows() if row.data == data):
            if block not in ("statistics", "sweep", "soft_sweep", "overfitting", "checks") and any(
                results.of_arm(data, block, row.arm) for row in results.planned[f"{data} {block}"]
            ):
                yield from _arms(results, data, block)
        yield from _sensitivity(results, data, page)
        if data == "images":
            yield from _training(results, page)
            yield from _scale(results)
    yield from (
        "## Commands",
        "",
        "```bash",
        "python scripts/study/data.py --images cifar10_jpeg --sst2 SST-2",
        "python scripts/study/run.py --text_model all-MiniLM-L6-v2",
        "python scripts/study/summarise.py",
        "```",
        "",
    )


def _state(results: Results) -> Iterator[str]:
    commits = sorted({line["commit"][:7] for line in results.lines.values()})
    seconds = sum(float(line["processor_seconds"] or 0) for line in results.lines.values())
    yield "| block | runs finished | of |"
    yield "|---|---|---|"
    for block in results.planned:
        done, planned = results.finished(block)
        yield f"| {block} | {done} | {planned} |"
    yield ""
    yield "A block decides only when all its runs are finished."
    yield f"{len(results.lines)} runs at commits {', '.join(commits)}, {seconds / 3600:.1f} hours of processor time."
    yield ""


def _hypotheses(found: Iterable[Contrast], data: str, page: Path, results: Results) -> Iterator[str]:
    from scripts.study import analysis, drawing

    found = list(found)
    for contrast in found:
        print(f"{data} {_told(contrast)}")
    yield "| | contrast | difference | 95 % interval | exact p | Holm | verdict |"
    yield "|---|---|---|---|---|---|---|"
    for contrast in found:
        unit, digits = (" nats", 3) if contrast.name == "H5" else (" points", 2)
        low, high = contrast.interval
        yield (
            f"| {contrast.name} {QUESTIONS[contrast.name]} | {contrast.first} - {contrast.second} | "
            f"{contrast.mean:+.{digits}f}{unit} | {low:+.{digits}f} to {high:+.{digits}f} | {_p(contrast.p)} | "
            f"{_p(contrast.p_holm)} | {contrast.verdict} |"
        )
    yield ""
    in_points = [contrast for contrast in found if contrast.name != "H5"]
    if in_points:
        figure = drawing.draw_contrasts(in_points, analysis.MARGIN[data])
        yield from _figure(figure, page, f"study_{data}_contrasts", "Differences of the primary endpoint by replicate")
    if len(in_points) < len(found):
        held_out = drawing.draw_held_out(analysis.held_out(results))
        yield from _figure(
            held_out, page, "study_overfitting", "The perturbed loss of held-out images over the training"
        )


def _told(contrast: Contrast) -> str:
    unit = "nats" if contrast.name == "H5" else "points"
    low, high = contrast.interval
    adjusted = "" if contrast.p_holm is None else f", Holm {_p(contrast.p_holm)}"
    return (
        f"{contrast.name}: {contrast.first} - {contrast.second} {contrast.mean:+.3f} {unit} "
        f"(95 % {low:+.3f} to {high:+.3f}, p {_p(contrast.p)}{adjusted}): {contrast.verdict}"
    )


def _p(p: float | None) -> str:
    return "under 6 pairs" if p is None else f"{p:.4f}"


def _controls(found: dict[str, Contrast]) -> Iterator[str]:
    for name, contrast in found.items():
        low, high = contrast.interval
        yield f"- The {name} control, {contrast.first} - {contrast.second}: {contrast.mean:+.2f} points ({low:+.2f} to"
        yield f"  {high:+.2f}, exact p {_p(contrast.p)})."
        print(f"control, {_told(contrast)}")
    yield ""


def _arms(results: Results, data: str, block: str) -> Iterator[str]:
    from scripts.study import analysis

    table = analysis.arm_table(results, data, block)
    done, planned = results.finished(f"{data} {block}")
    missing = "" if done == planned else f" ({done} of {planned} runs: not complete, it decides nothing)"
    first = next(iter(table.values()))
    conditions = [name for name in first if name.startswith("pgd") or name == "deepwordbug"]
    corrupted = [name for name in first if name.endswith(" 3")]
    yield f"### {block}{missing}"
    yield ""
    yield "Accuracy in percent, mean ± sample standard deviation over the replicates. The dose is the final"
    yield "cross-entropy of the chosen and of the other training instances."
    yield ""
    heads = ["arm", "primary", "its worst class", "clean", *conditions]
    heads += ["15 corruptions"] if corrupted else []
    yield f"| {' | '.join(heads)} | dose, chosen | others |"
    yield "|---" * (len(heads) + 2) + "|"
    for arm, columns in table.items():
        cells = [columns["primary"], columns["worst class"], *(columns.get(name) for name in ("clean", *conditions))]
        if corrupted:
            cells.append(_mean_cell([columns[name] for name in corrupted]))
        shown = [_cell(cell, 1) for cell in cells]
        shown += [_cell(columns.get(name), 3) for name in ("dose_chosen", "dose_others")]
        yield f"| {arm} | {' | '.join(shown)} |"
    constant = results.constant(data)
    yield f"| *the best constant answer* {f'| *{constant:.1f}* ' * (len(heads) - 1)}| | |"
    yield ""


def _mean_cell(cells: list[Cell]) -> Cell:
    from scripts.study.analysis import Cell

    return Cell(sum(cell.mean for cell in cells) / len(cells), None)


def _cell(cell: Cell | None, digits: int) -> str:
    if cell is None:
        return ""
    return f"{cell.mean:.{digits}f}" + ("" if cell.deviation is None else f" ± {cell.deviation:.{digits}f}")


def _sensitivity(results: Results, data: str, page: Path) -> Iterator[str]:
    from scripts.study import analysis, drawing

    found = analysis.sensitivities(results, data)
    if not found:
        return
    yield from ("### What sensitivity is made of", "")
    yield "Shares of its variance over the instances, means over the replicates. *Repeated*: the part of the rest that"
    yield "comes back in another replicate. Reliability: the correlation of two replicates within the class."
    yield ""
    yield "| perturbation / severity | class | clean loss | rest, repeated | rest, noise | reliability |"
    yield "|---|---|---|---|---|---|"
    for name, of in found.items():
        parts = of.parts
        shares = (parts.class_share, parts.clean_loss, parts.reliable, parts.noise, of.reliability.single)
        yield f"| {name} | {' | '.join(f'{share:.2f}' for share in shares)} |"
    yield ""
    if len(found) > 1:
        yield from _figure(drawing.draw_parts(found), page, f"study_{data}_parts", "What sensitivity is made of")
        figure = drawing.draw_correlations(*analysis.correlations(results, data))
        yield from _figure(figure, page, f"study_{data}_correlations", "Rank correlations between perturbations")


def _training(results: Results, page: Path) -> Iterator[str]:
    """The arms along their training, and the gain against the dose."""
    import numpy as np

    from scripts.study import drawing

    curves, doses = {}, {}
    plain = results.of_arm("images", "arms", "plain")
    for block in ("arms", "subsets", "more_arms", "more_subsets"):
        for arm in dict.fromkeys(row.arm for row in results.planned[f"images {block}"]):
            lines = results.of_arm("images", block, arm)
            kept = [np.load(results.folder / "instances" / f"{line['row']}.npz") for line in lines.values()]
            kept = [of_run for of_run in kept if "epoch" in of_run]
            # A training that stopped early has fewer epochs.
            epochs = {tuple(of_run["epoch"]) for of_run in kept}
            if len(epochs) == 1:
                curves[arm] = tuple(
                    np.mean([of_run[n] for of_run in kept], axis=0) for n in ("clean_curve", "pgd_curve")
                )
            dosed = [number for number, line in lines.items() if line["dose_chosen"] and number in plain]
            if dosed and arm != "plain":
                gain = [results.primary(lines[n]).mean() - results.primary(plain[n]).mean() for n in dosed]
                doses[arm] = ([float(lines[number]["dose_chosen"]) for number in dosed], gain)
    if not curves:
        return
    yield from ("### Along the training, and by dose", "")
    yield from _figure(
        drawing.draw_curves(curves), page, "study_frontier", "Accuracy and robustness along the training"
    )
    if doses:
        yield from _figure(drawing.draw_dose(doses), page, "study_dose", "The gain over plain training, by dose")


def _scale(results: Results) -> Iterator[str]:
    """What the older image code's mix of scales measured."""
    import numpy as np

    if not results.is_complete("images scale"):
        return
    lines = list(results.of_arm("images", "scale", "older_scale").values())
    yield from ("### What the older image code measured", "")
    yield "It compared clean images in [0,1] with perturbed ones in [0,255]. The same measurement here, over the models"
    yield "after every epoch of plain training (the mean over replicates, and the lowest and highest):"
    yield ""
    yield "| | mean | range |"
    yield "|---|---|---|"
    for name in (name for name in lines[0] if name.startswith("scale: ")):
        values = np.array([float(line[name]) for line in lines])
        yield f"| {name.removeprefix('scale: ')} | {values.mean():.3f} | {values.min():.3f} to {values.max():.3f} |"
    yield ""


def _figure(figure, page: Path, name: str, caption: str) -> Iterator[str]:
    from plot_utils.figures import pyplot

    path = page.with_name(f"{name}.png")
    with files.atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=120)
    pyplot().close(figure)
    yield f"![{caption}]({path.name})"
    yield ""


if __name__ == "__main__":
    run_script(build_parser(), main)
