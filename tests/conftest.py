"""What the tests share: the repository root on the path, and small image folders."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))


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
