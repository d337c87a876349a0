"""Sample images, training curves and the report, as files; `test_report_browser.py` opens the report."""

import base64
import hashlib
import html
import io
import json
import re
import shutil
from types import SimpleNamespace

import numpy as np
import processes
import pytest
import text_models
import torch
from conftest import refuses, table
from looking import ROOT, random_records, run, start, write_statistics
from PIL import Image

from robust_data import perturbations, records
from robust_data.analysis.statistics_file import open_statistics
from robust_data.metrics import instance_metrics, within_class
from robust_data.plot_utils import instances, report, sample_images, training_curves
from robust_data.plot_utils.page import build, thumbnails
from robust_data.settings import Data, names

SUBSET = 100


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
    """The folder of a small run on digits under two perturbations that can be made again and one that cannot."""
    folder = tmp_path_factory.mktemp("collected")
    command = [
        *(ROOT / "data_statistics.py", "--dataset_len", SUBSET, "--epochs", 2, "--seed", 3, "--output_dir", folder)
    ]
    command += ["-t", "horizontal_flip", "gaussian_noise", "pgd"]
    process = processes.run(*command, cwd=ROOT)
    assert process.returncode == 0, process.stderr
    return folder


@pytest.fixture
def statistics(collected, tmp_path):
    """A copy of the statistics under Gaussian noise, with its JSON."""
    return copy_of(collected, "gaussian_noise", tmp_path)


def copy_of(collected, perturbation, folder):
    (path,) = collected.glob(f"*_t{perturbation}_*.npy")
    for suffix in (".npy", ".json"):
        shutil.copy(path.with_suffix(suffix), folder / f"{perturbation}{suffix}")
    return folder / f"{perturbation}.npy"


def loaded(path, **given):
    """The statistics and the dataset that the JSON beside them names."""
    opened = open_statistics(path)
    return opened, opened.load_dataset(Data(**dict.fromkeys(names(Data)) | given))


def files(folder):
    return sorted(path.name for path in folder.iterdir())


# Instances.


@pytest.mark.parametrize("perturbation", ["horizontal_flip", "gaussian_noise"])
def test_the_perturbed_image_is_the_one_that_was_measured(collected, tmp_path, perturbation):
    opened, dataset = loaded(copy_of(collected, perturbation, tmp_path))
    perturb = instances.perturber(opened)
    batch = next(dataset.batches([torch.arange(len(dataset))], "cpu"))
    clean = batch.inputs["pixel_values"]
    norms = (perturb(clean, batch.index) - clean).flatten(1).norm(dim=1)
    assert norms.max() > 0.1
    np.testing.assert_allclose(norms.numpy(), opened.rows[-1]["delta_norm"], rtol=1e-4, atol=1e-5)


def test_pictures_come_in_the_order_asked_for(statistics):
    opened, dataset = loaded(statistics)
    index = opened.metrics["index"][[7, 2, 50, 3]]
    batches = list(instances.pictures(dataset, index, instances.perturber(opened), batch_size=3))
    assert [len(batch) for batch in batches] == [2, 2]
    clean = np.concatenate([batch[0] for batch in batches])
    expected = dataset.images[[7, 2, 50, 3]].permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(clean, expected)
    assert (np.concatenate([batch[1] for batch in batches]) != clean).any(axis=(1, 2, 3)).all()


def metrics_of(sensitivity, labels):
    """Metrics of instances that differ in sensitivity and class alone."""
    zeros = np.zeros(len(labels))
    index = 10 + np.arange(len(labels))
    return {
        "index": index,
        "golden_label": np.array(labels),
        "perturbed_loss_mean": np.array(sensitivity, dtype=np.float64),
        "perturbed_loss_std": zeros,
        "flip_times": zeros,
    }


def test_examples_are_the_clearest_of_their_group_and_class():
    metrics = metrics_of([5, 1, 8, 2, 6, 4, 7, 3, 9, 0, 10, 11], [0] * 9 + [1] * 3)
    # Thirds of all twelve: sensitivities 0 to 3, 4 to 7, 8 to 11; the middle rank lies between 5 and 6.
    chosen = instances.examples(metrics, [0, 1], 2)
    assert {key: rows.tolist() for key, rows in chosen.items()} == {
        (0, "robust"): [1, 3],
        (0, "swing"): [0, 4],
        (0, "non_robust"): [8, 2],
        (1, "robust"): [9],
        (1, "swing"): [],
        (1, "non_robust"): [11, 10],
    }


@pytest.mark.parametrize("count", range(1, 8))
def test_no_instance_stands_for_two_groups(count):
    metrics = metrics_of(np.arange(count)[::-1], [0] * count)
    chosen = instances.examples(metrics, [0], 3)
    assert sorted(np.concatenate(list(chosen.values())).tolist()) == list(range(count))
    numbers = instances.group_numbers(metrics)
    for (_, group), rows in chosen.items():
        assert (numbers[rows] == list(instances.GROUPS).index(group)).all()


# Sample images.


def test_sample_images_from_the_scripts_own_folder(statistics):
    process = run("sample_images.py", "--statistics", statistics, "--per_group", 2, cwd=ROOT / "plot_utils")
    stem = statistics.with_name("gaussian_noise_samples_2each")
    assert process.stdout.splitlines() == [f"saved {stem}.png", f"saved {stem}.pdf"], process.stderr
    with Image.open(f"{stem}.png") as picture:
        assert min(picture.size) > 800


def test_samples_say_what_the_records_say(statistics):
    opened = open_statistics(statistics)
    samples = sample_images.choose_samples(opened, [4, 9], 3)
    groups = instances.group_numbers(opened.metrics)
    for label in (4, 9):
        sizes = np.bincount(groups[opened.metrics["golden_label"] == label], minlength=3)
        shown = [sum(s.label == label and s.group == group for s in samples) for group in instances.GROUPS]
        assert shown == np.minimum(sizes, 3).tolist()
    assert {sample.label_name for sample in samples} == {"4", "9"}
    rows = {int(row["index"]): column for column, row in enumerate(opened.rows[0])}
    for sample in samples:
        record = opened.rows[:, rows[sample.index]]
        assert record["golden_label"][0] == sample.label
        assert (str(record["original_class"][-1]), bool(record["original_pred"][-1])) == (
            sample.clean_class,
            sample.clean_correct,
        )
        assert sample.sensitivity == pytest.approx(record["after_perturb_loss"][1:].mean(), rel=1e-6)
    robust, swing, hard = ([s.sensitivity for s in samples if s.group == group] for group in instances.GROUPS)
    assert max(robust) <= min(swing) and max(swing) <= min(hard)


def test_sample_images_without_the_model_show_the_clean_input(collected, tmp_path):
    path = copy_of(collected, "pgd", tmp_path)
    process = run("sample_images.py", "--statistics", path, "--per_group", 1, "--classes", 3, 1)
    assert process.returncode == 0
    assert process.stderr.startswith("warning: ") and "clean inputs only" in process.stderr


def test_classes_are_chosen_by_name_or_number(statistics):
    opened = open_statistics(statistics)
    opened.metadata["label_names"] = [f"digit {number}" for number in range(10)]
    assert sample_images.chosen_classes(opened, ["digit 7", "2", "7"]) == [7, 2]
    assert sample_images.chosen_classes(opened, None) == list(range(10))


def text_dataset(opened, texts):
    """A dataset of texts for these statistics."""
    index = torch.tensor(opened.metrics["index"])
    return SimpleNamespace(modality="text", name="texts", index=index, sources=texts, labels=index * 0)


def test_a_run_on_texts_is_looked_at(tmp_path):
    text_models.write_sst2(tmp_path / "data")
    text_models.save_bert(tmp_path / "bert")
    data = ("--dataset_name", "glue", "--task_name", "sst2", "--data_dir", tmp_path / "data")
    given = (*data, "--model_name", tmp_path / "bert", "--epochs", 1, "-t", "char_swap")
    process = processes.run(ROOT / "data_statistics.py", *given, "--output_dir", tmp_path / "results")
    assert process.returncode == 0, process.stderr
    (path,) = (tmp_path / "results").glob("*.npy")
    process = run("sample_images.py", "--statistics", path)
    assert process.returncode == 0 and process.stdout.count("saved ") == 3, process.stderr
    lines = table(path.with_name(path.stem + "_samples.csv"))
    rewritten = perturbations.perturb_texts(
        "char_swap", [line["text"] for line in lines], 3, torch.tensor([int(line["index"]) for line in lines]), seed=42
    )
    assert [line["perturbed_text"] for line in lines] == rewritten
    process = run("report.py", "--statistics", path)
    assert process.returncode == 0, process.stderr
    texts, _ = text_models.sentences(64)
    page = path.with_suffix(".html").read_text()
    assert json.loads(block(page, "sources")) == texts
    assert json.loads(block(page, "page-data"))["kind"] == "text"


# Training curves.


def test_seeds_become_a_mean_with_its_deviation(tmp_path):
    losses = {1: [3.0, 2.0, 1.0], 2: [5.0, 4.0]}
    lines = [
        (f"a_seed{seed}_lr1", epoch, {"train_loss": loss, "test_loss": None})
        for seed, values in losses.items()
        for epoch, loss in enumerate(values, 1)
    ]
    families = training_curves.by_seed(training_curves.read_logs(logs_in(tmp_path, x=lines)))
    assert list(families) == ["a_seed*_lr1"]
    epochs, mean, spread = training_curves.curve(families["a_seed*_lr1"], "train_loss")
    assert (epochs.tolist(), mean.tolist()) == ([1, 2], [4, 3])
    np.testing.assert_allclose(spread, np.sqrt(2))
    assert len(training_curves.curve(families["a_seed*_lr1"], "test_loss")[0]) == 0


def logs_in(folder, **runs):
    """A log for each, in a folder of its name: {folder: [(run, epoch, figures), ...]}."""
    paths = []
    for name, lines in runs.items():
        (folder / name).mkdir()
        paths.append(folder / name / "log.jsonl")
        lines = (json.dumps({"run": run, "epoch": epoch, **figures}) + "\n" for run, epoch, figures in lines)
        paths[-1].write_text("".join(lines))
    return paths


def losses_of(*paths):
    """By run what is drawn of it: the training loss of each epoch."""
    runs = training_curves.read_logs(paths)
    return {run: [(epoch, line["train_loss"]) for epoch, line in epochs.items()] for run, epochs in runs.items()}


def run_of(losses):
    return [("a_seed1", epoch, {"train_loss": loss, "seconds": loss}) for epoch, loss in losses]


@pytest.mark.parametrize(
    "logged, drawn",
    [
        ([(1, 9.0), (2, 9.0), (3, 9.0), (1, 1.0), (2, 1.0)], [(1, 1.0), (2, 1.0)]),  # of a repeated run the last
        ([(1, 5.0), (2, 9.0), (2, 4.0), (3, 3.0)], [(1, 5.0), (2, 4.0), (3, 3.0)]),  # gone on from its last state
    ],
)
def test_of_epochs_that_a_run_logged_again_the_last_count(tmp_path, logged, drawn):
    (log,) = logs_in(tmp_path, x=run_of(logged))
    with open(log, "a") as file:
        file.write('{"run": "cut sh')  # as a run that is killed may leave it
    assert losses_of(log) == {"a_seed1": drawn}


def test_a_run_in_two_logs_is_drawn_once_if_they_agree_and_else_told_apart_by_their_folders(tmp_path):
    whole, killed, other = logs_in(
        tmp_path, whole=run_of([(1, 2.0), (2, 1.0)]), killed=run_of([(1, 2.0)]), other=run_of([(1, 3.0)])
    )
    assert losses_of(killed, whole, killed) == {"a_seed1": [(1, 2.0), (2, 1.0)]}
    families = training_curves.by_seed(training_curves.read_logs([whole, other]))
    assert list(training_curves.run_names(families).values()) == ["in whole", "in other"]


def test_every_run_is_drawn_by_its_cross_entropy(tmp_path):
    """What flooding and soft labels minimise has another scale."""
    (path,) = logs_in(
        tmp_path,
        x=[
            ("plain", 1, {"train_loss": 1.0}),
            ("flooding", 1, {"train_loss": 0.2, "train_loss_robust": 0.4, "train_cross_entropy": 0.5}),
            ("older_flooding", 1, {"train_loss": 0.3, "train_loss_robust": 0.4}),
        ],
    )
    families = training_curves.by_seed(training_curves.read_logs([path]))
    drawn = {run: training_curves.curve(seeds, "train_cross_entropy")[1].tolist() for run, seeds in families.items()}
    assert drawn == {"plain": [1.0], "flooding": [0.5], "older_flooding": []}
    figure = training_curves.draw_curves(families, training_curves.run_names(families))
    assert 0.2 not in [value for line in figure.axes[0].lines for value in line.get_ydata()]


def test_labels_rename_the_runs(tmp_path):
    runs = ("a_b1_seed1", "a_b1_seed2", "a_b2_seed1")
    (path,) = logs_in(tmp_path, x=[(name, 1, {"train_loss": 1.0}) for name in runs])
    families = training_curves.by_seed(training_curves.read_logs([path]))
    assert list(training_curves.run_names(families).values()) == ["b1", "b2"]
    figure = training_curves.draw_curves(families, training_curves.run_names(families, ["weak", "strong"]))
    assert [line.get_label() for line in figure.axes[0].lines] == ["weak: train", "strong: train"]
    for labels in (["one"], ["same", "same"]):
        with refuses("--labels"):
            training_curves.run_names(families, labels)


def test_every_loss_of_a_group_is_drawn(tmp_path):
    figures = {"train_loss": 1.0, "test_loss": 2.0, "robust_loss": 0.1, "non_robust_loss": 3.0}
    figures |= {"train_loss_other": 2.0, "odd_loss": 1.0}
    lines = [(f"{name}_seed1", epoch, figures) for name in ("flood_b0.1", "flood_b0.2") for epoch in (1, 2)]
    (log,) = logs_in(tmp_path, x=lines)
    assert run("training_curves.py", "--log", log, "--exp", "flood").stdout.count("saved ") == 2
    families = training_curves.by_seed(training_curves.read_logs([log]))
    names = training_curves.run_names(families)
    assert names == {"flood_b0.1_seed*": "b0.1", "flood_b0.2_seed*": "b0.2"}
    whole, *groups = training_curves.draw_curves(families, names).axes
    assert [line.get_label() for line in whole.lines] == ["b0.1: train", "b0.1: test", "b0.2: train", "b0.2: test"]
    labels = [[line.get_label() for line in panel.lines] for panel in groups]
    assert labels == 2 * [["robust group", "non-robust group"], ["others, mean over the epoch"], ["odd loss"]]
    assert [panel.get_ylabel().split(" (")[0] for panel in groups[:2]] == ["mean perturbed loss", "mean cross-entropy"]
    for panel in groups:
        assert panel.get_ylim() == whole.get_ylim() and panel.get_ylim()[1] >= 3


@pytest.mark.parametrize("content", [b"", b"{}\n", b"\xff\xfe\x00\n", b'{"run": "a", "epoch": 1, "lr": 0.1}\n'])
def test_a_log_without_losses_is_refused(tmp_path, content):
    (tmp_path / "log.jsonl").write_bytes(content)
    with refuses("log.jsonl" if b"lr" not in content else "--log"):
        start(training_curves, "--log", tmp_path / "log.jsonl")


# The report.


def block(page, name):
    return re.search(rf'<script type="[^"]*" id="{name}">(.*?)</script>', page, re.DOTALL)[1]


def array(page, name, dtype):
    return np.frombuffer(base64.b64decode(block(page, f"data-{name}")), dtype)


def without_library(page):
    """The page but for the library's own text, which has names of formats, licenses and tags in it.

    That nothing of it loads or runs anything is for the tests in a browser.
    """
    library = build.read("vendor/echarts.min.js")
    assert page.count(library) == 1
    return page.replace(library, "")


def test_the_report_holds_the_metrics(statistics):
    process = run("report.py", "--statistics", statistics, cwd=ROOT / "plot_utils")
    path = statistics.with_suffix(".html")
    assert process.stdout == f"saved {path}\n", process.stderr
    page = path.read_text()
    rows, _ = records.load(statistics)
    metrics = instance_metrics(rows)
    np.testing.assert_array_equal(array(page, "index", "<f8"), metrics["index"])
    np.testing.assert_array_equal(array(page, "sensitivity", "<f4"), metrics["perturbed_loss_mean"].astype("f4"))
    np.testing.assert_array_equal(array(page, "across", "<f4"), metrics["perturbed_loss_std"].astype("f4"))
    np.testing.assert_array_equal(array(page, "flipRate", "<f4"), metrics["flip_rate"].astype("f4"))
    losses = array(page, "perturbedLoss", "<f2").reshape(rows.shape)
    np.testing.assert_allclose(losses, rows["after_perturb_loss"], rtol=1e-3, atol=1e-4)
    correct = array(page, "correct", "u1").reshape(rows.shape)
    np.testing.assert_array_equal(correct & 1, rows["original_pred"])
    np.testing.assert_array_equal(correct >> 1, rows["after_perturb_pred"])
    about = json.loads(block(page, "page-data"))
    assert (about["times"], about["timeUnit"], about["kind"]) == ([0, 1, 2], "epoch", "image")
    assert "<dt>bsz</dt><dd>32</dd>" in page


def test_the_report_needs_nothing_from_outside(statistics):
    run("report.py", "--statistics", statistics)
    page = statistics.with_suffix(".html").read_text()
    page = without_library(page)
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", page)
    texts = re.sub(r"<script type=.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", texts)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy


def test_the_library_is_the_file_that_was_published():
    folder = ROOT / "plot_utils" / "page" / "vendor"
    (published,) = re.findall(r"sha256 ([0-9a-f]{64})", (folder / "README.md").read_text())
    assert hashlib.sha256((folder / "echarts.min.js").read_bytes()).hexdigest() == published


def test_measures_within_the_class(statistics):
    run("report.py", "--statistics", statistics, "--within_class", 1)
    page = statistics.with_name(f"{statistics.stem}_within_class.html").read_text()
    expected = within_class(instance_metrics(records.load(statistics)[0]))["perturbed_loss_mean"]
    np.testing.assert_array_equal(array(page, "sensitivity", "<f4"), expected.astype("f4"))
    assert json.loads(block(page, "page-data"))["reference"] == ", above the mean of the class"


def test_a_report_without_its_dataset_leaves_images_out(tmp_path):
    path, _ = write_statistics(tmp_path / "alone.npy", np.arange(40) % 4)
    process = run("report.py", "--statistics", path)
    assert process.returncode == 0 and process.stderr.startswith("warning: ") and process.stderr.count("\n") == 1
    page = path.with_suffix(".html").read_text()
    about = json.loads(block(page, "page-data"))
    assert (about["kind"], about["thumbnails"], about["timeUnit"]) == (None, None, "step")
    assert "no JSON beside alone.npy" in page and "<img" not in without_library(page)


def test_a_larger_file_is_sampled(tmp_path):
    path, _ = write_statistics(tmp_path / "large.npy", np.arange(90) % 3)
    process = run("report.py", "--statistics", path, "--max_instances", 20)
    assert "drawing 20 of 90" in process.stderr
    index = array(path.with_suffix(".html").read_text(), "index", "<f8")
    assert len(index) == 20 and (np.diff(index) > 0).all()


def test_more_instances_than_a_browser_opens_are_told_before(capsys):
    assert len(report.drawn_rows(10**6, 10**6)) == 10**6
    assert "--max_instances" in capsys.readouterr().err


def test_names_and_texts_cannot_become_markup(tmp_path):
    evil = '</script><script>alert(1)</script><img src=x onerror="alert(2)">&amp;<!--{data}-->'
    path, _ = write_statistics(
        tmp_path / "evil.npy",
        np.arange(12) % 2,
        label_names=[evil, "b"],
        dataset_name=evil,
        perturbation="pgd",
        arguments={"model_name": evil, evil: evil},
        versions={evil: [evil]},
        checkpoints=[{evil: evil}] * 4,
    )
    opened = open_statistics(path)
    page = build.build_page(opened, text_dataset(opened, [evil + str(number) for number in range(12)]), np.arange(12))
    page = without_library(page)
    assert page.count("<script>") == 1 and "<img" not in page and "<!--{" not in page
    assert page.count("</script>") == page.count("<script")
    assert json.loads(block(page, "sources"))[3] == evil + "3"
    assert json.loads(block(page, "page-data"))["classNames"] == [evil, "b"]


def test_long_training_is_charted_at_some_checkpoints_and_long_texts_are_cut(tmp_path):
    records.save(tmp_path / "long.npy", random_records(np.arange(10) % 2, checkpoints=150), {})
    opened = open_statistics(tmp_path / "long.npy")
    about = build.page_data(opened, np.arange(10), ["a", "b"])
    assert len(about["times"]) == build.CHECKPOINTS_CHARTED and (about["times"][0], about["times"][-1]) == (0, 1490)
    arrays = build.page_arrays(opened, np.arange(10), instances.group_numbers(opened.metrics))
    assert arrays["cleanLoss"].shape == (build.CHECKPOINTS_CHARTED, 10)
    for text in ("word " * 20, "\N{CJK UNIFIED IDEOGRAPH-4E00}" * 40):
        cut = build.shortened(text, 40)
        assert len(cut.encode()) <= 40 and text.startswith(cut[:-1])


def test_the_lines_of_the_map_part_the_groups():
    metrics = instance_metrics(random_records(np.arange(31) % 2))
    numbers = instances.group_numbers(metrics)
    robust, non_robust = build.group_bounds(metrics, numbers)
    assert (metrics["perturbed_loss_mean"][numbers == 0] <= robust).all()
    assert (metrics["perturbed_loss_mean"][numbers == 2] >= non_robust).all()
    between = metrics["perturbed_loss_mean"][numbers == 1]
    assert robust <= between.min() and between.max() <= non_robust
    assert build.group_bounds(metrics, np.ones(31)) == [None, None]


@pytest.mark.parametrize("use_untrained_model, counted", [(0, "3 of 4 checkpoints"), (1, "4 checkpoints")])
def test_a_report_of_a_model_that_diverged_says_which_checkpoints_count(tmp_path, use_untrained_model, counted):
    path, rows = write_statistics(tmp_path / "some.npy", np.arange(12) % 2)
    rows["after_perturb_loss"][-1, :5] = np.inf
    records.save(path, rows, {})
    opened = open_statistics(path, use_untrained_model=use_untrained_model)
    with np.errstate(invalid="ignore"):
        page = html.unescape(build.build_page(opened, None, np.arange(12)))
    assert f"<dd>{counted}" in page and np.isinf(array(page, "perturbedLoss", "<f2")).sum() == 5


# Thumbnails.


def image_dataset(pixels):
    """A dataset of these images, uint8 [N,H,W,3]."""
    from robust_data.datasets.images import InMemoryImages

    images = torch.tensor(pixels).permute(0, 3, 1, 2).contiguous()
    index = torch.arange(len(images))
    return InMemoryImages(images, "images", "train", ["a", "b"], index, index % 2)


def test_a_sheet_holds_every_image_in_its_place():
    pixels = np.random.default_rng(0).integers(0, 256, (300, 8, 10, 3), dtype=np.uint8)
    about, sheets = thumbnails.pack(image_dataset(pixels), np.arange(300), None, 10**7)
    assert list(sheets) == ["sheet-clean-0", "sheet-clean-1"]
    assert (about["width"], about["height"], about["crisp"], about["kinds"]) == (10, 8, True, ["clean"])
    pictures = [np.asarray(Image.open(io.BytesIO(base64.b64decode(sheet))).convert("RGB")) for sheet in sheets.values()]
    for place in (0, 15, 16, 255, 256, 299):
        sheet, place_in_sheet = divmod(place, about["perSheet"])
        line, column = divmod(place_in_sheet, about["columns"])
        shown = pictures[sheet][line * 8 : line * 8 + 8, column * 10 : column * 10 + 10]
        np.testing.assert_array_equal(shown, pixels[place])


@pytest.mark.parametrize("most_bytes", [3_000_000, 500_000, 120_000, 1000])
def test_thumbnails_keep_to_their_size_or_are_left_out(most_bytes, capsys):
    pixels = np.random.default_rng(0).integers(0, 256, (400, 40, 40, 3), dtype=np.uint8)
    about, sheets = thumbnails.pack(image_dataset(pixels), np.arange(400), lambda images, index: 1 - images, most_bytes)
    assert sum(map(len, sheets.values())) <= most_bytes
    assert (about is None) == (not sheets) == (most_bytes == 1000) == ("thumbnails" in capsys.readouterr().err)
