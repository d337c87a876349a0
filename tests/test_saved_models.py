"""Saved models: a folder gives the same model again, or one line that says why not."""

import json

import pytest
import torch
from conftest import refuses, save_vit

from robust_data import models
from robust_data.train.saved_models import save_model

IMAGES = {"pixel_values": torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))}
ARGUMENTS = {"model_name": "any", "lr": 0.1}
LABEL_NAMES = ["cat", "dog", "eel"]


def logits_of(model):
    with torch.no_grad():
        return model.eval()(IMAGES)


@pytest.fixture
def hub_folder(tmp_path):
    """What a downloaded image classifier looks like: two classes, no mark of ours."""
    return save_vit(tmp_path / "hub")


@pytest.fixture
def saved(tmp_path):
    return save_model(tmp_path / "model", models.build("small_cnn", 3), ARGUMENTS, LABEL_NAMES)


@pytest.mark.parametrize("name, keep_stem", [("small_cnn", False), ("resnet18", False), ("resnet18", True)])
def test_a_saved_model_is_the_same_again(tmp_path, name, keep_stem):
    model = models.build(name, 3, image_size=(16, 16), keep_stem=keep_stem)
    model.train()(IMAGES)  # so that the running means have moved
    folder = save_model(tmp_path / "model", model, ARGUMENTS, LABEL_NAMES)
    assert sorted(path.name for path in folder.iterdir()) == ["args.json", "config.json", "model.safetensors"]
    assert json.loads((folder / "args.json").read_text())["arguments"] == ARGUMENTS
    again = models.build(str(folder), 3, image_size=(16, 16))
    assert torch.equal(logits_of(again), logits_of(model)) and again.pretrained
    twice = models.build(str(save_model(folder, again, ARGUMENTS)), 3, image_size=(16, 16))
    assert torch.equal(logits_of(twice), logits_of(model))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_hugging_face_model_loads_here_and_there(tmp_path, hub_folder):
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    model = models.build(str(hub_folder), 3, image_size=(16, 16))
    folder = save_model(tmp_path / "model", model, ARGUMENTS, LABEL_NAMES)
    assert torch.equal(logits_of(models.build(str(folder), 3, image_size=(16, 16))), logits_of(model))
    elsewhere = AutoModelForImageClassification.from_pretrained(folder)
    assert elsewhere.config.id2label == dict(enumerate(LABEL_NAMES))
    assert AutoImageProcessor.from_pretrained(folder).size["height"] == 16
    with refuses("--model_name"):
        models.build(str(folder), 5)
    again = save_model(folder, models.build(str(folder), 3), ARGUMENTS)
    assert torch.equal(logits_of(models.build(str(again), 3)), logits_of(model))


def test_pretrained_0_takes_the_architecture_alone(saved):
    torch.manual_seed(7)
    fresh = models.build(str(saved), 3, pretrained=False)
    torch.manual_seed(7)
    assert torch.equal(logits_of(fresh), logits_of(models.build("small_cnn", 3)))


def test_another_class_count(saved):
    with refuses("--model_name"):
        models.build(str(saved), 10)


def truncate(path, length):
    path.write_bytes(path.read_bytes()[:length])


DAMAGES = {
    "no config": lambda folder: (folder / "config.json").unlink(),
    "no weights": lambda folder: (folder / "model.safetensors").unlink(),
    "half a config": lambda folder: truncate(folder / "config.json", 1),
    "half a header": lambda folder: truncate(folder / "model.safetensors", 200),
    "a byte too few": lambda folder: truncate(folder / "model.safetensors", -1),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_folder_is_refused(saved, damage):
    DAMAGES[damage](saved)
    with refuses(str(saved)):
        models.build(str(saved), 3)


def test_weights_of_another_architecture_are_refused(saved):
    config = (saved / "config.json").read_bytes()
    save_model(saved, models.build("resnet20", 3), {})
    (saved / "config.json").write_bytes(config)
    with refuses(str(saved)):
        models.build(str(saved), 3)


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "thesis.tex").write_text("years of work")
    with refuses(str(tmp_path)):
        save_model(tmp_path / "model", models.build("small_cnn", 3), ARGUMENTS)
    assert (tmp_path / "model" / "thesis.tex").exists()


def test_a_failed_save_leaves_the_old_model(saved, monkeypatch):
    model = models.build("small_cnn", 3)
    monkeypatch.setattr(
        "robust_data.train.saved_models.os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "disk full"))
    )
    before = (saved / "model.safetensors").read_bytes()
    with refuses(str(saved)):
        save_model(saved, model, ARGUMENTS)
    assert (saved / "model.safetensors").read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == ["model"]
