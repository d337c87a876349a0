"""What --cache keeps of images and texts: the same as without it, made once, finished where it was left."""

import pytest
import torch
from conftest import write_images

from robust_data import datasets
from robust_data.datasets import decoding, images, tokens
from robust_data.registry import InputError


def pixels(dataset):
    order = torch.arange(len(dataset)).flip(0)
    return torch.cat([batch.inputs["pixel_values"] for batch in dataset.batches(order.split(5), "cpu")])


@pytest.fixture
def folder(image_folder):
    """18 images of two sizes."""
    write_images(image_folder / "train" / "cat", 2, size=(20, 12))
    return image_folder


def load(folder, tmp_path, **options):
    return datasets.load("imagefolder", data_dir=folder, image_size=8, cache=tmp_path / "cache", **options)


@pytest.mark.parametrize("limit", [images.MEMORY_LIMIT, 0])
def test_images_are_those_without_a_cache(folder, tmp_path, monkeypatch, limit):
    monkeypatch.setattr(images, "MEMORY_LIMIT", limit)
    plain = datasets.load("imagefolder", data_dir=folder, image_size=8)
    for _ in range(2):
        kept = load(folder, tmp_path)
        assert torch.equal(pixels(kept), pixels(plain)) and torch.equal(kept.index, plain.index)
        some = torch.tensor([1, 4, 16])
        assert torch.equal(pixels(kept.subset(some)), pixels(plain.subset(some)))


def test_images_are_decoded_once_and_what_is_missing_is_made_up(folder, tmp_path, monkeypatch):
    usual, decode, decoded = datasets.load("imagefolder", data_dir=folder, image_size=8), decoding.decode, []

    def stopping(path, size, after):
        if len(decoded) == after:
            raise KeyboardInterrupt
        decoded.append(path)
        return decode(path, size)

    monkeypatch.setattr("robust_data.datasets.decoding.FILES_PER_TASK", 4)
    monkeypatch.setattr("robust_data.datasets.cache.IMAGES_PER_SYNC", 4)
    monkeypatch.setattr(decoding, "decode", lambda path, size: stopping(path, size, 10))
    with pytest.raises(KeyboardInterrupt):
        load(folder, tmp_path)
    monkeypatch.setattr(decoding, "decode", lambda path, size: stopping(path, size, None))
    assert torch.equal(pixels(load(folder, tmp_path)), pixels(usual))
    assert len(decoded) == 10 + 18 - 8
    load(folder, tmp_path)
    assert len(decoded) == 20


def test_a_file_that_changed_or_a_cache_that_was_cut_is_made_anew(folder, tmp_path):
    load(folder, tmp_path)
    write_images(folder / "train" / "dog", 1, seed=99, size=(9, 9))
    usual = pixels(datasets.load("imagefolder", data_dir=folder, image_size=8))
    assert torch.equal(pixels(load(folder, tmp_path)), usual)
    for path in (tmp_path / "cache").glob("*.images"):
        path.write_bytes(path.read_bytes()[:-1])
    assert torch.equal(pixels(load(folder, tmp_path)), usual)


def test_corrupt_images_are_refused_or_left_out(folder, tmp_path):
    (folder / "train" / "dog" / "1.png").write_bytes(b"\x89PNG")
    for _ in range(2):
        with pytest.raises(InputError, match="1.png"):
            load(folder, tmp_path)
        assert len(load(folder, tmp_path, skip_corrupt=True)) == 17


def test_texts_are_tokenised_once(tmp_path, bert, monkeypatch):
    table = tmp_path / "train.tsv"
    table.write_text("text\tlabel\nthe good film\t1\na bad one\t0\n")
    options = {"data_dir": table, "tokenizer": str(bert), "cache": tmp_path / "cache"}
    first = datasets.load("tsv", **options).tokens
    longer = datasets.load("tsv", max_seq_length=4, **options).tokens
    assert longer.lengths.max() == 4 < first.lengths.max()
    monkeypatch.setattr(tokens, "tokenise", None)
    again = datasets.load("tsv", **options).tokens
    assert all(torch.equal(getattr(first, name), getattr(again, name)) for name in ("ids", "special", "lengths"))
