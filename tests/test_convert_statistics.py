"""Conversion to and from the older pickled form."""

import collections
import json
import pickle

import numpy as np
import pytest
from conftest import refuses
from looking import start

from robust_data import records
from robust_data.metrics import instance_metrics
from robust_data.scripts import convert_statistics


def convert(source, target, *more):
    start(convert_statistics, "--input", source, "--output", target, *more)


@pytest.fixture(params=[records.DTYPE, records.DTYPE_WITH_INPUT_GRADIENT], ids=["usual", "with input gradient"])
def ours(tmp_path, request):
    """A file of random but consistent records: 4 checkpoints, 6 instances."""
    draws = np.random.default_rng(0)
    rows = np.zeros((4, 6), dtype=request.param)
    for field in rows.dtype.names:
        kind = rows.dtype[field].kind
        rows[field] = draws.random((4, 6)) > 0.5 if kind == "b" else draws.random((4, 6)) * (9 if kind == "i" else 1)
    rows["global_step"], rows["index"] = np.arange(4)[:, None] * 3, np.arange(6) * 2
    rows["golden_label"] = rows["golden_label"][0]
    path = tmp_path / "ours.npy"
    records.save(path, rows, {"perturbation": "blur"})
    return path


def test_there_and_back_again_is_the_same_file(ours, tmp_path, capsys):
    older, again = tmp_path / "older.npy", tmp_path / "again.npy"
    convert(ours, older)
    convert(older, again, "--dataset_name", "animals")
    assert f"saved {again}: 4 checkpoints, 6 instances\n" in capsys.readouterr().out
    assert again.read_bytes() == ours.read_bytes()
    about = records.load(again)[1]
    assert about["dataset_name"] == about["arguments"]["dataset_name"] == "animals"
    assert about["perturbation"] == "blur" and "index" not in about


def test_an_analysis_of_the_older_form_finds_our_numbers(ours, tmp_path):
    """The older tools' own way: a dict of dicts, walked instance by instance, the untrained model included."""
    older = tmp_path / "older.npy"
    convert(ours, older)
    by_step = np.load(older, allow_pickle=True).item()
    steps = sorted(by_step)
    metrics = instance_metrics(records.load(ours)[0], use_untrained_model=True)
    # They count the instances, and so must every checkpoint's dict.
    for row in range(len(metrics["index"])):
        history = [by_step[step][row] for step in steps]
        losses = [instance["after_perturb_loss"] for instance in history]
        flips = [instance["original_pred"] != instance["after_perturb_pred"] for instance in history]
        assert metrics["perturbed_loss_mean"][row] == pytest.approx(np.mean(losses))
        assert metrics["perturbed_loss_std"][row] == pytest.approx(np.std(losses))
        assert metrics["loss_diff_mean"][row] == pytest.approx(np.mean([instance["loss_diff"] for instance in history]))
        assert metrics["logit_diff_std"][row] == pytest.approx(np.std([instance["logit_diff"] for instance in history]))
        assert metrics["original_correctness"][row] == sum(instance["original_pred"] for instance in history)
        assert metrics["flip_times"][row] == sum(flips)
        assert metrics["flip_rate"][row] == pytest.approx(sum(flips) / len(steps))


@pytest.mark.parametrize("wrap", [dict, collections.OrderedDict])
def test_a_file_of_the_authors_with_numpy_values_and_fewer_fields_opens(tmp_path, wrap):
    instance = {"golden_label": np.int64(1), "after_perturb_loss": np.float32(0.5), "original_pred": np.bool_(True)}
    older, target = tmp_path / "older.npy", tmp_path / "ours.npy"
    np.save(older, wrap({0: wrap({3: instance, 1: instance}), 10: wrap({1: instance, 3: instance})}), allow_pickle=True)
    convert(older, target)
    rows = records.load(target)[0]
    assert rows["index"].tolist() == [[1, 3]] * 2 and rows["global_step"][:, 0].tolist() == [0, 10]
    assert (rows["after_perturb_loss"] == 0.5).all() and rows["original_pred"].all()
    assert np.isnan(rows["original_loss"]).all() and (rows["original_class"] == -1).all()


def test_the_older_form_of_a_subset_says_whose_index_it_was_and_which_data_set(ours, tmp_path):
    older = tmp_path / "older.npy"
    convert(ours, older, "--dataset_name", "animals")
    content = np.load(older, allow_pickle=True).item()
    assert all(list(checkpoint) == [0, 1, 2, 3, 4, 5] for checkpoint in content.values())
    about = json.loads(older.with_suffix(".json").read_text())
    assert about["index"] == [0, 2, 4, 6, 8, 10] and about["dataset_name"] == "animals"
    older.with_suffix(".json").write_text(json.dumps(about | {"index": [0, 2, 4]}))
    with refuses("older"):
        convert(older, tmp_path / "again.npy")


def test_the_size_of_the_perturbation_is_found_from_the_normed_loss_difference(tmp_path):
    diffs, normed = (1.0, -0.5, 0.25, 0.0, 2.0), (0.5, -2.0, 0.0, 0.0, np.nan)
    instances = [{"golden_label": 1, "loss_diff": d, "normed_loss_diff": n} for d, n in zip(diffs, normed)]
    older, target = tmp_path / "older.npy", tmp_path / "ours.npy"
    np.save(older, {0: dict(enumerate(instances))}, allow_pickle=True)
    convert(older, target)
    sizes = records.load(target)[0]["delta_norm"]
    np.testing.assert_array_equal(sizes, np.array([[2.0, 0.25, np.nan, np.nan, np.nan]], dtype=np.float32))


class Attack:
    """Pickles to a call that would make a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("as_npy", [False, True])
def test_a_file_that_tries_to_run_code_is_refused_and_the_object_named(tmp_path, as_npy):
    evil, target, proof = tmp_path / "evil.npy", tmp_path / "ours.npy", tmp_path / "proof"
    if as_npy:
        np.save(evil, np.array(Attack(proof), dtype=object), allow_pickle=True)
    else:
        evil.write_bytes(pickle.dumps(Attack(proof)))
    with refuses("forbidden object io.open"):
        convert(evil, target)
    assert not proof.exists() and not target.exists()


# A dtype whose state hides an object field, so that numbers of the file would be taken for addresses.
HIDDEN_OBJECT = (
    b"\x80\x02cnumpy\ndtype\n(X\x02\x00\x00\x00V8K\x00K\x01tR"
    b"(K\x03X\x01\x00\x00\x00|NX\x01\x00\x00\x00a\x85}X\x01\x00\x00\x00acnumpy\ndtype\n"
    b"(X\x02\x00\x00\x00O8K\x00K\x01tRK\x00\x86sK\x08K\x01K\x3ftb."
)
HIDDEN_IN_A_NUMBER = b"\x80\x02cnumpy\ndtype\n(X\x02\x00\x00\x00f8K\x00K\x01tR" + HIDDEN_OBJECT.partition(b"tR")[2]


@pytest.mark.parametrize("content", [HIDDEN_OBJECT, HIDDEN_IN_A_NUMBER])
def test_a_dtype_has_no_state_but_that_of_its_name(tmp_path, content):
    (tmp_path / "older.npy").write_bytes(content)
    with refuses():
        convert(tmp_path / "older.npy", tmp_path / "ours.npy")


@pytest.mark.parametrize("package", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_pickles_of_numpy_1_and_2_convert(tmp_path, protocol, package):
    instance = {"golden_label": np.array(1), "original_loss": np.float64(0.5), "original_class": np.int32(2)}
    content = collections.defaultdict(dict, {np.int64(step): {3: instance, 1: instance} for step in (0, 5)})
    pickled = pickle.dumps(content, protocol)
    assert b"numpy._core.multiarray" in pickled
    if protocol < 4:  # later ones have the length of the name before it
        pickled = pickled.replace(b"numpy._core.multiarray", package)
    (tmp_path / "older.npy").write_bytes(pickled)
    convert(tmp_path / "older.npy", tmp_path / "ours.npy")
    rows = records.load(tmp_path / "ours.npy")[0]
    assert (rows["original_loss"] == 0.5).all() and (rows["original_class"] == 2).all() and rows.shape == (2, 2)


ROW = {"golden_label": 1}


LONE = {"original_loss": 1.0}


@pytest.mark.parametrize(
    "content, named",
    [
        ({0: {1: ROW, "a": ROW}}, "checkpoint 0: instance 'a'"),
        ({0: {1: ROW}, float("nan"): {1: ROW}}, "global step nan"),
        ({2**70: {1: ROW}}, f"global step {2**70}"),
        ({0: {1: ROW, 2: [1]}}, "--input"),
        ({0: {1: 2.0}}, "--input"),
        ([1, 2], "--input"),
        ({0: {0: LONE, 1: LONE | ROW}}, "golden_label"),
        ({0: {1: LONE}, 5: {2: LONE}}, "checkpoint 5"),
        ({0: {1: ROW}, 5: {1: {"golden_label": 2}}}, "golden_label"),
        *(({0: {1: {"golden_label": label}}}, "golden_label") for label in (2**40, 2**31 - 1, "1")),
        ({0: {1: ROW | {"original_loss": "0.5"}}}, "checkpoint 0, instance 1: original_loss"),
        ({0: {1: ROW | {"original_pred": 7}}}, "checkpoint 0, instance 1: original_pred"),
    ],
)
def test_rows_that_are_no_statistics_are_refused_with_step_and_instance(tmp_path, content, named):
    (tmp_path / "older.npy").write_bytes(pickle.dumps(content))
    with refuses(named):
        convert(tmp_path / "older.npy", tmp_path / "ours.npy")
    assert not (tmp_path / "ours.npy").exists()
