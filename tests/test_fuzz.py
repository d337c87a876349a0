"""Whatever a user types and whatever a file holds: a script does its work, or ends with one line and status 2."""

from __future__ import annotations

from pathlib import Path

import fuzzing
import pytest
import specimens
from fuzzing import DEVICE, FIGURE, MODEL, NASTY

from registry import InputError

# The arguments with which every script comes to its work, and what begins it.
DATA = ("--dataset_name", "npz", "--data_dir", "few.npz")
FINE_TUNING = ("--statistics_source", "statistics.npy", "--output_dir", "out")
STATISTICS = ("--statistics", "statistics.npy")
IMPORTED = ("--logits", "logits.npy", "--perturbed_logits", "logits.npy", "--labels", "labels.npy")
USUAL = {
    "benchmarks/collection.py": ((), ("benchmarks.collection.main",)),
    "benchmarks/fault_injection.py": ((), ("benchmarks.fault_injection.main",)),
    "benchmarks/perturbations.py": ((), ("benchmarks.perturbations.main",)),
    "benchmarks/same_outputs.py": (("HEAD",), ("benchmarks.same_outputs.main",)),
    "benchmarks/scale.py": ((), ("benchmarks.scale.main",)),
    "benchmarks/word_attacks.py": (
        ("--model_name", "bert", "--data_dir", "texts", "--textattack_python", "python"),
        ("benchmarks.word_attacks.main",),
    ),
    "data_statistics.py": ((*DATA, "--output_dir", "out"), (DEVICE,)),
    "finetune_with_select_data.py": (FINE_TUNING, (DEVICE,)),
    "evaluate_robustness.py": ((*DATA, "--model_name", "small_cnn", "--output_dir", "out"), (DEVICE,)),
    "new_fine_tune_flooding/new_fine_tune_flooding.py": (FINE_TUNING, (DEVICE,)),
    "new_fine_tune_flooding/new_fine_tune_soft_label.py": (FINE_TUNING, (DEVICE,)),
    "plot_utils/perturbation_gallery.py": (("--output_dir", "out"), ("plot_utils.perturbation_gallery.draw_sheet",)),
    "plot_utils/plotting.py": (STATISTICS, (FIGURE,)),
    "plot_utils/report.py": (STATISTICS, ("plot_utils.report.build_page",)),
    "plot_utils/sample_images.py": (STATISTICS, (FIGURE,)),
    "plot_utils/training_curves.py": (("--log", "log.jsonl"), (FIGURE,)),
    "scripts/compare_models.py": (("--results_dir", "judged"), (FIGURE,)),
    "scripts/compare_statistics.py": (("statistics.npy", "other.npy"), (FIGURE,)),
    "scripts/convert_statistics.py": (("--input", "older.npy", "--output", "new.npy"), ()),
    "scripts/export_statistics.py": (STATISTICS, ()),
    "scripts/import_statistics.py": ((*IMPORTED, "--output", "new.npy"), ()),
    "scripts/select_instances.py": (STATISTICS, ()),
    "study/data.py": ((), ("study.data.main",)),
    "study/older_scale.py": (
        ("--models", "ours", "--data_dir", "few.npz", "--output_dir", "out"),
        ("study.older_scale.main",),
    ),
    "study/run.py": ((), ("study.run.main",)),
    "study/summarise.py": ((), ("study.summarise.main",)),
}
# Those that load data, with the options whose values that takes; a model would be next. Without workers, who talk
# through files outside the fence.
OF_DATA = (
    *("--dataset_name", "--task_name", "--data_dir", "--dataset_len", "--val_len", "--image_size", "--max_seq_length"),
    *("--text_column", "--text_pair_column", "--label_column", "--encoding", "--skip_corrupt", "--seed", "--bsz"),
    *("--severity", "--perturbations", "--collect_on", "--max_instances", "--split", "--corruptions_dir"),
    *("--severities", "--word_vectors", "--num_examples", "--statistics_source", "--select_ratio", "--eval_size"),
)
OUT = ("--output_dir", "out", "--num_workers", "0")
FILES = ("--dataset_name", "imagefolder", "--data_dir", "images")
TEXTS = ("--dataset_name", "csv", "--data_dir", "table.csv", "--model_name", "bert", "--max_seq_length", "16")
GLUE = ("--dataset_name", "glue", "--task_name", "sst2", "--data_dir", "texts")
LOADING = {
    "images": ("data_statistics.py", (*DATA, *OUT)),
    "files of images": ("data_statistics.py", (*FILES, *OUT)),
    "texts": ("data_statistics.py", (*TEXTS, *OUT)),
    "GLUE": ("data_statistics.py", (*TEXTS, *GLUE, *OUT)),
    "fine-tuning": ("finetune_with_select_data.py", FINE_TUNING),
    "judging": ("evaluate_robustness.py", (*DATA, "--model_name", "ours", *OUT)),
    "judging texts": ("evaluate_robustness.py", (*TEXTS, "--split", "train", "--attack_method", "deepwordbug", *OUT)),
}


def load(name, **options):
    """Load a data set as a script does, and visit it once."""
    import torch

    import datasets

    dataset = datasets.load(name, **{"split": "train"} | options)
    if dataset.modality == "image":
        list(dataset.batches(torch.arange(len(dataset)).split(16), "cpu"))


def read_statistics():
    from robust_data.analysis.statistics_file import open_statistics
    from robust_data.collect import outputs as finished

    opened = open_statistics("statistics.npy")
    finished.summary(opened.rows)


def read_log():
    from plot_utils import training_logs

    families = training_logs.by_seed(training_logs.read_logs([Path("log.jsonl")]))
    for seeds in families.values():
        for key in ("train_cross_entropy", "test_accuracy"):
            training_logs.curve(seeds, key)


def forget_epochs():
    from robust_data.judge.epoch_log import forget_epochs

    forget_epochs(Path("log.jsonl"), "plain_seed1", 4)


def read_results_file():
    from robust_data.fine_tune import results_file

    row = {"model_folder": "out/model", "test_accuracy": 0.25}
    results_file.check("results.csv", list(row))
    results_file.last_row("results.csv", "out/model")
    results_file.append("results.csv", row)


def read_state():
    from robust_data.train.resume import RunState

    RunState(Path("run.state"), {"lr": 0.1}).load()


def read_rest_of_a_run():
    from robust_data import records

    file = records.RecordFile("rest.npy", 3, 40, rows=2)
    file.append(file._records[0].copy())


def read_saved_arguments():
    from robust_data.train.identity import check_arguments
    from robust_data.train.saved_models import saved_arguments

    check_arguments(saved_arguments("ours"), specimens.RUN | {"training labels": "0"}, Path("ours"))


def read_word_vectors():
    from robust_data.words import word_vectors

    word_vectors.load("vectors.txt").nearest("good", 2, 0.1)


def read_corruptions():
    from robust_data.judge import published

    published.open_folder("corruptions", 4, (8, 8)).load("fog", 1, ["0", "1", "2", "3"])


def read_reference():
    from robust_data.judge import corruption_error
    from robust_data.judge.conditions import Condition

    path = "judged/plain_seed1/robustness_small_cnn.json"
    reference = corruption_error.load_reference(path)
    corruption_error.check_reference(path, reference, [Condition("perturbation", "blur", 3)], {"index_sha256": "0"})
    corruption_error.corruption_errors(reference["results"], reference["results"])


def read_collect_on():
    from robust_data.command_line import collect_on

    collect_on.held_out_name("chosen.npy")


def read_gallery_image():
    from plot_utils.perturbation_gallery import read_image

    read_image("images/train/cat/0.png")


def build(folder, modality):
    import models

    models.build(folder, 2, modality=modality, image_size=(16, 16), max_seq_length=8)


def tokenise():
    load("csv", data_dir="table.csv", tokenizer="bert", max_seq_length=16)


def masked_lm():
    from robust_data.words import masked_lm

    masked_lm.load("masked", "cpu")


def of_script(name, *arguments, work=()):
    """A reader that is a whole script."""

    def read():
        status, _, err = fuzzing.call(name, *arguments, work=work)
        assert not (complaint := fuzzing.complaint(status, err)), complaint
        if status:
            raise InputError(err.splitlines()[-1])

    return read


# By what is read: the files that are damaged, one at a time, and what reads them.
READERS = {
    "statistics": (["statistics.npy", "statistics.json"], read_statistics),
    "fine-tuning": (
        ["statistics.npy", "statistics.json"],
        of_script("new_fine_tune_flooding/new_fine_tune_flooding.py", *FINE_TUNING, work=(MODEL,)),
    ),
    "map": (
        ["statistics.npy", "statistics.json"],
        of_script("plot_utils/plotting.py", *STATISTICS, work=("plot_utils.maps.pyplot",)),
    ),
    "select": (["statistics.npy", "statistics.json"], of_script("scripts/select_instances.py", *STATISTICS)),
    "report": (["statistics.npy", "statistics.json"], of_script("plot_utils/report.py", *STATISTICS)),
    "samples": (
        ["statistics.npy", "statistics.json"],
        of_script("plot_utils/sample_images.py", *STATISTICS, work=(FIGURE,)),
    ),
    "compare": (
        ["statistics.npy", "statistics.json"],
        of_script("scripts/compare_statistics.py", "statistics.npy", "other.npy", work=(FIGURE,)),
    ),
    "npz": (["few.npz"], lambda: load("npz", data_dir="few.npz")),
    "npz test": (["few.npz"], lambda: load("npz", data_dir="few.npz", split="test")),
    "images": (
        ["images/train/cat/0.png", "images/train/dog/1.jpg", "images/train/eel/0.tif"],
        lambda: load("imagefolder", data_dir="images"),
    ),
    "images resized": (
        ["images/train/cat/0.png", "images/train/dog/1.jpg", "images/train/eel/0.tif"],
        lambda: load("imagefolder", data_dir="images", image_size=4, skip_corrupt=True),
    ),
    "gallery": (["images/train/cat/0.png"], read_gallery_image),
    "csv": (["table.csv"], lambda: load("csv", data_dir="table.csv")),
    "tsv": (["table.tsv"], lambda: load("tsv", data_dir="table.tsv")),
    "glue": (["texts/SST-2/train.tsv"], lambda: load("glue", task_name="sst2", data_dir="texts")),
    "zip": (["zipped/SST-2.zip"], lambda: load("glue", task_name="sst2", data_dir="zipped")),
    "tar": (["tarred/aclImdb_v1.tar.gz"], lambda: load("imdb", data_dir="tarred")),
    "imdb": (["aclImdb/train/neg/1.txt"], lambda: load("imdb", data_dir=".")),
    "ag_news": (["news/train.csv"], lambda: load("ag_news", data_dir="news")),
    "log": (["log.jsonl"], read_log),
    "own log": (["log.jsonl"], forget_epochs),
    "results file": (["results.csv"], read_results_file),
    "state": (["run.state"], read_state),
    "rest of a run": (["rest.npy.partial"], read_rest_of_a_run),
    "saved arguments": (["ours/args.json"], read_saved_arguments),
    "config": (
        ["statistics.json"],
        of_script("data_statistics.py", "--config", "statistics.json", *OUT, work=(DEVICE,)),
    ),
    "config of a model": (
        ["ours/args.json"],
        of_script(
            "new_fine_tune_flooding/new_fine_tune_flooding.py",
            "--config",
            "ours",
            "--output_dir",
            "out",
            work=(DEVICE,),
        ),
    ),
    "older": (
        ["older.npy"],
        of_script("scripts/convert_statistics.py", "--input", "older.npy", "--output", "new.npy"),
    ),
    "older pickle": (
        ["older.pkl"],
        of_script("scripts/convert_statistics.py", "--input", "older.pkl", "--output", "new.npy"),
    ),
    "newer": (
        ["statistics.npy", "statistics.json"],
        of_script("scripts/convert_statistics.py", "--input", "statistics.npy", "--output", "new.npy"),
    ),
    "judged": (
        ["judged/plain_seed1/robustness_small_cnn.json", "judged/plain_seed1/robustness_small_cnn.npz"],
        of_script("scripts/compare_models.py", "--results_dir", "judged", "--baseline", "plain", work=(FIGURE,)),
    ),
    "reference": (["judged/plain_seed1/robustness_small_cnn.json"], read_reference),
    "judged before": (
        ["before/robustness_modelsmall_cnn_datasetdigits_splittest_seed42.json"],
        of_script("evaluate_robustness.py", "--model_name", "small_cnn", "--output_dir", "before", work=(DEVICE,)),
    ),
    "imported": (
        ["logits.npy", "labels.npy"],
        of_script("scripts/import_statistics.py", *IMPORTED, "--output", "new.npy"),
    ),
    "dynamics": (
        ["dynamics/dynamics_epoch_0.jsonl"],
        of_script("scripts/import_statistics.py", "--dynamics", "dynamics", "--output", "new.npy"),
    ),
    "word vectors": (["vectors.txt"], read_word_vectors),
    "corruptions": (["corruptions/labels.npy", "corruptions/fog.npy"], read_corruptions),
    "collect_on": (["chosen.npy"], read_collect_on),
    "our model": (["ours/config.json", "ours/model.safetensors"], lambda: build("ours", "image")),
    "vit": (
        ["vit/config.json", "vit/model.safetensors", "vit/preprocessor_config.json"],
        lambda: build("vit", "image"),
    ),
    "bert": (["bert/config.json", "bert/model.safetensors"], lambda: build("bert", "text")),
    "sharded": (
        ["sharded/config.json", "sharded/model.safetensors.index.json", "sharded/model-00001-of-00002.safetensors"],
        lambda: build("sharded", "text"),
    ),
    "tokenizer": (["bert/tokenizer.json", "bert/tokenizer_config.json", "bert/config.json"], tokenise),
    "masked": (["masked/config.json", "masked/tokenizer.json"], masked_lm),
}


# An archive is unpacked as a whole before it is known what its files hold.
UNPACKING = {"tar"}


def option_complaint(ground, name, option, value, usual, work):
    """What is wrong with how a script takes a value; None if nothing is."""
    before = fuzzing.listing(ground)
    with fuzzing.fenced(ground):
        status, _, err = fuzzing.call(name, *usual, option, value, work=work)
    complaint = fuzzing.complaint(status, err) or fuzzing.left_behind(ground, before)
    if status != 0 and fuzzing.listing(ground) != before:
        complaint = complaint or f"files were written or changed, with status {status}: {err}"
    fuzzing.restore(ground, before)
    return complaint


def reading_complaint(ground, name, path, content):
    """What is wrong with how a reader takes a file with this content; None if nothing is."""
    good = Path(path).read_bytes()
    Path(path).write_bytes(content)
    before = fuzzing.listing(ground)
    try:
        with fuzzing.fenced(ground):
            refused, complaint = fuzzing.attempt(READERS[name][1])
        if refused and name not in UNPACKING and fuzzing.listing(ground) != before:
            complaint = complaint or "files were written or changed, although the file was refused"
        return complaint or fuzzing.left_behind(ground, before)
    finally:
        fuzzing.restore(ground, before)
        Path(path).write_bytes(good)


@pytest.fixture(scope="module")
def files(tmp_path_factory, statistics, few_digits):
    """The folder with a good file of each format."""
    # What the libraries write when they are imported is outside the fence.
    import matplotlib.pyplot  # noqa: F401
    import transformers  # noqa: F401

    return specimens.write_all(tmp_path_factory.mktemp("specimens"), statistics, few_digits)


@pytest.fixture
def ground(files, monkeypatch):
    monkeypatch.chdir(files)
    return files


def test_every_script_is_tried():
    assert sorted(USUAL) == fuzzing.scripts()


@pytest.mark.parametrize("name", USUAL)
def test_the_usual_arguments_come_to_the_work(name, ground):
    usual, work = USUAL[name]
    before = fuzzing.listing(ground)
    with fuzzing.fenced(ground):
        status, _, err = fuzzing.call(name, *usual, work=work)
    fuzzing.restore(ground, before)
    assert status == 0, err


@pytest.mark.parametrize("name", READERS)
def test_the_good_files_are_read(name, ground):
    for path in READERS[name][0]:
        before, good = fuzzing.listing(ground), Path(path).read_bytes()
        assert fuzzing.attempt(READERS[name][1]) == (False, None)
        fuzzing.restore(ground, before)
        Path(path).write_bytes(good)


# How much of all there is to try; the rest takes minutes.
FEW_VALUES, FEW_DAMAGES, MANY_DAMAGES = 3, 6, 200
SLOW = pytest.mark.slow


@pytest.mark.parametrize("count", [FEW_VALUES, pytest.param(len(NASTY), marks=SLOW)])
@pytest.mark.parametrize("name", USUAL)
def test_no_value_of_an_option_ends_in_a_traceback(name, count, ground):
    found = {}
    for option in fuzzing.options(name):
        for value in fuzzing.draws(name, option).sample(NASTY, count):
            found[option, value] = option_complaint(ground, name, option, value, *USUAL[name])
    assert not {given: complaint for given, complaint in found.items() if complaint}


@pytest.mark.parametrize("count", [FEW_VALUES, pytest.param(len(NASTY), marks=SLOW)])
@pytest.mark.parametrize("name", LOADING)
def test_no_value_by_which_data_are_loaded_ends_in_a_traceback(name, count, ground):
    script, usual = LOADING[name]
    found = {}
    for option in sorted({*OF_DATA} & {*fuzzing.options(script)}):
        for value in fuzzing.draws(name, option).sample(NASTY, count):
            found[option, value] = option_complaint(ground, script, option, value, usual, (MODEL,))
    assert not {given: complaint for given, complaint in found.items() if complaint}


@pytest.mark.parametrize("count", [FEW_DAMAGES, pytest.param(MANY_DAMAGES, marks=SLOW)])
@pytest.mark.parametrize("name", READERS)
def test_no_damage_to_a_file_ends_in_a_traceback(name, count, ground):
    found = {}
    for path in READERS[name][0]:
        good = Path(path).read_bytes()
        for number in range(count):
            content = fuzzing.ruined(good, fuzzing.draws(name, path, number))
            found[path, number] = reading_complaint(ground, name, path, content)
    assert not {damaged: complaint for damaged, complaint in found.items() if complaint}
