"""Files that claim more than they hold, hide what they are, or come with code: refused in one line, at once."""

import json
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import text_models
import torch
from conftest import write_images

import datasets
import models
import reading
from datasets import decoding
from registry import InputError
from robust_data import files, records
from robust_data.analysis.statistics_file import open_statistics
from robust_data.train.saved_models import save_model

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n0 0 8 8 rectfill\nshowpage\n%%EOF\n"


def test_a_name_does_not_start_ghostscript(image_folder, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", lambda *command, **options: pytest.fail(f"{command} was started"))
    (image_folder / "train" / "cat" / "x.png").write_bytes(EPS)
    with pytest.raises(InputError, match="x.png .it holds none of JPEG"):
        datasets.load("imagefolder", data_dir=image_folder)
    assert isinstance(decoding.decode(str(image_folder / "train" / "cat" / "x.png"), None), decoding.Unreadable)


def test_each_real_folder_of_images_counts_once_and_a_pipe_not_at_all(image_folder):
    cats = image_folder / "train" / "cat"
    (cats / "again").symlink_to(cats)
    write_images(cats / "more", 1)
    (cats / "a_link").symlink_to(cats / "more")
    os.mkfifo(cats / "pipe.png")
    dataset = datasets.load("imagefolder", data_dir=image_folder)
    assert (dataset.labels == 0).sum() == 7
    assert sum("/more/" in path for path in dataset.sources) == 1


@pytest.fixture
def dense_zip(tmp_path):
    path = tmp_path / "dense.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("images.npy", "w") as member:
        header = {"descr": "|u1", "fortran_order": False, "shape": (2**29,)}
        np.lib.format.write_array_header_1_0(member, header)
        for _ in range(2**9):
            member.write(bytes(2**20))
    return path


def test_an_archive_that_would_fill_the_memory_is_not_unpacked(dense_zip):
    with pytest.raises(InputError, match="'images.npy' takes 0.5 GiB, unpacked from 0.5 MiB"):
        datasets.load("npz", data_dir=dense_zip)


def test_an_array_that_claims_more_than_its_file_holds_is_refused(tmp_path):
    with open(tmp_path / "large.npy", "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (10**12,)})
    with pytest.raises(ValueError):
        reading.open_array(tmp_path / "large.npy")
    with zipfile.ZipFile(tmp_path / "large.npz", "w") as archive:
        archive.write(tmp_path / "large.npy", "images.npy")
        archive.write(tmp_path / "large.npy", "labels.npy")
    with pytest.raises(InputError, match="large.npz: array 'labels' cannot be read"):
        datasets.load("npz", data_dir=tmp_path / "large.npz")


@pytest.mark.parametrize("path", ["/dev/zero", "pipe"])
def test_a_device_or_a_pipe_is_no_file(tmp_path, path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="it is no regular file"):
        records.load(tmp_path / path)


def test_a_pipe_or_a_device_is_not_replaced_by_a_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="pipe cannot be written: it is no regular file"):
        with files.atomic_write(tmp_path / "pipe"):
            pass
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.parametrize("field", ["golden_label", "original_class"])
def test_a_class_that_is_none_is_refused(statistics, tmp_path, field):
    rows, about = records.load(statistics)
    rows = rows.copy()
    rows[field] = 2**31 - 1
    np.save(tmp_path / "many.npy", rows)
    with pytest.raises(InputError, match=f"many.npy is no statistics file: {field} is 2147483647, and no class"):
        records.load(tmp_path / "many.npy")


def changed_config(folder, **values):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))


def test_a_config_that_asks_for_ten_million_layers_is_refused(tmp_path):
    folder = Path(text_models.save_bert(tmp_path / "bert"))
    changed_config(folder, num_hidden_layers=10**7)
    with pytest.raises(InputError, match="its config.json asks for num_hidden_layers 10000000"):
        models.build(str(folder), 2, modality="text")


@pytest.mark.parametrize("entry", ["vocab_size", "max_position_embeddings"])
def test_a_config_that_asks_for_far_more_weights_than_there_are_is_refused(tmp_path, entry):
    folder = Path(text_models.save_bert(tmp_path / "bert"))
    changed_config(folder, **{entry: 10**8})
    with pytest.raises(InputError, match="asks for 6.0 GiB of weights, its files hold 0.0 GiB; give a complete model"):
        models.build(str(folder), 2, modality="text")


def test_a_config_that_asks_for_more_weights_than_there_is_memory_is_refused(tmp_path):
    folder = Path(text_models.save_bert(tmp_path / "bert"))
    changed_config(folder, hidden_size=10**6)
    with pytest.raises(InputError, match="its config.json asks for .* of weights, there are .* GiB; give a"):
        models.build(str(folder), 2, modality="text", pretrained=False)


def test_a_config_that_names_its_own_folder_is_refused(tmp_path):
    folder = Path(text_models.save_bert(tmp_path / "bert"))
    changed_config(folder, model_type="upernet", backbone=str(folder))
    for modality in ("text", "image"):
        with pytest.raises(InputError, match=f"no {modality} classifier could be loaded"):
            models.build(str(folder), 2, modality=modality)


@pytest.mark.parametrize("index", ["null", "{}", '{"metadata": {}, "weight_map": {}}', '{"weight_map": {"a": "b"}}'])
def test_an_index_without_weights_is_refused(tmp_path, index):
    folder = Path(text_models.save_bert(tmp_path / "bert"))
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(index)
    with pytest.raises(InputError, match="no text classifier could be loaded"):
        models.build(str(folder), 2, modality="text")


@pytest.mark.parametrize("entry, value", [("architecture", 5), ("label_names", [1, 2]), ("keep_stem", "x")])
def test_a_wrongly_typed_entry_of_a_model_is_named(tmp_path, entry, value):
    folder = save_model(tmp_path / "model", models.build("small_cnn", 2), {}, ["cat", "dog"])
    config = json.loads((folder / "config.json").read_text())
    config["robust_data"][entry] = value
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=f"config.json cannot be read .its {entry} is .*; save the model again"):
        models.build(str(folder), 2)


@pytest.mark.parametrize("name", ["a\nb", "9" * 5000, "google/vit-base-patch16-224", "{folder}"])
def test_an_unknown_architecture_is_told_in_one_line(tmp_path, name):
    folder = save_model(tmp_path / "model", models.build("small_cnn", 2), {}, ["cat", "dog"])
    config = json.loads((folder / "config.json").read_text())
    config["robust_data"]["architecture"] = name.format(folder=folder)
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="names the unknown architecture .*; save the model again") as refused:
        models.build(str(folder), 2)
    assert "\n" not in str(refused.value)


WRONG = {"severity": "3", "checkpoints": [None], "label_names": {"a": 1}, "arguments": [], "perturbation": []}
WRONG_ARGUMENTS = {"seed": [], "data_dir": 5, "dataset_name": ["npz"], "adv_lr": "0.1", "image_size": 8.5}


@pytest.mark.parametrize("entry", [*WRONG, *WRONG_ARGUMENTS])
def test_a_wrongly_typed_entry_beside_statistics_is_named(statistics, tmp_path, entry):
    shutil.copy(statistics, tmp_path / "x.npy")
    about = json.loads(statistics.with_suffix(".json").read_text())
    if entry in WRONG:
        about[entry] = WRONG[entry]
    else:
        about["arguments"][entry] = WRONG_ARGUMENTS[entry]
    (tmp_path / "x.json").write_text(json.dumps(about))
    with pytest.raises(InputError, match=f"x.json cannot be read .its {entry} is .*; restore or remove it"):
        records.load(tmp_path / "x.npy")


def test_an_entry_beside_statistics_may_be_missing_or_null(statistics, tmp_path):
    shutil.copy(statistics, tmp_path / "x.npy")
    (tmp_path / "x.json").write_text(json.dumps(dict.fromkeys((*WRONG, "split"))))
    assert open_statistics(tmp_path / "x.npy").describe() == "x"


def test_the_rest_of_a_run_with_a_damaged_header_cannot_be_continued(statistics, tmp_path):
    content = bytearray(statistics.read_bytes())
    content[12] ^= 1  # a quotation mark or a bracket is gone
    content[20:60] = b"(" * 40
    (tmp_path / "x.npy.partial").write_bytes(content)
    with pytest.raises(InputError, match="x.npy.partial cannot be continued .*; use --overwrite 1 to start anew"):
        records.RecordFile(tmp_path / "x.npy", 3, 40, rows=2)


def test_code_in_the_folder_of_a_model_is_not_run_and_no_one_is_asked(tmp_path, monkeypatch):
    folder = Path(text_models.save_bert(tmp_path / "bert"))
    proof = tmp_path / "proof"
    (folder / "own.py").write_text(f"open({str(proof)!r}, 'w')\n")
    places = {"AutoConfig": "own.Config", "AutoModelForSequenceClassification": "own.Model"}
    changed_config(folder, model_type="own", auto_map=places)
    monkeypatch.setattr("builtins.input", lambda *question: "y")
    with pytest.raises(InputError, match="it comes with code of its own, which is never run") as refusal:
        models.build(str(folder), 2, modality="text")
    assert not proof.exists() and "trust_remote_code" not in str(refusal.value)


@pytest.mark.parametrize("fault", ["lack", "shape"])
def test_weights_that_would_be_random_outside_the_head_are_refused(tmp_path, fault):
    folder = Path(text_models.save_bert(tmp_path / "bert"))
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    key = "bert.encoder.layer.0.attention.self.query.weight"
    weights[key] = torch.zeros(3, 3)
    if fault == "lack":
        del weights[key]
    safetensors.torch.save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=f"{key} and 0 other weights have .* in its files, so they would be random"):
        models.build(str(folder), 2, modality="text")


def test_a_head_of_another_size_is_new(tmp_path):
    folder = Path(text_models.save_bert(tmp_path / "bert"))
    assert models.build(str(folder), 5, modality="text").new_head


@pytest.mark.parametrize("advice", ["set allow_pickle=True", "pass weights_only=False", "use trust_remote_code=True"])
def test_no_advice_to_load_a_file_unsafely_is_passed_on(advice):
    with pytest.raises(InputError) as refusal, reading.readable("x.npy", "give another"):
        raise ValueError(f"If you trust the file, {advice}")
    assert advice.split()[1].partition("=")[0] not in str(refusal.value)


@pytest.mark.parametrize("content", ["null", "[]", "[" * 100_000, "\udcff", ""])
def test_a_json_that_is_no_object_is_told_in_one_line(tmp_path, content):
    (tmp_path / "x.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(InputError, match="^x cannot be read .*; mend it$") as refusal:
        reading.read_json(tmp_path / "x.json", "x", "mend it")
    assert "\n" not in str(refusal.value)
