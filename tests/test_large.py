"""What makes room for a large model changes what it computes by rounding alone."""

import numpy as np
import pytest
import torch
from conftest import save_vit
from text_models import save_bert

from robust_data import records
from robust_data.collect.job import collect
from robust_data.settings import Collect, Collection, Data, Model, Perturbed, Pgd, Run, Training, together
from robust_data.train import building

SHORT = (Training(epochs=1, bsz=8, lr=0.01, optimizer="sgd"), Collection(), Pgd(adv_steps=2))


@pytest.fixture(scope="module", params=["images", "texts"])
def parts(request, tmp_path_factory, few_digits, sst2):
    """The settings of a short run on images, or on texts, of a transformer of two blocks, without dropout."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "images":
        model = save_vit(folder, num_hidden_layers=2, hidden_dropout_prob=0.0, num_labels=4)
        data = Data(dataset_name="npz", data_dir=str(few_digits))
        return data, Model(model_name=str(model)), Perturbed(perturbations=["contrast", "pgd"]), *SHORT
    none = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model = save_bert(folder, num_hidden_layers=2, **none)
    data = Data(dataset_name="glue", task_name="sst2", data_dir=str(sst2))
    return data, Model(model_name=model), Perturbed(perturbations=["char_swap", "pgd"]), *SHORT


def recorded(parts, folder, **options):
    return [records.load(path)[0] for path in collect(*parts, Run(output_dir=str(folder), **options))]


@pytest.mark.parametrize(
    "options, allowed",
    [
        ({"checkpoint_activations": 1}, 1e-5),
        pytest.param({"compile": 1}, 1e-4, marks=pytest.mark.slow),
        ({"precision": "bf16_weights"}, 0.3),
    ],
)
def test_the_records_are_those_of_the_model_as_it_is(parts, options, allowed, tmp_path):
    expected = recorded(parts, tmp_path / "plain")
    for one, other in zip(expected, recorded(parts, tmp_path / "changed", **options)):
        for name in ("original_loss", "after_perturb_loss"):
            assert np.abs(one[name] - other[name]).max() < allowed
        # There was something to train.
        assert np.abs(one["original_loss"][0] - one["original_loss"][-1]).max() > 10 * 1e-4


def kept_bytes(model, batch):
    """What a pass forward keeps for the pass backward, beside the weights."""
    weights, kept = {weight.data_ptr() for weight in model.parameters()}, []

    def keep(tensor):
        if tensor.data_ptr() not in weights:
            kept.append(tensor.nbytes)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(batch.inputs)
    return sum(kept)


def test_a_block_keeps_its_inputs_alone_also_in_an_attack(parts):
    data, model, *_ = parts
    dataset = building.load_split(data, model.model_name, 0, "train")
    (batch,) = dataset.batches([torch.arange(8)], "cpu")
    sizes = []
    for switch in (0, 1):
        settings = together(Collect, data, model, Run(checkpoint_activations=switch))
        built = building.build_model(settings, dataset, 0, torch.device("cpu"))
        sizes.append(kept_bytes(built.eval(), batch))
    assert sizes[1] < sizes[0] / 2
