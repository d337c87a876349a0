"""Random draws that belong to the instance, not to the batch, the order, the rank or the device.

Drawing stands apart from applying: a perturbation is handed an `InstanceRandom` and asks it for
numbers; the numbers for instance i are a function of (seed, perturbation, severity, draw, i).
"""

from __future__ import annotations

import functools
import hashlib
import math

import numpy as np

from robust_data.registry import LazyModule

torch = LazyModule("torch")

TABLE_SIZE = 1 << 22
_GOLDEN_RATIO = 0x9E3779B97F4A7C15


def _mix(keys: np.ndarray) -> np.ndarray:
    """One step of SplitMix64 (Steele et al., OOPSLA 2014): uint64 in, well-mixed uint64 out."""
    keys = keys + np.uint64(_GOLDEN_RATIO)
    keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return keys ^ (keys >> np.uint64(31))


def _digest(text: str) -> np.uint64:
    return np.frombuffer(hashlib.blake2b(text.encode(), digest_size=8).digest(), dtype=np.uint64)[0]


@functools.lru_cache(maxsize=8)
def _table(kind: str, seed: int, size: int, device: torch.device) -> torch.Tensor:
    """Draws shared by all instances; made on the CPU so that every device has the same."""
    generator = torch.Generator().manual_seed(int(_digest(f"{kind}|{seed}") >> np.uint64(1)))
    draw = torch.randn if kind == "normal" else torch.rand
    return draw(size, generator=generator).to(device)


def finest_float(device: torch.device) -> torch.dtype:
    """The finest type of floating-point numbers that a device has: float64, or float32 on Apple's GPUs."""
    return torch.float32 if device.type == "mps" else torch.float64


class InstanceRandom:
    """The random numbers of a batch of instances, each instance's own.

    indices: int64 [B], the instances' indices; device: where the numbers are wanted. Asked twice for
    the same thing, it gives two independent draws; asked in the same order by the same perturbation,
    it repeats them.
    """

    def __init__(self, seed: int, name: str, severity: int, draw: int, indices: torch.Tensor, device: torch.device):
        self.seed = seed
        self.device = torch.device(device)
        self._source = f"{seed}|{name}|{severity}|{draw}"
        self._indices = indices
        self._calls = 0

    @functools.cached_property
    def _keys(self) -> np.ndarray:
        """uint64 [B]; made only when a number is asked for, which many perturbations never do."""
        instances = self._indices.cpu().numpy().astype(np.uint64)
        return _mix(_digest(self._source) + _mix(instances))

    def __len__(self) -> int:
        return len(self._indices)

    def _bits(self, count: int) -> np.ndarray:
        """Fresh uint64 [B, count]."""
        self._calls += 1
        keys = _mix(self._keys + np.uint64(self._calls * _GOLDEN_RATIO % 2**64))
        return _mix(keys[:, None] + np.arange(count, dtype=np.uint64))

    def uniform(self, low: float = 0.0, high: float = 1.0, shape: tuple[int, ...] = ()) -> torch.Tensor:
        """float32 [B, *shape], uniform in [low, high); for scalars and short lists, see `uniform_field`."""
        # 24 bits are what a float32 in [0, 1) can hold without rounding up to 1.
        unit = (self._bits(math.prod(shape)) >> np.uint64(40)).astype(np.float32) * np.float32(2**-24)
        draws = torch.from_numpy(low + (high - low) * unit.astype(np.float64)).float()
        return draws.reshape(len(self), *shape).to(self.device)

    def integers(self, low: int, high: int, shape: tuple[int, ...] = ()) -> torch.Tensor:
        """int64 [B, *shape], uniform over low..high-1."""
        bits = self._bits(math.prod(shape)) >> np.uint64(1)
        draws = torch.from_numpy(low + (bits % np.uint64(high - low)).astype(np.int64))
        return draws.reshape(len(self), *shape).to(self.device)

    def normal_field(self, *shape: int) -> torch.Tensor:
        """float32 [B, *shape], standard normal; for whole images."""
        return self._windows("normal", shape)

    def uniform_field(self, *shape: int) -> torch.Tensor:
        """float32 [B, *shape], uniform in [0, 1); for whole images."""
        return self._windows("uniform", shape)

    def _windows(self, kind: str, shape: tuple[int, ...]) -> torch.Tensor:
        """Each instance reads its own window of the shared table: many times faster than drawing anew.

        The table has TABLE_SIZE draws, or for longer fields as many as leave half of it for the offsets; a
        field never meets a draw twice.
        """
        length = math.prod(shape)
        size = max(TABLE_SIZE, 2 << (length - 1).bit_length())
        table = _table(kind, self.seed, size, self.device)
        # The offset does not depend on the length, and a longer table begins with the shorter one's draws, so a longer
        # field begins with the shorter one's values.
        offsets = self.integers(0, TABLE_SIZE // 2)
        windows = table.as_strided((size - length, length), (1, 1))
        return windows.index_select(0, offsets).reshape(len(self), *shape)
