"""A LoRA fine-tuning: what it trains, what it keeps, and that the base is stored once."""

import copy
import json

import numpy as np
import pytest
import torch
from conftest import save_vit
from safetensors.torch import load_file
from text_models import save_bert

from robust_data import models, records
from robust_data.collect.job import collect
from robust_data.registry import InputError
from robust_data.settings import Collect, Collection, Data, Model, Perturbed, Run, Training, together
from robust_data.train import building, saved_models
from robust_data.train.training import Trainer

pytest.importorskip("peft")


@pytest.fixture(scope="module", params=["images", "texts"])
def job(request, tmp_path_factory, few_digits, sst2):
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "images":
        data = Data(dataset_name="npz", data_dir=str(few_digits))
        name = str(save_vit(folder, hidden_dropout_prob=0.0, num_labels=4))
    else:
        data, name = Data(dataset_name="glue", task_name="sst2", data_dir=str(sst2)), save_bert(folder)
    training = Training(epochs=2, bsz=8, lr=0.05, optimizer="sgd", weight_decay=0.0)
    model = Model(model_name=name, lora_rank=2)
    return together(Collect, data, model, training, Perturbed(perturbations=["pgd"]), Collection())


def trainer_of(job, train_set):
    model = building.build_model(job, train_set, 0, torch.device("cpu"))
    return Trainer(model, train_set, job, torch.device("cpu"))


@pytest.fixture(scope="module")
def trained(job):
    train_set = building.load_split(job, job.model_name, 0, "train")
    trainer = trainer_of(job, train_set)
    trainer.train_until(3)
    return trainer, train_set


def test_a_saved_adapter_is_the_model_again_and_holds_no_weight_of_the_base(job, trained, tmp_path):
    trainer, train_set = trained
    folder = saved_models.save_model(tmp_path / "model", trainer.model, {}, train_set.label_names)
    (batch,) = train_set.batches([torch.arange(8)], "cpu")
    again = models.build(
        str(folder), len(train_set.label_names), modality=train_set.modality, image_size=train_set.image_size
    )
    base = models.build(
        job.model_name, len(train_set.label_names), modality=train_set.modality, image_size=train_set.image_size
    )
    expected, found, before = (model.eval()(batch.inputs) for model in (trainer.model, again, base))
    assert torch.allclose(expected, found, atol=1e-5) and not torch.allclose(expected, before, atol=1e-2)
    kept = load_file(folder / "adapter.safetensors")
    assert all("lora_" in name or name.startswith("classifier") for name in kept)
    assert not (folder / "model.safetensors").exists()


def test_a_run_goes_on_from_a_state_without_the_base(job, trained):
    trainer, train_set = trained
    state = copy.deepcopy(trainer.state())
    assert all("lora_" in name or "classifier" in name for name in state["model"])
    other = trainer_of(job, train_set)
    other.load_state(state)
    for one in (trainer, other):
        one.train_until(5)
    for one, two in zip(trainer.model.state_dict().values(), other.model.state_dict().values()):
        assert torch.equal(one, two)


def test_an_adapter_of_another_base_is_refused(job, trained, tmp_path):
    trainer, train_set = trained
    folder = saved_models.save_model(tmp_path / "model", trainer.model, {}, train_set.label_names)
    described = json.loads((folder / "config.json").read_text())
    described["robust_data"]["lora"]["sha256"] = "0"
    (folder / "config.json").write_text(json.dumps(described))
    with pytest.raises(InputError, match="other weights"):
        models.build(
            str(folder), len(train_set.label_names), modality=train_set.modality, image_size=train_set.image_size
        )


def test_statistics_of_a_lora_fine_tuning(job, tmp_path):
    (path,) = collect(job, Run(output_dir=str(tmp_path), precision="bf16_weights"))
    rows, _ = records.load(path)
    assert np.abs(rows["original_loss"][0] - rows["original_loss"][-1]).max() > 1e-3
