"""What no run wrote and nobody should type, each refused in one line; test_fuzz.py tries all files and options."""

import json
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import processes
import pytest
import safetensors.torch
import text_models
import torch
from conftest import write_images
from fuzzing import ROOT, call

from robust_data import complete, datasets, files, models, reading, records
from robust_data.analysis.statistics_file import open_statistics
from robust_data.collect import outputs
from robust_data.command_line.parser import Parser, run_script
from robust_data.datasets import decoding
from robust_data.registry import LONGEST_LINE, InputError, warn_once
from robust_data.settings import Collect

FINE_TUNING = "new_fine_tune_flooding/new_fine_tune_flooding.py"
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n0 0 8 8 rectfill\nshowpage\n%%EOF\n"


def test_a_name_does_not_start_ghostscript(image_folder, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", lambda *command, **options: pytest.fail(f"{command} was started"))
    path = image_folder / "train" / "cat" / "x.png"
    path.write_bytes(EPS)
    with pytest.raises(InputError, match="x.png"):
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


def test_an_archive_that_would_fill_the_memory_is_not_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "dense.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("images.npy", "w") as member:
            header = {"descr": "|u1", "fortran_order": False, "shape": (2**29,)}
            np.lib.format.write_array_header_1_0(member, header)
            for _ in range(2**9):
                member.write(bytes(2**20))
    with pytest.raises(InputError, match="'images.npy'"):
        datasets.load("npz", data_dir=tmp_path / "dense.npz")


def test_an_array_that_claims_more_than_its_file_holds_is_refused(tmp_path):
    with open(tmp_path / "large.npy", "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (10**12,)})
    with pytest.raises(ValueError):
        reading.open_array(tmp_path / "large.npy")
    with zipfile.ZipFile(tmp_path / "large.npz", "w") as archive:
        archive.write(tmp_path / "large.npy", "images.npy")
        archive.write(tmp_path / "large.npy", "labels.npy")
    with pytest.raises(InputError, match="'labels'"):
        datasets.load("npz", data_dir=tmp_path / "large.npz")


def test_a_device_or_a_pipe_is_neither_read_nor_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in ("/dev/zero", tmp_path / "pipe"):
        with pytest.raises(InputError, match=str(path)):
            records.load(path)
    with pytest.raises(InputError, match="pipe"), files.atomic_write(tmp_path / "pipe"):
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
    with pytest.raises(InputError, match="code of its own") as refusal:
        models.build(str(folder), 2, modality="text")
    assert not proof.exists() and "trust_remote_code" not in str(refusal.value)


@pytest.mark.parametrize("fault", ["lack", "shape"])
def test_weights_that_would_be_random_outside_the_head_are_refused(folder, fault):
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    key = "bert.encoder.layer.0.attention.self.query.weight"
    weights[key] = torch.zeros(3, 3)
    if fault == "lack":
        del weights[key]
    safetensors.torch.save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=key):
        models.build(str(folder), 2, modality="text")


WRONG = {"severity": "3", "checkpoints": [None], "label_names": {"a": 1}, "arguments": [], "perturbation": []}
WRONG_ARGUMENTS = {"seed": [], "data_dir": 5, "dataset_name": ["npz"], "adv_lr": "0.1", "image_size": 8.5}


@pytest.mark.parametrize("entry", [*WRONG, *WRONG_ARGUMENTS])
def test_a_wrongly_typed_entry_beside_statistics_is_named(statistics, tmp_path, entry):
    shutil.copy(statistics, tmp_path / "x.npy")
    about = json.loads(statistics.with_suffix(".json").read_text())
    (about if entry in WRONG else about["arguments"])[entry] = (WRONG | WRONG_ARGUMENTS)[entry]
    (tmp_path / "x.json").write_text(json.dumps(about))
    with pytest.raises(InputError, match=f"x.json .*{entry}"):
        records.load(tmp_path / "x.npy")
    (tmp_path / "x.json").write_text(json.dumps(dict.fromkeys((*WRONG, "split"))))
    assert open_statistics(tmp_path / "x.npy").describe() == "x"


def test_a_state_with_foreign_parts_is_refused(statistics, tmp_path):
    given = ("--statistics_source", statistics, "--epochs", 1, "--bsz", 40, "--pgd_step", 0, "--output_dir", tmp_path)
    where = "robust_data.train.saved_models.save_model"
    killed = processes.run(ROOT / "tests" / "dying.py", "kill", where, 1, ROOT / FINE_TUNING, *given)
    assert killed.returncode == -9, killed.stderr
    content = torch.load(tmp_path / "run.state", weights_only=True)
    for trainer in (None, content["trainer"] | {"step": 10**9}, content["trainer"] | {"model": {}}):
        torch.save(content | {"trainer": trainer}, tmp_path / "run.state")
        status, _, err = call(FINE_TUNING, *given)
        assert status == 2 and "run.state" in err.splitlines()[-1]


def test_a_json_deleted_beside_its_statistics_is_told(statistics, tmp_path):
    job = complete.collection(Collect(perturbations=["blur"], output_dir=str(tmp_path)))
    (path,) = outputs.file_paths(job).values()
    path.write_bytes(statistics.read_bytes())
    with pytest.raises(InputError, match="JSON .*--overwrite 1"):
        outputs.is_finished(job)


def test_a_long_warning_or_refusal_is_cut(monkeypatch, capsys):
    def main(args):
        warn_once(f"{'y' * 10_000} is not there")
        raise InputError(f"--data_dir {'x' * 10_000} is no folder; give another")

    warning, line = ending(main, monkeypatch, capsys).splitlines()
    assert max(len(warning), len(line)) < LONGEST_LINE + 100 and warning.endswith("y is not there")
    assert line.startswith("script.py: error: --data_dir xxx") and line.endswith("x is no folder; give another")


def ending(main, monkeypatch, capsys):
    """What a script prints to stderr that ends with status 2."""
    monkeypatch.setattr("sys.argv", ["script.py"])
    with pytest.raises(SystemExit, match="2"):
        run_script(Parser(prog="script.py"), main)
    return capsys.readouterr().err


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        MemoryError("Unable to allocate 8.00 EiB for an array with shape (9, 9) and data type float64"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to\nlose"),
        RuntimeError("CUDA out of memory. Tried to allocate 9.00 GiB"),
    ],
)
def test_too_little_memory_is_one_line_and_another_error_is_raised(error, monkeypatch, capsys):
    def main(args):
        raise error

    line = ending(main, monkeypatch, capsys)
    assert "too little memory" in line and line.count("\n") == 1
    error = RuntimeError("shapes cannot be multiplied")
    with pytest.raises(RuntimeError, match="shapes"):
        run_script(Parser(prog="script.py"), main)
