"""A batch that is passed in parts gives what it gives at once, whatever made it so: an option, or too little memory."""

import numpy as np
import pytest
import torch
from conftest import save_vit

from robust_data import datasets, models
from robust_data.collection import collect
from robust_data.evaluation import evaluate_perturbed
from robust_data.fine_tune.adversarial import AdversarialTrainer, ChosenTrainer
from robust_data.fine_tune.methods import Flooding, SoftLabels
from robust_data.fine_tune.objective import Objective
from robust_data.perturbations import PgdOptions
from robust_data.settings import Training

PGD = PgdOptions(steps=2, lr=0.5)


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    return str(save_vit(tmp_path_factory.mktemp("vit"), hidden_dropout_prob=0.0, num_labels=4))


def built(vit, images, limit=None):
    """The model; limit: with more rows than that it raises what an allocator does."""
    model = models.build(vit, 4, image_size=images.image_size)

    def allocate(_, inputs):
        if limit is not None and len(inputs[0]["pixel_values"]) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate too much")

    model.register_forward_pre_hook(allocate)
    return model


def trained(vit, images, method, kind=ChosenTrainer, limit=None, **options):
    """The weights after an epoch, and the figures of the objective."""
    chosen = torch.arange(int(images.index.max()) + 1) % 2 == 0
    objective = Objective(method, chosen)
    settings = Training(epochs=1, bsz=16, lr=0.01, optimizer="sgd", **options)
    trainer = kind(built(vit, images, limit), images, settings, torch.device("cpu"), objective, pgd_options=PGD)
    trainer.train_until(trainer.total_steps)
    return [weight.detach() for weight in trainer.model.parameters()], objective.end_epoch()


@pytest.mark.parametrize("how", [{"accumulate": 3}, {"limit": 5}], ids=["given", "too little memory"])
@pytest.mark.parametrize(
    "method, kind",
    [
        (Flooding(b=1.4), ChosenTrainer),
        (Flooding(b=1.4, flooding="batch"), ChosenTrainer),
        (SoftLabels(), ChosenTrainer),
        (SoftLabels(), AdversarialTrainer),
    ],
)
def test_the_gradient_is_that_of_the_whole_batch(vit, training_set, method, kind, how):
    whole, figures = trained(vit, training_set, method, kind)
    parts, same_figures = trained(vit, training_set, method, kind, **how)
    for one, other in zip(whole, parts):
        assert torch.allclose(one, other, atol=1e-6)
    assert same_figures == pytest.approx(figures)


def test_collection_and_attacks_go_on_with_as_many_instances_as_fit(vit, training_set):
    whole, small = built(vit, training_set), built(vit, training_set, limit=7)
    records = [collect(model, training_set, ["contrast", "pgd"], pgd_options=PGD) for model in (whole, small)]
    for name, expected in records[0].items():
        for field in expected.dtype.names:
            assert np.allclose(expected[field], records[1][name][field], atol=1e-5), field
    judged = [evaluate_perturbed(model, training_set, "pgd", pgd_options=PGD, worst=True) for model in (whole, small)]
    assert judged[0] == pytest.approx(judged[1])


def test_texts_are_cut_with_all_that_belongs_to_them(bert, sst2):
    texts = datasets.load("glue", task_name="sst2", data_dir=sst2, tokenizer=bert)
    model = models.build(bert, 2, modality="text")
    expected = collect(model, texts, ["char_swap", "pgd"])

    def allocate(_, inputs):
        if len(inputs[0]["input_ids"]) > 3:
            raise torch.OutOfMemoryError("out of memory")

    model.register_forward_pre_hook(allocate)
    for name, rows in collect(model, texts, ["char_swap", "pgd"]).items():
        assert np.allclose(rows["after_perturb_loss"], expected[name]["after_perturb_loss"], atol=1e-5)


def test_an_instance_that_does_not_fit_ends_the_run(vit, training_set):
    with pytest.raises(torch.OutOfMemoryError):
        collect(built(vit, training_set, limit=0), training_set, ["contrast"])
