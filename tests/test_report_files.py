"""The report of several files: its numbers are those of `agreement`, its names are text, and what it refuses."""

import base64
import html
import json
import re

import numpy as np
import pytest
from looking import random_records, run

from robust_data import records, selection
from robust_data.analysis import agreement
from robust_data.analysis.statistics_file import open_statistics
from robust_data.metrics import instance_metrics, rank_correlation
from robust_data.plot_utils.page import build, files

LABELS = np.arange(60) % 3
METRICS = ("perturbed_loss_mean", "perturbed_loss_std", "flip_rate", "original_loss_mean")
GROUPS = ("robust", "swing", "non_robust")


def save(path, rows, **metadata):
    """Write a statistics file of `toy` under blur; the seed goes where a run writes it."""
    arguments = {"seed": metadata.pop("seed", 0)}
    records.save(path, rows, {"dataset_name": "toy", "perturbation": "blur", "arguments": arguments, **metadata})
    return path


def block(page, name):
    return re.search(rf'<script type="[^"]*" id="{name}">(.*?)</script>', page, re.DOTALL)[1]


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """The page of three files and the metrics of each; the last file lacks every fourth instance."""
    folder = tmp_path_factory.mktemp("compared")
    rows = [random_records(LABELS, seed=seed) for seed in (0, 1, 2)]
    rows[1]["after_perturb_loss"] += 3 * rows[0]["after_perturb_loss"]
    kept = np.arange(60) % 4 > 0
    rows[2] = rows[2][:, kept]
    paths = [save(folder / f"{name}.npy", own, seed=seed) for seed, (name, own) in enumerate(zip("abc", rows))]
    process = run("report.py", "--statistics", *paths)
    assert process.returncode == 0, process.stderr
    (path,) = folder.glob("*.html")
    assert process.stdout == f"saved {path}\n" and path.name.startswith("robust_data_report_a_b_c")
    metrics = [instance_metrics(own) for own in rows]
    common = [
        {name: values[np.isin(own["index"], np.flatnonzero(kept))] for name, values in own.items()} for own in metrics
    ]
    return path.read_text(), common, kept


def test_every_measure_of_every_file_is_on_the_page(compared):
    page, metrics, kept = compared
    values = np.frombuffer(base64.b64decode(block(page, "data-files")), "<f4").reshape(3, 4, 60)
    assert np.isnan(values[:, :, ~kept]).all()
    expected = np.array([[own[name] for name in METRICS] for own in metrics], dtype=np.float32)
    np.testing.assert_array_equal(values[:, :, kept], expected)
    about = json.loads(block(page, "page-data"))["files"]
    assert about["titles"] == ["seed 0", "seed 1", "seed 2"] and about["instances"] == 45
    assert (len(about["measures"]), about["units"]) == (4, [" (nats)", " (nats)", "", " (nats)"])


def test_correlations_are_those_of_agreement(compared):
    page, metrics, _ = compared
    found = np.array(json.loads(block(page, "page-data"))["files"]["correlations"])
    columns = [own[name] for own in metrics for name in METRICS]
    labels = metrics[0]["golden_label"]
    for first in range(12):
        for second in range(first):
            pair = columns[first], columns[second]
            assert found[second, first] == pytest.approx(rank_correlation(*pair), abs=1e-6)
            within = agreement.rank_correlation_within_class(*pair, labels)
            assert found[first, second] == pytest.approx(within, abs=1e-6)


def test_the_table_has_correlations_and_overlaps_beside_chance(compared):
    page, metrics, _ = compared
    table = re.search(r'<section id="files".*?<tbody>(.*?)</tbody>', page, re.DOTALL)[1]
    lines = re.findall(r"<tr>(.*?)</tr>", table)
    assert [re.search(r">([^<]*)</th>", line)[1] for line in lines] == ["1 and 2", "1 and 3", "2 and 3"]
    for line, pair in zip(lines, [(0, 1), (0, 2), (1, 2)]):
        first, second = (metrics[number] for number in pair)
        expected = []
        for name in METRICS:
            of_name = first[name], second[name]
            within = agreement.rank_correlation_within_class(*of_name, first["golden_label"])
            expected += [rank_correlation(*of_name), within]
        groups = [[selection.group(own, name, 1 / 3) for name in GROUPS] for own in (first, second)]
        expected += [agreement.overlap(*of_group, 45).share for of_group in zip(*groups)]
        values = [float(value) for value in re.findall(r'data-value="([^"]*)"', line)]
        assert values == pytest.approx([*expected, 1 / 3])


def test_a_page_of_one_file_holds_nothing_of_it(tmp_path):
    opened = open_statistics(save(tmp_path / "one.npy", random_records(LABELS)))
    page = build.build_page(opened, None, np.arange(60))
    assert "files" not in json.loads(block(page, "page-data"))
    assert not any(part in page for part in ('id="files', 'href="#files"', "data-files", 'files-told"'))


def test_names_of_files_cannot_become_markup(tmp_path):
    """Neither those of files without a JSON, which their titles show, nor settings in which files differ."""
    evil = '</script><script>alert(1)</script><img src=x onerror="alert(2)">'
    paths = [tmp_path / f"{place}{evil.replace('/', '')}'&amp;<!--{{data}}-->.npy" for place in "ab"]
    for seed, path in enumerate(paths):
        records.save(path, random_records(LABELS, seed=seed), {})
        path.with_suffix(".json").unlink()
    paths.append(save(tmp_path / "c.npy", random_records(LABELS, seed=2), perturbation=evil))
    opened = [open_statistics(path) for path in paths]
    page = build.build_page(opened[0], None, np.arange(60), files.compare(opened))
    page = page.replace(build.read("vendor/echarts.min.js"), "")
    assert page.count("<script>") == 1 and "<img" not in page and "<!--{" not in page
    assert page.count("</script>") == page.count("<script")
    titles = json.loads(block(page, "page-data"))["files"]["titles"]
    assert paths[1].stem in titles[1] and evil in titles[2]
    assert titles[1] in html.unescape(re.search(r"<ol>(.*?)</ol>", page)[1])


def test_files_of_other_data_and_runs_that_diverged_are_refused(tmp_path):
    one = save(tmp_path / "one.npy", random_records(LABELS))
    two = save(tmp_path / "two.npy", random_records(LABELS), dataset_name="other")
    relabelled, diverged = random_records(LABELS), random_records(LABELS)
    relabelled["golden_label"][:] = (LABELS + 1) % 3
    diverged["after_perturb_loss"][-1, 5] = np.inf
    three, four = save(tmp_path / "three.npy", relabelled, seed=3), save(tmp_path / "four.npy", diverged, seed=4)
    for other in (two, three, one, four):
        process = run("report.py", "--statistics", one, other)
        assert process.returncode == 2 and process.stdout == "" and other.name in process.stderr.splitlines()[-1]
    assert not list(tmp_path.glob("*.html"))
