"""The conditions of a judgement: clean, attacks, perturbations, published corruptions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from robust_data import datasets, perturbations
from robust_data.registry import InputError, warn_once
from robust_data.settings import WORD_ATTACKS, Judgement, WordAttacks

# The test corruptions of Hendrycks & Dietterich (ICLR 2019); the mean corruption error is a mean over them.
COMMON_CORRUPTIONS = (
    *("gaussian_noise", "shot_noise", "impulse_noise"),
    *("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    *("snow", "frost", "fog", "brightness"),
    *("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
)
# Their families in that paper, where the catalogue has another one.
IMAGENET_C_FAMILIES = {"brightness": "weather"}
DEFAULT_LINF_EPS = (2 / 255, 4 / 255, 8 / 255)
DEFAULT_L2_EPS = (0.25, 0.5, 1.0)
# The attacks that need words of the user's: the argument that names them, and its value.
_FILLER = ("masked_lm", "FOLDER_OR_NAME")
WORDS_FROM = {"textfooler": ("word_vectors", "FILE"), "bertattack": _FILLER, "bae": _FILLER}
DEFAULT_ATTACKS = {"image": ("fgsm", "pgd"), "text": ("pgd",)}
FREE_STEP = 0.03
BY_GRADIENT = ("fgsm", "pgd", "apgd", "autoattack")
# What PGD follows beside the losses of `perturbations.ATTACK_LOSSES`: cross-entropy, but first against the gradient,
# and hidden layers, see `NearestMean`.
TURNED, HIDDEN = "turned", "hidden"
DEFAULT_LOSSES = ("ce", TURNED, HIDDEN)


@dataclass(frozen=True)
class Condition:
    """One thing that is done to the inputs; a field that does not apply is None.

    kind: "clean", "attack", "perturbation" or "published". name: of the attack or corruption. severity: 1..5.
    eps, norm: of an attack, "l2" or "linf", for images with values in [0,1], or for word embeddings in their
    units. An attack on words has none, nor has the PGD on word embeddings that is held back by its steps alone; that
    one may have steps and step_size of its own, in the place of those of `AttackSettings`.
    """

    kind: str
    name: str
    severity: int | None = None
    eps: float | None = None
    norm: str | None = None
    steps: int | None = None
    step_size: float | None = None


CLEAN = Condition("clean", "clean")


@dataclass(frozen=True)
class AttackSettings:
    """The strength of PGD: steps, the length of a step (None for 2.5 eps / steps), random starts, and what it moves.

    special_tokens, temperature: see `PgdOptions`. losses: what is climbed, each with every random start; the worst of
    them counts. FGSM climbs "ce". source: the name of the
    model, or of several, that are attacked in the place of the judged one. queries: the
    passes that a search without gradients may take over an instance, with the same steps. eot: see `PgdOptions.passes`.
    init_mag: the random start of an attack without eps.
    """

    steps: int = 20
    step_size: float | None = None
    restarts: int = 1
    special_tokens: bool = False
    losses: tuple[str, ...] = ("ce",)
    temperature: float = 1.0
    source: str | None = None
    queries: int = 1000
    eot: int = 1
    init_mag: float = perturbations.PgdOptions.init_mag

    def options(self, condition: Condition) -> perturbations.PgdOptions:
        """The attack of a condition as PGD, as Madry et al. (ICLR 2018) evaluate with it.

        It starts at random inside the ball of radius eps (for l2 in a cube inside it), takes sign steps for linf and
        steps along the l2-normalised gradient for l2, and stays in the ball. FGSM is one such step of length eps from
        the input itself. PGD without eps starts and steps as a collection's does, and goes wherever its steps lead.
        """
        return replace(
            self._options(condition),
            special_tokens=self.special_tokens,
            temperature=float(self.temperature),
            probes=self.queries // (2 * (condition.steps or self.steps)) if condition.name == "spsa" else 0,
            queries=self.queries if condition.name == "square" else 0,
            halving=condition.name == "apgd",
            passes=self.eot,
        )

    def attempts(self, condition: Condition) -> list[tuple[perturbations.PgdOptions, int]]:
        """Every attempt of an attack: its options, and the number of its random start.

        The turned one starts from the input, so that the way that it has come is that of its own steps. Within an l2
        ball the first random start lies at some .58 of the radius, the others at a third, two thirds and the whole.
        """
        options, starts = self.options(condition), self.draws(condition)
        found = []
        for loss in self.climbed(condition):
            if loss == TURNED:
                found.append((replace(options, init_mag=0.0, turned=True), 0))
            else:
                found += [(replace(options, loss=loss, **self._start(options, draw)), draw) for draw in range(starts)]
        return found

    def _start(self, options: perturbations.PgdOptions, draw: int) -> dict[str, float]:
        if draw == 0 or options.norm_type != "l2" or not options.max_norm:
            return {}
        # A uniform draw from -1..1 has a root mean square of one over the root of three.
        return {"init_mag": options.max_norm * math.sqrt(3) * (draw % 3 or 3) / 3}

    def climbed(self, condition: Condition) -> tuple[str, ...]:
        """The losses that an attack climbs."""
        if condition.name == "apgd":
            return tuple(loss for loss in self.losses if loss in perturbations.ATTACK_LOSSES) or ("ce",)
        return {"pgd": self.losses, "square": ("margin",)}.get(condition.name, ("ce",))

    def _options(self, condition: Condition) -> perturbations.PgdOptions:
        if condition.eps is None:
            step_size = condition.step_size or self.step_size or FREE_STEP
            return perturbations.PgdOptions(condition.steps or self.steps, step_size, self.init_mag)
        if condition.name == "fgsm":
            return perturbations.PgdOptions(1, condition.eps, 0.0, condition.eps, "linf", sign=True)
        lr = self.step_size or 2.5 * condition.eps / self.steps
        return perturbations.PgdOptions(
            self.steps, lr, condition.eps, condition.eps, condition.norm, sign=condition.norm == "linf"
        )

    def walks(self, conditions: Iterable[Condition]) -> list[list[Condition]]:
        """The conditions in their order; those of one and the same PGD, after ever more steps, are together."""
        walks: list[list[Condition]] = []
        for condition in conditions:
            if walks and self._goes_on(walks[-1][-1], condition):
                walks[-1].append(condition)
            else:
                walks.append([condition])
        return walks

    def _goes_on(self, before: Condition, condition: Condition) -> bool:
        if {before.name, condition.name} != {"pgd"}:
            return False
        fewer, more = self.options(before), self.options(condition)
        return more.steps > fewer.steps and replace(more, steps=fewer.steps) == fewer

    def draws(self, condition: Condition) -> int:
        """How many times the attack is tried; FGSM, which is not random, once."""
        return 1 if condition.name in ("fgsm", "autoattack") else self.restarts

    def size(self, condition: Condition) -> dict[str, Any]:
        """The columns of an attack beside its eps; other conditions have none."""
        if condition.kind != "attack":
            return {}
        seen = {"temperature": self.temperature, "source_model": self.source}
        if condition.name in WORD_ATTACKS or condition.name == "autoattack":
            return seen
        options = self.options(condition)
        return {
            "steps": options.steps,
            "step_size": options.lr,
            "restarts": self.draws(condition),
            "special_tokens": int(options.special_tokens),
            "attack_loss": "+".join(self.climbed(condition)),
            "queries": options.queries or 2 * options.probes * options.steps or None,
        } | seen


def describe_pgd(options: perturbations.PgdOptions) -> str:
    """The size of an attack in words."""
    within = f"within {options.max_norm:.3g}" if options.max_norm else "without bound"
    start = f"from {options.init_mag:.3g}" if options.init_mag else "from the input"
    moved = ", special tokens too" if options.special_tokens else ""
    return f"{options.steps} steps of {options.lr:.3g} {start}, {options.norm_type} {within}{moved}"


def settings(job: Judgement) -> AttackSettings:
    """The strength of PGD that the arguments ask for; of several steps and lengths, which `plan` heeds, the first."""
    return AttackSettings(
        job.pgd_step[0],
        None if job.pgd_lr is None else job.pgd_lr[0],
        job.restarts,
        bool(job.attack_special_tokens),
        tuple(job.attack_loss),
        job.temperature,
        _made_on(job.source_model),
        job.queries,
        job.eot,
        job.adv_init_mag,
    )


def _made_on(sources: Sequence[str] | None) -> str | None:
    """What a row says of the models on which attacks are made."""
    return (
        f"worst of all: {', '.join(['itself', *sources])}" if sources and len(sources) > 1 else (sources or [None])[0]
    )


def plan(job: Judgement) -> list[Condition]:
    """The conditions the arguments ask for, but for published corruptions; job: before `complete.judging`.

    Raises InputError for a perturbation that is unknown or an attack, and for what the dataset's kind cannot have.
    """
    modality = datasets.modality(job.dataset_name)
    names = resolve(job.perturbations or [], modality)
    methods = attack_methods(job, modality)
    attacks = on_images(job, methods) if modality == "image" else on_texts(job, methods)
    _check_effect(job, attacks)
    if "spsa" in methods and job.queries < 2 * min(job.pgd_step):
        raise InputError(f"--queries {job.queries} is below two for each of {min(job.pgd_step)} steps; give more")
    severities = sorted(set(job.severities))
    under = [condition for name in names for condition in perturbation_conditions(name, severities)]
    return [CLEAN, *attacks, *under]


def _check_one_effort(job: Judgement) -> None:
    """Raise InputError for several steps or lengths of a step of attacks that have sizes."""
    for name, values in (("pgd_step", job.pgd_step), ("pgd_lr", job.pgd_lr or [])):
        if len(set(values)) > 1:
            given = " ".join(f"{value:g}" for value in values)
            raise InputError(
                f"--{name} {given}: give one; several are for pgd on texts without --linf_eps and --l2_eps"
            )


def _check_effect(job: Judgement, attacks: Sequence[Condition]) -> None:
    """Raise InputError for options that need an attack which is not asked for."""
    if job.attack_loss is not None and all(attack.name != "pgd" for attack in attacks):
        raise InputError(f"--attack_loss {' '.join(job.attack_loss)} has no effect without pgd; leave it out")
    if job.source_model is not None and not attacks:
        raise InputError(f"--source_model {job.source_model[0]} has no effect without an attack; leave it out")
    if len(job.source_model or ()) > 1 and any(attack.name in WORD_ATTACKS for attack in attacks):
        raise InputError(f"--source_model {' '.join(job.source_model)}: give one for attacks on words")
    if job.temperature != 1 and not attacks:
        raise InputError(f"--temperature {job.temperature:g} has no effect without an attack; leave it out")


def attack_methods(job: Judgement, modality: str) -> list[str]:
    """The attacks asked for, each once; `all` are the default ones and, on texts, the possible ones on words."""
    methods = job.attack_method or DEFAULT_ATTACKS[modality]
    if "all" not in methods:
        return list(dict.fromkeys(methods))
    on_words = word_attacks(["all"], job) if modality == "text" else []
    return [name for name in dict.fromkeys([*DEFAULT_ATTACKS[modality], *methods, *on_words]) if name != "all"]


def word_attacks(requested: Sequence[str], job: WordAttacks) -> list[str]:
    """The attacks on words asked for, each once; `all` leaves out those that lack their words, with a warning.

    Raises InputError for an attack that is asked for by name and lacks its words.
    """
    methods = dict.fromkeys([*WORD_ATTACKS] if "all" in requested else requested)
    for name, (argument, what) in WORDS_FROM.items():
        if name not in methods or getattr(job, argument) is not None:
            continue
        if "all" not in requested:
            raise InputError(f"attack {name} takes its words from --{argument} {what}; give one")
        warn_once(f"attack {name} is left out: it takes its words from --{argument} {what}")
        del methods[name]
    return list(methods)


def attack_sizes(job: Judgement, modality: str) -> tuple[list[float], list[float]]:
    """The linf and the l2 sizes of attacks, ascending; by default those for images, on texts none."""
    defaults = (DEFAULT_LINF_EPS, DEFAULT_L2_EPS) if modality == "image" else ((), ())
    linf_eps, l2_eps = (
        sorted(set(default if given is None else given)) for given, default in zip((job.linf_eps, job.l2_eps), defaults)
    )
    return linf_eps, l2_eps


def on_images(job: Judgement, methods: Sequence[str]) -> list[Condition]:
    """The attacks on pixels. Raises InputError for an attack on words, and for several steps."""
    for method in methods:
        if method in WORD_ATTACKS:
            raise InputError(f"attack {method} rewrites words; dataset '{job.dataset_name}' holds images")
    _check_one_effort(job)
    for size in job.linf_eps or ():
        if size > 1:
            raise InputError(f"--linf_eps {size:g}: pixels lie in [0, 1]; write {size:g} levels of 255 as {size:g}/255")
    return attack_conditions(methods, *attack_sizes(job, "image"))


def on_texts(job: Judgement, methods: Sequence[str]) -> list[Condition]:
    """The attacks on word embeddings, then those on words; PGD has no sizes unless they are given.

    Raises InputError for published corruptions, which are images, and for an attack that lacks its words.
    """
    if "autoattack" in methods:
        raise InputError(f"--attack_method autoattack is for images; dataset '{job.dataset_name}' holds texts")
    if job.corruptions_dir is not None:
        raise InputError(f"--corruptions_dir holds images; dataset '{job.dataset_name}' holds texts")
    on_words = word_attacks([name for name in methods if name in WORD_ATTACKS], job)
    attack_conditions(methods, (), ())  # refuses none beside others
    found: list[Condition] = []
    if "fgsm" in methods:
        found += attack_conditions(["fgsm"], DEFAULT_LINF_EPS if job.linf_eps is None else job.linf_eps, ())
    linf_eps, l2_eps = attack_sizes(job, "text")
    for name in (name for name in ("pgd", "apgd", "spsa", "square") if name in methods):
        if linf_eps or l2_eps:
            _check_one_effort(job)
            found += attack_conditions([name], linf_eps, l2_eps)
        else:
            sizes = sorted(set(job.pgd_lr or [FREE_STEP]))
            steps = sorted(set(job.pgd_step)) if name == "pgd" else [max(job.pgd_step)]
            found += [Condition("attack", name, steps=many, step_size=size) for size in sizes for many in steps]
    found += [Condition("attack", method) for method in on_words]
    return list(dict.fromkeys(found))


def resolve(requested: Iterable[str], modality: str = "image") -> list[str]:
    """Canonical names, as `perturbations.resolve` gives them, also of the group `common`; groups have no attacks here.

    Raises InputError for an unknown name, and for the name of an attack.
    """
    found: list[str] = []
    for request in requested:
        group = COMMON_CORRUPTIONS if request == "common" else [request]
        names = perturbations.resolve(group, modality)
        kept = [name for name in names if not perturbations.CATALOGUE[name].needs_gradient]
        if not kept:
            raise InputError(f"-t {request}: it follows the model's gradient; use --attack_method {names[0]}")
        found += kept
    return list(dict.fromkeys(found))


def attack_conditions(methods: Sequence[str], linf_eps: Sequence[float], l2_eps: Sequence[float]) -> list[Condition]:
    """The attacks at every linf size, and all but FGSM at every l2 size. Raises InputError for `none` beside an attack.

    PGD of a linf size comes with FGSM of that size, which must not be stronger.
    """
    if "none" in methods:
        if set(methods) != {"none"}:
            raise InputError(f"--attack_method {' '.join(methods)}: give attacks, or none")
        return []
    found = []
    if "pgd" in methods and "fgsm" not in methods and linf_eps:
        methods = ["fgsm", *methods]
    for method in dict.fromkeys(methods):
        found += [Condition("attack", method, eps=eps, norm="linf") for eps in linf_eps]
        if method != "fgsm":
            found += [Condition("attack", method, eps=eps, norm="l2") for eps in l2_eps]
    return found


def perturbation_conditions(name: str, severities: Sequence[int]) -> list[Condition]:
    """A perturbation at every severity; a perturbation without severities, such as a flip, once."""
    if perturbations.CATALOGUE[name].severities is None:
        return [Condition("perturbation", name)]
    return [Condition("perturbation", name, severity) for severity in severities]


def family(name: str) -> str:
    """The family of a perturbation, "other" for a name that is not in the catalogue.

    A common corruption has the family of ImageNet-C.
    """
    if name in IMAGENET_C_FAMILIES:
        return IMAGENET_C_FAMILIES[name]
    return perturbations.CATALOGUE[name].family if name in perturbations.CATALOGUE else "other"
