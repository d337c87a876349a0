"""Sample images, training curves and the report, as files; `test_report_browser.py` opens the report."""

import base64
import csv
import hashlib
import html
import json
import re
import shutil
from types import SimpleNamespace

import numpy as np
import processes
import pytest
import text_models
import torch
from looking import ROOT, assert_refused, random_records, run, write_statistics
from PIL import Image

from robust_data import perturbations, records
from robust_data.analysis.statistics_file import open_statistics
from robust_data.metrics import instance_metrics, within_class
from robust_data.plot_utils import instances, sample_images, training_curves
from robust_data.plot_utils.page import build, sections, thumbnails
from robust_data.registry import InputError
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


def test_the_severity_is_that_of_the_last_checkpoint(statistics):
    about = json.loads(statistics.with_suffix(".json").read_text())
    about["checkpoints"][-1]["severity"] = 5
    about["arguments"]["resample_perturbation"] = 1
    statistics.with_suffix(".json").write_text(json.dumps(about))
    assert instances.perturber(open_statistics(statistics)) == instances.Perturber("gaussian_noise", 5, 3, 2)


# Sample images.


def test_sample_images_from_the_scripts_own_folder(statistics):
    process = run("sample_images.py", "--statistics", statistics, "--per_group", 2, cwd=ROOT / "plot_utils")
    stem = statistics.with_name("gaussian_noise_samples_2each")
    assert process.stdout.splitlines() == [f"saved {stem}.png", f"saved {stem}.pdf"], process.stderr
    with Image.open(f"{stem}.png") as picture:
        assert min(picture.size) > 800


def test_other_samples_have_a_file_of_their_own(statistics):
    opened = open_statistics(statistics)
    names = set()
    switches = (["--within_class", 1], ["--only_original_pred", 1], ["--use_untrained_model", 1])
    for given in ([], *switches, ["--per_group", 2], ["--classes", 4, 9]):
        args = sample_images.build_parser().parse_args(["--statistics", str(statistics), *map(str, given)])
        labels = sample_images.chosen_classes(opened, args.classes)
        names.add(sample_images.default_stem(args, opened, labels))
    assert len(names) == 6


def test_samples_say_how_many_instances_are_left_out(tmp_path):
    path, rows = write_statistics(tmp_path / "some.npy", np.arange(40) % 2)
    rows["original_pred"] = True
    rows["original_pred"][:, :3] = False
    records.save(path, rows, {})
    assert open_statistics(path).dropped == ""
    assert open_statistics(path, only_original_pred=True).dropped == (
        "; 3 of 40 instances never classified correctly left out"
    )


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


def test_class_names_are_not_taken_for_formulas(statistics):
    opened, dataset = loaded(statistics)
    opened.metadata["label_names"] = ["$\\frac{$", *(f"a_{{{number}" for number in range(9))]
    samples = sample_images.choose_samples(opened, [0, 1], 1)
    pictures = sample_images.read_pictures(dataset, samples, instances.perturber(opened))
    sample_images.draw_grid(samples, pictures, [0, 1], 1, opened).canvas.draw()


def text_dataset(opened, texts):
    """A dataset of texts for these statistics."""
    index = torch.tensor(opened.metrics["index"])
    return SimpleNamespace(modality="text", name="texts", index=index, sources=texts, labels=index * 0)


def test_texts_become_a_table(tmp_path):
    path, _ = write_statistics(tmp_path / "texts.npy", np.arange(12) % 2, perturbation="pgd")
    opened = open_statistics(path)
    texts = [f'{number}, "quoted"\nand $5 <b>bold</b>' * (1 + number % 4) for number in range(12)]
    samples = sample_images.choose_samples(opened, [0, 1], 2)
    chosen = instances.texts(text_dataset(opened, texts), np.array([sample.index for sample in samples]))
    with open(sample_images.write_table(tmp_path / "table.csv", samples, chosen, None), newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["text"] for line in lines] == [texts[sample.index] for sample in samples]
    assert [float(line["sensitivity"]) for line in lines] == [sample.sensitivity for sample in samples]
    sample_images.draw_table(samples, chosen, None, opened).canvas.draw()


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
    with open(path.with_name(path.stem + "_samples.csv"), newline="") as file:
        lines = list(csv.DictReader(file))
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


def test_samples_without_a_json_need_the_data_set(statistics):
    statistics.with_suffix(".json").unlink()
    assert_refused(run("sample_images.py", "--statistics", statistics), "--dataset_name is missing")


# Training curves.


def log_line(run, epoch, **figures):
    return json.dumps({"run": run, "epoch": epoch, "global_step": 10 * epoch, **figures}) + "\n"


def test_the_log_of_a_real_run_is_drawn(collected, tmp_path):
    process = run(
        "training_curves.py", "--log", collected / "log.jsonl", "--output", tmp_path / "curves", cwd=ROOT / "plot_utils"
    )
    assert process.stdout.splitlines() == [f"saved {tmp_path / 'curves.png'}", f"saved {tmp_path / 'curves.pdf'}"], (
        process.stderr
    )


def test_seeds_become_a_mean_with_its_deviation(tmp_path):
    log = tmp_path / "log.jsonl"
    losses = {1: [3.0, 2.0, 1.0], 2: [5.0, 4.0]}
    log.write_text(
        "".join(
            log_line(f"a_seed{seed}_lr1", epoch, train_loss=loss, test_loss=None)
            for seed, values in losses.items()
            for epoch, loss in enumerate(values, 1)
        )
    )
    families = training_curves.by_seed(training_curves.read_logs([log]))
    assert list(families) == ["a_seed*_lr1"]
    epochs, mean, spread = training_curves.curve(families["a_seed*_lr1"], "train_loss")
    assert (epochs.tolist(), mean.tolist()) == ([1, 2], [4, 3])
    np.testing.assert_allclose(spread, np.sqrt(2))
    assert len(training_curves.curve(families["a_seed*_lr1"], "test_loss")[0]) == 0


def test_of_a_repeated_run_the_last_counts(tmp_path):
    log = tmp_path / "log.jsonl"
    first = [log_line("a_seed1", epoch, train_loss=9.0) for epoch in (1, 2, 3, 4)]
    again = [log_line("a_seed1", epoch, train_loss=1.0) for epoch in (1, 2)]
    log.write_text("".join(first + again))
    assert {epoch: line["train_loss"] for epoch, line in training_curves.read_logs([log])["a_seed1"].items()} == {
        1: 1.0,
        2: 1.0,
    }


def test_a_run_that_goes_on_from_its_last_state_keeps_the_epochs_before(tmp_path):
    log = tmp_path / "log.jsonl"
    log.write_text(
        "".join(log_line("a", epoch, train_loss=loss) for epoch, loss in ((1, 5.0), (2, 9.0), (2, 4.0), (3, 3.0)))
    )
    assert [line["train_loss"] for line in training_curves.read_logs([log])["a"].values()] == [5.0, 4.0, 3.0]


def test_a_line_cut_short_at_the_end_is_left_out(tmp_path):
    log = tmp_path / "log.jsonl"
    log.write_text(log_line("a", 1, train_loss=5.0) + log_line("a", 2, train_loss=4.0)[:20])
    assert list(training_curves.read_logs([log])["a"]) == [1]


def logs_in(folder, **runs):
    """A log for each, in a folder of its name: {folder: [(run, epoch, figures), ...]}."""
    paths = []
    for name, lines in runs.items():
        (folder / name).mkdir()
        paths.append(folder / name / "log.jsonl")
        paths[-1].write_text("".join(log_line(run, epoch, **figures) for run, epoch, figures in lines))
    return paths


def test_a_run_found_twice_is_drawn_once(tmp_path):
    once = [("a_seed1", epoch, {"train_loss": 3.0 - epoch, "seconds": epoch}) for epoch in (1, 2)]
    again = [("a_seed1", 1, {"train_loss": 2.0, "seconds": 9.0})]
    paths = logs_in(tmp_path, killed=again, whole=once)
    runs = training_curves.read_logs([*paths, paths[0]])
    assert list(runs) == ["a_seed1"] and list(runs["a_seed1"]) == [1, 2]


def test_runs_of_one_name_that_differ_are_told_apart_by_their_folders(tmp_path):
    one, other = ([("a_seed1", 1, {"train_loss": loss})] for loss in (1.0, 2.0))
    families = training_curves.by_seed(training_curves.read_logs(logs_in(tmp_path, slow=one, fast=other)))
    assert list(training_curves.run_names(families).values()) == ["in slow", "in fast"]


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
    (path,) = logs_in(
        tmp_path, x=[(name, 1, {"train_loss": 1.0}) for name in ("a_b1_seed1", "a_b1_seed2", "a_b2_seed1")]
    )
    families = training_curves.by_seed(training_curves.read_logs([path]))
    assert list(training_curves.run_names(families).values()) == ["b1", "b2"]
    names = training_curves.run_names(families, ["weak", "strong"])
    figure = training_curves.draw_curves(families, names)
    assert [line.get_label() for line in figure.axes[0].lines] == ["weak: train", "strong: train"]
    for labels in (["one"], ["same", "same"]):
        with pytest.raises(InputError, match="b1, b2"):
            training_curves.run_names(families, labels)


def test_curves_of_other_runs_have_a_file_of_their_own():
    given = (["a/log.jsonl"], ["a/log.jsonl", "b/log.jsonl"], ["a/log.jsonl", "c/log.jsonl"], ["a/log.jsonl"])
    stems = []
    for number, logs in enumerate(given):
        exp = ["--exp", "x/y"] if number == 3 else []
        args = training_curves.build_parser().parse_args(["--log", *logs, *exp])
        stems.append(training_curves.output_stem(args))
    assert [stem.parent.name for stem in stems] == ["a"] * 4
    alone, both, others, some = [stem.name for stem in stems]
    assert (alone, some) == ("training_curves", "training_curves_x_y")
    assert both.startswith("training_curves_a_b_") and others.startswith("training_curves_a_c_")


def test_every_loss_of_a_group_is_drawn(tmp_path):
    figures = {
        "train_loss": 1.0,
        "test_loss": 2.0,
        "robust_loss": 0.1,
        "non_robust_loss": 3.0,
        "train_loss_other": 2.0,
        "odd_loss": 1.0,
    }
    log = tmp_path / "log.jsonl"
    log.write_text(
        "".join(
            log_line(f"{name}_seed1", epoch, **figures) for name in ("flood_b0.1", "flood_b0.2") for epoch in (1, 2)
        )
    )
    families = training_curves.by_seed(training_curves.read_logs([log]))
    names = training_curves.run_names(families)
    assert names == {"flood_b0.1_seed*": "b0.1", "flood_b0.2_seed*": "b0.2"}
    figure = training_curves.draw_curves(families, names)
    whole, *groups = figure.axes
    assert [line.get_label() for line in whole.lines] == ["b0.1: train", "b0.1: test", "b0.2: train", "b0.2: test"]
    kinds = ("perturbed loss of groups", "chosen and other instances", "other losses")
    assert [panel.get_title() for panel in groups] == [f"{kind}, {run}" for run in ("b0.1", "b0.2") for kind in kinds]
    labels = [[line.get_label() for line in panel.lines] for panel in groups]
    assert labels == 2 * [["robust group", "non-robust group"], ["others, mean over the epoch"], ["odd loss"]]
    assert [panel.get_ylabel().split(" (")[0] for panel in groups[:2]] == ["mean perturbed loss", "mean cross-entropy"]
    for panel in groups:
        assert panel.get_ylim() == whole.get_ylim() and panel.get_ylim()[1] >= 3


def test_bad_input_of_training_curves(tmp_path):
    log = tmp_path / "log.jsonl"

    def refused(content, *words, arguments=()):
        log.write_bytes(content if isinstance(content, bytes) else content.encode())
        assert_refused(run("training_curves.py", "--log", log, *arguments), *words)

    refused("", "holds no line")
    refused("{}\n", "line 1", "no run and epoch")
    refused(log_line("a", 1) + "nonsense\n", "line 2", "no JSON")
    refused(b"\xff\xfe\x00\n", "not text")
    refused(log_line("a", 1, lr=0.1), "no run has a loss")
    refused(log_line("a", 1, train_loss=0.1), "--exp b", arguments=["--exp", "b"])
    log.unlink()
    assert_refused(run("training_curves.py", "--log", log), "does not exist")
    assert files(tmp_path) == []


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
    assert not re.search(
        r"https?://(?!www\.w3\.org/2000/svg)", re.sub(r"<script type=.*?</script>", "", page, flags=re.DOTALL)
    )
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


def test_a_dataset_that_was_named_must_be_the_right_one(tmp_path):
    path, _ = write_statistics(tmp_path / "other.npy", np.arange(40) % 4)
    assert_refused(
        run("report.py", "--statistics", path, "--dataset_name", "digits"), "another dataset", "labels differ"
    )
    assert_refused(
        run("report.py", "--statistics", path, "--dataset_name", "npz", "--data_dir", tmp_path / "no"), "does not exist"
    )
    assert_refused(run("report.py", "--statistics", tmp_path / "none.npy"), "does not exist")
    assert_refused(
        run("report.py", "--statistics", path, "--output", tmp_path / "no" / "page.html"), "cannot be written"
    )
    assert files(tmp_path) == ["other.npy"]


def test_a_larger_file_is_sampled(tmp_path):
    path, _ = write_statistics(tmp_path / "large.npy", np.arange(90) % 3)
    process = run("report.py", "--statistics", path, "--max_instances", 20)
    assert "drawing 20 of 90" in process.stderr
    index = array(path.with_suffix(".html").read_text(), "index", "<f8")
    assert len(index) == 20 and (np.diff(index) > 0).all()


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


def test_long_texts_are_cut_by_the_bytes_they_take():
    assert build.shortened("short", 40) == "short"
    for text in ("word " * 20, "\N{CJK UNIFIED IDEOGRAPH-4E00}" * 40):
        cut = build.shortened(text, 40)
        assert len(cut.encode()) <= 40 and cut.endswith("\N{HORIZONTAL ELLIPSIS}") and text.startswith(cut[:-1])


def test_long_training_is_charted_at_some_checkpoints(tmp_path):
    rows = random_records(np.arange(10) % 2, checkpoints=150)
    records.save(tmp_path / "long.npy", rows, {})
    opened = open_statistics(tmp_path / "long.npy")
    about = build.page_data(opened, np.arange(10), ["a", "b"])
    assert len(about["times"]) == build.CHECKPOINTS_CHARTED
    assert (about["times"][0], about["times"][-1]) == (0, 1490)
    arrays = build.page_arrays(opened, np.arange(10), instances.group_numbers(opened.metrics))
    assert arrays["cleanLoss"].shape == (build.CHECKPOINTS_CHARTED, 10)


def test_groups_are_thirds():
    opened = instance_metrics(random_records(np.arange(31) % 2))
    numbers = instances.group_numbers(opened)
    assert np.bincount(numbers).tolist() == [10, 11, 10]
    sensitivity = opened["perturbed_loss_mean"]
    assert sensitivity[numbers == 0].max() <= sensitivity[numbers == 1].min()
    assert sensitivity[numbers == 1].max() <= sensitivity[numbers == 2].min()


def test_the_lines_of_the_map_part_the_groups():
    metrics = instance_metrics(random_records(np.arange(31) % 2))
    numbers = instances.group_numbers(metrics)
    robust, non_robust = build.group_bounds(metrics, numbers)
    assert (metrics["perturbed_loss_mean"][numbers == 0] <= robust).all()
    assert (metrics["perturbed_loss_mean"][numbers == 2] >= non_robust).all()
    between = metrics["perturbed_loss_mean"][numbers == 1]
    assert robust <= between.min() and between.max() <= non_robust
    assert build.group_bounds(metrics, np.ones(31)) == [None, None]


@pytest.mark.parametrize(
    "use_untrained_model, words",
    [(0, "3 of 4 checkpoints, without the untrained model's"), (1, "4 checkpoints, the untrained model's among them")],
)
def test_the_report_says_which_checkpoints_count(tmp_path, use_untrained_model, words):
    path, _ = write_statistics(tmp_path / "some.npy", np.arange(12) % 2)
    opened = open_statistics(path, use_untrained_model=use_untrained_model)
    page = html.unescape(build.build_page(opened, None, np.arange(12)))
    assert f"<dd>{words}</dd>" in page
    assert "sensitivity: explained by class" in page and "sensitivity: rank correlation with clean loss" in page


def test_losses_that_are_not_finite_do_not_stop_the_report(tmp_path):
    path, rows = write_statistics(tmp_path / "diverged.npy", np.arange(12) % 2)
    rows["after_perturb_loss"][-1, :5] = np.inf
    rows["original_loss"][-1, 3] = np.nan
    records.save(path, rows, {})
    opened = open_statistics(path)
    with np.errstate(invalid="ignore"):
        page = build.build_page(opened, None, np.arange(12))
    assert np.isinf(array(page, "perturbedLoss", "<f2")).sum() == 5


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
    for place in (0, 15, 16, 255, 256, 299):
        sheet, place_in_sheet = divmod(place, about["perSheet"])
        picture = decoded(sheets[f"sheet-clean-{sheet}"])
        line, column = divmod(place_in_sheet, about["columns"])
        np.testing.assert_array_equal(picture[line * 8 : line * 8 + 8, column * 10 : column * 10 + 10], pixels[place])


def decoded(encoded):
    import io

    return np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB"))


@pytest.mark.parametrize("most_bytes", [3_000_000, 500_000, 120_000])
def test_thumbnails_keep_to_their_size(most_bytes):
    pixels = np.random.default_rng(0).integers(0, 256, (400, 40, 40, 3), dtype=np.uint8)
    about, sheets = thumbnails.pack(image_dataset(pixels), np.arange(400), lambda images, index: 1 - images, most_bytes)
    assert 0 < sum(map(len, sheets.values())) <= most_bytes
    assert about["kinds"][0] == "clean"


def test_thumbnails_that_cannot_fit_are_left_out(capsys):
    pixels = np.random.default_rng(0).integers(0, 256, (400, 40, 40, 3), dtype=np.uint8)
    assert thumbnails.pack(image_dataset(pixels), np.arange(400), None, 1000) == (None, {})
    assert "thumbnails would take more" in capsys.readouterr().err


def test_tables_tell_counts_from_shares():
    assert sections.cell(1234) == '<td data-value="1234.0">1,234</td>'
    assert sections.cell(1.0) == '<td data-value="1.0">1.000</td>'
