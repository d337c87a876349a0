"""What the kept results of the study say: contrasts by replicate, tables, what sensitivity is made of.

All figures are computed from the files that `run.py` keeps, which `kept.py` describes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from robust_data.analysis.agreement import Decomposition, Reliability, decompose, overlap, reliability
from robust_data.judge.paired import bootstrap_interval, holm, is_equivalent, sign_flip_p
from robust_data.metrics import rank_correlation
from robust_data.selection import select
from robust_data.study import kept
from robust_data.study.results import (
    CHECKS,
    PRIMARY_ENDPOINT,
    WORST_OF_ATTACKS,
    WORST_OF_WHITE_BOX,
    WORST_OF_WORDS,
    Results,
    arrays,
)

# Points of accuracy within which an interval must lie for "no effect".
MARGIN = {"images": 1.5, "texts": 3.0}
# By hypothesis: the block that decides it, and the two arms.
CONTRASTS = {
    "images": {
        "H1": ("arms", "flood_robust", "flood_random"),
        "H2": ("arms", "flood_robust", "flood_easy"),
        "H3": ("arms", "flood_robust", "flood_all"),
        "H4": ("subsets", "robust_half", "random_half"),
    },
    "texts": {
        "H1": ("text_arms", "flood_robust", "flood_random"),
        "H2": ("text_arms", "flood_robust", "flood_easy"),
        "H3": ("text_arms", "flood_robust", "flood_all"),
    },
}
CONTROLS = {"positive": ("arms", "pgd_training", "plain"), "negative": ("arms", "flood_permuted", "flood_random")}
# Of study 2, part A2: those that are adjusted together, and one beside them.
PAIRED = (
    ("paired_arms", "flood_non_robust", "flood_random"),
    ("paired_arms", "flood_residual", "flood_random"),
    ("paired_subsets", "low_gradient_half", "random_half"),
    ("paired_subsets", "swing_half", "random_half"),
)
BESIDE_PAIRED = ("paired_arms", "flood_robust", "flood_random")
# By block: the block and the arm that each of its arms is shown beside.
REFERENCE = {
    **dict.fromkeys(("arms", "more_arms", "dose"), ("arms", "plain")),
    **dict.fromkeys(("subsets", "more_subsets"), ("subsets", "random_half")),
    **dict.fromkeys(("text_arms", "more_text_arms"), ("text_arms", "plain")),
    **{block: (block, "plain") for block in ("augmented", "resnet20", "paired_arms")},
    "paired_subsets": ("paired_subsets", "random_half"),
    "attacked_texts": ("text_arms", "plain"),
}
# Blocks whose runs look at models along the training.
TRAINED = ("arms", "subsets", "more_arms", "more_subsets", "dose")
# Blocks that change the loss of chosen instances.
DOSED = ("arms", "more_arms", "dose")
# Pairs of arms that the blocks of stronger attacks show.
CHECKED = (("flood_robust", "plain"), ("flood_robust", "flood_random"), ("flood_robust", "flood_all"))
CHECKED_HALVES = tuple((f"{name}_half", "random_half") for name in ("robust", "low_gradient", "swing", "hard"))
# Of the bootstrap whose test instances all replicates share.
DRAWS = 2_000
# Shares of the held-out half that H5 compares, and the loss that it looks at.
GROUP, RANKED_BY = 0.3, "gaussian_blur/5"
# By what the arms rank their robust instances, and whether within the class.
RANKING = {"images": (RANKED_BY, True), "texts": ("pgd", False)}


@dataclass(frozen=True)
class Contrast:
    """A difference between two arms, replicate by replicate, in points of accuracy; of H5 in nats.

    interval: 95 %, of the mean. p: exact sign-flip, None under 6 pairs; p_holm: adjusted within the modality, None
    where it was not. equivalent: whether the interval lies within the margin, None where there is none.
    """

    name: str
    first: str
    second: str
    differences: tuple[float, ...]
    interval: tuple[float, float]
    p: float | None
    p_holm: float | None = None
    equivalent: bool | None = None

    @property
    def mean(self) -> float:
        return float(np.mean(self.differences))

    @property
    def verdict(self) -> str:
        """What may be said: a difference, no effect, or nothing."""
        p = self.p if self.p_holm is None else self.p_holm
        if p is not None and p <= 0.05:
            return "higher" if self.mean > 0 else "lower"
        return "no effect" if self.equivalent else "not shown"


def contrasts(results: Results, data: str) -> list[Contrast]:
    """The hypotheses of a modality whose blocks are complete, adjusted by Holm together."""
    found = [
        replace(compared(results, data, (block, first), (block, second))[PRIMARY_ENDPOINT], name=name)
        for name, (block, first, second) in CONTRASTS[data].items()
        if results.is_complete(f"{data} {block}")
    ]
    if data == "images" and results.is_complete("images overfitting") and results.is_complete("images statistics"):
        found.append(overfitting(results))
    adjusted = holm({contrast.name: contrast.p for contrast in found})
    return [replace(contrast, p_holm=adjusted[contrast.name]) for contrast in found]


def paired(results: Results) -> list[Contrast]:
    """The contrasts of part A2, adjusted by Holm together, and the one beside them; [] while a run is missing."""
    if not all(results.is_complete(f"images {block}") for block in ("paired_arms", "paired_subsets")):
        return []
    found = [
        compared(results, "images", (block, first), (block, second))[PRIMARY_ENDPOINT]
        for block, first, second in (*PAIRED, BESIDE_PAIRED)
    ]
    adjusted = holm({contrast.first: contrast.p for contrast in found[:-1]})
    return [replace(contrast, p_holm=adjusted.get(contrast.first)) for contrast in found]


def controls(results: Results) -> dict[str, Contrast]:
    """The positive and the negative control, where the arms are complete."""
    if not results.is_complete("images arms"):
        return {}
    return {
        name: replace(compared(results, "images", (block, first), (block, second))[PRIMARY_ENDPOINT], name=name)
        for name, (block, first, second) in CONTROLS.items()
    }


def beside(results: Results, data: str, block: str, arm: str) -> Contrast | None:
    """An arm beside the reference of its block, by the primary endpoint; None where they share no replicate."""
    reference = REFERENCE.get(block)
    if reference in (None, (block, arm)):
        return None
    return compared(results, data, (block, arm), reference).get(PRIMARY_ENDPOINT)


def compared(results: Results, data: str, first: tuple[str, str], second: tuple[str, str]) -> dict[str, Contrast]:
    """By endpoint: two arms, each as (block, arm), over the replicates that both have; last by the worst class.

    The worst class has no single instances: there the bootstrap is over the replicates alone.
    """
    ours, theirs = results.of_arm(data, *first), results.of_arm(data, *second)
    pairs = [(ours[replicate], theirs[replicate]) for replicate in ours if replicate in theirs]
    by_instance: dict[str, list[np.ndarray]] = {}
    for one, other in pairs:
        of_other = results.endpoints(other)
        for name, values in results.endpoints(one).items():
            if name in of_other:
                by_instance.setdefault(name, []).append(values - of_other[name])
    if PRIMARY_ENDPOINT in by_instance:
        worst = [results.worst_class(one) - results.worst_class(other) for one, other in pairs]
        by_instance["worst class"] = [np.array([value]) for value in worst]
    found = {}
    for name, differences in by_instance.items():
        means, interval = tuple(float(values.mean()) for values in differences), bootstrap_interval(differences)
        equivalent = is_equivalent(interval, MARGIN[data])
        found[name] = Contrast(name, first[1], second[1], means, interval, sign_flip_p(means), equivalent=equivalent)
    return found


@dataclass(frozen=True)
class Outlasting:
    """Two arms of a block of `CHECKS`: what is left of their difference under attacks made on other models.

    white_box: by the worst of the attacks made on the model itself, worst: of all by gradient, on_words: of all on
    words, where there are any. left: the accuracies under the worst
    of all, in percent, means over the replicates.
    """

    block: str
    white_box: Contrast
    worst: Contrast
    left: tuple[float, float]
    on_words: Contrast | None = None

    @property
    def is_gone(self) -> bool:
        """Whether of a gain under white-box attacks nothing is left, or no more than counts as no effect."""
        return self.white_box.interval[0] > 0 and (self.worst.interval[0] <= 0 or bool(self.worst.equivalent))


def outlasting(results: Results, data: str) -> list[Outlasting]:
    """The pairs of `CHECKED` and `CHECKED_HALVES` under stronger attacks, of the blocks that are complete."""
    found = []
    for block in CHECKS[data]:
        if not results.is_complete(f"{data} {block}"):
            continue
        for first, second in (*CHECKED, *CHECKED_HALVES):
            pair = compared(results, data, (block, first), (block, second))
            if pair:
                left = tuple(_worst_of(results, data, block, arm).mean for arm in (first, second))
                worst = pair[WORST_OF_WHITE_BOX], pair[WORST_OF_ATTACKS]
                found.append(Outlasting(block, *worst, left, pair.get(WORST_OF_WORDS)))
    return found


def _worst_of(results: Results, data: str, block: str, arm: str, endpoint: str = WORST_OF_ATTACKS) -> Cell:
    return _cell([results.endpoints(line)[endpoint].mean() for line in results.of_arm(data, block, arm).values()])


def shared_draws(results: Results, data: str, names: Iterable[str]) -> dict[str, tuple[float, float]]:
    """The 95 % intervals of hypotheses on arms if a bootstrap draws the same test instances for all replicates."""
    found = {}
    for name in names:
        block, *arms = CONTRASTS[data][name]
        first, second = (results.of_arm(data, block, arm) for arm in arms)
        differences = np.array([results.primary(first[n]) - results.primary(second[n]) for n in first])
        draws = np.random.default_rng(0)
        count, instances = differences.shape
        replicates = draws.multinomial(count, np.full(count, 1 / count), DRAWS) / count
        means = np.empty(DRAWS)
        for place, of_replicates in enumerate(replicates @ differences):
            means[place] = of_replicates[draws.integers(instances, size=instances)].mean()
        found[name] = tuple(np.quantile(means, (0.025, 0.975)).tolist())
    return found


def overlap_with_easiest(results: Results, data: str) -> float:
    """The share of the robust 30 % that is among the easiest 30 %: the mean over the statistics runs, 0 to 1."""
    ranked_by, within_class = RANKING[data]
    shares = []
    for scores in results.scores(data).values():
        own = {"index": scores["index"], "golden_label": scores["label"].astype(np.int64)}
        losses = {"perturbed_loss_mean": scores[f"sensitivity/{ranked_by}"], "original_loss_mean": scores["clean_loss"]}
        chosen = [select(own | losses, f"{name}_r", GROUP, balance=True, within_class=within_class) for name in losses]
        shares.append(overlap(*chosen, len(own["index"])).share)
    return float(np.mean(shares))


def realised_dose(results: Results, data: str, block: str, arm: str) -> float:
    """The final cross-entropy of an arm's flooded instances as a share of the flood level: the mean over its runs."""
    lines = results.of_arm(data, block, arm).values()
    return float(np.mean([float(line["dose_chosen"]) / float(line["flood_level"]) for line in lines]))


@dataclass(frozen=True)
class HeldOut:
    """The mean loss of groups of held-out instances over the training: step [T], robust and non_robust [R, T], nats."""

    step: np.ndarray
    robust: np.ndarray
    non_robust: np.ndarray


def held_out(results: Results, loss: str = RANKED_BY) -> HeldOut:
    """The loss of held-out instances by group, which the statistics of the next replicate form within the class."""
    lines = results.of_arm("images", "overfitting", "halves")
    scores = results.scores("images")
    curves = []
    for replicate, line in lines.items():
        losses = arrays(results.folder / "overfitting" / f"{line['row']}.npz")
        of_next = scores[replicate % len(scores) + 1]
        places = np.searchsorted(of_next["index"], losses["held_out/index"])
        sensitivity, labels = of_next[f"sensitivity/{RANKED_BY}"][places], losses["held_out/label"]
        groups = groups_within_class(sensitivity, labels, GROUP)
        curves.append([losses[f"held_out/{loss}"][:, group].mean(axis=1) for group in groups])
    robust, non_robust = np.swapaxes(np.array(curves), 0, 1)
    return HeldOut(losses["step"], robust, non_robust)


def groups_within_class(values: np.ndarray, labels: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """The places of the lowest and of the highest `share` of the values [M] of each class; ties break by place."""
    lowest, highest = [], []
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        own = own[np.argsort(values[own], kind="stable")]
        count = round(share * len(own))
        lowest.append(own[:count])
        highest.append(own[len(own) - count :])
    return np.concatenate(lowest), np.concatenate(highest)


def rise(curves: np.ndarray) -> np.ndarray:
    """How far each curve [R, T] ends above its lowest value: [R]."""
    return curves[:, -1] - curves.min(axis=1)


def overfitting(results: Results) -> Contrast:
    """H5: the rise of the held-out loss of the robust instances minus that of the non-robust ones, in nats."""
    return _rises(results, RANKED_BY)


def overfitting_under_pgd(results: Results) -> Contrast:
    """The same by the loss under pgd."""
    return _rises(results, "pgd")


def _rises(results: Results, loss: str) -> Contrast:
    found = held_out(results, loss)
    differences = rise(found.robust) - rise(found.non_robust)
    interval = bootstrap_interval([np.array([value]) for value in differences])
    return Contrast("H5", "robust", "non_robust", tuple(differences.tolist()), interval, sign_flip_p(differences))


@dataclass(frozen=True)
class Cell:
    """The mean over replicates and the sample standard deviation (None of one), in the unit of the column."""

    mean: float
    deviation: float | None


def arm_table(results: Results, data: str, block: str) -> dict[str, dict[str, Cell]]:
    """By arm of a block: the primary endpoint, its worst class, clean accuracy, and every column of rows.csv.

    Of the blocks of stronger attacks also the worst of them.
    """
    table: dict[str, dict[str, Cell]] = {}
    for arm in dict.fromkeys(row.arm for row in results.planned[f"{data} {block}"]):
        lines = list(results.of_arm(data, block, arm).values())
        if not lines:
            continue
        columns = {}
        if PRIMARY_ENDPOINT in results.endpoints(lines[0]):
            columns["primary"] = _cell([float(results.primary(line).mean()) for line in lines])
            columns["worst class"] = _cell([results.worst_class(line) for line in lines])
        for name in lines[0]:
            values = [line[name] for line in lines]
            if name in ("dose_chosen", "dose_others", "train_cross_entropy") and all(values):
                columns[name] = _cell([float(value) for value in values])
            elif name not in kept.FIRST and all(values):
                columns[name] = _cell([100 * float(value) for value in values])
        for name in (WORST_OF_WHITE_BOX, WORST_OF_ATTACKS, WORST_OF_WORDS):
            if name in results.endpoints(lines[0]):
                columns[name] = _worst_of(results, data, block, arm, name)
        table[arm] = columns
    return table


def _cell(values: Sequence[float]) -> Cell:
    return Cell(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None)


@dataclass(frozen=True)
class Parts:
    """What the sensitivity under a perturbation is made of."""

    parts: Decomposition
    reliability: Reliability


def sensitivities(results: Results, data: str) -> dict[str, Parts]:
    """By perturbation: the shares of class, clean loss and rest, and how far replicates agree within the class."""
    scores = list(results.scores(data).values())
    names = [name for name in scores[0] if name.startswith("sensitivity/")] if len(scores) > 1 else []
    clean = np.array([of_run["clean_loss"] for of_run in scores]) if names else np.empty(0)
    found = {}
    for name in names:
        values, labels = np.array([of_run[name] for of_run in scores]), scores[0]["label"].astype(np.int64)
        found[name.removeprefix("sensitivity/")] = Parts(decompose(values, clean, labels), reliability(values, labels))
    return found


def correlations(results: Results, data: str) -> tuple[list[str], np.ndarray]:
    """Spearman's correlation between the sensitivities under all perturbations, the mean over the replicates."""
    scores = list(results.scores(data).values())
    names = [name for name in scores[0] if name.startswith("sensitivity/")] if scores else []
    matrix = np.mean(
        [[[rank_correlation(one[first], one[second]) for second in names] for first in names] for one in scores], axis=0
    )
    return [name.removeprefix("sensitivity/") for name in names], matrix


def curves(results: Results) -> dict[str, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """By block and arm of images: clean accuracy and accuracy under PGD along the training, 0..1 [T], means.

    Of complete blocks alone, and of arms whose trainings have the same epochs.
    """
    found: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]] = {}
    for block in _complete(results, TRAINED):
        for arm in _arms(results, block):
            lines = results.of_arm("images", block, arm).values()
            kept_of = [arrays(results.folder / "instances" / f"{line['row']}.npz") for line in lines]
            kept_of = [of_run for of_run in kept_of if "epoch" in of_run]
            if len({tuple(of_run["epoch"]) for of_run in kept_of}) == 1:
                ways = ("clean_curve", "pgd_curve")
                means = tuple(np.mean([of_run[way] for of_run in kept_of], axis=0) for way in ways)
                found.setdefault(block, {})[arm] = means
    return found


def doses(results: Results) -> dict[str, dict[str, tuple[list[float], list[float]]]]:
    """By block and arm of images: the dose of every run, and its primary endpoint beside that of plain training.

    Of complete blocks alone.
    """
    found: dict[str, dict[str, tuple[list[float], list[float]]]] = {}
    plain = results.of_arm("images", "arms", "plain")
    for block in _complete(results, DOSED):
        for arm in _arms(results, block):
            lines = results.of_arm("images", block, arm)
            dosed = [number for number, line in lines.items() if line["dose_chosen"] and number in plain]
            if dosed and arm != "plain":
                gains = [results.primary(lines[n]).mean() - results.primary(plain[n]).mean() for n in dosed]
                found.setdefault(block, {})[arm] = ([float(lines[number]["dose_chosen"]) for number in dosed], gains)
    return found


def folds(results: Results) -> dict[str, dict[str, dict[str, np.ndarray]]]:
    """By modality and arm what `fold.py` measured, [R] each; of whole blocks alone."""
    found = {}
    for data in MARGIN:
        arms = dict.fromkeys(row.arm for row in results.planned[f"{data} fold"])
        for arm in arms if results.is_complete(f"{data} fold") else ():
            lines = list(results.of_arm(data, "fold", arm).values())
            names = [name for name, value in lines[0].items() if name.startswith("fold: ") and value]
            columns = {name.removeprefix("fold: "): np.array([float(line[name]) for line in lines]) for name in names}
            found.setdefault(data, {})[arm] = columns
    return found


def _complete(results: Results, blocks: Sequence[str]) -> list[str]:
    return [block for block in blocks if results.is_complete(f"images {block}")]


def _arms(results: Results, block: str) -> list[str]:
    return list(dict.fromkeys(row.arm for row in results.planned[f"images {block}"]))
