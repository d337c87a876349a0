"""Noise, digital, colour and structure: what is special to each."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from robust_data.perturbations import perturb
from robust_data.perturbations.catalogue import CATALOGUE
from robust_data.perturbations.sampling import InstanceRandom


def apply(name, images, severity):
    return perturb(name, images, severity, torch.arange(len(images)))


def grey(level, count=1, side=64):
    return torch.full((count, 3, side, side), float(level))


@pytest.fixture
def picture():
    """uint8 [40,50,3]: smooth colours, an edge and some texture; neither side a multiple of 16."""
    y, x = np.mgrid[:40, :50]
    red = 120 + 100 * np.sin(x / 9) * np.cos(y / 11)
    green = np.where(x + y > 45, 200, 60) + 10 * np.sin(x)
    blue = 4 * y + 40 * np.cos(x / 5)
    return np.stack([red, green, blue], axis=-1).clip(0, 255).astype(np.uint8)


def as_images(picture):
    return torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255


def psnr(images, reference):
    return -10 * torch.log10(((images - reference) ** 2).mean()).item()


@pytest.mark.parametrize("severity", range(1, 6))
def test_jpeg_agrees_with_pillow(picture, severity):
    file = io.BytesIO()
    quality = CATALOGUE["jpeg_compression"].parameter(severity, *picture.shape[:2])
    Image.fromarray(picture).save(file, "JPEG", quality=quality)
    reference = as_images(np.array(Image.open(file)))
    assert psnr(apply("jpeg_compression", as_images(picture), severity), reference) > 38


@pytest.mark.parametrize("severity", range(1, 6))
def test_pixelate_agrees_with_pillow(picture, severity):
    scale = CATALOGUE["pixelate"].severities_small[severity - 1]
    height, width = picture.shape[:2]
    coarse = Image.fromarray(picture).resize((int(width * scale), int(height * scale)), Image.Resampling.BOX)
    reference = as_images(np.array(coarse.resize((width, height), Image.Resampling.BOX)))
    # Pillow rounds after each of its two passes.
    assert (apply("pixelate", as_images(picture), severity) - reference).abs().max() <= 1.01 / 255


def test_pixelate_by_strips_equals_whole_matrices(picture):
    tall = torch.nn.functional.interpolate(as_images(picture), size=(200, 90), mode="bilinear")
    pixelated = apply("pixelate", tall, 2)
    blocks = torch.nn.functional.avg_pool2d(tall, 2).repeat_interleave(2, -1).repeat_interleave(2, -2)
    torch.testing.assert_close(pixelated, blocks)


@pytest.mark.parametrize("level", [0.0, 0.03, 0.4, 1.0])
def test_shot_noise_has_the_mean_and_variance_of_photon_counts(level):
    photons = 60
    level = round(level * 255) / 255
    entry = CATALOGUE["shot_noise"]
    images = grey(level, count=4, side=200)
    # Before the clipping to [0,1], which would cut the bright tail.
    random = InstanceRandom(0, "shot_noise", 1, 0, torch.arange(4), images.device)
    noisy = entry.apply(images, photons, random)
    assert noisy.mean().item() == pytest.approx(level, rel=0.02)
    assert noisy.var().item() == pytest.approx(level / photons, rel=0.05)
    counts = noisy * photons
    torch.testing.assert_close(counts, counts.round())


@pytest.mark.parametrize("severity", range(1, 6))
def test_impulse_noise_replaces_its_share_half_black_half_white(severity):
    noisy = apply("impulse_noise", grey(0.3, count=8), severity)
    share = CATALOGUE["impulse_noise"].parameter(severity, 64, 64)
    assert (noisy == 0).float().mean().item() == pytest.approx(share / 2, rel=0.15)
    assert (noisy == 1).float().mean().item() == pytest.approx(share / 2, rel=0.15)
    assert (noisy == 0.3).float().mean().item() == pytest.approx(1 - share, rel=0.01)


def test_speckle_noise_is_in_proportion_to_the_pixel():
    deviations = [(apply("speckle_noise", grey(level, count=4), 1) - level).std().item() for level in (0.0, 0.2, 0.4)]
    assert deviations == pytest.approx([0, 0.2 * 0.06, 0.4 * 0.06], rel=0.05)


def test_contrast_is_about_the_mean_of_each_channel():
    images = torch.tensor([[0.0, 1.0], [0.2, 0.4], [0.5, 0.5]]).view(1, 3, 1, 2)
    expected = torch.tensor([[0.125, 0.875], [0.225, 0.375], [0.5, 0.5]]).view(1, 3, 1, 2)
    torch.testing.assert_close(apply("contrast", images, 1), expected)


def test_brightness_raises_value_and_keeps_hue_and_saturation():
    colours = torch.tensor([[0.2, 0.4, 0.1], [0.0, 0.0, 0.0], [0.9, 0.3, 0.9]]).T.reshape(1, 3, 1, 3)
    # Severity 5 adds 0.3 to the largest channel, at most to 1.
    expected = torch.tensor([[0.35, 0.7, 0.175], [0.3, 0.3, 0.3], [1.0, 1 / 3, 1.0]]).T.reshape(1, 3, 1, 3)
    torch.testing.assert_close(apply("brightness", colours, 5), expected, atol=1e-5, rtol=0)


def test_saturate_fades_and_deepens_and_reddens_grey():
    colours = torch.tensor([[0.8, 0.4, 0.6], [0.5, 0.5, 0.5]]).T.reshape(1, 3, 1, 2)
    faded = torch.tensor([[0.8, 0.68, 0.74], [0.5, 0.5, 0.5]]).T.reshape(1, 3, 1, 2)
    torch.testing.assert_close(apply("saturate", colours, 1), faded)
    # Severity 4: S 0.5 becomes 2 * 0.5 + 0.1, clipped to 1; grey becomes S 0.1 at hue 0.
    deep = torch.tensor([[0.8, 0.0, 0.4], [0.5, 0.45, 0.45]]).T.reshape(1, 3, 1, 2)
    torch.testing.assert_close(apply("saturate", colours, 4), deep)


def test_elastic_transform_moves_pixels_without_new_values():
    ramp = torch.linspace(0, 1, 224).expand(2, 3, 224, 224).contiguous()
    moved = apply("elastic_transform", ramp, 5)
    assert moved.min() >= 0 and moved.max() <= 1
    shift = (moved - ramp) * 223
    # The jitter alone moves points by up to 5 px, the field by about 1.4 px more.
    assert 1 < shift.abs().mean() < 10
    assert not torch.equal(moved[0], moved[1])
    flat = apply("elastic_transform", grey(0.25, side=33), 2)
    torch.testing.assert_close(flat, grey(0.25, side=33))


@pytest.mark.parametrize(
    "name, channels",
    [
        ("red_shift", (1, 0, 0)),
        ("green_shift", (0, 1, 0)),
        ("blue_shift", (0, 0, 1)),
        ("yellow_shift", (1, 1, 0)),
        ("magenta_shift", (1, 0, 1)),
        ("cyan_shift", (0, 1, 1)),
    ],
)
def test_colour_shift_adds_to_its_channels(name, channels):
    shifted = apply(name, grey(0.5), 5)[0, :, 0, 0]
    torch.testing.assert_close(shifted, 0.5 + torch.tensor(channels) * 64 / 255)


def test_tone_curves_by_hand():
    images = torch.tensor([0.0, 0.36, 0.64, 1.0]).expand(1, 3, 1, 4)
    curves = {
        "gamma_bright": [0.0, 0.6, 0.8, 1.0],
        "gamma_dark": [0.0, 0.1296, 0.4096, 1.0],
        "solarize": [0.0, 0.36, 0.36, 0.0],
        "brightness_raise": [0.38, 0.74, 1.0, 1.0],
        "brightness_reduce": [0.0, 0.0, 0.26, 0.62],
        "contrast_raise": [0.0, 0.3068, 0.6932, 1.0],
    }
    for name, expected in curves.items():
        torch.testing.assert_close(apply(name, images, 3)[0, 0, 0], torch.tensor(expected), msg=name)


def test_sharpen_and_darken_darkens_flat_areas_and_overshoots_at_an_edge():
    torch.testing.assert_close(apply("sharpen_and_darken", grey(0.4), 5), grey(0.2))
    step = torch.cat([grey(0.2), grey(0.6)], dim=-1)
    row = apply("sharpen_and_darken", step, 1)[0, 0, 32]
    assert row[63] < row[0] and row[64] > row[-1]


def test_edge_map_marks_the_step_alone():
    step = torch.cat([grey(0.1), grey(0.8)], dim=-1)
    lines, inverted = apply("edge", step, 5), apply("inverted_edge", step, 5)
    columns = lines[0, 0, 32].nonzero().flatten().tolist()
    assert columns == [63, 64] and lines.max() == 1
    torch.testing.assert_close(inverted, 1 - lines)


def test_convex_hull_keeps_the_object_and_shrinks_with_severity():
    images = grey(0.5)
    images[:, :, 20:44, 10:30] = 0.9
    kept = [apply("convex_hull_black", images, severity)[0, 0] > 0 for severity in range(1, 6)]
    inside, outside = kept[0][24:40, 14:26], kept[0][:, 34:]
    assert inside.all() and not outside.any()
    assert all((tight <= loose).all() and tight.any() for loose, tight in zip(kept, kept[1:]))
    white = apply("convex_hull_white", images, 1)[0, 0]
    torch.testing.assert_close(white, torch.where(kept[0], images[0, 0], 1.0))
