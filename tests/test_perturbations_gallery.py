"""The contact sheets of the perturbations."""

import numpy as np
import torch
from natural_images import natural_images

from robust_data import perturbations
from robust_data.plot_utils import perturbation_gallery as gallery


def test_a_random_scene_is_the_same_at_every_severity_and_a_flip_is_drawn_once():
    image = torch.full((1, 3, 224, 224), 0.5)
    *_, third, fourth, fifth = gallery.perturbed_row(image, "random_shadow", seed=0)
    # The shadows lie where they lay, and grow darker.
    assert ((third < 127) == (fifth < 127)).mean() > 0.99 and fifth.min() < fourth.min() < third.min()
    assert len(gallery.perturbed_row(image, "horizontal_flip", seed=0)) == 2


def test_cells_of_small_images_are_enlarged_by_whole_pixels():
    cells = gallery.perturbed_row(natural_images(1, 32, 32), "saturate", seed=0)
    assert len(cells) == 6 and {cell.shape for cell in cells} == {(160, 160, 3)}
    assert all(cell.dtype == np.uint8 for cell in cells)


def test_what_follows_a_gradient_is_said_to_be_left_out(tmp_path, capsys):
    arguments = ["-t", "adversarial", "blur", "--size", "8", "--output_dir", str(tmp_path)]
    gallery.main(gallery.build_parser().parse_args(arguments))
    drawn, left_out = capsys.readouterr().out.splitlines()
    assert drawn == str(tmp_path / "blur_blur_8px.png") and (tmp_path / "blur_blur_8px.png").stat().st_size > 0
    assert left_out == "left out, since they follow the gradient of a model: fgsm, pgd"


def test_sheets_that_show_something_else_have_names_of_their_own():
    names = set()
    given = ([], ["--image", "flower.jpg"], ["--dataset_name", "digits"], ["--size", "32"], ["--seed", "1"])
    for arguments in given:
        args = gallery.build_parser().parse_args(arguments)
        names |= {gallery.sheet_name(args, "noise", ["shot_noise"])}
        names |= {gallery.sheet_name(args, "noise", perturbations.names("noise"))}
    assert len(names) == 2 * len(given) and "noise" in names
