"""The data sets: stable indices, balance, one result in memory and on the fly, and plain words for bad input."""

import errno
import hashlib
import itertools
import json
import os
import pickle
import shutil
import struct
import tarfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import refuses, write_images
from PIL import Image, PngImagePlugin

from robust_data import datasets
from robust_data.datasets import decoding


def pixels(dataset, order=None):
    """All images as batches() yields them, float32 [N,3,H,W], in the order given."""
    order = torch.arange(len(dataset)) if order is None else order
    return torch.cat([batch.inputs["pixel_values"] for batch in dataset.batches(order.split(5), "cpu")])


def assert_refused(named, name, **options):
    with refuses(named):
        datasets.load(name, **options)


@pytest.fixture
def on_the_fly(monkeypatch):
    """No set of files is taken into memory."""
    monkeypatch.setattr("robust_data.datasets.images.MEMORY_LIMIT", 0)


@pytest.fixture
def mixed_folder(image_folder):
    """An image folder whose images differ in size."""
    write_images(image_folder / "train" / "cat", 2, size=(20, 12))
    return image_folder


@pytest.fixture
def truncated(image_folder):
    """The path of a training image, number 7, of which half is missing."""
    path = image_folder / "train" / "dog" / "1.png"
    path.write_bytes(path.read_bytes()[:150])
    return path


@pytest.fixture
def npz_file(tmp_path):
    """A function that writes FILE.npz with 12 images of 4x6 in three classes, changed as its arguments say."""

    def write(**changes):
        arrays = {"images": np.arange(12 * 72, dtype=np.uint8).reshape(12, 4, 6, 3), "labels": np.arange(12) % 3}
        arrays = {name: array for name, array in (arrays | changes).items() if array is not None}
        np.savez(tmp_path / "images.npz", **arrays)
        return tmp_path / "images.npz"

    return write


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.fixture
def cifar10_folder(tmp_path, monkeypatch):
    """CIFAR-10's layout with 4 images a file, whose checksums torchvision is told."""
    from torchvision.datasets import CIFAR10

    folder = tmp_path / "root" / CIFAR10.base_folder
    folder.mkdir(parents=True)
    lists = {"train_list": [f"data_batch_{number}" for number in range(1, 6)], "test_list": ["test_batch"]}
    for attribute, names in lists.items():
        for seed, name in enumerate(names):
            data = np.random.default_rng(seed).integers(0, 256, (4, 3072), dtype=np.uint8)
            (folder / name).write_bytes(pickle.dumps({"data": data, "labels": [seed, 5, 6, 7]}))
        monkeypatch.setattr(CIFAR10, attribute, [[name, md5(folder / name)] for name in names])
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": [f"name{label}" for label in range(10)]}))
    monkeypatch.setitem(CIFAR10.meta, "md5", md5(folder / "batches.meta"))
    return folder.parent


@pytest.fixture
def food101_folder(tmp_path):
    """Food-101's layout with two dishes, three training images and one test image each."""
    root = tmp_path / "food-101"
    for dish in ("apple_pie", "waffles"):
        write_images(root / "images" / dish, 4, size=(30, 40), suffix="jpg")
    (root / "meta").mkdir()
    for split, numbers in (("train", (0, 1, 3)), ("test", (2,))):
        listing = {dish: [f"{dish}/{number}" for number in numbers] for dish in ("waffles", "apple_pie")}
        (root / "meta" / f"{split}.json").write_text(json.dumps(listing))
    return tmp_path


# What every data set is


def test_digits_are_split_without_overlap_and_fill_the_unit_interval():
    train, test = datasets.load("digits"), datasets.load("digits", "test")
    assert (len(train), len(test), train.image_size, train.modality) == (1438, 359, (16, 16), "image")
    values = pixels(train)
    assert values.dtype == torch.float32 and (values.min(), values.max()) == (0, 1)


@pytest.mark.parametrize("storage", ["memory", "files"])
def test_shuffled_batches_give_the_same_images(image_folder, storage, request):
    if storage == "files":
        request.getfixturevalue("on_the_fly")
    dataset = datasets.load("imagefolder", data_dir=image_folder)
    order = torch.randperm(len(dataset))
    assert torch.equal(pixels(dataset, order), pixels(dataset)[order])


def test_batches_leave_the_images_as_they_are():
    dataset = datasets.load("digits", dataset_len=20)
    for batch in dataset.batches([torch.arange(20)], "cpu"):
        batch.inputs["pixel_values"].zero_()
    assert pixels(dataset).any()


def test_subset_keeps_index_labels_and_images():
    dataset = datasets.load("digits", dataset_len=60)
    part = dataset.subset(torch.tensor([50, 2, 31])).subset([0, 2])
    assert torch.equal(part.index, dataset.index[[2, 50]])
    assert torch.equal(part.labels, dataset.labels[[2, 50]])
    assert torch.equal(pixels(part), pixels(dataset)[[2, 50]])


# Smaller training sets


def test_dataset_len_keeps_index_of_the_full_split():
    full, part = datasets.load("digits"), datasets.load("digits", dataset_len=40)
    rows = torch.searchsorted(full.index, part.index)
    assert torch.equal(pixels(part), pixels(full)[rows])


def test_val_len_holds_the_same_balanced_instances_out_of_any_training_set():
    held_out = datasets.load("digits", "val", val_len=50, seed=3)
    rest = datasets.load("digits", val_len=50, seed=3)
    assert len(held_out) == 50 and np.bincount(held_out.labels).tolist() == [5] * 10
    both = torch.cat([held_out.index, rest.index]).sort().values
    full = datasets.load("digits")
    assert torch.equal(both, full.index) and torch.equal(full.labels[rest.index], rest.labels)
    part = datasets.load("digits", val_len=50, dataset_len=100, seed=3)
    assert np.isin(part.index, rest.index).all() and np.bincount(part.labels).tolist() == [10] * 10
    for wrong in ({"val_len": 5}, {"val_len": 5000}, {"split": "val"}):
        assert_refused("--val_len", "digits", **wrong)


def test_dataset_len_is_balanced_and_ascending():
    part = datasets.load("digits", dataset_len=57)
    assert set(part.labels.bincount().tolist()) == {5, 6} and len(part) == 57
    assert (part.index.diff() > 0).all()


def test_small_class_gives_its_share_to_the_others(npz_file):
    path = npz_file(labels=np.array([0] * 6 + [1] * 5 + [2]))
    assert datasets.load("npz", data_dir=path, dataset_len=9).labels.bincount().tolist() == [4, 4, 1]


def test_dataset_len_depends_on_the_seed():
    first, again, other = (datasets.load("digits", dataset_len=40, seed=seed).index for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize(("split", "count"), [("train", 5000), ("test", 10)])
def test_dataset_len_keeps_everything(split, count):
    assert len(datasets.load("digits", split, dataset_len=count)) == len(datasets.load("digits", split))


def test_dataset_len_below_the_number_of_classes():
    assert_refused("--dataset_len 9", "digits", dataset_len=9)


def test_only_chosen_files_are_read(image_folder):
    chosen = datasets.load("imagefolder", data_dir=image_folder, dataset_len=3).sources
    for path in image_folder.glob("train/*/*"):
        if str(path) not in chosen:
            path.write_text("not an image")
    assert datasets.load("imagefolder", data_dir=image_folder, dataset_len=3).sources == chosen


# Image files


def test_image_folder_in_memory(image_folder):
    dataset = datasets.load("imagefolder", data_dir=image_folder)
    assert (len(dataset), dataset.image_size, dataset.label_names) == (18, (8, 8), ["cat", "dog", "eel"])
    written = np.array(Image.open(image_folder / "train" / "dog" / "1.png"))
    assert torch.equal(pixels(dataset)[7], torch.from_numpy(written).permute(2, 0, 1) / 255)


@pytest.mark.parametrize("size", [None, 5])
@pytest.mark.parametrize("workers", [0, 2])
def test_on_the_fly_equals_in_memory(image_folder, workers, size, monkeypatch):
    given = {"data_dir": image_folder, "num_workers": workers, "image_size": size}
    in_memory = datasets.load("imagefolder", **given)
    monkeypatch.setattr("robust_data.datasets.images.MEMORY_LIMIT", 0)
    on_the_fly = datasets.load("imagefolder", **given)
    assert in_memory.image_size == on_the_fly.image_size == (size or 8,) * 2
    assert torch.equal(pixels(in_memory), pixels(on_the_fly))


def test_images_of_unequal_size_get_one(mixed_folder):
    dataset = datasets.load("imagefolder", data_dir=mixed_folder)
    assert pixels(dataset.subset([0, 5])).shape == (2, 3, *dataset.image_size) == (2, 3, 224, 224)


def test_large_images_on_the_fly_get_the_default_size(image_folder, on_the_fly):
    for path in image_folder.glob("train/*/*"):
        Image.new("RGB", (300, 260)).save(path)
    assert datasets.load("imagefolder", data_dir=image_folder).image_size == (224, 224)


def test_empty_batch(image_folder, on_the_fly):
    dataset = datasets.load("imagefolder", data_dir=image_folder)
    (batch,) = dataset.batches([torch.arange(0)], "cpu")
    assert batch.inputs["pixel_values"].shape == (0, 3, 8, 8)


@pytest.mark.parametrize("size", [(20, 12), (11, 37), (16, 16)])
def test_resizing_is_torchvisions(image_folder, size):
    from torchvision.transforms import CenterCrop, Compose, Resize

    write_images(image_folder / "train" / "cat", 1, size=size)
    dataset = datasets.load("imagefolder", data_dir=image_folder, image_size=9)
    expected = Compose([Resize(9), CenterCrop(9)])(Image.open(dataset.sources[0]))
    assert torch.equal((pixels(dataset)[0] * 255).round().byte(), torch.from_numpy(np.array(expected)).permute(2, 0, 1))


def test_decoding_leaves_the_random_numbers_alone(image_folder, on_the_fly):
    state = torch.get_rng_state()
    pixels(datasets.load("imagefolder", data_dir=image_folder))
    assert torch.equal(state, torch.get_rng_state())


def test_labels_of_test_follow_train(image_folder):
    (image_folder / "test" / "cat").rename(image_folder / "gone")
    assert datasets.load("imagefolder", "test", data_dir=image_folder).labels.tolist() == [1, 1, 2, 2]


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "CMYK"])
def test_every_mode_becomes_rgb(image_folder, mode):
    path = image_folder / "train" / "cat" / ("0.jpg" if mode == "CMYK" else "0.png")
    Image.new("RGB", (8, 8), "white").convert(mode).save(path)
    assert (pixels(datasets.load("imagefolder", data_dir=image_folder))[0] == 1).all()


RAMP = np.arange(256).reshape(16, 16)


def tiff(numbers, **changes):
    """The bytes of a TIFF of grey or, planes first, of several colours, with other values of some tags."""
    order, planes = "<" if numbers.dtype.byteorder != ">" else ">", len(numbers) if numbers.ndim == 3 else 1
    data = numbers.tobytes()
    data = zlib.compress(data) if changes.get("compression") == 8 else data
    sample_format = {"u": 1, "i": 2, "f": 3}[numbers.dtype.kind]
    tags = dict(width=16, height=16, bits=8 * numbers.itemsize, compression=1, photometric=1, offset=8)
    tags |= dict(samples=planes, rows=16, length=len(data), planar=1, sample_format=sample_format) | changes
    numbers_of_tags = (256, 257, 258, 259, 262, 273, 277, 278, 279, 284, 339)
    entries = [struct.pack(f"{order}HHII", *entry) for entry in zip(numbers_of_tags, [4] * 11, [1] * 11, tags.values())]
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8 + len(data))
    return head + data + struct.pack(f"{order}H", 11) + b"".join(entries) + bytes(4)


@pytest.mark.parametrize("white_is_zero", [False, True])
@pytest.mark.parametrize(
    "numbers",
    [RAMP.astype("u1"), (RAMP * 257).astype("<u2"), (RAMP * 257).astype(">u2"), (RAMP / 255).astype("<f4")]
    + [RAMP.astype(">f4"), RAMP.astype("<i2"), RAMP.astype(">i2"), RAMP.astype("<i4"), RAMP.astype("<u4")]
    + [(RAMP - 99).astype("<i2"), (RAMP - 128).astype("i1"), (RAMP * 257).astype("<i4"), RAMP.astype("<f8")],
    ids=lambda numbers: f"{numbers.dtype.str} {numbers.min()}..{numbers.max()}",
)
@pytest.mark.parametrize("compression", [1, 8])
def test_grey_is_what_a_tiff_says_of_its_numbers_or_refused(tmp_path, numbers, white_is_zero, compression):
    (tmp_path / "0.tif").write_bytes(tiff(numbers, photometric=int(not white_is_zero), compression=compression))
    read = decoding.decode(str(tmp_path / "0.tif"), None)
    common = numbers.dtype.str in ("|u1", "<u2", "<f4") or (numbers.dtype.str == ">u2" and not white_is_zero)
    assert not (common and isinstance(read, decoding.Unreadable))
    if not isinstance(read, decoding.Unreadable):
        assert np.array_equal(read[0], 255 - RAMP if white_is_zero else RAMP)


def test_colours_of_16_bits_in_planes_are_read_or_refused(tmp_path):
    numbers = np.stack([RAMP, RAMP.T, 255 - RAMP]).astype("<u2") * 257
    (tmp_path / "0.tif").write_bytes(tiff(numbers, photometric=2, planar=2))
    assert isinstance(decoding.decode(str(tmp_path / "0.tif"), None), decoding.Unreadable)


@pytest.mark.parametrize("kind", ["i4", "f4"])
def test_grey_that_does_not_tell_its_range_is_that_of_bytes_or_refused(kind):
    assert np.array_equal(decoding.rgb(Image.fromarray(RAMP.astype(kind))).getchannel(0), RAMP)
    for beyond in (-1, 256) if kind == "i4" else (-1, 256, np.nan, np.inf):
        with refuses():
            decoding.rgb(Image.fromarray(np.where(RAMP == 7, beyond, RAMP).astype(kind)))


XMP = '<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'


@pytest.mark.parametrize("kind", ["exif", "xmp"])
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "avif"])
def test_the_size_told_is_that_of_the_upright_image(tmp_path, suffix, kind):
    path = tmp_path / f"0.{suffix}"
    exif, text = Image.Exif(), PngImagePlugin.PngInfo()
    exif[0x0112] = 6
    text.add_itxt("XML:com.adobe.xmp", XMP)
    as_xmp = {"png": {"pnginfo": text}, "tif": {"tiffinfo": {700: XMP.encode()}}}.get(suffix, {"xmp": XMP.encode()})
    Image.new("RGB", (16, 8)).save(path, **({"exif": exif} if kind == "exif" else as_xmp))
    assert decoding.image_size(str(path)) == (16, 8) == tuple(decoding.decode(str(path), None).shape[1:])


def test_what_systems_leave_behind_is_left_out_without_a_word(image_folder, capsys):
    expected = datasets.load("imagefolder", data_dir=image_folder).sources
    train = image_folder / "train"
    hidden = ("cat/.ipynb_checkpoints/0.png", ".cache/0.png", "cat/._0.png", "cat/Thumbs.db")
    for junk in (*hidden, "cat/@eaDir/0.png/SYNOPHOTO_THUMB_M.jpg", "__MACOSX/cat/._0.png"):
        (train / junk).parent.mkdir(parents=True, exist_ok=True)
        (train / junk).write_bytes(b"junk")
    assert datasets.load("imagefolder", data_dir=image_folder).sources == expected
    assert not capsys.readouterr().err


@pytest.mark.parametrize("name", ["9.jfif", "9.gif", "9.avif", "9.TIF", "9"])
def test_images_of_every_kind_that_is_read_count_and_other_files_are_told(image_folder, name, capsys):
    kind = {"9": "PNG", "9.TIF": "TIFF", "9.jfif": "JPEG"}.get(name)
    Image.new("RGB", (8, 8), "white").save(image_folder / "train" / "cat" / name, kind)
    for other in ("notes.txt", "9.heic", "README"):
        (image_folder / "train" / "cat" / other).write_text("no image")
    dataset = datasets.load("imagefolder", data_dir=image_folder)
    assert len(dataset) == 19 and (pixels(dataset)[6] == 1).all()
    assert "left out 3 files" in capsys.readouterr().err


def test_one_name_in_two_forms_of_unicode_is_one_class(image_folder):
    composed, decomposed = "\u00e9t\u00e9", "e\u0301te\u0301"
    write_images(image_folder / "train" / composed, 2)
    write_images(image_folder / "train" / decomposed, 3)
    write_images(image_folder / "test" / decomposed, 1)
    train, test = (datasets.load("imagefolder", split, data_dir=image_folder) for split in ("train", "test"))
    assert train.label_names == test.label_names == ["cat", "dog", "eel", composed]
    assert (train.labels == 3).sum() == 5 and (test.labels == 3).sum() == 1


def test_what_is_beyond_the_limits_of_pillow_is_decoded(image_folder, monkeypatch):
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 8)
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "long " * 10**6, zip=True)
    path = image_folder / "train" / "cat" / "0.png"
    Image.new("RGB", (8, 8), "white").save(path, pnginfo=text, icc_profile=bytes(2 * 10**6))
    assert (pixels(datasets.load("imagefolder", data_dir=image_folder))[0] == 1).all()
    assert Image.MAX_IMAGE_PIXELS == 8


def test_skip_corrupt_keeps_what_is_too_large_for_the_memory(image_folder, monkeypatch):
    monkeypatch.setattr("robust_data.datasets.decoding.memory", lambda: 8 * 8 * 8)
    assert_refused("too large", "imagefolder", data_dir=image_folder, skip_corrupt=True)


def test_jpegs_are_read_as_pillow_reads_them(tmp_path):
    ramp = np.stack([RAMP, RAMP.T, 255 - RAMP], axis=-1).astype(np.uint8)
    path, profile = tmp_path / "0.jpg", bytes(2 * decoding.HEADER)
    for mode, subsampling, progressive, icc in itertools.product(
        ("RGB", "L"), range(3), (False, True), (None, profile)
    ):
        image = Image.fromarray(ramp[:, :-3]).convert(mode)
        image.save(path, subsampling=subsampling, progressive=progressive, icc_profile=icc)
        expected = np.array(Image.open(path).convert("RGB"))
        assert np.array_equal(decoding.decode(str(path), None).permute(1, 2, 0), expected)
        assert decoding.image_size(str(path)) == expected.shape[:2]
        fitted = decoding.fit(Image.fromarray(expected), (9, 7))
        assert np.array_equal(decoding.decode(str(path), (9, 7)).permute(1, 2, 0), fitted)


def test_the_layout_of_imagenet_is_read_as_it_is(image_folder):
    (image_folder / "test").rename(image_folder / "val")
    judged = datasets.load("imagefolder", "test", data_dir=image_folder)
    assert all("/val/" in source for source in judged.sources) and len(judged) == 6


# Corrupt images


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("storage", ["memory", "files"])
def test_a_corrupt_image_is_named_or_left_out(image_folder, truncated, workers, storage, request, capsys):
    if storage == "files":
        request.getfixturevalue("on_the_fly")
    with refuses(str(truncated), "--skip_corrupt 1"):
        pixels(datasets.load("imagefolder", data_dir=image_folder, num_workers=workers))
    dataset = datasets.load("imagefolder", data_dir=image_folder, num_workers=workers, skip_corrupt=True)
    assert dataset.index.tolist() == [*range(7), *range(8, 18)] and len(pixels(dataset)) == 17
    assert "1 of 18" in capsys.readouterr().err


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO, errno.ENOMEM, errno.EACCES])
@pytest.mark.parametrize("storage", ["memory", "files"])
def test_skip_corrupt_keeps_what_the_system_could_not_read(image_folder, storage, number, request, monkeypatch):
    if storage == "files":
        request.getfixturevalue("on_the_fly")
    opened = Image.open

    def open_most(path, *more, **options):
        if path.endswith("dog/1.png"):
            raise OSError(number, os.strerror(number), path)
        return opened(path, *more, **options)

    monkeypatch.setattr("PIL.Image.open", open_most)
    for skip_corrupt in (False, True):
        with refuses("dog/1.png", os.strerror(number)):
            pixels(datasets.load("imagefolder", data_dir=image_folder, skip_corrupt=skip_corrupt))


def test_skip_corrupt_leaves_something(image_folder):
    for path in image_folder.glob("train/*/*"):
        path.write_text("not an image")
    assert_refused("none of the 18", "imagefolder", data_dir=image_folder, skip_corrupt=True)


# The official sets


@pytest.mark.parametrize(("split", "labels"), [("train", [0, 5, 6, 7, 1, 5, 6, 7]), ("test", [0, 5, 6, 7])])
def test_cifar10(cifar10_folder, split, labels):
    dataset = datasets.load("cifar10", split, data_dir=cifar10_folder)
    assert dataset.labels.tolist()[:8] == labels and dataset.label_names[9] == "name9"
    expected = np.random.default_rng(0).integers(0, 256, (4, 3072), dtype=np.uint8)
    assert torch.equal(pixels(dataset)[:4] * 255, torch.from_numpy(expected).view(4, 3, 32, 32))


def test_cifar10_checksum_failure(cifar10_folder):
    (cifar10_folder / "cifar-10-batches-py" / "data_batch_3").write_bytes(b"damaged")
    assert_refused("checksum", "cifar10", data_dir=cifar10_folder)


def test_an_archive_that_is_not_the_official_one_is_not_unpacked(cifar10_folder, tmp_path):
    from torchvision.datasets import CIFAR10

    archive = tmp_path / CIFAR10.filename
    with tarfile.open(archive, "w:gz") as file:
        file.add(cifar10_folder / CIFAR10.base_folder, CIFAR10.base_folder)
    assert_refused(str(archive), "cifar10", data_dir=tmp_path)
    assert not (tmp_path / CIFAR10.base_folder).exists()


def test_three_that_unpack_one_archive_at_once_all_have_it(cifar10_folder, tmp_path, monkeypatch):
    from torchvision.datasets import CIFAR10

    folder = tmp_path / "elsewhere"
    (folder / ".download-killed").mkdir(parents=True)
    with tarfile.open(folder / CIFAR10.filename, "w:gz") as file:
        file.add(cifar10_folder / CIFAR10.base_folder, CIFAR10.base_folder)
    monkeypatch.setattr(CIFAR10, "tgz_md5", md5(folder / CIFAR10.filename))
    with ThreadPoolExecutor(3) as threads:
        loaded = threads.map(lambda _: datasets.load("cifar10", data_dir=folder, download=True), range(3))
        assert [len(dataset) for dataset in loaded] == [20, 20, 20]
    assert {path.name for path in folder.iterdir()} == {CIFAR10.filename, CIFAR10.base_folder}


def test_food101(food101_folder):
    dataset = datasets.load("food101", data_dir=food101_folder, image_size=24)
    assert dataset.labels.tolist() == [0, 0, 0, 1, 1, 1] and dataset.label_names == ["apple_pie", "waffles"]
    assert [Path(path).name for path in dataset.sources[3:]] == ["0.jpg", "1.jpg", "3.jpg"]
    assert pixels(dataset).shape == (6, 3, 24, 24)


@pytest.mark.parametrize("content", [None, "not json", "[]"])
def test_food101_incomplete(food101_folder, content):
    listing = food101_folder / "food-101" / "meta" / "train.json"
    listing.write_text(content) if content else listing.unlink()
    assert_refused(str(food101_folder), "food101", data_dir=food101_folder)


# One's own arrays


@pytest.mark.parametrize(
    "labels, names",
    [
        (np.arange(12) % 3, ["a", "b", "c"]),
        (np.array([[2], [0], [1]] * 4), None),
        (np.arange(12) % 3, np.array([b"a", "\u00e9".encode(), b"c"])),
    ],
)
def test_npz(npz_file, labels, names):
    path = npz_file(labels=labels, label_names=names, test_images=np.zeros((2, 4, 6, 3), np.uint8), test_labels=[2, 0])
    dataset = datasets.load("npz", data_dir=path)
    written = (
        "0 1 2".split() if names is None else [getattr(name, "decode", lambda name=name: name)() for name in names]
    )
    assert (dataset.label_names, dataset.labels.tolist()) == (written, labels.ravel().tolist())
    assert torch.equal(pixels(dataset), torch.from_numpy(np.load(path)["images"]).permute(0, 3, 1, 2) / 255)
    assert datasets.load("npz", "test", data_dir=path).labels.tolist() == [2, 0]


@pytest.mark.parametrize("shape", [(12, 4, 6), (12, 4, 6, 1)])
def test_npz_of_grey_images(npz_file, shape):
    images = np.arange(12 * 24, dtype=np.uint8).reshape(shape)
    values = pixels(datasets.load("npz", data_dir=npz_file(images=images)))
    assert torch.equal(values, torch.from_numpy(images).view(12, 1, 4, 6).expand(-1, 3, -1, -1) / 255)


def test_npz_resized(npz_file):
    assert pixels(datasets.load("npz", data_dir=npz_file(), image_size=8)).shape[-2:] == (8, 8)


def test_arrays_too_large_when_resized(npz_file):
    assert_refused("--image_size 9000", "npz", data_dir=npz_file(), image_size=9000)


@pytest.mark.parametrize(
    "changes",
    [
        *({"images": None}, {"labels": None}),
        *({"images": np.zeros(shape, np.uint8)} for shape in ((12, 4, 6, 2), (12, 72), (11, 4, 6, 3))),
        *({"images": array} for array in (np.zeros((12, 4, 6, 3)), np.full(12, None))),
        {"images": np.zeros((0, 4, 6, 3), np.uint8), "labels": np.zeros(0, int)},
        *({"labels": np.arange(12) - 1}, {"labels": np.arange(12) * 10**9}, {"labels": np.arange(12) / 2}),
        *({"labels": np.zeros(12, int)}, {"label_names": ["a", "b"]}, {"test_labels": np.array([0, 1])}),
        {"test_images": np.zeros((2, 4, 6, 3), np.uint8), "test_labels": np.array([2, 3])},
    ],
)
def test_npz_refused(npz_file, changes):
    path = npz_file(**changes)
    with refuses(str(path)):
        datasets.load("npz", split="test" if "test_labels" in changes else "train", data_dir=path)


# What else can be wrong


def one_class(folder):
    for name in ("dog", "eel"):
        shutil.rmtree(folder / "train" / name)


@pytest.mark.parametrize(
    ("make", "split", "said"),
    [
        (lambda folder: (folder / "train").rename(folder / "gone"), "train", "train"),
        (lambda folder: [shutil.rmtree(path) for path in folder.glob("train/*")], "train", "train"),
        (one_class, "train", "'cat'"),
        (lambda folder: (folder / "train" / "fox").mkdir(), "train", "fox"),
        (lambda folder: write_images(folder / "test" / "fox", 1), "test", "fox"),
    ],
)
def test_a_folder_that_is_none_of_classes_is_refused(image_folder, make, split, said):
    make(image_folder)
    assert_refused(said, "imagefolder", split=split, data_dir=image_folder)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("cifar", {}, "cifar10"),
        ("digits", {"split": "dev"}, "'dev'"),
        *(("digits", {argument: -1}, f"--{argument}") for argument in ("image_size", "num_workers", "seed")),
        *((name, {"data_dir": "."}, "--download 1") for name in ("cifar10", "food101")),
        ("imagefolder", {"data_dir": __file__}, __file__),
        ("npz", {"data_dir": os.path.dirname(__file__)}, os.path.dirname(__file__)),
    ],
)
def test_what_cannot_be_loaded_is_named(name, options, said):
    assert_refused(said, name, **options)
