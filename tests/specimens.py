"""One good file of each format that the project reads, all of them small: what the fuzz tests damage."""

import json
import pickle
import shutil
import tarfile
from pathlib import Path

import numpy as np
from conftest import save_vit, write_images
from text_models import save_bert, save_masked_lm, sentences, write_sst2, write_zip

from robust_data.records import labels_hash

LOG = [
    {"run": "plain_seed1", "epoch": epoch, "global_step": 4 * epoch, "train_loss": 1 / epoch, "test_accuracy": 0.5}
    for epoch in (1, 2, 3)
]

# Arguments of a fine-tuning.
RUN = {"model_name": "small_cnn", "lr": 0.1, "statistics_source": "statistics.npy"}


def write_all(folder, statistics, few_digits):
    """Write them into a folder, where no path in them leads out of it; returns it.

    statistics, few_digits: the fixtures of these names.
    """
    folder = Path(folder)
    shutil.copy(few_digits, folder / "few.npz")
    about = json.loads(statistics.with_suffix(".json").read_text())
    about["arguments"] |= {"data_dir": "few.npz", "model_name": "small_cnn", "epochs": 3, "lr": 0.1, "augment": "flip"}
    about |= {"split": "train", "trained_on": True, "parameter": 9, "checkpoints": [{"severity": 3}] * 3}
    for name in ("statistics", "other"):
        shutil.copy(statistics, folder / f"{name}.npy")
        (folder / f"{name}.json").write_text(json.dumps(about))
    write_older(folder / "older.npy")
    write_images(folder / "images" / "train" / "cat", 2)
    write_images(folder / "images" / "train" / "dog", 2, suffix="jpg")
    write_images(folder / "images" / "train" / "eel", 1, suffix="tif")
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LOG))
    write_texts(folder)
    for seed in (1, 2):
        write_judged(folder / "judged" / f"plain_seed{seed}", seed)
        write_judged(folder / "judged" / f"flooding_seed{seed}", seed + 5)
    (folder / "before").mkdir()
    judged = folder / "judged" / "plain_seed1" / "robustness_small_cnn.json"
    shutil.copy(judged, folder / "before" / "robustness_modelsmall_cnn_datasetdigits_splittest_seed42.json")
    (folder / "vectors.txt").write_text("3 2\ngood 1 0\ngreat 0.9 0.1\nbad -1 0.5\n")
    write_corruptions(folder / "corruptions")
    write_measured(folder)
    write_models(folder)
    np.save(folder / "chosen.npy", np.array([3, 1, 2]))
    (folder / "results.csv").write_text("model_folder,test_accuracy\nout/model,0.5\n")
    return folder


def write_measured(folder):
    """What another training loop measured: logits of 3 checkpoints, 8 instances and 4 classes."""
    draws = np.random.default_rng(0)
    logits = draws.normal(size=(3, 8, 4)).astype(np.float32)
    np.save(folder / "logits.npy", logits)
    np.save(folder / "labels.npy", np.arange(8) % 4)
    (folder / "dynamics").mkdir()
    for epoch, rows in enumerate(logits.tolist()):
        lines = [{"guid": guid, f"logits_epoch_{epoch}": row, "gold": guid % 4} for guid, row in enumerate(rows)]
        path = folder / "dynamics" / f"dynamics_epoch_{epoch}.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_texts(folder):
    texts, labels = sentences(12)
    for name, mark in (("table.csv", ","), ("table.tsv", "\t")):
        lines = [f"text{mark}label", *(f"{text}{mark}{label}" for text, label in zip(texts, labels))]
        (folder / name).write_text("\n".join(lines) + "\n")
    write_sst2(folder / "texts", 8, 4)
    (folder / "zipped").mkdir()
    write_zip(folder / "zipped" / "SST-2.zip", folder / "texts")
    news = [f'"{1 + number % 4}","{text}","more of it"\n' for number, text in enumerate(texts)]
    (folder / "news").mkdir()
    for split in ("train", "test"):
        (folder / "news" / f"{split}.csv").write_text("".join(news))
        for label, text in zip(("neg", "pos"), texts):
            (folder / "reviews" / "aclImdb" / split / label).mkdir(parents=True)
            (folder / "reviews" / "aclImdb" / split / label / "1.txt").write_text(text)
    (folder / "tarred").mkdir()
    with tarfile.open(folder / "tarred" / "aclImdb_v1.tar.gz", "w:gz") as archive:
        archive.add(folder / "reviews" / "aclImdb", "aclImdb")


def write_corruptions(folder):
    """Two images of two of CIFAR-10-C's corruptions."""
    folder.mkdir()
    np.save(folder / "labels.npy", np.tile([0, 1], 5))
    np.save(folder / "fog.npy", np.zeros((10, 8, 8, 3), np.uint8))


def write_older(path):
    """Statistics as the older repositories pickled them."""
    row = {"golden_label": 1, "original_loss": 0.5, "original_pred": True, "after_perturb_loss": np.float32(0.7)}
    content = {step: {index: dict(row) for index in range(3)} for step in (1, 2)}
    with open(path, "wb") as file:
        np.lib.format.write_array(file, np.array(content, dtype=object), allow_pickle=True)
    path.with_suffix(".pkl").write_bytes(pickle.dumps(content))


def write_models(folder):
    """Model folders: one of ours, classifiers of images and texts, one in several files, one that fills masks."""
    import torch
    from transformers import BertForSequenceClassification

    from robust_data import models
    from robust_data.train.resume import RunState
    from robust_data.train.saved_models import save_model

    torch.manual_seed(0)
    save_model(folder / "ours", models.build("small_cnn", 2), RUN, ["cat", "dog"], {"training labels": "0"})
    save_model(folder / "four", models.build("small_cnn", 4), RUN)
    save_vit(folder / "vit")
    save_bert(folder / "bert")
    save_masked_lm(folder / "masked")
    shutil.copytree(folder / "bert", folder / "sharded")
    (folder / "sharded" / "model.safetensors").unlink()
    bert = BertForSequenceClassification.from_pretrained(folder / "bert")
    bert.save_pretrained(folder / "sharded", max_shard_size="20KB")
    RunState(folder / "run.state", {"lr": 0.1}).save({"step": 3, "rows": 2, "weights": {"a": torch.zeros(3)}})
    shutil.copy(folder / "statistics.npy", folder / "rest.npy.partial")


def write_judged(folder, seed):
    """What evaluate_robustness.py leaves of a model judged clean and under one blur."""
    folder.mkdir(parents=True)
    right, index = np.random.default_rng(seed).random((2, 8)) < 0.6, np.arange(8)
    kinds = [("clean", "clean", None), ("perturbation", "blur", 3)]
    of_all = {"norm": None, "eps": None, "instances": 8, "steps": None}
    rows = [
        {"kind": kind, "name": name, "severity": severity, "condition": name, "accuracy": accuracy, **of_all}
        for (kind, name, severity), accuracy in zip(kinds, right.mean(axis=1))
    ]
    hashes = {"index_sha256": labels_hash(index), "labels_sha256": labels_hash(index % 2)}
    report = {
        "model_name": "small_cnn",
        "results": rows,
        "arguments": {"seed": 42, "restarts": 1, "attack_loss": ["ce", "turned", "hidden"]},
        **hashes,
    }
    (folder / "robustness_small_cnn.json").write_text(json.dumps(report))
    found = {"right": right, "margin": np.where(right, 1, -1).astype(np.float32), "conditions": ["clean", "blur"]}
    np.savez(folder / "robustness_small_cnn.npz", index=index, label=index % 2, **found)
