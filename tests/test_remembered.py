"""What a run was told once, the next one takes from its files, and the command line wins."""

import json

import numpy as np
import pytest
from conftest import refuses
from PIL import Image

from robust_data import data_statistics, datasets, evaluate_robustness, finetune_with_select_data, models, records
from robust_data.new_fine_tune_flooding import new_fine_tune_flooding

FEW = ("--epochs", 1, "--bsz", 8)


def run(script, *given):
    script.main(script.build_parser().parse_args([str(part) for part in given]))


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Twelve images of each of two classes, in two sizes, without a folder train."""
    folder, rng = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    for label in ("cat", "dog"):
        (folder / label).mkdir()
        for number in range(12):
            shape = (20 + 4 * (number % 2), 24, 3)
            Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(folder / label / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def flooded(photographs, tmp_path_factory):
    """The folder of a model that was fine-tuned with nothing said twice."""
    folder = tmp_path_factory.mktemp("flooded")
    data = ("--dataset_name", "imagefolder", "--data_dir", photographs, "--val_len", 4, "--seed", 3)
    run(data_statistics, *data, *FEW, "--model_name", "resnet9_small", "-t", "identity", "--output_dir", folder)
    (statistics,) = folder.glob("*.npy")
    run(new_fine_tune_flooding, "--statistics_source", statistics, *FEW, "--pgd_step", 0, "--output_dir", folder)
    return folder / "model"


def judged(folder, *given):
    run(evaluate_robustness, "--attacks", "none", *given, "--output_dir", folder)
    (report,) = folder.glob("robustness_*.json")
    return json.loads(report.read_text())


def test_fine_tuning_takes_the_model_of_the_statistics_and_their_size_of_images(flooded):
    (statistics,) = flooded.parent.glob("*.npy")
    assert records.load(statistics)[1]["image_size"] == [64, 64]  # what a small net gets of sizes that differ
    saved = json.loads((flooded / "args.json").read_text())
    assert saved["arguments"]["model_name"] == "resnet9_small"
    assert saved["data"] == {"seed": 3, "image_size": [64, 64]}


def test_a_model_is_judged_on_the_data_that_it_was_trained_on(flooded, photographs, tmp_path, capsys):
    said_again = ("--dataset_name", "imagefolder", "--data_dir", photographs, "--image_size", 64)
    reports = [judged(tmp_path / "a", "--model_name", flooded)]
    assert f"--data_dir {photographs} --image_size 64" in capsys.readouterr().err
    reports.append(judged(tmp_path / "b", "--model_name", flooded, *said_again))
    assert reports[0]["results"] == reports[1]["results"] and reports[0]["instances"] == 2
    assert judged(tmp_path / "c", "--model_name", flooded, "--image_size", 32)["results"] != reports[0]["results"]


def test_what_was_held_out_is_found_again_whatever_the_seed(flooded, photographs, tmp_path):
    held_out = datasets.load("imagefolder", "val", data_dir=photographs, val_len=4, seed=3)
    found = judged(tmp_path, "--model_name", flooded, "--split", "val", "--seed", 1)
    assert found["index_sha256"] == records.labels_hash(held_out.index.numpy())


def test_a_run_is_named_after_what_lies_above_its_folder_model(flooded, tmp_path):
    judged(tmp_path, "--model_name", flooded)
    (name,) = tmp_path.glob("*.json")
    assert name.name.startswith(f"robustness_model{flooded.parent.name}_")


def test_without_a_json_the_model_has_to_be_named(statistics, tmp_path):
    copy = tmp_path / "robust_statistics.npy"
    copy.write_bytes(statistics.read_bytes())
    options = ("--dataset_name", "digits", "--group", "robust", "--output_dir", tmp_path)
    with refuses("--model_name"):
        run(finetune_with_select_data, "--statistics_source", copy, *options)


def test_a_tenth_of_each_class_is_the_test_split_of_an_undivided_folder(photographs):
    train, test = (datasets.load("imagefolder", split, data_dir=photographs) for split in ("train", "test"))
    assert train.labels.bincount().tolist() == [11, 11] and test.labels.bincount().tolist() == [1, 1]
    assert not set(train.sources) & set(test.sources)
    assert test.sources == datasets.load("imagefolder", "test", data_dir=photographs, seed=5).sources
    for name in ("train_", "validation"):
        (photographs / name).mkdir(exist_ok=True)
    with refuses("validation"):
        datasets.load("imagefolder", data_dir=photographs)
    for name in ("train_", "validation"):
        (photographs / name).rmdir()


@pytest.mark.parametrize("name, side", [("small_cnn", 64), ("resnet18", 224), ("efficientnet_b1", 240), ("a/b", None)])
def test_the_size_of_images_is_that_which_the_model_is_made_for(name, side):
    assert models.image_side(name) == side


def test_config_with_another_output_dir_writes_all_there(tmp_path):
    recorded = {"statistics_source": "x.npy", "output_dir": "first", "results_file": "first/results.csv"}
    (tmp_path / "args.json").write_text(json.dumps({"arguments": recorded}))
    parse = new_fine_tune_flooding.build_parser().parse_args
    assert parse(["--config", str(tmp_path)]).results_file == "first/results.csv"
    assert parse(["--config", str(tmp_path), "--output_dir", "other"]).results_file is None


@pytest.mark.parametrize("given, meant", [("batch_size", "bsz"), ("num_epochs", "epochs"), ("learning_rate", "lr")])
def test_an_unknown_option_names_the_nearest(given, meant, capsys):
    with pytest.raises(SystemExit):
        data_statistics.build_parser().parse_args([f"--{given}", "3"])
    assert capsys.readouterr().err.rstrip().endswith(f"nearest: --{meant}")
