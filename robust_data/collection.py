"""One checkpoint: how every instance fares on the clean and on the perturbed input."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn, TypeVar

import numpy as np
import torch
from torch import nn

from robust_data import perturbations
from robust_data.datasets.base import Batch, Dataset
from robust_data.perturbations.sampling import finest_float
from robust_data.records import DTYPE, DTYPE_WITH_INPUT_GRADIENT
from robust_data.registry import InputError
from robust_data.train import distributed
from robust_data.train.inference import autocast, extra_batches, inference, own_share, predict, warn_of_zero_gradients
from robust_data.train.parallel import is_sharded
from robust_data.train.parts import worked

Key = TypeVar("Key", bound=Hashable)

# The measurements of one pass, by the name they have in the records after original_ or after_perturb_.
MEASURED = {
    "loss": torch.float32,
    "pred": torch.bool,
    "class": torch.int32,
    "logit": torch.float32,
    "probability": torch.float32,
    "margin": torch.float32,
    "el2n": torch.float32,
}


@dataclass(frozen=True)
class Draws:
    """How a perturbation is to be applied: how strongly, and with which random draws; tally: of attacks by gradient."""

    severity: int = 3
    seed: int = 0
    draw: int = 0
    pgd_options: perturbations.PgdOptions = perturbations.PgdOptions()
    tally: perturbations.GradientTally | None = None


def check_logits(logits: torch.Tensor, whose: str) -> None:
    """Raise InputError unless [B, C] are logits: numbers that are finite, and no probabilities.

    Probabilities are rows within [0,1] of which each sums to 1. whose: the words that the error begins with.
    """
    wrong = int((~logits.isfinite().all(dim=1)).sum())
    if wrong:
        raise InputError(
            f"{whose} gives logits that are not finite for {wrong} of {len(logits)} instances; give one from before "
            "its training diverged"
        )
    if len(logits) and are_probabilities(logits).all():
        refuse_probabilities(whose)


def are_probabilities(logits: torch.Tensor) -> torch.Tensor:
    """Which of these rows lie within [0,1] and sum to 1: bool [B], of [B, C]."""
    values = logits.detach().float()
    rounding = 1e-2 if logits.dtype in (torch.bfloat16, torch.half) else 1e-4
    return ((values >= 0) & (values <= 1)).all(dim=1) & ((values.sum(dim=1) - 1).abs() < rounding)


def refuse_probabilities(whose: str) -> NoReturn:
    """Raise InputError for a model whose every row of logits is one of probabilities."""
    raise InputError(
        f"{whose} gives probabilities, rows within [0,1] that sum to 1; give logits, from before its softmax"
    )


def measure(logits: torch.Tensor, targets: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
    """What the records keep of one pass: each of `MEASURED`, [B].

    logits: [B, C]; targets: int64 [B], the class that `loss` is taken against; labels: int64 [B], the golden
    class, which all others are about.
    """
    logits = logits.float()
    rows = torch.arange(len(logits), device=logits.device)
    log_probabilities = logits.log_softmax(dim=1)
    predicted = logits.argmax(dim=1)
    golden_logits = logits[rows, labels]

    errors = log_probabilities.exp()
    probability = errors[rows, labels]
    errors[rows, labels] -= 1
    others = logits.clone()
    others[rows, labels] = -torch.inf
    return {
        "loss": -log_probabilities[rows, targets],
        "pred": predicted == labels,
        "class": predicted.int(),
        "logit": golden_logits,
        "probability": probability,
        "margin": golden_logits - others.amax(dim=1),
        "el2n": errors.norm(dim=1),
    }


def collect(
    model: nn.Module,
    dataset: Dataset,
    perturbation_names: Sequence[str],
    severity: int = 3,
    seed: int = 0,
    batch_size: int = 256,
    precision: str = "fp32",
    *,
    draw: int = 0,
    pgd_options: perturbations.PgdOptions = perturbations.PgdOptions(),
    **options: Any,
) -> dict[str, np.ndarray]:
    """Record the model's behaviour on every instance, clean and under each perturbation, as `collect_all` does.

    severity: 1..5. seed, draw: see `perturbations.perturb`. pgd_options: the size of `pgd`. options: further ones of
    `collect_all`. Returns records by canonical name, on other processes than the main one none. Raises InputError for
    names that are unknown or of the other modality.
    """
    names = perturbations.resolve(perturbation_names, dataset.modality)
    draws = Draws(severity, seed, draw, pgd_options)
    conditions = {name: (name, draws) for name in names}
    collected = collect_all(model, dataset, conditions, batch_size, precision, **options)
    return {name: records.copy() for name, records in collected}


def collect_all(
    model: nn.Module,
    dataset: Dataset,
    conditions: Mapping[Key, tuple[str, Draws]],
    batch_size: int = 256,
    precision: str = "fp32",
    *,
    global_step: int = 0,
    use_cur_preds: bool = False,
    input_gradient: bool = False,
    device: torch.device | str | None = None,
) -> Iterator[tuple[Key, np.ndarray]]:
    """Record the model's behaviour on every instance, clean and under several conditions, given one after another.

    One clean pass serves all conditions. All passes run in eval mode, without autograd but for what
    follows a gradient, in the same precision, on the same weights; the model is left as it was.

    model: {"pixel_values": [B,3,H,W] in [0,1]}, or of texts {"input_ids", ...}, -> logits [B, C]; dataset:
    see `datasets.load`.
    conditions: by any key the canonical name of a perturbation that acts on the data, and how to apply it.
    precision: "fp32" or "bf16" (losses in fp32). global_step: the step to note in the records. use_cur_preds: take
    the losses against the model's own clean prediction instead of the golden label, and lead attacks away from it.
    input_gradient: also record what `input_gradients` gives, from one more pass forward and backward. device: where
    the model is, by default where its parameters are.
    Yields each key with a structured array (N,) of `records.DTYPE`, or with `input_gradient`
    `DTYPE_WITH_INPUT_GRADIENT`: the same array each time, filled anew, so that memory holds one however many conditions
    there are. With several processes the main one gets them, the others nothing, and each has to iterate to the end.
    """
    device = torch.device(device) if device is not None else next(model.parameters()).device
    tally = perturbations.GradientTally()
    share = own_share(dataset, batch_size)
    instances = sum(map(len, share))
    clean = _empty_columns(instances, device, "input_gradient" if input_gradient else None)
    perturbed = {key: _empty_columns(instances, device, "delta_norm") for key in conditions}

    def passes(batch: Batch) -> tuple[dict[str, torch.Tensor], dict[Key, dict[str, torch.Tensor]]]:
        """What one batch gives clean and under each condition."""
        logits = predict(model, batch.inputs, precision)
        targets = logits.argmax(dim=1) if use_cur_preds else batch.labels
        of_clean, of_perturbed = measure(logits, targets, batch.labels), {}
        if input_gradient:
            of_clean["input_gradient"] = input_gradients(model, batch, precision)
        for key, (name, draws) in conditions.items():
            inputs, delta_norm = perturb_batch(name, batch, targets, model, precision, replace(draws, tally=tally))
            of_perturbed[key] = measure(predict(model, inputs, precision), targets, batch.labels)
            of_perturbed[key]["delta_norm"] = delta_norm
        return of_clean, of_perturbed

    with inference(model, "collect", instances) as counted:
        done = 0
        batches = dataset.batches([*share, *extra_batches(dataset, batch_size)], device)
        for batch, (of_clean, of_perturbed) in worked(batches, passes, splits=not is_sharded(model)):
            # Those of an extra batch lie behind the end of the columns, and what it leads to is lost.
            rows = slice(done, done := done + len(batch.positions))
            _store(clean, rows, of_clean)
            for key, measured in of_perturbed.items():
                _store(perturbed[key], rows, measured)
            counted.update(len(batch.positions))
    warn_of_zero_gradients(tally, f"collection at step {global_step}")
    dtype = DTYPE_WITH_INPUT_GRADIENT if input_gradient else DTYPE
    yield from _gathered(clean, perturbed, dataset, share, global_step, dtype)


def input_gradients(model: nn.Module, batch: Batch, precision: str = "fp32") -> torch.Tensor:
    """The l2 norm of each clean loss's gradient with respect to the instance's input, float32 [B].

    That is cross-entropy against the golden label, and pixels in [0,1] or the embeddings of all tokens but padding.
    The gradient is the product of one minus the golden label's probability and the gradient of the log odds against
    the label. Each factor is computed for itself, the product in float64: cross-entropy's own gradient is lost to
    rounding in float32 where a model is confident. The mean over checkpoints is EasyCore's score (arXiv 2510.11018).
    """
    key, clean, mask, _ = movable(batch, model, special_tokens=True)
    labels = batch.labels[:, None]
    with torch.enable_grad():
        values = clean.detach().requires_grad_()
        logits = predict(model, batch.inputs | {key: values}, precision).float()
        others = logits.scatter(1, labels, -torch.inf)
        log_odds = others.logsumexp(dim=1) - logits.gather(1, labels).squeeze(1)
        (gradient,) = torch.autograd.grad(log_odds.sum(), values)
    gradient = gradient if mask is None else gradient * mask
    finest = finest_float(gradient.device)
    norms = torch.linalg.vector_norm(gradient.flatten(1), dim=1, dtype=finest)
    return (log_odds.detach().to(finest).sigmoid() * norms).float()


def _empty_columns(length: int, device: torch.device, more: str | None) -> dict[str, torch.Tensor]:
    types = MEASURED | ({more: torch.float32} if more else {})
    return {name: torch.zeros(length, dtype=dtype, device=device) for name, dtype in types.items()}


def _store(columns: dict[str, torch.Tensor], rows: slice, measured: dict[str, torch.Tensor]) -> None:
    for name, values in measured.items():
        columns[name][rows] = values[: len(columns[name][rows])]


def perturb_batch(
    name: str,
    batch: Batch,
    targets: torch.Tensor,
    model: nn.Module,
    precision: str,
    draws: Draws,
    start: Mapping[str, torch.Tensor] | None = None,
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """The perturbed inputs, and the size [B] of the perturbation.

    That is its l2 norm, in pixels or embedding units; for a perturbation that rewrites texts the number of
    characters it changed. targets: int64 [B], the classes away from which an attack leads. start: the inputs from
    which pgd goes on, see `perturbations.attack`.
    """
    if perturbations.CATALOGUE[name].needs_gradient:
        return _attacked(name, batch, targets, model, precision, draws, start)
    if "pixel_values" not in batch.inputs:
        return _rewritten(name, batch, draws)
    clean = batch.inputs["pixel_values"]
    perturbed = perturbations.perturb(name, clean, draws.severity, batch.index, draws.seed, draws.draw)
    return batch.inputs | {"pixel_values": perturbed}, (perturbed - clean).flatten(1).norm(dim=1)


def perturbed_rows(batch: Batch, groups: Sequence[tuple[torch.Tensor, str, int]], seed: int, draw: int) -> Batch:
    """The batch with some of its instances perturbed.

    groups: places in the batch, int64 each, with the name and the severity of what perturbs them, by no gradient.
    seed, draw: see `perturbations.perturb`.
    """
    if "pixel_values" in batch.inputs:
        images = batch.inputs["pixel_values"].clone()
        for rows, name, severity in groups:
            images[rows] = perturbations.perturb(name, images[rows], severity, batch.index[rows], seed, draw)
        return replace(batch, inputs=batch.inputs | {"pixel_values": images})
    columns = batch.columns
    for (rows, name, severity), (number, column) in itertools.product(groups, enumerate(columns)):
        texts = [column[row] for row in rows.tolist()]
        changed = perturbations.perturb_texts(name, texts, severity, batch.index[rows], seed, draw, number)
        for row, text in zip(rows.tolist(), changed, strict=True):
            column[row] = text
    return batch.rewritten(columns)


def movable(
    batch: Batch, model: nn.Module, special_tokens: bool = False
) -> tuple[str, torch.Tensor, torch.Tensor | None, tuple[float, float] | None]:
    """What a gradient attack moves: its name among the inputs; values, mask, bounds as `perturbations.attack` has.

    Pixels move within [0,1]; word embeddings anywhere, but for those of padding, and of special tokens unless
    `special_tokens` says so.
    """
    if "pixel_values" in batch.inputs:
        return "pixel_values", batch.inputs["pixel_values"], None, (0.0, 1.0)
    embeddings = model.embed(batch.inputs)
    free = batch.inputs["attention_mask"] if special_tokens else batch.changeable
    # Weights in bfloat16 are too coarse for what an attack adds to them.
    return "inputs_embeds", embeddings.float(), free.unsqueeze(-1).float(), None


def _attacked(
    name: str,
    batch: Batch,
    targets: torch.Tensor,
    model: nn.Module,
    precision: str,
    draws: Draws,
    start: Mapping[str, torch.Tensor] | None,
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """The inputs as an attack by gradient leaves them; all other inputs go along."""
    options = draws.pgd_options
    key, clean, mask, bounds = movable(batch, model, options.special_tokens)

    def losses_of(values: torch.Tensor) -> torch.Tensor:
        with autocast(values.device, precision):
            logits = model(batch.inputs | {key: values})
        return perturbations.ascent_losses(logits, targets, options.loss, options.temperature)

    perturbed = perturbations.attack(
        name,
        clean,
        losses_of,
        draws.severity,
        batch.index,
        draws.seed,
        draws.draw,
        options=options,
        mask=mask,
        bounds=bounds,
        tally=draws.tally,
        start=None if start is None else start[key],
    )
    return batch.inputs | {key: perturbed}, (perturbed - clean).flatten(1).norm(dim=1)


def _rewritten(name: str, batch: Batch, draws: Draws) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """The inputs for the rewritten texts, tokenised anew."""
    columns = [
        perturbations.perturb_texts(name, texts, draws.severity, batch.index, draws.seed, draws.draw, column)
        for column, texts in enumerate(batch.columns)
    ]
    changes = sum(map(perturbations.changed_characters, batch.columns, columns))
    return batch.rewritten(columns).inputs, torch.from_numpy(changes).float().to(batch.labels.device)


def _gathered(
    clean: dict[str, torch.Tensor],
    perturbed: dict[Key, dict[str, torch.Tensor]],
    dataset: Dataset,
    share: list[torch.Tensor],
    global_step: int,
    dtype: np.dtype,
) -> Iterator[tuple[Key, np.ndarray]]:
    """What all processes measured, on the main one, condition by condition; every instance must come exactly once.

    perturbed: loses each condition on the way.
    """
    positions = distributed.gather_rows(torch.cat(share) if share else torch.empty(0, dtype=torch.int64))
    records = None
    if positions is not None:
        filled = np.bincount(torch.cat(positions), minlength=len(dataset))
        if not (filled == 1).all():
            wrong = np.count_nonzero(filled != 1)
            raise RuntimeError(f"{wrong} of {len(dataset)} instances were not recorded exactly once")
        records = _identified(dataset, global_step, dtype)
    _gather_pass(clean, "original", positions, records)
    for key in list(perturbed):
        _gather_pass(perturbed.pop(key), "after_perturb", positions, records)
        if records is not None:
            yield key, records


def _gather_pass(
    measured: dict[str, torch.Tensor], prefix: str, positions: list[torch.Tensor] | None, records: np.ndarray | None
) -> None:
    """Write what all processes measured in one pass into the records of the main process, a column at a time."""
    for name, values in measured.items():
        field = name if name == "delta_norm" else f"{prefix}_{name}"
        if field in DTYPE_WITH_INPUT_GRADIENT.names:
            for places, part in zip(positions or (), distributed.gather_rows(values) or ()):
                records[field][places.numpy()] = part.numpy()


def _identified(dataset: Dataset, global_step: int, dtype: np.dtype) -> np.ndarray:
    """Records (N,) that say which instances they are of, and nothing else yet."""
    records = np.zeros(len(dataset), dtype=dtype)
    records["global_step"] = global_step
    records["index"] = dataset.index.numpy()
    records["golden_label"] = dataset.labels.numpy()
    return records
