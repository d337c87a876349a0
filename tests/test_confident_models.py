"""Multiplying a classifier's logits changes no prediction, so it must not make the model look robust."""

import numpy as np
import pytest
import text_models
import torch
from torch import nn

from robust_data import datasets, models, perturbations
from robust_data.collection import collect
from robust_data.evaluation import evaluate, evaluate_perturbed
from robust_data.perturbations import PgdOptions
from robust_data.settings import Training
from robust_data.train.training import Trainer

SCALES = (10, 30, 100, 1000)
ATTACKS = {
    "fgsm": ("fgsm", 5, PgdOptions()),
    "pgd, linf": ("pgd", 1, PgdOptions(10, 4 / 255, 16 / 255, 16 / 255, "linf", sign=True)),
    "pgd, l2": ("pgd", 1, PgdOptions(10, 0.25, 0.1, 1.0, "l2")),
}


@pytest.fixture(scope="module")
def digits():
    """A trained network and the test images."""
    train_set = datasets.load("digits")
    torch.manual_seed(0)
    model = models.build("small_cnn", 10, image_size=train_set.image_size)
    trainer = Trainer(model, train_set, Training(epochs=3, lr=5e-3), torch.device("cpu"))
    trainer.train_until(trainer.total_steps)
    return model, datasets.load("digits", "test")


class Scaled(nn.Module):
    """A model's logits, times a constant."""

    def __init__(self, model, scale):
        super().__init__()
        self.model, self.scale = model, scale

    def forward(self, inputs):
        return self.scale * self.model(inputs)

    def embed(self, inputs):
        return self.model.embed(inputs)


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_confident_model_is_as_easy_to_attack(digits, attack):
    model, test_set = digits
    name, severity, options = ATTACKS[attack]

    def accuracy(scale):
        judged = Scaled(model, scale)
        return evaluate_perturbed(judged, test_set, name, severity, pgd_options=options, worst=True)["accuracy"]

    usual = accuracy(1)
    assert usual < 0.5 * evaluate(model, test_set)["accuracy"]
    for scale in SCALES:
        assert accuracy(scale) == pytest.approx(usual, abs=0.04)


def test_perturbations_of_images_are_as_long_on_a_confident_model(digits):
    model, test_set = digits
    lengths = [collect(Scaled(model, scale), test_set, ["pgd"])["pgd"]["delta_norm"].mean() for scale in (1, *SCALES)]
    assert lengths == pytest.approx([lengths[0]] * len(lengths), rel=0.02)
    assert lengths[0] > 0.12  # five steps of 0.03 from within 0.05


def test_perturbations_of_texts_are_as_long_on_a_confident_model(tmp_path):
    text_models.save_bert(tmp_path / "bert")
    text_models.write_sst2(tmp_path / "data")
    dataset = datasets.load("glue", data_dir=tmp_path / "data", task_name="sst2", tokenizer=str(tmp_path / "bert"))
    torch.manual_seed(0)
    model = models.build(str(tmp_path / "bert"), 2, modality="text").eval()
    recorded = {scale: collect(Scaled(model, scale), dataset, ["pgd"])["pgd"] for scale in (1, *SCALES)}
    for scale in SCALES:
        assert np.allclose(recorded[scale]["delta_norm"], recorded[1]["delta_norm"], rtol=0.05)
        assert np.mean(recorded[scale]["after_perturb_pred"] == recorded[1]["after_perturb_pred"]) > 0.95


def test_what_an_attack_climbs_has_the_direction_of_cross_entropy():
    logits = torch.tensor([[2.0, -1.0, 0.5], [0.1, 0.2, 3.0]], requires_grad=True)
    labels = torch.tensor([0, 1])
    (ours,) = torch.autograd.grad(perturbations.ascent_losses(logits, labels).sum(), logits)
    (theirs,) = torch.autograd.grad(nn.functional.cross_entropy(logits, labels, reduction="sum"), logits)
    assert torch.allclose(nn.functional.cosine_similarity(ours, theirs), torch.ones(2), atol=1e-6)


def test_a_lead_that_float32_cannot_tell_from_certainty_still_has_a_direction():
    logits = torch.tensor([[2000.0, 1500.0, 1499.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(perturbations.ascent_losses(logits, torch.tensor([0])).sum(), logits)
    assert gradient[0, 0] < 0 < gradient[0, 2] < gradient[0, 1]
