"""The 19 common corruptions against their published definitions, image by image.

The peer is imagecorruptions (see benchmarks/requirements.txt). Frost and spatter are procedural here, so
only their mean change and their coverage are compared.
"""

from __future__ import annotations

import functools
import zlib

import numpy as np
import pytest
import torch
from natural_images import crops

import perturbations

pytestmark = pytest.mark.slow
pytest.importorskip("imagecorruptions", reason="imagecorruptions is not installed (benchmarks/requirements.txt)")
published = pytest.importorskip("benchmarks.published")

SIZES = (32, 224)
SEVERITIES = (1, 2, 3, 4, 5)
WITHOUT_RANDOMNESS = (
    *("brightness", "contrast", "saturate", "pixelate", "jpeg_compression"),
    *("defocus_blur", "gaussian_blur", "zoom_blur"),
)
PROCEDURAL = ("frost", "spatter")
# Enough draws that chance moves a mean change by less than about 3 %, and few where the peer takes seconds.
DRAWS = {32: 200, 224: 60}
OTHER_DRAWS = {
    ("glass_blur", 32): 50,
    ("glass_blur", 224): 4,
    ("zoom_blur", 224): 10,
    ("saturate", 224): 20,
    ("spatter", 32): 400,
    ("spatter", 224): 180,
    ("frost", 32): 400,
    ("frost", 224): 240,
}
# A pixel counts as covered from a change of 10 levels on.
COVERED = 10 / 255

every_case = pytest.mark.parametrize(
    "name, size, severity",
    [(name, size, severity) for name in published.COMMON_CORRUPTIONS for size in SIZES for severity in SEVERITIES],
)


@functools.lru_cache(maxsize=2)
def photographs(size):
    """float32 [60, 3, size, size]: crops of five photographs."""
    from skimage import data
    from sklearn.datasets import load_sample_images

    sources = [*load_sample_images().images, data.astronaut(), data.chelsea(), data.coffee()]
    return crops(sources, 60, size, size, seed=1)


@functools.lru_cache(maxsize=1)
def both(name, size, severity):
    """The images, and the results of our and of the published definition; float32 [B, 3, H, W] in [0,1]."""
    draws = torch.arange(OTHER_DRAWS.get((name, size), DRAWS[size]))
    images = photographs(size)[draws % len(photographs(size))]
    ours = perturbations.perturb(name, images, severity, draws)
    np.random.seed(zlib.crc32(f"{name} {size} {severity}".encode()))
    pixels = images.mul(255).round().byte().permute(0, 2, 3, 1).numpy()
    theirs = np.stack([published.corrupt(name, image, severity) for image in pixels]) / 255
    return images, ours, torch.from_numpy(theirs).float().permute(0, 3, 1, 2)


@every_case
def test_mean_change_is_that_of_the_published_definition(name, size, severity):
    images, ours, theirs = both(name, size, severity)
    ours, theirs = ((result - images).abs().mean().item() for result in (ours, theirs))
    assert ours == pytest.approx(theirs, rel=0.1)


@every_case
def test_images_are_those_of_the_published_definition(name, size, severity):
    if name in PROCEDURAL:
        images, ours, theirs = both(name, size, severity)
        ours, theirs = (((result - images).abs().amax(1) > COVERED).float().mean().item() for result in (ours, theirs))
        assert ours == pytest.approx(theirs, abs=0.1)
    elif name in WITHOUT_RANDOMNESS:
        _, ours, theirs = both(name, size, severity)
        psnr = -10 * (ours - theirs).square().mean(dim=(1, 2, 3)).log10()
        assert psnr.mean() >= 30, f"PSNR {psnr.mean():.1f} dB, lowest {psnr.min():.1f}"
    else:
        pytest.skip("another draw gives another image")
