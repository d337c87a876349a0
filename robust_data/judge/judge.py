"""Judging a model: accuracy and loss, clean, under attacks, perturbations and published corruptions."""

from __future__ import annotations

import dataclasses
import itertools
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from robust_data import files, perturbations
from robust_data.collection import Draws, are_probabilities, perturb_batch, refuse_probabilities
from robust_data.datasets.base import Batch, Dataset
from robust_data.evaluation import Attempt, Outcome, mean_outcomes, outcome, outcome_of, under_attack, worse
from robust_data.judge import autoattack, corruption_error, loading
from robust_data.judge.believable import examine
from robust_data.judge.conditions import HIDDEN, WORD_ATTACKS, AttackSettings, Condition, settings
from robust_data.judge.hidden import NearestMean, nearest_means
from robust_data.judge.instances import Found, expected_calibration_error, worst_figures
from robust_data.judge.report import Row, condition_names, file_stem
from robust_data.registry import InputError, warn_once
from robust_data.settings import Judgement
from robust_data.train import building, distributed
from robust_data.train.identity import timestamp, versions
from robust_data.train.inference import predict, warn_of_zero_gradients
from robust_data.words.plan import plan

# By source, None for the judged model.
Hidden = Mapping[nn.Module | None, Sequence[NearestMean]]


def judge(
    job: Judgement,
    conditions: Sequence[Condition],
    reference: Mapping[str, Any] | None,
) -> tuple[dict[str, Any], Found]:
    """Judge the model of the arguments under these conditions and the published corruptions.

    job: of `evaluate_robustness.py`. reference: the report of another model, for the corruption error. Returns the
    report, and what was found of every instance under each condition of the report's `results`, in their order.
    Raises InputError for a data set, model, folder or reference that cannot be used.
    """
    started = time.perf_counter()
    device = building.prepare_device(job, job.dataset_name)
    dataset = loading.load_instances(job, device)
    corruptions = loading.open_corruptions(job, dataset)
    of_published = loading.published_conditions(corruptions, job.severities)
    known_by = loading.identity(dataset, corruptions)
    if reference is not None:
        corruption_error.check_reference(job.reference, reference, [*conditions, *of_published], known_by)
    perturbed = [(condition.name, condition.severity) for condition in conditions if condition.kind == "perturbation"]
    perturbations.check_size(perturbed, dataset.image_size)
    on_words = [condition.name for condition in conditions if condition.name in WORD_ATTACKS]
    by_gradient = any(condition.kind == "attack" for condition in conditions if condition.name not in on_words)
    loading.check_attack_loss(job, dataset)
    if "autoattack" in job.attack_method:
        autoattack.check(len(dataset.label_names))
    names = job.source_model or []
    of_sources = [loading.load_for_source(job, name, dataset, device) for name in names]
    planned = plan(job, job, [*of_sources, dataset][0], on_words, job.temperature) if on_words else None
    model = loading.load_model(job, dataset, device)
    sources = [loading.load_source(job, name, read, device) for name, read in zip(names, of_sources)]
    for name, read, source in zip(names, of_sources, sources):
        if by_gradient and dataset.modality == "text":
            loading.check_same_words(name, dataset, read, model, source)
    files.output_folder(job.output_dir)
    building.announce(job, job, dataset, device)
    attack = settings(job)
    judging = Judge(
        model, job.eval_size, job.precision, job.seed, attack, sources if len(sources) == 1 else [None, *sources]
    )
    measure, on_inputs = judging.judged, [condition for condition in conditions if condition.name not in on_words]
    rows, found = measure(dataset, on_inputs)
    # On another model the stronger attack may well be the weaker one.
    compared = [] if sources else compare_attacks(rows)
    believable = examine(judging, dataset, on_inputs, found, compared)
    same = loading.same_instances(known_by, dataset.split)
    for condition in of_published:
        corrupted = corruptions.load(condition.name, condition.severity, dataset.label_names)
        more_rows, of_corrupted = measure(corrupted, [condition])
        rows += more_rows
        found = found.extended(found.index, *of_corrupted.measured) if same else found.without(1)
    word_attacks = {}
    for name, attacked in planned.attacks([*sources, model][0]) if planned else ():
        own = None if not sources else dataset.subset(dataset.positions(planned.dataset.index))
        attacked, margin = planned.shown(model, attacked, own)
        right = np.array([one.result == "failed" for one in attacked])
        word_attacks[name] = planned.written(name, attacked, file_stem(job))
        of_texts = worst_figures(right, planned.dataset)
        rows.append(_word_row(name, word_attacks[name]) | attack.size(Condition("attack", name)) | of_texts)
        found = found.extended(planned.dataset.index.numpy(), right[None], margin[None])
    errors = None if reference is None else corruption_error.corruption_errors(rows, reference["results"])
    for row, label in zip(rows, condition_names(rows)):
        row["condition"] = label
    if believable is not None and believable["checks"]:
        believable["condition"] = rows[believable["condition"]]["condition"]
    report = {
        "model_name": job.model_name,
        "dataset_name": dataset.name,
        "split": dataset.split,
        "label_names": list(dataset.label_names),
        **known_by,
        "results": rows,
        "checks": {"pgd_at_least_as_strong_as_fgsm": compared},
        "believable": believable,
        "corruption_error": errors,
        "word_attacks": word_attacks,
        "arguments": dataclasses.asdict(job),
        "versions": versions(),
        "device": str(device),
        "processes": distributed.world_size(),
        "finished": timestamp(),
        "wall_seconds": round(time.perf_counter() - started, 1),
    }
    return report, found


@dataclass(frozen=True)
class Judge:
    """A model and how to measure it; `rows` and `judged` do so.

    sources: the models that attacks by gradient follow, None for the judged one; the worst counts. quiet: warn of
    nothing.
    """

    model: nn.Module
    batch_size: int = 256
    precision: str = "fp32"
    seed: int = 0
    attack: AttackSettings = AttackSettings()
    sources: Sequence[nn.Module | None] = (None,)
    quiet: bool = False

    def rows(self, dataset: Dataset, conditions: Sequence[Condition]) -> list[Row]:
        """The rows of `judged`."""
        return self.judged(dataset, conditions)[0]

    def judged(self, dataset: Dataset, conditions: Sequence[Condition]) -> tuple[list[Row], Found]:
        """One row of `COLUMNS` per condition, and every instance under them, all measured in one pass over the data.

        accuracy: 0..1. loss: mean cross-entropy in nats. change: of a perturbation, how far it moves an input in the
        mean, see `perturb_batch`. The instances of every process are counted.
        """
        # By condition: was each instance right, its margin, how far it was moved; last, whether its clean logits are
        # probabilities, and how confident they are. It stays on the device: to look at it would make a GPU wait.
        device = next(self.model.parameters()).device
        tally, walks = perturbations.GradientTally(), self.attack.walks(conditions)
        hidden = self._hidden(dataset, conditions)
        found = torch.zeros(3 * len(conditions) + 2, len(dataset), device=device)

        def outcomes(batch: Batch) -> Iterator[Outcome]:
            logits = predict(self.model, batch.inputs, self.precision)
            clean = outcome_of(logits, batch.labels)
            places = batch.positions.to(device)
            found[-2, places] = are_probabilities(logits).float()
            found[-1, places] = logits.float().softmax(dim=1).amax(dim=1)
            under_each = (under for walk in walks for under in self._under(walk, batch, clean, hidden, tally))
            for number, under in enumerate(under_each):
                # 0 is added so that -0 becomes 0, as it does when the processes' parts are added.
                found[3 * number, places], found[3 * number + 1, places] = under.correct.float(), under.margins + 0.0
                if under.changes is not None:
                    found[3 * number + 2, places] = under.changes
                yield under

        means = mean_outcomes(
            self.model,
            dataset,
            outcomes,
            len(conditions),
            "judge",
            batch_size=self.batch_size,
        )
        if not self.quiet:
            warn_of_zero_gradients(tally, f"judging on {len(dataset)} instances")
        measured = distributed.sum_over_processes(found.cpu()).numpy()
        if (measured[-2] > 0).all():
            refuse_probabilities("--model_name: the model")
        label = dataset.labels.numpy()
        of_all = Found(dataset.index.numpy(), label, measured[:-2:3] > 0, measured[1:-2:3])
        rows = []
        for condition, mean, right, changes in zip(conditions, means, of_all.right, measured[2:-2:3]):
            row = _row(condition, *mean, len(dataset)) | self.attack.size(condition)
            row |= worst_figures(right, dataset)
            if condition.kind == "perturbation":
                row["change"] = float(changes.mean(dtype=np.float64))
            if condition.kind == "clean":
                row["calibration_error"] = expected_calibration_error(measured[-1], right)
            rows.append(row)
        return rows, of_all

    def _autoattack(self, condition: Condition, batch: Batch, clean: Outcome) -> Outcome:
        images = batch.inputs["pixel_values"]
        for source in self.sources:
            how = (images, batch.labels, condition.norm, condition.eps, self.seed)
            attacked = autoattack.attacked(source or self.model, *how)
            clean = worse(clean, outcome(self.model, {"pixel_values": attacked}, batch.labels, self.precision))
        return clean

    def _hidden(self, dataset: Dataset, conditions: Sequence[Condition]) -> Hidden:
        """By source the hidden layers that the conditions follow.

        Raises InputError where there are none, and nothing else.
        """
        attacks = [condition for condition in conditions if condition.kind == "attack"]
        if not any(HIDDEN in self.attack.climbed(condition) for condition in attacks):
            return {}
        found = {source: nearest_means(source or self.model, dataset) for source in self.sources}
        if not any(found.values()) and self.attack.losses == (HIDDEN,):
            raise InputError("--attack_loss hidden: no row of layers was found in the model; give ce")
        return found

    def _attempts(self, condition: Condition, hidden: Hidden, tally: perturbations.GradientTally) -> Iterator[Attempt]:
        """The attempts of an attack; in hidden layers one for each of them. A gradient of 0 is one of the logits."""
        for source, (options, draw) in itertools.product(self.sources, self.attack.attempts(condition)):
            draws = Draws(seed=self.seed, draw=draw, pgd_options=options)
            if options.loss == HIDDEN:
                draws = replace(draws, pgd_options=replace(options, loss="margin"))
                yield from (Attempt(draws, layer) for layer in hidden[source])
            else:
                counted = not options.turned and source == self.sources[0]
                onwards = None in self.sources and not (options.turned or options.queries or options.probes)
                yield Attempt(replace(draws, tally=tally) if counted else draws, source, onwards)

    def _under(
        self,
        walk: Sequence[Condition],
        batch: Batch,
        clean: Outcome,
        hidden: Hidden,
        tally: perturbations.GradientTally,
    ) -> list[Outcome]:
        """The outcomes under the conditions of a walk, see `AttackSettings.walks`.

        Published corruptions are corrupted already, so they pass as they are.
        """
        condition = walk[-1]
        if condition.kind == "attack":
            if condition.name == "autoattack":
                return [self._autoattack(condition, batch, clean)]
            steps = [self.attack.options(one).steps for one in walk]
            attempts = self._attempts(condition, hidden, tally)
            return under_attack(self.model, batch, clean, "pgd", attempts, steps, self.precision)
        if condition.kind != "perturbation":
            return [clean]
        # For one without severities, such as a flip, the number only decides the random draws.
        draws = Draws(condition.severity or 1, self.seed)
        inputs, changes = perturb_batch(condition.name, batch, batch.labels, self.model, self.precision, draws)
        return [outcome(self.model, inputs, batch.labels, self.precision)._replace(changes=changes)]


def _row(condition: Condition, accuracy: float, loss: float, instances: int) -> Row:
    if not math.isfinite(loss):
        raise InputError(f"--model_name: the loss is {loss} on {condition.kind} input; the weights are unusable")
    return asdict(condition) | {"accuracy": accuracy, "loss": loss, "instances": instances}


def _word_row(name: str, figures: Mapping[str, Any]) -> Row:
    row = {"accuracy": figures["accuracy_under_attack"], "accuracy_before": figures["accuracy"]}
    shared = ("loss", "instances", "attack_success_rate", "words_changed", "queries")
    return asdict(Condition("attack", name)) | row | {field: figures[field] for field in shared}


def compare_attacks(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """For each linf size at which both were tried: is PGD at least as strong as FGSM? Warns where it is not."""
    accuracies = {(row["name"], row["eps"]): row["accuracy"] for row in rows if row["norm"] == "linf"}
    checks = []
    for eps in sorted({eps for _, eps in accuracies}):
        fgsm, pgd = accuracies.get(("fgsm", eps)), accuracies.get(("pgd", eps))
        if fgsm is None or pgd is None:
            continue
        checks.append({"eps": eps, "fgsm_accuracy": fgsm, "pgd_accuracy": pgd, "holds": pgd <= fgsm})
        if pgd > fgsm:
            warn_once(
                f"PGD leaves an accuracy of {pgd:.4f} at linf eps {eps:.4f}, FGSM {fgsm:.4f}: PGD is not at its best; "
                "raise --pgd_step or --restarts, or mistrust the gradients"
            )
    return checks
