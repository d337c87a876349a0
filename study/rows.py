"""The runs of the study, as one list: what `plan.md` plans, in the order in which it is computed.

A row is one run: a collection of statistics, or a training with its judgement. Its commands name the files of other
rows by fields in braces, which `run.py` fills in: {data} the folder of the data, {folder} the row's own, {model} the
text encoder, {statistics:PERTURBATION} a statistics file of the row that it needs, {loss:ROW} the last training
cross-entropy of another row, {model:ROW} its model, {half} the indices of a random half, {tilted} those of a half that
leans (`halves.py`), {planted} images with planted faults (`planted.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

Command = tuple[str, ...]

# Chosen on validation instances by the rule of the plan; see the blocks `sweep`.
FLOOD_LEVEL = {"images": 0.2, "texts": 0.3}
SOFT_LABEL = {"images": 0.9, "texts": 0.8}

REPLICATES = {"images": range(1, 9), "texts": range(1, 7)}
# Of one more block, which counts with `text_arms` once it is complete.
SEVENTH = 7
MILDLY_CHECKED_REPLICATES = (1, 5, 6)
# Of study 2: the statistics runs whose scores tilt halves, those halves, of which the last 40 are held out of the
# regression, and the statistics runs on planted faults.
SCORED, TILTED, HELD_OUT_HALVES, PLANTED = range(21, 25), range(1, 161), 40, range(31, 35)
STATISTICS_SEED, TRAINING_SEED, HALVES_SEED, JUDGING_SEED, TILTED_SEED = 100, 200, 300, 1, 1000
# The replicate on which flood level and soft label are chosen; it is in no comparison.
VALIDATION = 0

# Of study 2, by block.
PARTS = {
    **dict.fromkeys(("turned_sweep", "turned_checks"), "A1"),
    **dict.fromkeys(("paired_arms", "paired_subsets", "half_checks"), "A2"),
    "fold": "A4",
    **dict.fromkeys(("tilted_statistics", "tilted", "planted"), "B"),
    **dict.fromkeys(("attacked", "corrupted", "left_out", "left_out_10", "attacked_texts"), "C"),
}

COLLECT, JUDGE = "data_statistics.py", "evaluate_robustness.py"
FLOOD = "new_fine_tune_flooding/new_fine_tune_flooding.py"
SOFT = "new_fine_tune_flooding/new_fine_tune_soft_label.py"
SUBSET = "finetune_with_select_data.py"
SCALE, FOLD = "study/older_scale.py", "study/fold.py"

HALF, ONE, TWO = 0.5 / 255, 1 / 255, 2 / 255


@dataclass(frozen=True)
class Row:
    """One run.

    name: unique, also that of its folder. hypotheses: those that it serves. needs: names of rows that must be there
    before. commands: the first collects or trains, the others judge. again: what makes anew the files that later rows
    need of this one, where it is finished and they are gone; by default the first command.
    """

    name: str
    data: str
    block: str
    arm: str
    replicate: int
    hypotheses: tuple[str, ...]
    needs: tuple[str, ...]
    commands: tuple[Command, ...]
    tier: int = 1
    again: Command = ()

    @property
    def tags(self) -> set[str]:
        """What `run.py --only` knows this row by."""
        tags = {self.name, self.data, self.block, self.arm, f"replicate{self.replicate}", f"tier{self.tier}"}
        return tags | {PARTS.get(self.block, "study1"), *self.hypotheses}


@dataclass(frozen=True)
class Arm:
    """A way of training, as a script with options. metric: by the loss under which perturbation instances rank."""

    name: str
    script: str
    options: str
    hypotheses: tuple[str, ...] = ()
    perturbation: str = ""
    loss_of: str = ""


@dataclass(frozen=True)
class Regime:
    """How models are trained and judged in a group of rows; the fields are options."""

    data: str
    file: str
    train: str
    judge: tuple[str, ...]
    ranking: str
    curve: str = ""
    tier: int = 1


RESNET9 = "--model_name resnet9_small --epochs 12 --lr 4e-3"
NET = "--memory_format channels_last --precision bf16 --bsz 128 --warmup_ratio 0.2 --weight_decay 0.05"
ENCODER = "--model_name {model} --bsz 32 --epochs 2 --lr 5e-5"
BALL = f"--adv_norm_type linf --adv_init_mag {HALF:.8f} --adv_max_norm {HALF:.8f}"
CURVE = f"--judge_every_epoch 2 --judge_instances 500 --pgd_step 5 --pgd_lr {HALF / 2:.8f} {BALL}"
WORD_ASCENT = "--do_pgd_training 1 --adv_steps 3 --adv_lr 0.03"
ASCENT = f"--do_pgd_training 1 --adv_steps 3 --adv_lr {HALF / 2:.8f}"
SIZES = f"--linf_eps {HALF:.8f} {ONE:.8f} {TWO:.8f} --l2_eps"
# What PGD follows in the endpoints, as they were planned; a later word counts.
PGD = "pgd --attack_loss ce"
PIXELS = f"--attacks {PGD} {SIZES} --pgd_step 20"
# Beside the attacks of the primary endpoint: of what withstands both an instance is right under the worst.
MARGINS = f"--attacks pgd --attack_loss margin --linf_eps {ONE:.8f} --l2_eps --pgd_step 10"
MARGINS_OF_ALL_SIZES = f"--attacks pgd --attack_loss margin {SIZES} --pgd_step 10"
JUDGE_NET = "--memory_format channels_last --precision bf16"
EFFORTS = "--pgd_step 4 8 --pgd_lr 0.03 0.06"
WORDS = f"--attacks {PGD} {EFFORTS}"
WORDS_AND_LETTERS = f"--attacks deepwordbug {PGD} {EFFORTS} --num_examples 200"
HARDEST = "--pgd_step 8 --pgd_lr 0.06 --max_instances 400"
HARDEST_WORDS = f"--attacks {PGD} {HARDEST}"
MILDER_WORDS = f"--attacks {PGD} --pgd_step 4 8 --pgd_lr 0.03 --max_instances 400"
# Attacks that see past a fold beside that of the endpoints; of images another loss, and a search without gradients.
PAST_FOLDS = "--attack_loss ce turned hidden"
WORDS_PAST_FOLDS = f"--attacks pgd {PAST_FOLDS}"
FEW = "--max_instances 500"
PIXELS_PAST_FOLDS = f"--attacks pgd {PAST_FOLDS} margin {SIZES} --pgd_step 20 {FEW}"
SQUARES = f"--attacks square --queries 100 {SIZES} {FEW}"
HARDEST_WORDS_AND_LETTERS = f"--attacks deepwordbug {PGD} {HARDEST} --num_examples 100"
BALANCED = "--do_balance_labels 1"
RANKED = f"--within_class 1 {BALANCED}"

IMAGES = Regime(
    "images", "images.npz", f"{RESNET9} {NET}", (f"{JUDGE_NET} {PIXELS} -t common --severities 3",), RANKED, CURVE
)
TEXTS = Regime("texts", "texts", ENCODER, (WORDS_AND_LETTERS,), BALANCED, "--pgd_step 0")


def flooding(name: str, choice: str, *hypotheses: str, level: str = "{flood}", **options: str) -> Arm:
    return Arm(name, FLOOD, f"--b {level} {choice}", hypotheses, **options)


def soft(name: str, choice: str, level: str = "{soft}") -> Arm:
    return Arm(name, SOFT, f"--soft_label {level} {choice}")


def subset(name: str, choice: str, *hypotheses: str) -> Arm:
    return Arm(name, SUBSET, choice, hypotheses)


def left_out(name: str, kept: str, share: float, how: str = "") -> Arm:
    """Training without a share of the instances, by what is kept of them."""
    # Groups of 10 instances: the usual ones, whose losses the script logs, would cost as much as half the training.
    return subset(f"{name}_{round(100 * share)}", f"{kept} --select_ratio {1 - share:g} --set_percentage 0.001 {how}")


# The noise and blur of ImageNet-C, which the other eight of the 15 corruptions are not.
NOISE_AND_BLUR = "gaussian_noise shot_noise impulse_noise defocus_blur glass_blur motion_blur zoom_blur"

# Instances by what they are chosen for; {ranking} is filled in by the regime.
ROBUST = "--select_metric perturbed_loss_mean_r {ranking}"
RANDOM = f"--select_metric random {BALANCED}"
EASY = "--select_metric original_loss_mean_r {ranking}"
HARD = "--select_metric original_loss_mean {ranking}"
NON_ROBUST = "--select_metric perturbed_loss_mean {ranking}"
SHARE, EVERY, ONE_HALF = "--select_ratio 0.3", "--select_ratio 1", "--select_ratio 0.5"

# What part C of study 2 chooses, and how each part of it treats the chosen.
CHOICES = {
    "robust": f"{ROBUST} {SHARE}",
    "non_robust": f"{NON_ROBUST} {SHARE}",
    "easy": f"{EASY} {SHARE}",
    "hard": f"{HARD} {SHARE}",
    "residual": f"--select_metric residual_r {{ranking}} {SHARE}",
    "random": f"{RANDOM} {SHARE}",
    "all": f"--select_metric perturbed_loss_mean_r {EVERY}",
}
KEPT = {"without_non_robust": ROBUST, "without_hard": EASY, "without_random": RANDOM}
ADVERSARIAL = "_attacked"

PLAIN = flooding("plain", f"{ROBUST} {SHARE}", "H1", "H2", "H3", level="0")
FLOOD_ROBUST = flooding("flood_robust", f"{ROBUST} {SHARE}", "H1", "H2", "H3")
FLOOD_RANDOM = flooding("flood_random", f"{RANDOM} {SHARE}", "H1")
FLOOD_ALL = flooding("flood_all", f"--select_metric perturbed_loss_mean_r {EVERY}", "H3")
FLOOD_EASY = flooding("flood_easy", f"{EASY} {SHARE}", "H2")
FLOOD_NON_ROBUST = flooding("flood_non_robust", f"{NON_ROBUST} {SHARE}")
FLOOD_RESIDUAL = flooding("flood_residual", f"--select_metric residual_r {{ranking}} {SHARE}")
PLAIN_STOPPED = flooding(
    "plain_stopped", f"{ROBUST} {SHARE} --stop_at_train_loss {{loss}}", level="0", loss_of="flood_robust"
)
SOFT_ROBUST, SOFT_RANDOM = soft("soft_robust", f"{ROBUST} {SHARE}"), soft("soft_random", f"{RANDOM} {SHARE}")
SOFT_ALL = soft("soft_all", f"--select_metric perturbed_loss_mean_r {EVERY}")
RANDOM_HALF = subset("random_half", f"{RANDOM} {ONE_HALF}", "H4")
SWING_HALF = subset("swing_half", f"--group swing --set_percentage 0.5 {RANKED}")
HARD_HALF = subset("hard_half", f"{HARD} {ONE_HALF}")
LOW_GRADIENT_HALF = subset("low_gradient_half", f"--select_metric input_gradient_r {{ranking}} {ONE_HALF}")

ARMS = {
    "arms": (
        PLAIN,
        FLOOD_ROBUST,
        FLOOD_RANDOM,
        FLOOD_EASY,
        FLOOD_ALL,
        flooding("flood_permuted", f"{ROBUST} {SHARE} --permute_statistics 1", "controls"),
        Arm(
            "pgd_training",
            SUBSET,
            f"--select_metric perturbed_loss_mean_r {EVERY} {ASCENT}",
            ("controls",),
        ),
    ),
    "subsets": (
        subset("robust_half", f"{ROBUST} {ONE_HALF}", "H4"),
        RANDOM_HALF,
        subset("easy_half", f"{EASY} {ONE_HALF}"),
        subset("non_robust_half", f"{NON_ROBUST} {ONE_HALF}"),
        subset("random_quarter", f"{RANDOM} --select_ratio 0.25"),
    ),
    "more_arms": (
        FLOOD_NON_ROBUST,
        FLOOD_RESIDUAL,
        flooding("flood_noise", f"{ROBUST} {SHARE}", perturbation="gaussian_noise"),
        flooding("flood_all_batch", f"--select_metric perturbed_loss_mean_r {EVERY} --flooding batch"),
        SOFT_ROBUST,
        SOFT_RANDOM,
        SOFT_ALL,
        PLAIN_STOPPED,
    ),
    "more_subsets": (
        SWING_HALF,
        HARD_HALF,
        LOW_GRADIENT_HALF,
        subset("random_15", f"{RANDOM} --select_ratio 0.15"),
        subset("robust_half_unbalanced", f"--select_metric perturbed_loss_mean_r {ONE_HALF}"),
    ),
    # Of study 2: what more_arms and more_subsets compare, beside what it is compared with, on one machine.
    "paired_arms": (PLAIN, FLOOD_ROBUST, FLOOD_RANDOM, FLOOD_NON_ROBUST, FLOOD_RESIDUAL),
    "paired_subsets": (RANDOM_HALF, LOW_GRADIENT_HALF, SWING_HALF, HARD_HALF),
    # Of study 2, too: choices by uses.
    "attacked": (
        PLAIN,
        *(flooding(f"attacked_{name}", f"{choice} {ASCENT}", level="0") for name, choice in CHOICES.items()),
    ),
    "corrupted": tuple(
        flooding(f"corrupted_{name}", f"{choice} --augment_chosen {NOISE_AND_BLUR}", level="0")
        for name, choice in CHOICES.items()
    ),
    "left_out": tuple(left_out(name, kept, 0.3) for name, kept in KEPT.items())
    + tuple(left_out(f"{name}{ADVERSARIAL}", kept, 0.3, ASCENT) for name, kept in KEPT.items()),
    "left_out_10": tuple(left_out(name, kept, 0.1) for name, kept in KEPT.items())
    + tuple(left_out(f"{name}{ADVERSARIAL}", kept, 0.1, ASCENT) for name, kept in KEPT.items()),
    "attacked_texts": tuple(
        flooding(f"attacked_{name}", f"{CHOICES[name]} {WORD_ASCENT}", level="0")
        for name in ("robust", "non_robust", "hard", "random")
    ),
    "text_arms": (PLAIN, FLOOD_ROBUST, FLOOD_RANDOM, FLOOD_ALL, FLOOD_EASY),
    "more_text_arms": (
        PLAIN_STOPPED,
        FLOOD_NON_ROBUST,
        Arm("label_smoothing", SOFT_ALL.script, SOFT_ALL.options),
        SOFT_ROBUST,
        SOFT_RANDOM,
    ),
}
SWEPT = {"flood": (0.1, 0.2, 0.3, 0.5), "soft": (0.7, 0.8, 0.9)}
DOSES = (0.05, 0.1, 0.2, 0.4, 0.8)
CHECKED = ("plain", "flood_robust", "flood_random", "flood_all")
FOLDED = ("plain", "flood_robust", "flood_random")
# How far along plain's ascent a fold is looked for, as an l2 norm: some reach of the attacks of the endpoints.
REACH = {"images": 0.4, "texts": 0.24}

RANKED_BY = {"images": "gaussian_blur", "texts": "pgd"}
STATISTICS = {
    "images": "-t gaussian_blur gaussian_noise jpeg_compression contrast rotate pgd identity --severity 3 5 "
    "--adv_steps 3 --adv_lr 0.05 --adv_init_mag 0.05 --adv_max_norm 0.1 --record_input_gradient 1",
    "texts": "-t pgd --adv_steps 3 --adv_lr 0.03 --statistic_interval 0.5",
}
# The part of them by which arms rank instances.
RANKED_STATISTICS = {
    "images": "-t gaussian_blur gaussian_noise --severity 5 --record_input_gradient 1",
    "texts": STATISTICS["texts"],
}
DATA = {
    "images": "--dataset_name npz --data_dir {data}/{file}",
    "texts": "--dataset_name glue --task_name sst2 --data_dir {data}/{file}",
}


def rows() -> list[Row]:
    """Every run of the study, in the order in which they are computed."""
    return [
        *_sweep(_on_validation(IMAGES, f"{JUDGE_NET} {PIXELS}"), "flood"),
        *_statistics(IMAGES, REPLICATES["images"]),
        *_trained(IMAGES, "arms"),
        *_trained(IMAGES, "subsets"),
        *_overfitting(),
        *_older_scale(),
        *_sweep(_on_validation(TEXTS, WORDS), "flood"),
        *_statistics(TEXTS, REPLICATES["texts"][::2]),
        *_trained(TEXTS, "text_arms"),
        *_sweep(_on_validation(IMAGES, f"{JUDGE_NET} {PIXELS}"), "soft"),
        *_trained(IMAGES, "more_arms"),
        *_trained(IMAGES, "more_subsets"),
        *_paired(),
        *_tilted_halves(),
        *_planted(),
        *_half_checks(),
        *_fold(IMAGES),
        *_uses(),
        *_checks(IMAGES),
        *_sweep(_on_validation(TEXTS, WORDS), "soft"),
        *_trained(TEXTS, "more_text_arms"),
        *_checks(TEXTS),
        *_mild_checks(),
        *_turned(),
        *_fold(TEXTS),
        *_seventh_replicate(),
        *_second_tier(),
    ]


def hours_of(to_do: Sequence[Row], lines: Iterable[Mapping[str, str]]) -> float:
    """How long runs take a processor, in hours: as the finished ones of their block did, or else as all of their data.

    lines: of rows.csv. 0 where none is finished.
    """
    taken: dict[str, list[float]] = {}
    for line in lines:
        for of in (line["data"], f"{line['data']} {line['block']}"):
            taken.setdefault(of, []).append(float(line.get("processor_seconds") or 0))
    like = [taken.get(f"{row.data} {row.block}") or taken.get(row.data) or [0.0] for row in to_do]
    return sum(sum(seconds) / len(seconds) for seconds in like) / 3600


def seeds(row: Row) -> tuple[int, int | None]:
    """The seeds of a row's statistics and of its training, None where it trains only to collect."""
    if row.arm == "halves":
        return HALVES_SEED + row.replicate, None
    if row.arm == "tilted_half":
        return STATISTICS_SEED + SCORED[0], TILTED_SEED + row.replicate
    statistics = row.replicate if row.data == "images" else (row.replicate + 1) // 2
    return STATISTICS_SEED + statistics, None if row.arm == "statistics" else TRAINING_SEED + row.replicate


def _on_validation(regime: Regime, *judge: str) -> Regime:
    file = regime.file.replace("images", "images_validation").replace("texts", "texts_validation")
    return replace(regime, file=file, judge=judge, curve="--pgd_step 0")


def _statistics_replicate(data: str, replicate: int) -> int:
    """The replicate whose statistics a replicate uses: of texts two share one run."""
    return replicate if data == "images" or replicate == VALIDATION else (replicate + 1) // 2 * 2 - 1


def _statistics_name(data: str, replicate: int) -> str:
    return f"{data}-statistics-{replicate}"


def _statistics(regime: Regime, replicates: Sequence[int]) -> Iterator[Row]:
    of_data = DATA[regime.data].replace("{file}", regime.file)
    for replicate in replicates:
        number = replicate if regime.data == "images" else (replicate + 1) // 2
        command, again = (
            _command(COLLECT, f"{of_data} {regime.train} {what} --with_untrained_model 0", STATISTICS_SEED + number)
            for what in (STATISTICS[regime.data], RANKED_STATISTICS[regime.data])
        )
        name, tags = _statistics_name(regime.data, replicate), ("H1", "H2", "H3", "H4", "H5", "controls")
        yield Row(name, regime.data, "statistics", "statistics", replicate, tags, (), (command,), again=again)


def _sweep(regime: Regime, what: str) -> Iterator[Row]:
    """The choice of the flood level or of the soft label, on instances that nothing else of the study sees."""
    name = _statistics_name(regime.data, VALIDATION)
    if what == "flood":
        of_data = DATA[regime.data].replace("{file}", regime.file)
        recorded = STATISTICS[regime.data].replace("--record_input_gradient 1", "")
        if regime.data == "images":
            recorded = f"-t {RANKED_BY['images']} --severity 5"
        options = f"{of_data} {regime.train} {recorded} --with_untrained_model 0"
        command = _command(COLLECT, options, STATISTICS_SEED)
        yield Row(name, regime.data, "sweep", "statistics", VALIDATION, (), (), (command,))
        yield _row(regime, PLAIN, "sweep", VALIDATION)
    for level in SWEPT[what]:
        for kind in ("robust", "random"):
            choice = f"{ROBUST if kind == 'robust' else RANDOM} {SHARE}"
            make = flooding if what == "flood" else soft
            arm = make(f"{what}_{kind}_{level}", choice, level=str(level))
            yield _row(regime, arm, "sweep" if what == "flood" else "soft_sweep", VALIDATION)


def _trained(regime: Regime, block: str) -> Iterator[Row]:
    # One replicate after the other, so that a block that is not finished holds whole replicates.
    for replicate in REPLICATES[regime.data]:
        for arm in ARMS[block]:
            yield _row(regime, arm, block, replicate)


def _paired() -> Iterator[Row]:
    """Whole replicates made on one machine; they test no hypothesis of study 1."""
    for block in ("paired_arms", "paired_subsets"):
        for row in _trained(IMAGES, block):
            yield replace(row, hypotheses=())


def _row(regime: Regime, arm: Arm, block: str, replicate: int) -> Row:
    name = f"{regime.data}-{block}-{arm.name}-{replicate}"
    needs = [_statistics_name(regime.data, _statistics_replicate(regime.data, replicate))]
    ranked_by = arm.perturbation or RANKED_BY[regime.data]
    options = arm.options.replace("{ranking}", regime.ranking)
    options = options.replace("{flood}", str(FLOOD_LEVEL[regime.data]))
    options = options.replace("{soft}", str(SOFT_LABEL[regime.data]))
    if arm.loss_of:
        # Of the same regime: its flooded run, in whichever block that is.
        other = f"{regime.data}-{'arms' if regime.data == 'images' else 'text_arms'}-{arm.loss_of}-{replicate}"
        needs.append(other)
        options = options.replace("{loss}", f"{{loss:{other}}}")
    options = f"--statistics_source {{statistics:{ranked_by}}} {options} {regime.train} {regime.curve}"
    of_data = DATA[regime.data].replace("{file}", regime.file)
    judgements = tuple(_judgement(f"{of_data} {judge}", number) for number, judge in enumerate(regime.judge))
    commands = (_command(arm.script, options, TRAINING_SEED + replicate), *judgements)
    hypotheses = arm.hypotheses if regime.tier == 1 else ()
    return Row(name, regime.data, block, arm.name, replicate, hypotheses, tuple(needs), commands, regime.tier)


def _judgement(options: str, number: int, model: str = "{folder}/model") -> Command:
    where = f"--model_name {model} --output_dir {{folder}}/judged{number} --seed {JUDGING_SEED}"
    return (JUDGE, *f"{options} {where}".split())


def _command(script: str, options: str, seed: int) -> Command:
    return (script, *f"{options} --seed {seed} --output_dir {{folder}}".split())


def _overfitting() -> Iterator[Row]:
    of_data = DATA["images"].replace("{file}", IMAGES.file)
    what = "-t gaussian_blur pgd --severity 5 --adv_steps 3 --adv_lr 0.05 --adv_init_mag 0.05 --adv_max_norm 0.1"
    options = f"{of_data} {IMAGES.train} {what} --with_untrained_model 0 --statistic_interval 2 --collect_on {{half}}"
    for replicate in REPLICATES["images"]:
        command = _command(COLLECT, options, HALVES_SEED + replicate)
        name = f"images-overfitting-halves-{replicate}"
        yield Row(name, "images", "overfitting", "halves", replicate, ("H5",), (), (command,))


def _recorded(block: str, replicate: int, data: str) -> Row:
    """Statistics whose scores of every kind are kept."""
    options = f"{data} {IMAGES.train} {RANKED_STATISTICS['images']} --with_untrained_model 0"
    command = _command(COLLECT, options, STATISTICS_SEED + replicate)
    return Row(f"images-{block}-{replicate}", "images", block, "statistics", replicate, (), (), (command,))


def _tilted_halves() -> Iterator[Row]:
    """The counterfactual: models of halves that lean towards some scores and away from others, as drawn."""
    of_data = DATA["images"].replace("{file}", IMAGES.file)
    scored = [_recorded("tilted_statistics", replicate, of_data) for replicate in SCORED]
    yield from scored
    judge = (*IMAGES.judge, f"{JUDGE_NET} {MARGINS}")
    judgements = tuple(_judgement(f"{of_data} {way}", number) for number, way in enumerate(judge))
    # Groups of 10 instances: the usual ones, whose losses the script logs, would cost as much as half the training.
    options = f"--select_metric {{tilted}} --set_percentage 0.001 {IMAGES.train} --pgd_step 0"
    options = f"--statistics_source {{statistics:{RANKED_BY['images']}}} {options}"
    needs = tuple(row.name for row in scored)
    for replicate in TILTED:
        commands = (_command(SUBSET, options, TILTED_SEED + replicate), *judgements)
        name = f"images-tilted-tilted_half-{replicate}"
        yield Row(name, "images", "tilted", "tilted_half", replicate, (), needs, commands)


def _uses() -> Iterator[Row]:
    """Which use of which choice pays: whole replicates made on one machine."""
    regime = replace(
        IMAGES,
        judge=(*IMAGES.judge, f"{JUDGE_NET} {MARGINS_OF_ALL_SIZES}"),
        curve=f"--pgd_step 0 {BALL}",
    )
    for block in ("attacked", "corrupted", "left_out"):
        for row in _trained(regime, block):
            yield replace(row, hypotheses=())
    yield from _trained(replace(regime, tier=2), "left_out_10")
    yield from _trained(replace(TEXTS, tier=2), "attacked_texts")


def _planted() -> Iterator[Row]:
    """Statistics on images some of which have a wrong label, are blurred, or are there twice."""
    for replicate in PLANTED:
        yield _recorded("planted", replicate, "--dataset_name npz --data_dir {planted}")


def _older_scale() -> Iterator[Row]:
    """What the older image code's mix of scales measures: plain training, looked at after every epoch."""
    for replicate in (1, 2, 3):
        steps = f"--b 0 {ROBUST} {SHARE} --save_steps 79 --pgd_step 0".replace("{ranking}", IMAGES.ranking)
        options = f"--statistics_source {{statistics:{RANKED_BY['images']}}} {steps} {IMAGES.train}"
        trained = _command(FLOOD, options, TRAINING_SEED + replicate)
        measured = "--models {folder} --data_dir {data}/images.npz --output_dir {folder}"
        name, needs = f"images-scale-older_scale-{replicate}", (_statistics_name("images", replicate),)
        commands = (trained, (SCALE, *measured.split()))
        yield Row(name, "images", "scale", "older_scale", replicate, (), needs, commands)


def _checks(regime: Regime) -> Iterator[Row]:
    """Stronger attacks on models that are there already."""
    for replicate in REPLICATES[regime.data]:
        block = "arms" if regime.data == "images" else "text_arms"
        models = {arm: f"{regime.data}-{block}-{arm}-{replicate}" for arm in CHECKED}
        for arm, model in models.items():
            if regime.data == "images":
                few = f"{JUDGE_NET} {PIXELS} --max_instances 500"
                ways, made_on = [f"{few} --attack_loss ce margin --restarts 5"], {"plain": few}
            else:
                ways = [f"{HARDEST_WORDS_AND_LETTERS} --temperature {temperature}" for temperature in (0.1, 10)]
                made_on = {"plain": HARDEST_WORDS_AND_LETTERS, "flood_random": HARDEST_WORDS}
            sources = {models[source]: attacks for source, attacks in made_on.items() if source != arm}
            yield _check(regime, "checks", arm, replicate, model, ways, sources)


def _mild_checks() -> Iterator[Row]:
    """Of texts: the two smaller attacks, made on the model itself, on plain and on flood_random."""
    for replicate in MILDLY_CHECKED_REPLICATES:
        models = {arm: f"texts-text_arms-{arm}-{replicate}" for arm in ("plain", "flood_robust", "flood_random")}
        for arm, model in models.items():
            sources = {models[source]: MILDER_WORDS for source in ("plain", "flood_random") if source != arm}
            yield _check(TEXTS, "mild_checks", arm, replicate, model, [MILDER_WORDS], sources)


def _turned() -> Iterator[Row]:
    """Of texts: attacks that see past folds, on the models among which the flood level is chosen and on the arms."""
    few = replace(_on_validation(TEXTS), judge=())
    for row in _sweep(few, "flood"):
        if row.arm != "statistics":
            yield _check(few, "turned_sweep", row.arm, VALIDATION, row.name, [f"{WORDS_PAST_FOLDS} {EFFORTS}"], {})
    for replicate in REPLICATES["texts"]:
        models = {arm: f"texts-text_arms-{arm}-{replicate}" for arm in CHECKED}
        for arm, model in models.items():
            sources = {models[source]: HARDEST_WORDS for source in ("plain", "flood_random") if source != arm}
            ways = [f"{WORDS_PAST_FOLDS} {HARDEST}"]
            yield _check(TEXTS, "turned_checks", arm, replicate, model, ways, sources)


def _half_checks() -> Iterator[Row]:
    """Of images: every attack on models of halves, and such as were made on those of two others."""
    few = f"{JUDGE_NET} {PIXELS} {FEW}"
    ways = [f"{JUDGE_NET} {PIXELS_PAST_FOLDS}", f"{JUDGE_NET} {SQUARES}"]
    for replicate in REPLICATES["images"]:
        models = {arm.name: f"images-paired_subsets-{arm.name}-{replicate}" for arm in ARMS["paired_subsets"]}
        models["robust_half"] = f"images-subsets-robust_half-{replicate}"
        for arm, model in models.items():
            sources = {models[source]: few for source in ("random_half", "low_gradient_half") if source != arm}
            yield _check(IMAGES, "half_checks", arm, replicate, model, ways, sources)


def _fold(regime: Regime) -> Iterator[Row]:
    """What flooding does to the loss around an input, beside plain training."""
    of_data = DATA[regime.data].replace("{file}", regime.file)
    block = "paired_arms" if regime.data == "images" else "text_arms"
    for replicate in REPLICATES[regime.data]:
        needed = _statistics_name(regime.data, _statistics_replicate(regime.data, replicate))
        plain = f"{regime.data}-{block}-plain-{replicate}"
        for arm in FOLDED:
            model = f"{regime.data}-{block}-{arm}-{replicate}"
            where = f"--model_name {{model:{model}}} --plain {{model:{plain}}} --output_dir {{folder}}"
            chosen = f"--statistics_source {{statistics:{RANKED_BY[regime.data]}}} --b {FLOOD_LEVEL[regime.data]}"
            within = f"--within_class {int('within_class' in regime.ranking)} --reach {REACH[regime.data]}"
            command = (FOLD, *f"{of_data} {where} {chosen} {within}".split())
            needs = tuple(dict.fromkeys((needed, plain, model)))
            yield Row(
                f"{regime.data}-fold-{arm}-{replicate}", regime.data, "fold", arm, replicate, (), needs, (command,)
            )


def _seventh_replicate() -> Iterator[Row]:
    (statistics,) = _statistics(TEXTS, (SEVENTH,))
    yield replace(statistics, block="seventh_text_arms")
    for arm in ARMS["text_arms"]:
        yield _row(TEXTS, arm, "seventh_text_arms", SEVENTH)


def _check(
    regime: Regime, block: str, arm: str, replicate: int, model: str, ways: list[str], sources: dict[str, str]
) -> Row:
    """Judgements of the model of a row in several ways, and under attacks made on the models of other rows."""
    of_data = DATA[regime.data].replace("{file}", regime.file)
    ways = [*ways, *(f"{attacks} --source_model {{model:{source}}}" for source, attacks in sources.items())]
    judged = tuple(_judgement(f"{of_data} {way}", number, f"{{model:{model}}}") for number, way in enumerate(ways))
    name = f"{regime.data}-{block}-{arm}-{replicate}"
    return Row(name, regime.data, block, arm, replicate, (), (model, *sources), judged)


def _second_tier() -> Iterator[Row]:
    """Further regimes. The instances are ranked by the statistics of the main one."""
    later = replace(IMAGES, tier=2)
    for replicate in (1, 2, 3):
        for level in DOSES:
            for kind, choice in (("robust", ROBUST), ("random", RANDOM)):
                yield _row(
                    later, flooding(f"flood_{kind}_{level}", f"{choice} {SHARE}", level=str(level)), "dose", replicate
                )
    four = (PLAIN, FLOOD_ROBUST, FLOOD_RANDOM, FLOOD_ALL)
    augmented = replace(later, train=f"{IMAGES.train} --augment flip_crop")
    for replicate in REPLICATES["images"]:
        for arm in four:
            yield _row(augmented, arm, "augmented", replicate)
    smaller = f"--attacks pgd --linf_eps {HALF / 4:.8f} {HALF / 2:.8f} {HALF:.8f} --l2_eps --pgd_step 20"
    judge = (f"{JUDGE_NET} {smaller} -t common --severities 3",)
    resnet20 = replace(later, train=f"--model_name resnet20 --epochs 20 --lr 4e-3 {NET}", judge=judge)
    for replicate in range(1, 6):
        for arm in four:
            yield _row(resnet20, arm, "resnet20", replicate)
