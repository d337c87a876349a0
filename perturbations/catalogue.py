"""The catalogue: what a perturbation is, how it is registered, found and applied."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from robust_data.perturbations.sampling import InstanceRandom
from robust_data.registry import InputError, LazyModule, Registry, warn_once

torch = LazyModule("torch")

SEVERITIES = (1, 2, 3, 4, 5)
# Up to this side, in pixels, the constants are CIFAR-10-C's; above it ImageNet-C's.
SMALL_SIDE = 64
# The side, in pixels, of the images for which CIFAR-10-C's constants are published; below it, lengths shrink in step.
PUBLISHED_SIDE = 32
# Below this side, in pixels, nothing is left of an image that a perturbation could act on.
SMALLEST_SIDE = 4

# Where a perturbation comes from.
COMMON_CORRUPTIONS = "Hendrycks & Dietterich, ICLR 2019"
ROBUST_DATA_IMAGES = "zahragolpa/robust_data"

Apply = Callable[["torch.Tensor", Any, InstanceRandom], "torch.Tensor"]
AtSize = Callable[[Any, int, int], Any]


@dataclass(frozen=True)
class Perturbation:
    """One entry of the catalogue; call it as `(images, severity, random) -> images`.

    modality: what it acts on, "image", "text" (then see `perturb_texts`) or "any". needs_gradient: it follows
    a model's gradient, and is called as `adversarial.attack` says instead.
    severities: the parameter at severity 1..5; `severities_small` replaces it for images whose longer
    side is at most 64 px. None for a perturbation that has no severity. at_size: turns such a parameter into the
    one for images of a height and a width, where it depends on them. bounded: the result of `apply` lies in [0,1]
    like its input, so that it need not be clipped. lengths: the places in the parameter of what is measured in px, ()
    for none; where given, images whose longer side is below 32 px are perturbed on a finer grid.
    """

    name: str
    family: str
    apply: Apply
    severities: Sequence[Any] | None
    severities_small: Sequence[Any] | None
    source: str
    unit: str = ""
    aliases: tuple[str, ...] = ()
    needs_gradient: bool = False
    modality: str = "image"
    at_size: AtSize | None = None
    bounded: bool = False
    lengths: tuple[int, ...] | None = None

    def acts_on(self, modality: str) -> bool:
        return self.modality in (modality, "any")

    def parameter(self, severity: int, height: int, width: int) -> Any:
        """The value that `severity` (1..5) stands for on images of this size, in `unit`."""
        parts, on_grid = self._on_grid(severity, height, width)
        return on_grid if parts == 1 else self._with_lengths(on_grid, lambda length: round(length / parts, 6))

    def _on_grid(self, severity, height, width):
        """Into how many parts a pixel is cut along each axis, and what `apply` gets, its lengths in such parts.

        Below 32 px there are 32 to 62 parts to the side, so that whole lengths stay whole and the shortest still act.
        """
        if severity not in SEVERITIES:
            raise InputError(f"severity {severity} is not one of 1..5")
        small = max(height, width) <= SMALL_SIDE and self.severities_small is not None
        severities = self.severities_small if small else self.severities
        if severities is None:
            return 1, None
        listed = severities[severity - 1]
        if self.at_size is not None:
            listed = self.at_size(listed, height, width)
        side = max(height, width)
        if self.lengths is None or side >= PUBLISHED_SIDE:
            return 1, listed
        parts = math.ceil(PUBLISHED_SIDE / side)
        scale = parts * side / PUBLISHED_SIDE
        return parts, self._with_lengths(
            listed, lambda length: round(length * scale) if isinstance(length, int) else length * scale
        )

    def _with_lengths(self, parameter, change):
        if not isinstance(parameter, tuple):
            return change(parameter)
        return tuple(change(value) if place in self.lengths else value for place, value in enumerate(parameter))

    def coinciding(self, severity: int, height: int, width: int) -> list[int]:
        """The severities that do the same as `severity` to images of this size, itself among them."""
        if self.severities is None:
            return [severity]
        parameter = self.parameter(severity, height, width)
        return [other for other in SEVERITIES if self.parameter(other, height, width) == parameter]

    def __call__(self, images: torch.Tensor, severity: int, random: InstanceRandom) -> torch.Tensor:
        if self.needs_gradient:
            raise InputError(f"perturbation '{self.name}' follows a model's gradient, so it needs a model")
        parts, parameter = self._on_grid(severity, *images.shape[-2:])
        with _torch_as_it_starts(images.device):
            fine = images if parts == 1 else images.repeat_interleave(parts, -1).repeat_interleave(parts, -2)
            perturbed = self.apply(fine, parameter, random)
            if not self.bounded:
                # Clipping in place saves the cost of another batch, but the input itself must stay as it is.
                fresh = perturbed.untyped_storage().data_ptr() != images.untyped_storage().data_ptr()
                perturbed = perturbed.clamp_(0.0, 1.0) if fresh else perturbed.clamp(0.0, 1.0)
            return perturbed if parts == 1 else torch.nn.functional.avg_pool2d(perturbed, parts).clamp_(0.0, 1.0)


@contextlib.contextmanager
def _torch_as_it_starts(device: torch.device) -> Iterator[None]:
    """Torch as a program finds it, whatever the caller has set: pixels, and tables that are kept, depend on nothing."""
    default, precision = torch.get_default_dtype(), torch.get_float32_matmul_precision()
    with contextlib.ExitStack() as ambient:
        for kind in {"cpu", device.type}:
            if torch.is_autocast_enabled(kind):
                ambient.enter_context(torch.autocast(kind, enabled=False))
        if torch.empty(0).device.type != "cpu":
            ambient.enter_context(torch.device("cpu"))
        ambient.callback(torch.set_default_dtype, default)
        torch.set_default_dtype(torch.float32)
        if precision != "highest":
            ambient.callback(torch.set_float32_matmul_precision, precision)
            torch.set_float32_matmul_precision("highest")
        yield


CATALOGUE: Registry = Registry("perturbation")


def steps(low: float, high: float) -> tuple[float, ...]:
    """Five equal steps over a range: low + (high - low) * s / 5 at severity s."""
    return tuple(low + (high - low) * severity / 5 for severity in SEVERITIES)


def perturbation(
    name: str,
    *,
    family: str,
    severities: Sequence[Any] | None,
    small: Sequence[Any] | None = None,
    source: str,
    **more: Any,
) -> Callable[[Apply], Apply]:
    """Register a function `(images, parameter, random) -> images` under a name and a family.

    The function gets images [B,3,H,W] float32 in [0,1], which it must not modify, the parameter that
    belongs to the severity asked for (from `severities`, or from `small` for images up to 64 px; through
    `at_size`, which also gets height and width, where it depends on them), and an `InstanceRandom`. It returns
    a new tensor of the same shape; values outside [0,1] are clipped afterwards, unless `bounded` says that there
    are none. With `lengths` it gets images below 32 px with each pixel cut into equal ones, their lengths in step, and
    its result is averaged over them. more: other fields of `Perturbation`.
    For the modality "text" it gets and returns a list of B strings.
    """

    def register(apply: Apply) -> Apply:
        entry = Perturbation(name, family, apply, severities, small, source, **more)
        CATALOGUE.add(name, entry, entry.aliases)
        return apply

    return register


def families(modality: str | None = "image") -> list[str]:
    """The families that have perturbations for images, for texts, or with None for either, as they were registered."""
    found = (entry.family for entry in CATALOGUE.values() if modality is None or entry.acts_on(modality))
    return list(dict.fromkeys(found))


def names(family: str | None = None, modality: str = "image") -> list[str]:
    """Canonical names, without aliases, of one family, or of all that act on images, or on texts.

    Raises InputError if the family is unknown.
    """
    if family is None:
        return [name for name, entry in CATALOGUE.items() if entry.acts_on(modality)]
    if family not in families(None):
        raise InputError(f"unknown family '{family}'; there are: {', '.join(families(None))}")
    return [name for name, entry in CATALOGUE.items() if entry.family == family]


def resolve(requested: Iterable[str], modality: str = "image") -> list[str]:
    """Canonical names for names, aliases, families and `all`, each once, in the order asked for.

    Where a perturbation and a family share a name (`blur`), the bare name is the perturbation;
    `family:blur` is always the family. `all` are those for `modality`, "image" or "text". Raises InputError
    for an unknown name, or one that acts on the other modality.
    """
    every_family = families(None)
    found: list[str] = []
    for request in requested:
        if request == "all":
            found += names(modality=modality)
        elif request.startswith("family:"):
            found += names(request.removeprefix("family:"))
        elif request in every_family and request not in CATALOGUE:
            found += names(request)
        else:
            found.append(CATALOGUE.canonical(request))
    return [fitting(name, modality).name for name in dict.fromkeys(found)]


def fitting(name: str, modality: str) -> Perturbation:
    """The entry of that name. Raises InputError if it is unknown, or does not act on `modality`."""
    entry = CATALOGUE[name]
    if not entry.acts_on(modality):
        raise InputError(
            f"perturbation '{entry.name}' acts on {entry.modality}s, not on {modality}s; "
            f"families for {modality}s: {', '.join(families(modality))}"
        )
    return entry


def check_size(requested: Iterable[tuple[str, int]], image_size: tuple[int, int] | None) -> None:
    """Tell what is wrong with perturbations, (name, severity), of images of this size before the work begins.

    image_size: height and width in px, or None for texts. Warns where a severity does the same as another one.
    Raises InputError if the images are too small.
    """
    if image_size is None:
        return
    height, width = image_size
    if min(height, width) < SMALLEST_SIDE:
        raise InputError(
            f"images of {height} x {width} px are too small to perturb; "
            f"give images of {SMALLEST_SIDE} px a side or more"
        )
    for name, severity in requested:
        entry = CATALOGUE[name]
        same = entry.coinciding(severity, height, width)
        if len(same) > 1:
            parameter = f"{entry.parameter(severity, height, width)} {entry.unit}"
            levels = " and ".join(map(str, same))
            warn_once(f"{entry.name}: severities {levels} are the same at {height} x {width} px: {parameter}")


def perturb(
    name: str,
    images: torch.Tensor,
    severity: int = 3,
    indices: torch.Tensor | None = None,
    seed: int = 0,
    draw: int = 0,
) -> torch.Tensor:
    """Perturb a batch of images, each instance by its own random draw.

    images: [B,3,H,W] float32 in [0,1] at the dataset's native resolution, not modified; a grey batch
    [B,1,H,W] is perturbed as three equal channels. The first of them is returned: their mean would have less noise.
    severity: 1..5. indices: int64 [B], each instance's index in its dataset; by default its place in the batch.
    seed, draw: the run's seed, and the number of the draw where a new one is wanted.
    Returns the same shape, float32 in [0,1], on the images' device. Raises InputError for an unknown name or severity.
    """
    if images.shape[1] == 1:
        return perturb(name, images.expand(-1, 3, -1, -1), severity, indices, seed, draw)[:, :1]
    entry = fitting(name, "image")
    indices = torch.arange(len(images)) if indices is None else indices
    random = InstanceRandom(seed, entry.name, severity, draw, indices, images.device)
    return entry(images, severity, random)


def perturb_texts(
    name: str, texts: list[str], severity: int, indices: torch.Tensor, seed: int = 0, draw: int = 0, column: int = 0
) -> list[str]:
    """Perturb a batch of texts, each instance by its own random draw.

    texts: B of them. column: 1 for the second texts of pairs, which have draws of their own. The rest as in
    `perturb`. Returns B texts. Raises InputError for an unknown name, or one that does not rewrite texts.
    """
    entry = fitting(name, "text")
    if entry.needs_gradient:
        raise InputError(f"perturbation '{entry.name}' follows a model's gradient, so it needs a model")
    key = f"{entry.name}|{column}" if column else entry.name
    random = InstanceRandom(seed, key, severity, draw, indices, "cpu")
    return entry.apply(texts, entry.parameter(severity, 0, 0), random)
