"""Data sets written perturbed, in the layouts that other programs read."""

import json

import numpy as np
import pytest
import torch
from conftest import refuses, write_images
from PIL import Image

from robust_data import datasets, perturbations
from robust_data.judge import published
from robust_data.scripts import perturb_dataset


def run(*arguments):
    perturb_dataset.main(perturb_dataset.build_parser().parse_args([str(argument) for argument in arguments]))


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_arrays_become_what_is_published_as_cifar10_c(few_digits, tmp_path):
    run("--dataset_name", "npz", "--data_dir", few_digits, "-t", "fog", "--seed", 3, "--output_dir", tmp_path)
    test_set = datasets.load("npz", "test", data_dir=few_digits)
    images = next(test_set.batches([torch.arange(20)], "cpu")).inputs["pixel_values"]
    expected = perturbations.perturb("fog", images, 4, test_set.index, seed=3)
    folder = published.open_folder(tmp_path, 4, (8, 8))
    found = folder.load("fog", 4, test_set.label_names)
    assert folder.names == ["fog"] and found.labels.equal(test_set.labels)
    assert found.images.equal(expected.mul(255).round().byte())


@pytest.mark.parametrize("name", ["common", "family:geometric"])
def test_the_bytes_do_not_depend_on_the_size_of_batches(few_digits, tmp_path, name):
    for size in (3, 20):
        options = ("--severities", 2, "--eval_size", size, "--output_dir", tmp_path / str(size))
        run("--dataset_name", "npz", "--data_dir", few_digits, "-t", name, *options)
    assert contents(tmp_path / "3") == contents(tmp_path / "20")


def test_a_command_that_was_stopped_goes_on_with_the_images_that_are_missing(image_folder, tmp_path):
    command = ("--dataset_name", "imagefolder", "--data_dir", image_folder, "-t", "fog", "snow")
    command = [*command, "--severities", 1, 5, "--output_dir", tmp_path / "c"]
    run(*command)
    whole = contents(tmp_path / "c")
    assert len(whole) == 2 * 2 * 6 + 1 and np.array(Image.open(tmp_path / "c/fog/5/cat/0.png")).shape == (8, 8, 3)
    (tmp_path / "c/fog/5/cat/0.png").unlink()
    kept = tmp_path / "c/fog/5/eel/1.png"
    kept.write_bytes(b"kept")
    run(*command)
    assert contents(tmp_path / "c") == whole | {kept.relative_to(tmp_path / "c"): b"kept"}


def test_images_of_one_name_in_a_class_are_told_apart(image_folder, tmp_path):
    write_images(image_folder / "test" / "cat" / "more", 1, suffix="bmp")
    command = ("--dataset_name", "imagefolder", "--data_dir", image_folder, "-t", "fog", "--severities", 1)
    run(*command, "--output_dir", tmp_path / "c")
    assert {path.name for path in (tmp_path / "c/fog/1/cat").iterdir()} == {"0_0.png", "1.png", "0_2.png"}


def test_texts_become_tables_that_are_read_as_any_csv(tmp_path):
    (tmp_path / "films.csv").write_text("says,who,label\n=a fine film,x,pos\nthe worst of all films,y,neg\n")
    command = (
        "--dataset_name",
        "csv",
        "--data_dir",
        tmp_path / "films.csv",
        "--text_column",
        "says",
        "--split",
        "train",
    )
    run(*command, "-t", "word_swap", "--severities", 5, "--output_dir", tmp_path / "c")
    written = datasets.load("csv", data_dir=tmp_path / "c/word_swap/5/train.csv", text_column="says")
    original = datasets.load("csv", data_dir=tmp_path / "films.csv", text_column="says")
    assert written.columns == [perturbations.perturb_texts("word_swap", original.columns[0], 5, original.index, 42)]
    assert written.labels.equal(original.labels) and written.columns != original.columns


def test_a_folder_holds_copies_of_one_data_set_and_seed(few_digits, tmp_path):
    command = ("--dataset_name", "npz", "--data_dir", few_digits, "-t", "fog", "--output_dir", tmp_path)
    run(*command)
    assert json.loads((tmp_path / "perturbed.json").read_text())["instances"] == 20
    with refuses("--output_dir"):
        run(*command, "--seed", 1)
