"""The page of the study, section by section, with its figures."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from robust_data import files
from robust_data.plot_utils.figures import pyplot
from robust_data.study import analysis, answers, drawing, second
from robust_data.study.analysis import Cell, Contrast
from robust_data.study.results import (
    CHECKS,
    USES,
    WORST_OF_ATTACKS,
    WORST_OF_WHITE_BOX,
    WORST_OF_WORDS,
    Results,
)
from robust_data.study.rows import hours_of

TITLES = {"images": "Images: CIFAR-10 (JPEG)", "texts": "Texts: SST-2"}
# Blocks whose arms the hypotheses or a section of their own show.
WITHOUT_TABLE = (
    *("statistics", "sweep", "soft_sweep", "overfitting", "scale", "seventh_text_arms", *CHECKS["texts"]),
    *("tilted_statistics", "tilted", "planted", "fold", "half_checks", *USES),
)
ARMS = {"images": "arms", "texts": "text_arms"}
# By block: what its attacks are, and how its text goes on.
CHECKED_BY = {
    ("images", "checks"): "FGSM and PGD of three sizes on 500 test images, on models that were made again",
    ("texts", "checks"): "PGD with 8 steps of 0.06 on 400 sentences of dev",
    ("images", "half_checks"): "PGD of three sizes by four losses, one of which looks past folds and one into hidden "
    "layers, and square without gradients, on 500 test images",
    ("texts", "mild_checks"): "PGD with 4 and 8 steps of 0.03 on 400 sentences of dev",
    ("texts", "turned_checks"): "PGD with 8 steps of 0.06 by three losses, one of which looks past folds and one into "
    "hidden layers, on 400 sentences of dev, on models that were made again",
    (
        "texts",
        "turned_sweep",
    ): "the same with 4 and 8 steps of 0.03 and 0.06 on the validation sentences, on the models "
    "among which the flood level was chosen",
}
# What a line begins with where it is quoted, or an entry of a list.
MARK = re.compile(r"((?:> ?)?(?:- )?)")
FLOODED = ("flood_random", "flood_all")
CHANGES = (
    "Another net, more data or augmentation; another flood level; groups ranked by another perturbation: the blocks "
    "`dose`, `augmented`, `resnet20` and `more_arms` of the plan look at these.",
    "Models that start from pretrained weights, as those of texts do: no weights for images were at hand.",
    'More replicates, wherever a difference is "not shown".',
)


class Page:
    """Writes the lines of the page; its figures go beside it."""

    def __init__(self, results: Results, path: Path):
        self.results, self.path = results, path
        self.contrasts = {data: analysis.contrasts(results, data) for data in TITLES}
        self.checked = {data: analysis.outlasting(results, data) for data in TITLES}
        self.controls = analysis.controls(results)
        self.second = second.Second(results, self._figure)

    def lines(self) -> Iterator[str]:
        """The lines, none longer than those of the other pages but for tables."""
        for line in self._sections():
            yield from _wrapped(line)

    def _sections(self) -> Iterator[str]:
        yield from (
            "# The study: does it matter *which* instances?",
            "",
            "This page is made by `python study/summarise.py` from the files in `results/`. What was "
            "planned, and why, is in [plan.md](plan.md). CIFAR-10 (JPEG): the images were re-encoded, so "
            "no figure compares with published ones.",
            "",
        )
        yield from self._answers()
        yield from self._state()
        for data, title in TITLES.items():
            yield from (f"## {title}", "")
            if not any(line["data"] == data for line in self.results.lines.values()):
                yield from ("No run is finished yet.", "")
            yield from self._hypotheses(data)
            for block in dict.fromkeys(name.split()[1] for name in self.results.planned if name.startswith(data)):
                if block not in WITHOUT_TABLE:
                    yield from self._arms(data, block)
            for block in CHECKS[data]:
                yield from self._checks(data, block)
            yield from self._sensitivity(data)
            if data == "images":
                yield from self._training()
                yield from self._scale()
        yield from self.second.lines()
        yield from self._limits()

    def _answers(self) -> Iterator[str]:
        """All of it in twenty lines; the sections below have the sentences, the tables and the checks."""
        yield from ("## Answers", "")
        yield (
            "> In points of the primary endpoint, the mean accuracy in percent under white-box PGD of three sizes "
            "(texts: of four), with 95 % intervals; H5 in nats."
        )
        yield ">"
        for data, title in TITLES.items():
            found = self.contrasts[data]
            flooding = self._beside_plain(data)
            told = [answers.pattern(found, flooding, self.checked[data]), *map(answers.brief, found)]
            missing = [name for name in analysis.CONTRASTS[data] if name not in {one.name for one in found}]
            told += [f"Not decided, the runs are not finished: {', '.join(missing)}."] * bool(missing)
            yield f"> - **{title}.** {' '.join(filter(None, told))}"
        for line in self.second.answers():
            yield f"> - {line}"
        yield ""

    def _answer(self, data: str, contrast: Contrast) -> str:
        """What may be said of a hypothesis, and what must be known beside it."""
        return f"{answers.sentence(contrast, data)}{self._remark(data, contrast)}"

    def _remark(self, data: str, contrast: Contrast) -> str:
        if contrast.name == "H1":
            first, second = (
                analysis.realised_dose(self.results, data, ARMS[data], arm) for arm in (contrast.first, contrast.second)
            )
            return (
                " The dose that was reached: the final cross-entropy of the flooded instances is "
                f"{100 * first:.0f} % of the flood level ({contrast.first}) and {100 * second:.0f} % "
                f"({contrast.second})."
            )
        if contrast.name == "H2":
            share = analysis.overlap_with_easiest(self.results, data)
            return f" Of the robust 30 %, {100 * share:.0f} % are among the easiest 30 %."
        other = analysis.beside(self.results, data, "subsets", "non_robust_half") if contrast.name == "H4" else None
        if other is not None:
            opposite = other.interval[1] < 0 < contrast.interval[0]
            return (
                f" The non-robust half beside a random one: {other.mean:+.2f} points ({answers.interval(other)})"
                f"{': opposite effects, which confirms C2' * opposite}."
                f"{'' if self._halves_are_checked() else ' Not yet checked for masked gradients.'}"
            )
        return ""

    def _halves_are_checked(self) -> bool:
        return any(one.block == "half_checks" for one in self.checked["images"])

    def _beside_plain(self, data: str) -> dict[str, Contrast]:
        block = ARMS[data]
        found = {arm: analysis.beside(self.results, data, block, arm) for arm in FLOODED}
        return {arm: contrast for arm, contrast in found.items() if contrast is not None}

    def _masking(self, data: str) -> Iterator[str]:
        """Whether a gain outlasts stronger attacks."""
        if not self.checked[data]:
            yield "Stronger attacks, and those made on other models: not run on every model, so a gain may be masking."
        for block in dict.fromkeys(one.block for one in self.checked[data]):
            lines = answers.of_masking([one for one in self.checked[data] if one.block == block])
            yield f"Masked gradients, by {CHECKED_BY[data, block]}. {' '.join(lines)}"

    def _control_lines(self) -> Iterator[str]:
        must = {"positive": "it must be clearly above 0", "negative": "it must not differ from 0"}
        for name, contrast in self.controls.items():
            numbers = f"{contrast.mean:+.2f} points ({answers.interval(contrast)}; {answers.chance(contrast)})"
            yield f"The {name} control, {contrast.first} - {contrast.second} ({must[name]}): {numbers}."

    def _state(self) -> Iterator[str]:
        results = self.results
        commits = sorted({line["commit"][:7] for line in results.lines.values()})
        seconds = sum(float(line["processor_seconds"] or 0) for line in results.lines.values())
        yield from ("## What has been run", "")
        yield "| block | runs finished | of | hours of a processor left, about |"
        yield "|---|---|---|---|"
        for block, planned in results.planned.items():
            left = [row for row in planned if row.name not in results.lines]
            hours = f"{hours_of(left, results.lines.values()):.1f}" if left else ""
            yield f"| {block} | {len(planned) - len(left)} | {len(planned)} | {hours} |"
        yield ""
        yield (
            f"A block decides only when all its runs are finished. {len(results.lines)} runs at commits "
            f"{', '.join(commits)}, {seconds / 3600:.1f} hours of processor time."
        )
        yield ""

    def _hypotheses(self, data: str) -> Iterator[str]:
        found = self.contrasts[data]
        if not found:
            return
        yield "| | contrast | difference | 95 % interval | exact p | Holm | verdict |"
        yield "|---|---|---|---|---|---|---|"
        for contrast in found:
            unit, digits = (" nats", 3) if contrast.name == "H5" else (" points", 2)
            low, high = contrast.interval
            yield (
                f"| {contrast.name} | {contrast.first} - {contrast.second} | {contrast.mean:+.{digits}f}{unit} | "
                f"{low:+.{digits}f} to {high:+.{digits}f} | {answers.p_value(contrast.p)} | "
                f"{answers.p_value(contrast.p_holm)} | {contrast.verdict} |"
            )
        yield ""
        in_points = [contrast for contrast in found if contrast.name != "H5"]
        if in_points:
            figure = drawing.draw_contrasts(in_points, analysis.MARGIN[data])
            caption = "Differences of the primary endpoint by replicate"
            yield from self._figure(figure, f"{data}_contrasts", caption)
        for line in (
            answers.too_few(found),
            *self._masking(data),
            *(self._control_lines() if data == "images" else ()),
        ):
            yield from (f"- {line}",) if line else ()
        yield ""
        for contrast in found:
            yield from (f"### {contrast.name}: {answers.QUESTIONS[contrast.name]}", "")
            yield from (self._answer(data, contrast), "")
            yield from self._overfitting() if contrast.name == "H5" else self._endpoints(data, contrast)

    def _endpoints(self, data: str, contrast: Contrast) -> Iterator[str]:
        """A contrast by every endpoint; all but the primary one are exploratory."""
        block, first, second = analysis.CONTRASTS[data][contrast.name]
        found = analysis.compared(self.results, data, (block, first), (block, second))
        yield f"| {first} - {second} | difference | 95 % interval | pairs above 0 |"
        yield "|---|---|---|---|"
        for name, of_endpoint in found.items():
            low, high = of_endpoint.interval
            above = sum(value > 0 for value in of_endpoint.differences)
            yield (
                f"| {name} | {of_endpoint.mean:+.2f} | {low:+.2f} to {high:+.2f} | "
                f"{above} of {len(of_endpoint.differences)} |"
            )
        yield ""
        figure = drawing.draw_endpoints(found, analysis.MARGIN[data])
        yield from self._figure(figure, f"{data}_{contrast.name}", f"{contrast.name} by every endpoint")

    def _overfitting(self) -> Iterator[str]:
        held_out = analysis.held_out(self.results)
        yield from ("| group | lowest loss | last loss | rise |", "|---|---|---|---|")
        for name, curves in (("robust", held_out.robust), ("non-robust", held_out.non_robust)):
            cells = (curves.min(axis=1), curves[:, -1], analysis.rise(curves))
            shown = " | ".join(f"{values.mean():.3f} ± {values.std(ddof=1):.3f}" for values in cells)
            yield f"| {name} | {shown} |"
        yield ""
        under_pgd = analysis.overfitting_under_pgd(self.results)
        yield f"By the loss under pgd instead: {under_pgd.mean:+.3f} nats ({answers.interval(under_pgd, 3)})."
        yield ""
        caption = "The perturbed loss of held-out images over the training"
        yield from self._figure(drawing.draw_held_out(held_out), "overfitting", caption)

    def _arms(self, data: str, block: str) -> Iterator[str]:
        table = analysis.arm_table(self.results, data, block)
        if not table:
            return
        done, planned = self.results.finished(f"{data} {block}")
        missing = _incomplete(done, planned)
        first = next(iter(table.values()))
        conditions = [name for name in first if name.startswith("pgd") or name == "deepwordbug"]
        corrupted = [name for name in first if name.endswith(" 3")]
        reference = analysis.REFERENCE[block]
        yield from (f"### Block {block}{missing}", "")
        yield (
            "Accuracy in percent, mean ± sample standard deviation over the replicates. Beside it the paired "
            f"difference of the primary endpoint from {reference[1]}, with its 95 % interval. The dose is the final "
            f"cross-entropy of the chosen and of the other training instances.{_other_block(block)}"
        )
        yield ""
        heads = ["arm", "primary", f"beside {reference[1]}", "its worst class", "clean", *conditions]
        heads += ["15 corruptions"] if corrupted else []
        yield f"| {' | '.join(heads)} | dose, chosen | others |"
        yield "|---" * (len(heads) + 2) + "|"
        for arm, columns in table.items():
            beside = analysis.beside(self.results, data, block, arm)
            cells = [columns["worst class"], *(columns.get(name) for name in ("clean", *conditions))]
            if corrupted:
                cells.append(_mean_cell([columns[name] for name in corrupted if name in columns]))
            shown = [_cell(columns["primary"], 1), "" if beside is None else answers.difference(beside)]
            shown += [_cell(cell, 1) for cell in cells]
            shown += [_cell(columns.get(name), 3) for name in ("dose_chosen", "dose_others")]
            yield f"| {arm} | {' | '.join(shown)} |"
        constant = f"*{self.results.constant(data):.1f}*"
        yield f"| *the best constant answer* | {constant} | | *0.0* |{f' {constant} |' * (len(heads) - 4)} | |"
        yield ""

    def _checks(self, data: str, block: str) -> Iterator[str]:
        """Stronger attacks on some arms: what gains under the usual one only must lose here."""
        table = analysis.arm_table(self.results, data, block)
        if not table:
            return
        done, planned = self.results.finished(f"{data} {block}")
        yield from (f"### Block {block}{_incomplete(done, planned)}", "")
        some = next(iter(table.values()))
        words = "; deepwordbug on 100 of them" if any("deepwordbug" in name for name in some) else ""
        yield (
            "Accuracy in percent under stronger attacks, and such as were made on another arm's model, "
            f"mean ± sample standard deviation over the replicates: {CHECKED_BY[data, block]}{words}. Under the worst "
            "an instance counts that withstands every PGD and FGSM of a size; of several sizes the mean."
        )
        yield ""
        worst = [name for name in (WORST_OF_WHITE_BOX, WORST_OF_ATTACKS, WORST_OF_WORDS) if name in some]
        names = dict.fromkeys(name for columns in table.values() for name in columns if name not in ("clean", *worst))
        conditions = [*names, *worst]
        yield f"| attack | {' | '.join(table)} |"
        yield "|---" * (len(table) + 1) + "|"
        for name in conditions:
            yield f"| {name} | {' | '.join(_cell(columns.get(name), 1) for columns in table.values())} |"
        yield ""

    def _sensitivity(self, data: str) -> Iterator[str]:
        found = analysis.sensitivities(self.results, data)
        if not found:
            return
        yield from ("### What sensitivity is made of", "")
        yield (
            "Shares of its variance over the instances, means over the replicates. *Repeated*: the part of the rest "
            "that comes back in another replicate. Reliability: the correlation of two replicates within the class."
        )
        yield ""
        yield "| perturbation / severity | class | clean loss | rest, repeated | rest, noise | reliability |"
        yield "|---|---|---|---|---|---|"
        for name, of in found.items():
            parts = of.parts
            shares = (parts.class_share, parts.clean_loss, parts.reliable, parts.noise, of.reliability.single)
            yield f"| {name} | {' | '.join(f'{share:.2f}'.replace('-0.00', '0.00') for share in shares)} |"
        yield ""
        if len(found) > 1:
            yield from self._figure(drawing.draw_parts(found), f"{data}_parts", "What sensitivity is made of")
            figure = drawing.draw_correlations(*analysis.correlations(self.results, data))
            yield from self._figure(figure, f"{data}_correlations", "Rank correlations between perturbations")

    def _training(self) -> Iterator[str]:
        """The arms along their training, and the gain against the dose."""
        curves = analysis.curves(self.results)
        if not curves:
            return
        yield from ("### Along the training, and by dose", "")
        caption = "Accuracy and robustness along the training, of arms whose runs have the same epochs"
        yield from self._figure(drawing.draw_curves(curves), "frontier", caption)
        doses = analysis.doses(self.results)
        if doses:
            yield from self._figure(drawing.draw_dose(doses), "dose", "The gain over plain training, by dose")

    def _scale(self) -> Iterator[str]:
        """What the older image code's mix of scales measured."""
        if not self.results.is_complete("images scale"):
            return
        lines = list(self.results.of_arm("images", "scale", "older_scale").values())
        yield from ("### What the older image code measured", "")
        yield (
            "It compared clean images in [0,1] with perturbed ones in [0,255]. The same measurement here, over the "
            "models after every epoch of plain training (the mean over replicates, and the lowest and highest):"
        )
        yield ""
        yield "| | mean | range |"
        yield "|---|---|---|"
        for name in (name for name in lines[0] if name.startswith("scale: ")):
            values = np.array([float(line[name]) for line in lines])
            yield f"| {name.removeprefix('scale: ')} | {values.mean():.3f} | {values.min():.3f} to {values.max():.3f} |"
        yield ""

    def _limits(self) -> Iterator[str]:
        wider = [
            f"{name} {low:+.2f} to {high:+.2f}"
            for data in TITLES
            for name, (low, high) in self._shared_draws(data).items()
        ]
        shared = f" Draws that they share give {', '.join(wider)}." if wider else ""
        yield from (
            "## Limits",
            "",
            "- One small net from scratch on 10,000 images of 32 pixels, one small text encoder on 4,000 sentences.",
            "- JPEG of a quality of about 75 lies under all images, also under those that are attacked.",
            "- The primary endpoint is white-box PGD with one start. The blocks of checks look for masked gradients.",
            "- The intervals are about other seeds of the same training instances. They draw the test instances of "
            f"each replicate by themselves, but all replicates have the same.{shared} Of so few replicates a bootstrap "
            "gives somewhat narrow intervals ([using.md](../docs/using.md#compare-models)); p is exact.",
            "- Texts: two of six replicates share each statistics run, so that the pairs are not independent.",
            *(f"- What could change the answers: {change[0].lower()}{change[1:]}" for change in CHANGES),
            "",
            "## Commands",
            "",
            "```bash",
            "python study/data.py --images cifar10_jpeg --sst2 SST-2",
            "python study/run.py --text_model all-MiniLM-L6-v2",
            "python study/summarise.py",
            "```",
            "",
            "`cifar10_jpeg` holds `train/<class>/<n>.jpg` and `test/<class>/<n>.jpg`, `SST-2` GLUE's `train.tsv` and "
            "`dev.tsv`; `all-MiniLM-L6-v2` is the folder of sentence-transformers' model of that name. `--only` takes "
            "a part (A1 to C), a block, an arm or a replicate; `--list` tells what is left, in hours of a processor. "
            "Several runners may share their folders. Elsewhere, give a runner folders of its own, and bring back its "
            "lines of rows.csv and the small files beside them; a replicate belongs on one machine:",
            "",
            "```bash",
            "python study/run.py --list --only B C",
            "python study/run.py --only attacked,replicate3 --results_dir elsewhere --work_dir elsewhere/work",
            "```",
            "",
            "Kept scores spare a text replicate its statistics: [results/](results/README.md#statistics-from-scores).",
            "",
            "What they read and write, and the published scores of every instance: [results/](results/README.md).",
            "",
            "`bash scripts/test.sh study/tests` runs the tests of the study, which the default run leaves out.",
            "",
        )

    def _shared_draws(self, data: str) -> dict[str, tuple[float, float]]:
        names = [contrast.name for contrast in self.contrasts[data] if contrast.name in analysis.CONTRASTS[data]]
        return analysis.shared_draws(self.results, data, names)

    def _figure(self, figure: Figure, name: str, caption: str) -> Iterator[str]:
        path = self.path.with_name(f"{name}.png")
        with files.atomic_write(path) as file:
            figure.savefig(file, format="png", dpi=120)
        pyplot().close(figure)
        yield f"![{caption}]({path.name})"
        yield ""


def _wrapped(line: str) -> list[str]:
    """A line of prose in lines of at most 120 characters; others, of tables and headings, as they are."""
    if not line or line.startswith(("|", "!", "#")):
        return [line]
    (mark,) = MARK.match(line).groups()
    following = mark.replace("-", " ")
    body = line.removeprefix(mark)
    return textwrap.wrap(body, 120, initial_indent=mark, subsequent_indent=following, break_on_hyphens=False) or [line]


def told(contrasts: Iterable[Contrast]) -> Iterator[str]:
    """A line for each contrast, as it is printed."""
    for contrast in contrasts:
        unit = "nats" if contrast.name == "H5" else "points"
        yield (
            f"{contrast.name}: {contrast.first} - {contrast.second} {contrast.mean:+.3f} {unit} "
            f"({answers.interval(contrast, 3)}, {answers.chance(contrast)}): {contrast.verdict}"
        )


def _other_block(block: str) -> str:
    """What to know of a block that is shown beside an arm of another one."""
    reference, arm = analysis.REFERENCE[block]
    if reference == block:
        return ""
    return f" {arm[0].upper()}{arm[1:]} is that of block {reference}; runs of another machine pair the more loosely."


def _incomplete(done: int, planned: int) -> str:
    return "" if done == planned else f" ({done} of {planned} runs: not complete, it decides nothing)"


def _mean_cell(cells: Sequence[Cell]) -> Cell | None:
    return Cell(sum(cell.mean for cell in cells) / len(cells), None) if cells else None


def _cell(cell: Cell | None, digits: int) -> str:
    if cell is None:
        return ""
    return f"{cell.mean:.{digits}f}" + ("" if cell.deviation is None else f" ± {cell.deviation:.{digits}f}")
