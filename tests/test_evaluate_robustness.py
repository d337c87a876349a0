"""Judging a model: attacks, perturbations, published corruptions and the mean corruption error."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import processes
import pytest
import torch
from conftest import refuses, table
from processes import ROOT
from torch import nn

from robust_data import complete, datasets, evaluate_robustness, models, perturbations
from robust_data.command_line.parser import run_script
from robust_data.datasets import Dataset
from robust_data.datasets.images import InMemoryImages
from robust_data.evaluation import evaluate_perturbed
from robust_data.judge import conditions, corruption_error, instances, loading, published
from robust_data.judge import judge as judging
from robust_data.judge.conditions import CLEAN, AttackSettings, Condition
from robust_data.judge.report import COLUMNS
from robust_data.plot_utils import robustness
from robust_data.settings import Judgement, Training, of
from robust_data.train.saved_models import save_model
from robust_data.train.training import Trainer

CORRUPTIONS = ("fog", "untouched")
FEW = ("--max_instances", "40", "--pgd_step", "3")


def trained(epochs, seed=0):
    """A small network that has seen the digits a few times."""
    torch.manual_seed(seed)
    model = models.build("small_cnn", 10)
    options = Training(epochs=epochs, bsz=64, lr=5e-3)
    trainer = Trainer(model, datasets.load("digits", "train"), options, torch.device("cpu"), seed=seed)
    trainer.train_until(trainer.total_steps)
    return model.eval()


@pytest.fixture(scope="module")
def model():
    return trained(epochs=2)


@pytest.fixture(scope="module")
def model_folder(model, tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("models") / "trained", model, {})


@pytest.fixture(scope="module")
def test_set():
    dataset = datasets.load("digits", "test")
    return dataset.subset(torch.arange(0, len(dataset), 6))


def write_corruptions(folder, images, labels):
    """The test images, darkened by severity and as they are, in the layout of CIFAR-10-C."""
    folder.mkdir()
    np.save(folder / "labels.npy", np.tile(labels, 5))
    np.save(folder / "fog.npy", np.concatenate([images // severity for severity in (1, 2, 4, 8, 16)]))
    np.save(folder / "untouched.npy", np.tile(images, (5, 1, 1, 1)))
    return folder


@pytest.fixture(scope="module")
def corruptions_dir(tmp_path_factory):
    digits = datasets.load("digits", "test")
    images = digits.images.permute(0, 2, 3, 1).numpy()
    return write_corruptions(tmp_path_factory.mktemp("corruptions") / "DIGITS-C", images, digits.labels.numpy())


def run(*given):
    """The script as a process of its own."""
    return processes.run(ROOT / "evaluate_robustness.py", *given)


@pytest.fixture(scope="module")
def finished(model_folder, corruptions_dir, tmp_path_factory):
    """One run over everything there is: its folder and what the process gave."""
    folder = tmp_path_factory.mktemp("results")
    given = ("--model_name", model_folder, *FEW, "--restarts", 2, "--corruptions_dir", corruptions_dir)
    return folder, run(*given, "-t", "identity", "gaussian_noise", "--severities", 5, 1, "--output_dir", folder)


def report_of(folder):
    (path,) = Path(folder).glob("*.json")
    return json.loads(path.read_text())


def instances_of(folder):
    (path,) = Path(folder).glob("*.npz")
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def find(report, **wanted):
    return [row for row in report["results"] if wanted.items() <= row.items()]


def judged(monkeypatch, capsys, *given):
    """The script within this process: its exit status, and the lines of stdout and stderr."""
    monkeypatch.setattr(sys, "argv", ["evaluate_robustness.py", *map(str, given)])
    capsys.readouterr()
    status = 0
    try:
        run_script(evaluate_robustness.build_parser(), evaluate_robustness.main)
    except SystemExit as error:
        status = error.code
    written = capsys.readouterr()
    return status, written.out.splitlines(), written.err.splitlines()


# The script, end to end


def test_a_run_writes_table_details_and_figure(finished):
    folder, result = finished
    assert result.returncode == 0, result.stderr
    stem = "robustness_modeltrained_datasetdigits_splittest_seed42"
    assert sorted(path.name for path in folder.iterdir()) == [
        f"{stem}.{end}" for end in ("csv", "json", "npz", "pdf", "png")
    ]
    lines = result.stdout.splitlines()
    assert lines[1].startswith("clean, 40 instances ") and lines[-1] == f"saved {folder}/{stem}.pdf"
    assert any(line.startswith("pgd, linf eps 8/255, 3 steps of 0.0261 x 2 ") for line in lines)
    assert any(
        line.split() == "perturbation, accuracy (%) severity 1 severity 5 mean worst class".split() for line in lines
    )


def test_the_rows_are_those_asked_for(finished):
    report = report_of(finished[0])
    counts = {kind: len(find(report, kind=kind)) for kind in ("clean", "attack", "perturbation", "published")}
    assert counts == {"clean": 1, "attack": 3 + 3 + 3, "perturbation": 1 + 2, "published": 2 * 2}
    assert {row["instances"] for row in report["results"]} == {40}
    assert [row["severity"] for row in find(report, name="identity")] == [None]
    assert [row["severity"] for row in find(report, name="gaussian_noise")] == [1, 5]
    assert {(row["steps"], row["restarts"]) for row in find(report, kind="attack")} == {(1, 1), (3, 2)}
    (row,) = find(report, name="pgd", norm="l2", eps=0.5)
    assert row["step_size"] == pytest.approx(2.5 * 0.5 / 3) and row["special_tokens"] == 0
    assert report["arguments"]["restarts"] == 2 and report["versions"].keys() >= {"torch", "python"}
    lines = table(next(finished[0].glob("*.csv")))
    assert [float(row["accuracy"]) for row in lines] == [row["accuracy"] for row in report["results"]]


@pytest.mark.parametrize("untouched", [{"name": "identity"}, {"kind": "published", "name": "untouched"}])
def test_what_changes_nothing_gives_the_clean_accuracy(finished, untouched):
    report = report_of(finished[0])
    (clean,) = find(report, kind="clean")
    rows = find(report, **untouched)
    assert rows and all(row["accuracy"] == clean["accuracy"] for row in rows)
    assert [row["loss"] for row in rows] == pytest.approx([clean["loss"]] * len(rows), rel=1e-5)


def test_clean_figures_are_those_of_the_model_itself(finished, model):
    report = report_of(finished[0])
    digits = datasets.load("digits", "test")
    chosen = digits.subset(torch.from_numpy(loading.drawn(digits.labels.numpy(), Judgement(max_instances=40))))
    assert np.bincount(chosen.labels).tolist() == [4] * 10
    with torch.no_grad():
        logits = model({"pixel_values": chosen.images / 255})
    (clean,) = find(report, kind="clean")
    assert clean["accuracy"] == pytest.approx((logits.argmax(1) == chosen.labels).float().mean().item())
    assert clean["loss"] == pytest.approx(nn.functional.cross_entropy(logits, chosen.labels).item(), rel=1e-5)


def test_pgd_is_at_least_as_strong_as_fgsm_and_the_json_says_so(finished):
    checks = report_of(finished[0])["checks"]["pgd_at_least_as_strong_as_fgsm"]
    assert len(checks) == 3 and all(check["holds"] for check in checks)


def test_a_model_against_itself_has_a_corruption_error_of_100(
    finished, model_folder, corruptions_dir, tmp_path, monkeypatch, capsys
):
    (reference,) = finished[0].glob("*.json")
    given = ("--model_name", model_folder, *FEW, "--attack_method", "none", "--severities", 5, "--reference", reference)
    given += ("--corruptions_dir", corruptions_dir, "--output_dir", tmp_path)
    status, lines, _ = judged(monkeypatch, capsys, *given)
    assert status == 0
    errors = report_of(tmp_path)["corruption_error"]["published"]
    assert errors["mce"] == pytest.approx(100) and errors["ce"]["fog"] == pytest.approx(100)
    assert any(line.startswith("published against the reference: mCE 100.00 % over 2 corruptions") for line in lines)


def test_two_processes_find_what_one_finds(finished, model_folder, corruptions_dir, tmp_path):
    given = ("--model_name", model_folder, *FEW, "--restarts", 2, "-t", "gaussian_noise", "--severities", 5)
    given += ("--eval_size", 9, "--corruptions_dir", corruptions_dir, "--output_dir", tmp_path)
    result = processes.run_together(2, ROOT / "evaluate_robustness.py", *given)
    assert result.returncode == 0, result.stderr
    one = {tuple(row[key] for key in COLUMNS[:5]): row for row in report_of(finished[0])["results"]}
    report = report_of(tmp_path)
    assert report["processes"] == 2 and len(report["results"]) == 1 + 9 + 1 + 2
    of_two, of_one = instances_of(tmp_path), instances_of(finished[0])
    kept = [of_one["conditions"].tolist().index(name) for name in of_two["conditions"]]
    assert np.array_equal(of_two["right"], of_one["right"][kept])
    assert np.allclose(of_two["margin"], of_one["margin"][kept], rtol=1e-3, atol=1e-4)
    for row in report["results"]:
        expected = one[tuple(row[key] for key in COLUMNS[:5])]
        assert row["accuracy"] == expected["accuracy"]
        assert row["loss"] == pytest.approx(expected["loss"], rel=1e-4)


def test_every_instance_is_there_under_every_condition(finished):
    """With the names of the CSV; a row's accuracy is the mean over the instances, and a margin's sign is the answer."""
    found, report = instances_of(finished[0]), report_of(finished[0])
    types = {name: (array.dtype.kind, array.dtype.itemsize) for name, array in found.items() if name != "conditions"}
    assert types == {"index": ("i", 8), "label": ("i", 8), "right": ("b", 1), "margin": ("f", 4)}
    rows = report["results"]
    assert found["conditions"].tolist() == [row["condition"] for row in rows] and found["conditions"].dtype.kind == "U"
    assert {"clean", "pgd linf 8/255", "pgd l2 0.5", "gaussian_noise 5", "published fog 1"} <= {*found["conditions"]}
    assert len({*found["conditions"]}) == len(rows)
    assert found["right"].shape == found["margin"].shape == (len(rows), 40)
    assert found["right"].mean(axis=1) == pytest.approx([row["accuracy"] for row in rows])
    assert np.array_equal(found["margin"] > 0, found["right"])
    digits = datasets.load("digits", "test")
    assert np.array_equal(digits.labels[digits.positions(found["index"])], found["label"])


def test_the_worst_class_and_a_constant_answer_stand_beside_every_accuracy(finished):
    found, report = instances_of(finished[0]), report_of(finished[0])
    for row, right in zip(report["results"], found["right"]):
        accuracies = [right[found["label"] == label].mean() for label in range(10)]
        assert row["worst_class_accuracy"] == pytest.approx(min(accuracies)) and row["constant_accuracy"] == 0.1
        assert row["worst_class"] == str(np.argmin(accuracies))
    out = finished[1].stdout
    assert re.search(r"the best constant answer +10\.00\n", out) and "worst class" in out


def test_figures_of_instances_by_hand():
    data = Dataset("mine", "test", ["a", "b", "c"], torch.arange(6), torch.tensor([0, 0, 0, 2, 2, 2]))
    data.others, data.group_column = {"place": ["x", "y", "y", "x", "x", "x"]}, "place"
    expected = {"worst_class": "c", "worst_class_accuracy": pytest.approx(1 / 3), "constant_accuracy": 0.5}
    expected |= {"worst_group": "x", "worst_group_accuracy": 0.5}
    assert instances.worst_figures(np.array([1, 1, 0, 1, 0, 0], bool), data) == expected
    # Bins end at 0.6, 0.8 and 1: (|2 - 1.17| + |0 - 0.8| + |0 - 1|) / 4 with the first two in one bin.
    confidence, right = np.array([0.57, 0.6, 0.8, 1.0]), np.array([1, 1, 0, 0], bool)
    assert instances.expected_calibration_error(confidence, right) == pytest.approx((0.83 + 0.8 + 1) / 4)


def test_instances_that_were_not_judged_under_a_condition_have_no_margin():
    found = instances.Found(np.array([3, 5, 8]), np.zeros(3, int), np.ones((1, 3), bool), np.ones((1, 3), np.float32))
    more = found.extended(np.array([5]), np.array([[True]]), np.array([[2.0]], np.float32))
    assert more.right.tolist() == [[True] * 3, [False, True, False]]
    assert np.isfinite(more.margin).tolist() == [[True] * 3, [False, True, False]]


# Attacks


def attack(name, eps, norm="linf"):
    return Condition("attack", name, eps=eps, norm=norm)


def losses_of(model, labels):
    return lambda images: nn.functional.cross_entropy(model({"pixel_values": images}), labels, reduction="none")


@pytest.mark.parametrize("norm, eps", [("linf", 8 / 255), ("l2", 0.5)])
def test_pgd_stays_within_the_ball_and_reaches_its_edge(model, test_set, norm, eps):
    images, index = test_set.images[:8] / 255, test_set.index[:8]
    options = AttackSettings(steps=10).options(attack("pgd", eps, norm))
    attacked = perturbations.attack(
        "pgd", images, losses_of(model, test_set.labels[:8]), 3, index, options=options, bounds=(0.0, 1.0)
    )
    assert 0 <= attacked.min() and attacked.max() <= 1
    order = {"linf": float("inf"), "l2": 2.0}[norm]
    sizes = torch.linalg.vector_norm((attacked - images).flatten(1), order, dim=1)
    assert (sizes <= eps + 1e-6).all() and (sizes > 0.5 * eps).all()


def test_fgsm_is_the_fgsm_of_the_catalogue(model, test_set):
    images, index, losses = test_set.images[:8] / 255, test_set.index[:8], losses_of(model, test_set.labels[:8])
    options = AttackSettings().options(attack("fgsm", 8 / 255))
    ours = perturbations.attack("pgd", images, losses, 3, index, options=options, bounds=(0.0, 1.0))
    assert torch.allclose(ours, perturbations.attack("fgsm", images, losses, 3, index, bounds=(0.0, 1.0)), atol=1e-7)


def test_the_step_is_2_5_eps_over_the_steps_unless_given():
    assert AttackSettings(20).options(attack("pgd", 0.5, "l2")).lr == pytest.approx(0.0625)
    assert AttackSettings(20, 0.1).options(attack("pgd", 0.5, "l2")).lr == 0.1


def test_more_restarts_steps_or_room_never_raise_the_accuracy(model, test_set):
    planned = [attack("pgd", 8 / 255), attack("pgd", 0.75, "l2")]
    judges = [judging.Judge(model, attack=AttackSettings(3, None, restarts)) for restarts in (1, 2, 4)]
    found = [judge.rows(test_set, planned) for judge in judges]
    for fewer, more in zip(found[:-1], found[1:]):
        for one, other in zip(fewer, more):
            assert other["accuracy"] <= one["accuracy"] and other["loss"] >= one["loss"]


class Contrary(nn.Module):
    """Wrong about black images, right about all others."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, inputs):
        images = inputs["pixel_values"]
        black = (images.flatten(1).amax(1) == 0).float() + 0 * images.flatten(1).sum(1)
        return 2 * torch.stack([1 - black, black], dim=1)


def test_an_instance_that_is_wrong_before_the_attack_counts_as_broken():
    images, labels = torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64)
    black = InMemoryImages(images, "black", "test", ["a", "b"], torch.arange(4), labels)
    under = [CLEAN, attack("pgd", 0.1), Condition("perturbation", "brightness", 5)]
    rows = judging.Judge(Contrary()).rows(black, under)
    assert [row["accuracy"] for row in rows] == [0, 0, 1]
    # As fine-tuning is judged; a collection records what it sees.
    for worst, accuracy in ((False, 1), (True, 0)):
        found = evaluate_perturbed(Contrary(), black, "pgd", pgd_options=perturbations.PgdOptions(1), worst=worst)
        assert found["accuracy"] == accuracy


def test_a_pgd_weaker_than_fgsm_is_told(capsys):
    rows = [
        {"name": "fgsm", "norm": "linf", "eps": 0.1, "accuracy": 0.2},
        {"name": "pgd", "norm": "linf", "eps": 0.1, "accuracy": 0.3},
        {"name": "pgd", "norm": "linf", "eps": 0.2, "accuracy": 0.1},
    ]
    assert judging.compare_attacks(rows) == [{"eps": 0.1, "fgsm_accuracy": 0.2, "pgd_accuracy": 0.3, "holds": False}]
    assert "warning: PGD leaves an accuracy of 0.3000 at linf eps 0.1000, FGSM 0.2000" in capsys.readouterr().err


# What is asked for


def planned(*given):
    args = evaluate_robustness.build_parser().parse_args(list(map(str, given)))
    return conditions.plan(complete.as_trained(of(Judgement, args)))


def test_common_is_the_15_and_groups_leave_attacks_out():
    assert conditions.resolve(["common", "fog"]) == list(conditions.COMMON_CORRUPTIONS)
    assert len(conditions.COMMON_CORRUPTIONS) == 15
    everything = conditions.resolve(["all"])
    assert "pgd" not in everything and len(everything) == len(perturbations.names()) - 2


def test_attacks_can_be_left_out_one_by_one_or_all():
    assert planned("--attack_method", "none") == [CLEAN]
    assert planned("--attack_method", "pgd", "--linf_eps", "--l2_eps", "1/2") == [CLEAN, attack("pgd", 0.5, "l2")]
    # PGD within a linf size brings the attack along that must not be the stronger one.
    pair = [attack("fgsm", 0.01), attack("pgd", 0.01)]
    assert planned("--attack_method", "pgd", "--linf_eps", "0.01", "--l2_eps") == [CLEAN, *pair]
    assert planned("--linf_eps", "8/255", "0.01", "--l2_eps")[1:3] == [attack("fgsm", 0.01), attack("fgsm", 8 / 255)]


# Mean corruption error


def rows_of(clean, errors, kind="perturbation"):
    rows = [{"kind": "clean", "name": "clean", "severity": None, "accuracy": 1 - clean}]
    return rows + [
        {"kind": kind, "name": name, "severity": severity, "accuracy": 1 - error}
        for name, levels in errors.items()
        for severity, error in levels.items()
    ]


def test_the_mean_corruption_error_by_hand():
    ours = rows_of(0.1, {"fog": {1: 0.2, 2: 0.4}, "snow": {1: 0.3, 2: 0.3}})
    reference = rows_of(0.2, {"fog": {1: 0.4, 2: 0.6, 3: 0.9}, "snow": {1: 0.3, 2: 0.5}, "blur": {1: 0.5}})
    found = corruption_error.corruption_errors(ours, reference)["perturbation"]
    assert found["ce"] == pytest.approx({"fog": 60.0, "snow": 75.0}) and found["mce"] == pytest.approx(67.5)
    # (0.1 + 0.3) / (0.2 + 0.4) and (0.2 + 0.2) / (0.1 + 0.3)
    assert found["relative_ce"] == pytest.approx({"fog": 200 / 3, "snow": 100.0})
    assert found["relative_mce"] == pytest.approx((200 / 3 + 100) / 2)


def test_the_mean_is_over_the_15_where_all_of_them_are_there():
    errors = {name: {1: 0.2} for name in conditions.COMMON_CORRUPTIONS} | {"saturate": {1: 0.9}}
    half = {name: {1: 0.4} for name in errors}
    found = corruption_error.compare(errors, half, 0.0, 0.0)
    assert found["mce"] == pytest.approx(50) and found["ce"]["saturate"] == pytest.approx(225)
    assert found["mean_over"] == list(conditions.COMMON_CORRUPTIONS)


def test_a_reference_without_errors_leaves_the_corruption_error_undefined():
    found = corruption_error.compare({"fog": {1: 0.2}, "snow": {1: 0.2}}, {"fog": {1: 0.1}, "snow": {1: 0.0}}, 0.1, 0.1)
    assert found["ce"] == {"fog": pytest.approx(200), "snow": None} and found["mce"] == pytest.approx(200)
    assert found["relative_ce"] == {"fog": None, "snow": None} and found["relative_mce"] is None
    assert (found["mean_over"], found["relative_mean_over"]) == (["fog"], [])


# What fails last takes nothing with it


@pytest.mark.parametrize("module, name", [(robustness, "draw_report"), (evaluate_robustness, "print_report")])
def test_what_fails_last_leaves_the_files(finished, tmp_path, monkeypatch, module, name):
    """A figure that cannot be drawn, or a reader of the table that went away."""

    def fails(*_):
        raise ValueError("no such symbol") if name == "draw_report" else BrokenPipeError

    report = report_of(finished[0])
    monkeypatch.setattr(module, name, fails)
    with refuses("judged.png", "no such symbol") if name == "draw_report" else pytest.raises(BrokenPipeError):
        evaluate_robustness.finish(report, tmp_path / "judged")
    (lines,), (details,) = tmp_path.glob("*.csv"), tmp_path.glob("*.json")
    assert len(table(lines)) == len(report["results"])
    assert json.loads(details.read_text())["results"] == report["results"]


def test_results_of_other_arguments_are_not_replaced(model_folder, tmp_path, monkeypatch, capsys):
    """But the same command may judge again, also in other batches, and other arguments in another folder."""
    given = ("--model_name", model_folder, *FEW, "--attacks", "none", "--output_dir", tmp_path / "results")
    assert judged(monkeypatch, capsys, *given, "-t", "contrast", "--severities", 1)[0] == 0
    before = report_of(tmp_path / "results")["results"]
    status, out, err = judged(monkeypatch, capsys, *given, "-t", "fog", "--severities", 1, 3)
    assert (status, out, len(err)) == (2, [], 1)
    assert ".json holds results of other arguments: --perturbations was contrast, is fog; --severities was 1" in err[0]
    assert "give another --output_dir" in err[0]
    again = (*given, "-t", "contrast", "--severities", 1, "--eval_size", 7)
    assert judged(monkeypatch, capsys, *again)[0] == 0
    after = report_of(tmp_path / "results")["results"]
    assert [row["accuracy"] for row in after] == [row["accuracy"] for row in before]
    (path,) = (tmp_path / "results").glob("*.json")
    path.write_text("[]")
    status, _, err = judged(monkeypatch, capsys, *again)
    assert status == 2 and f"{path} cannot be read" in err[0] and "--output_dir" in err[0]


def test_a_reference_that_lacks_something_or_is_about_others_is_refused(finished):
    report = report_of(finished[0])
    known = {key: report[key] for key in ("instances", "labels_sha256", "index_sha256")}
    have = [Condition("perturbation", "gaussian_noise", 1), Condition("published", "fog", 5)]
    corruption_error.check_reference("ref.json", report, have, known)
    lacking = [*have, Condition("perturbation", "gaussian_noise", 3), Condition("perturbation", "horizontal_flip")]
    for conditions_of, about, named in (
        (lacking, known, "horizontal_flip"),
        (have, known | {"instances": 50}, "50"),
        (have, known | {"index_sha256": "abc"}, "abc"),
        ([CLEAN], known, "--reference"),
    ):
        with refuses(named):
            corruption_error.check_reference("ref.json", report, conditions_of, about)


# Published corruptions


def test_published_severities_lie_one_after_the_other(corruptions_dir):
    folder = published.open_folder(corruptions_dir, 10, (16, 16))
    assert folder.names == list(CORRUPTIONS)
    digits = datasets.load("digits", "test")
    third = folder.subset(np.array([2, 7])).load("fog", 3, digits.label_names)
    assert torch.equal(third.images, digits.images[[2, 7]] // 4) and torch.equal(third.labels, digits.labels[[2, 7]])


@pytest.mark.parametrize(
    "name, array",
    [
        ("fog", np.zeros((10, 8, 8), np.uint8)),
        ("fog", np.zeros((9, 8, 8, 3), np.uint8)),
        ("fog", np.zeros((10, 9, 9, 3), np.uint8)),
        ("fog", np.zeros((10, 8, 8, 3))),
        ("labels", np.zeros((10, 1), int)),
        ("labels", np.zeros(9, int)),
        ("labels", np.zeros(10)),
        ("labels", np.arange(10)),  # not the same five times
        ("labels", np.full(10, 3)),  # of three classes
    ],
)
def test_another_layout_is_refused(tmp_path, name, array):
    folder = write_corruptions(tmp_path / "C", np.zeros((2, 8, 8, 3), np.uint8), np.array([0, 1]))
    (folder / "._fog.npy").write_bytes(b"what macOS leaves in folders")
    assert len(published.open_folder(folder, 3, (8, 8)).labels) == 2
    np.save(folder / f"{name}.npy", array)
    with refuses(f"{name}.npy"):
        published.open_folder(folder, 3, (8, 8))


def test_a_folder_without_labels_or_corruptions_is_refused(tmp_path):
    with refuses("labels.npy"):
        published.open_folder(tmp_path, 3, (8, 8))
    np.save(tmp_path / "labels.npy", np.zeros(10, int))
    with refuses(str(tmp_path)):
        published.open_folder(tmp_path, 3, (8, 8))


# The figure


def test_the_curves_and_bars_are_means(finished):
    report = report_of(finished[0])
    severities, accuracy = robustness.severity_curves(report["results"][1:])["published", "weather"]
    assert severities.tolist() == [1, 5]
    assert accuracy.tolist() == pytest.approx([100 * row["accuracy"] for row in find(report, name="fog")])
    bars = {name: mean for _, name, mean in robustness.mean_accuracies(find(report, kind="published"))}
    assert bars["fog"] == pytest.approx(accuracy.mean())
    sizes, _ = robustness.attack_curves(find(report, kind="attack"), "linf")["pgd"]
    assert (255 * sizes).tolist() == pytest.approx([2, 4, 8])


def test_severities_that_change_the_inputs_less_than_the_one_below_are_marked():
    row = {"kind": "perturbation", "name": "saturate", "accuracy": 0.5}
    rows = [row | {"severity": level, "change": change} for level, change in ((1, 3.0), (3, 2.0), (5, 4.0))]
    rows += [row | {"name": "fog", "severity": level, "change": level} for level in (1, 3, 5)]
    rows += [row | {"kind": "published", "severity": level} for level in (1, 3)]
    assert robustness.disordered(rows) == {("perturbation", "digital"): {3}, ("perturbation", "weather"): set()}


@pytest.mark.parametrize("kept", [(), ("attack",), ("perturbation",), ("attack", "published")])
def test_a_figure_has_the_panels_for_which_there_are_results(finished, kept):
    report = report_of(finished[0])
    report["results"] = [row for row in report["results"] if row["kind"] in ("clean", *kept)]
    figure = robustness.draw_report(report)
    expected = 2 * ("attack" in kept) + 2 * ("perturbation" in kept or "published" in kept)
    assert len(figure.axes) == max(1, expected)
    robustness.pyplot().close(figure)


@pytest.mark.parametrize("kept", [(), ("attack",), ("perturbation",)])
def test_attacks_without_a_bound_are_drawn_beside_all_else(finished, kept):
    report = report_of(finished[0])
    report["results"] = [row for row in report["results"] if row["kind"] in ("clean", *kept)]
    attacked = {"kind": "attack", "norm": None, "eps": None, "severity": None, "accuracy": 0.5, "instances": 40}
    report["results"] += [attacked | {"name": name} for name in ("deepwordbug", "bae")]
    figure = robustness.draw_report(report)
    (panel,) = (panel for panel in figure.axes if "bae" in [tick.get_text() for tick in panel.get_yticklabels()])
    assert [tick.get_text() for tick in panel.get_yticklabels()] == ["clean", "deepwordbug", "bae"]
    assert [bar.get_width() for bar in panel.patches][1:] == [50, 50]
    robustness.pyplot().close(figure)


def test_intervals_are_wilsons():
    """Against values that Wilson's formula gives by hand; at 0 and 1 the interval has one side."""
    low, high = robustness.wilson(np.array([0.0, 50.0, 90.0, 100.0]), 100)
    assert low.tolist() == pytest.approx([0, 9.617, 7.436, 3.699], abs=2e-3)
    assert high.tolist() == pytest.approx([3.699, 9.617, 4.478, 0], abs=2e-3)


def test_the_figure_names_families_splits_and_sizes(finished):
    report = report_of(finished[0])
    assert conditions.family("brightness") == "weather" and conditions.family("contrast") == "digital"
    assert "40 instances of the test split" in robustness.title(report)
    assert "of the train split" in robustness.title(report | {"split": "train"})
    figure = robustness.draw_report(report)
    ticks = [[tick.get_text() for tick in panel.get_xticklabels()] for panel in figure.axes]
    assert ["0", "2", "4", "8"] in ticks
    robustness.pyplot().close(figure)


# Bad input


def test_without_a_test_split_the_remedy_is_named(image_folder, tmp_path, monkeypatch, capsys):
    import shutil

    shutil.rmtree(image_folder / "test")
    given = ("--dataset_name", "imagefolder", "--data_dir", image_folder, "--output_dir", tmp_path / "results")
    folder = save_model(tmp_path / "three", models.build("small_cnn", 3), {})
    status, _, err = judged(monkeypatch, capsys, "--model_name", folder, *given)
    assert status == 2 and len(err) == 1 and "--split train" in err[0]
    few = ("--split", "train", "--dataset_len", 6, "--attack_method", "none")
    status, out, _ = judged(monkeypatch, capsys, "--model_name", folder, *given, *few)
    assert status == 0 and out[1].startswith("clean, 6 instances")


def test_a_model_of_another_class_count_is_refused(tmp_path, monkeypatch, capsys):
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil

    ours = save_model(tmp_path / "ours", models.build("small_cnn", 3), {})
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    backbone = ViTForImageClassification(ViTConfig(image_size=16, patch_size=8, num_labels=3, **sizes))
    backbone.save_pretrained(tmp_path / "hub")
    ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(tmp_path / "hub")
    for folder in (ours, tmp_path / "hub"):
        status, _, err = judged(monkeypatch, capsys, "--model_name", folder, "--output_dir", tmp_path / "results")
        assert status == 2 and len(err) == 1
        assert f"--model_name {folder} tells 3 classes apart, the dataset has 10" in err[0]
    assert not (tmp_path / "results").exists()
