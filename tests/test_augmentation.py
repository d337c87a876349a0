"""Augmentation of training images: what it does to an instance, and what decides it."""

import pytest
import torch

from robust_data.train.augmentation import augment

INDEX = torch.arange(200)


@pytest.fixture(scope="module")
def images():
    """200 images of 16x24 px in which every pixel is known by its value."""
    return torch.rand(200, 3, 16, 24, generator=torch.Generator().manual_seed(0)) + 0.1


def shifts(height, width, rows=2, columns=3):
    """Every place at which a padded image can be cut: 4 px at 32 are 2 at 16 and 3 at 24."""
    return [(down, right) for down in range(2 * rows + 1) for right in range(2 * columns + 1)]


def test_nothing_is_done_to_images_that_are_not_to_be_augmented(images):
    assert augment(images, "none", INDEX, 0, 0) is images


def test_half_of_the_images_are_flipped(images):
    flipped = augment(images, "flip", INDEX, 0, 0)
    mirrored = [bool(torch.equal(after, before.flip(-1))) for after, before in zip(flipped, images)]
    as_they_were = [bool(torch.equal(after, before)) for after, before in zip(flipped, images)]
    assert all(a != b for a, b in zip(mirrored, as_they_were))
    assert 70 < sum(mirrored) < 130


@pytest.mark.parametrize("kind, mirrors", [("crop", (False,)), ("flip_crop", (False, True))])
def test_images_are_cut_from_anywhere_in_the_padded_image(images, kind, mirrors):
    padded = torch.nn.functional.pad(images, (3, 3, 2, 2))
    found = set()
    for after, before in zip(augment(images, kind, INDEX, 0, 0), padded):
        matches = [
            (down, right, mirrored)
            for down, right in shifts(16, 24)
            for mirrored in mirrors
            if torch.equal(after.flip(-1) if mirrored else after, before[:, down : down + 16, right : right + 24])
        ]
        assert len(matches) == 1
        found.update(matches)
    # 35 places, seen from one side or from both; 200 draws miss few of them.
    assert len(found) > 0.85 * 35 * len(mirrors)


@pytest.mark.parametrize("kind", ["flip", "crop", "flip_crop", "rrc"])
def test_seed_epoch_and_index_decide_and_nothing_else_does(images, kind):
    usual = augment(images, kind, INDEX, 3, 5)
    some = torch.tensor([7, 150, 20])
    assert torch.equal(augment(images[some], kind, INDEX[some], 3, 5), usual[some])
    assert torch.equal(augment(images, kind, INDEX, 3, 5), usual)
    for other in (augment(images, kind, INDEX, 4, 5), augment(images, kind, INDEX, 3, 6)):
        assert not torch.equal(other, usual)
    assert not torch.equal(augment(images[:1].expand(200, -1, -1, -1), kind, INDEX, 3, 5)[0], usual[1])


def test_resized_cuts_have_the_areas_aspects_and_flips_of_torchvision():
    rows, columns = torch.meshgrid(torch.arange(48.0), torch.arange(60.0), indexing="ij")
    image = torch.stack([rows * 4, columns * 4, columns]) / 255
    cuts = augment(image.expand(200, -1, -1, -1), "rrc", INDEX, 0, 0)
    assert cuts.shape == (200, 3, 48, 60)
    lengths = ((cuts.amax((2, 3)) - cuts.amin((2, 3)))[:, :2] * 255 / 4).round() + 1
    heights, widths = lengths.T
    shares, aspects = heights * widths / (48 * 60), widths / heights
    assert shares.min() < 0.2 and shares.max() > 0.8 and shares.min() > 0.05
    assert aspects.min() < 0.85 and aspects.max() > 1.2 and aspects.min() > 0.65 and aspects.max() < 1.5
    mirrored = cuts[:, 1, 0, 0] > cuts[:, 1, 0, -1]
    assert 70 < mirrored.sum() < 130
