"""Collecting one checkpoint: what is recorded, and what must not change."""

import numpy as np
import pytest
import torch
from conftest import refuses

from robust_data import datasets, models
from robust_data.collection import Draws, collect, collect_all, input_gradients


@pytest.fixture(scope="module")
def digits():
    return datasets.load("digits", dataset_len=50, seed=1)


@pytest.fixture(scope="module")
def model(digits):
    torch.manual_seed(0)
    return models.build("small_cnn", 10, image_size=digits.image_size)


def test_identity_has_a_loss_difference_of_exactly_zero(model, digits):
    records = collect(model, digits, ["identity"])["identity"]
    for measured in ("loss", "logit", "probability", "class", "pred", "margin"):
        assert np.array_equal(records[f"original_{measured}"], records[f"after_perturb_{measured}"])
    assert (records["delta_norm"] == 0).all()


def test_fields_agree_with_values_computed_one_instance_at_a_time(model, digits):
    records = collect(model, digits, ["red_shift"], severity=5, global_step=7)["red_shift"]
    model.eval()
    for row, batch in zip(records, digits.batches(torch.arange(len(digits)).split(1), "cpu")):
        clean = batch.inputs["pixel_values"]
        red = clean.clone()
        red[:, 0] = (red[:, 0] + 64 / 255).clamp(max=1)
        golden = int(batch.labels)
        for prefix, images in (("original", clean), ("after_perturb", red)):
            with torch.no_grad():
                logits = model({"pixel_values": images})[0]
            probabilities = logits.softmax(0)
            others = [float(logit) for label, logit in enumerate(logits) if label != golden]
            assert row[f"{prefix}_loss"] == pytest.approx(-float(probabilities[golden].log()), abs=1e-4)
            assert row[f"{prefix}_pred"] == (int(logits.argmax()) == golden)
            assert row[f"{prefix}_class"] == int(logits.argmax())
            assert row[f"{prefix}_logit"] == pytest.approx(float(logits[golden]), abs=1e-4)
            assert row[f"{prefix}_probability"] == pytest.approx(float(probabilities[golden]), abs=1e-5)
            assert row[f"{prefix}_margin"] == pytest.approx(float(logits[golden]) - max(others), abs=1e-4)
        with torch.no_grad():
            error = model({"pixel_values": clean})[0].softmax(0)
        error = error - torch.nn.functional.one_hot(torch.tensor(golden), 10)
        assert row["original_el2n"] == pytest.approx(float(error.norm()), abs=1e-4)
        assert row["delta_norm"] == pytest.approx(float((red - clean).norm()), abs=1e-4)
        assert (row["global_step"], row["index"], row["golden_label"]) == (7, int(batch.index), golden)


def test_the_model_is_left_as_it_was(model, digits):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.train()
    model.backbone[1].eval()
    collect(model, digits, ["blur", "pgd"])
    assert model.training and not model.backbone[1].training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_one_clean_pass_serves_all_perturbations(model, digits):
    passes = []
    handle = model.register_forward_hook(lambda *_: passes.append(1))
    together = collect(model, digits, ["blur", "rotate", "gaussian_noise"])
    handle.remove()
    assert len(passes) == 4
    for name, records in together.items():
        assert np.array_equal(records, collect(model, digits, [name])[name])


def test_conditions_come_one_after_another_in_one_array(model, digits):
    conditions = {name: (name, Draws()) for name in ("blur", "rotate")}
    arrays = {key: (rows, rows.copy()) for key, rows in collect_all(model, digits, conditions)}
    assert arrays["blur"][0] is arrays["rotate"][0]
    assert not np.array_equal(arrays["blur"][1], arrays["rotate"][1])


def test_the_draw_of_an_instance_does_not_depend_on_its_batch_or_its_neighbours(model, digits):
    whole = collect(model, digits, ["shot_noise"], seed=3, batch_size=50)["shot_noise"]
    small = collect(model, digits, ["shot_noise"], seed=3, batch_size=7)["shot_noise"]
    assert np.allclose(whole["delta_norm"], small["delta_norm"], rtol=1e-5)
    part = collect(model, digits.subset(torch.arange(0, 50, 3)), ["shot_noise"], seed=3)["shot_noise"]
    assert np.array_equal(part["index"], whole["index"][::3])
    assert np.allclose(part["after_perturb_loss"], whole["after_perturb_loss"][::3], atol=1e-5)


def test_another_draw_is_another_noise(model, digits):
    first = collect(model, digits, ["gaussian_noise"], draw=0)["gaussian_noise"]
    second = collect(model, digits, ["gaussian_noise"], draw=1)["gaussian_noise"]
    assert not np.array_equal(first["after_perturb_loss"], second["after_perturb_loss"])
    assert np.array_equal(first["original_loss"], second["original_loss"])


def test_use_cur_preds_measures_against_the_models_own_clean_prediction(model, digits):
    own = collect(model, digits, ["blur"], use_cur_preds=True)["blur"]
    golden = collect(model, digits, ["blur"])["blur"]
    wrong = ~own["original_pred"]
    assert wrong.any() and not wrong.all()
    assert (own["original_loss"][wrong] < golden["original_loss"][wrong]).all()
    assert np.array_equal(own["original_loss"][~wrong], golden["original_loss"][~wrong])
    # Only the losses are of the prediction: logit, probability, margin and el2n stay the golden label's.
    others = [field for field in own.dtype.names if not field.endswith("_loss")]
    assert np.array_equal(own[others], golden[others])


def test_pgd_raises_the_loss_of_almost_every_instance_within_its_bound(model, digits):
    from robust_data.perturbations import PgdOptions

    options = PgdOptions(steps=5, lr=0.2, init_mag=0.05, max_norm=0.5)
    records = collect(model, digits, ["pgd"], pgd_options=options)["pgd"]
    assert (records["after_perturb_loss"] > records["original_loss"]).mean() > 0.9
    assert records["delta_norm"].max() <= 0.5 + 1e-5


def test_bfloat16_stays_near_full_precision_and_losses_are_not_rounded_to_it(model, digits):
    full = collect(model, digits, ["identity"])["identity"]
    coarse = collect(model, digits, ["identity"], precision="bf16")["identity"]
    assert np.allclose(full["original_loss"], coarse["original_loss"], atol=0.05)
    assert len(np.unique(coarse["original_loss"])) > 40


def test_an_unknown_perturbation_is_refused_with_the_nearest_names(model, digits):
    with refuses("blurr"):
        collect(model, digits, ["blurr"])


def by_hand(model, batch):
    """The norm of the gradient of cross-entropy by autograd alone, an instance at a time."""
    norms = []
    for image, label in zip(batch.inputs["pixel_values"], batch.labels):
        image = image[None].clone().requires_grad_()
        torch.nn.functional.cross_entropy(model({"pixel_values": image}), label[None]).backward()
        norms.append(float(image.grad.norm()))
    model.zero_grad()
    return norms


def test_the_input_gradient_is_that_of_the_clean_loss_and_changes_nothing_else(model, digits):
    recorded = collect(model, digits, ["blur", "identity", "pgd"], input_gradient=True)
    (batch,) = digits.batches([torch.arange(len(digits))], "cpu")
    expected = by_hand(model.eval(), batch)
    plain = collect(model, digits, ["blur", "identity", "pgd"])
    for name, rows in recorded.items():
        assert rows["original_input_gradient"] == pytest.approx(expected, rel=1e-4)
        assert np.array_equal(rows[list(plain[name].dtype.names)], plain[name])
    against_prediction = collect(model, digits, ["blur"], use_cur_preds=True, input_gradient=True)["blur"]
    assert np.array_equal(against_prediction["original_input_gradient"], recorded["blur"]["original_input_gradient"])


def test_the_input_gradient_takes_two_passes_however_many_perturbations(model, digits):
    passes = []
    handle = model.register_forward_hook(lambda *_: passes.append(torch.is_grad_enabled()))
    collect(model, digits, ["blur", "rotate", "gaussian_noise"], input_gradient=True)
    handle.remove()
    assert passes == [False, True, False, False, False]
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_input_gradient_of_a_confident_model_is_small_and_not_lost(digits):
    """By hand from a linear model, whose log odds against a class have a gradient of one length everywhere."""

    class Confident(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.tensor([2.0]))

        def forward(self, inputs):
            lead = 60 + self.weight * inputs["pixel_values"].flatten(1)[:, 0]
            return torch.stack([lead, torch.zeros_like(lead)], dim=1)

    batch = next(digits.batches([torch.arange(4)], "cpu"))
    batch.labels = torch.zeros(4, dtype=torch.int64)
    leads = 60 + 2 * batch.inputs["pixel_values"].flatten(1)[:, 0]
    expected = (2 / (1 + leads.double().exp())).tolist()
    assert input_gradients(Confident(), batch).tolist() == pytest.approx(expected, rel=1e-5) and min(expected) > 0
    batch.labels = torch.ones(4, dtype=torch.int64)
    assert input_gradients(Confident(), batch).tolist() == pytest.approx([2.0] * 4)
