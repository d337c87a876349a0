"""Perturbations that follow a model's gradient, on pixels or on word embeddings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from robust_data.perturbations.catalogue import CATALOGUE, perturbation
from robust_data.perturbations.sampling import InstanceRandom
from robust_data.registry import LazyModule

torch = LazyModule("torch")

LossesOf = Callable[["torch.Tensor"], "torch.Tensor"]
# The gradient of the summed losses at some inputs, in their shape, 0 where nothing may change.
GradientOf = Callable[["torch.Tensor"], "torch.Tensor"]


@dataclass(frozen=True)
class PgdOptions:
    """The size of the attack: `--adv_steps`, `--adv_lr`, `--adv_init_mag`, `--adv_max_norm`, `--adv_norm_type`,
    `--attack_special_tokens`.

    Lengths are in units of the inputs (pixels in [0,1], or embedding units), measured per instance in the
    norm `norm_type`, "l2" or "linf". max_norm 0 means no bound. sign: step by `lr` in every value, along the
    gradient's sign, instead of by `lr` in the norm along the gradient; the steepest ascent within an linf ball.
    special_tokens: of texts, the tokens that the tokenizer adds may move too (whoever makes the mask heeds it).
    loss, temperature: what is climbed, see `ascent_losses` (whoever computes the losses heeds it).
    turned: the first step goes against the gradient, each later one along it or against it, whichever leads further
    from the inputs; so an attack crosses a fold, where the gradient points away from the boundary.
    probes: without gradients, from so many pairs of losses a step away (SPSA, Spall 1992; Uesato et al., ICML 2018).
    queries: in the place of steps, so many tries of a random search, see `_search`.
    halving: with momentum, and steps that halve where the loss no longer rises, from twice the ball's radius on (APGD).
    passes: the gradient is the mean over so many passes, of a model that is random (Athalye et al., ICML 2018).
    """

    steps: int = 5
    lr: float = 0.03
    init_mag: float = 0.05
    max_norm: float = 0.0
    norm_type: str = "l2"
    sign: bool = False
    special_tokens: bool = False
    loss: str = "ce"
    temperature: float = 1.0
    turned: bool = False
    probes: int = 0
    queries: int = 0
    halving: bool = False
    passes: int = 1


class GradientTally:
    """Counts the attacked instances, and those whose gradient was 0 at every step, so that the attack stood still.

    The counts stay on the device: to look at them would make a GPU wait at every batch.
    """

    def __init__(self):
        self.attacked = 0
        self._flat: torch.Tensor | None = None

    def add(self, moved: torch.Tensor) -> None:
        """Count a batch; moved: bool [B], had the instance a gradient at some step?"""
        self.attacked += len(moved)
        flat = (~moved).sum()
        self._flat = flat if self._flat is None else self._flat + flat

    def counts(self) -> torch.Tensor:
        """How many instances never had a gradient, and of how many: int64 [2], on the CPU."""
        flat = torch.tensor(0) if self._flat is None else self._flat.cpu()
        return torch.stack([flat, torch.tensor(self.attacked)])


# What an attack by gradient may climb; see `ascent_losses`.
ATTACK_LOSSES = ("ce", "margin", "dlr")
# The longest lead of the target, in nats, that an attack sees; see `log_odds`. Its probability is then 0.9997.
LONGEST_LEAD = 8.0


def ascent_losses(
    logits: torch.Tensor, targets: torch.Tensor, loss: str = "ce", temperature: float = 1.0
) -> torch.Tensor:
    """What an attack climbs, [B]: none of them depends on the scale of a confident model's logits.

    loss: "ce" for the log odds against the target, log(sum of exp of the other logits) - its own logit (see
    `log_odds`); "margin" for the largest other logit minus its own; "dlr" for that divided by the largest logit minus
    the third largest (Croce & Hein, ICML 2020, equation 6), which takes at least three classes.

    logits: [B, C], C at least 2; targets: int64 [B], the classes to lead away from. temperature: the logits are divided
    by it first.
    """
    logits = logits.float() / temperature
    if loss == "ce":
        return log_odds(logits, targets)
    column = targets[:, None]
    lead = logits.scatter(1, column, -torch.inf).amax(dim=1) - logits.gather(1, column).squeeze(1)
    if loss == "margin":
        return lead
    largest = logits.topk(3, dim=1).values
    return lead / (largest[:, 0] - largest[:, 2]).clamp_min(1e-12)


def log_odds(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The log odds against the target, log(sum of exp of the other logits) - its own logit, [B].

    The gradient has the direction of cross-entropy's, which is this one times one minus the target's probability. On a
    confident model that factor vanishes in float32: logits times 30 change no prediction, but an attack that follows
    cross-entropy then stands still, and the model looks robust. Also the other classes but the second best vanish, so
    where the target leads by more than `LONGEST_LEAD`, the instance's logits are divided until it leads by just that.

    logits, targets: see `ascent_losses`.
    """
    logits, column = logits.float(), targets[:, None]
    others = logits.scatter(1, column, -torch.inf)
    lead = (logits.gather(1, column) - others.amax(dim=1, keepdim=True)).detach()
    shrink = LONGEST_LEAD / lead.clamp_min(LONGEST_LEAD)
    return (others * shrink).logsumexp(dim=1) - (logits.gather(1, column) * shrink).squeeze(1)


def attack(
    name: str,
    inputs: torch.Tensor,
    losses_of: LossesOf,
    severity: int,
    indices: torch.Tensor,
    seed: int = 0,
    draw: int = 0,
    *,
    options: PgdOptions = PgdOptions(),
    mask: torch.Tensor | None = None,
    bounds: tuple[float, float] | None = None,
    tally: GradientTally | None = None,
    start: torch.Tensor | None = None,
) -> torch.Tensor:
    """Perturb inputs so that the losses rise, by the perturbation `name` of the family adversarial.

    inputs: [B, ...] float; losses_of: maps such a tensor to losses [B], each of its own instance alone, such as
    `ascent_losses`; only the direction of their gradients counts.
    severity, indices, seed, draw: see `perturbations.perturb`. mask: broadcasts to inputs, 0 where nothing
    may change. bounds: the range the result stays in, (0, 1) for pixels. tally: counts gradients of 0. start: what pgd
    of fewer steps returned of the same inputs; the steps of `options` follow those, without a random start.
    Returns a tensor like inputs, without gradient. No parameter gathers a gradient.
    """
    entry = CATALOGUE[name]
    random = InstanceRandom(seed, entry.name, severity, draw, indices, inputs.device)
    strength = entry.parameter(severity, *inputs.shape[-2:])
    moved = []

    def gradient_of(values: torch.Tensor) -> torch.Tensor:
        if options.probes:
            return _estimated(inputs, values, losses_of, mask, bounds, options, random)
        gradient = sum(_gradient(values, losses_of, mask) for _ in range(options.passes))
        if tally is not None:
            moved.append(gradient.flatten(1).any(dim=1))
        return gradient

    if options.queries or options.halving:
        # Without a bound they go as far as the steps reach.
        options = replace(options, max_norm=options.max_norm or options.steps * options.lr)
        search = _search if options.queries else _apgd
        return search(inputs.detach(), losses_of, random, options, mask, bounds, start)
    attacked = entry.apply(inputs.detach(), gradient_of, strength, random, options, mask, bounds, start)
    if moved:
        tally.add(torch.stack(moved).any(dim=0))
    return attacked


@perturbation(
    "fgsm",
    family="adversarial",
    severities=(2 / 255, 4 / 255, 8 / 255, 16 / 255, 32 / 255),
    unit="largest change of a value",
    source="Goodfellow et al., ICLR 2015",
    needs_gradient=True,
    modality="any",
)
def fgsm(
    inputs: torch.Tensor,
    gradient_of: GradientOf,
    epsilon: float,
    random: InstanceRandom,
    options: PgdOptions,
    mask: torch.Tensor | None,
    bounds: tuple[float, float] | None,
    _start: None,
) -> torch.Tensor:
    """One step of `epsilon` along the sign of the gradient; on word embeddings the same, in their units."""
    return _within(inputs + epsilon * gradient_of(inputs).sign(), bounds)


@perturbation(
    "pgd",
    family="adversarial",
    severities=None,
    unit="set by --adv_steps, --adv_lr, --adv_init_mag, --adv_max_norm and --adv_norm_type",
    source="Madry et al., ICLR 2018; random start and step as in Zhu et al. (FreeLB), ICLR 2020",
    needs_gradient=True,
    modality="any",
)
def pgd(
    inputs: torch.Tensor,
    gradient_of: GradientOf,
    _: None,
    random: InstanceRandom,
    options: PgdOptions,
    mask: torch.Tensor | None,
    bounds: tuple[float, float] | None,
    start: torch.Tensor | None,
) -> torch.Tensor:
    """A random start, then `steps` steps of `lr` along the gradient normalised per instance, or along its sign."""
    perturbed = start
    if perturbed is None:
        perturbed = _within(inputs + _project(_random_start(inputs, random, options, mask), options), bounds)
    for step in range(options.steps):
        delta, ascent = perturbed - inputs, _ascent(gradient_of(perturbed), options)
        if options.turned:
            first = start is None and step == 0
            ascent = -ascent if first else _onwards(ascent, delta)
        delta = delta + ascent
        perturbed = _within(inputs + _project(delta, options), bounds)
    return perturbed


def _random_start(inputs, random: InstanceRandom, options: PgdOptions, mask):
    """Uniform in [-init_mag, init_mag]; for l2 divided by the root of the number of values that may change."""
    start = (random.uniform_field(*inputs.shape[1:]) * 2 - 1) * options.init_mag
    free = torch.ones_like(inputs) if mask is None else mask.expand_as(inputs)
    if options.norm_type == "l2":
        start = start / _per_instance(free.flatten(1).sum(dim=1).clamp_min(1).sqrt(), inputs)
    return start * free


def _gradient(inputs, losses_of: LossesOf, mask):
    """The gradient of the summed losses, [B, ...], 0 where the mask is 0."""
    return _gradient_and_losses(inputs, losses_of, mask)[0]


def _gradient_and_losses(inputs, losses_of: LossesOf, mask):
    with torch.enable_grad():
        inputs = inputs.detach().requires_grad_()
        losses = losses_of(inputs)
        (gradient,) = torch.autograd.grad(losses.sum(), inputs)
    return (gradient if mask is None else gradient * mask), losses.detach()


def _estimated(inputs, values, losses_of: LossesOf, mask, bounds, options: PgdOptions, random: InstanceRandom):
    """The gradient from losses at pairs of points around the values, within the bounds of the attack."""
    gradient = torch.zeros_like(values)
    for _ in range(options.probes):
        signs = (random.uniform_field(*values.shape[1:]) < 0.5).to(values.dtype) * 2 - 1
        step = _ascent(signs if mask is None else signs * mask, options)
        ends = [_within(inputs + _project(values + way * step - inputs, options), bounds) for way in (1, -1)]
        rise = losses_of(ends[0]) - losses_of(ends[1])
        gradient += _per_instance(rise, values) * step
    return gradient


# How much of an APGD step is new; of its loss how many steps must rise, and when it looks, as shares of all steps.
NEWEST, RISING = 0.75, 0.75
FIRST_LOOK, SOONER, SOONEST = 0.22, 0.03, 0.06


def _apgd(inputs, losses_of: LossesOf, random: InstanceRandom, options: PgdOptions, mask, bounds, start):
    """Auto-PGD (Croce & Hein, ICML 2020, algorithm 1); returns where the loss was highest."""

    def within(values):
        return _within(inputs + _project(values - inputs, options), bounds)

    values = within(inputs + _random_start(inputs, random, options, mask) if start is None else start)
    before, best, best_gradient = values, values, None
    length = torch.full((len(inputs),), 2 * options.max_norm, device=inputs.device)
    highest, last = torch.full_like(length, -torch.inf), torch.full_like(length, -torch.inf)
    at_look, halved, rises = highest, torch.zeros_like(length, dtype=torch.bool), torch.zeros_like(length)
    look = interval = max(1, round(FIRST_LOOK * options.steps))
    for step in range(options.steps):
        gradient, losses = _gradient_and_losses(values, losses_of, mask)
        rises, last = rises + (losses > last), losses
        higher = losses > highest
        best = torch.where(_per_instance(higher, inputs), values, best)
        best_gradient = gradient if step == 0 else torch.where(_per_instance(higher, inputs), gradient, best_gradient)
        highest = torch.maximum(highest, losses)
        if step == look:
            halved = (rises < RISING * interval) | (~halved & (highest <= at_look))
            length, at_look, rises = torch.where(halved, length / 2, length), highest, torch.zeros_like(rises)
            values = torch.where(_per_instance(halved, inputs), best, values)
            gradient = torch.where(_per_instance(halved, inputs), best_gradient, gradient)
            interval = max(round(SOONEST * options.steps), interval - round(SOONER * options.steps), 1)
            look += interval
        ahead = within(values + _per_instance(length, inputs) * _ascent(gradient, replace(options, lr=1.0)))
        share = 1.0 if step == 0 else NEWEST
        before, values = values, within(values + share * (ahead - values) + (1 - share) * (values - before))
    return torch.where(_per_instance(losses_of(values) > highest, inputs), values, best)


# Of a random search: the share of an input that a try changes first, and after which of its tries it halves (Square).
FIRST_SHARE, HALVED_AT = 0.8, (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)


def _search(inputs, losses_of: LossesOf, random: InstanceRandom, options: PgdOptions, mask, bounds, _start):
    """Squares of an image, or runs of words, set to random values at the edge of the ball, kept where the loss rises.

    For linf as Square (Andriushchenko et al., ECCV 2020) does; for l2 what is changed is scaled to the ball's radius.
    """
    # Stripes of an image; every word its own direction.
    stripes = (inputs.shape[1], 1, inputs.shape[3]) if inputs.ndim == 4 else inputs.shape[1:]
    best, most = inputs, losses_of(inputs)
    for tried in range(options.queries):
        if tried == 0:
            delta = _at_edge(random.normal_field(*stripes).expand_as(inputs), options, mask)
        else:
            inside = _window(
                inputs, FIRST_SHARE / 2 ** sum(tried > part * options.queries for part in HALVED_AT), random
            )
            one = (inputs.shape[1], 1, 1) if inputs.ndim == 4 else (1, inputs.shape[2])
            values = _at_edge(random.normal_field(*one).expand_as(inputs) * inside, options, mask)
            delta = _project(torch.where(inside, values, best - inputs), options)
        found = _within(inputs + delta, bounds)
        losses = losses_of(found)
        rises = _per_instance(losses > most, inputs)
        best, most = torch.where(rises, found, best), torch.maximum(losses, most)
    return best


def _at_edge(values, options: PgdOptions, mask):
    """A change in the direction of the values, as long as the ball allows; in a cube in every value."""
    values = values if mask is None else values * mask
    if options.norm_type == "linf":
        return options.max_norm * values.sign()
    return values * options.max_norm / _norms(values, "l2").clamp_min(1e-12)


def _window(inputs, share: float, random: InstanceRandom):
    """A random square of that share of an image, or run of words: bool, broadcast to the inputs."""
    extents = inputs.shape[2:] if inputs.ndim == 4 else inputs.shape[1:2]
    inside = torch.ones(len(inputs), *[1] * (inputs.ndim - 1), dtype=torch.bool, device=inputs.device)
    for axis, extent in enumerate(extents, start=inputs.ndim - 2 if inputs.ndim == 4 else 1):
        side = max(1, round(extent * share ** (1 / len(extents))))
        first = _per_instance(random.integers(0, extent - side + 1), inputs)
        places = torch.arange(extent, device=inputs.device).view([-1 if at == axis else 1 for at in range(inputs.ndim)])
        inside = inside & (places >= first) & (places < first + side)
    return inside


def _ascent(gradient, options: PgdOptions):
    """A step of length `lr` per instance, in the norm of the options; with `sign` of +-`lr` in every value."""
    if options.sign:
        return options.lr * gradient.sign()
    # By its largest value first, since the squares of small numbers are 0 in float32; a gradient of 0 stays 0.
    gradient = gradient / _norms(gradient, "linf").clamp_min(torch.finfo(gradient.dtype).tiny)
    return options.lr * gradient / _norms(gradient, options.norm_type).clamp_min(torch.finfo(gradient.dtype).tiny)


def _onwards(step, delta):
    """The step, or its opposite where it leads back against the change that was made so far."""
    agree = (step * delta).flatten(1).sum(dim=1)
    return torch.where(_per_instance(agree < 0, step), -step, step)


def _per_instance(values, like):
    """Values [B] shaped to broadcast over the instances of `like`."""
    return values.view(-1, *(1,) * (like.ndim - 1))


def _norms(delta, norm_type: str):
    order = {"l2": 2.0, "linf": float("inf")}[norm_type]
    return _per_instance(torch.linalg.vector_norm(delta.flatten(1), order, dim=1), delta)


def _project(delta, options: PgdOptions):
    """Back into the ball of radius max_norm: by scaling for l2, value by value for linf."""
    if options.max_norm <= 0:
        return delta
    if options.norm_type == "linf":
        return delta.clamp(-options.max_norm, options.max_norm)
    return delta * (options.max_norm / _norms(delta, "l2").clamp_min(1e-12)).clamp(max=1.0)


def _within(inputs, bounds):
    return inputs if bounds is None else inputs.clamp(*bounds)
