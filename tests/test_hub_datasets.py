"""Data sets in the formats of Hugging Face's package, which writes them here itself."""

import json
import subprocess
import sys

import processes
import pytest

# In a process of its own: there the name `datasets` is Hugging Face's.
WRITER = """
import sys
import datasets
from PIL import Image

folder, what = sys.argv[1:]
if what == "images":
    pictures = [Image.new("RGB", (8, 8), (30 * row, 100, 200 - row)) for row in range(6)]
    features = datasets.Features({"img": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog", "eel"])})
    columns = {"img": pictures, "label": [0, 1, 2, 0, 1, 2]}
else:
    features = None
    columns = {"says": ["fine", "dull", "warm", "lame"], "more": ["a", "b", "c", "d"], "verdict": list("pnpn")}
rows = datasets.Dataset.from_dict(columns, features=features)
unlabelled = rows.map(lambda row: {"label": -1}) if what == "images" else rows
splits = datasets.DatasetDict({"train": rows, "validation": rows.select([0, 1, 2]), "test": unlabelled})
splits.save_to_disk(folder + "/saved")
for name in splits:
    splits[name].to_parquet(f"{folder}/parquet/{name}.parquet")
"""


@pytest.fixture(scope="module", params=["saved", "parquet"])
def images(request, tmp_path_factory):
    return written(tmp_path_factory.mktemp("hub"), "images") / request.param


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    return written(tmp_path_factory.mktemp("hub"), "texts") / "parquet"


def written(folder, what):
    (folder / "parquet").mkdir()
    subprocess.run([sys.executable, "-c", WRITER, folder, what], cwd=folder, check=True, capture_output=True)
    return folder


def loaded(folder, split, **options):
    """What `datasets.load` gives: classes, labels, the first pixel of each image or the texts."""
    program = f"""
import json, torch
from robust_data import datasets
data = datasets.load("hf:{folder}", "{split}", **{options})
pixels = [image[:, 0, 0].mul(255).round().int().tolist() for batch in data.batches([torch.arange(len(data))], "cpu")
          for image in batch.inputs["pixel_values"]] if data.modality == "image" else data.columns
print(json.dumps([data.label_names, data.labels.tolist(), pixels, data.sources[:1]]))
"""
    root = processes.ROOT
    ended = subprocess.run([sys.executable, "-c", program], cwd=root, check=True, capture_output=True, text=True)
    return json.loads(ended.stdout.splitlines()[-1])


@pytest.mark.parametrize("workers", [0, 2])
def test_images_are_read_by_their_columns_types(images, workers):
    names, labels, pixels, sources = loaded(images, "train", num_workers=workers)
    assert names == ["cat", "dog", "eel"] and labels == [0, 1, 2, 0, 1, 2]
    assert pixels == [[30 * row, 100, 200 - row] for row in range(6)] and sources == [f"hf:{images}#train#0"]


def test_a_test_split_without_labels_gives_way_to_validation(images):
    assert loaded(images, "test")[1] == [0, 1, 2]


def test_columns_are_named_as_those_of_a_table_are(texts):
    names, labels, columns, _ = loaded(
        texts, "train", text_column="says", text_pair_column="more", label_column="verdict"
    )
    assert names == ["n", "p"] and labels == [1, 0, 1, 0]
    assert columns == [["fine", "dull", "warm", "lame"], ["a", "b", "c", "d"]]


def test_a_run_trains_on_it_and_names_its_files_by_the_last_part(images, tmp_path):
    command = ["data_statistics.py", "--dataset_name", f"hf:{images}", "--epochs", "1", "-t", "fog"]
    ended = processes.run(*command, "--output_dir", tmp_path)
    assert ended.returncode == 0, ended.stderr
    (statistics,) = tmp_path.glob("*_tfog_*.npy")
    assert f"_datasethf-{images.name}_" in statistics.name


@pytest.mark.parametrize(
    "name, options, named",
    [
        ("hf:no/such/folder/here", [], "--dataset_name"),
        ("texts", [], "--label_column"),
        ("texts", ["--label_column", "verdict"], "--text_column"),
        ("texts", ["--label_column", "nothing"], "--label_column"),
    ],
)
def test_what_it_does_not_hold_is_told_in_one_line(name, options, named, texts, bert, tmp_path):
    name = f"hf:{texts}" if name == "texts" else name
    command = ["data_statistics.py", "--dataset_name", name, "--model_name", bert, *options, "--output_dir", tmp_path]
    ended = processes.run(*command)
    assert ended.returncode == 2 and named in ended.stderr and len(ended.stderr.splitlines()) == 1
