"""A Recorder in programs that have other packages named `datasets` and `models`, such as Hugging Face's."""

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import processes
import pytest

ROOT = Path(__file__).resolve().parent.parent

# A program of a user, where nothing of the project is on the path but for what `start` adds; it records images, texts,
# and a model of Hugging Face.
PROGRAM = """
import sys

root, bert, folder = sys.argv[1:]
texts, labels = ["a good film", "the film is dull", "warm", "a lame story"], [1, 0, 1, 0]
{start}
from robust_data import Recorder
import torch
from transformers import AutoModelForSequenceClassification

torch.manual_seed(0)
images = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
recorder = Recorder((images, labels), ["shot_noise"], folder, name="images")
recorder.record(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 2)), 1)
recorder.finish()
recorder = Recorder((texts, labels), ["pgd", "char_swap"], folder, tokenizer=bert, name="texts")
recorder.record(AutoModelForSequenceClassification.from_pretrained(bert), 1)
recorder.finish()
{end}
"""
ARE_OURS = "import datasets, models\nassert datasets.MissingSplit and models.MEMORY_FORMATS"
ARE_OTHERS = "import datasets, models\nassert datasets.WHOSE == models.WHOSE == 'of another'"


def program(folder, start, end=""):
    path = folder / "program.py"
    path.write_text(PROGRAM.format(start=start, end=end))
    return path


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.npy")}


@pytest.fixture(scope="module")
def expected(bert, tmp_path_factory):
    """The bytes of each file that the program writes where the project's packages have their own names."""
    folder = tmp_path_factory.mktemp("first")
    path = program(folder, "sys.path.insert(0, root)", ARE_OURS)
    result = processes.run(path, ROOT, bert, folder / "recorded")
    assert result.returncode == 0, result.stderr
    assert len(contents(folder / "recorded")) == 3
    return contents(folder / "recorded")


@pytest.mark.parametrize("imported", ["before the Recorder", "after it"])
def test_a_recorder_works_beside_other_packages_of_these_names(imported, expected, bert, tmp_path):
    for name in ("datasets", "models"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("WHOSE = 'of another'\n")
    before = ARE_OTHERS if imported == "before the Recorder" else ""
    path = program(tmp_path, f"{before}\nsys.path.append(root)", ARE_OTHERS)
    result = processes.run(path, ROOT, bert, tmp_path / "recorded")
    assert result.returncode == 0, result.stderr
    assert contents(tmp_path / "recorded") == expected


def test_a_recorder_takes_the_columns_of_the_hugging_face_package_datasets(expected, bert, tmp_path):
    try:
        importlib.metadata.version("datasets")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the Hugging Face package datasets is not installed (examples/requirements.txt)")
    start = "import datasets\nown = datasets.Dataset.from_dict({'text': texts, 'label': labels})\n"
    start += "texts, labels = own['text'], own['label'][:]\nsys.path.append(root)"
    path = program(tmp_path, start, "assert datasets.load_dataset")
    command = [sys.executable, path, ROOT, bert, tmp_path / "recorded"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert contents(tmp_path / "recorded") == expected
