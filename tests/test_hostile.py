"""What no run wrote and nobody should type, each refused in one line; test_fuzz.py tries all files and options."""

import json
import os
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import text_models
import torch
from conftest import refuses, write_images

from robust_data import complete, datasets, files, models, reading, records
from robust_data.collect import outputs
from robust_data.command_line.parser import Parser, run_script
from robust_data.datasets import decoding
from robust_data.settings import Collect

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n0 0 8 8 rectfill\nshowpage\n%%EOF\n"


def test_a_name_does_not_start_ghostscript(image_folder, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", lambda *command, **options: pytest.fail(f"{command} was started"))
    path = image_folder / "train" / "cat" / "x.png"
    path.write_bytes(EPS)
    with refuses("x.png"):
        datasets.load("imagefolder", data_dir=image_folder)
    assert isinstance(decoding.decode(str(path), None), decoding.Unreadable)


def test_each_real_folder_of_images_counts_once_and_a_pipe_not_at_all(image_folder):
    cats = image_folder / "train" / "cat"
    (cats / "again").symlink_to(cats)
    write_images(cats / "more", 1)
    (cats / "a_link").symlink_to(cats / "more")
    os.mkfifo(cats / "pipe.png")
    dataset = datasets.load("imagefolder", data_dir=image_folder)
    assert (dataset.labels == 0).sum() == 7
    assert sum("/more/" in path for path in dataset.sources) == 1


def test_an_array_that_claims_more_than_its_file_holds_is_refused(tmp_path):
    with open(tmp_path / "large.npy", "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (10**12,)})
    with pytest.raises(ValueError):
        reading.open_array(tmp_path / "large.npy")
    with zipfile.ZipFile(tmp_path / "large.npz", "w") as archive:
        archive.write(tmp_path / "large.npy", "images.npy")
        archive.write(tmp_path / "large.npy", "labels.npy")
    with refuses("'labels'"):
        datasets.load("npz", data_dir=tmp_path / "large.npz")


def test_a_device_or_a_pipe_is_neither_read_nor_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in ("/dev/zero", tmp_path / "pipe"):
        with refuses(str(path)):
            records.load(path)
    with refuses("pipe"), files.atomic_write(tmp_path / "pipe"):
        pass
    assert (tmp_path / "pipe").is_fifo()


@pytest.fixture
def folder(tmp_path):
    """Of a text model."""
    return Path(text_models.save_bert(tmp_path / "bert"))


def change_json(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_code_in_the_folder_of_a_model_is_not_run_and_no_one_is_asked(folder, tmp_path, monkeypatch):
    proof = tmp_path / "proof"
    (folder / "own.py").write_text(f"open({str(proof)!r}, 'w')\n")
    places = {"AutoConfig": "own.Config", "AutoModelForSequenceClassification": "own.Model"}
    change_json(folder / "config.json", model_type="own", auto_map=places)
    monkeypatch.setattr("builtins.input", lambda *question: "y")
    with refuses(str(folder)):
        models.build(str(folder), 2, modality="text")
    assert not proof.exists()


@pytest.mark.parametrize("fault", ["lack", "shape"])
def test_weights_that_would_be_random_outside_the_head_are_refused(folder, fault):
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    key = "bert.encoder.layer.0.attention.self.query.weight"
    weights[key] = torch.zeros(3, 3)
    if fault == "lack":
        del weights[key]
    safetensors.torch.save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with refuses(key):
        models.build(str(folder), 2, modality="text")


def test_a_json_deleted_beside_its_statistics_is_told(statistics, tmp_path):
    job = complete.collection(Collect(perturbations=["blur"], output_dir=str(tmp_path)))
    (path,) = outputs.file_paths(job).values()
    path.write_bytes(statistics.read_bytes())
    with refuses("--overwrite"):
        outputs.is_finished(job)


def ending(main, monkeypatch, capsys):
    """What a script prints to stderr that ends with status 2."""
    monkeypatch.setattr("sys.argv", ["script.py"])
    with pytest.raises(SystemExit, match="2"):
        run_script(Parser(prog="script.py"), main)
    return capsys.readouterr().err


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate 9.00 GiB")])
def test_too_little_memory_is_one_line_and_another_error_is_raised(error, monkeypatch, capsys):
    def main(args):
        raise error

    line = ending(main, monkeypatch, capsys)
    assert "too little memory" in line and line.count("\n") == 1
    error = RuntimeError("shapes cannot be multiplied")
    with pytest.raises(RuntimeError, match="shapes"):
        run_script(Parser(prog="script.py"), main)
