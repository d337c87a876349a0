"""The settings of a run, by concern: every option is declared here once, with its default, its bounds and its help.

The parsers of the scripts are made from these classes (`command_line.arguments`), and so are what identifies a run, the
JSON beside its results and the name of its files. Functions take the settings that they need; those of a whole job are
one class that inherits from several.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from robust_data import datasets, models, perturbations
from robust_data.perturbations import ATTACK_LOSSES
from robust_data.registry import InputError

# The attacks that rewrite words of texts; see `robust_data.words.methods`.
WORD_ATTACKS = ("deepwordbug", "textfooler", "textbugger", "bertattack", "bae")
SEVERITY_WORDS = {"weak": 1, "medium": 3, "strong": 5}
# By the optimizer. SGD's are those of He et al. (2016), but for weight decay, which is the one in use today.
LEARNING_RATE = {"adamw": 1e-3, "sgd": 0.1}
LEARNING_RATE_FROM_PRETRAINED = {"adamw": 2e-5, "sgd": 1e-3}
WEIGHT_DECAY = {"adamw": 0.01, "sgd": 5e-4}
# What a signed integer of 64 bits holds; torch and numpy take no larger one.
LARGEST = 2**63 - 1


@dataclass(frozen=True)
class Number:
    """Reads a number of a kind, at least `low`, or with `above` more than it. Raises ValueError for any other text."""

    kind: Callable[[str], float]
    low: float
    above: bool = False

    def __call__(self, text: str) -> float:
        try:
            value = self.kind(text)
        except ValueError:
            raise ValueError(f"'{text}' is not a number") from None
        self.check(value)
        return value

    def check(self, value: float) -> None:
        # Written so that NaN fails.
        if not (value > self.low if self.above else value >= self.low) or value == float("inf"):
            raise ValueError(f"{value:g} must be {'above' if self.above else 'at least'} {self.low}")
        if self.kind is int and value > LARGEST:
            raise ValueError(f"{str(value)[:30]} is too large; give at most {LARGEST}")


positive_int, natural_int = Number(int, 1), Number(int, 0)
positive_float, natural_float = Number(float, 0, above=True), Number(float, 0)


def switch(text: str) -> int:
    """0 or 1."""
    if text not in ("0", "1"):
        raise ValueError(f"'{text}' is not 0 or 1")
    return int(text)


def severity(text: str) -> int:
    """1..5, or weak, medium, strong."""
    number = SEVERITY_WORDS.get(text, text)
    if str(number) not in "12345" or len(str(number)) != 1:
        raise ValueError(f"'{text}' is not one of 1..5, weak (1), medium (3), strong (5)")
    return int(number)


def fraction(text: str) -> float:
    """A positive number, written as 0.03 or as 8/255."""
    numerator, _, denominator = text.partition("/")
    return positive_float(numerator) / positive_float(denominator or "1")


def share(text: str) -> float:
    """A number in (0, 1]."""
    value = positive_float(text)
    if value > 1:
        remedy = f"{value / 100:g} for {value:g} %" if value <= 100 else "such as 0.3"
        raise ValueError(f"{text} is outside (0, 1]; give a share, {remedy}")
    return value


def share_or_none(text: str) -> float:
    """A number in [0, 1)."""
    value = natural_float(text)
    if value >= 1:
        raise ValueError(f"{text} is outside [0, 1); give a share, such as 0.1")
    return value


def number_or_never(text: str) -> int:
    """A whole number of at least 0; -1 is 0, as the older scripts wrote it."""
    return 0 if text == "-1" else natural_int(text)


def number_or_all(text: str) -> int | None:
    """A whole number of at least 1; -1 is None, for all there are."""
    return None if text == "-1" else positive_int(text)


def number_or_auto(text: str) -> int | None:
    """A whole number of at least 1; auto is None."""
    return None if text == "auto" else positive_int(text)


def steps_or_share(text: str) -> float:
    """A number of steps; below 1 a share of an epoch; 0 and -1 for never."""
    value = 0.0 if text == "-1" else natural_float(text)
    if value > 1 and value != int(value):
        raise ValueError(f"{text} is neither a whole number of steps nor a share of an epoch below 1")
    return value if 0 < value < 1 else int(value)


def weight(text: str) -> tuple[str, float]:
    """A metric and its weight, as METRIC=1.5."""
    name, _, number = text.rpartition("=")
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not name or not math.isfinite(value):
        raise ValueError(f"'{text}' is no weight of a metric, such as sensitivity=1.5")
    return name, value


def folder_name(text: str) -> str:
    """The path of a folder."""
    if not text:
        raise ValueError("'' names no folder; name one, or . for this one")
    return text


def file_stem(text: str) -> str:
    """A file's path without its suffix."""
    if not Path(text).name:
        raise ValueError(f"'{text}' names a folder; add the name of the files in it")
    return text


def option(
    default: Any,
    help: str,
    read: Callable[[str], Any] | None = None,
    *,
    choices: Sequence[str] | None = None,
    many: str | None = None,
    metavar: str | None = None,
    names: Sequence[str] = (),
    **facts: Any,
) -> Any:
    """A field of settings, and the option that sets it.

    read: makes the value of a text, by default the text itself. many: "+" or "*" for one that takes several values, "?"
    for one that may stand without a value and is then 1, as a switch may. names: further ones. facts, all optional:
    older: the name of a switch that is accepted and not shown; older_value: what it stands for, by default 1; hidden:
    whether the option is accepted and not shown; required: whether a command line must give it; free: whether a run
    goes on when it changes; of: what has a use for it, a modality ("image", "text"), names of data sets, or "files",
    those that are read from some; needs: the option, or option=value, without which it has no effect, where a script
    has that one.
    """
    many = "?" if read is switch else many
    facts |= {"help": help, "read": read, "choices": choices, "many": many, "metavar": metavar, "names": tuple(names)}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=facts)
    return field(default=default, metadata=facts)


class Settings:
    """What the classes below share; title: of their group of options."""

    title: ClassVar[str]

    def __post_init__(self) -> None:
        """Raise InputError for a value that the option could not have."""
        for one in dataclasses.fields(self):
            value, read, choices = getattr(self, one.name), one.metadata.get("read"), one.metadata.get("choices")
            # Of images the size may be a pair, (H, W).
            for single in value if isinstance(value, list | tuple) else [value]:
                if single is None:
                    continue
                if choices is not None and single not in choices:
                    raise InputError(f"{one.name} {single} is not one of {', '.join(choices)}")
                try:
                    if isinstance(read, Number):
                        read.check(single)
                except (TypeError, ValueError) as error:
                    raise InputError(f"{one.name}: {error}") from None


Kind = TypeVar("Kind", bound=Settings)


def of(kind: type[Kind], values: Any) -> Kind:
    """The settings of a kind, from an object that has them among its attributes; those that it lacks are defaults.

    values: settings of a job, say, or what a parser gave.
    """
    names = (one.name for one in dataclasses.fields(kind))
    return kind(**{name: getattr(values, name) for name in names if hasattr(values, name)})


def together(kind: type[Kind], *parts: Settings) -> Kind:
    """The settings of a job, from parts of them; what these lack are defaults."""
    return kind(**{name: value for part in parts for name, value in dataclasses.asdict(part).items()})


def completed(given: Kind, recorded: Mapping[str, Any]) -> Kind:
    """These settings, those that are None as a run recorded them, or else as they are by default."""
    missing = (one for one in dataclasses.fields(given) if getattr(given, one.name) is None)
    return dataclasses.replace(
        given,
        **{one.name: recorded[one.name] if recorded.get(one.name) is not None else one.default for one in missing},
    )


def as_recorded(given: Data, recorded: Mapping[str, Any]) -> Data:
    """The data of a run, where the settings leave them open; `dataset_name` may stay None.

    For another data set than the run's only the size of images and the length of texts are taken.
    """
    if (
        None not in (given.dataset_name, recorded.get("dataset_name"))
        and given.dataset_name != recorded["dataset_name"]
    ):
        recorded = {name: recorded.get(name) for name in ("image_size", "max_seq_length")}
    named = given.dataset_name or recorded.get("dataset_name")
    return dataclasses.replace(completed(given, recorded), dataset_name=named)


def names(kind: type[Settings]) -> list[str]:
    """The names of the settings of a kind."""
    return [one.name for one in dataclasses.fields(kind)]


def options_with(fact: str) -> dict[str, Any]:
    """The options of all settings here that have a fact, and what it says."""
    found = (one for kind in Settings.__subclasses__() for one in dataclasses.fields(kind))
    return {one.name: one.metadata[fact] for one in found if one.metadata.get(fact)}


@dataclass(frozen=True)
class Data(Settings):
    """Which instances: the data set, where it lies, and how much of it."""

    title: ClassVar = "data"

    dataset_name: str = option("digits", f"one of {', '.join(datasets.names())}", metavar="NAME")
    task_name: str | None = option(None, "the task within a dataset of several, such as glue's sst2", metavar="NAME")
    data_dir: str | None = option(
        None, "folder (npz, csv, tsv: file) of the data; digits needs none", metavar="PATH", free=True, of="files"
    )
    download: int = option(0, "1 fetches the data into --data_dir if it is not there", switch, free=True, of="files")
    dataset_len: int | None = option(
        None,
        "train on a class-balanced subset of N instances, drawn by --seed; by default on all",
        positive_int,
        metavar="N",
    )
    val_len: int | None = option(
        None,
        "hold a class-balanced N of the training instances out, drawn by --seed: neither trained on nor recorded, "
        "their accuracy and loss are logged; by default none",
        positive_int,
        metavar="N",
    )
    image_size: int | None = option(
        None,
        "resize and centre-crop images to this side; by default as they are; where sizes differ what the model is "
        "made for: 224 for most, 64 for small_cnn and the like",
        positive_int,
        metavar="PX",
        of="image",
    )
    max_seq_length: int | None = option(
        None, "texts are cut to this length; by default 128", positive_int, metavar="TOKENS", of="text"
    )
    text_column: str | None = option(
        None, "csv, tsv: the column with the text; by default text", metavar="NAME", of="csv tsv"
    )
    text_pair_column: str | None = option(
        None, "csv, tsv: the column with the second text, for pairs", metavar="NAME", of="csv tsv"
    )
    label_column: str | None = option(
        None, "csv, tsv: the column with the label; by default label", metavar="NAME", of="csv tsv"
    )
    encoding: str | None = option(
        None, "csv, tsv: how the file writes its characters, such as latin-1; else UTF-8", metavar="NAME", of="csv tsv"
    )
    group_column: str | None = option(
        None,
        "csv, tsv, npz, hf, and imagefolder with a metadata.csv: the column with a group of each instance; judging "
        "names the worst group, choosing the shares of all",
        metavar="NAME",
        free=True,
        of="csv tsv npz imagefolder",
    )
    id_column: str | None = option(
        None,
        "of the same data: the column with what the instances are called elsewhere, for the tables of instances",
        metavar="NAME",
        free=True,
        of="csv tsv npz imagefolder",
    )
    cache: str | None = option(
        None,
        "folder that keeps images decoded and resized, and tokens of texts, for other processes and later runs",
        folder_name,
        metavar="FOLDER",
        free=True,
    )
    num_workers: int = option(2, "processes that decode images kept on the disk", natural_int, free=True)
    # The labels tell what it leaves out of the training split.
    skip_corrupt: int = option(0, "1 leaves images out that cannot be read", switch, of="image", free=True)


@dataclass(frozen=True)
class Model(Settings):
    """Which classifier, and what it starts from."""

    title: ClassVar = "model"

    model_name: str = option(
        "small_cnn",
        "small_cnn, resnet9_small, resnet20, resnet32, resnet56, any classification model of torchvision "
        "(resnet18, vit_b_16, ...), a Hugging Face classifier of images or texts by hub name or folder, or a folder "
        "that a fine-tuning script saved; in fine-tuning by default that of the statistics, from where its training "
        "started, not from its trained weights",
        metavar="NAME",
    )
    pretrained: int | None = option(
        None,
        "1 loads published weights; by default torchvision's models start from random weights, Hugging Face's from "
        "theirs",
        switch,
    )
    keep_stem: int = option(0, "", switch, of="image", hidden=True)  # 1: the 7x7 stem, also up to 64 px
    memory_format: str = option(
        "auto",
        "",
        choices=models.MEMORY_FORMATS,
        of="image",
        hidden=True,
    )
    reinit_classifier: int = option(0, "", switch, of="text", hidden=True)  # 1: gives a text classifier a new head
    freeze_encoder: int = option(
        0, "1 trains the head of a text classifier alone", switch, of="text", older="freeze_bert"
    )
    lora_rank: int | None = option(
        None,
        "train matrices of this rank beside the frozen weights of a Hugging Face classifier, and its head, by the "
        "package peft; by default all weights",
        positive_int,
        metavar="N",
    )


@dataclass(frozen=True)
class PgdSteps(Settings):
    """The ascent of PGD, as a perturbation and where a model is trained on it."""

    title: ClassVar = "perturbation"

    adv_steps: int = option(5, "pgd: ascent steps", natural_int, needs="do_pgd_training")
    adv_lr: float = option(0.03, "pgd: length of a step", positive_float, needs="do_pgd_training")


@dataclass(frozen=True)
class SpecialTokens(Settings):
    """Which tokens of a text PGD moves."""

    title: ClassVar = "perturbation"

    # 1 also moves the tokens that the tokenizer adds, as the older code did, but no padding.
    attack_special_tokens: int = option(0, "", switch, of="text", hidden=True)


@dataclass(frozen=True)
class PgdSize(SpecialTokens):
    """Start, bound and norm of PGD, also of the one that judges after fine-tuning."""

    title: ClassVar = "perturbation"

    adv_init_mag: float = option(0.05, "pgd: size of the random start", natural_float)
    adv_max_norm: float = option(0.0, "pgd: longest perturbation allowed, 0 for any", natural_float)
    adv_norm_type: str = option("l2", "pgd: the norm of step, start and bound", choices=("l2", "linf"))


@dataclass(frozen=True)
class Pgd(PgdSize, PgdSteps):
    """PGD as a perturbation."""

    def options(self) -> perturbations.PgdOptions:
        """As the catalogue takes them."""
        size = (self.adv_steps, self.adv_lr, self.adv_init_mag, self.adv_max_norm, self.adv_norm_type)
        return perturbations.PgdOptions(*size, special_tokens=bool(self.attack_special_tokens))


@dataclass(frozen=True)
class Perturbed(Settings):
    """What the instances meet in a collection."""

    title: ClassVar = "perturbation"

    perturbations: list[str] | None = option(
        None,
        "names, families (family:NAME), or all for the dataset's kind; by default blur, for digits random_shadow, for "
        "texts pgd. --list perturbations names those of "
        + ", ".join(f"{family} ({len(perturbations.names(family))})" for family in perturbations.families(None)),
        many="+",
        metavar="NAME",
        names=("-t",),
    )
    severity: list[int] = option(
        [3],
        "or weak (1), medium (3), strong (5); of several each has a file of its own, from one training run",
        severity,
        many="+",
        metavar="1..5",
    )


@dataclass(frozen=True)
class Training(Settings):
    """How a model is trained."""

    title: ClassVar = "training"

    epochs: int = option(10, "passes over the training instances", positive_int)
    stop_at_train_loss: float | None = option(
        None,
        "end the training after the epoch over which the mean cross-entropy was at most X; by default never",
        positive_float,
        metavar="X",
    )
    bsz: int = option(32, "instances per step, over all processes", positive_int)
    accumulate: int | None = option(
        None,
        "cut a process's share of a batch into N parts, of which one at a time takes its memory; the gradient is that "
        "of the whole; by default auto, as few as fit",
        number_or_auto,
        metavar="N",
        free=True,
    )
    optimizer: str = option("adamw", "sgd has Nesterov's momentum of 0.9", choices=("adamw", "sgd"))
    lr: float | None = option(
        None,
        "the highest learning rate; by default 1e-3, with sgd 0.1; from pretrained weights 2e-5, with sgd 1e-3",
        positive_float,
    )
    lr_schedule: str = option(
        "linear",
        "how lr falls to 0 after the warm-up; onecycle also rises along a cosine",
        choices=("linear", "cosine", "onecycle"),
    )
    weight_decay: float | None = option(
        None,
        "on all weights but biases and norms; by default 0.01, with sgd 5e-4 (a term of its gradient)",
        natural_float,
    )
    adam_epsilon: float = option(1e-8, "", positive_float, needs="optimizer=adamw", hidden=True)
    warmup_ratio: float = option(0.1, "share of the steps over which lr rises", natural_float)
    max_grad_norm: float = option(1.0, "longer gradients are shortened to this", positive_float)
    augment: str = option(
        "none",
        "of training images alone, anew at every epoch: flip half of them from left to right, cut them out of their "
        "padding of 4 px (at 32 px), or both; rrc flips and resizes a random cut of 0.08 to all of the area, as for "
        "ImageNet",
        choices=("none", "flip", "crop", "flip_crop", "rrc"),
    )
    label_smoothing: float = option(
        0.0,
        "share of the target that is spread over all classes; with flooding b is the level of such losses",
        share_or_none,
    )
    do_train_shuffle: int = option(1, "", switch, hidden=True)  # 0: in the order of the dataset

    def complete(self, starts_pretrained: bool = False) -> Training:
        """With the learning rate and the weight decay of the optimizer where none is given."""
        rates = LEARNING_RATE_FROM_PRETRAINED if starts_pretrained else LEARNING_RATE
        return dataclasses.replace(
            self,
            lr=rates[self.optimizer] if self.lr is None else self.lr,
            weight_decay=WEIGHT_DECAY[self.optimizer] if self.weight_decay is None else self.weight_decay,
        )


@dataclass(frozen=True)
class Curve(Settings):
    """When a model is judged while it is trained, on what, and the steps of the PGD that judges it."""

    title: ClassVar = "judging while training"

    judge_every_epoch: int = option(
        0,
        "log the accuracy under pgd every N epochs, in fine-tuning also under the statistics' perturbation; 0 never "
        "before the end of fine-tuning",
        number_or_never,
        metavar="N",
        names=("--attack_every_epoch",),
    )
    judge_instances: int | None = option(
        None,
        "with --judge_every_epoch: on M test instances, as many of each class, the same for every --seed, also clean; "
        "by default on all",
        positive_int,
        metavar="M",
        needs="judge_every_epoch",
    )
    pgd_step: int = option(5, "ascent steps of the pgd that judges the model; 0 leaves this judgement out", natural_int)
    pgd_lr: float = option(
        0.03,
        "length of one of its steps; with --adv_norm_type linf every value moves by it, along the gradient's sign",
        positive_float,
    )


def _use_untrained_model() -> int:
    """Of a collection's summary, and of metrics."""
    return option(
        0,
        "1 counts the checkpoint before the first step in the metrics, too; its losses are of the initial weights, not "
        "of the instances",
        switch,
        needs="with_untrained_model",
    )


@dataclass(frozen=True)
class Collection(Settings):
    """What is recorded, and when."""

    title: ClassVar = "collection"

    statistic_interval: float = option(
        1.0,
        "epochs between two checkpoints, a fraction is fine; the end of training is always one",
        positive_float,
        metavar="EPOCHS",
    )
    with_untrained_model: int = option(1, "1 also records before the first step", switch)
    use_untrained_model: int = _use_untrained_model()
    use_cur_preds: int = option(
        0, "1 takes the losses against the model's own clean prediction instead of the golden label", switch
    )
    severity_schedule: str = option(
        "constant",
        "linear raises the severity from 1 to 5 over training, as the older image code did",
        choices=("constant", "linear"),
    )
    collect_on: str | None = option(
        None,
        "also record instances that are not trained on, in files of their own: test or val, that split; an .npy of "
        "indices, as select_instances.py writes it, those of the training split, which are then held out of it",
        metavar="FILE",
    )
    record_input_gradient: int = option(
        0,
        "1 also records the norm of the gradient of each clean loss with respect to pixels or word embeddings",
        switch,
    )
    resample_perturbation: int = option(
        0, "1 draws a random perturbation anew at every checkpoint, so that variability also measures the dice", switch
    )


@dataclass(frozen=True)
class Metrics(Settings):
    """Which checkpoints count, and beside what an instance is measured."""

    title: ClassVar = "metrics"

    use_untrained_model: int = _use_untrained_model()
    only_original_pred: int = option(
        0, "1 counts only the checkpoints at which the clean input was classified correctly", switch
    )
    within_class: int = option(
        0, "1 takes every quantity as its difference from the mean of the instance's class", switch
    )


@dataclass(frozen=True)
class Choice(Settings):
    """Which instances a statistics file is asked for."""

    title: ClassVar = "selection"

    statistics_source: str | None = option(
        None,
        "a file that data_statistics.py wrote",
        metavar="FILE",
        names=("--select_from", "--statistics"),
        required=True,
    )
    select_metric: str | None = option(
        None,
        "NAME (sensitivity, variability, ...) takes the highest, NAME_r the lowest; A+B, with or without _r, "
        "those nearest to that corner; top_left, top_right, bottom_left, bottom_right are corners of loss_diff_mean "
        "(right) by loss_diff_std (up); residual is the rank of sensitivity without what the rank of mean clean loss "
        "explains; random is drawn by --seed; non_robust_METRIC is what METRIC leaves over; robust, swing, non_robust, "
        "of no use to flooding and soft labels, are the first, the middle and the last by sensitivity; FILE.npy is a "
        "list of indices, best first, from anywhere. By default perturbed_loss_mean_r, the most robust",
        metavar="METRIC",
    )
    select_ratio: float | None = option(
        None, "of the instances, in (0, 1]; by default 0.3, of a FILE.npy all", share, metavar="SHARE"
    )
    select_from_two_end: int = option(0, "1 takes from both ends of the ranking", switch)
    ratio_proportion: float | None = option(
        None,
        "with --select_from_two_end 1: the share, in [0, 1], that comes from the best end; by default 0.5",
        natural_float,
        metavar="SHARE",
        needs="select_from_two_end",
    )
    do_balance_labels: int = option(0, "1 takes the same number of instances of every class", switch)
    permute_statistics: int = option(
        0,
        "1 first gives the metrics of each instance to another of its class, drawn by --seed: a negative control",
        switch,
    )


@dataclass(frozen=True)
class Group(Settings):
    """A group by sensitivity, in the place of a metric: the older names of two options of `Choice`.

    group: takes what --select_metric of that name takes. set_percentage: in the place of --select_ratio with it, else
    the size of the groups whose losses are logged.
    """

    title: ClassVar = "selection"

    group: str | None = option(None, "", choices=("robust", "swing", "non_robust", "random"), hidden=True)
    set_percentage: float | None = option(None, "", share, hidden=True)


@dataclass(frozen=True)
class TwoSubsets(Settings):
    """A second subset that is trained on in turn with the first."""

    title: ClassVar = "two subsets"

    cycle_train: int = option(
        0,
        "trains on two subsets in turn, N epochs each: the chosen one, then that of --select_metric2; 0 on one",
        natural_int,
        many="?",
        metavar="N",
    )
    select_metric2: str | None = option(
        None, "of the other subset; as --select_metric", metavar="METRIC", needs="cycle_train"
    )
    select_ratio2: float | None = option(
        None, "of the other subset; by default as --select_ratio", share, metavar="SHARE", needs="cycle_train"
    )


@dataclass(frozen=True)
class ChosenInputs(Settings):
    """What the chosen instances look like in training."""

    title: ClassVar = "inputs of the chosen instances"

    do_pgd_training: int = option(
        0,
        "1 attacks them by pgd (--adv_steps, --adv_lr, --adv_init_mag, --adv_max_norm, --adv_norm_type) and leaves the "
        "others clean; where the chosen are all that is trained on, learns from every ascent step, as FreeLB does",
        switch,
        older="do_freelb_training",
    )
    augment_chosen: list[str] | None = option(
        None,
        "perturbations or families; at every visit a chosen instance meets one of them at a severity of 1 to 5, both "
        "drawn by --seed",
        many="+",
        metavar="NAME",
    )


@dataclass(frozen=True)
class FineTuning(Settings):
    """What a fine-tuning writes beside its model."""

    title: ClassVar = "fine-tuning"

    results_file: str | None = option(
        None, "CSV to which the run adds a row; by default results.csv in --output_dir", metavar="FILE", free=True
    )
    save_steps: float = option(
        0,
        "also save the model every N steps, as model_step<N>, or below 1 every such share of an epoch; 0 only at the "
        "end",
        steps_or_share,
        metavar="N",
    )


@dataclass(frozen=True)
class AttackAtTheEnd(Settings):
    """The attack on words that ends a fine-tuning."""

    title: ClassVar = "attack at the end"

    do_attack: int = option(0, "1 attacks the words of test texts at the end", switch)
    attack_method: list[str] | None = option(
        None,
        f"with --do_attack 1: {', '.join(WORD_ATTACKS)}; all; by default {WORD_ATTACKS[0]}",
        choices=(*WORD_ATTACKS, "all"),
        many="+",
        metavar="NAME",
    )


@dataclass(frozen=True)
class WordAttacks(Settings):
    """Attacks that change words of texts."""

    title: ClassVar = "attacks on words"

    num_examples: int | None = option(
        500,
        "texts to attack, as many of each class, drawn by --seed; -1 for all",
        number_or_all,
        metavar="N",
        of="text",
        needs="do_attack",
    )
    attack_column: str | None = option(
        None,
        "",
        metavar="NAME",
        of="text",
        needs="do_attack",
        hidden=True,
    )
    word_vectors: str | None = option(
        None,
        "textfooler, textbugger: lines of a word and its numbers, such as the counter-fitted vectors",
        metavar="FILE",
        of="text",
        needs="do_attack",
    )
    masked_lm: str | None = option(
        None,
        "bertattack, bae: the masked language model whose words they take, such as bert-base-uncased",
        metavar="FOLDER_OR_NAME",
        of="text",
        needs="do_attack",
    )
    sentence_encoder: str | None = option(
        None,
        "all but deepwordbug: holds their words to the meaning by this encoder, such as all-MiniLM-L6-v2, and to the "
        "part of speech (package textblob), as published; by default held to neither",
        metavar="FOLDER_OR_NAME",
        of="text",
        needs="do_attack",
    )


@dataclass(frozen=True)
class Judging(Settings):
    """Under which conditions a model is judged."""

    title: ClassVar = "judging"

    split: str = option("test", "the instances to judge the model on", choices=("train", "val", "test"))
    max_instances: int | None = option(
        None, "judge on N of them, as many of each class, drawn by --seed; by default on all", positive_int, metavar="N"
    )
    perturbations: list[str] | None = option(
        None,
        "names, families (family:NAME), all, or common: the 15 corruptions of ImageNet-C; by default none",
        many="+",
        metavar="NAME",
        names=("-t",),
    )
    severities: list[int] = option(
        [1, 2, 3, 4, 5], "of the perturbations and of the published corruptions", severity, many="+", metavar="1..5"
    )
    corruptions_dir: str | None = option(
        None,
        "published corruptions as CIFAR-10-C lays them out: labels.npy and <corruption>.npy, severity by severity",
        metavar="FOLDER",
    )
    reference: str | None = option(
        None, "JSON of another model judged likewise; gives the mean corruption error", metavar="FILE"
    )
    attack_method: list[str] | None = option(
        None,
        "fgsm, pgd, apgd, and without gradients square, spsa on pixels or word embeddings; autoattack on pixels "
        f"(package pyautoattack); on words {', '.join(WORD_ATTACKS)}; all; none; by default fgsm pgd, for texts pgd",
        choices=("fgsm", "pgd", "apgd", "square", "spsa", "autoattack", *WORD_ATTACKS, "all", "none"),
        many="+",
        metavar="NAME",
        names=("--attacks",),
    )
    linf_eps: list[float] | None = option(
        None,
        "fgsm, pgd: largest changes of a value of an image in [0,1], as 0.03 or 8/255; empty for none; by default "
        "2/255 4/255 8/255",
        fraction,
        many="*",
        metavar="EPS",
    )
    l2_eps: list[float] | None = option(
        None,
        "pgd: largest l2 norms of the change of an image in [0,1]; empty for none; by default 0.25 0.5 1; for texts "
        "both sizes are in the units of the embeddings, and pgd is by default held back by its steps alone",
        fraction,
        many="*",
        metavar="EPS",
    )
    pgd_step: list[int] = option(
        [20],
        "pgd: ascent steps; without eps, on texts, also several numbers, each judged",
        positive_int,
        many="+",
        metavar="N",
    )
    pgd_lr: list[float] | None = option(
        None,
        "pgd: length of a step; by default 2.5 eps / steps, 0.03 without eps, where several are judged with every "
        "number of steps",
        positive_float,
        many="+",
        metavar="LENGTH",
    )
    restarts: int = option(1, "pgd: random starts; the worst of them counts", positive_int)
    attack_loss: list[str] | None = option(
        None,
        "pgd: what it follows, ce (cross-entropy), margin, dlr (of at least three classes), turned (ce, at first "
        "against it), hidden (hidden layers, towards another class's mean); the worst of several counts; by default "
        "ce turned hidden",
        choices=(*ATTACK_LOSSES, "turned", "hidden"),
        many="+",
        metavar="LOSS",
    )
    source_model: list[str] | None = option(
        None,
        "attacks are made on this model and shown to the one that is judged; of several, and of the judged one itself, "
        "the worst counts",
        many="+",
        metavar="FOLDER",
    )
    adv_init_mag: float = option(0.05, "pgd without eps: size of the random start", natural_float, of="text")
    temperature: float = option(1.0, "", positive_float, metavar="T", hidden=True)
    queries: int = option(1000, "square, spsa: passes over each instance", positive_int)
    eot: int = option(1, "", positive_int, hidden=True)


@dataclass(frozen=True)
class Log(Settings):
    """Where the figures of an epoch also go."""

    title: ClassVar = "log"

    tensorboard: int = option(
        0,
        "1 also writes the figures of log.jsonl for TensorBoard, to tensorboard in --output_dir; it needs the package "
        "tensorboard",
        switch,
        free=True,
    )


@dataclass(frozen=True)
class Resume(Settings):
    """What a run keeps of itself on the way, and what it takes the place of."""

    title: ClassVar = "resume"

    save_every: int | None = option(
        None,
        "save the state of the run every so many steps too, beside every checkpoint and every five minutes; a killed "
        "run goes on from there",
        positive_int,
        metavar="STEPS",
        free=True,
    )
    overwrite: int = option(
        0,
        "1 starts anew where the same results are there already, or a run with other arguments was begun; what this "
        "very command began it goes on with",
        switch,
        free=True,
    )


@dataclass(frozen=True)
class Run(Settings):
    """The seed, and where and how a run computes."""

    title: ClassVar = "run"

    seed: int = option(42, "of weights, order, subsets and perturbations", natural_int)
    eval_size: int = option(
        256, "instances per batch where nothing is trained; halved where they do not fit in the memory", positive_int
    )
    precision: str = option(
        "fp32",
        "bf16 runs the model in bfloat16, with coarser logits, from weights in fp32; bf16_weights keeps these in it, "
        "too, of a partly frozen model the frozen ones; tf32 lets a GPU multiply numbers of fp32 with ten bits behind "
        "the point, of no effect on a CPU; losses stay in fp32",
        choices=("fp32", "tf32", "bf16", "bf16_weights"),
        older="tf32",
        older_value="tf32",
    )
    checkpoint_activations: int = option(
        0,
        "1 keeps of each block of a transformer its inputs alone and computes the rest anew for each gradient: less "
        "memory for a third more time",
        switch,
        free=True,
    )
    compile: int = option(0, "1 compiles the model by torch.compile, at first use", switch, free=True)
    # The same run may go on on another device, as it may on another machine.
    device: str | None = option(
        None,
        "where the model runs; by default on the first GPU that CUDA offers, or else on the CPU; mps is a GPU of Apple",
        choices=("cuda", "cpu", "mps"),
        free=True,
    )
    rendezvous_timeout: float = option(600.0, "", positive_float, metavar="SECONDS", free=True, hidden=True)
    output_dir: str = option("results", "where results go; made if missing", folder_name, metavar="FOLDER", free=True)


# The fields of the last base come first: a run's JSON begins with its data and its model.
@dataclass(frozen=True)
class Collect(Resume, Log, Run, Curve, Training, Collection, Pgd, Perturbed, Model, Data):
    """A training that is recorded; held_out: what tells the instances that a file of --collect_on holds out of it."""

    held_out: str | None = None


@dataclass(frozen=True)
class Choose(Metrics, Group, Choice, Data):
    """Instances that are chosen from a statistics file."""

    title: ClassVar = "run"

    tilt: list[tuple[str, float]] | None = option(
        None,
        "draw at random, as many of each class, but by these weights: of two instances of a class, the odds of coming "
        "first are exp of the difference of their sums of A times METRIC, as a normal score within the class without "
        "what the metrics before it explain",
        weight,
        many="+",
        metavar="METRIC=A",
    )
    seed: int = option(42, "of random choices and of --permute_statistics", natural_int)


@dataclass(frozen=True)
class FineTune(
    PgdSteps,
    ChosenInputs,
    Run,
    WordAttacks,
    AttackAtTheEnd,
    Resume,
    Log,
    FineTuning,
    PgdSize,
    Curve,
    Training,
    Choice,
    Metrics,
    Model,
    Data,
):
    """A training in which chosen instances are treated in a way of their own."""

    def attack_in_training(self) -> perturbations.PgdOptions | None:
        """That of --do_pgd_training, as the catalogue takes it; None without it."""
        return of(Pgd, self).options() if self.do_pgd_training else None


@dataclass(frozen=True)
class TrainSubset(Group, TwoSubsets, FineTune):
    """A training on chosen instances alone."""


@dataclass(frozen=True)
class Judgement(Run, WordAttacks, SpecialTokens, Judging, Model, Data):
    """A model that is judged; data_seed: drew the subset of --dataset_len and --val_len."""

    data_seed: int = 42
