"""Names of classes, files and folders are drawn and written letter by letter, whatever letters they have."""

import json
import os
import re
import shutil
import sys
from xml.etree import ElementTree

import looking
import matplotlib
import processes
import pytest
from conftest import table, write_images

from robust_data import datasets
from robust_data.analysis.statistics_file import open_statistics
from robust_data.plot_utils import maps, robustness, training_curves
from robust_data.registry import printable

ROOT = looking.ROOT
# Letters of another encoding, of mathematics, of markup, and one that legends take for a sign.
FOLDERS = [b"_caf\xe9", b"$x_{", rb"\frac{<!--<script>&"]
CLASSES = [r"$x_{", r"\frac{<!--<script>&", r"_caf\xe9"]
FILE = os.fsdecode(b"$\\alpha_{\xff</script>")


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
    """A folder that holds images and the statistics of a run on them."""
    if sys.platform == "darwin":
        pytest.skip("its file systems hold names of UTF-8 alone")
    root = tmp_path_factory.mktemp("names") / "_$x_{"
    for seed, folder in enumerate(map(os.fsdecode, FOLDERS)):
        write_images(root / "data" / "train" / folder, 5, seed=seed)
        shutil.copytree(root / "data" / "train" / folder, root / "data" / "test" / folder)
        within = root / "data" / "train" / folder / f"{FILE}.png"
        within.parent.mkdir(parents=True)
        (root / "data" / "train" / folder / "0.png").rename(within)
    given = ("--dataset_name", "imagefolder", "--data_dir", root / "data", "--epochs", 1, "-t", "blur")
    run(ROOT / "data_statistics.py", *given, "--model_name", "small_cnn", "--output_dir", root / "run")
    return root


@pytest.fixture(scope="module")
def statistics(collected):
    (path,) = (collected / "run").glob("*.npy")
    return path


def run(script, *arguments):
    process = processes.run(script, *arguments)
    assert process.returncode == 0, process.stderr
    return process.stdout


def drawn(figure, tmp_path):
    """The texts in a figure as they are drawn; a formula would come apart into its marks."""
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        figure.savefig(tmp_path / "figure.svg")
    return [text.text for text in ElementTree.parse(tmp_path / "figure.svg").iter("{http://www.w3.org/2000/svg}text")]


def test_what_utf_8_cannot_hold_is_escaped():
    assert (
        printable(os.fsdecode("$é\N{GRINNING FACE}\xa0".encode() + b"\xe9\x80")) == "$é\N{GRINNING FACE}\xa0\\xe9\\x80"
    )


def test_classes_have_names_that_can_be_written(collected):
    assert datasets.load("imagefolder", data_dir=collected / "data").label_names == CLASSES


def test_figures_show_the_letters(statistics, tmp_path):
    opened = open_statistics(statistics)
    texts = drawn(maps.draw_map(opened, "class"), tmp_path)
    assert set(CLASSES) <= set(texts)
    families = {name: [{0: {"test_loss": 1.0}}] for name in CLASSES}
    texts = drawn(training_curves.draw_curves(families, {name: name for name in families}), tmp_path)
    assert {f"{name}: test" for name in CLASSES} <= set(texts)


def test_norms_are_formulas_beside_the_letters_of_names(tmp_path):
    rows = [{"kind": "clean", "name": "clean", "norm": None, "eps": None, "severity": None}]
    rows += [{"kind": "attack", "name": "pgd", "norm": "linf", "eps": 8 / 255, "severity": None}]
    report = {
        "results": [row | {"accuracy": 0.5, "instances": 4} for row in rows],
        "arguments": {"pgd_step": 3, "restarts": 1, "data_dir": "$x_{"},
        **{"model_name": r"models/$\y_{", "dataset_name": "imagefolder", "split": "test", "instances": 4},
    }
    texts = drawn(robustness.draw_report(report), tmp_path)
    assert r"$\y_{ on $x_{" in texts
    assert sum("$" in (text or "") for text in texts) == 1


def test_every_script_that_looks_ends_with_its_files(statistics, tmp_path):
    folder = shutil.copytree(statistics.parent, tmp_path / r"_$\out_{")
    given = ("--statistics", folder / statistics.name)
    out = run(ROOT / "plot_utils" / "plotting.py", *given, "--colour", "class", "--csv")
    out += run(ROOT / "plot_utils" / "sample_images.py", *given, "--classes", CLASSES[2], CLASSES[0])
    out += run(ROOT / "plot_utils" / "report.py", *given)
    out += run(ROOT / "plot_utils" / "training_curves.py", "--log", folder / "log.jsonl")
    assert len(re.findall(r"^saved .*/_\$\\out_\{/", out, re.MULTILINE)) == 8
    page = next(folder.glob("*.html")).read_text(encoding="utf-8")
    assert "</script>.png" not in page and "_caf" in page


def test_choosing_and_fine_tuning_write_the_letters(statistics, tmp_path):
    run(ROOT / "scripts" / "select_instances.py", "--statistics", statistics, "--output", tmp_path / "chosen")
    chosen = table(tmp_path / "chosen.csv")
    assert all(any(f"/{name}/" in line["source"] for name in CLASSES) for line in chosen)
    given = ("--statistics_source", statistics, "--epochs", 1, "--pgd_step", 1)
    run(ROOT / "new_fine_tune_flooding" / "new_fine_tune_flooding.py", *given, "--output_dir", tmp_path / "out")
    assert [row["dataset_name"] for row in table(tmp_path / "out" / "results.csv")] == ["imagefolder"]
    config = json.loads((tmp_path / "out" / "model" / "config.json").read_text(encoding="utf-8"))
    assert config["robust_data"]["label_names"] == CLASSES
