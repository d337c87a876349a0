"""Training: one loop for every script, stopped wherever the script wants to look at the model."""

from __future__ import annotations

import bisect
import functools
import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from robust_data import settings
from robust_data.datasets.base import Batch, Dataset
from robust_data.perturbations.sampling import finest_float
from robust_data.registry import InputError, one_line, warn_once
from robust_data.settings import Training
from robust_data.train import distributed
from robust_data.train.augmentation import augment
from robust_data.train.batches import Batches
from robust_data.train.by_length import ByLength
from robust_data.train.inference import autocast, progress_bar
from robust_data.train.parallel import SynchronisedBatchNorm, over_processes
from robust_data.train.parts import InParts, has_batch_norm

MOMENTUM = 0.9
Losses = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
# Why a batch cannot be cut.
NOT_IN_PARTS = "the model's batch norm takes its statistics over the whole batch"


class TrainingDiverged(InputError):
    """The loss became NaN or infinite."""


def cross_entropy(
    logits: torch.Tensor, labels: torch.Tensor, index: torch.Tensor, label_smoothing: float = 0.0
) -> torch.Tensor:
    """The plain loss: [B] from logits [B, C] and labels [B], whichever the instances."""
    return nn.functional.cross_entropy(logits, labels, reduction="none", label_smoothing=label_smoothing)


def checkpoint_steps(
    epochs: int, steps_per_epoch: int, interval: float, with_untrained_model: bool = True
) -> list[int]:
    """The global steps after which statistics are collected, ascending, each once, the last the end of training.

    interval: epochs between two checkpoints, a fraction is fine; they lie at least one step apart.
    """
    total = epochs * steps_per_epoch
    spacing = max(1.0, interval * steps_per_epoch)
    # The small term keeps an interval such as 0.1 from losing its last checkpoint to rounding.
    count = int(total / spacing + 1e-9)
    steps = {round(number * spacing) for number in range(1, count + 1)} | {total}
    return sorted(steps | {0} if with_untrained_model else steps)


def make_optimizer(model: nn.Module, options: Training) -> torch.optim.Optimizer:
    """AdamW, or SGD with Nesterov's momentum; biases and the weights of norms, of one dimension, are not decayed."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": options.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if options.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=options.lr, momentum=MOMENTUM, nesterov=True)
    # Fused, a step of MiniLM's 22 M weights takes a tenth of the time on a CPU.
    return torch.optim.AdamW(groups, lr=options.lr, eps=options.adam_epsilon, fused=True)


def make_schedule(optimizer: torch.optim.Optimizer, options: Training, total_steps: int) -> LRScheduler:
    """The learning rate of each of the steps: it rises over the warm-up, then falls to 0 at the end.

    "linear" and "cosine" say how it falls; the warm-up is linear. "onecycle" (Smith & Topin 2019) rises from a 25th
    and falls along cosines, and leaves the momentum as it is.
    """
    if options.lr_schedule == "onecycle":
        # One more step than there are, so that the last of them is still above the end. Torch divides by the length of
        # the rise less one.
        steps = total_steps + 1
        rise = min(1.0, max(options.warmup_ratio, 2 / steps))
        return OneCycleLR(optimizer, options.lr, total_steps=steps, pct_start=rise, cycle_momentum=False)
    warmup = math.ceil(options.warmup_ratio * total_steps)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        left = (total_steps - step) / max(1, total_steps - warmup)
        return left if options.lr_schedule == "linear" else (1 - math.cos(math.pi * left)) / 2

    return LambdaLR(optimizer, factor)


@dataclass
class _EpochTotals:
    """Sums over the batches of the epoch at hand, on the device so that no step waits for them."""

    losses: list[torch.Tensor] = field(default_factory=list)
    correct: torch.Tensor | int = 0
    seen: int = 0
    seconds: float = 0.0


class Trainer:
    """Trains a model on a dataset, up to any step one asks for.

    dataset: see `datasets.load`. losses: `(logits [B,C], labels [B], index [B]) -> [B]`, by default the cross-entropy
    with the options' label smoothing; the mean over the global batch is minimised, see `make_optimizer`, and the
    gradient norm clipped. The attribute `on_step` is called after every step, then, after the last of an epoch,
    on_epoch_end with the epoch's figures. subsets: positions in the dataset (int64 each) to train on instead of all, an
    epoch each, in turn. With several processes each takes its share of every batch; batches and steps do not depend on
    how many there are.
    """

    def __init__(
        self,
        model: nn.Module,
        dataset: Dataset,
        options: Training,
        device: torch.device,
        losses: Losses | None = None,
        on_epoch_end: Callable[[dict[str, float]], None] = lambda figures: None,
        subsets: Sequence[torch.Tensor] | None = None,
        seed: int = 42,
        precision: str = "fp32",
    ):
        self.model = model
        self.dataset = dataset
        self.options = options = settings.of(Training, options).complete()
        self.seed, self.precision = seed, precision
        self.device = device
        self.losses = losses or functools.partial(cross_entropy, label_smoothing=options.label_smoothing)
        self.on_epoch_end = on_epoch_end
        self.on_step: Callable[[], None] = lambda: None
        # Called at the end of every epoch; gives figures of it from the losses that training has seen.
        self.epoch_losses: Callable[[], dict[str, Any]] = lambda: {}
        self.step = 0
        # The epoch, from 1, at whose end --stop_at_train_loss ended the training.
        self.stopped_at_epoch: int | None = None
        self.subsets = subsets or [torch.arange(len(dataset))]
        self._batches = Batches(model, options.bsz, list(map(len, self.subsets)), self._one_input)
        # Of the first epoch; with several subsets the others may have more or fewer.
        self.steps_per_epoch = self._batches.count(len(self.subsets[0]))
        steps = (self._batches.count(len(self._subset(epoch))) for epoch in range(options.epochs))
        self._epoch_starts = list(itertools.accumulate(steps, initial=0))
        self.total_steps = self._epoch_starts[-1]
        self._frozen = {name for name, weight in model.named_parameters() if not weight.requires_grad}
        self.optimizer = make_optimizer(model, options)
        self.schedule = make_schedule(self.optimizer, options, self.total_steps)
        self._in_parts = InParts(self._shown(model), options.accumulate or 1)
        if self.parts > 1 and has_batch_norm(model):
            raise InputError(f"--accumulate {self.parts}: {NOT_IN_PARTS}; leave it out, or give a smaller --bsz")
        self._parallel = over_processes(self._in_parts, device, self._one_input)
        self._synchronised = [module for module in model.modules() if isinstance(module, SynchronisedBatchNorm)]
        self._totals = _EpochTotals()
        self._sum_type = finest_float(device)
        # Whether every gradient so far was.
        self._finite: torch.Tensor | bool = True

    def train_until(self, step: int) -> None:
        """Go on training until `step` steps are done, or until the loss is that of `stop_at_train_loss`.

        Raises TrainingDiverged at a loss that is not finite.
        """
        self.model.train()
        if self.epoch_end_is_due:  # a state was taken after the epoch's last step
            self._end_epoch()
        while self.step < step and self.stopped_at_epoch is None:
            epoch = self._epochs_until(self.step)
            self._train_within_epoch(epoch, min(step, self._epoch_starts[epoch + 1]))
        self._check_finite()
        distributed.share_buffers(self.model)

    def _train_within_epoch(self, epoch: int, until: int) -> None:
        started = time.perf_counter()
        done = self.step - self._epoch_starts[epoch]
        batches = self._epoch_batches(epoch)[done : done + until - self.step]
        shares, shown = zip(*map(self._batches.share, batches))
        title = f"epoch {epoch + 1}/{self.options.epochs}"
        with progress_bar(title, sum(map(len, batches))) as counted:
            for batch, share, whole in zip(self.dataset.batches(shown, self.device), shares, batches):
                self._train_step(self.shown(batch, epoch), counted=len(share), batch_size=len(whole))
                counted.update(len(whole))
                self._totals.seconds += time.perf_counter() - started
                self.on_step()
                started = time.perf_counter()
        if self.epoch_end_is_due:
            self._end_epoch()

    @property
    def epoch_end_is_due(self) -> bool:
        """Whether the last step of an epoch is done, but not what follows it."""
        return self._totals.seen > 0 and self.step in self._epoch_starts

    @property
    def told_step(self) -> int:
        """The last step whose epoch's figures, if it ended one, have been told to `on_epoch_end`."""
        return self.step - 1 if self.epoch_end_is_due else self.step

    def _epochs_until(self, step: int) -> int:
        """How many epochs have ended by a step."""
        return bisect.bisect_right(self._epoch_starts, step) - 1

    def state(self) -> dict[str, Any]:
        """All that training needs to go on from here; every process must call it, and gets the same.

        Raises TrainingDiverged rather than give a state that is not finite.
        """
        self._check_finite()
        losses = torch.stack(self._totals.losses) if self._totals.losses else torch.zeros(0)
        correct = torch.as_tensor(self._totals.correct)
        return {
            "step": self.step,
            "stopped_at_epoch": self.stopped_at_epoch,
            # What is frozen a run builds again.
            "model": {name: value for name, value in self.model.state_dict().items() if name not in self._frozen},
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "epoch_loss_sums": distributed.sum_over_processes(losses.to(self.device)).cpu(),
            "epoch_correct": int(distributed.sum_over_processes(correct.to(self.device))),
            "epoch_seen": self._totals.seen,
            "epoch_seconds": self._totals.seconds,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go back to where `state` was taken. Raises almost anything for what is no state of this training."""
        if not 0 <= state["step"] <= self.total_steps:
            raise ValueError(f"its step is {state['step']} of {self.total_steps}")
        self.step, self.stopped_at_epoch = state["step"], state["stopped_at_epoch"]
        lacks, strange = self.model.load_state_dict(state["model"], strict=False)
        if strange or set(lacks) - self._frozen:
            raise ValueError("its weights are those of another model")
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        # The sums are over all processes; the main one goes on with them, the others begin at nothing.
        share = 1 if distributed.is_main() else 0
        self._totals = _EpochTotals(
            [loss * share for loss in state["epoch_loss_sums"].to(self._sum_type).to(self.device)],
            state["epoch_correct"] * share,
            state["epoch_seen"],
            state["epoch_seconds"],
        )

    def _shown(self, model: nn.Module) -> nn.Module:
        """The model as batches are shown to it: on a CPU, where padding takes its time, texts by their length."""
        # Batch norm takes its statistics over the whole batch; a GPU waits for the lengths, and for small parts.
        by_length = self.dataset.modality == "text" and self.device.type == "cpu" and not has_batch_norm(model)
        return ByLength(model) if by_length else model

    def _one_input(self) -> dict[str, torch.Tensor]:
        """The inputs of the first instance to train on."""
        device = next(self.model.parameters()).device
        return next(iter(self.dataset.batches([self.subsets[0][:1]], device))).inputs

    def _subset(self, epoch: int) -> torch.Tensor:
        return self.subsets[epoch % len(self.subsets)]

    def _epoch_batches(self, epoch: int) -> Sequence[torch.Tensor]:
        """The epoch's batches of positions; the order depends on the seed and the epoch alone."""
        positions = self._subset(epoch)
        if self.options.do_train_shuffle:
            generator = torch.Generator().manual_seed((self.seed * 1_000_003 + epoch) % 2**63)
            positions = positions[torch.randperm(len(positions), generator=generator)]
        return self._batches.cut(positions)

    def shown(self, batch: Batch, epoch: int) -> Batch:
        """The batch as this epoch shows it to the model."""
        if self.options.augment == "none":
            return batch
        images = augment(batch.inputs["pixel_values"], self.options.augment, batch.index, self.seed, epoch)
        return replace(batch, inputs=batch.inputs | {"pixel_values": images})

    def logits_and_losses(
        self, inputs: dict[str, torch.Tensor], batch: Batch, counted: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits [counted, C] and losses [counted] of the batch's first `counted` instances on these inputs."""
        for norm in self._synchronised:
            norm.stands_in = counted == 0
        with autocast(self.device, self.precision):
            logits = self._parallel(inputs)[:counted]
        return logits, self.losses(logits.float(), batch.labels[:counted], batch.index[:counted])

    def gradients(self, batch: Batch, counted: int, batch_size: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Add the gradients of one step to the parameters; returns what `logits_and_losses` gave."""
        logits, losses = self.logits_and_losses(batch.inputs, batch, counted)
        # DistributedDataParallel averages over the processes; this makes it the mean over the global batch.
        (losses.sum() * (distributed.world_size() / batch_size)).backward()
        return logits, losses

    def _train_step(self, batch: Batch, counted: int, batch_size: int) -> None:
        logits, losses = self._fitting_gradients(batch, counted, batch_size)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.options.max_grad_norm)
        self._finite = self._finite & torch.isfinite(norm)
        self.optimizer.step()
        self.schedule.step()
        self.step += 1

        self._totals.losses.append(losses.detach().sum().to(self._sum_type))
        self._totals.correct += (logits.argmax(dim=1) == batch.labels[:counted]).sum()
        self._totals.seen += batch_size
        # Asking makes a GPU wait, so there the steps are checked in groups.
        if self.device.type == "cpu" or self.step % 50 == 0:
            self._check_finite()

    def _fitting_gradients(self, batch: Batch, counted: int, batch_size: int) -> tuple[torch.Tensor, torch.Tensor]:
        """What `gradients` does, from none on, in as few parts as fit in the memory."""
        # An objective sums up what it sees; what did not fit it has not seen.
        seen = dict(vars(self.losses))
        while True:
            # Dropout's draws belong to the step and the process, so a run that was stopped goes on with the same ones.
            torch.manual_seed(((self.seed * 1_000_003 + self.step) * 1_009 + distributed.rank()) % 2**63)
            self.optimizer.zero_grad(set_to_none=True)
            try:
                return self.gradients(batch, counted, batch_size)
            except torch.OutOfMemoryError as error:
                reason = f"--bsz {self.options.bsz} does not fit in the memory ({one_line(error, 200)})"
            # Here, as the error's traceback keeps all that the step has made.
            if has_batch_norm(self.model):
                raise InputError(f"{reason}, and {NOT_IN_PARTS}; give a smaller one")
            if self.options.accumulate or distributed.world_size() > 1 or self.parts >= len(batch):
                raise InputError(f"{reason}; give --accumulate {2 * self.parts} or more, or a smaller --bsz")
            self._in_parts.count *= 2
            warn_once(f"{reason}; going on with --accumulate {self.parts}")
            vars(self.losses).update(seen)

    @property
    def parts(self) -> int:
        """In how many parts a process passes its share of a batch."""
        return self._in_parts.count

    def _check_finite(self) -> None:
        """Stop at the first of the epoch's losses that is not finite, every process alike.

        The gradient is that of the whole batch, so its norm, and by it this question, is the same on every
        process; the loss that spoiled it is that of one.
        """
        if self._finite:
            return
        losses = self._totals.losses
        wrong = (~torch.isfinite(torch.stack(losses))).nonzero() if losses else []
        step = self.step - len(losses) + int(wrong[0]) + 1 if len(wrong) else self.step
        step = -distributed.most_over_processes([-step])[0]
        raise TrainingDiverged(f"the training loss is not finite at step {step}; lower --lr {self.options.lr}")

    def _end_epoch(self) -> None:
        self._check_finite()
        distributed.share_buffers(self.model)
        totals, self._totals = self._totals, _EpochTotals()
        sums = torch.stack(
            [torch.stack(totals.losses).sum(), torch.as_tensor(totals.correct, device=self.device).to(self._sum_type)]
        )
        loss, correct = distributed.sum_over_processes(sums).tolist()
        figures = {
            "epoch": self._epoch_starts.index(self.step),
            "global_step": self.step,
            "train_loss": loss / totals.seen,
            "train_accuracy": correct / totals.seen,
            "lr": self.schedule.get_last_lr()[0],
            "seconds": round(totals.seconds, 3),
            "instances_per_second": round(totals.seen / totals.seconds, 1),
        } | self.epoch_losses()
        enough = self.options.stop_at_train_loss
        # What is minimised need not be the cross-entropy; `epoch_losses` then tells it.
        if enough is not None and figures.get("train_cross_entropy", figures["train_loss"]) <= enough:
            self.stopped_at_epoch = figures["stopped_at_epoch"] = figures["epoch"]
        self.on_epoch_end(figures)
