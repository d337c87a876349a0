"""scripts/import_statistics.py: the fields of a collection from logits, and dataset cartography's files."""

import json

import numpy as np
import pytest
import torch
from conftest import refuses
from looking import start

from robust_data import models, records
from robust_data.analysis.statistics_file import open_statistics
from robust_data.collection import collect
from robust_data.metrics import OF_PERTURBED_INPUTS, instance_metrics
from robust_data.plot_utils import plotting, report, sample_images
from robust_data.scripts import compare_statistics, convert_statistics, import_statistics, select_instances
from robust_data.settings import Data, names

LABELS = np.array([0, 1, 2, 1, 0, 2])


def run(*arguments):
    """Import."""
    start(import_statistics, *arguments)


@pytest.fixture(scope="module")
def arrays(tmp_path_factory):
    """Logits of 3 checkpoints, 6 instances and 3 classes, with their labels."""
    folder = tmp_path_factory.mktemp("arrays")
    draws = np.random.default_rng(0)
    for name in ("clean", "perturbed"):
        np.save(folder / f"{name}.npy", draws.normal(size=(3, 6, 3)).astype(np.float32))
    np.save(folder / "labels.npy", LABELS)
    return folder


def given(arrays, **files):
    """The arguments of these arrays, some of the files replaced or added."""
    named = {"logits": arrays / "clean.npy", "labels": arrays / "labels.npy"} | files
    return [word for name, value in named.items() if value is not None for word in (f"--{name}", value)]


def write_epoch(folder, number, rows, field=None):
    """Write {guid: (gold, logits)} as cartography does."""
    folder.mkdir(exist_ok=True)
    field = field or f"logits_epoch_{number}"
    lines = [json.dumps({"guid": guid, field: logits, "gold": gold}) for guid, (gold, logits) in rows.items()]
    (folder / f"dynamics_epoch_{number}.jsonl").write_text("\n".join(lines) + "\n")


def test_logits_of_a_collection_give_its_fields_bit_for_bit(tmp_path, training_set, few_digits):
    torch.manual_seed(0)
    model = models.build("small_cnn", 4).eval()
    with torch.inference_mode():
        (batch,) = training_set.batches([torch.arange(len(training_set))], "cpu")
        logits = model(batch.inputs)
    # Measured in another order than that of the data set.
    order = np.random.default_rng(0).permutation(len(training_set))
    for name, array in (("logits", logits.numpy()[None, order]), ("index", training_set.index.numpy()[order])):
        np.save(tmp_path / f"{name}.npy", array)
    data = ("--dataset_name", "npz", "--data_dir", few_digits, "--dataset_len", 40, "--seed", 3)
    files = ("--logits", tmp_path / "logits.npy", "--index", tmp_path / "index.npy")
    run(*files, "--perturbed_logits", tmp_path / "logits.npy", "--steps", 7, "--output", tmp_path / "s.npy", *data)
    rows = records.load(tmp_path / "s.npy")[0][0]
    collected = collect(model, training_set, ["identity"], global_step=7)["identity"]
    for field in records.DTYPE.names:
        if field != "delta_norm":
            np.testing.assert_array_equal(rows[field], collected[field], field)
    opened = open_statistics(tmp_path / "s.npy")
    # Fine-tuning and samples find the data again.
    found = opened.load_dataset(Data(**dict.fromkeys(names(Data))))
    opened.check_training_set(found)
    assert opened.describe() == "few.npz" and opened.label_name(3) == training_set.label_names[3]


def test_the_untrained_model_is_step_0(arrays, tmp_path):
    run(*given(arrays), "--steps", 0, 10, 20, "--output", tmp_path / "s.npy")
    logits = np.load(arrays / "clean.npy")
    trained = torch.from_numpy(logits[1:]).log_softmax(2)[:, np.arange(6), LABELS].exp().double().mean(0)
    metrics = instance_metrics(records.load(tmp_path / "s.npy")[0])
    np.testing.assert_allclose(metrics["confidence"], trained, rtol=1e-6)


def test_clean_logits_give_the_neighbours_metrics_and_no_other(arrays, tmp_path, capsys):
    run(*given(arrays), "--label_names", "cat", "dog", "eel", "--output", tmp_path / "s.npy")
    assert "clean inputs alone" in capsys.readouterr().out
    rows, about = records.load(tmp_path / "s.npy")
    assert about["clean_only"] is True and records.is_clean_only(rows) and np.isnan(rows["delta_norm"]).all()
    metrics = instance_metrics(rows)
    assert {"aum", "confidence", "correctness", "original_loss_mean"} <= set(metrics)
    assert not set(OF_PERTURBED_INPUTS) & set(metrics)


@pytest.fixture
def clean(arrays, tmp_path):
    run(*given(arrays), "--output", tmp_path / "clean.npy")
    return tmp_path / "clean.npy"


def test_the_map_of_clean_inputs_is_that_of_dataset_cartography(clean, arrays, tmp_path):
    start(plotting, "--statistics", clean, "--csv")
    assert (tmp_path / "clean.png").exists() and "aum" in (tmp_path / "clean_metrics.csv").read_text()
    run(*given(arrays, perturbed_logits=arrays / "perturbed.npy"), "--output", tmp_path / "both.npy")
    with refuses("clean.npy"):
        start(plotting, "--statistics", tmp_path / "both.npy", clean)
    with refuses("--colour"):
        start(plotting, "--statistics", clean, "--colour", "flip_rate")


@pytest.mark.parametrize(
    "by", [("--select_metric", "aum_r", "--select_ratio"), ("--group", "random", "--set_percentage")]
)
def test_instances_are_chosen_by_what_needs_no_perturbation(clean, tmp_path, by):
    start(select_instances, "--statistics", clean, *by, 0.5, "--output", tmp_path / "chosen")
    assert len(np.load(tmp_path / "chosen.npy")) == 3


@pytest.mark.parametrize(
    "script, given",
    [
        (select_instances, "--statistics FILE"),
        (select_instances, "--group robust --statistics FILE"),
        (select_instances, "--select_metric residual --statistics FILE"),
        (report, "--statistics FILE"),
        (sample_images, "--statistics FILE"),
        (compare_statistics, "FILE FILE"),
    ],
)
def test_what_needs_a_perturbation_says_so(clean, script, given):
    with refuses("perturbation"):
        start(script, *given.replace("FILE", str(clean)).split())


def test_clean_inputs_alone_stay_so_in_the_older_form(clean, tmp_path):
    there, again = tmp_path / "older.npy", tmp_path / "again.npy"
    start(convert_statistics, "--input", clean, "--output", there)
    start(convert_statistics, "--input", there, "--output", again)
    assert again.read_bytes() == clean.read_bytes()


def test_the_files_of_dataset_cartography(tmp_path):
    rows = {7: (1, [0.0, 2.0]), 3: (0, [1.5, 0.25])}
    write_epoch(tmp_path / "td", 0, rows)
    write_epoch(tmp_path / "td", 1, dict(reversed(rows.items())))
    run("--dynamics", tmp_path / "td", "--output", tmp_path / "s.npy")
    found = records.load(tmp_path / "s.npy")[0]
    assert found["index"].tolist() == [[3, 7]] * 2 and found["golden_label"].tolist() == [[0, 1]] * 2
    assert found["original_margin"].tolist() == [[1.25, 2.0]] * 2 and found["global_step"][:, 0].tolist() == [1, 2]
    assert not (tmp_path / "s_guids.csv").exists()


def test_guids_that_are_texts_are_numbered_and_named_in_a_file(tmp_path, few_digits):
    write_epoch(tmp_path / "td", 0, {"b,c": (1, [0.0, 2.0]), "=a": (0, [1.5, 0.25])})
    run("--dynamics", tmp_path / "td", "--output", tmp_path / "s.npy")
    assert records.load(tmp_path / "s.npy")[0]["golden_label"].tolist() == [[0, 1]]
    # A spreadsheet takes no guid for a formula.
    assert (tmp_path / "s_guids.csv").read_text() == """index,guid\n0,'=a\n1,"b,c"\n"""
    with refuses("=a"):
        run("--dynamics", tmp_path / "td", "--output", tmp_path / "s.npy", "--dataset_name", "digits")


@pytest.mark.parametrize(
    "name, array",
    [
        *(("logits", np.zeros(shape)) for shape in ((3, 6), (3, 6, 1), (3, 0, 3))),
        *(("logits", array) for array in (np.zeros((3, 6, 3), int), np.zeros(3, object))),
        # Not finite, also as float32, or probabilities.
        *(("logits", np.full((3, 6, 3), value)) for value in (np.nan, 1e300, 1 / 3)),
        *(("perturbed_logits", array) for array in (np.zeros((3, 5, 3)), np.full((3, 6, 3), np.inf))),
        *(("labels", array) for array in (np.arange(5), np.zeros(6), np.array([0, 1, 2, 3, 0, 0]), np.arange(6) - 2)),
        ("labels", np.full(6, 2**64 - 1, np.uint64)),
        *(("index", array) for array in (np.array([0, 1, 1, 2, 3, 4]), np.arange(6) - 1)),
    ],
)
def test_arrays_that_are_none_are_refused_and_nothing_is_left(arrays, tmp_path, name, array):
    np.save(tmp_path / f"{name}.npy", array)
    output = tmp_path / "result" / "s.npy"
    with refuses("logits" if "logits" in name else name):
        run(*given(arrays, **{name: tmp_path / f"{name}.npy"}), "--output", output)
    assert not list(output.parent.iterdir())


def test_the_labels_must_be_those_of_the_data_set(arrays, tmp_path, few_digits):
    logits = np.zeros((1, 48, 4), np.float32)
    np.save(tmp_path / "logits.npy", logits)
    np.save(tmp_path / "labels.npy", np.zeros(48, int))
    files = {"logits": tmp_path / "logits.npy", "labels": tmp_path / "labels.npy"}
    data = ("--dataset_name", "npz", "--data_dir", few_digits, "--output", tmp_path / "s.npy")
    with refuses("logits.npy"):
        run(*given(arrays, **files), *data)
    run(*given(arrays, **files | {"labels": None}), *data)


GOOD = '{"guid": 1, "logits_epoch_0": [1, 2.5], "gold": 0}\n'


@pytest.mark.parametrize(
    "content",
    [
        *("", "[1]", GOOD + GOOD),
        GOOD + GOOD.replace("1,", '"a",', 1),
        GOOD + GOOD.replace("1,", "2,", 1).replace("[1, ", "[1, 3, "),
        *(GOOD.replace("1,", f"{guid},", 1) for guid in ("-1", "true")),
        *(GOOD.replace('"gold": 0', f'"gold": {gold}') for gold in ("2", '"0"')),
        *(GOOD.replace("2.5", logit) for logit in ("null", "NaN")),
    ],
)
def test_dynamics_that_are_none_are_refused(tmp_path, content):
    (tmp_path / "td").mkdir()
    (tmp_path / "td" / "dynamics_epoch_0.jsonl").write_text(content)
    with refuses("td"):
        run("--dynamics", tmp_path / "td", "--output", tmp_path / "s.npy")
    assert [path.name for path in tmp_path.iterdir()] == ["td"]


def test_epochs_must_all_be_there_and_hold_the_same_instances(tmp_path):
    rows = {1: (0, [1.0, 2.0]), 2: (1, [1.0, 2.0])}
    write_epoch(tmp_path / "td", 0, rows)
    longer = {guid: (gold, [*logits, 0.0]) for guid, (gold, logits) in rows.items()}
    others = [({1: rows[1], 3: rows[2]}, 1), ({1: rows[1]}, 1), (rows | {2: (0, [1.0, 2.0])}, 1), (longer, 1)]
    for content, number in [*others, (rows, 0)]:
        write_epoch(tmp_path / "td", 1, content, f"logits_epoch_{number}")
        with refuses("epoch_1"):
            run("--dynamics", tmp_path / "td", "--output", tmp_path / "s.npy")
    (tmp_path / "td" / "dynamics_epoch_1.jsonl").rename(tmp_path / "td" / "dynamics_epoch_2.jsonl")
    with refuses("dynamics_epoch_1.jsonl"):
        run("--dynamics", tmp_path / "td", "--output", tmp_path / "s.npy")
    assert [path.name for path in tmp_path.iterdir()] == ["td"]
