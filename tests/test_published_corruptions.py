"""The 19 common corruptions against their published definitions, image by image.

The peer is imagecorruptions (see benchmarks/requirements.txt). Frost and spatter are procedural here, so
only their mean change and their coverage are compared.
"""

import functools
import zlib

import numpy as np
import pytest
import torch
from natural_images import crops

from robust_data import perturbations

pytestmark = pytest.mark.slow
pytest.importorskip("imagecorruptions", reason="imagecorruptions is not installed (benchmarks/requirements.txt)")
published = pytest.importorskip("benchmarks.published")

SIZES = (32, 224)
SEVERITIES = (1, 2, 3, 4, 5)
WITHOUT_RANDOMNESS = (
    *("brightness", "contrast", "saturate", "pixelate", "jpeg_compression"),
    *("defocus_blur", "gaussian_blur", "zoom_blur"),
)
NOISES = ("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise")
PROCEDURAL = ("frost", "spatter")
# Enough draws that chance moves a mean change by less than about 3 %, and few where the peer takes seconds.
DRAWS = {32: 200, 224: 60}
OTHER_DRAWS = {
    **{(name, 224): 16 for name in (*WITHOUT_RANDOMNESS, *NOISES)},
    ("glass_blur", 32): 50,
    ("glass_blur", 224): 4,
    ("zoom_blur", 224): 6,
    ("spatter", 32): 400,
    ("spatter", 224): 400,
    ("frost", 32): 400,
    ("frost", 224): 300,
}
# A pixel counts as covered from a change of 10 levels on.
COVERED = 10 / 255


@functools.lru_cache(maxsize=2)
def photographs(size):
    """float32 [60, 3, size, size]: crops of five photographs."""
    from skimage import data
    from sklearn.datasets import load_sample_images

    sources = [*load_sample_images().images, data.astronaut(), data.chelsea(), data.coffee()]
    return crops(sources, 60, size, size, seed=1)


def both(name, size, severity):
    """The images, and the results of our and of the published definition; float32 [B, 3, H, W] in [0,1]."""
    draws = torch.arange(OTHER_DRAWS.get((name, size), DRAWS[size]))
    images = photographs(size)[draws % len(photographs(size))]
    ours = perturbations.perturb(name, images, severity, draws)
    np.random.seed(zlib.crc32(f"{name} {size} {severity}".encode()))
    pixels = images.mul(255).round().byte().permute(0, 2, 3, 1).numpy()
    theirs = torch.stack([torch.from_numpy(published.corrupt(name, image, severity)).float() for image in pixels])
    return images, ours, theirs.permute(0, 3, 1, 2) / 255


def mean_change(result, images):
    return (result - images).abs().mean().item()


def coverage(result, images):
    """The share of pixels that are changed by more than COVERED."""
    return ((result - images).abs().amax(1) > COVERED).float().mean().item()


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", published.COMMON_CORRUPTIONS)
def test_follows_the_published_definition(name, size, severity):
    images, ours, theirs = both(name, size, severity)
    assert mean_change(ours, images) == pytest.approx(mean_change(theirs, images), rel=0.1)
    if name in PROCEDURAL:
        assert coverage(ours, images) == pytest.approx(coverage(theirs, images), abs=0.1)
    if name in WITHOUT_RANDOMNESS:
        psnr = -10 * (ours - theirs).square().mean(dim=(1, 2, 3)).log10()
        assert psnr.mean() >= 30, f"PSNR {psnr.mean():.1f} dB, lowest {psnr.min():.1f}"
