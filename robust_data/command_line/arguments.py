"""The command line: every argument that scripts share is declared here, once."""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import datasets
import models
import perturbations
from registry import InputError, warn_once
from robust_data.command_line.conditions import STAND_INS, WORD_ATTACKS
from robust_data.files import LONGEST_NAME, fitting
from robust_data.running import launch

WRONG_USE = 2
# What a text dataset is told beside the arguments that all datasets share.
TEXT_ARGUMENTS = ("task_name", "max_seq_length", "text_column", "text_pair_column", "label_column", "encoding")
# Each gives the metrics another meaning.
METRIC_SWITCHES = ("within_class", "only_original_pred", "use_untrained_model")
SEVERITY_WORDS = {"weak": 1, "medium": 3, "strong": 5}


class _HelpWithDefaults(argparse.ArgumentDefaultsHelpFormatter):
    """Shows each default, but for None, which the help text puts in words."""

    def _get_help_string(self, action: argparse.Action) -> str:
        hide = action.default is None or isinstance(action.default, bool)
        return action.help or "" if hide else super()._get_help_string(action)

    def _metavar_formatter(self, action: argparse.Action, default_metavar: str):
        # The number types say what they take in words; a metavar in capitals would repeat the option's name.
        default_metavar = "{0,1}" if action.type is switch else "N" if action.type is not None else default_metavar
        return super()._metavar_formatter(action, default_metavar)


class Parser(argparse.ArgumentParser):
    """A parser that shows defaults in --help and answers a mistake with one line and exit status 2."""

    def __init__(self, **options):
        super().__init__(formatter_class=_HelpWithDefaults, allow_abbrev=False, **options)

    def parse_args(self, args=None, namespace=None) -> argparse.Namespace:
        parsed = super().parse_args(args, namespace)
        _settle_older(self, parsed)
        return parsed

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: error: {message}", file=sys.stderr)
        raise SystemExit(WRONG_USE)


class Interrupted(BaseException):
    """The run was asked to stop by a signal and has saved what it had; like KeyboardInterrupt no `Exception`."""

    def __init__(self, signal_number: int):
        super().__init__(f"interrupted by {signal.Signals(signal_number).name}")
        self.signal_number = signal_number


def run_script(parser: Parser, main: Callable[[argparse.Namespace], None]) -> None:
    """Parse the command line and call `main`; what the user got wrong is one line on stderr and exit status 2.

    A run that a signal stopped exits with 128 plus the signal's number. Where the reader of its output went away it
    does its work nevertheless, and then exits as if SIGPIPE had stopped it. Of several processes the first one to
    fail reports, with its rank.
    """
    if launch.process_count() == 1:
        _run(parser, main)
        return
    launch.end_with_launcher()
    try:
        _run(parser, main)
    except SystemExit as exit:
        launch.leave(exit.code or 0)
    launch.leave(0)


def _run(parser: Parser, main: Callable[[argparse.Namespace], None]) -> None:
    """Call `main`; an exception becomes a report and a SystemExit, but for one of a lone process that is our fault."""
    output = _Output(sys.stdout)
    try:
        with contextlib.redirect_stdout(output):
            try:
                main(parser.parse_args())
            finally:
                output.flush()
    except InputError as error:
        _report(parser, f"error: {' '.join(str(error).split())}")
        raise SystemExit(WRONG_USE) from None
    except Interrupted as error:
        _report(parser, f"{error}; the same command continues")
        raise SystemExit(128 + error.signal_number) from None
    except KeyboardInterrupt:
        # Nothing was saved: only a run that was stopped by way of `resume.stop_requests` can promise to continue.
        _report(parser, "interrupted")
        raise SystemExit(128 + signal.SIGINT) from None
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            _report(parser, f"error: {error.strerror}; make room and give the same command again")
            raise SystemExit(WRONG_USE) from None
        if launch.process_count() == 1:
            raise
        _report(parser, f"failed:\n{traceback.format_exc()}")
        raise SystemExit(1) from None
    if isinstance(output.failure, BrokenPipeError):
        raise SystemExit(128 + signal.SIGPIPE)
    if output.failure is not None:
        reason = output.failure.strerror or output.failure
        _report(parser, f"error: what was printed could not be written ({reason}); the files are complete")
        raise SystemExit(WRONG_USE)


class _Output:
    """Standard output that may fail without stopping the work: the rest is dropped, and `failure` tells why."""

    def __init__(self, stream: Any):
        self._stream = stream
        self.failure: OSError | None = None

    def write(self, text: str) -> int:
        self._attempt(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        self._attempt(self._stream.flush)

    def _attempt(self, action: Callable[[], Any]) -> None:
        if self.failure is not None:
            return
        try:
            action()
        except OSError as error:
            self.failure = error
            # Python would try to write what is left, and complain, once more at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _report(parser: Parser, message: str) -> None:
    """Print to stderr; of several processes only the first to come prints, and says its rank."""
    if launch.process_count() > 1:
        from robust_data.running import distributed

        if not distributed.first_to_fail():
            return
        message = f"rank {os.environ['RANK']}: {message}"
    with contextlib.suppress(OSError):  # the terminal is gone, for example
        print(f"{parser.prog}: {message}", file=sys.stderr)


def switch(text: str) -> int:
    """0 or 1."""
    if text not in ("0", "1"):
        raise argparse.ArgumentTypeError(f"'{text}' is not 0 or 1")
    return int(text)


# An option that takes 0 or 1, and without a value is 1.
SWITCH = {"type": switch, "nargs": "?", "const": 1}


def severity(text: str) -> int:
    """1..5, or weak, medium, strong."""
    number = SEVERITY_WORDS.get(text, text)
    if str(number) not in "12345" or len(str(number)) != 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not one of 1..5, weak (1), medium (3), strong (5)")
    return int(number)


def number(kind: Callable[[str], float], low: float, *, above: bool = False) -> Callable[[str], float]:
    """A type for argparse: a number of `kind`, at least `low`, or strictly above it."""

    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"'{text}' is not a number") from None
        # Written so that NaN fails.
        if not (value > low if above else value >= low) or value == float("inf"):
            raise argparse.ArgumentTypeError(f"{text} must be {'above' if above else 'at least'} {low}")
        return value

    return parse


def fraction(text: str) -> float:
    """A positive number, written as 0.03 or as 8/255."""
    numerator, _, denominator = text.partition("/")
    return positive_float(numerator) / positive_float(denominator or "1")


positive_int, natural_int = number(int, 1), number(int, 0)
positive_float, natural_float = number(float, 0, above=True), number(float, 0)


def number_or_never(text: str) -> int:
    """A whole number of at least 0; -1 is 0, as the older scripts wrote it."""
    return 0 if text == "-1" else natural_int(text)


def number_or_all(text: str) -> int | None:
    """A whole number of at least 1; -1 is None, for all there are."""
    return None if text == "-1" else positive_int(text)


def steps_or_share(text: str) -> float:
    """A number of steps; below 1 a share of an epoch; 0 and -1 for never."""
    value = 0.0 if text == "-1" else natural_float(text)
    if value > 1 and value != int(value):
        raise argparse.ArgumentTypeError(f"{text} is neither a whole number of steps nor a share of an epoch below 1")
    return value if 0 < value < 1 else int(value)


def attack_name(text: str) -> str:
    """The name of an attack; for one of the older scripts that is not here, of the one that takes its place."""
    if text not in STAND_INS:
        return text
    name = STAND_INS[text]
    if name not in WORD_ATTACKS:
        raise argparse.ArgumentTypeError(f"{text} is not here; {name} takes its place")
    warn_once(f"--attack_method {text}: {name} takes its place")
    return name


def share(text: str) -> float:
    """A number in (0, 1]."""
    value = positive_float(text)
    if value > 1:
        raise argparse.ArgumentTypeError(f"{text} is outside (0, 1]")
    return value


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("data")
    group.add_argument("--dataset_name", default="digits", metavar="NAME", help=f"one of {', '.join(datasets.names())}")
    group.add_argument("--task_name", metavar="NAME", help="the task within a dataset of several, such as glue's sst2")
    group.add_argument("--data_dir", metavar="PATH", help="folder (npz, csv, tsv: file) of the data; digits needs none")
    group.add_argument("--download", **SWITCH, default=0, help="1 fetches the data into --data_dir if it is not there")
    group.add_argument(
        "--dataset_len",
        type=positive_int,
        metavar="N",
        help="train on a class-balanced subset of N instances, drawn by --seed; by default on all",
    )
    group.add_argument(
        "--image_size",
        type=positive_int,
        metavar="PX",
        help="resize and centre-crop images to this side; by default as they are, 224 where sizes differ",
    )
    group.add_argument(
        "--max_seq_length", type=positive_int, metavar="TOKENS", help="texts are cut to this length; by default 128"
    )
    columns = {
        "text": "text; by default text",
        "text_pair": "second text, for pairs",
        "label": "label; by default label",
    }
    for name, what in columns.items():
        group.add_argument(f"--{name}_column", metavar="NAME", help=f"csv, tsv: the column with the {what}")
    group.add_argument(
        "--encoding", metavar="NAME", help="csv, tsv: how the file writes its characters, such as latin-1; else UTF-8"
    )
    group.add_argument(
        "--num_workers", type=natural_int, default=2, help="processes that decode images kept on the disk"
    )
    group.add_argument("--skip_corrupt", **SWITCH, default=0, help="1 leaves images out that cannot be read")


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model_name",
        default="small_cnn",
        metavar="NAME",
        help="small_cnn, resnet9_small, resnet20, resnet32, resnet56, any classification model of torchvision "
        "(resnet18, vit_b_16, ...), a Hugging Face classifier of images or texts by hub name or folder, or a folder "
        "that a fine-tuning script saved",
    )
    group.add_argument(
        "--pretrained",
        **SWITCH,
        help="1 loads published weights; by default torchvision's models start from random weights, "
        "Hugging Face's from theirs",
    )
    group.add_argument(
        "--keep_stem",
        **SWITCH,
        default=0,
        help="1 leaves the 7x7 stride-2 stem of a CNN as it is for images up to 64 px",
    )
    group.add_argument(
        "--memory_format",
        choices=models.MEMORY_FORMATS,
        default="contiguous",
        help="how an image classifier lays out weights and images; convolutions can be faster with channels_last",
    )
    group.add_argument("--reinit_classifier", **SWITCH, default=0, help="1 gives a text classifier a new head")
    group.add_argument("--freeze_encoder", **SWITCH, default=0, help="1 trains the head of a text classifier alone")


def add_training_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("training")
    group.add_argument("--epochs", type=positive_int, default=10, help="passes over the training instances")
    group.add_argument("--bsz", type=positive_int, default=32, help="instances per step, over all processes")
    group.add_argument("--lr", type=positive_float, help="by default 1e-3, and 2e-5 from pretrained weights")
    group.add_argument(
        "--weight_decay", type=natural_float, default=0.01, help="AdamW's, on all weights but biases and norms"
    )
    group.add_argument("--adam_epsilon", type=positive_float, default=1e-8, help="AdamW's")
    group.add_argument("--warmup_ratio", type=natural_float, default=0.1, help="share of the steps over which lr rises")
    group.add_argument(
        "--max_grad_norm", type=positive_float, default=1.0, help="longer gradients are shortened to this"
    )
    group.add_argument("--do_train_shuffle", **SWITCH, default=1, help="0 trains in the order of the dataset")


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("run")
    group.add_argument("--seed", type=natural_int, default=42, help="of weights, order, subsets and perturbations")
    group.add_argument(
        "--eval_size", type=positive_int, default=256, help="instances per batch where nothing is trained"
    )
    group.add_argument(
        "--precision",
        choices=("fp32", "bf16"),
        default="fp32",
        help="bf16 runs the model in bfloat16 (faster on most GPUs, coarser logits); losses stay in fp32",
    )
    group.add_argument("--output_dir", default="results", metavar="FOLDER", help="where results go; made if missing")


def add_resume_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("resume")
    group.add_argument(
        "--save_every",
        type=positive_int,
        default=500,
        metavar="STEPS",
        help="also save the state of the run every so many steps; a killed run goes on from there",
    )
    group.add_argument(
        "--overwrite",
        **SWITCH,
        default=0,
        help="1 starts anew where the same results are there already, or a run with other arguments was begun; "
        "what this very command began it goes on with",
    )


def add_perturbation_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("perturbation")
    families = dict.fromkeys([*perturbations.families("image"), *perturbations.families("text")])
    listed = "; ".join(f"{family}: {', '.join(perturbations.names(family))}" for family in families)
    group.add_argument(
        "-t",
        "--perturbations",
        nargs="+",
        metavar="NAME",
        help=f"names, families (family:NAME), or all for the dataset's kind; by default blur, for digits glass_blur, "
        f"for texts pgd. {listed}",
    )
    group.add_argument(
        "--severity", type=severity, default=3, metavar="1..5", help="or weak (1), medium (3), strong (5)"
    )
    _add_ascent_arguments(group)
    _add_attack_size_arguments(group)


def _add_ascent_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--adv_steps", type=natural_int, default=5, help="pgd: ascent steps")
    group.add_argument("--adv_lr", type=positive_float, default=0.03, help="pgd: length of a step")


def _add_attack_size_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--adv_init_mag", type=natural_float, default=0.05, help="pgd: size of the random start")
    group.add_argument(
        "--adv_max_norm", type=natural_float, default=0.0, help="pgd: longest perturbation allowed, 0 for any"
    )
    group.add_argument(
        "--adv_norm_type", choices=("l2", "linf"), default="l2", help="pgd: the norm of step, start and bound"
    )
    _add_special_tokens_argument(group)


def _add_special_tokens_argument(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--attack_special_tokens",
        **SWITCH,
        default=0,
        help="pgd on texts: 1 also moves the tokens that the tokenizer adds, as the older code did, but no padding",
    )


def add_collection_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("collection")
    group.add_argument(
        "--statistic_interval",
        type=positive_float,
        default=1.0,
        metavar="EPOCHS",
        help="epochs between two checkpoints, a fraction is fine; the end of training is always one",
    )
    group.add_argument("--with_untrained_model", **SWITCH, default=1, help="1 also records before the first step")
    _add_untrained_argument(group)
    group.add_argument(
        "--use_cur_preds",
        **SWITCH,
        default=0,
        help="1 takes the losses against the model's own clean prediction instead of the golden label",
    )
    group.add_argument(
        "--severity_schedule",
        choices=("constant", "linear"),
        default="constant",
        help="linear raises the severity from 1 to 5 over training, as the older image code did",
    )
    group.add_argument(
        "--resample_perturbation",
        **SWITCH,
        default=0,
        help="1 draws a random perturbation anew at every checkpoint, so that variability also measures the dice",
    )


def add_metric_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("metrics")
    _add_untrained_argument(group)
    group.add_argument(
        "--only_original_pred",
        **SWITCH,
        default=0,
        help="1 counts only the checkpoints at which the clean input was classified correctly",
    )
    group.add_argument(
        "--within_class",
        **SWITCH,
        default=0,
        help="1 takes every quantity as its difference from the mean of the instance's class",
    )


def _add_untrained_argument(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--use_untrained_model",
        **SWITCH,
        default=0,
        help="1 counts the checkpoint before the first step in the metrics, too; its losses are of the initial "
        "weights, not of the instances",
    )


def metric_suffix(args: argparse.Namespace) -> str:
    """What a file's name says of the switches of `add_metric_arguments` that are on, as they change its meaning."""
    return "".join(f"_{name}" for name in METRIC_SWITCHES if getattr(args, name, 0))


def add_selection_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("selection")
    group.add_argument(
        "--statistics_source",
        "--statistics",
        required=True,
        metavar="FILE",
        help="a file that data_statistics.py wrote",
    )
    group.add_argument(
        "--select_metric",
        metavar="METRIC",
        help="NAME takes the highest, NAME_r the lowest; A+B, with or without _r, those nearest to that corner; "
        "top_left, top_right, bottom_left, bottom_right are corners of loss_diff_mean (right) by loss_diff_std (up); "
        "non_robust_METRIC is what METRIC leaves over. By default perturbed_loss_mean_r, the most robust",
    )
    group.add_argument(
        "--select_ratio", type=share, metavar="SHARE", help="of the instances, in (0, 1]; by default 0.3"
    )
    group.add_argument("--select_from_two_end", **SWITCH, default=0, help="1 takes from both ends of the ranking")
    group.add_argument(
        "--ratio_proportion",
        type=natural_float,
        metavar="SHARE",
        help="with --select_from_two_end 1: the share, in [0, 1], that comes from the best end; by default 0.5",
    )
    group.add_argument(
        "--do_balance_labels", **SWITCH, default=0, help="1 takes the same number of instances of every class"
    )


def add_group_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("groups")
    group.add_argument(
        "--group",
        choices=("robust", "swing", "non_robust", "random"),
        help="instead of --select_metric: the first, the middle or the last by sensitivity, or as many drawn by --seed",
    )
    group.add_argument(
        "--set_percentage",
        type=share,
        metavar="SHARE",
        help="size of each group, in (0, 1], by default 0.3; above 1/3 they overlap",
    )


def add_judging_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("judging")
    group.add_argument("--split", choices=("train", "test"), default="test", help="the instances to judge the model on")
    group.add_argument(
        "--max_instances",
        type=positive_int,
        metavar="N",
        help="judge on N of them, as many of each class, drawn by --seed; by default on all",
    )
    group.add_argument(
        "-t",
        "--perturbations",
        nargs="+",
        metavar="NAME",
        help="names, families (family:NAME), all, or common: the 15 corruptions of ImageNet-C; by default none",
    )
    group.add_argument(
        "--severities",
        nargs="+",
        type=severity,
        default=[1, 2, 3, 4, 5],
        metavar="1..5",
        help="of the perturbations and of the published corruptions",
    )
    group.add_argument(
        "--corruptions_dir",
        metavar="FOLDER",
        help="published corruptions as CIFAR-10-C lays them out: labels.npy and <corruption>.npy, severity by severity",
    )
    group.add_argument(
        "--reference", metavar="FILE", help="JSON of another model judged likewise; gives the mean corruption error"
    )
    group.add_argument(
        "--attack_method",
        "--attacks",
        nargs="+",
        type=attack_name,
        choices=("fgsm", "pgd", *WORD_ATTACKS, "all", "none"),
        metavar="NAME",
        help=f"fgsm, pgd on pixels or word embeddings; on words {', '.join(WORD_ATTACKS)}; all; none; by default "
        "fgsm pgd, for texts pgd",
    )
    group.add_argument(
        "--linf_eps",
        nargs="*",
        type=fraction,
        metavar="EPS",
        help="fgsm, pgd: largest changes of a value of an image in [0,1], as 0.03 or 8/255; empty for none; "
        "by default 2/255 4/255 8/255",
    )
    group.add_argument(
        "--l2_eps",
        nargs="*",
        type=fraction,
        metavar="EPS",
        help="pgd: largest l2 norms of the change of an image in [0,1]; empty for none; by default 0.25 0.5 1; for "
        "texts both sizes are in the units of the embeddings, and pgd is by default held back by its steps alone",
    )
    group.add_argument("--pgd_step", type=positive_int, default=20, help="pgd: ascent steps")
    group.add_argument(
        "--pgd_lr", type=positive_float, help="pgd: length of a step; by default 2.5 eps / steps, 0.03 without eps"
    )
    group.add_argument("--restarts", type=positive_int, default=1, help="pgd: random starts; the worst of them counts")
    _add_special_tokens_argument(group)


def add_word_attack_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("attacks on words")
    group.add_argument(
        "--num_examples",
        type=number_or_all,
        default=500,
        metavar="N",
        help="texts to attack, as many of each class, drawn by --seed; -1 for all",
    )
    group.add_argument(
        "--attack_column", metavar="NAME", help="of pairs, the column that may change, or 1 or 2; by default the last"
    )
    group.add_argument(
        "--word_vectors",
        metavar="FILE",
        help="textfooler, textbugger: lines of a word and its numbers, such as the counter-fitted vectors",
    )
    group.add_argument(
        "--masked_lm",
        metavar="FOLDER_OR_NAME",
        help="bae: the masked language model whose words it takes, such as bert-base-uncased",
    )


def add_fine_tuning_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("fine-tuning")
    group.add_argument(
        "--attack_every_epoch",
        type=number_or_never,
        default=0,
        metavar="N",
        help="measure accuracy under pgd and under the statistics' perturbation every N epochs; 0 only at the end",
    )
    group.add_argument(
        "--pgd_step",
        type=natural_int,
        default=5,
        help="ascent steps of the pgd that judges the model; 0 leaves this judgement out",
    )
    group.add_argument(
        "--pgd_lr",
        type=positive_float,
        default=0.03,
        help="length of one of its steps; with --adv_norm_type linf every value moves by it, along the gradient's sign",
    )
    _add_attack_size_arguments(group)
    group.add_argument(
        "--results_file", metavar="FILE", help="CSV to which the run adds a row; by default results.csv in --output_dir"
    )
    group.add_argument(
        "--save_steps",
        type=steps_or_share,
        default=0,
        metavar="N",
        help="also save the model every N steps, as model_step<N>, or below 1 every such share of an epoch; 0 only at "
        "the end",
    )
    group.add_argument(
        "--show_data",
        type=number_or_never,
        default=0,
        metavar="N",
        help="write the first N chosen instances to shown_data.csv in --output_dir",
    )


def add_fine_tuning_script_arguments(parser: argparse.ArgumentParser) -> None:
    """What the fine-tuning scripts have in common; the data are by default those of the statistics."""
    add_data_arguments(parser)
    parser.set_defaults(dataset_name=None, download=None, num_workers=None, skip_corrupt=None)
    add_model_arguments(parser)
    add_metric_arguments(parser)
    add_selection_arguments(parser)
    add_training_arguments(parser)
    add_fine_tuning_arguments(parser)
    add_resume_arguments(parser)
    group = parser.add_argument_group("attack at the end")
    group.add_argument("--do_attack", **SWITCH, default=0, help="1 attacks the words of test texts at the end")
    group.add_argument(
        "--attack_method",
        nargs="+",
        type=attack_name,
        choices=(*WORD_ATTACKS, "all"),
        metavar="NAME",
        help=f"with --do_attack 1: {', '.join(WORD_ATTACKS)}; all; by default {WORD_ATTACKS[0]}",
    )
    add_word_attack_arguments(parser)
    add_run_arguments(parser)
    add_older_arguments(parser)


def add_adversarial_training_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("adversarial training")
    group.add_argument(
        "--do_pgd_training",
        **SWITCH,
        default=0,
        help="1 trains on the ascent steps of pgd (--adv_steps, --adv_lr, --adv_init_mag, --adv_max_norm, "
        "--adv_norm_type) instead of on clean inputs, as FreeLB does",
    )
    _add_ascent_arguments(group)


# Of the older scripts' options, which were the same for all of them: those of another name here, ...
RENAMED = {"freeze_bert": "freeze_encoder", "do_freelb_training": "do_pgd_training"}
# ... those that had to be given, or have another form, with what takes their place, ...
REPLACED = {
    "num_labels": "the classes are counted in the data",
    "attack_every_step": "--attack_every_epoch N judges the model every N epochs",
}
# ... and those that belong to one of our scripts alone, and change nothing in what another one does.
OF_OTHER_SCRIPTS = (
    *("statistic_interval", "with_untrained_model", "use_cur_preds", "adv_steps", "adv_lr", "adv_init_mag"),
    *("adv_max_norm", "adv_norm_type", "pgd_step", "pgd_lr", "do_attack", "attack_all", "attack_method"),
    *("attack_every_epoch", "num_examples", "results_file", "save_steps", "show_data"),
)


def add_older_arguments(parser: argparse.ArgumentParser, others: bool = True) -> None:
    """Accept what the command lines of the two older repositories say beside our own options; --help is silent on it.

    To be called last. others: also the options that belong to other scripts, which are told and left alone.
    """
    own = parser._option_string_actions
    hidden: dict[str, Any] = {"help": argparse.SUPPRESS, "default": argparse.SUPPRESS}
    for older, name in RENAMED.items():
        if f"--{name}" in own:
            parser.add_argument(f"--{older}", dest=name, **SWITCH, **hidden)
        elif others:
            parser.add_argument(f"--{older}", action=_Older, **SWITCH, **hidden)
    if "--attack_method" in own:
        parser.add_argument("--attack_all", action=_Older, **SWITCH, **hidden)
    for older in (*REPLACED, *OF_OTHER_SCRIPTS) if others else ():
        if f"--{older}" not in own:
            parser.add_argument(f"--{older}", action=_Older, nargs="*", **hidden)


class _Older(argparse.Action):
    """Keeps what an option of the older scripts was given for `_settle_older`, out of the arguments of the run."""

    def __call__(self, parser, namespace, values, option_string=None):
        namespace.older = {**getattr(namespace, "older", {}), self.dest: values}


def _settle_older(parser: Parser, args: argparse.Namespace) -> None:
    """Do what the options of the older scripts ask for, or say in one line what takes their place."""
    given = vars(args).pop("older", {})
    # Switched off, an option asks for nothing.
    asked = [name for name, values in given.items() if values not in (0, ["0"], ["-1"])]
    if "do_freelb_training" in asked:
        parser.error("--do_freelb_training: finetune_with_select_data.py trains so, with --do_pgd_training 1")
    if "attack_all" in asked and hasattr(args, "attack_method"):
        args.attack_method = ["all"]
        warn_once("--attack_all attacks by every method, as --attack_method all; for all texts give --num_examples -1")
        asked.remove("attack_all")
    for name in asked:
        if name in REPLACED:
            warn_once(f"--{name} has no effect: {REPLACED[name]}")
    if others := [f"--{name}" for name in asked if name not in REPLACED]:
        warn_once(f"{', '.join(others)}: without effect here, of use to other scripts")


def pgd_options(args: argparse.Namespace) -> perturbations.PgdOptions:
    """The --adv_* arguments as one object."""
    return perturbations.PgdOptions(
        args.adv_steps,
        args.adv_lr,
        args.adv_init_mag,
        args.adv_max_norm,
        args.adv_norm_type,
        special_tokens=bool(args.attack_special_tokens),
    )


def judging_pgd_options(args: argparse.Namespace) -> perturbations.PgdOptions:
    """The size of the pgd that judges a fine-tuned model."""
    return perturbations.PgdOptions(
        args.pgd_step,
        args.pgd_lr,
        args.adv_init_mag,
        args.adv_max_norm,
        args.adv_norm_type,
        sign=args.adv_norm_type == "linf",
        special_tokens=bool(args.attack_special_tokens),
    )


def text_options(args: argparse.Namespace) -> dict[str, Any]:
    """What `datasets.load` takes for texts: how they are tokenised, and where in a file they stand.

    Raises InputError for texts and a model that is known to classify images.
    """
    if datasets.modality(args.dataset_name) == "text":
        import models

        if args.model_name in models.names():
            raise InputError(
                f"--model_name {args.model_name} classifies images, --dataset_name {args.dataset_name} holds texts; "
                "give a Hugging Face text classifier, such as bert-base-uncased, or a folder"
            )
    return {"tokenizer": args.model_name} | {name: getattr(args, name) for name in TEXT_ARGUMENTS}


def model_options(args: argparse.Namespace, dataset) -> dict[str, Any]:
    """What `models.build` takes for a dataset beside the name and the number of classes."""
    return {
        "modality": dataset.modality,
        "image_size": dataset.image_size,
        "max_seq_length": getattr(dataset, "max_seq_length", None),
        "vocabulary": getattr(dataset, "vocabulary", None),
        "label_names": dataset.label_names,
        "pretrained": None if args.pretrained is None else bool(args.pretrained),
        "keep_stem": bool(args.keep_stem),
        "memory_format": args.memory_format,
        "reinit_classifier": bool(args.reinit_classifier),
        "freeze_encoder": bool(args.freeze_encoder),
    }


def statistics_name(args: argparse.Namespace, perturbation: str | None = None) -> str:
    """The name of a run's statistics file, plain without `perturbation`.

    One that would be too long ends, before the perturbation, in a hash of what is cut off; the JSON has all of it.
    """
    parts = {
        "model": Path(args.model_name).name,
        "dataset": args.dataset_name,
        "task": args.task_name,
        "seed": args.seed,
        "shuffle": args.do_train_shuffle,
        "len": args.dataset_len,
        "adv_steps": args.adv_steps,
        "adv_lr": args.adv_lr,
        "epoch": args.epochs,
        "lr": args.lr,
        "interval": args.statistic_interval,
        "with_untrained_model": args.with_untrained_model,
        "use_cur_preds": args.use_cur_preds,
    }
    name = "robust_statistics_" + "_".join(f"{key}{value}" for key, value in parts.items())
    severity_name = args.severity if args.severity_schedule == "constant" else "1to5"
    end = ".npy" if perturbation is None else f"_t{perturbation}_severity{severity_name}.npy"
    return fitting(name, LONGEST_NAME - len(end)) + end
