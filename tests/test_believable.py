"""What a judgement says of its own attacks: models that hide behind their gradients, and models that do not."""

import functools

import pytest
import torch
from test_evaluate_robustness import attack, trained
from torch import nn

from robust_data import datasets, models, perturbations
from robust_data.fine_tune.adversarial import AdversarialTrainer
from robust_data.judge import believable
from robust_data.judge import judge as judging
from robust_data.judge.conditions import CLEAN, AttackSettings
from robust_data.settings import Training
from robust_data.train.training import Trainer

PIXELS = perturbations.PgdOptions(3, 8 / 255, 16 / 255, 16 / 255, "linf", sign=True)
CONDITIONS = [CLEAN, attack("pgd", 8 / 255), attack("pgd", 24 / 255)]


@pytest.fixture(scope="module")
def model():
    return trained(epochs=4)


@pytest.fixture(scope="module")
def test_set():
    dataset = datasets.load("digits", "test")
    return dataset.subset(torch.arange(0, len(dataset), 3))


class Behind(nn.Module):
    """A model behind something that is done to its images, or to its logits."""

    def __init__(self, model, images=lambda images: images, logits=lambda logits: logits):
        super().__init__()
        self.model, self.images, self.logits = model, images, logits

    def forward(self, inputs):
        return self.logits(self.model({"pixel_values": self.images(inputs["pixel_values"])}))


def rounded(images):
    return (images * 8).round() / 8


def resized(images):
    side = int(torch.randint(6, 9, ()))
    smaller = nn.functional.interpolate(images, (side, side))
    return nn.functional.pad(smaller, (0, 8 - side, 0, 8 - side))


def report(model, dataset, **how):
    """The report of a judgement, on 60 instances whatever it costs, and the judged accuracies."""
    judge = judging.Judge(model, attack=AttackSettings(**{"steps": 10, "losses": ("ce",)} | how))
    rows, found = judge.judged(dataset, CONDITIONS)
    return believable.examine(judge, dataset, CONDITIONS, found, []), [row["accuracy"] for row in rows]


def failed(found):
    return {name for name, check in found["checks"].items() if not check["holds"]}


@pytest.fixture(autouse=True)
def sixty(monkeypatch):
    monkeypatch.setattr(believable, "SHARE", 10.0)
    monkeypatch.setattr(believable, "MOST", 60)


def test_a_plain_model_is_believed(model, test_set):
    found, accuracies = report(model, test_set)
    assert found["verdict"] == "yes" and found["instances"] == 60 and not failed(found)
    assert accuracies[-1] < accuracies[0]


def test_apgd_is_looked_at_as_pgd_is(model, test_set):
    conditions = [CLEAN, attack("apgd", 16 / 255)]
    for images in (lambda images: images, rounded):
        judge = judging.Judge(Behind(model, images), attack=AttackSettings(10))
        said = believable.examine(judge, test_set, conditions, judge.judged(test_set, conditions)[1], [])
        assert said["verdict"] == ("no" if images is rounded else "yes")
        assert said["checks"]["fold"]["figure"] is not None


def test_rounding_hides_the_gradient(model, test_set):
    found, _ = report(Behind(model, rounded), test_set)
    assert found["verdict"] == "no" and "gradient" in failed(found)
    assert found["checks"]["gradient"]["figure"] == 1.0


def test_a_random_model_is_told_and_its_gradients_can_be_averaged(model, test_set):
    torch.manual_seed(0)
    found, _ = report(Behind(model, resized), test_set)
    assert found["verdict"] == "no" and "random_model" in failed(found)
    found, _ = report(Behind(model, resized), test_set, eot=4)
    assert "random_model" not in failed(found)


@pytest.mark.parametrize("factor", [1000.0, 1e-4])
def test_the_scale_of_the_logits_hides_nothing(model, test_set, factor):
    found, accuracies = report(Behind(model, logits=lambda logits: factor * logits), test_set)
    _, of_plain = report(model, test_set)
    assert found["verdict"] == "yes" and accuracies == pytest.approx(of_plain, abs=0.06)


def follow_plain_cross_entropy(monkeypatch):
    """As an attack would that the scale of logits stops."""
    entropy = functools.partial(nn.functional.cross_entropy, reduction="none")
    monkeypatch.setattr("robust_data.perturbations.adversarial.log_odds", entropy)


def test_the_scale_of_the_logits_is_told_of_an_attack_that_it_stops(model, test_set, monkeypatch):
    follow_plain_cross_entropy(monkeypatch)
    found, accuracies = report(Behind(model, logits=lambda logits: 1000 * logits), test_set)
    assert found["verdict"] == "no" and {"gradient", "bound"} <= failed(found)
    assert accuracies[-1] > 0.5


class Ridge(nn.Module):
    """Two classes by the mean of the pixels; the lead falls with the distance from the boundary but close by it."""

    def __init__(self, folded=True):
        super().__init__()
        self.folded = folded
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(12, 1, bias=False), nn.Identity())
        nn.init.constant_(self.layers[1].weight, 1 / 12)

    def forward(self, inputs):
        lead = self.layers(inputs["pixel_values"])[:, 0] - 0.5
        folded = torch.where(lead.abs() > 0.1, lead.sign() * (1 - lead.abs()), 9 * lead)
        lead = folded if self.folded else lead
        return torch.stack([-lead, lead], dim=1)


def squares(values=(*range(30, 60), *range(196, 226))):
    images = torch.tensor(values, dtype=torch.uint8).view(60, 1, 1, 1).expand(60, 3, 2, 2).contiguous()
    labels = torch.arange(60) // 30
    return datasets.images.InMemoryImages(images, "squares", "test", ["dark", "bright"], torch.arange(60), labels)


def test_a_fold_is_seen_from_attacks_against_the_gradient():
    judge = judging.Judge(Ridge(), attack=AttackSettings(10, losses=("ce",)))
    conditions = [CLEAN, attack("pgd", 0.45)]
    _, found = judge.judged(squares(), conditions)
    said = believable.examine(judge, squares(), conditions, found, [])
    assert said["verdict"] == "no" and {"fold", "bound"} <= failed(said)
    assert said["checks"]["fold"]["figure"] > 0.9


@pytest.mark.parametrize("folded", [False, True])
def test_twice_the_radius_fools_more_unless_a_fold_holds_it_back(folded):
    judge = judging.Judge(Ridge(folded), attack=AttackSettings(10, losses=("ce",)))
    near_and_far, conditions = squares([115, 76] * 15 + [140, 179] * 15), [CLEAN, attack("pgd", 0.12)]
    rows, found = judge.judged(near_and_far, conditions)
    assert rows[1]["accuracy"] == 0.5
    said = believable.examine(judge, near_and_far, conditions, found, [])
    assert ("budget" in failed(said)) is folded
    assert said["checks"]["budget"]["figure"] == (0.0 if folded else 1.0)


def test_a_fold_is_seen_from_a_model_without_one():
    judge = judging.Judge(Ridge(), attack=AttackSettings(10, losses=("ce",)), sources=[None, Ridge(folded=False)])
    conditions = [CLEAN, attack("pgd", 0.45)]
    _, found = judge.judged(squares(), conditions)
    said = believable.examine(judge, squares(), conditions, found, [])
    assert {"transfer", "cosine"} <= failed(said)
    assert said["checks"]["cosine"]["figure"] == pytest.approx(-1, abs=1e-3)
    assert said["checks"]["norm"]["holds"]


def test_a_gradient_is_small_beside_that_of_another_model():
    def capped(logits):
        return logits.sign() + 1e-2 * logits

    judge = judging.Judge(Behind(Ridge(folded=False), logits=capped), sources=[None, Ridge(folded=False)])
    conditions = [CLEAN, attack("pgd", 0.3)]
    said = believable.examine(judge, squares(), conditions, judge.judged(squares(), conditions)[1], [])
    assert said["checks"]["norm"]["figure"] == pytest.approx(3e-3, rel=0.5) and "norm" in failed(said)


def test_what_cannot_be_tested_is_said(model, test_set, monkeypatch):
    monkeypatch.setattr(believable, "SHARE", 0.1)
    few = test_set.subset(torch.arange(20))
    found, _ = report(model, few)
    assert found["verdict"] == "not tested" and not found["checks"]
    judge = judging.Judge(model, sources=[model])
    _, of_all = judge.judged(few, CONDITIONS[:2])
    assert believable.examine(judge, few, CONDITIONS[:2], of_all, [])["verdict"] == "not tested"
    alone = [CLEAN, attack("fgsm", 8 / 255)]
    _, of_all = judging.Judge(model).judged(few, alone)
    assert believable.examine(judging.Judge(model), few, alone, of_all, [])["verdict"] == "not tested"
    _, clean = judge.judged(few, [CLEAN])
    assert believable.examine(judge, few, [CLEAN], clean, []) is None


class Passes(Behind):
    """Counts the instances that pass, forward and backward as three."""

    count = 0

    def forward(self, inputs):
        self.count += len(inputs["pixel_values"]) * (3 if torch.is_grad_enabled() else 1)
        return super().forward(inputs)


@pytest.mark.parametrize("losses", [("ce",), ("ce", "turned", "hidden")])
@pytest.mark.parametrize("steps", [8, 20])
def test_the_checks_cost_at_most_a_tenth(steps, losses, monkeypatch):
    monkeypatch.setattr(believable, "SHARE", 0.1)
    model, dataset = Passes(models.build("small_cnn", 10).eval()), datasets.load("digits", "train")
    judge = judging.Judge(model, attack=AttackSettings(steps, losses=losses))
    _, found = judge.judged(dataset, CONDITIONS[:2])
    judged, model.count = model.count, 0
    said = believable.examine(judge, dataset, CONDITIONS[:2], found, [])
    assert said["verdict"] != "not tested" and 0 < model.count <= 0.1 * judged


def distilled(teacher, temperature):
    """A student of the teacher's answers at this temperature, which is then asked at 1 (Papernot et al., 2016)."""
    digits = datasets.load("digits", "train")
    images = digits.images / 255
    torch.manual_seed(0)
    student = models.build("small_cnn", 10)
    optimizer = torch.optim.AdamW(student.parameters(), lr=5e-3)
    with torch.no_grad():
        wanted = teacher({"pixel_values": images}).softmax(dim=1)
    for rows in [rows for _ in range(12) for rows in torch.randperm(len(images)).split(64)]:
        losses = nn.functional.cross_entropy(student({"pixel_values": images[rows]}) / temperature, wanted[rows])
        optimizer.zero_grad()
        losses.backward()
        optimizer.step()
    return student.eval()


@pytest.mark.slow
def test_distillation_at_a_high_temperature_hides_nothing_but_from_plain_cross_entropy(model, test_set, monkeypatch):
    student = distilled(model, 30.0)
    batch = {"pixel_values": test_set.images / 255}
    assert student(batch).abs().max() > 5 * model(batch).abs().max()
    found, accuracies = report(student, test_set)
    assert accuracies[0] > 0.9 and accuracies[-1] < 0.2
    assert found["verdict"] == "yes", failed(found)
    follow_plain_cross_entropy(monkeypatch)
    found, accuracies = report(student, test_set)
    assert found["verdict"] == "no" and accuracies[-1] > 0.2


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("adversarially", [False, True])
def test_no_false_alarm(seed, adversarially, test_set):
    torch.manual_seed(seed)
    model = models.build("small_cnn", 10)
    options = Training(epochs=3, bsz=64, lr=5e-3)
    kind, how = (AdversarialTrainer, {"pgd_options": PIXELS}) if adversarially else (Trainer, {})
    trainer = kind(model, datasets.load("digits", "train"), options, torch.device("cpu"), seed=seed, **how)
    trainer.train_until(trainer.total_steps)
    found, _ = report(model.eval(), test_set)
    assert found["verdict"] == "yes", failed(found)
