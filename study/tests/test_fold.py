"""What a fold is measured by: leads along another model's ascent, cosines, and leads at the flood level."""

import json

import numpy as np
import pytest
import torch

from robust_data import models, records
from robust_data.study import drawing, fold
from robust_data.train.saved_models import save_model

BRIGHT = np.arange(40) % 2


@pytest.fixture
def trained(tmp_path):
    """Saves a net that tells dark from bright images by a lead of `scale` times their brightness."""

    def save(name, scale):
        net = models.build("small_cnn", 2)
        with torch.no_grad():
            torch.manual_seed(0)
            for weight in net.parameters():
                weight.copy_(torch.randn_like(weight) * 0.3)
            *_, last = net.parameters()
            *_, head, _ = net.parameters()
            head.mul_(scale), last.zero_()
        save_model(tmp_path / name, net, {}, ["dark", "bright"])
        return tmp_path / name

    return save


@pytest.fixture
def look(tmp_path):
    """Runs the script on a model beside another; what it wrote."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)
    np.savez(tmp_path / "images.npz", images=pixels, labels=BRIGHT, test_images=pixels, test_labels=BRIGHT)
    rows = np.zeros((1, 40), records.DTYPE)
    rows["index"], rows["golden_label"] = np.arange(40), BRIGHT
    rows["after_perturb_loss"], rows["global_step"] = np.arange(40), 1
    np.save(tmp_path / "statistics.npy", rows)

    def run(model, plain):
        given = (
            f"--model_name {model} --plain {plain} --statistics_source {tmp_path}/statistics.npy --b 0.2 --reach 0.5"
        )
        given += f" --dataset_name npz --data_dir {tmp_path}/images.npz --output_dir {tmp_path}/out"
        fold.main(fold.build_parser().parse_args(given.split()))
        return json.loads((tmp_path / "out" / "fold.json").read_text())

    return run


def test_a_model_has_no_fold_beside_itself(trained, look):
    plain = trained("plain", 1.0)
    found = look(plain, plain)
    leads = [value for name, value in found.items() if "lead at" in name]
    assert len(leads) == 5 and leads == sorted(leads, reverse=True)
    assert found["fold: cosine"] == pytest.approx(1) and found["fold: gradient length over plain's"] == pytest.approx(1)


def test_a_steeper_model_has_a_longer_gradient_of_the_same_direction(trained, look):
    found = look(trained("steep", 3.0), trained("plain", 1.0))
    assert found["fold: cosine"] == pytest.approx(1, abs=1e-3)
    assert found["fold: gradient length over plain's"] == pytest.approx(3, rel=1e-3)


def test_the_way_is_drawn_for_every_arm():
    columns = {"lead at -0.50": np.array([1.0, 2.0]), "lead at +0.50": np.array([0.0, 1.0]), "cosine": np.ones(2)}
    figure = drawing.draw_folds({"images": {"plain": columns, "flood_robust": columns}})
    (panel,) = figure.axes
    assert [text.get_text() for text in panel.get_legend().get_texts()] == ["plain", "flood_robust"]
