"""Whether a judgement under attacks by gradient can be believed: signs that the attack failed, not the model held."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from robust_data import perturbations
from robust_data.collection import Draws, movable, perturb_batch
from robust_data.datasets.base import Batch, Dataset
from robust_data.evaluation import margins_of
from robust_data.judge.conditions import BY_GRADIENT, HIDDEN, TURNED, AttackSettings, Condition
from robust_data.judge.instances import Found
from robust_data.train.inference import evaluation_mode, predict

if TYPE_CHECKING:
    from robust_data.judge.judge import Judge

# At most so many instances are looked at, at most this share of the passes that the judgement took at least is spent,
# and of fewer instances nothing can be said.
MOST, SHARE, FEWEST = 200, 0.1, 10
# A pass forward and backward costs this many forward.
GRADIENT = 3
# Another attack beats the judged one if it fools more than this share of the sample beyond it; chance is allowed for,
# as often as this.
BEATEN_BY, CHANCE = 0.1, 0.05
# An attack without a bound leaves at most this share of the sample.
LEFT = 0.1
# Its size: of pixels a bound that any image lies within, of texts steps of this share of their embeddings' l2 norm.
FREE_STEPS, FREE_EPS, FREE_STEP = 8, 0.5, 0.2
# Below this cosine the gradients of two models contradict each other; adversarial training makes them some ten times
# smaller, so below this ratio one of them is missing.
AWAY, SMALLER = -0.1, 0.02
RANDOM_STARTS, QUERIES = 4, 16
PATH_STEPS = 4
# Passes over what is clean and over what each attack leaves.
OTHERS = 24


@dataclass(frozen=True)
class Sample:
    """A part of what was judged under one attack. right: bool [n], did the instance withstand it?

    condition: that attack, as PGD. counts_folds: whether it saw past folds itself.
    """

    judge: Judge
    dataset: Dataset
    condition: Condition
    right: np.ndarray
    counts_folds: bool

    def left(self, condition: Condition, **attack: Any) -> np.ndarray:
        """Which instances withstand another attack, bool [n]; attack: what differs from the judged one's settings."""
        judge = replace(self.judge, attack=replace(self.judge.attack, **{"restarts": 1} | attack), quiet=True)
        return judge.judged(self.dataset, [condition])[1].right[0]

    @property
    def options(self):
        """The judged attack as PGD."""
        return self.judge.attack.options(self.condition)

    @property
    def reach(self) -> Condition:
        """The judged attack, or where steps alone hold it back, one with a bound that is as far as they reach."""
        if self.condition.eps is not None:
            return self.condition
        return Condition("attack", "pgd", eps=self.options.steps * self.options.lr, norm="l2")

    def batches(self) -> Iterator[Batch]:
        """The instances, as the judgement passed them."""
        device = next(self.judge.model.parameters()).device
        return self.dataset.batches(self.dataset.collection_order().split(self.judge.batch_size), device)

    @property
    def length(self) -> float:
        """The median l2 norm of what may move of an input."""
        moved = [movable(batch, self.judge.model)[1:3] for batch in self.batches()]
        return float(torch.cat([(values * mask).flatten(1).norm(dim=1) for values, mask in moved]).median())

    @property
    def labels(self) -> torch.Tensor:
        """Of the instances in the order of `batches`."""
        return self.dataset.labels[self.dataset.collection_order()]

    @cached_property
    def passes(self) -> tuple[np.ndarray, np.ndarray]:
        """The clean logits of two passes, float32 [n, C] each."""
        judge = self.judge
        pairs = [
            [predict(judge.model, batch.inputs, judge.precision).float().cpu() for _ in range(2)]
            for batch in self.batches()
        ]
        return tuple(torch.cat(logits).numpy() for logits in zip(*pairs))

    @cached_property
    def path(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Margins after each step of the attack, [steps + 1, n]; slope of the margin and what its first step gave, [n].

        The slope is along that step, a hundredth of it far, in float32, where such a change is not lost to rounding.
        """
        judge, walks, slopes, gains = self.judge, [], [], []
        loss = next((each for each in judge.attack.losses if each in perturbations.ATTACK_LOSSES), "ce")
        options = replace(self.options, steps=1, init_mag=0.0, loss=loss)
        for batch in self.batches():
            key, clean, _, _ = movable(batch, judge.model, options.special_tokens)
            inputs, margins = {**batch.inputs, key: clean}, []
            for _ in range(1 + min(PATH_STEPS, self.options.steps)):
                margins.append(margins_of(predict(judge.model, inputs, "fp32"), batch.labels))
                start = inputs
                draws = Draws(seed=judge.seed, pgd_options=options)
                inputs, _ = perturb_batch("pgd", batch, batch.labels, judge.model, judge.precision, draws, start)
                if len(margins) == 1:
                    step = inputs[key] - clean
                    near = predict(judge.model, start | {key: clean + step / 100}, "fp32")
                    slopes.append(100 * (margins_of(near, batch.labels) - margins[0]))
                    moved = step.flatten(1).any(dim=1)
            gains.append(torch.where(moved, margins[1] - margins[0], torch.nan))
            walks.append(torch.stack(margins))
        return torch.cat(walks, dim=1).cpu().numpy(), torch.cat(slopes).cpu().numpy(), torch.cat(gains).cpu().numpy()

    def uphill(self, batch: Batch, model: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
        """The direction of a model's gradient at the inputs, [B, D], and the share of the margin lost along it, [B]."""
        options = perturbations.PgdOptions(1, 0.01, 0.0, loss="margin", special_tokens=self.options.special_tokens)
        draws = Draws(seed=self.judge.seed, pgd_options=options)
        key, clean, _, _ = movable(batch, model, options.special_tokens)
        # Pixels are moved by a little, so that none is held back by the end of its range.
        if key == "pixel_values":
            draws = replace(draws, pgd_options=replace(options, lr=1e-3))
        inputs, _ = perturb_batch("pgd", batch, batch.labels, model, "fp32", draws)
        step = inputs[key] - clean
        ends = [batch.inputs | {key: values} for values in (clean, inputs[key])]
        before, after = (margins_of(predict(model, end, "fp32"), batch.labels) for end in ends)
        lengths = step.flatten(1).norm(dim=1)
        return step.flatten(1), (before - after) / (before.abs() * lengths).clamp_min(1e-30)

    @cached_property
    def against_others(self) -> tuple[float, float] | None:
        """Of the other models the least median cosine of the gradients, and least ratio of their median norms."""
        others = [source for source in self.judge.sources if source is not None]
        if not others:
            return None
        cosines, falls = [], []
        for batch in self.batches():
            (own, fall), *theirs = (self.uphill(batch, model) for model in (self.judge.model, *others))
            cosines.append(torch.stack([torch.cosine_similarity(own, each) for each, _ in theirs]))
            falls.append(torch.stack([fall, *(of_other for _, of_other in theirs)]))
        norm, *norms = torch.cat(falls, dim=1).abs().median(dim=1).values.tolist()
        return float(torch.cat(cosines, dim=1).median(dim=1).values.min()), norm / max(*norms, 1e-30)

    def beaten(self, left: np.ndarray) -> tuple[float, bool]:
        """The share of the sample that another attack fools beyond the judged one; whether that may be chance."""
        count, more = len(left), int((self.right & ~left).sum())
        chances = (math.comb(count, of) * BEATEN_BY**of * (1 - BEATEN_BY) ** (count - of) for of in range(more))
        return more / count, 1 - sum(chances) > CHANCE


Answer = tuple[float | None, bool]


def bound(sample: Sample) -> Answer:
    """An attack without a bound leaves more than a few right; share of the sample."""
    if sample.dataset.modality == "image":
        condition, size = Condition("attack", "pgd", eps=FREE_EPS, norm="linf"), None
    else:
        size = FREE_STEP * sample.length
        condition = Condition("attack", "pgd", steps=FREE_STEPS, step_size=size)
    left = sample.left(condition, steps=FREE_STEPS, step_size=size)
    return float(left.mean()), bool(left.mean() <= LEFT)


def budget(sample: Sample) -> Answer:
    """Twice the radius fools hardly more; share of those that withstood the attack."""
    reach, right = sample.condition, sample.right
    steps = min(FREE_STEPS, sample.options.steps)
    if reach.eps is not None:
        reach, size = replace(reach, eps=2 * reach.eps), None
    else:
        size = 2 * sample.options.lr * sample.options.steps / steps
        reach = replace(reach, steps=steps, step_size=size)
    left = sample.left(reach, steps=steps, step_size=size)
    clean = margins_of(torch.from_numpy(sample.passes[0]), sample.labels).numpy() > 0
    # At least a fifth of the share that the first radius fooled, where that is three instances or more.
    expected = right.sum() * (1 - right.sum() / max(1, clean.sum()))
    more = int((right & ~left).sum())
    return more / max(1, right.sum()), bool(expected < 3 or more >= expected / 5)


def start(sample: Sample) -> Answer:
    """Random points within the attack's reach fool what it does not; share of the sample."""
    return sample.beaten(sample.left(sample.reach, steps=0, step_size=1.0, restarts=RANDOM_STARTS, losses=("ce",)))


def fold(sample: Sample) -> Answer:
    """Attacks against the gradient and in hidden layers fool what the judged one does not; share of the sample."""
    if sample.counts_folds:
        return None, True
    return sample.beaten(sample.left(sample.condition, losses=(TURNED, HIDDEN)))


def transfer(sample: Sample) -> Answer:
    """Attacks made on other models fool what those on the model itself do not; share of the sample."""
    if len(sample.judge.sources) == 1:
        return None, True
    alone = replace(sample, judge=replace(sample.judge, sources=(None,))).left(sample.condition)
    return replace(sample, right=alone).beaten(sample.right)


def cosine(sample: Sample) -> Answer:
    """The gradient points away from that of another model; the least median of their cosines."""
    if sample.against_others is None:
        return None, True
    return sample.against_others[0], sample.against_others[0] > AWAY


def norm(sample: Sample) -> Answer:
    """The gradient is far smaller than another model's, as shares of their margins; the least ratio of the medians."""
    if sample.against_others is None:
        return None, True
    return sample.against_others[1], sample.against_others[1] > SMALLER


def without_gradient(sample: Sample) -> Answer:
    """A search without gradients fools what the attack does not; share of the sample."""
    return sample.beaten(sample.left(replace(sample.reach, name="square"), queries=QUERIES))


def path(sample: Sample) -> Answer:
    """The margin does not fall along the attack; share of the steps on which it rises."""
    walk, _, gains = sample.path
    still = (walk[:-1] > 0) & np.isfinite(gains)
    if not still.any():
        return None, True
    rising = float((np.diff(walk, axis=0) > 0)[still].mean())
    return rising, rising < 0.5


def slope(sample: Sample) -> Answer:
    """A step does not do what the gradient promises; the median of the margin lost over the first-order loss."""
    _, slopes, gains = sample.path
    known = np.isfinite(gains) & (slopes != 0)
    if not known.any():
        return None, True
    ratio = float(np.median(gains[known] / slopes[known]))
    return ratio, 0.1 < ratio < 10


def gradient(sample: Sample) -> Answer:
    """The gradient is 0; share of the instances that the attack did not move."""
    _, slopes, gains = sample.path
    flat = float((~np.isfinite(gains) | (slopes == 0)).mean())
    return flat, flat < 0.05


def plateau(sample: Sample) -> Answer:
    """The clean margins pile up at one value; share of those above 0 that lie within 10 % above it."""
    margins = np.sort(margins_of(torch.from_numpy(sample.passes[0]), sample.labels).numpy())
    margins = margins[margins > 0]
    if len(margins) < FEWEST:
        return None, True
    within = np.searchsorted(margins, margins * 1.1, side="right") - np.arange(len(margins))
    share = float(within.max() / len(margins))
    return share, share < 0.5


def random_model(sample: Sample) -> Answer:
    """Two passes over the same input differ, largest difference of a logit; average the gradients, --eot N."""
    first, second = sample.passes
    differ = float(np.abs(first - second).max())
    return differ, differ <= 1e-4 * float(np.abs(first).max()) or sample.judge.attack.eot > 1


FGSM = "One step of FGSM is stronger than PGD; accuracy under PGD minus that under FGSM."
# Each says what it found and whether that is no sign of failure; its first sentence, what the sign is.
CHECKS: tuple[Callable[[Sample], Answer], ...] = (
    random_model,
    gradient,
    slope,
    path,
    plateau,
    bound,
    budget,
    start,
    fold,
    transfer,
    cosine,
    norm,
    without_gradient,
)


def examine(
    judge: Judge, dataset: Dataset, conditions: Sequence[Condition], found: Found, compared: Sequence[Mapping[str, Any]]
) -> dict[str, Any] | None:
    """Whether the judgement's attacks by gradient can be believed; None where there are none.

    `verdict` "yes", "no" or "not tested", with `why`; `condition` and `instances`: the attack that was looked at, and
    on how many; `checks`: by name `figure`, `holds` and `sign`, what a failure means. conditions, found: of the
    judgement, clean first. compared: see `compare_attacks`.
    """
    attacks = [(place, one) for place, one in enumerate(conditions) if one.name in BY_GRADIENT]
    if not attacks:
        return None
    attacks = [(place, one) for place, one in attacks if one.name in ("pgd", "apgd")]
    if not attacks:
        return _untested("neither pgd nor apgd was judged")
    if None not in judge.sources:
        return _untested("the attacks were made on another model")
    clean = found.right[0].mean()
    place, condition = min(attacks, key=lambda each: abs(found.right[each[0]].mean() - clean / 2))
    count = sample_size(len(dataset), conditions, judge.attack, condition)
    if count < FEWEST:
        return _untested(f"a tenth of its cost pays for {count} instances, at least {FEWEST} are needed; judge more")
    positions = torch.linspace(0, len(dataset) - 1, count).long()
    right, folds = found.right[place][positions.numpy()], {TURNED, HIDDEN} <= {*judge.attack.climbed(condition)}
    sample = Sample(judge, dataset.subset(positions), replace(condition, name="pgd"), right, folds)
    excess = [each["pgd_accuracy"] - each["fgsm_accuracy"] for each in compared]
    checks = {"fgsm": _answer(max(excess, default=None), max(excess, default=0) <= 0, FGSM)}
    with torch.no_grad(), evaluation_mode(judge.model):
        checks |= {check.__name__: _answer(*check(sample), check.__doc__) for check in CHECKS}
    failed = [name for name, answer in checks.items() if not answer["holds"]]
    why = "no check shows a sign of failure" if not failed else f"signs of failure: {', '.join(failed)}"
    verdict = {"verdict": "no" if failed else "yes", "why": why}
    return verdict | {"condition": place, "instances": count, "checks": checks}


def _answer(figure: float | None, holds: bool, sign: str) -> dict[str, Any]:
    return {"figure": figure, "holds": holds, "sign": sign}


def _untested(why: str) -> dict[str, Any]:
    return {"verdict": "not tested", "why": why, "condition": None, "instances": 0, "checks": {}}


def sample_size(instances: int, conditions: Sequence[Condition], attack: AttackSettings, looked_at: Condition) -> int:
    """On how many instances the checks may look, by the passes that judging took at least."""
    last = [walk[-1] for walk in attack.walks(conditions)]
    judged = len(last) + GRADIENT * sum(attack.options(one).steps for one in last if one.kind == "attack")
    steps = attack.options(looked_at).steps
    # Of several sources attacks cost several times as much, and one of them is repeated.
    folds = 0 if {TURNED, HIDDEN} <= {*attack.climbed(looked_at)} else 3
    spent = OTHERS + RANDOM_STARTS + QUERIES + (GRADIENT + 1) * min(PATH_STEPS, steps)
    spent += GRADIENT * (FREE_STEPS + min(FREE_STEPS, steps) + folds * steps)
    return min(MOST, instances, int(SHARE * instances * judged / spent))
