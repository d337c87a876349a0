"""Perturbations as transforms of torchvision."""

import numpy as np
import pytest
import torch
from conftest import refuses
from natural_images import natural_images
from PIL import Image
from torchvision.transforms import v2

from robust_data.transforms import Perturb


def test_in_a_pipeline_it_takes_pillows_images_and_passes_labels_through():
    picture = Image.fromarray(np.uint8(natural_images(1, 40, 40)[0].permute(1, 2, 0) * 255))
    image, label = v2.Compose([v2.CenterCrop(32), Perturb("pixelate", severity=5)])(picture, 7)
    assert (
        label == 7 and image.size == (32, 32) and np.asarray(image).tobytes() != picture.crop((4, 4, 36, 36)).tobytes()
    )


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
def test_tensors_keep_their_type_and_one_image_is_as_one_of_a_batch(dtype):
    images = v2.functional.to_dtype(natural_images(2, 32, 32), dtype, scale=True)
    torch.manual_seed(0)
    one = Perturb("gaussian_noise")(images[0])
    torch.manual_seed(0)
    both = Perturb("gaussian_noise")(images)
    assert both.dtype == dtype and both.shape == images.shape and one.equal(both[0]) and not both.equal(images)


def test_draws_follow_torchs_generator():
    images = natural_images(1, 32, 32).expand(2, -1, -1, -1)
    first, second = Perturb("random_shadow")(images)
    assert not first.equal(second)


@pytest.mark.parametrize("name", ["fogg", "pgd", "char_swap"])
def test_what_does_not_perturb_images_is_refused(name):
    with refuses(name):
        Perturb(name)
