"""scripts/import_statistics.py: the fields of a collection from logits, and dataset cartography's files."""

import json

import numpy as np
import pytest
import torch

from robust_data import models, records
from robust_data.analysis.statistics_file import open_statistics
from robust_data.collection import collect
from robust_data.metrics import OF_PERTURBED_INPUTS, instance_metrics
from robust_data.plot_utils import plotting, report, sample_images
from robust_data.registry import InputError
from robust_data.scripts import compare_statistics, convert_statistics, import_statistics, select_instances
from robust_data.settings import Data, names

LABELS = np.array([0, 1, 2, 1, 0, 2])


def start(script, *arguments):
    """Run a script in this process; wrong use raises InputError."""
    script.main(script.build_parser().parse_args(list(map(str, arguments))))


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


def test_what_is_unknown_is_no_number(arrays, tmp_path):
    run(*given(arrays, perturbed_logits=arrays / "perturbed.npy"), "--output", tmp_path / "s.npy")
    rows = records.load(tmp_path / "s.npy")[0]
    assert np.isnan(rows["delta_norm"]).all() and np.isnan(records.column(rows, "normed_loss_diff")).all()
    assert np.isfinite(records.column(rows, "loss_diff")).all()


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
    assert about["clean_only"] is True and records.is_clean_only(rows)
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
    with pytest.raises(InputError, match="clean.npy"):
        start(plotting, "--statistics", tmp_path / "both.npy", clean)
    with pytest.raises(InputError, match="--colour"):
        start(plotting, "--statistics", clean, "--colour", "flip_rate")


@pytest.mark.parametrize(
    "by", [("--select_metric", "aum_r", "--select_ratio"), ("--group", "random", "--set_percentage")]
)
def test_instances_are_chosen_by_what_needs_no_perturbation(clean, tmp_path, by):
    start(select_instances, "--statistics", clean, *by, 0.5, "--output", tmp_path / "chosen")
    assert len(np.load(tmp_path / "chosen.npy")) == 3


@pytest.mark.parametrize(
    "script, more, told",
    [
        (select_instances, (), "perturbed_loss_mean needs a perturbation; choose by aum"),
        (select_instances, ("--group", "robust"), "the group robust: .*; choose by aum"),
        (select_instances, ("--select_metric", "residual"), "--select_metric residual: .*; choose by aum"),
        (report, (), "measured on clean inputs alone, .* plotting.py"),
        (sample_images, (), "measured on clean inputs alone"),
    ],
)
def test_what_needs_a_perturbation_says_so(clean, script, more, told):
    with pytest.raises(InputError, match=told):
        start(script, "--statistics", clean, *more)


def test_files_of_clean_inputs_are_not_compared_by_sensitivity(clean):
    with pytest.raises(InputError, match="clean"):
        start(compare_statistics, clean, clean)


def test_clean_inputs_alone_stay_so_in_the_older_form(clean, tmp_path):
    there, again = tmp_path / "older.npy", tmp_path / "again.npy"
    start(convert_statistics, "--input", clean, "--output", there)
    start(convert_statistics, "--input", there, "--output", again)
    assert again.read_bytes() == clean.read_bytes()


def test_classes_without_names_are_called_by_their_numbers(clean):
    assert records.load_metadata(clean)["label_names"] == ["0", "1", "2"]


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
    with pytest.raises(ValueError, match="=a"):
        run("--dynamics", tmp_path / "td", "--output", tmp_path / "s.npy", "--dataset_name", "digits")


@pytest.mark.parametrize(
    "files, told",
    [
        ({"logits": np.zeros((3, 6))}, r"--logits .* holds float64 of shape \(3, 6\)"),
        ({"logits": np.zeros((3, 6, 3), int)}, "--logits .* holds int64"),
        ({"logits": np.zeros((3, 6, 1))}, "at least 2"),
        ({"logits": np.zeros((3, 0, 3))}, "--logits .* holds"),
        ({"logits": np.zeros(3, object)}, "--logits .* cannot be read .*Python objects"),
        ({"logits": np.full((3, 6, 3), np.nan)}, "step 1 gives logits that are not finite"),
        ({"logits": np.full((3, 6, 3), 1 / 3)}, "step 1 gives probabilities"),
        ({"logits": np.full((3, 6, 3), 1e300)}, "not finite"),
        ({"perturbed_logits": np.zeros((3, 5, 3))}, r"has the shape \(3, 5, 3\)"),
        ({"perturbed_logits": np.full((3, 6, 3), np.inf)}, "step 1, perturbed gives logits that are not finite"),
        ({"labels": np.arange(5)}, r"--labels .* of shape \(5,\); give 6 whole numbers"),
        ({"labels": np.zeros(6)}, "--labels .* holds float64"),
        ({"labels": np.array([0, 1, 2, 3, 0, 0])}, "holds 3; all numbers must be at least 0 and less than 3"),
        ({"labels": np.array([0, 1, -2, 1, 0, 0])}, "holds -2"),
        ({"labels": np.full(6, 2**64 - 1, np.uint64)}, f"holds {2**64 - 1}"),
        ({"index": np.array([0, 1, 1, 2, 3, 4])}, "--index .* holds 1 more than once"),
        ({"index": np.arange(6) - 1}, "--index .* holds -1"),
    ],
)
def test_arrays_that_are_none_are_refused_and_nothing_is_left(arrays, tmp_path, files, told):
    for name, array in files.items():
        np.save(tmp_path / f"{name}.npy", array)
    output = tmp_path / "result" / "s.npy"
    with pytest.raises(ValueError, match=told):
        run(*given(arrays, **{name: tmp_path / f"{name}.npy" for name in files}), "--output", output)
    assert not list(output.parent.iterdir())


def test_the_labels_must_be_those_of_the_data_set(arrays, tmp_path, few_digits):
    logits = np.zeros((1, 48, 4), np.float32)
    np.save(tmp_path / "logits.npy", logits)
    np.save(tmp_path / "labels.npy", np.zeros(48, int))
    files = {"logits": tmp_path / "logits.npy", "labels": tmp_path / "labels.npy"}
    data = ("--dataset_name", "npz", "--data_dir", few_digits, "--output", tmp_path / "s.npy")
    with pytest.raises(ValueError, match="logits.npy .*36 labels"):
        run(*given(arrays, **files), *data)
    run(*given(arrays, **files | {"labels": None}), *data)


GOOD = '{"guid": 1, "logits_epoch_0": [1, 2.5], "gold": 0}\n'


@pytest.mark.parametrize(
    "content, told",
    [
        ("", "holds no instance"),
        ("\xff", "line 1, cannot be read"),
        ("[" * 10**5, "line 1, cannot be read .it is nested too deep"),
        ("[1]", "it holds no JSON object"),
        ('{"guid": 1, "gold": 0}', "it has no logits_epoch_0"),
        (GOOD + GOOD, "line 2, cannot be read .guid 1 is there twice"),
        (GOOD + GOOD.replace("1,", '"a",', 1), "epoch_0.jsonl cannot be read"),
        (GOOD + GOOD.replace("1,", "2,", 1).replace("[1, ", "[1, 3, "), "epoch_0.jsonl cannot be read"),
        (GOOD.replace("1,", "-1,", 1), "guid -1 is neither"),
        (GOOD.replace("1,", "true,", 1), "guid True is neither"),
        (GOOD.replace("1,", '"\\ud800",', 1), "cannot be read"),
        (GOOD.replace('"gold": 0', '"gold": 2'), "gold 2 is no class; the logits are of classes 0 to 1"),
        (GOOD.replace('"gold": 0', '"gold": "0"'), "gold '0' is no class"),
        (GOOD.replace("2.5", "null"), "logits_epoch_0 is no list"),
        (GOOD.replace("2.5", "1" * 400), "line 1, cannot be read"),
        (GOOD.replace("2.5", "NaN"), "not finite"),
    ],
)
def test_dynamics_that_are_none_are_refused_with_their_line(tmp_path, content, told):
    (tmp_path / "td").mkdir()
    (tmp_path / "td" / "dynamics_epoch_0.jsonl").write_bytes(content.encode("latin-1"))
    with pytest.raises(ValueError, match=told):
        run("--dynamics", tmp_path / "td", "--output", tmp_path / "s.npy")
    assert [path.name for path in tmp_path.iterdir()] == ["td"]


def test_epochs_must_all_be_there_and_hold_the_same_instances(tmp_path):
    rows = {1: (0, [1.0, 2.0]), 2: (1, [1.0, 2.0])}
    write_epoch(tmp_path / "td", 0, rows)
    longer = {guid: (gold, [*logits, 0.0]) for guid, (gold, logits) in rows.items()}
    for other in ({1: rows[1], 3: rows[2]}, {1: rows[1]}, rows | {2: (0, [1.0, 2.0])}, longer):
        write_epoch(tmp_path / "td", 1, other)
        with pytest.raises(ValueError, match="dynamics_epoch_1.jsonl"):
            run("--dynamics", tmp_path / "td", "--output", tmp_path / "s.npy")
    write_epoch(tmp_path / "td", 1, rows, "logits_epoch_0")
    with pytest.raises(ValueError, match="logits_epoch_1"):
        run("--dynamics", tmp_path / "td", "--output", tmp_path / "s.npy")
    (tmp_path / "td" / "dynamics_epoch_1.jsonl").rename(tmp_path / "td" / "dynamics_epoch_99999999999999.jsonl")
    with pytest.raises(ValueError, match="dynamics_epoch_1.jsonl"):
        run("--dynamics", tmp_path / "td", "--output", tmp_path / "s.npy")
    assert [path.name for path in tmp_path.iterdir()] == ["td"]
