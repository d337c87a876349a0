"""One process or several: the same records, each instance exactly once, errors told once."""

import json
import os
import subprocess
import sys

import numpy as np
import processes
import pytest
import text_models
import torch
from conftest import save_vit
from processes import ROOT
from safetensors.torch import load_file

from robust_data import records

# Sums over a batch are taken in another order by other numbers of processes; over a short training the losses,
# of the size of 1, then agree to this.
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A tiny transformer without batch norm, and files of 41 and of 2 images in two classes."""
    folder = tmp_path_factory.mktemp("data")
    save_vit(folder / "vit", hidden_dropout_prob=0.0, num_labels=2)
    for count in (41, 2):
        images = np.random.default_rng(count).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)
        np.savez(folder / f"{count}.npz", images=images, labels=np.arange(count) % 2)
    return folder


def arguments(data, count, output):
    given = ("--dataset_name", "npz", "--data_dir", data / f"{count}.npz", "--model_name", data / "vit")
    given += ("--epochs", 2, "--bsz", 6, "--lr", 0.01, "--eval_size", 4, "-t", "gaussian_noise", "pgd")
    return (*given, "--output_dir", output)


def launch_script(count, *command):
    """Run a script in this many processes (1: without a launcher); returns what came of it."""
    return processes.run(*command) if count == 1 else processes.run_together(count, *command)


def launch(count, data, output, instances=41, *more):
    return launch_script(count, ROOT / "data_statistics.py", *arguments(data, instances, output), *more)


def run_on_two_machines(*given, **settings):
    """Two launchers on this machine stand for two machines; both must succeed; returns their stderr."""
    settings |= {
        "RENDEZVOUS": f"127.0.0.1:{processes.free_port()}",
        "NODES": "2",
        "CUDA_VISIBLE_DEVICES": "",
        "ROBUST_DATA_PYTHON": sys.executable,
    }
    environment = os.environ | settings
    command = list(map(str, ["bash", ROOT / "scripts" / "run_multinode.sh", *given]))
    nodes = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [node.communicate()[1] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], outputs
    return outputs


def test_gpus_on_a_machine_without_any_are_refused_in_one_line():
    settings = {"RENDEZVOUS": "127.0.0.1:1", "PROCESSES": "gpu", "ROBUST_DATA_PYTHON": sys.executable}
    environment = os.environ | settings | {"CUDA_VISIBLE_DEVICES": ""}
    command = ["bash", ROOT / "scripts" / "run_multinode.sh"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 2 and result.stdout == ""
    assert (
        result.stderr.startswith("error: PROCESSES=gpu, but this machine has no GPU") and result.stderr.count("\n") == 1
    )


@pytest.fixture(scope="module")
def by_processes(data, tmp_path_factory):
    """The records of the same run by 1, 2 and 3 processes: {processes: {perturbation: records}}."""
    collected = {}
    for count in (1, 2, 3):
        folder = tmp_path_factory.mktemp(f"by_{count}")
        result = launch(count, data, folder)
        assert result.returncode == 0, result.stderr
        collected[count] = {
            name: records.load(next(folder.glob(f"*_t{name}_*.npy")))[0] for name in ("gaussian_noise", "pgd")
        }
    return collected


def test_torchrun_writes_what_processes_write_that_meet_without_it(data, by_processes, tmp_path):
    result = processes.torchrun(2, ROOT / "data_statistics.py", *arguments(data, 41, tmp_path))
    assert result.returncode == 0, result.stderr
    (path,) = tmp_path.glob("*_tpgd_*.npy")
    assert np.array_equal(records.load(path)[0], by_processes[2]["pgd"])


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("name", ["gaussian_noise", "pgd"])
def test_several_processes_record_the_same_from_the_same_weights_bit_for_bit(by_processes, count, name):
    """At the first checkpoint, before any training, the weights are the same."""
    assert np.array_equal(by_processes[count][name][0], by_processes[1][name][0])


@pytest.mark.parametrize("count", [2, 3])
def test_several_processes_train_the_same_up_to_the_order_of_sums(by_processes, count):
    one, several = by_processes[1]["gaussian_noise"], by_processes[count]["gaussian_noise"]
    assert np.array_equal(one["global_step"], several["global_step"])
    assert np.array_equal(one["index"], several["index"])
    assert np.abs(one["original_loss"] - several["original_loss"]).max() < TOLERANCE
    # There was training to disagree about.
    assert np.abs(one["original_loss"][0] - one["original_loss"][-1]).max() > 100 * TOLERANCE


def test_a_parameter_without_a_gradient_keeps_no_process_waiting(data, tmp_path):
    """DINOv2's mask token serves another task than classification."""
    import transformers

    config = transformers.Dinov2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=16, patch_size=8, num_labels=2
    )
    folder = tmp_path / "dinov2"
    transformers.Dinov2ForImageClassification(config).save_pretrained(folder)
    transformers.ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(folder)
    rows = []
    for count in (1, 2):
        out = tmp_path / str(count)
        result = launch(count, data, out, 41, "--model_name", folder)
        assert result.returncode == 0, result.stderr
        rows.append(records.load(next(out.glob("*_tgaussian_noise_*.npy")))[0])
    one, two = (row["original_loss"] for row in rows)
    assert np.array_equal(one[0], two[0]) and np.abs(one - two).max() < TOLERANCE
    assert np.abs(one[0] - one[-1]).max() > 100 * TOLERANCE


def test_fewer_instances_than_processes(data, tmp_path):
    result = launch(3, data, tmp_path, 2)
    assert result.returncode == 0, result.stderr
    (path,) = tmp_path.glob("*_tpgd_*.npy")
    rows = records.load(path)[0]
    assert rows["index"].tolist() == [[0, 1]] * 3 and (rows["original_loss"] > 0).all()


def test_several_machines_start_again_together_when_a_process_is_killed(data, by_processes, tmp_path):
    mishap = ["kill", "robust_data.train.training.Trainer._train_step", 9, ROOT / "data_statistics.py"]
    outputs = run_on_two_machines(
        *mishap,
        *arguments(data, 41, tmp_path / "out"),
        SCRIPT=str(ROOT / "tests" / "dying.py"),
        RANK_TO_DIE="0",
        ONCE=str(tmp_path / "once"),
    )
    assert any("going on at step" in output for output in outputs)
    (path,) = (tmp_path / "out").glob("*_tpgd_*.npy")
    assert np.array_equal(records.load(path)[0], by_processes[2]["pgd"])


def test_a_loss_that_stops_being_finite_ends_every_process(data, tmp_path):
    """With batches of one instance only one process sees the loss that is not finite."""
    result = launch(2, data, tmp_path, 2, "--bsz", 1, "--lr", 1e30)
    assert result.returncode != 0
    told = [line for line in result.stderr.splitlines() if "the training loss is not finite at step" in line]
    assert len(told) == 1


# Each instance once an epoch, six at a time; the last batch is of five.
FINE_TUNE = ("--epochs", 2, "--bsz", 6, "--lr", 0.01, "--eval_size", 4, "--pgd_step", 1)


@pytest.fixture(scope="module")
def statistics(data, by_processes, tmp_path_factory):
    """The statistics file of one process."""
    folder = tmp_path_factory.mktemp("statistics")
    assert launch(1, data, folder).returncode == 0
    return next(folder.glob("*_tgaussian_noise_*.npy"))


@pytest.mark.parametrize(
    "script, more",
    [
        ("new_fine_tune_flooding/new_fine_tune_flooding.py", ("--b", 0.6)),
        ("new_fine_tune_flooding/new_fine_tune_soft_label.py", ("--augment_chosen", "contrast", "gaussian_noise")),
        ("new_fine_tune_flooding/new_fine_tune_flooding.py", ("--b", 0, "--do_pgd_training", 1, "--adv_steps", 2)),
        ("finetune_with_select_data.py", ("--group", "robust", "--do_pgd_training", 1, "--adv_steps", 2)),
    ],
)
def test_two_processes_fine_tune_as_one_does(data, statistics, script, more, tmp_path):
    """The same losses and weights, up to the order of sums; attacked and perturbed instances among them."""
    losses, weights = [], []
    for count in (1, 2):
        folder = tmp_path / str(count)
        given = ("--statistics_source", statistics, "--model_name", data / "vit", *FINE_TUNE, *more)
        result = launch_script(count, ROOT / script, *given, "--output_dir", folder)
        assert result.returncode == 0, result.stderr
        epochs = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        losses.append([value for epoch in epochs for name, value in sorted(epoch.items()) if "loss" in name and value])
        weights.append(load_file(folder / "model" / "model.safetensors"))
    assert losses[0] == pytest.approx(losses[1], abs=TOLERANCE) and len(set(losses[0])) > 2
    before = load_file(data / "vit" / "model.safetensors")
    for name in before:
        assert torch.allclose(weights[0][name], weights[1][name], atol=1e-3), name
    assert any((weights[0][name] - before[name]).abs().max() > 1e-2 for name in before)


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    text_models.save_bert(folder / "bert")
    text_models.write_sst2(folder, train=31, test=9)
    return folder


def launch_on_texts(count, script, texts, output, *more):
    given = ["--dataset_name", "glue", "--task_name", "sst2", "--data_dir", texts, "--model_name", texts / "bert"]
    result = launch_script(count, ROOT / script, *given, "--eval_size", 4, "--output_dir", output, *more)
    assert result.returncode == 0, result.stderr


def test_several_processes_record_texts_and_attack_words_as_one_does(texts, tmp_path):
    rows, judged = {}, {}
    for count in (1, 2):
        out = tmp_path / str(count)
        launch_on_texts(count, "data_statistics.py", texts, out, "-t", "pgd", "char_swap", "--epochs", 1)
        rows[count] = [records.load(path)[0][0] for path in sorted(out.glob("*.npy"))]
        launch_on_texts(count, "evaluate_robustness.py", texts, out, "--attacks", "pgd", "deepwordbug")
        (report,) = out.glob("robustness_*.json")
        judged[count] = json.loads(report.read_text())["results"]
    assert len(rows[1]) == 2 and all(map(np.array_equal, rows[1], rows[2]))
    assert [row["name"] for row in judged[1]] == ["clean", "pgd", "deepwordbug"]
    for one, two in zip(judged[1], judged[2], strict=True):
        assert one == two | {"loss": pytest.approx(two["loss"])}


def test_bad_input_is_told_once_with_the_rank(data, tmp_path):
    result = processes.torchrun(2, ROOT / "data_statistics.py", *arguments(data, 41, tmp_path), "--dataset_len", 1)
    assert result.returncode != 0
    told = [line for line in result.stderr.splitlines() if "--dataset_len 1" in line and "data_statistics.py" in line]
    assert len(told) == 1 and "data_statistics.py: rank " in told[0]
    assert not list(tmp_path.glob("*.npy"))
