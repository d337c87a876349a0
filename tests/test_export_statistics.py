"""scripts/export_statistics.py: all metrics of all instances, as a table and as arrays, and what other tools take."""

import csv

import numpy as np
import pytest
from conftest import refuses
from looking import random_records, start, write_statistics

from robust_data import datasets, records, tables
from robust_data.analysis import export
from robust_data.analysis.statistics_file import open_statistics
from robust_data.metrics import IDENTITY
from robust_data.scripts import export_statistics, import_statistics, select_instances

LABELS = np.array([0, 1, 2, 1, 0, 2, 2, 1])


def exported(statistics, *arguments, suffix=""):
    """The arrays of the .npz that lies beside a statistics file, none of them pickled."""
    start(export_statistics, "--statistics", statistics, "--format", "npz", *arguments)
    with np.load(statistics.with_name(f"{statistics.stem}_instances{suffix}.npz"), allow_pickle=False) as found:
        return dict(found)


def table(path):
    with open(path, newline="") as file:
        return tables.read(file)


@pytest.fixture
def mine(tmp_path):
    return write_statistics(tmp_path / "mine.npy", LABELS, label_names=["cat", "dog", "eel"])[0]


SWITCHES = ((0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 1, 1))


@pytest.mark.parametrize("switches", SWITCHES)
def test_the_arrays_are_the_metrics(mine, switches):
    names = ("only_original_pred", "within_class", "use_untrained_model")
    given = [word for name, value in zip(names, switches) for word in (f"--{name}", value)]
    suffix = "".join(f"_{name}" for name in (names[1], names[0], names[2]) if switches[names.index(name)])
    found = exported(mine, *given, suffix=suffix)
    metrics = open_statistics(mine, *switches).metrics
    assert found.pop("label_names").tolist() == ["cat", "dog", "eel"]
    np.testing.assert_array_equal(found.pop("label"), metrics["golden_label"])
    assert [*found] == [name for name in metrics if name != "golden_label"]
    for name, values in found.items():
        np.testing.assert_array_equal(values, metrics[name], name)
        assert values.dtype == metrics[name].dtype


@pytest.mark.parametrize("relative", [0, 1])
def test_the_table_has_the_same_and_is_that_of_all_chosen_instances(mine, tmp_path, relative):
    switch = ("--within_class", relative, "--output", tmp_path / "all")
    start(export_statistics, "--statistics", mine, *switch)
    lines = table(tmp_path / "all.csv")
    metrics = open_statistics(mine, relative=relative).metrics
    assert [*lines[0]] == ["index", "label", "label_name", *(name for name in metrics if name not in IDENTITY)]
    for name in metrics:
        column = [float(line["label" if name == "golden_label" else name]) for line in lines]
        np.testing.assert_array_equal(column, metrics[name], name)
    assert [line["label_name"] for line in lines] == [["cat", "dog", "eel"][label] for label in LABELS]
    start(select_instances, "--statistics", mine, "--select_ratio", 1, "--output", tmp_path / "chosen")
    chosen = sorted(table(tmp_path / "chosen.csv"), key=lambda line: int(line["index"]))
    assert relative or chosen == lines


def test_every_perturbation_has_a_file_of_its_own(tmp_path, capsys):
    paths = [write_statistics(tmp_path / f"{name}.npy", LABELS)[0] for name in ("blur", "fog")]
    start(export_statistics, "--statistics", *paths)
    tables_of = [tmp_path / "blur_instances.csv", tmp_path / "fog_instances.csv"]
    assert capsys.readouterr().out == "".join(f"saved {path}\n" for path in tables_of)
    assert all(len(table(path)) == len(LABELS) for path in tables_of)
    with refuses("--output"):
        start(export_statistics, "--statistics", *paths, "--output", "all")


@pytest.mark.parametrize("leave_out", [0, 1])
def test_checkpoints_are_those_that_count(mine, leave_out):
    suffix = "_only_original_pred" if leave_out else ""
    found = exported(mine, "--per_checkpoint", 1, "--only_original_pred", leave_out, suffix=suffix)
    rows = records.load(mine)[0][1:]
    columns = np.isin(rows["index"][0], found["index"])
    assert columns.all() != leave_out
    assert found["global_step"].tolist() == [10, 20, 30]
    for name in set(records.DTYPE.names) - {"global_step", "index", "golden_label"}:
        np.testing.assert_array_equal(found[name], rows[name][:, columns], name)
    with refuses("--per_checkpoint"):
        start(export_statistics, "--statistics", mine, "--per_checkpoint", 1)


def test_files_are_named_by_which_other_tools_know_a_sample(image_folder, tmp_path):
    dataset = datasets.load("imagefolder", "train", data_dir=image_folder)
    about = {"arguments": {"dataset_name": "imagefolder", "data_dir": str(image_folder)}}
    statistics, _ = write_statistics(tmp_path / "s.npy", dataset.labels.numpy(), **about)
    found = exported(statistics, "--dataset_name", "imagefolder")
    assert found["source"].tolist() == dataset.sources and (image_folder / "train").exists()
    assert [(image_folder / "train" / "cat" / "0.png").samefile(found["source"][0])] == [True]
    start(export_statistics, "--statistics", statistics, "--dataset_name", "imagefolder")
    sensitivity = {line["source"]: float(line["perturbed_loss_mean"]) for line in table(tmp_path / "s_instances.csv")}
    assert sensitivity == dict(zip(found["source"].tolist(), found["perturbed_loss_mean"].tolist()))


@pytest.fixture
def reviews(tmp_path):
    """A data set of texts, and its statistics."""
    texts = ["=fine, and wise", "+dull", "a quiet, warm film", "dull again"]
    with open(tmp_path / "reviews.csv", "w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *zip(texts, ("good", "bad", "good", "bad"))])
    about = {"dataset_name": "csv", "arguments": {"dataset_name": "csv", "data_dir": str(tmp_path / "reviews.csv")}}
    labels = datasets.load("csv", "train", data_dir=tmp_path / "reviews.csv").labels.numpy()
    return texts, write_statistics(tmp_path / "s.npy", labels, **about)[0]


def test_texts_are_as_they_are_and_no_formulas_of_a_spreadsheet(reviews, tmp_path):
    texts, statistics = reviews
    assert exported(statistics)["source"].tolist() == texts
    start(export_statistics, "--statistics", statistics)
    assert [line["source"] for line in table(tmp_path / "s_instances.csv")] == texts
    assert "'=fine" in (tmp_path / "s_instances.csv").read_text()


def test_texts_that_would_fill_the_memory_are_in_the_table_alone(reviews, monkeypatch, capsys):
    monkeypatch.setattr(export, "LARGEST_TEXTS", 100)
    assert "source" not in exported(reviews[1])
    assert "--format csv has them" in capsys.readouterr().err


def test_the_data_are_not_written_over(reviews, tmp_path):
    before = (tmp_path / "reviews.csv").read_bytes()
    for script in (export_statistics, select_instances):
        with refuses("reviews.csv"):
            start(script, "--statistics", reviews[1], "--output", tmp_path / "reviews")
    assert (tmp_path / "reviews.csv").read_bytes() == before and not (tmp_path / "reviews.npy").exists()


def test_the_probabilities_of_two_classes_are_those_of_the_logits(tmp_path):
    draws, labels = np.random.default_rng(0), np.array([0, 1, 1, 0, 1])
    logits = draws.normal(size=(4, 5, 2)).astype(np.float32)
    np.save(tmp_path / "logits.npy", logits)
    np.save(tmp_path / "labels.npy", labels)
    files = ("--logits", tmp_path / "logits.npy", "--labels", tmp_path / "labels.npy")
    start(import_statistics, *files, "--output", tmp_path / "two.npy")
    softmax = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    found = exported(tmp_path / "two.npy")
    np.testing.assert_allclose(found["pred_probs"], softmax.mean(axis=0), rtol=1e-5)
    np.testing.assert_array_equal(found["pred_probs"][np.arange(5), labels], found["confidence"])
    # Of clean inputs alone no metric of perturbed ones is made up.
    assert "perturbed_loss_mean" not in found
    # Relative to the class confidence is no probability; pred_probs still are.
    relative = exported(tmp_path / "two.npy", "--within_class", 1, suffix="_within_class")
    np.testing.assert_array_equal(relative["pred_probs"], found["pred_probs"])


@pytest.mark.parametrize("names", [None, ["a"], ["a", "b"], ["a", "b", "c"]])
def test_probabilities_that_the_records_do_not_tell_are_not_made_up(tmp_path, names):
    statistics, _ = write_statistics(tmp_path / "s.npy", LABELS, label_names=names)
    assert "pred_probs" not in exported(statistics)


@pytest.mark.parametrize("value", [-0.5, 1.5, np.inf])
def test_what_is_no_probability_is_not_passed_on(tmp_path, value):
    rows = random_records(LABELS)
    rows["after_perturb_probability"][2, 3] = value
    records.save(tmp_path / "s.npy", rows, {})
    with refuses("after_perturb_probability"):
        start(export_statistics, "--statistics", tmp_path / "s.npy")
