"""Texts pass through a model grouped by length in training; losses and gradients stay those of the whole batch."""

import pytest
import torch
from text_models import save_bert, save_family, write_sst2

from robust_data import datasets, losses, models, perturbations
from robust_data.fine_tune.adversarial import AdversarialTrainer
from robust_data.settings import Training
from robust_data.train.by_length import parts_by_length
from robust_data.train.training import Trainer, cross_entropy


def flooding(logits, labels, index):
    return losses.flooding(cross_entropy(logits, labels, index), index % 3 == 0, 0.6, 0.5)


def soft_label(logits, labels, index):
    return losses.soft_label(logits, labels, index % 3 == 0, 0.8, 0.5)


def batch_flooding(logits, labels, index):
    """As Ishida et al. flood: the mean over the batch, which no part of it knows."""
    values = cross_entropy(logits, labels, index)
    return ((values.mean() - 0.7).abs() + 0.7).expand(len(values))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_sst2(tmp_path_factory.mktemp("texts"))


def text_trainer(folder, model, kind=Trainer, **more):
    """A trainer of a saved model, its dropout off, and a batch of 32 texts of SST-2."""
    texts = datasets.load("glue", task_name="sst2", data_dir=folder, tokenizer=model)
    torch.manual_seed(0)
    model = models.build(model, 2, modality="text")
    trainer = kind(model, texts, Training(), torch.device("cpu"), **more)
    model.eval()
    return trainer, next(texts.batches([torch.arange(32)], "cpu"))


def whole(model, batch, minimised):
    """Logits, losses and gradients of the batch, shown to the model at once."""
    logits = model(batch.inputs)
    values = minimised(logits, batch.labels, batch.index)
    return logits, values, torch.autograd.grad(values.mean(), list(model.parameters()))


@pytest.mark.parametrize("minimised", [cross_entropy, flooding, soft_label, batch_flooding])
@pytest.mark.parametrize("family", ["bert", "gpt2", "fnet"])  # padded behind, before, and not at all
def test_a_batch_and_its_gradient_stay_what_they_were(minimised, family, folder, tmp_path):
    trainer, batch = text_trainer(folder, str(save_family(tmp_path / family, family)), losses=minimised)
    expected = whole(trainer.model, batch, minimised)
    logits, values = trainer.gradients(batch, counted=32, batch_size=32)
    torch.testing.assert_close((logits, values), expected[:2], atol=1e-5, rtol=1e-5)
    for parameter, gradient in zip(trainer.model.parameters(), expected[2], strict=True):
        torch.testing.assert_close(parameter.grad, gradient, atol=1e-6, rtol=1e-4)


def test_adversarial_training_moves_words_as_in_the_whole_batch(folder, tmp_path):
    bert = save_bert(tmp_path / "bert")
    options = perturbations.PgdOptions(steps=2, lr=0.1, init_mag=0.05)
    gradients = []
    for by_length in (True, False):
        trainer, batch = text_trainer(folder, bert, AdversarialTrainer, pgd_options=options)
        if not by_length:
            trainer._parallel = trainer.model
        trainer.gradients(batch, counted=32, batch_size=32)
        gradients.append([parameter.grad for parameter in trainer.model.parameters()])
    torch.testing.assert_close(*gradients, atol=1e-6, rtol=1e-4)


def test_the_same_command_gives_the_same_bytes_with_dropout(folder, tmp_path):
    bert = save_bert(tmp_path / "bert")
    weights = []
    for _ in range(2):
        trainer, _ = text_trainer(folder, bert)
        trainer.train_until(3)
        weights.append(list(trainer.model.state_dict().values()))
    assert all(map(torch.equal, *weights))


def test_parts_hold_every_row_once_and_pad_little():
    lengths = torch.tensor([30, 5, 31, 5, 6, 5, 60, 5, 6, 5])
    parts = parts_by_length(lengths, cost=8)
    assert sorted(torch.cat(parts).tolist()) == list(range(10))
    assert [lengths[rows].tolist() for rows in parts] == [[5, 5, 5, 5, 5, 6, 6], [30, 31], [60]]


def test_a_part_that_costs_more_than_padding_is_not_made():
    assert len(parts_by_length(torch.tensor([5, 9, 7]), cost=7)) == 1
    assert len(parts_by_length(torch.tensor([5, 9, 7]), cost=3)) == 2


def test_batch_norm_sees_the_whole_batch(folder, tmp_path):
    trainer, batch = text_trainer(folder, save_bert(tmp_path / "bert"))
    model = trainer.model
    model.backbone.classifier = torch.nn.Sequential(model.backbone.classifier, torch.nn.BatchNorm1d(2))
    trainer = Trainer(model, trainer.dataset, Training(), torch.device("cpu"))
    shown = []
    model.backbone.classifier[1].register_forward_hook(lambda module, given, found: shown.append(len(given[0])))
    trainer.gradients(batch, counted=32, batch_size=32)
    assert shown == [32]
