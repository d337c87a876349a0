"""The methods of fine-tuning: each says how a run treats the instances that were chosen, and all others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from robust_data.analysis.choice import Choice
from robust_data.datasets.base import Dataset
from robust_data.perturbations.sampling import finest_float
from robust_data.registry import LazyModule, warn_once
from robust_data.selection import SENSITIVITY_GROUPS
from robust_data.settings import FineTune, Settings, natural_float, option, share

# A mistake in the arguments is told before torch is imported, which takes seconds.
torch = LazyModule("torch")
losses_of = LazyModule("robust_data.losses")
distributed = LazyModule("robust_data.train.distributed")

# Below this share of the flood level the final loss of the chosen instances is far from it.
FAR_BELOW = 0.5


class Method:
    """Training on all instances with the cross-entropy of each; a method of its own says what it does differently.

    name: what the results file calls the method.
    """

    name = "plain"
    # The loss, in nats, below which chosen instances are pushed back.
    flood_level: float | None = None
    # Then the log has the loss of the chosen and that of the other instances.
    trains_on_all = True

    def losses(
        self, logits: torch.Tensor, labels: torch.Tensor, cross_entropy: torch.Tensor, chosen: torch.Tensor
    ) -> torch.Tensor:
        """What is minimised, [B]: of logits [B, C], labels int64 [B], their cross-entropy [B], and chosen, bool [B]."""
        return cross_entropy

    def below_level(self, cross_entropy: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        """Which visits to chosen instances came below a flood level, where there is one: bool [B].

        cross_entropy: float [B], without gradient; chosen: bool [B].
        """
        return torch.zeros_like(chosen)

    def warning(self, figures: Mapping[str, Any]) -> str | None:
        """What to say once the training is over; figures: of its last epoch."""
        return None

    def subsets(self, dataset: Dataset, chosen: Choice) -> list[torch.Tensor] | None:
        """The positions in the dataset to train on, int64 each, an epoch each, in turn; None for all instances."""
        return None

    def logged_groups(self, dataset: Dataset, chosen: Choice) -> dict[str, Dataset]:
        """The groups of instances, by name, whose loss under the statistics' perturbation is logged at every epoch."""
        return {}


@dataclass(frozen=True)
class Flooding(Method, Settings):
    """Keeps the losses of the chosen instances near a flood level.

    flooding: "instance" floods each loss on its own, see `losses.flooding`; "batch" the mean over the chosen instances
    of a batch, see `losses.flooding_of_mean`.
    """

    title: ClassVar = "flooding"

    b: float = option(0.2, "flood level of the chosen instances, in nats", natural_float)
    beta: float = option(
        1.0, "weight of the losses that are NOT chosen (for soft labels it is that of the chosen ones)", natural_float
    )
    flooding: str = option(
        "instance",
        "what is kept near b: the loss of each chosen instance (iFlood, Xie et al., ICLR 2022), or the mean over those "
        "of a batch (flooding, Ishida et al., ICML 2020)",
        choices=("instance", "batch"),
    )
    name = "flooding"

    def losses(
        self, logits: torch.Tensor, labels: torch.Tensor, cross_entropy: torch.Tensor, chosen: torch.Tensor
    ) -> torch.Tensor:
        if self.flooding == "instance":
            return losses_of.flooding(cross_entropy, chosen, self.b, self.beta)
        mean = self._mean(cross_entropy.detach(), chosen)
        return losses_of.flooding_of_mean(cross_entropy, chosen, mean, self.b, self.beta)

    @property
    def flood_level(self) -> float:
        return self.b

    def below_level(self, cross_entropy: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        flooded = cross_entropy if self.flooding == "instance" else self._mean(cross_entropy, chosen)
        return chosen & (flooded < self.b)

    def _mean(self, cross_entropy: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        """The mean over the chosen instances of a batch, of all processes; inf without any of them."""
        finest = finest_float(cross_entropy.device)
        total, count = distributed.sum_over_processes(
            torch.stack([cross_entropy.where(chosen, 0).to(finest).sum(), chosen.to(finest).sum()])
        )
        return torch.where(count > 0, total / count, torch.inf)

    def warning(self, figures: Mapping[str, Any]) -> str | None:
        whole = self.flooding == "batch"
        what = "no batch's mean loss of the chosen" if whole else "no chosen instance's training loss"
        if figures.get("visits_below_b") == 0:
            return f"{what} ever came under b = {self.b:g}; the flood level was never reached: flooding had no effect"
        share = figures.get("loss_share_of_b")
        if share is None or share >= FAR_BELOW:
            return None
        return (
            f"the chosen instances end at a mean cross-entropy of {share * self.b:.4f}, {share:.0%} of b = {self.b:g}: "
            "they are held back far less than b says"
        )


@dataclass(frozen=True)
class SoftLabels(Method, Settings):
    """Trains the chosen instances towards soft labels; see `losses.soft_label`."""

    title: ClassVar = "soft labels"

    soft_label: float = option(0.8, "of the golden class, in (0, 1]", share, metavar="SHARE")
    beta: float = option(
        1.0, "weight of the losses that ARE chosen (in flooding it is that of the others)", natural_float
    )
    name = "soft_label"

    def losses(
        self, logits: torch.Tensor, labels: torch.Tensor, cross_entropy: torch.Tensor, chosen: torch.Tensor
    ) -> torch.Tensor:
        return losses_of.soft_label(logits, labels, chosen, self.soft_label, self.beta)


@dataclass(frozen=True)
class SubsetTraining(Method):
    """Trains on the chosen instances alone, or on them and a second subset in turn.

    epochs_in_turn: how many epochs each subset is trained on before the other. share: the size of the robust, swing
    and non-robust groups whose losses are logged, as a share of all instances; --group's is the one trained on.
    """

    epochs_in_turn: int
    share: float
    name = "subset"
    trains_on_all = False

    def subsets(self, dataset: Dataset, chosen: Choice) -> list[torch.Tensor]:
        subsets = [
            dataset.positions(index).sort().values for index in (chosen.index, chosen.second) if index is not None
        ]
        return [subset for subset in subsets for _ in range(self.epochs_in_turn)]

    def logged_groups(self, dataset: Dataset, chosen: Choice) -> dict[str, Dataset]:
        if chosen.statistics.perturbation() is None:
            warn_once(
                f"the perturbation of {chosen.statistics.path} is not known; the losses of the groups are not logged"
            )
            return {}
        groups = {name: chosen.group(name, self.share) for name in SENSITIVITY_GROUPS}
        return {name: dataset.subset(dataset.positions(index)) for name, index in groups.items()}


@dataclass(frozen=True)
class FloodingRun(Flooding, FineTune):
    """A fine-tuning with flooding."""


@dataclass(frozen=True)
class SoftLabelsRun(SoftLabels, FineTune):
    """A fine-tuning with soft labels."""
