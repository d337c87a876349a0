"""What an attack climbs, on which model, at which temperature, and what is said where it stands still."""

import numpy as np
import processes
import pytest
import text_models
import torch
from conftest import table
from test_believable import Ridge, squares
from test_evaluate_robustness import ROOT, attack, report_of, trained
from torch import nn

from robust_data import datasets, models, perturbations
from robust_data.collection import collect
from robust_data.evaluation import evaluate_perturbed
from robust_data.judge import judge as judging
from robust_data.judge.conditions import CLEAN, AttackSettings
from robust_data.registry import warn_once
from robust_data.settings import Training
from robust_data.train.saved_models import save_model
from robust_data.train.training import Trainer


@pytest.fixture(scope="module")
def two_models():
    return trained(epochs=2), trained(epochs=2, seed=1)


@pytest.fixture(scope="module")
def test_set():
    dataset = datasets.load("digits", "test")
    return dataset.subset(torch.arange(0, len(dataset), 6))


@pytest.mark.parametrize("loss, expected", [("margin", -1.5), ("dlr", -1.5 / 3), ("ce", None)])
def test_losses_by_hand(loss, expected):
    logits = torch.tensor([[2.0, -1.0, 0.5]])
    (found,) = perturbations.ascent_losses(logits, torch.tensor([0]), loss).tolist()
    expected = np.logaddexp(-1.0, 0.5) - 2 if expected is None else expected
    assert found == pytest.approx(expected)
    (hotter,) = perturbations.ascent_losses(4 * logits, torch.tensor([0]), loss, temperature=4.0).tolist()
    assert hotter == pytest.approx(found)


@pytest.mark.parametrize("loss", ["margin", "dlr"])
def test_the_direction_does_not_depend_on_the_scale_of_the_logits(loss):
    directions = []
    for scale in (1, 30, 1000):
        logits = torch.tensor([[2.0, -1.0, 0.5]], requires_grad=True)
        (gradient,) = torch.autograd.grad(perturbations.ascent_losses(scale * logits, torch.tensor([0]), loss), logits)
        directions.append(gradient / gradient.norm())
    assert all(torch.allclose(direction, directions[0], atol=1e-5) for direction in directions)


def under(model, test_set, sources=(None,), **settings):
    condition = attack("pgd", 6 / 255)
    judge = judging.Judge(model, attack=AttackSettings(**{"steps": 4} | settings), sources=sources)
    return judge.judged(test_set, [condition])


def test_of_several_losses_the_worst_counts_instance_by_instance(two_models, test_set):
    alone = [under(two_models[0], test_set, losses=(loss,))[1] for loss in ("ce", "margin", "dlr")]
    (row,), together = under(two_models[0], test_set, losses=("ce", "margin", "dlr"))
    assert np.array_equal(together.right, np.logical_and.reduce([found.right for found in alone]))
    # One that is wrong after an attempt is left out of the next.
    least = np.minimum.reduce([found.margin for found in alone])
    assert np.allclose(together.margin[together.right], least[together.right], atol=1e-5)
    assert row["attack_loss"] == "ce+margin+dlr" and 0 < row["accuracy"] < 1


@pytest.mark.parametrize("loss, left", [("ce", 1.0), ("turned", 0.0), ("hidden", 0.0)])
def test_a_fold_stops_the_gradient_and_not_what_goes_against_it(loss, left):
    judge = judging.Judge(Ridge(), attack=AttackSettings(20, losses=(loss,)))
    (row,) = judge.rows(squares(), [attack("pgd", 0.45)])
    assert row["accuracy"] == left


def test_an_instance_counts_as_fooled_if_any_step_fooled_it(two_models, test_set):
    # Steps as long as the ball is wide jump to and fro.
    found = [under(two_models[0], test_set, step_size=0.1, steps=steps)[1] for steps in (1, 2, 3)]
    assert all((more.right <= fewer.right).all() for fewer, more in zip(found, found[1:]))


class Rounded(nn.Module):
    """A model whose gradient is 0, since its pixels are rounded."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, inputs):
        return self.model({"pixel_values": (inputs["pixel_values"] * 8).round() / 8})


@pytest.mark.parametrize("norm, eps", [("linf", 48 / 255), ("l2", 2.0)])
@pytest.mark.parametrize("name", ["square", "spsa"])
def test_a_search_without_gradients_fools_where_there_are_none(two_models, test_set, name, norm, eps, monkeypatch):
    moved = []
    monkeypatch.setattr(Rounded, "forward", seen(Rounded.forward, moved))
    judge = judging.Judge(Rounded(two_models[0]), attack=AttackSettings(5, queries=100))
    by_gradient, without = judge.rows(test_set, [attack("pgd", eps, norm), attack(name, eps, norm)])
    assert without["queries"] == 100 and without["accuracy"] < by_gradient["accuracy"]
    clean = test_set.images.float() / 255
    whole = [images for images in moved if len(images) == len(test_set)]
    order = {"linf": torch.inf, "l2": 2}[norm]
    lengths = [torch.linalg.vector_norm((images - clean).flatten(1), order, dim=1).max() for images in whole]
    assert 0.9 * eps < max(lengths) < eps * (1 + 1e-4)
    assert all(0 <= images.min() and images.max() <= 1 for images in moved)


def test_restarts_begin_all_over_an_l2_ball(two_models, test_set):
    images, started = test_set.images.float() / 255, []
    for options, draw in AttackSettings(0, 1.0, restarts=4).attempts(attack("pgd", 0.6, "l2")):
        how = {"options": options, "draw": draw}
        moved = perturbations.attack("pgd", 0.25 + images / 2, torch.sum, 3, test_set.index, **how)
        started.append((moved - 0.25 - images / 2).flatten(1).norm(dim=1).mean().item())
    assert started == pytest.approx([0.6 / 3**0.5, 0.2, 0.4, 0.6], abs=0.02)


@pytest.mark.parametrize("norm, eps", [("linf", 12 / 255), ("l2", 0.4)])
def test_apgd_is_as_strong_as_pgd(two_models, test_set, norm, eps):
    judge = judging.Judge(two_models[0], attack=AttackSettings(30))
    pgd, apgd = judge.rows(test_set, [attack("pgd", eps, norm), attack("apgd", eps, norm)])
    assert 0.1 < apgd["accuracy"] <= pgd["accuracy"] + 0.01
    assert apgd["attack_loss"] == "ce" and apgd["steps"] == 30


def test_texts_are_attacked_in_every_way_without_a_size(text_folders, tmp_path):
    names = ("pgd", "apgd", "square", "spsa")
    given = ("--attacks", *names, "--pgd_step", 4, "--pgd_lr", 0.3, "--queries", 40)
    result = judged_texts(text_folders, tmp_path, *given)
    assert result.returncode == 0, result.stderr
    rows = {row["name"]: row for row in report_of(tmp_path)["results"]}
    assert all(rows[name]["accuracy"] <= rows["clean"]["accuracy"] for name in names)
    assert rows["apgd"]["accuracy"] < rows["clean"]["accuracy"]


def seen(forward, found):
    """The method, which also keeps the images that it is given."""

    def keeping(self, inputs):
        found.append(inputs["pixel_values"].detach())
        return forward(self, inputs)

    return keeping


@pytest.mark.slow
@pytest.mark.parametrize("norm, eps", [("linf", 16 / 255), ("l2", 0.5)])
def test_autoattack_is_that_of_its_authors(two_models, test_set, norm, eps):
    package = pytest.importorskip("pyautoattack")
    judge = judging.Judge(two_models[0], attack=AttackSettings(10, losses=("ce",)), seed=3)
    ours, by_pgd = judge.judged(test_set, [attack("autoattack", eps, norm), attack("pgd", eps, norm)])[1].right
    images, labels = test_set.images.float() / 255, test_set.labels

    def classify(pixels):
        return two_models[0]({"pixel_values": pixels})

    theirs = package.AutoAttack(classify, norm={"linf": "Linf", "l2": "L2"}[norm], eps=eps, seed=3)
    found, _ = theirs.run_standard_evaluation(images, labels, batch_size=64)
    with torch.no_grad():
        withstood = (classify(found).argmax(1) == labels).numpy()
    # What either does not find is a matter of chance.
    assert (ours != withstood).mean() < 0.02 and ours.mean() <= by_pgd.mean()


def test_a_transferred_attack_is_that_on_the_source(two_models, test_set):
    model, other = two_models
    (own,), _ = under(model, test_set)
    (same,), _ = under(model, test_set, [model])
    (moved,), _ = under(model, test_set, [other])
    assert same["accuracy"] == own["accuracy"] < moved["accuracy"]
    clean = judging.Judge(model).rows(test_set, [CLEAN])[0]["accuracy"]
    assert moved["accuracy"] <= clean


class Dip(nn.Module):
    """Right on dark squares, and on those brighter by 0.4, but not on those between; flat but near these."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, inputs):
        brighter = self.weight * inputs["pixel_values"].flatten(1).mean(dim=1) - 0.2
        lead = ((brighter - 0.28).abs() / 0.072 - 1).clamp(max=0.2)
        return torch.stack([lead, -lead], dim=1)


@pytest.mark.parametrize("name", ["pgd", "apgd"])
def test_beside_another_model_an_attack_also_starts_from_half_of_what_that_one_led_to(name):
    accuracies = []
    for sources in ([None], [Ridge(folded=False)], [None, Ridge(folded=False)]):
        judge = judging.Judge(Dip(), attack=AttackSettings(10, losses=("ce",)), sources=sources)
        dark = squares([51] * 60).subset(torch.arange(30))
        accuracies.append(judge.judged(dark, [attack(name, 0.4)])[0][0]["accuracy"])
    assert accuracies[0] > 0.8 and accuracies[2] == 0


def test_of_several_sources_and_the_model_itself_the_worst_counts(two_models, test_set):
    model, other = two_models
    third = trained(epochs=1, seed=2)
    (_, own), (_, moved), (_, third_moved) = (under(model, test_set, [source]) for source in (None, other, third))
    (row,), found = under(model, test_set, [None, other, third])
    assert not (found.right & ~(own.right & moved.right & third_moved.right)).any()


def test_a_judgement_says_how_it_was_attacked(two_models, tmp_path):
    folders = [save_model(tmp_path / f"model{n}", model, {}) for n, model in enumerate(two_models)]
    given = ("--model_name", folders[0], "--max_instances", 40, "--pgd_step", 2, "--output_dir", tmp_path / "out")
    given += ("--linf_eps", "4/255", "--l2_eps")
    how = ("--attack_loss", "ce", "margin", "--temperature", 3, "--source_model", folders[1])
    result = processes.run(ROOT / "evaluate_robustness.py", *given, *how)
    assert result.returncode == 0, result.stderr
    rows = {row["name"]: row for row in report_of(tmp_path / "out")["results"]}
    said = {"temperature": 3.0, "source_model": str(folders[1])}
    assert said.items() <= rows["pgd"].items() and said.items() <= rows["fgsm"].items()
    assert (rows["pgd"]["attack_loss"], rows["fgsm"]["attack_loss"]) == ("ce+margin", "ce")
    assert "temperature" not in rows["clean"]
    assert "2 steps of 0.0196 x 1, ce+margin, temperature 3, made on model1" in result.stdout
    both = processes.run(ROOT / "evaluate_robustness.py", *given, "--output_dir", tmp_path / "both", *how, folders[0])
    assert both.returncode == 0, both.stderr
    row = next(row for row in report_of(tmp_path / "both")["results"] if row["name"] == "pgd")
    assert row["source_model"] == f"worst of all: itself, {folders[1]}, {folders[0]}"
    assert row["accuracy"] <= rows["pgd"]["accuracy"]
    again = processes.run(ROOT / "evaluate_robustness.py", *given)
    assert again.returncode == 2 and "--attack_loss was ce margin, is ce" in again.stderr


# Texts


@pytest.fixture(scope="module")
def text_folders(tmp_path_factory):
    """Two classifiers that were fine-tuned from the same encoder, one with other embeddings, and the data."""
    folder = tmp_path_factory.mktemp("texts")
    text_models.write_sst2(folder / "data", train=160, test=24)
    text_models.save_bert(folder / "bert")
    options = {"task_name": "sst2", "data_dir": folder / "data", "tokenizer": str(folder / "bert")}
    train_set = datasets.load("glue", **options)
    for seed, name in enumerate(("one", "two")):
        torch.manual_seed(seed)
        model = models.build(str(folder / "bert"), 2, modality="text")
        model.backbone.get_input_embeddings().weight.requires_grad_(False)
        training = Training(epochs=4, bsz=32, lr=0.01)
        trainer = Trainer(model, train_set, training, torch.device("cpu"), seed=seed)
        trainer.train_until(trainer.total_steps)
        save_model(folder / name, model, {"seed": 1}, train_set.label_names)
    with torch.no_grad():
        model.backbone.get_input_embeddings().weight.mul_(1.5)
    save_model(folder / "other", model, {"seed": 1}, train_set.label_names)
    return folder


def judged_texts(folder, out, *given):
    where = ("--dataset_name", "glue", "--task_name", "sst2", "--data_dir", folder / "data", "--output_dir", out)
    attacks = () if "--attacks" in given else ("--attacks", "pgd", "deepwordbug")
    attacks += ("--pgd_step", 6, "--pgd_lr", 0.1, "--num_examples", 16)
    result = processes.run(ROOT / "evaluate_robustness.py", *where, *attacks, "--model_name", folder / "one", *given)
    return result


def test_texts_are_attacked_on_the_source_and_shown_to_the_model(text_folders, tmp_path):
    found = {}
    for name in ("one", "two"):
        result = judged_texts(text_folders, tmp_path / name, "--source_model", text_folders / name)
        assert result.returncode == 0, result.stderr
        found[name] = {row["name"]: row for row in report_of(tmp_path / name)["results"]}
    result = judged_texts(text_folders, tmp_path / "own")
    assert result.returncode == 0, result.stderr
    own = {row["name"]: row for row in report_of(tmp_path / "own")["results"]}
    for name in ("pgd", "deepwordbug"):
        assert found["one"][name]["accuracy"] == own[name]["accuracy"] <= found["two"][name]["accuracy"]
        assert found["two"][name]["accuracy"] <= own["clean"]["accuracy"] + 1e-9 or name == "deepwordbug"
        assert found["two"][name]["source_model"] == str(text_folders / "two")
    assert found["one"]["deepwordbug"]["words_changed"] == own["deepwordbug"]["words_changed"]
    # The sentences are those that the source was led astray by.
    report = report_of(tmp_path / "two")
    lines = table(report["word_attacks"]["deepwordbug"]["sentences"])
    assert np.mean([line["result"] == "failed" for line in lines]) == found["two"]["deepwordbug"]["accuracy"]


def test_word_embeddings_of_another_encoder_are_refused(text_folders, tmp_path):
    result = judged_texts(text_folders, tmp_path, "--source_model", text_folders / "other")
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1
    assert "has other word embeddings than" in result.stderr
    result = judged_texts(text_folders, tmp_path, "--attacks", "deepwordbug", "--source_model", text_folders / "other")
    assert result.returncode == 0, result.stderr


def test_dlr_needs_three_classes(text_folders, tmp_path):
    result = judged_texts(text_folders, tmp_path, "--attack_loss", "dlr")
    assert result.returncode == 2 and "--attack_loss dlr" in result.stderr


# Gradients of 0


class Deaf(nn.Module):
    """Sees nothing of dark images, so that their gradient is 0."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, inputs):
        means = inputs["pixel_values"].flatten(1).mean(1)
        heard = self.weight * (means > 0.2) * means
        return torch.stack([heard, heard**2, -heard], dim=1)


@pytest.fixture
def half_dark():
    images = torch.zeros(8, 3, 8, 8, dtype=torch.uint8)
    images[5:] = 128
    labels = torch.zeros(8, dtype=torch.int64)
    return datasets.images.InMemoryImages(images, "dark", "test", ["a", "b", "c"], torch.arange(8), labels)


OPTIONS = perturbations.PgdOptions(3, 0.01, 0.01, 0.02, "linf")
SAID = "the gradient was 0 at every step for {} of {} attacked inputs"
PASSES = {
    "collection": (lambda data: collect(Deaf(), data, ["pgd"], pgd_options=OPTIONS), "collection at step 0: ", 5, 8),
    "fine-tuning": (
        lambda data: evaluate_perturbed(Deaf(), data, "pgd", pgd_options=OPTIONS, worst=True),
        "pgd on 8 instances: ",
        5,
        8,
    ),
    "judging": (
        lambda data: judging.Judge(Deaf(), attack=AttackSettings(3, None, 2)).rows(data, [CLEAN, attack("pgd", 0.02)]),
        "judging on 8 instances: ",
        10,
        16,
    ),
}


@pytest.mark.parametrize("passed, begins, flat, attacked", PASSES.values(), ids=PASSES)
def test_instances_without_a_gradient_are_counted_and_told(passed, begins, flat, attacked, half_dark, capsys):
    warn_once.cache_clear()
    passed(half_dark)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: {begins}{SAID.format(flat, attacked)}")


def test_nothing_is_told_where_all_have_a_gradient(two_models, test_set, capsys):
    under(two_models[0], test_set)
    assert capsys.readouterr().err == ""
