"""Fine-tuning that treats the chosen instances in a way of their own: the engine of the three scripts that do it."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from robust_data import files, settings
from robust_data.analysis.choice import Choice
from robust_data.datasets.base import Dataset
from robust_data.evaluation import evaluate
from robust_data.fine_tune import results_file, summary
from robust_data.fine_tune.adversarial import AdversarialTrainer, ChosenTrainer
from robust_data.fine_tune.finished import already_finished, identity, known_by, model_folder, state_path
from robust_data.fine_tune.methods import Method
from robust_data.fine_tune.objective import Objective, chosen_flags
from robust_data.fine_tune.progress import Progress
from robust_data.judge.conditions import WORD_ATTACKS, word_attacks
from robust_data.judge.curve import EpochJudge
from robust_data.judge.epoch_log import epoch_logger, forget_epochs
from robust_data.judge.event_files import Points
from robust_data.registry import InputError, warn_once
from robust_data.settings import Data, FineTune
from robust_data.train import building, distributed, saved_models
from robust_data.train.resume import RunState, stop_requests
from robust_data.train.training import Trainer, TrainingDiverged
from robust_data.words.plan import Planned, plan


def fine_tune(job: FineTune, chosen: Choice, method: Method) -> None:
    """Fine-tune, judge, save the model, add a row to the results, and say so on the terminal.

    A run that was killed at any moment goes on when it is called again with the same arguments, and ends with the
    same model and one row. A finished run is not repeated.

    job: of one of the fine-tuning scripts. chosen: the instances, method: how they are treated.
    Raises Interrupted after a signal has asked the run to stop and its state is saved.
    """
    if distributed.from_main(lambda: already_finished(job, chosen)):
        return
    parts = Parts(job, chosen, method)
    folder = files.output_folder(job.output_dir)
    state = RunState(state_path(job), known_by(job, chosen))
    with state.held():
        if distributed.from_main(lambda: already_finished(job, chosen)):  # by another process, meanwhile
            return
        progress = Progress(job, state)
        _train_and_judge(job, parts, progress, folder)
    if distributed.is_main():
        summary.print_summary(job, chosen, parts.name, progress.told, progress.row)


class Parts:
    """The parts of a run: data, model, method and name. Raises InputError for parts that do not fit together."""

    def __init__(self, job: FineTune, chosen: Choice, method: Method):
        self.chosen, self.method = chosen, method
        self.device = building.prepare_device(job, job.dataset_name)
        self.train_set, self.val_set, self.test_set = load_splits(job, chosen, self.device)
        self.judge = settings.of(EpochJudge, job)
        self.judged_on = self.judge.instances(self.test_set)
        self.planned = plan_attack(job, self.test_set)
        self.logged_groups = method.logged_groups(self.train_set, chosen)
        self.chosen_and_others = chosen_and_others(self.train_set, chosen) if method.trains_on_all else {}
        self.model = building.build_model(job, self.train_set, job.seed, self.device)
        self.name = summary.run_name(job, chosen, method.name)
        self.objective = Objective(method, chosen_flags(self.train_set, chosen.index), job.label_smoothing)


def _train_and_judge(job: FineTune, parts: Parts, progress: Progress, folder: Path) -> None:
    """Do what is left of the run."""
    log_path, more = folder / "log.jsonl", functools.partial(epoch_figures, job, parts)
    points = Points(bool(job.tensorboard), log_path, parts.name)
    log = epoch_logger(log_path, parts.name, parts.model, parts.test_set, job, more, parts.val_set, points.add)
    trainer = make_trainer(job, parts)

    building.announce(job, job, parts.train_set, parts.device, job)
    with stop_requests() as stop:
        progress.follow(trainer, parts.objective, log, stop)
        # The same run once more takes the place of what it logged before.
        forget_epochs(log_path, parts.name, trainer.told_step)
        try:
            with progress.state.unless_bad_input(lambda: progress.figures), points:
                train(trainer, job, parts)
        except TrainingDiverged:
            progress.state.remove()  # it leads nowhere
            raise
        if (warning := parts.method.warning(progress.figures)) is not None:
            warn_once(warning)
        if progress.row is None:
            with stop.at_once():
                planned, stem = parts.planned, folder / "attacked"
                attacked = {} if planned is None else planned.run(parts.model, stem)
            progress.told = summary.attack_lines(attacked)
            figures = progress.figures | summary.attack_columns(attacked)
            progress.row = summary.row(
                job, parts.chosen, parts.method.name, parts.name, len(parts.train_set), figures, progress.seconds()
            )
            progress.save()
        if distributed.is_main():
            save_model(model_folder(job), job, parts, identity(parts.chosen))
            results_file.append(job.results_file, progress.row)
        distributed.wait()
        progress.state.remove()


def epoch_figures(job: FineTune, parts: Parts, of_training: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of an epoch beside those that every training has."""
    figures: dict[str, Any] = {}
    options = {"batch_size": job.eval_size, "precision": job.precision}
    for name, dataset in parts.chosen_and_others.items():
        figures[f"eval_loss_{name}"] = evaluate(parts.model, dataset, **options)["loss"]
    if parts.method.flood_level:
        figures["loss_share_of_b"] = figures["eval_loss_robust"] / parts.method.flood_level
    how = parts.chosen.statistics.perturbation()
    for group, dataset in parts.logged_groups.items():
        figures[f"{group}_loss"] = parts.judge.perturbed(parts.model, dataset, how)["loss"]
    has_point, is_judged = judged_after(job, parts.judge, of_training["epoch"])
    if has_point:
        figures |= parts.judge.point(parts.model, parts.judged_on, how)
    if is_judged or "stopped_at_epoch" in of_training:
        figures |= robustness(parts.model, parts.test_set, parts.chosen, job)
    return figures


def robustness(model: nn.Module, test_set: Dataset | None, chosen: Choice, job: FineTune) -> dict[str, Any]:
    """Test accuracy under PGD, with the size of the attack, and under the perturbation of the statistics file.

    None without a test split, under PGD also with --pgd_step 0, under the perturbation where it is not known.
    """
    figures: dict[str, Any] = {"pgd_accuracy": None, "perturbed_accuracy": None}
    if test_set is None:
        return figures
    return figures | settings.of(EpochJudge, job).perturbed_accuracies(
        model, test_set, chosen.statistics.perturbation()
    )


def plan_attack(job: FineTune, test_set: Dataset | None) -> Planned | None:
    """The attacks on words with which --do_attack 1 ends the run. Raises InputError where none is possible."""
    if not job.do_attack:
        return None
    if test_set is None:
        raise InputError("--do_attack 1 attacks the test split, and there is none")
    return plan(job, job, test_set, word_attacks(job.attack_method or WORD_ATTACKS[:1], job))


def judged_after(job: FineTune, judge: EpochJudge, epoch: int) -> tuple[bool, bool]:
    """Whether an epoch, counted from 1, gives a point of the curve, and whether the model is judged on all then."""
    due = judge.is_due(epoch)
    has_point = due and job.judge_instances is not None
    return has_point, (due and not has_point) or epoch == job.epochs


def chosen_and_others(dataset: Dataset, chosen: Choice) -> dict[str, Dataset]:
    """The chosen and the other instances, as far as there are any; the log calls the chosen ones robust."""
    flags = chosen_flags(dataset, chosen.index)[dataset.index]
    parts = {"robust": flags.nonzero().flatten(), "other": (~flags).nonzero().flatten()}
    return {name: dataset.subset(positions) for name, positions in parts.items() if len(positions)}


def load_splits(job: FineTune, chosen: Choice, device: torch.device) -> tuple[Dataset, Dataset | None, Dataset | None]:
    """The training split, which must be that of the statistics, the validation split, if any, and the test split.

    Instances that the statistics' run held out of training are left out of it.
    """
    # --dataset_len and --val_len drew by the seed of the statistics, which need not be that of this run.
    data = dataclasses.replace(settings.of(Data, job), image_size=chosen.statistics.image_size(job))
    loading = data, job.model_name, data_seed(job, chosen)
    train_set, test_set = building.load_splits(*loading, device)
    train_set = chosen.statistics.without_held_out(train_set)
    chosen.statistics.check_training_set(train_set)
    return train_set, building.load_validation(*loading, train_set, device), test_set


def data_seed(job: FineTune, chosen: Choice) -> int:
    """The seed by which --dataset_len and --val_len drew."""
    recorded = chosen.statistics.data_seed
    return job.seed if recorded is None else recorded


def save_model(folder: Path, job: FineTune, parts: Parts, known_by: Mapping[str, str] | None = None) -> None:
    """Save the model with what tells its data, so that it can be judged on the like."""
    data = {"seed": data_seed(job, parts.chosen), "image_size": parts.train_set.image_size}
    saved_models.save_model(folder, parts.model, dataclasses.asdict(job), parts.train_set.label_names, known_by, data)


def make_trainer(job: FineTune, parts: Parts) -> Trainer:
    """The trainer that the arguments ask for, adversarial or not."""
    subsets = parts.method.subsets(parts.train_set, parts.chosen)
    common = (parts.model, parts.train_set, job, parts.device, parts.objective)
    options = {"subsets": subsets, "seed": job.seed, "precision": job.precision}
    options |= {"pgd_options": job.attack_in_training(), "perturbed_by": job.augment_chosen or ()}
    kind = AdversarialTrainer if job.do_pgd_training and not parts.method.trains_on_all else ChosenTrainer
    trainer = kind(*common, **options, chosen=parts.objective.chosen)
    trainer.epoch_losses = parts.objective.end_epoch
    return trainer


def train(trainer: Trainer, job: FineTune, parts: Parts) -> None:
    """Train to the end, saving the model on the way where --save_steps says so."""
    for step in saving_steps(job.save_steps, trainer.steps_per_epoch, trainer.total_steps):
        if step < trainer.step:
            continue
        trainer.train_until(step)
        if trainer.step < step:  # the training loss was reached before
            break
        if distributed.is_main():
            save_model(Path(job.output_dir) / f"model_step{step}", job, parts)
    trainer.train_until(trainer.total_steps)


def saving_steps(every: float, steps_per_epoch: int, total: int) -> list[int]:
    """The steps before the last at which the model is saved, ascending; every: steps, below 1 epochs, 0 for never."""
    if not every:
        return []
    spacing = max(1.0, every * steps_per_epoch if every < 1 else every)
    steps = (round(number * spacing) for number in range(1, math.ceil(total / spacing)))
    return [step for step in steps if step < total]
