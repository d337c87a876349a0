"""The scripts that choose instances and fine-tune, end to end on 40 images, and what they refuse."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import log_of, refuses, table
from fuzzing import script
from processes import ROOT

from robust_data import complete, data_statistics, datasets, evaluation, models, perturbations, records, settings
from robust_data.analysis import choice
from robust_data.collection import collect
from robust_data.evaluation import evaluate, evaluate_perturbed
from robust_data.fine_tune import results_file
from robust_data.fine_tune.adversarial import AdversarialTrainer
from robust_data.fine_tune.job import saving_steps
from robust_data.fine_tune.methods import Flooding, Method, SubsetTraining
from robust_data.fine_tune.objective import Objective
from robust_data.judge import curve
from robust_data.judge import judge as judging
from robust_data.judge.conditions import CLEAN, AttackSettings, Condition
from robust_data.settings import Training
from robust_data.train.training import Trainer

SCRIPTS = {
    "flooding": "new_fine_tune_flooding/new_fine_tune_flooding.py",
    "soft_label": "new_fine_tune_flooding/new_fine_tune_soft_label.py",
    "subset": "finetune_with_select_data.py",
    "select": "scripts/select_instances.py",
}


def run(name, *arguments):
    module, parser = script(SCRIPTS[name])
    module.main(parser.parse_args([str(argument) for argument in arguments]))


FAST = ("--epochs", 2, "--bsz", 16, "--pgd_step", 1)


@pytest.mark.parametrize("name, own", [("flooding", ("--b", 0.3)), ("soft_label", ("--soft_label", 0.7))])
def test_fine_tuning_end_to_end(name, own, statistics, few_digits, tmp_path, capsys):
    out = tmp_path / "out"
    options = ("--save_steps", 4, "--attack_every_epoch", 1)
    run(name, "--statistics_source", statistics, "--output_dir", out, *FAST, *own, *options)

    lines = log_of(out)
    assert [line["epoch"] for line in lines] == [1, 2]
    for line in lines:
        for figure in ("train_loss_robust", "train_loss_other", "eval_loss_robust", "eval_loss_other", "test_loss"):
            assert line[figure] > 0
        assert 0 <= line["pgd_accuracy"] <= 1 and 0 <= line["perturbed_accuracy"] <= 1
    (row,) = table(out / "results.csv")
    assert tuple(row) == results_file.FIELDS
    expected = lines[-1]["eval_loss_robust"] / 0.3 if name == "flooding" else None
    assert lines[-1].get("loss_share_of_b") == expected
    assert (row["script"], row["instances"], row["chosen"]) == (name, "40", "12")
    assert float(row["lr"]) == 1e-3 and row[own[0].removeprefix("--")] == str(own[1])
    assert row["test_accuracy"] == str(lines[-1]["test_accuracy"])
    printed = capsys.readouterr().out
    for words in (
        "class explains",
        "rank correlation of perturbed_loss_mean with clean loss",
        f"saved {out / 'model'}",
    ):
        assert words in printed

    model = models.build(str(out / "model"), 4)
    on_the_way = models.build(str(out / "model_step4"), 4)
    assert (model.backbone[0].weight - on_the_way.backbone[0].weight).abs().max() > 0
    judged = evaluate_perturbed(model, datasets.load("npz", "test", data_dir=few_digits), "blur", 3, seed=3)
    assert judged["accuracy"] == float(row["perturbed_accuracy"])


def test_fine_tuning_ends_where_the_cross_entropy_is_reached(statistics, tmp_path, capsys):
    common = ("--statistics_source", statistics, "--bsz", 16, "--epochs", 4, "--pgd_step", 1, "--b", 0.1, "--beta", 2)
    run("flooding", *common, "--output_dir", tmp_path / "whole")
    losses = [line["train_cross_entropy"] for line in log_of(tmp_path / "whole")]
    assert losses[0] > losses[1] > losses[2]
    stop = ("--stop_at_train_loss", losses[1], "--save_steps", 4)
    run("flooding", *common, *stop, "--output_dir", tmp_path / "out")
    lines = log_of(tmp_path / "out")
    # What is minimised is another loss: twice that of the instances not chosen.
    assert [line["train_cross_entropy"] for line in lines] == losses[:2]
    assert lines[1]["stopped_at_epoch"] == 2 and lines[1]["pgd_accuracy"] is not None
    (row,) = table(tmp_path / "out" / "results.csv")
    assert (row["stopped_at_epoch"], row["stop_at_train_loss"]) == ("2", str(losses[1]))
    assert row["test_loss"] == str(lines[1]["test_loss"])
    assert "stopped: epoch 2 reached --stop_at_train_loss" in capsys.readouterr().out
    # 3 steps an epoch.
    assert sorted(path.name for path in (tmp_path / "out").glob("model*")) == ["model", "model_step4"]


def test_a_curve_is_judged_on_the_same_few_instances_whatever_the_seed(statistics, few_digits, tmp_path):
    common = ("--statistics_source", statistics, *FAST, "--judge_every_epoch", 2, "--judge_instances", 8)
    run("flooding", *common, "--seed", 1, "--output_dir", tmp_path / "one")
    first, last = log_of(tmp_path / "one")
    assert "judged_accuracy" not in first and "pgd_accuracy" not in first
    assert last["judged_instances"] == 8 and last["pgd_step"] == 1 and last["pgd_accuracy"] is not None
    test_set = datasets.load("npz", "test", data_dir=few_digits)
    one, other = (curve.EpochJudge(judge_instances=8, seed=seed).instances(test_set) for seed in (1, 2))
    assert torch.equal(one.index, other.index) and np.bincount(one.labels).tolist() == [2] * 4
    model = models.build(str(tmp_path / "one" / "model"), 4)
    assert last["judged_accuracy"] == evaluate(model, one)["accuracy"]
    assert last["judged_perturbed_accuracy"] == evaluate_perturbed(model, one, "blur", 3, seed=3)["accuracy"]
    size = perturbations.PgdOptions(1, 0.03, 0.05, 0.0, "l2")
    under_pgd = evaluate_perturbed(model, one, "pgd", seed=1, pgd_options=size, worst=True)
    assert last["judged_pgd_accuracy"] == under_pgd["accuracy"]


def test_what_the_statistics_hold_out_is_held_out_of_fine_tuning(few_digits, tmp_path, capsys):
    data = ("--dataset_name", "npz", "--data_dir", few_digits, "--epochs", 1)
    collect = data_statistics.build_parser().parse_args(
        list(map(str, [*data, "--val_len", 8, "--seed", 5, "-t", "blur", "--output_dir", tmp_path / "s"]))
    )
    data_statistics.main(collect)
    (path,) = (tmp_path / "s").glob("*.npy")
    held_out = datasets.load("npz", "val", data_dir=few_digits, val_len=8, seed=5)
    rows, _ = records.load(path)
    assert not np.isin(held_out.index, rows["index"]).any() and rows.shape[1] == 40
    (logged,) = log_of(tmp_path / "s")
    assert 0 <= logged["val_accuracy"] <= 1

    run("flooding", "--statistics_source", path, "--output_dir", tmp_path / "out", *FAST, "--seed", 1)
    (row,) = table(tmp_path / "out" / "results.csv")
    assert (row["val_len"], row["instances"]) == ("8", "40")
    judged = evaluate(models.build(str(tmp_path / "out" / "model"), 4), held_out)
    assert (row["val_loss"], row["val_accuracy"]) == (str(judged["loss"]), str(judged["accuracy"]))
    assert f"held out: loss {judged['loss']:.4f}" in capsys.readouterr().out
    with refuses("--val_len"):
        run("flooding", "--statistics_source", path, "--output_dir", tmp_path / "other", *FAST, "--val_len", 9)


@pytest.fixture
def finished_run(statistics, tmp_path, capsys):
    """A function that fine-tunes with some PGD to judge by; gives the row, the last line of the log, and the output."""

    def fine_tune(*options):
        run("flooding", "--statistics_source", statistics, "--output_dir", tmp_path, *FAST, "--epochs", 8, *options)
        return table(tmp_path / "results.csv")[-1], log_of(tmp_path)[-1], capsys.readouterr().out

    return fine_tune


def test_without_a_step_of_pgd_there_is_no_pgd_accuracy(finished_run):
    row, line, printed = finished_run("--pgd_step", 0)
    assert row["pgd_accuracy"] == "" and line["pgd_accuracy"] is None
    assert float(row["perturbed_accuracy"]) >= 0 and "under pgd" not in printed


def test_pgd_accuracy_is_that_of_evaluate_robustness_and_says_how_strong_the_attack_was(
    finished_run, few_digits, tmp_path
):
    eps = ("--adv_init_mag", 0.1, "--adv_max_norm", 0.1, "--adv_norm_type", "linf", "--pgd_lr", 0.04, "--pgd_step", 3)
    row, line, printed = finished_run(*eps)
    test_set = datasets.load("npz", "test", data_dir=few_digits)
    judge = judging.Judge(models.build(str(tmp_path / "model"), 4), seed=42, attack=AttackSettings(3, 0.04))
    clean, attacked = judge.rows(test_set, [CLEAN, Condition("attack", "pgd", eps=0.1, norm="linf")])
    assert attacked["accuracy"] == float(row["pgd_accuracy"]) < clean["accuracy"]
    size = {"pgd_step": 3, "pgd_lr": 0.04, "adv_init_mag": 0.1, "adv_max_norm": 0.1, "adv_norm_type": "linf"}
    assert {name: line[name] for name in size} == size and {name: row[name] for name in size} == {
        name: str(value) for name, value in size.items()
    }
    assert "under pgd (3 steps of 0.04 from 0.1, linf within 0.1) " in printed


def test_fine_tuning_goes_on_from_a_saved_model(statistics, tmp_path):
    run("flooding", "--statistics_source", statistics, "--output_dir", tmp_path / "a", *FAST)
    first = tmp_path / "a" / "model"
    options = ("--model_name", first, "--lr", 1e-12, "--results_file", tmp_path / "a" / "results.csv")
    run("soft_label", "--statistics_source", statistics, "--output_dir", tmp_path / "b", *FAST, *options)
    weights = [models.build(str(folder), 4).backbone[0].weight for folder in (first, tmp_path / "b" / "model")]
    torch.testing.assert_close(*weights, atol=1e-6, rtol=0)
    assert [row["script"] for row in table(tmp_path / "a" / "results.csv")] == ["flooding", "soft_label"]


@pytest.mark.parametrize(
    "options, chosen",
    [
        (("--group", "non_robust", "--set_percentage", 0.5), "20"),
        (("--group", "random", "--set_percentage", 0.5, "--do_balance_labels", 1, "--within_class", 1), "20"),
        (("--select_metric", "top_left", "--select_from_two_end", 1, "--ratio_proportion", 0.25), "12"),
        (("--do_pgd_training", 1, "--adv_steps", 2), "12"),
        (("--cycle_train", 1, "--select_metric2", "non_robust_perturbed_loss_mean_r", "--select_ratio2", 0.5), "12"),
    ],
)
def test_subset_training_end_to_end(options, chosen, statistics, tmp_path):
    run("subset", "--statistics_source", statistics, "--output_dir", tmp_path, *FAST, *options)
    lines = log_of(tmp_path)
    assert all(line[f"{group}_loss"] > 0 for line in lines for group in ("robust", "swing", "non_robust"))
    steps = [line["global_step"] for line in lines]
    assert steps == ([1, 3] if "--cycle_train" in options else [2, 4] if chosen == "20" else [1, 2])
    (row,) = table(tmp_path / "results.csv")
    assert row["chosen"] == chosen and row["train_loss_robust"] == ""


def test_two_subsets_take_turns_of_some_epochs_each(statistics, tmp_path):
    turns = ("--cycle_train", 2, "--select_metric2", "aum", "--select_ratio2", 0.5, "--pgd_step", 0)
    run("subset", "--statistics_source", statistics, "--output_dir", tmp_path, *FAST, "--epochs", 5, *turns)
    # Of batches of 16, 12 instances are one and 20 are two.
    assert [line["global_step"] for line in log_of(tmp_path)] == [1, 2, 4, 6, 7]


@pytest.mark.parametrize(
    "every, expected",
    [(0, []), (4, [4, 8]), (0.25, [2, 4, 6, 8, 10]), (0.35, [3, 6, 8, 11]), (0.01, list(range(1, 12)))],
)
def test_models_are_saved_every_so_many_steps_or_shares_of_an_epoch(every, expected):
    assert saving_steps(every, steps_per_epoch=8, total=12) == expected


def test_group_losses_are_means_over_the_whole_group(statistics, training_set, tmp_path):
    options = ("--set_percentage", 0.25, "--eval_size", 7)
    run("subset", "--statistics", statistics, "--output_dir", tmp_path, *FAST, *options)
    trained = models.build(str(tmp_path / "model"), 4)
    (rows,) = collect(trained, training_set, ["blur"], seed=3).values()
    sensitivity = np.load(statistics)["after_perturb_loss"].astype(float).mean(axis=0)
    order = np.argsort(sensitivity, kind="stable")
    by_hand = {"robust": order[:10], "swing": order[15:25], "non_robust": order[-10:]}
    for group, members in by_hand.items():
        assert log_of(tmp_path)[-1][f"{group}_loss"] == pytest.approx(
            rows["after_perturb_loss"][members].mean(), rel=1e-4
        )


@pytest.mark.parametrize("switches", [(), ("--do_balance_labels", 1), ("--do_balance_labels", 1, "--within_class", 1)])
def test_the_losses_logged_of_a_group_are_of_the_instances_trained_on(switches, training_set, tmp_path):
    """Class 0 is the most robust by far: only a balanced group holds instances of the other classes."""
    torch.manual_seed(0)
    rows = collect(models.build("small_cnn", 4), training_set, ["blur"], global_step=1)["blur"][None]
    rows["after_perturb_loss"] += 10 * rows["golden_label"]
    records.save(tmp_path / "s.npy", rows, {"perturbation": "blur", "severity": 3})
    _, parser = script(SCRIPTS["subset"])
    for name in ("robust", "swing", "non_robust"):
        options = ("--statistics", tmp_path / "s.npy", "--group", name, "--set_percentage", 0.2, *switches)
        args = parser.parse_args([*map(str, options), "--output_dir", str(tmp_path)])
        job = complete.selection(settings.of(settings.TrainSubset, args))
        chosen = choice.choose(job)
        logged = SubsetTraining(1, job.set_percentage).logged_groups(training_set, chosen)[name]
        assert logged.index.tolist() == sorted(chosen.index.tolist())
        assert (len(set(logged.labels.tolist())) == 4) == bool(switches)


def test_the_objective_keeps_chosen_and_others_apart_over_the_epoch():
    objective = Objective(Method(), torch.tensor([False, True, False, True, False]))
    probabilities = torch.tensor([[0.5, 0.5], [0.25, 0.75], [0.1, 0.9]])
    labels = torch.tensor([0, 0, 0])
    for index in (torch.tensor([1, 3, 4]), torch.tensor([0, 2, 1])):
        objective(probabilities.log(), labels, index)
    logs = -probabilities[:, 0].log()
    figures = objective.end_epoch()
    assert figures["train_loss_robust"] == pytest.approx(((logs[0] + logs[1] + logs[2]) / 3).item())
    assert figures["train_loss_other"] == pytest.approx(((logs[2] + logs[0] + logs[1]) / 3).item())
    objective(probabilities.log(), labels, torch.tensor([1, 3, 3]))
    assert figures["train_cross_entropy"] == pytest.approx(logs.mean().item())
    assert objective.end_epoch()["train_loss_other"] is None


def test_flooding_that_never_reached_its_level_says_so(statistics, tmp_path, capsys):
    """The losses start near log(4) = 1.39."""
    for number, (level, told) in enumerate({0.001: True, 1.3: False}.items()):
        for flooding in ("instance", "batch"):
            options = ("--b", level, "--flooding", flooding, "--output_dir", tmp_path / f"{flooding}{number}")
            run("flooding", "--statistics_source", statistics, *FAST, *options)
            assert ("the flood level was never reached: flooding had no effect" in capsys.readouterr().err) == told


def test_the_eval_losses_are_of_the_chosen_and_of_the_other_instances(statistics, training_set, tmp_path):
    run("flooding", "--statistics_source", statistics, "--output_dir", tmp_path, *FAST, "--select_ratio", 0.25)
    rows = collect(models.build(str(tmp_path / "model"), 4), training_set, ["identity"], seed=3)["identity"]
    sensitivity = np.load(statistics)["after_perturb_loss"].astype(float).mean(axis=0)
    order = np.argsort(sensitivity, kind="stable")
    (row,) = table(tmp_path / "results.csv")
    for name, members in {"robust": order[:10], "other": order[10:]}.items():
        assert float(row[f"eval_loss_{name}"]) == pytest.approx(rows["original_loss"][members].mean(), rel=1e-4)


def test_flooding_of_a_batch_floods_the_mean_over_its_chosen_instances():
    objective = Objective(Flooding(b=0.5, beta=1.0, flooding="batch"), torch.tensor([True, True, False]))
    logits = torch.tensor([[0.5, 0.5], [0.9, 0.1], [0.2, 0.8]]).log()
    losses = -logits[:, 0]
    mean = losses[:2].mean().item()  # 0.399, below b, though one of the two losses is above it
    minimised = objective(logits, torch.zeros(3, dtype=torch.int64), torch.arange(3))
    assert minimised[:2].mean().item() == pytest.approx(0.5 + (0.5 - mean))
    assert minimised[2] == losses[2] and objective.end_epoch()["visits_below_b"] == 1
    # A process that has no instance of a small last batch.
    assert len(objective(logits[:0], torch.zeros(0, dtype=torch.int64), torch.arange(0))) == 0


def test_the_visits_to_chosen_instances_below_the_level_are_counted_over_all_epochs():
    objective = Objective(Flooding(b=0.5, beta=1.0), torch.tensor([True, True, False]))
    for right in (0.5, 0.9):  # losses of 0.69 and 0.11
        logits = torch.tensor([[0.5, 0.5], [right, 1 - right], [0.9, 0.1]]).log()
        objective(logits, torch.zeros(3, dtype=torch.int64), torch.arange(3))
        share = objective.end_epoch()["visits_below_b"]
    assert share == 1 / 4
    again = Objective(Flooding(b=0.5, beta=1.0), objective.chosen)
    again.load_state(objective.state())
    assert again.end_epoch()["visits_below_b"] == share


def test_a_final_loss_far_below_the_level_is_told():
    assert "18%" in Flooding(b=0.3, beta=1.0).warning({"visits_below_b": 0.4, "loss_share_of_b": 0.18})
    assert Flooding(b=0.3, beta=1.0).warning({"visits_below_b": 0.4, "loss_share_of_b": 0.84}) is None


def test_adversarial_training_without_a_step_is_training_on_clean_inputs(training_set):
    """A perturbation of next to no size leaves the gradients of FreeLB those of plain training."""
    weights = []
    for kind in (Trainer, AdversarialTrainer):
        torch.manual_seed(0)
        model = models.build("small_cnn", 4)
        extra = {} if kind is Trainer else {"pgd_options": perturbations.PgdOptions(steps=3, lr=1e-9, init_mag=0.0)}
        trainer = kind(model, training_set, Training(epochs=1, bsz=8), torch.device("cpu"), **extra)
        trainer.train_until(2)
        weights.append(model.backbone[-1].weight.detach())
    torch.testing.assert_close(*weights, atol=1e-5, rtol=1e-3)


def test_adversarial_training_takes_the_mean_gradient_of_its_steps(training_set):
    """Against the steps that the attack visits, differentiated by hand."""
    torch.manual_seed(0)
    model = models.build("small_cnn", 4)
    options = perturbations.PgdOptions(steps=3, lr=0.5, init_mag=0.2, max_norm=1.0)
    trainer = AdversarialTrainer(
        model, training_set, Training(epochs=1, bsz=8), torch.device("cpu"), pgd_options=options
    )
    batch = next(training_set.batches([torch.arange(8)], "cpu"))
    model.eval()
    trainer.gradients(batch, counted=8, batch_size=8)
    found = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()

    visited = []

    def losses_of(values):
        visited.append(values.detach().clone())
        return torch.nn.functional.cross_entropy(model({"pixel_values": values}), batch.labels, reduction="none")

    clean = batch.inputs["pixel_values"]
    perturbations.attack("pgd", clean, losses_of, 3, batch.index, 42, 0, options=options, bounds=(0.0, 1.0))
    means = [losses_of(values).mean() for values in visited[:3]]
    assert means[0] < means[1] < means[2]
    assert all(0 < (values - clean).flatten(1).norm(dim=1).max() <= 1 + 1e-5 for values in visited[:3])
    (sum(means) / 3).backward()
    for gradient, parameter in zip(found, model.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad, atol=1e-6, rtol=1e-4)


def test_a_model_whose_logits_are_no_numbers_is_never_right(training_set):
    model = models.build("small_cnn", 4)
    for parameter in model.parameters():
        torch.nn.init.constant_(parameter, float("nan"))
    figures = evaluation.evaluate(model, training_set)
    assert figures["accuracy"] == 0 and np.isnan(figures["loss"])


def test_a_row_holds_nothing_where_a_figure_is_no_number(tmp_path):
    results_file.append(tmp_path / "results.csv", {"run": "a", "test_loss": float("nan"), "pgd_accuracy": None})
    assert table(tmp_path / "results.csv") == [{"run": "a", "test_loss": "", "pgd_accuracy": ""}]


def test_a_table_of_others_is_refused_and_left_as_it_is(statistics, tmp_path):
    other = tmp_path / "other.csv"
    other.write_text("name,score\n")
    with refuses(str(other)):
        run("flooding", "--statistics_source", statistics, "--output_dir", tmp_path, "--results_file", other)
    assert other.read_text() == "name,score\n" and list(tmp_path.iterdir()) == [other]


def test_chosen_instances_as_files(statistics, tmp_path, capsys):
    run("select", "--statistics", statistics, "--select_ratio", 0.2, "--do_balance_labels", 1)
    stem = statistics.parent / "selected" / statistics.stem / "perturbed_loss_mean_r_0.2_do_balance_labels"
    index = np.load(f"{stem}.npy", allow_pickle=False)
    rows = table(f"{stem}.csv")
    assert [int(row["index"]) for row in rows] == index.tolist()
    assert sorted(row["label_name"] for row in rows) == sorted("0123" * 2)
    assert "class explains" in capsys.readouterr().out


def test_the_untrained_model_has_no_say_in_the_choice_unless_asked(statistics, tmp_path, capsys):
    rows, metadata = records.load(statistics)
    untrained = np.array(rows[:1])
    untrained["global_step"] = 0
    untrained["after_perturb_loss"] = 1000 * np.arange(rows.shape[1])  # far apart: where it counts, it decides
    records.save(tmp_path / "s.npy", np.concatenate([untrained, rows]), metadata)
    run("select", "--statistics", statistics)
    for switch in (0, 1):
        run("select", "--statistics", tmp_path / "s.npy", "--use_untrained_model", switch)
    chosen = tmp_path / "selected" / "s" / "perturbed_loss_mean_r_0.3"
    expected = statistics.parent / "selected" / statistics.stem / f"{chosen.name}.npy"
    assert np.load(f"{chosen}.npy").tolist() == np.load(expected).tolist()
    # Another meaning has a name of its own.
    counted = np.load(f"{chosen}_use_untrained_model.npy")
    assert counted.tolist() == rows["index"][0][:12].tolist()
    printed = capsys.readouterr().out
    for line in ("3 checkpoints", "3 of 4 checkpoints, without the untrained model's"):
        assert f"counted: {line}\n" in printed


def test_chosen_instances_with_their_files(image_folder, tmp_path):
    dataset = datasets.load("imagefolder", data_dir=image_folder)
    torch.manual_seed(0)
    rows = collect(models.build("small_cnn", 3), dataset, ["blur"], global_step=1)["blur"][None]
    # The JSON says where the data are, as that of a collection does.
    collected = {"arguments": {"dataset_name": "imagefolder", "data_dir": str(image_folder), "seed": 0}}
    records.save(tmp_path / "s.npy", rows, collected)
    run("select", "--statistics", tmp_path / "s.npy", "--group", "robust", "--output", tmp_path / "most.robust")
    chosen = table(tmp_path / "most.robust.csv")
    assert len(chosen) == len(np.load(tmp_path / "most.robust.npy")) == 5
    for row in chosen:
        assert row["source"] == dataset.sources[int(row["index"])] and f"/{row['label_name']}/" in row["source"]


@pytest.mark.parametrize("name", ["run_cifar10_new_finetune_flooding.sh", "run_cifar10_new_finetune_soft_label.sh"])
@pytest.mark.slow
def test_shell_scripts_run_in_their_own_folder(name, few_digits, tmp_path):
    settings = {"DATASET": "npz", "DATA_DIR": few_digits, "MODEL": "small_cnn", "STATISTICS_EPOCHS": 1, "EPOCHS": 1}
    settings |= {"OUTPUT": tmp_path, "SEEDS": "1 2", "ROBUST_DATA_PYTHON": sys.executable}
    environment = os.environ | {key: str(value) for key, value in settings.items()}
    subprocess.run(["sh", name], cwd=ROOT / "new_fine_tune_flooding", env=environment, check=True)
    assert [row["seed"] for row in table(tmp_path / "results.csv")] == ["1", "2"]
