"""The robust data map: one file, several, the CSV of the metrics, and every file that is none."""

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import refuses
from looking import ROOT, assert_refused, random_records, run, write_statistics
from PIL import Image

from robust_data import records, selection
from robust_data.analysis import metadata
from robust_data.analysis.statistics_file import open_statistics
from robust_data.collect.outputs import statistics_name
from robust_data.metrics import IDENTITY, instance_metrics, within_class
from robust_data.plot_utils import figures, maps, plotting
from robust_data.registry import InputError
from robust_data.settings import Collect

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


@pytest.mark.parametrize("backend", ["module://matplotlib_inline.backend_inline", "none_such"])
def test_figures_go_to_files_whatever_backend_the_environment_names(backend):
    code = "import importlib, pathlib\n"
    code += "modules = [f'robust_data.plot_utils.{path.stem}' for path in pathlib.Path('plot_utils').glob('*.py')]\n"
    code += "found = [importlib.import_module(name) for name in (*modules, 'robust_data.study.drawing')]\n"
    code += "from robust_data.plot_utils.figures import pyplot\n"
    code += "print(pyplot().figure().canvas.get_supported_filetypes()['png'])"
    environment = os.environ | {"MPLBACKEND": backend}
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert result.stdout == "Portable Network Graphics\n", result.stderr


def test_one_file_gives_a_figure_beside_it_and_always_the_same(statistics):
    stem, other = str(statistics).removesuffix(".npy"), statistics.with_name("elsewhere")
    process = run("plotting.py", "--statistics", statistics)
    assert process.stdout.splitlines() == [f"saved {stem}.png", f"saved {stem}.pdf"], process.stderr
    given = ("--exp", "tblur", "--output_dir", statistics.parent, "--output", other)
    assert run("plotting.py", *given, cwd=ROOT / "plot_utils").returncode == 0
    assert is_figure(stem) and is_figure(other)
    for suffix in ("png", "pdf"):
        assert Path(f"{stem}.{suffix}").read_bytes() == Path(f"{other}.{suffix}").read_bytes()


def test_several_files_share_their_axes(tmp_path):
    opened = []
    for number, scale in enumerate((1, 5)):
        # Names with dollar signs are no formulas.
        about = {"dataset_name": "imagefolder", "arguments": {"data_dir": r"a$\b$c"}, "label_names": [r"$\x$"] * 3}
        path, rows = write_statistics(tmp_path / f"{number}.npy", LABELS)
        rows["after_perturb_loss"] *= scale
        records.save(path, rows, about)
        opened.append(open_statistics(path))
    figure = maps.draw_grid(opened, "class")
    first, second = figure.axes[:2]
    assert first.get_xlim() == second.get_xlim() and first.get_ylim() == second.get_ylim()
    assert first.get_ylim()[1] >= opened[1].metrics["perturbed_loss_mean"].max()
    process = run("plotting.py", "--statistics", tmp_path / "0.npy", tmp_path / "1.npy", "--colour", "class")
    stem = process.stdout.splitlines()[0].removeprefix("saved ").removesuffix(".png")
    assert stem.startswith(str(tmp_path / "robust_data_maps_0_1_")) and is_figure(stem)


def test_every_instance_is_drawn_once(statistics):
    opened = open_statistics(statistics)
    metrics, panel = opened.metrics, maps.draw_map(opened).axes[0]
    drawn = np.concatenate([points.get_offsets() for points in panel.collections])
    expected = np.column_stack([metrics["perturbed_loss_std"], metrics["perturbed_loss_mean"]])
    assert sorted(map(tuple, drawn.tolist())) == sorted(map(tuple, expected.tolist()))


def test_instances_far_beyond_the_others_are_drawn_on_the_edge_and_counted(tmp_path):
    path, rows = write_statistics(tmp_path / "far.npy", np.arange(1000) % 3)
    rows["after_perturb_loss"] = np.random.default_rng(0).uniform(1, 2, rows.shape)
    rows["after_perturb_loss"][:, 0] = 1e6
    records.save(path, rows, {})
    panel = maps.draw_map(open_statistics(path)).axes[0]
    drawn = np.concatenate([points.get_offsets() for points in panel.collections])
    (_, right), (_, high) = panel.get_xlim(), panel.get_ylim()
    assert len(drawn) == 1000 and high < 100
    assert (drawn[:, 0] <= right).all() and drawn[:, 1].max() == high
    assert "1 beyond the axes, on their edge" in [text.get_text() for text in panel.texts]


def test_the_thirds_are_the_groups_by_sensitivity(statistics):
    opened = open_statistics(statistics)
    metrics, panel = opened.metrics, maps.draw_map(opened).axes[0]
    lower, upper = sorted(line.get_ydata()[0] for line in panel.lines)
    sensitivity = metrics["perturbed_loss_mean"]
    for name, inside in (("robust", sensitivity <= lower), ("non_robust", sensitivity >= upper)):
        group = selection.group(metrics, name, 1 / 3)
        assert abs(np.count_nonzero(inside) - len(group)) <= 1
        assert inside[np.searchsorted(metrics["index"], group)].sum() >= len(group) - 1
    assert {"robust third", "non-robust third"} <= {text.get_text() for text in panel.texts}


def test_a_share_has_a_bar_and_a_colour_at_each_value_that_it_can_have(statistics):
    opened = open_statistics(statistics)  # 3 checkpoints count
    figure = maps.draw_map(opened)
    bars = figure.axes[-1].patches
    np.testing.assert_allclose([bar.get_x() + bar.get_width() / 2 for bar in bars], np.arange(4) / 3)
    assert [bar.get_height() for bar in bars] == np.bincount(opened.metrics["flip_times"], minlength=4).tolist()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["0", "0.33", "0.67", "1"]


def test_over_one_checkpoint_the_map_shows_what_varies(tmp_path, statistics):
    path = tmp_path / "one.npy"
    records.save(path, random_records(LABELS)[:2], {})
    opened = open_statistics(path)
    figure = maps.draw_map(opened)
    assert "variability is 0" in figure.get_suptitle()
    assert figure.axes[0].get_xlabel().startswith("clean loss") and figure.legends[0].get_title().get_text() == "class"
    drawn = np.concatenate([points.get_offsets()[:, 0] for points in figure.axes[0].collections])
    np.testing.assert_allclose(np.sort(drawn), np.sort(opened.metrics["original_loss_mean"]))
    with refuses("one.npy"):
        maps.draw_grid([opened, open_statistics(statistics)])
    for by in ("perturbed_loss_std", "perturbed_loss_mean+perturbed_loss_std_r", "cartography_variability_r"):
        with pytest.raises(InputError):
            selection.select(opened.metrics, by, 0.3)


@pytest.mark.parametrize("classes", [3, 14])
def test_colour_by_class(tmp_path, classes):
    labels = np.concatenate([np.arange(10) % classes, np.arange(60) % classes])
    path, _ = write_statistics(tmp_path / "a.npy", labels, label_names=[f"class {n}" for n in range(classes)])
    opened = open_statistics(path)
    metrics, colours = opened.metrics, maps.colouring(opened, "class")
    shown = min(len(np.unique(labels)), 10)
    assert len(colours.names) == len(colours.colours) == len(set(colours.colours)) == shown
    for group, name in enumerate(colours.names[:9]):
        assert {f"class {label}" for label in metrics["golden_label"][colours.group == group]} == {name}
    assert (colours.names[-1] == "5 others") == (classes == 14)
    assert (colours.group < shown).all()


def test_another_meaning_has_a_file_of_its_own():
    """No switch may overwrite what another one drew or wrote."""
    statistics, other = (Path(f"robust_statistics_lr0.001_t{name}.npy") for name in ("blur", "rotate"))
    switches = ["", "--within_class 1", "--only_original_pred 1", "--within_class 1 --only_original_pred 1"]
    switches += ["--use_untrained_model 1", "--colour class"]
    parse, drawn = plotting.build_parser().parse_args, []
    for paths in ([statistics], [other], [statistics, other], [other, statistics, statistics]):
        drawn += [plotting.output_stem(parse(given.split()), paths).name for given in switches]
    assert len(set(drawn)) == len(drawn)
    longest = plotting.output_stem(parse([]), [Path("x" * 230 + number + ".npy") for number in "12"])
    assert len(longest.name.encode()) <= 250


def test_without_arguments_the_newest_statistics_are_drawn(tmp_path, statistics, capsys):
    (folder := tmp_path / "below").mkdir()
    newer = statistics.rename(folder / statistics.name)
    older, _ = write_statistics(tmp_path / "robust_statistics_older.npy", LABELS)
    np.save(tmp_path / "newest_but_something_else.npy", LABELS)
    for age, path in enumerate([tmp_path / "newest_but_something_else.npy", newer, older]):
        os.utime(path, (1e9 - age, 1e9 - age))
    plotting.main(plotting.build_parser().parse_args(["--output_dir", str(tmp_path)]))
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == f"saved {newer.with_suffix('')}.png"
    assert "newest" in err and str(newer.relative_to(tmp_path)) in err
    (empty := tmp_path / "empty").mkdir()
    for more in ([], ["--exp", "nothing"]):
        with refuses(str(empty)):
            plotting.main(plotting.build_parser().parse_args(["--output_dir", str(empty), *more]))


@pytest.mark.parametrize("relative", [0, 1])
def test_csv_holds_the_metrics(statistics, relative):
    process = run("plotting.py", "--statistics", statistics, "--csv", "--within_class", relative)
    path = process.stdout.splitlines()[-1].removeprefix("saved ")
    with open(path, newline="") as file:
        header, *lines = csv.reader(file)
    assert header[:3] == ["index", "label", "label_name"]
    metrics = instance_metrics(records.load(statistics)[0])
    metrics = within_class(metrics) | {"flip_rate": metrics["flip_rate"]} if relative else metrics
    assert header[3:] == [name for name in metrics if name not in IDENTITY]
    for name, *written in zip(header, *lines):
        if name != "label_name":
            expected = metrics["golden_label" if name == "label" else name]
            np.testing.assert_array_equal(np.array(written, dtype=np.float64), expected, err_msg=name)


def test_a_file_without_anything_to_look_at_is_refused(tmp_path):
    for name, value, more in (("original_loss", np.nan, ()), ("original_pred", False, ("--only_original_pred", 1))):
        path, rows = write_statistics(tmp_path / "nothing.npy", LABELS)
        rows[name][2] = rows["after_perturb_loss"][2] = value
        if name == "original_pred":
            rows[name] = value
        records.save(path, rows, {})
        assert_refused(run("plotting.py", "--statistics", path, *more), "nothing.npy")


def test_the_title_says_what_was_run(statistics):
    first, second, third = maps.title(open_statistics(statistics)).splitlines()
    assert first == "digits, small_cnn, blur at severity 3"
    assert second == "60 instances, 3 of 4 checkpoints, without the untrained model's"
    assert re.match(r"class explains \d+% of .* sensitivity; rank correlation with clean loss 0\.\d\d$", third)
    relative = maps.title(open_statistics(statistics, relative=True)).splitlines()[2]
    assert relative.startswith("class explains 0% of the variance of sensitivity, above the mean of the class")
    rows = records.load(statistics)[0].copy()
    rows["original_pred"] = np.arange(60) >= 7
    records.save(statistics, rows, {})
    kept = open_statistics(statistics, only_original_pred=True)
    assert "53 instances (7 never classified correctly left out)" in maps.title(kept)
    assert maps.title(open_statistics(statistics)).startswith(statistics.stem)


BLUR = {"dataset_name": "digits", "perturbation": "blur", "severity": 3, "parameter": 1.0}


def test_a_severity_that_rose_over_training_is_named_as_it_was():
    rising = BLUR | {"checkpoints": [{"severity": level} for level in (1, 2, 4, 5)]}
    assert metadata.describe(rising, "") == "digits, blur at severity 1 to 5 over training"
    assert metadata.describe(BLUR | {"parameter": None}, "") == "digits, blur"
    names = [statistics_name(Collect(lr=0.1, severity_schedule=one), "blur") for one in ("constant", "linear")]
    assert names[0].endswith("_tblur_severity3.npy") and names[1].endswith("_tblur_severity1to5.npy")


@pytest.mark.parametrize(
    "name, place, title",
    [
        ("imagefolder", "my/birds", "birds"),
        ("imagefolder", "my/birds/", "birds"),
        ("csv", "reviews.csv", "reviews.csv"),
        ("imagefolder", ".", "imagefolder"),
        ("npz", None, "npz"),
        ("cifar10", "data", "cifar10"),
    ],
)
def test_data_of_ones_own_go_by_the_name_of_their_place(name, place, title):
    assert metadata.data_name({"dataset_name": name, "arguments": {"data_dir": place}}) == title


@pytest.mark.parametrize(
    "names, short",
    [
        (["a_b1", "a_b2"], ["b1", "b2"]),
        (["a_modelx_b1_lr1", "a_modelx_b2_lr2", "c_d_modelx"], ["a_b1", "a_b2", "c_d"]),
        (["a_modelx_lr1", "a_modelx_lr1_balanced1"], ["a", "balanced1"]),
        (["only_one"], ["only_one"]),
        (["a_b", "b_a"], ["a_b", "b_a"]),
    ],
)
def test_short_names_are_as_long_as_it_takes(names, short):
    assert list(figures.distinct_parts(names).values()) == short


def test_maps_of_other_files_never_share_a_name():
    files = [Path(folder) / f"seed{seed}_t{name}.npy" for folder in "xy" for seed in (1, 2) for name in ("blur", "fog")]
    pairs = [(one, other) for one in files for other in files if one != other]
    # By folder as well, since a name may stand in another one.
    made = {(one.parent, figures.joined_name("maps", [one, other])) for one, other in pairs}
    assert len(made) == len(pairs)
    assert figures.joined_name("maps", files[:2]).startswith("maps_tblur_tfog_")


def test_panels_are_titled_by_what_differs():
    def one(place, perturbation="blur", **used):
        used = {"model_name": "small_cnn", "seed": 1, "epochs": 3, "output_dir": place} | used
        return Path(place) / "a.npy", BLUR | {"perturbation": perturbation, "arguments": used}

    common = "digits, small_cnn, blur, severity 3"
    assert figures.panel_titles([one("x"), one("x", "rotate")]) == ("digits, small_cnn, severity 3", ["blur", "rotate"])
    assert figures.panel_titles([one("x"), one("x", seed=2)]) == (common, ["seed 1", "seed 2"])
    assert figures.panel_titles([one("x"), one("y", epochs=5)]) == (common, ["3 epochs", "5 epochs"])
    assert figures.panel_titles([one("x"), one("y")]) == (common, ["x", "y"])
    assert figures.panel_titles([one("x/z"), one("y/z")])[1] == ["z, a, x/z/a.npy", "z, a, y/z/a.npy"]
    assert figures.panel_titles([(Path("x/a.npy"), {}), (Path("x/b.npy"), {})]) == ("", ["x, a", "x, b"])
