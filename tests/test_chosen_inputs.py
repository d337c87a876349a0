"""Which instances a training attacks or perturbs, and what the others meet: images and texts alike."""

import pytest
import torch
from text_models import save_bert, write_sst2

from robust_data import datasets, models, perturbations
from robust_data.fine_tune.adversarial import ChosenTrainer
from robust_data.settings import Training
from robust_data.train.training import Trainer

SMALL = perturbations.PgdOptions(steps=2, lr=0.05, init_mag=0.02, max_norm=0.1, norm_type="linf")
# Every third instance is chosen.
CHOSEN = torch.arange(1000) % 3 == 0


@pytest.fixture(scope="module")
def images():
    return datasets.load("digits", dataset_len=40), lambda: models.build("small_cnn", 10, image_size=(8, 8))


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    bert, where = save_bert(folder / "bert"), write_sst2(folder)
    data = datasets.load("glue", task_name="sst2", data_dir=where, tokenizer=bert)
    return data, lambda: models.build(bert, 2, modality="text")


@pytest.fixture(params=["images", "texts"])
def kind(request):
    return request.param


@pytest.fixture
def trainer(request, kind):
    """A function that makes a trainer of the data of a kind; all start from the same weights."""
    data, build = request.getfixturevalue(kind)

    def make(cls=ChosenTrainer, **options):
        torch.manual_seed(0)
        options |= {} if cls is Trainer else {"chosen": CHOSEN}
        return cls(build(), data, Training(epochs=2, bsz=16), torch.device("cpu"), **options)

    return make


def batch_of(run, positions=None):
    positions = torch.arange(16) if positions is None else positions
    return next(iter(run.dataset.batches([positions], "cpu")))


def shown_in_training(run, batch):
    """What the model is shown for a batch in its one pass of training, and how many rows other passes have."""
    shown, attacked = [], []

    def look(model, inputs):
        (shown if model.training else attacked).append(inputs[0])

    run._parallel = run.model  # a text's batch is not cut into parts of a length
    run.model.train()
    run.model.register_forward_pre_hook(look)
    run.gradients(run.shown(batch, epoch=0), counted=len(batch), batch_size=len(batch))
    (inputs,) = shown
    return inputs, [len(next(iter(one.values()))) for one in attacked]


def test_the_chosen_are_attacked_and_the_others_clean_in_one_pass(trainer, kind):
    run = trainer(pgd_options=SMALL)
    batch = batch_of(run)
    inputs, attacked = shown_in_training(run, batch)
    chosen = CHOSEN[batch.index]
    # The attack's steps pass the chosen alone; before them a model of texts is tried out.
    assert attacked[-2:] == [int(chosen.sum())] * 2 and max(attacked) == chosen.sum()
    key = {"images": "pixel_values", "texts": "inputs_embeds"}[kind]
    clean = batch.inputs[key] if kind == "images" else run.model.embed(batch.inputs)
    moved = (inputs[key] - clean).detach().abs().flatten(1)
    assert (moved[~chosen] == 0).all() and (moved[chosen].amax(dim=1) > 0.01).all() and moved.max() < 0.1001
    if kind == "texts":
        assert (moved.reshape(*batch.changeable.shape, -1)[~batch.changeable] == 0).all()


def test_what_nobody_attacks_trains_as_plain(trainer):
    """An attack of next to no size, on embeddings too, leaves every gradient what it was."""
    gradients = []
    for options in ({"cls": Trainer}, {"pgd_options": perturbations.PgdOptions(steps=1, lr=1e-9, init_mag=0.0)}):
        run = trainer(**options)
        run.model.eval()
        run.gradients(batch_of(run), counted=16, batch_size=16)
        gradients.append([parameter.grad for parameter in run.model.parameters()])
    for plain, attacked in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, attacked, atol=1e-6, rtol=1e-4)


@pytest.fixture
def names(kind):
    return {"images": ("gaussian_noise", "contrast"), "texts": ("char_delete", "char_swap")}[kind]


def test_the_chosen_are_perturbed_by_draws_of_their_own(trainer, names, kind):
    run = trainer(perturbed_by=names)
    batch = batch_of(run)
    shown, again, later = (run.shown(batch, epoch) for epoch in (0, 0, 1))
    turned = run.shown(batch_of(run, torch.arange(15, -1, -1)), 0)
    key = {"images": "pixel_values", "texts": "input_ids"}[kind]
    rows = [tuple(values[values > 0].tolist()) for values in shown.inputs[key]]
    clean = [tuple(values[values > 0].tolist()) for values in batch.inputs[key]]
    changed = [one != other for one, other in zip(rows, clean)]
    chosen = CHOSEN[batch.index].tolist()
    assert not any(one and not ours for one, ours in zip(changed, chosen))
    assert sum(changed) >= sum(chosen) // 2
    assert rows == [tuple(values[values > 0].tolist()) for values in again.inputs[key]]
    assert rows == [tuple(values[values > 0].tolist()) for values in turned.inputs[key]][::-1]
    assert rows != [tuple(values[values > 0].tolist()) for values in later.inputs[key]]


def test_perturbed_and_then_attacked(trainer, names):
    run = trainer(perturbed_by=names, pgd_options=SMALL)
    batch = batch_of(run)
    inputs, attacked = shown_in_training(run, batch)
    assert len(attacked) >= 2 and len(next(iter(inputs.values()))) == len(batch)
