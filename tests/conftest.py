"""What the tests share: refusals, small image folders, models and texts, and a few digits with their statistics."""

import contextlib
import csv
import json
import os

# Before torch is imported, here and in the processes that the tests start: several threads in each of several
# processes on as many cores wait for one another most of the time.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest


@contextlib.contextmanager
def refuses(*named):
    """Within this block InputError is raised, whose one line names these arguments, files or values."""
    from robust_data.registry import InputError

    with pytest.raises(InputError) as raised:
        yield
    message = str(raised.value)
    assert "\n" not in message and all(name in message for name in named), message


def table(path):
    """The lines of a CSV by the names of its columns."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def log_of(folder):
    """The lines of a log.jsonl."""
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def write_images(folder, count, size=(8, 8), seed=0, suffix="png"):
    """Write `count` random RGB images of (height, width) `size` as <folder>/0.png, 1.png, ..."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (count, *size, 3), dtype=np.uint8)
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{number}.{suffix}")


@pytest.fixture
def image_folder(tmp_path):
    """A folder with train/{cat,dog,eel}, 6 images of 8x8 each, and test/{cat,dog,eel}, 2 each."""
    root = tmp_path / "images"
    for split, count in (("train", 6), ("test", 2)):
        for seed, name in enumerate(("cat", "dog", "eel")):
            write_images(root / split / name, count, seed=seed + 10 * count)
    return root


@pytest.fixture(scope="session")
def few_digits(tmp_path_factory):
    """48 training and 20 test images of the digits 0 to 3, 8x8."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(n_class=4, return_X_y=True)
    images = (images * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    # As many of each class: the digits 0 to 3 come in turn, though not without exception.
    order = np.concatenate([np.flatnonzero(labels == label)[:17] for label in range(4)]).reshape(4, 17).T.ravel()
    train, test = order[:48], order[48:]
    path = tmp_path_factory.mktemp("data") / "few.npz"
    np.savez(path, images=images[train], labels=labels[train], test_images=images[test], test_labels=labels[test])
    return path


@pytest.fixture(scope="session")
def training_set(few_digits):
    """40 of the training images, 10 of each class."""
    from robust_data import datasets

    return datasets.load("npz", data_dir=few_digits, dataset_len=40, seed=3)


@pytest.fixture(scope="session")
def statistics(tmp_path_factory, training_set, few_digits):
    """The statistics of 40 of the training images under blur, of three models of random weights."""
    import torch

    from robust_data import models, records
    from robust_data.collection import collect

    checkpoints = []
    for seed in range(3):
        torch.manual_seed(seed)
        checkpoints.append(collect(models.build("small_cnn", 4), training_set, ["blur"], global_step=seed + 1)["blur"])
    metadata = {
        "perturbation": "blur",
        "severity": 3,
        "dataset_name": "npz",
        "label_names": training_set.label_names,
        "arguments": {"dataset_name": "npz", "data_dir": str(few_digits), "dataset_len": 40, "seed": 3}
        | {"model_name": "small_cnn"},
    }
    path = tmp_path_factory.mktemp("statistics") / "robust_statistics_blur.npy"
    records.save(path, np.stack(checkpoints), metadata)
    return path


def save_vit(folder, **options):
    """A tiny random vision transformer of images of 16 px, as the hub has them; returns the folder."""
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    ViTForImageClassification(ViTConfig(image_size=16, patch_size=8, **sizes | options)).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def good_files(tmp_path_factory, statistics, few_digits):
    """The folder with a good file of each format."""
    # What the libraries write when they are imported is outside the fence of `ground`.
    import matplotlib.pyplot  # noqa: F401
    import specimens
    import transformers  # noqa: F401

    return specimens.write_all(tmp_path_factory.mktemp("specimens"), statistics, few_digits)


@pytest.fixture
def ground(good_files, monkeypatch):
    """The same, with the test in it; see `fuzzing.trial`."""
    monkeypatch.chdir(good_files)
    return good_files


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    from text_models import save_bert

    return save_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def roberta(tmp_path_factory):
    from text_models import save_roberta

    return save_roberta(tmp_path_factory.mktemp("roberta"))


@pytest.fixture(params=["bert", "roberta"])
def classifier(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def sst2(tmp_path_factory):
    from text_models import write_sst2

    return write_sst2(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def qnli(tmp_path_factory):
    from text_models import PAIRS, write_tsv

    folder = tmp_path_factory.mktemp("pairs")
    for split in ("train", "dev"):
        rows = [(number, *row) for number, row in enumerate(PAIRS)]
        write_tsv(folder / "QNLI" / f"{split}.tsv", ("index", "question", "sentence", "label"), rows)
    return folder
