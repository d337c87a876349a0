"""The robust data map: one file, several, the CSV of the metrics, and every file that is none."""

import csv
import json
import pickle

import numpy as np
import pytest
from looking import ROOT, assert_refused, run, write_statistics
from PIL import Image

from plot_utils import plotting
from robust_data import records
from robust_data.metrics import instance_metrics, within_class

LABELS = np.arange(60) % 3


@pytest.fixture
def statistics(tmp_path):
    path, _ = write_statistics(
        tmp_path / "robust_statistics_lr0.001_tblur.npy",
        LABELS,
        perturbation="blur",
        dataset_name="digits",
        severity=3,
        parameter=1.0,
        arguments={"model_name": "models/small_cnn"},
    )
    return path


def is_figure(stem):
    """Whether STEM.png is a picture of some size and STEM.pdf a PDF."""
    with Image.open(f"{stem}.png") as picture:
        large = min(picture.size) > 300
    with open(f"{stem}.pdf", "rb") as file:
        return large and file.read(5) == b"%PDF-"


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_one_file_gives_a_figure_beside_it(statistics):
    process = run("plotting.py", "--statistics", statistics)
    stem = str(statistics).removesuffix(".npy")
    assert process.stdout.splitlines() == [f"saved {stem}.png", f"saved {stem}.pdf"], process.stderr
    assert is_figure(stem)


def test_several_files_share_their_axes(tmp_path):
    maps = []
    for number, scale in enumerate((1, 5)):
        path, rows = write_statistics(tmp_path / f"{number}.npy", LABELS, severity=3)
        rows["after_perturb_loss"] *= scale
        records.save(path, rows, {})
        maps.append(plotting.load_map(path, only_original_pred=False))
    figure = plotting.draw_grid(maps)
    first, second = figure.axes[:2]
    assert first.get_xlim() == second.get_xlim() and first.get_ylim() == second.get_ylim()
    assert first.get_ylim()[1] >= maps[1][0]["perturbed_loss_mean"].max()
    process = run("plotting.py", "--statistics", tmp_path / "0.npy", tmp_path / "1.npy")
    assert f"saved {tmp_path / 'robust_data_map.png'}" in process.stdout
    assert is_figure(tmp_path / "robust_data_map")


def test_every_instance_is_drawn_once(statistics):
    metrics, about = plotting.load_map(statistics, only_original_pred=False)
    panel = plotting.draw_map(metrics, about).axes[0]
    drawn = np.concatenate([points.get_offsets() for points in panel.collections])
    expected = np.column_stack([metrics["perturbed_loss_std"], metrics["perturbed_loss_mean"]])
    assert sorted(map(tuple, drawn.tolist())) == sorted(map(tuple, expected.tolist()))


def test_exp_finds_files_by_their_name(tmp_path, statistics):
    process = run("plotting.py", "--exp", "tblur", "--output_dir", tmp_path, "--output", tmp_path / "map")
    assert process.returncode == 0 and is_figure(tmp_path / "map")
    assert_refused(run("plotting.py", "--exp", "nothing", "--output_dir", tmp_path), "--exp nothing", str(tmp_path))


@pytest.mark.parametrize("relative", [0, 1])
def test_csv_holds_the_metrics(statistics, relative):
    process = run("plotting.py", "--statistics", statistics, "--csv", "--within_class", relative)
    path = process.stdout.splitlines()[-1].removeprefix("saved ")
    with open(path, newline="") as file:
        header, *lines = csv.reader(file)
    metrics = instance_metrics(records.load(statistics)[0])
    metrics = within_class(metrics) | {"flip_rate": metrics["flip_rate"]} if relative else metrics
    assert header == list(metrics)
    for name, *written in zip(header, *lines):
        np.testing.assert_array_equal(np.array(written, dtype=np.float64), metrics[name], err_msg=name)


def test_the_script_starts_from_its_own_folder(statistics):
    stem = statistics.with_name("elsewhere")
    process = run("plotting.py", "--statistics", statistics, "--output", stem, cwd=ROOT / "plot_utils")
    assert process.returncode == 0 and is_figure(stem)


def test_the_same_map_is_the_same_file(statistics):
    stems = [statistics.with_name(name) for name in "ab"]
    for stem in stems:
        run("plotting.py", "--statistics", statistics, "--output", stem)
    for suffix in ("png", "pdf"):
        first, second = (stem.with_name(f"{stem.name}.{suffix}").read_bytes() for stem in stems)
        assert first == second


def truncated(path, rows):
    records.save(path, rows, {})
    path.write_bytes(path.read_bytes()[:-40])


def pickled(path, rows):
    with open(path, "wb") as file:
        pickle.dump({0: {0: {"original_loss": 1.0}}}, file)


def pickled_array(path, rows):
    np.save(path, np.array([{"original_loss": 1.0}], dtype=object), allow_pickle=True)


def other_shape(path, rows):
    np.save(path, rows[0])


def plain_numbers(path, rows):
    np.save(path, np.zeros((3, 4)))


def fields_missing(path, rows):
    np.save(path, rows[["index", "golden_label"]])


def empty(path, rows):
    np.save(path, rows[:0])


def other_json(path, rows):
    records.save(path, rows, {"instances": 7})


def broken_json(path, rows):
    records.save(path, rows, {})
    path.with_suffix(".json").write_text("{")


def missing(path, rows):
    """No file at all."""


BAD_FILES = [
    truncated,
    pickled,
    pickled_array,
    other_shape,
    plain_numbers,
    fields_missing,
    empty,
    other_json,
    broken_json,
    missing,
]


@pytest.mark.parametrize("make", BAD_FILES, ids=lambda make: make.__name__)
def test_a_file_that_is_no_statistics_file_is_refused(tmp_path, statistics, make):
    path = tmp_path / "bad" / "file.npy"
    path.parent.mkdir()
    make(path, np.array(records.load(statistics)[0]))
    before = files(path.parent)
    assert_refused(run("plotting.py", "--statistics", path, "--csv"), "file")
    assert files(path.parent) == before


def test_nothing_is_written_where_a_later_file_is_bad(tmp_path, statistics):
    before = files(tmp_path)
    assert_refused(run("plotting.py", "--statistics", statistics, tmp_path / "missing.npy"), "missing.npy")
    assert files(tmp_path) == before


def test_an_output_that_cannot_be_written_is_refused(tmp_path, statistics):
    assert_refused(
        run("plotting.py", "--statistics", statistics, "--output", tmp_path / "no" / "folder"), "cannot be written"
    )


def test_a_map_without_instances_is_refused(tmp_path):
    path, rows = write_statistics(tmp_path / "wrong.npy", LABELS)
    rows["original_pred"] = False
    records.save(path, rows, {})
    assert_refused(run("plotting.py", "--statistics", path, "--only_original_pred", 1), "--only_original_pred")


def test_the_title_says_what_was_run(statistics):
    title = plotting.title(*plotting.load_map(statistics, only_original_pred=False))
    assert title.startswith("digits, small_cnn, blur at severity 3\n60 instances, 3 checkpoints; class explains ")
    statistics.with_suffix(".json").write_text(json.dumps({}))
    assert plotting.title(*plotting.load_map(statistics, only_original_pred=False)).startswith(statistics.stem)
