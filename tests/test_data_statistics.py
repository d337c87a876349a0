"""The main script, run as a user runs it."""

import json
import re
from pathlib import Path

import numpy as np
import processes
import pytest
from conftest import write_images
from processes import ROOT

from robust_data import records
from robust_data.collect.outputs import statistics_name
from robust_data.metrics import clean_loss_correlation, instance_metrics
from robust_data.settings import Collect

SMALL = ("--dataset_len", "40", "--epochs", "2", "--bsz", "16")
RUN = (*SMALL, "--statistic_interval", 0.5, "-t", "identity", "blur", "gaussian_noise_2", "--lr", 0.01)


def run(*given, cwd=None):
    return processes.run(ROOT / "data_statistics.py", *given, cwd=cwd)


def statistics(folder, perturbation):
    (path,) = Path(folder).glob(f"*_t{perturbation}_severity*.npy")
    return records.load(path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One run over three perturbations at every half epoch: its folder and its output."""
    folder = tmp_path_factory.mktemp("results")
    return folder, run(*RUN, "--output_dir", folder)


def test_a_run_writes_one_file_per_perturbation_and_names_them(finished):
    folder, result = finished
    assert result.returncode == 0, result.stderr
    stem = (
        "robust_statistics_modelsmall_cnn_datasetdigits_taskNone_seed42_shuffle1_len40_adv_steps5_adv_lr0.03_epoch2_"
        "lr0.01_interval0.5_with_untrained_model1_use_cur_preds0"
    )
    expected = [f"saved {folder}/{stem}_t{name}_severity3.npy" for name in ("identity", "blur", "gaussian_noise")]
    assert result.stdout.splitlines()[-3:] == expected


def test_bad_input_leaves_nothing_behind_that_refuses_the_remedy(image_folder, tmp_path):
    """Images of unlike sizes are decoded at each visit, so that one which cannot be is met within the run."""
    for split in ("train", "test"):
        write_images(image_folder / split / "cat", 1, size=(20, 12))
    damaged = [image_folder / split / "dog" / "1.png" for split in ("train", "test")]
    for path in damaged:
        path.write_bytes(path.read_bytes()[:150])
    given = ("--dataset_name", "imagefolder", "--data_dir", image_folder, "--image_size", 8, "--epochs", 1, "--bsz", 8)
    given = (*given, "--num_workers", 0, "-t", "identity", "--output_dir", tmp_path / "out")
    for more in ((), ("--with_untrained_model", 0, "--save_every", 1)):
        refused = run(*given, *more)
        assert refused.returncode == 2 and f"{damaged[0]} " in refused.stderr and "--skip_corrupt 1" in refused.stderr
        result = run(*given, *more, "--skip_corrupt", 1)
        assert result.returncode == 0, result.stderr
    # One of the test images alone, which is met after an epoch.
    damaged[0].unlink()
    refused = run(*given, "--seed", 1)
    assert refused.returncode == 2 and f"{damaged[1]} " in refused.stderr
    assert run(*given, "--seed", 1, "--skip_corrupt", 1).returncode == 0


def test_a_name_that_would_be_too_long_is_cut_before_the_perturbation():
    def name(model, perturbation=None):
        return statistics_name(Collect(model_name=model, lr=0.1), perturbation)

    fits = 200 - len(name("", "blur"))
    assert f"_model{'m' * fits}_" in name("m" * fits, "blur")
    for length in (fits + 1, 255):
        long, other = name("m" * length, "blur"), name("m" * (length - 1) + "n", "blur")
        assert len(long) == 200 and long.endswith("_tblur_severity3.npy") and long.startswith("robust_statistics_model")
        assert long != other
    assert len(name("m" * 255)) == 200 and name("m" * 255) != name("m" * 254 + "n")


def test_the_records_cover_every_instance_at_every_checkpoint(finished):
    rows, _ = statistics(finished[0], "blur")
    assert rows.dtype == records.DTYPE and rows.shape == (5, 40)
    assert rows["global_step"][:, 0].tolist() == [0, 2, 3, 4, 6]  # 3 steps an epoch: 1.5, 3, 4.5 and 6 steps
    assert (np.diff(rows["index"][0]) > 0).all() and (rows["index"] == rows["index"][0]).all()
    assert np.bincount(rows["golden_label"][0]).tolist() == [4] * 10


def test_identity_changes_nothing_and_the_clean_pass_is_shared(finished):
    identity, _ = statistics(finished[0], "identity")
    assert (records.column(identity, "loss_diff") == 0).all()
    blur, _ = statistics(finished[0], "blur")
    assert np.array_equal(blur["original_loss"], identity["original_loss"])


def test_the_json_tells_the_circumstances(finished):
    rows, about = statistics(finished[0], "blur")
    assert (about["dataset_name"], about["split"], about["instances"]) == ("digits", "train", 40)
    assert (about["perturbation"], about["severity"], about["stopped"]) == ("blur", 3, None)
    assert (about["parameter"], about["parameter_unit"]) == (3.571, "side of the box, px")
    assert about["labels_sha256"] == records.labels_hash(rows["golden_label"][0])
    assert [checkpoint["global_step"] for checkpoint in about["checkpoints"]] == rows["global_step"][:, 0].tolist()
    assert about["checkpoints"][-1]["train_accuracy"] == pytest.approx(rows["original_pred"][-1].mean())
    assert about["loss_against"] == "the golden label"
    assert about["arguments"]["lr"] == 0.01 and about["versions"].keys() >= {"robust_data", "torch", "numpy"}


def test_the_table_and_the_json_count_the_trained_checkpoints_and_say_so(finished):
    folder, result = finished
    header, *lines = result.stdout.splitlines()
    assert header.endswith("sensitivity  variability  flip rate  class explains  rank corr. clean loss")
    assert "counted: 4 of 5 checkpoints, without the untrained model's" in lines
    rows, about = statistics(folder, "blur")
    metrics = instance_metrics(rows[1:])
    summary = about["summary"]
    assert (summary["checkpoints"], summary["use_untrained_model"]) == (4, 0)
    assert summary["sensitivity"] == pytest.approx(rows["after_perturb_loss"][1:].mean(dtype=float))
    assert summary["clean_loss_correlation"] == pytest.approx(clean_loss_correlation(metrics))
    (line,) = [line.split() for line in lines if line.startswith("blur ")]
    figures = ("sensitivity", "variability", "flip_rate", "class_share", "clean_loss_correlation")
    assert line == ["blur", "40", *(f"{summary[figure]:.4f}" for figure in figures)]


def test_a_model_that_diverged_is_told_once_for_all_files_and_the_columns_of_the_table_keep_apart(tmp_path):
    result = run(*SMALL, "--epochs", 1, "--lr", 1000, "-t", "blur", "gaussian_noise", "--output_dir", tmp_path)
    assert result.returncode == 0
    (line,) = [line for line in result.stderr.splitlines() if "the model diverged" in line]
    assert "warning: blur and 1 more: at 1 of 1 checkpoints the mean clean loss is beyond 23 nats" in line
    header, *lines = [re.split(" {2,}", line) for line in result.stdout.splitlines()[:3]]
    assert [len(line) for line in lines] == [len(header)] * 2 and float(lines[0][2]) > 1e5


def test_a_finished_run_is_summarised_with_the_untrained_model_without_being_made_again(finished):
    folder, first = finished
    again = run(*RUN, "--output_dir", folder, "--use_untrained_model", 1)
    assert again.returncode == 0 and "finished already" in again.stderr + again.stdout
    assert "counted: 5 checkpoints, the untrained model's among them" in again.stdout.splitlines()
    rows, _ = statistics(folder, "blur")
    assert f"{instance_metrics(rows, use_untrained_model=True)['perturbed_loss_mean'].mean():.4f}" in again.stdout


def test_the_log_has_a_line_per_epoch(finished):
    lines = [json.loads(line) for line in (finished[0] / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]
    figures = {"train_loss", "train_accuracy", "test_loss", "test_accuracy", "lr", "seconds", "instances_per_second"}
    assert all(figures <= line.keys() for line in lines)


def test_the_same_command_gives_the_same_bytes(finished, tmp_path):
    run(*SMALL, "--statistic_interval", 0.5, "-t", "gaussian_noise", "--output_dir", tmp_path, "--lr", 0.01)
    (again,) = tmp_path.glob("*.npy")
    assert again.read_bytes() == (finished[0] / again.name).read_bytes()


def test_severities_that_do_not_go_one_way_are_told(tmp_path):
    names = ("-t", "gaussian_noise", "elastic_transform", "--severity", 1, 5)
    (warned,) = run(*SMALL, *names, "--output_dir", tmp_path).stderr.splitlines()[-1:]
    assert "elastic_transform" in warned and "gaussian_noise" not in warned


def test_the_linear_schedule_raises_the_severity_and_resampling_redraws(tmp_path):
    given = ("--severity_schedule", "linear", "--resample_perturbation", 1, "-t", "red_shift", "gaussian_noise")
    given += ("--with_untrained_model", 0, "--statistic_interval", 0.5, "--output_dir", tmp_path)
    run(*SMALL, *given)
    shift, about = statistics(tmp_path, "red_shift")
    assert [checkpoint["severity"] for checkpoint in about["checkpoints"]] == [2, 3, 4, 5]
    assert (np.diff(shift["delta_norm"], axis=0) > 0).all()


def test_a_loss_that_is_not_finite_keeps_what_was_collected(tmp_path):
    result = run(*SMALL, "--lr", "1e30", "--max_grad_norm", "1e30", "--output_dir", tmp_path)
    assert result.returncode == 2
    last_line = result.stderr.splitlines()[-1]
    assert "the training loss is not finite at step" in last_line and "checkpoints kept before it: 1" in last_line
    rows, about = statistics(tmp_path, "random_shadow")
    assert len(rows) == 1 and "not finite" in about["stopped"] and about["summary"] is None


def test_an_image_folder_without_a_test_split_is_run_with_a_warning(image_folder, tmp_path):
    import shutil

    shutil.rmtree(image_folder / "test")
    given = ("--dataset_name", "imagefolder", "--data_dir", image_folder, "--epochs", 1, "--model_name", "resnet20")
    result = run(*given, "--output_dir", tmp_path / "results")
    assert result.returncode == 0, result.stderr
    assert "going on without test accuracy" in result.stderr
    assert json.loads((tmp_path / "results" / "log.jsonl").read_text())["test_accuracy"] is None


def test_bf16_is_a_coarser_measurement_of_the_same_model(finished, tmp_path):
    result = run(*SMALL, "--precision", "bf16", "-t", "gaussian_noise", "identity", "--output_dir", tmp_path)
    assert result.returncode == 0, result.stderr
    rows, about = statistics(tmp_path, "gaussian_noise")
    exact, _ = statistics(finished[0], "gaussian_noise")
    assert about["arguments"]["precision"] == "bf16"
    # The untrained models have the same weights; eight bits of a logit are left of its 24.
    assert np.allclose(rows["original_loss"][0], exact["original_loss"][0], rtol=0.02)
    assert not np.array_equal(rows["original_loss"][0], exact["original_loss"][0])
    clean_again, _ = statistics(tmp_path, "identity")
    assert np.array_equal(clean_again["original_loss"], clean_again["after_perturb_loss"])


def test_the_input_gradient_is_recorded_on_request_and_can_be_selected_by(finished, tmp_path):
    given = [*SMALL, "--statistic_interval", 0.5, "-t", "blur", "--lr", 0.01, "--output_dir", tmp_path]
    assert run(*given, "--record_input_gradient", 1).returncode == 0
    rows, about = statistics(tmp_path, "blur")
    plain, _ = statistics(finished[0], "blur")
    assert np.array_equal(rows[list(records.DTYPE.names)], plain) and (rows["original_input_gradient"] > 0).all()
    (path,) = tmp_path.glob("*.npy")
    chosen = processes.run(
        ROOT / "scripts" / "select_instances.py",
        *("--statistics", path, "--select_metric", "input_gradient", "--select_ratio", 0.1, "--output", tmp_path / "s"),
    )
    assert chosen.returncode == 0, chosen.stderr
    mean = rows["original_input_gradient"][1:].mean(axis=0, dtype=float)
    assert np.load(tmp_path / "s.npy").tolist() == rows["index"][0][np.argsort(-mean)[:4]].tolist()
    assert "--record_input_gradient was 1, is 0" in run(*given).stderr


def test_what_was_recorded_before_an_option_was_there_is_found(finished, tmp_path):
    for file in finished[0].glob("*_tblur_*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (path,) = tmp_path.glob("*.json")
    about = json.loads(path.read_text())
    del about["arguments"]["record_input_gradient"]
    path.write_text(json.dumps(about))
    given = [*SMALL, "--statistic_interval", 0.5, "-t", "blur", "--lr", 0.01, "--output_dir", tmp_path]
    assert "finished already" in run(*given).stderr
    assert "--record_input_gradient was None, is 1" in run(*given, "--record_input_gradient", 1).stderr
