"""Fine-tuning that knows which instances were chosen: the engine of the three scripts that do it."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import perturbations
from registry import InputError
from robust_data import files, records
from robust_data.collection import movable
from robust_data.command_line import arguments
from robust_data.command_line.conditions import WORD_ATTACKS, describe_pgd, word_attacks
from robust_data.fine_tuning import results_file
from robust_data.measuring import choice
from robust_data.measuring.choice import Choice
from robust_data.measuring.evaluation import evaluate_perturbed
from robust_data.running import distributed, saved_models, setup
from robust_data.running.resume import RunState, StopRequest, check_arguments, data_identity, follow, stop_requests
from robust_data.running.training import Trainer, TrainingDiverged, cross_entropy
from robust_data.word_attacks import text_attacks

# The arguments that say how strong the PGD is that judges a model.
ATTACK_SIZE = ("pgd_step", "pgd_lr", "adv_init_mag", "adv_max_norm", "adv_norm_type", "attack_special_tokens")

# Of logits [B, C], labels int64 [B], their cross-entropy [B] and whether each was chosen, bool [B]: losses [B].
InstanceLosses = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def plain(logits: torch.Tensor, labels: torch.Tensor, losses: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """Cross-entropy, whether chosen or not."""
    return losses


class Objective:
    """The losses to minimise, which also keep the epoch's cross-entropy of chosen and of other instances apart.

    instance_losses: what to minimise. chosen: bool, by index of the instance; the log calls them robust.
    """

    def __init__(self, instance_losses: InstanceLosses, chosen: torch.Tensor):
        self.instance_losses = instance_losses
        self.chosen = chosen
        self._sums = torch.zeros(4, dtype=torch.float64)

    def __call__(self, logits: torch.Tensor, labels: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        chosen = self.chosen[index].to(logits.device, non_blocking=True)
        losses = cross_entropy(logits, labels, index)
        values, both = losses.detach().double(), torch.stack([chosen, ~chosen]).double()
        self._sums = self._sums.to(values.device) + torch.cat([both @ values, both.sum(dim=1)])
        return self.instance_losses(logits, labels, losses, chosen)

    def end_epoch(self) -> dict[str, float | None]:
        """The epoch's mean cross-entropy, and that of either kind, None where there is none of it; then starts at 0."""
        robust, other, robust_count, other_count = self.state().tolist()
        self._sums = torch.zeros_like(self._sums)
        return {
            "train_cross_entropy": (robust + other) / count if (count := robust_count + other_count) else None,
            "train_loss_robust": robust / robust_count if robust_count else None,
            "train_loss_other": other / other_count if other_count else None,
        }

    def state(self) -> torch.Tensor:
        """The sums of the epoch so far, float64 [4]; every process must call it, and gets the same."""
        return distributed.sum_over_processes(self._sums.clone()).cpu()

    def load_state(self, sums: torch.Tensor) -> None:
        """Go on from such sums, on the main process; the others begin at nothing."""
        self._sums = sums if distributed.is_main() else torch.zeros_like(sums)


class AdversarialTrainer(Trainer):
    """Trains on the ascent steps of an attack instead of on the clean inputs (FreeLB, Zhu et al., ICLR 2020).

    Each of the `pgd_options.steps` backward passes that move the perturbation also adds its share, one over
    their number, to the gradients of the parameters. The epoch's loss is the mean over these passes, its
    accuracy that of the first, at the random start.
    """

    def __init__(self, *parts, pgd_options: perturbations.PgdOptions, **options):
        super().__init__(*parts, **options)
        self.pgd_options = pgd_options

    def gradients(self, batch, counted: int, batch_size: int) -> tuple[torch.Tensor, torch.Tensor]:
        weight = distributed.world_size() / (batch_size * self.pgd_options.steps)
        key, clean, mask, bounds = movable(batch, self.model, self.pgd_options.special_tokens)
        passes: list[tuple[torch.Tensor, torch.Tensor]] = []

        def losses_of(values: torch.Tensor) -> torch.Tensor:
            inputs = batch.inputs | {key: self._trainable(values, clean, batch)}
            logits, losses = self.logits_and_losses(inputs, batch, counted)
            (losses.sum() * weight).backward()
            passes.append((logits.detach(), losses.detach()))
            # Stands for the losses: the attack differentiates it, and finds the gradient that is already there.
            return (values * values.grad).flatten(1).sum(dim=1)

        perturbations.attack(
            "pgd",
            clean,
            losses_of,
            3,
            batch.index,
            self.options.seed,
            self.step,
            options=self.pgd_options,
            mask=mask,
            bounds=bounds,
        )
        return passes[0][0], torch.stack([losses for _, losses in passes]).mean(dim=0)

    def _trainable(self, values: torch.Tensor, clean: torch.Tensor, batch) -> torch.Tensor:
        """The perturbed values; of word embeddings as the trained ones plus a perturbation, so that those learn too."""
        if not clean.requires_grad:
            return values
        return movable(batch, self.model)[1] + (values - clean.detach())


def model_folder(args: argparse.Namespace) -> Path:
    """Where the trained model goes."""
    return Path(args.output_dir) / "model"


def run(
    args: argparse.Namespace, chosen: Choice, script: str, instance_losses: InstanceLosses, only_chosen: bool = False
) -> None:
    """Fine-tune, judge, save the model, add a row to the results, and say so on the terminal.

    Killed at any moment and called again with the same arguments, it goes on and ends with the same model and
    one row; a finished run is left alone.

    args: of one of the fine-tuning scripts. script: its name. instance_losses: what to minimise; only_chosen:
    train on the chosen instances alone, or in turn on the two subsets, and log the perturbed loss of the
    robust, swing and non-robust groups. Raises Interrupted when a signal asked it to stop, after saving its state.
    """
    saved_models.check_replaceable(model_folder(args))
    parts = Parts(args, chosen, script, only_chosen)
    folder = files.output_folder(args.output_dir)
    state = RunState(folder / "run.state", vars(args) | parts.identity)
    with state.held():
        progress = Progress(args, state)
        if progress.finished():
            setup.say(f"{model_folder(args)} is finished already; --overwrite 1 trains again")
            return
        if args.show_data and distributed.is_main():
            show_data(folder / "shown_data.csv", chosen, parts.train_set, args.show_data)
        objective = Objective(instance_losses, chosen_flags(parts.train_set, chosen.index))
        _train_and_judge(args, parts, objective, progress, folder)
    if distributed.is_main():
        print_summary(args, chosen, parts.name, progress)


class Parts:
    """What a run is made of: data, model and name. Raises InputError for what does not fit together.

    identity: by what the run knows its data again.
    """

    def __init__(self, args: argparse.Namespace, chosen: Choice, script: str, only_chosen: bool):
        self.chosen, self.script, self.only_chosen = chosen, script, only_chosen
        self.device = distributed.default_device()
        self.train_set, self.test_set = load_splits(args, chosen, self.device)
        self.planned = plan_attack(args, self.test_set)
        self.groups = group_sets(args, chosen, self.train_set) if only_chosen else {}
        self.model = setup.build_model(args, self.train_set, self.device)
        self.name = run_name(args, chosen, script)
        index = np.concatenate([index for index in (chosen.index, chosen.second) if index is not None])
        self.identity = data_identity(self.train_set) | {"chosen instances": records.labels_hash(index)[:16]}


def _train_and_judge(
    args: argparse.Namespace, parts: Parts, objective: Objective, progress: Progress, folder: Path
) -> None:
    """Do what is left of the run."""
    model, chosen, train_set = parts.model, parts.chosen, parts.train_set

    def more(epoch: int) -> dict[str, Any]:
        figures = objective.end_epoch()
        if parts.only_chosen:  # then the two kinds are the subsets themselves
            figures = {"train_cross_entropy": figures["train_cross_entropy"]}
        for group, dataset in parts.groups.items():
            figures[f"{group}_loss"] = perturbed(model, dataset, chosen.perturbation(), args)["loss"]
        due = args.attack_every_epoch and epoch % args.attack_every_epoch == 0
        return figures | (robustness(model, parts.test_set, chosen, args) if due or epoch == args.epochs else {})

    log = setup.epoch_logger(folder / "log.jsonl", parts.name, model, parts.test_set, args, more)
    subsets = training_subsets(train_set, chosen, args.cycle_train or 1) if parts.only_chosen else None
    trainer = make_trainer(args, model, train_set, parts.device, objective, subsets)
    setup.announce(args, train_set, parts.device)
    with stop_requests() as stop:
        progress.follow(trainer, objective, log, stop)
        # The same run once more takes the place of what it logged before.
        setup.forget_epochs(folder / "log.jsonl", parts.name, trainer.told_step)
        try:
            with progress.state.unless_bad_input(lambda: progress.figures):
                train(trainer, args, train_set)
        except TrainingDiverged:
            progress.state.remove()  # it leads nowhere
            raise
        if progress.row is None:
            with stop.at_once():
                attacked = {} if parts.planned is None else parts.planned.run(model, folder / "attacked")
            progress.told = [line for name, figures in attacked.items() for line in attack_lines(name, figures)]
            figures = progress.figures | attack_columns(attacked)
            progress.row = result(args, parts, figures, progress.seconds())
            progress.save()
        if distributed.is_main():
            saved_models.save_model(model_folder(args), model, args, train_set.label_names, parts.identity)
            results_file.append(args.results_file, progress.row)
        distributed.wait()
        progress.state.remove()


class Progress:
    """How far a fine-tuning run has come, kept on the disk so that the same command goes on from there.

    figures: those of the last epoch. row: the run's row for the results file, once there is nothing left to
    measure. told: what there is to say of the attacks on words.
    """

    def __init__(self, args: argparse.Namespace, state: RunState):
        self.args, self.state = args, state
        self.figures: dict[str, Any] = {}
        self.row: dict[str, Any] | None = None
        self.told: list[str] = []
        self._started = time.perf_counter()
        self._seconds_before = 0.0
        if args.overwrite and distributed.is_main():
            state.remove_foreign()
        self._saved = state.load()

    def finished(self) -> bool:
        """Whether the run's model is there already. Raises InputError if it was trained with other arguments."""
        return self._saved is None and not self.args.overwrite and distributed.from_main(self._has_model)

    def _has_model(self) -> bool:
        folder = model_folder(self.args)
        if folder.exists():
            check_arguments(saved_models.saved_arguments(folder), self.state.arguments, folder)
        return folder.exists()

    def follow(
        self, trainer: Trainer, objective: Objective, log: Callable[[dict[str, Any]], None], stop: StopRequest
    ) -> None:
        """Go on from the state there is, and save it from now on. log: adds to an epoch's figures and logs them."""
        self.trainer, self.objective, self.log = trainer, objective, log
        follow(trainer, stop, self.save, self.args.save_every, self._end_epoch)
        if self._saved is None:
            return
        trainer.load_state(self._saved["trainer"])
        objective.load_state(self._saved["objective"])
        self.figures, self.row, self.told = (self._saved[name] for name in ("figures", "row", "told"))
        self._seconds_before = self._saved["seconds"]
        self._saved = None  # it is as large as the model and its optimizer
        setup.say(f"going on at step {trainer.step} of {trainer.total_steps}")

    def seconds(self) -> float:
        """How long the run has taken, its earlier parts included up to what they saved last."""
        return self._seconds_before + time.perf_counter() - self._started

    def save(self) -> None:
        """Write the state; every process must call it."""
        self.state.save(
            {
                "trainer": self.trainer.state(),
                "objective": self.objective.state(),
                "figures": self.figures,
                "row": self.row,
                "told": self.told,
                "seconds": self.seconds(),
            }
        )

    def _end_epoch(self, figures: dict[str, Any]) -> None:
        self.log(figures)
        self.figures = figures
        self.save()


def plan_attack(args: argparse.Namespace, test_set) -> text_attacks.Planned | None:
    """The attacks on words with which --do_attack 1 ends the run. Raises InputError where none can be made."""
    if not args.do_attack:
        return None
    if test_set is None:
        raise InputError("--do_attack 1 attacks the test split, and there is none")
    return text_attacks.plan(args, test_set, word_attacks(args.attack_method or WORD_ATTACKS[:1], args))


def attack_lines(name: str, figures: dict[str, Any]) -> list[str]:
    """How the model fared under an attack on words, for the terminal."""
    return [text_attacks.describe(name, figures), f"saved {figures['sentences']}"]


def attack_columns(attacked: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """How the model fared under the attacks on words, as the results file has it; of several joined by +."""
    if not attacked:
        return {}
    measured = ("accuracy_under_attack", "attack_success_rate", "words_changed", "queries")
    fields = {"attacked_instances": "instances", "attacked_accuracy": "accuracy"} | {name: name for name in measured}
    columns = {field: [figures[name] for figures in attacked.values()] for field, name in fields.items()}
    return {"attack_method": _joined(list(attacked))} | {field: _joined(values) for field, values in columns.items()}


def _joined(values: list[Any]) -> Any:
    """A single value as it is, several as text, joined by +."""
    return values[0] if len(values) == 1 else "+".join("" if value is None else str(value) for value in values)


def load_splits(args: argparse.Namespace, chosen: Choice, device: torch.device):
    """The training split, which must be that of the statistics, and the test split or None."""
    loading = choice.data_arguments(args, chosen.metadata)
    train_set, test_set = setup.load_splits(loading, device)
    chosen.check_dataset(train_set)
    for name in choice.DATA_ARGUMENTS + ("dataset_len",):
        setattr(args, name, getattr(loading, name))
    return train_set, test_set


def positions(dataset, index: np.ndarray) -> torch.Tensor:
    """Where in the dataset the instances with these indices are, int64 [K], ascending."""
    return torch.from_numpy(np.sort(np.searchsorted(dataset.index.numpy(), index)))


def chosen_flags(dataset, index: np.ndarray) -> torch.Tensor:
    """Whether the instance of an index is among these: bool, by index."""
    flags = torch.zeros(int(dataset.index.max()) + 1, dtype=torch.bool)
    flags[torch.from_numpy(index)] = True
    return flags


def training_subsets(dataset, chosen: Choice, turn: int = 1) -> list[torch.Tensor]:
    """The positions to train on, epoch by epoch: one subset, or two in turn, so many epochs each."""
    subsets = [positions(dataset, index) for index in (chosen.index, chosen.second) if index is not None]
    return [subset for subset in subsets for _ in range(turn)]


def make_trainer(args, model: nn.Module, train_set, device, objective, subsets) -> Trainer:
    """The trainer the arguments ask for, adversarial or not."""
    parts = (model, train_set, setup.training_options(args), device, objective)
    common = {"progress": distributed.is_main(), "subsets": subsets}
    if getattr(args, "do_pgd_training", 0):
        return AdversarialTrainer(*parts, **common, pgd_options=arguments.pgd_options(args))
    return Trainer(*parts, **common)


def train(trainer: Trainer, args: argparse.Namespace, train_set) -> None:
    """Train to the end, saving the model on the way where --save_steps says so."""
    for step in saving_steps(args.save_steps, trainer.steps_per_epoch, trainer.total_steps):
        if step < trainer.step:
            continue
        trainer.train_until(step)
        if distributed.is_main():
            folder = Path(args.output_dir) / f"model_step{step}"
            saved_models.save_model(folder, trainer.model, args, train_set.label_names)
    trainer.train_until(trainer.total_steps)


def saving_steps(every: float, steps_per_epoch: int, total: int) -> list[int]:
    """The steps before the last at which the model is saved, ascending; every: steps, below 1 epochs, 0 for never."""
    if not every:
        return []
    spacing = max(1.0, every * steps_per_epoch if every < 1 else every)
    steps = (round(number * spacing) for number in range(1, math.ceil(total / spacing)))
    return [step for step in steps if step < total]


def group_sets(args: argparse.Namespace, chosen: Choice, train_set) -> dict[str, Any]:
    """The robust, swing and non-robust instances as data sets, --group's the one that is trained on.

    None of them if the perturbation is not known.
    """
    if chosen.perturbation() is None:
        setup.warn(f"no JSON beside {chosen.path} names the perturbation; going on without the groups' losses")
        return {}
    named = {name: chosen.group(name, args.set_percentage) for name in ("robust", "swing", "non_robust")}
    return {name: train_set.subset(positions(train_set, index)) for name, index in named.items()}


def perturbed(
    model: nn.Module, dataset, how: dict[str, Any], args: argparse.Namespace, worst: bool = False
) -> dict[str, float]:
    """Accuracy and mean loss under a perturbation; how, worst: see `evaluate_perturbed`."""
    return evaluate_perturbed(model, dataset, batch_size=args.eval_size, precision=args.precision, worst=worst, **how)


def robustness(model: nn.Module, test_set, chosen: Choice, args: argparse.Namespace) -> dict[str, Any]:
    """Test accuracy under PGD, with the size of the attack, and under the perturbation of the statistics file.

    None where that cannot be had, and under PGD with --pgd_step 0.
    """
    figures: dict[str, Any] = {"pgd_accuracy": None, "perturbed_accuracy": None}
    if test_set is None:
        return figures
    if args.pgd_step:
        pgd = {"name": "pgd", "seed": args.seed, "pgd_options": arguments.judging_pgd_options(args)}
        figures["pgd_accuracy"] = perturbed(model, test_set, pgd, args, worst=True)["accuracy"]
        figures |= {name: getattr(args, name) for name in ATTACK_SIZE}
    if (how := chosen.perturbation()) is not None:
        figures["perturbed_accuracy"] = perturbed(model, test_set, how, args, worst=True)["accuracy"]
    return figures


def show_data(path: Path, chosen: Choice, train_set, count: int) -> None:
    """Write the first of the chosen instances, best first, with their files or texts."""
    index = chosen.index[:count]
    choice.write_csv(path, chosen, index, train_set.label_names, choice.sources(train_set, index))


def run_name(args: argparse.Namespace, chosen: Choice, script: str) -> str:
    """What the log calls this run; runs that differ in their seed alone differ in that alone."""
    group = getattr(args, "group", None)
    parts = [script, f"model{Path(args.model_name).name}", f"dataset{args.dataset_name}", f"task{args.task_name}"]
    parts.append(f"seed{args.seed}")
    if "perturbation" in chosen.metadata:
        parts.append(f"{chosen.metadata['perturbation']}{severity_name(chosen)}")
    parts.append(f"{group}{args.set_percentage}" if group else f"{args.select_metric}{args.select_ratio}")
    if getattr(args, "cycle_train", 0):
        turns = args.cycle_train if args.cycle_train > 1 else ""
        parts.append(f"turns{turns}{args.select_metric2}{args.select_ratio2}")
    parts += [f"{name}{getattr(args, name)}" for name in ("b", "beta", "soft_label") if hasattr(args, name)]
    switches = ("within_class", "only_original_pred", "use_untrained_model", "do_balance_labels")
    switches += ("select_from_two_end", "do_pgd_training")
    parts += [f"{name}1" for name in switches if getattr(args, name, 0)]
    return "_".join(parts + [f"epoch{args.epochs}", f"lr{args.lr}"])


def severity_name(chosen: Choice) -> str:
    """The severity of the statistics: "3", "1to5" where it rose over the training, "" where there is none."""
    severities = choice.severities(chosen.metadata)
    return "to".join(map(str, dict.fromkeys([severities[0], severities[-1]]))) if severities else ""


def result(args: argparse.Namespace, parts: Parts, figures: dict[str, Any], seconds: float) -> dict[str, Any]:
    """The run's row for the results file."""
    chosen = parts.chosen
    explained = chosen.explained.values()
    known = {
        "finished": setup.timestamp(),
        "script": parts.script,
        "run": parts.name,
        "instances": len(parts.train_set),
        "statistics": chosen.path.name,
        "perturbation": chosen.metadata.get("perturbation"),
        "severity": severity_name(chosen) or None,
        "chosen": len(chosen.index),
        "class_share": "+".join(str(round(by.class_share, 4)) for by in explained),
        "clean_loss_correlation": "+".join(str(round(by.clean_loss, 4)) for by in explained),
        "wall_seconds": round(seconds, 1),
        "model_folder": str(model_folder(args)),
        "attack_method": figures.get("attack_method"),
    }
    # The arguments go before the figures, whose lr is what is left of it at the end.
    values = figures | vars(args) | known
    return {field: values.get(field) for field in results_file.FIELDS}


def print_summary(args: argparse.Namespace, chosen: Choice, name: str, progress: Progress) -> None:
    """What was chosen, how the model does, and where it is."""
    row = progress.row
    for line in (*progress.told, name, *chosen.describe(args)):
        print(line)
    for label, fields in summary_fields(args).items():
        values = "  ".join(f"{short} {row[field]:.4f}" for short, field in fields.items() if row[field] is not None)
        if values:
            print(f"{label}: {values}")
    print(f"saved {row['model_folder']}")
    print(f"added a row to {args.results_file}")


def summary_fields(args: argparse.Namespace) -> dict[str, dict[str, str]]:
    """The lines of the summary: what each is about, and by their short names the fields of the results file."""
    pgd = f"under pgd ({describe_pgd(arguments.judging_pgd_options(args))})"
    return {
        "train": {
            "minimised": "train_loss",
            "cross-entropy of chosen": "train_loss_robust",
            "of others": "train_loss_other",
        },
        "test": {"loss": "test_loss", "accuracy": "test_accuracy"},
        "test accuracy": {pgd: "pgd_accuracy", "under the statistics' perturbation": "perturbed_accuracy"},
    }
