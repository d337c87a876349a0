"""One training run that records several severities, and instances that it does not train on."""

import json
from pathlib import Path

import numpy as np
import processes
import pytest
from processes import ROOT

from robust_data import records

SMALL = ("--dataset_len", 40, "--epochs", 1, "--bsz", 16, "--lr", 0.01)


def run(*given):
    return processes.run(ROOT / "data_statistics.py", *SMALL, *given)


def files(folder, end):
    """The statistics files of a folder whose names end so, by their end."""
    return sorted(Path(folder).glob(f"*{end}.npy"))


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """Three severities of a perturbation and one that has none, also on the test split: the folder and the output."""
    folder = tmp_path_factory.mktemp("several")
    given = ("-t", "gaussian_noise", "pgd", "--severity", 5, 1, 3, 3, "--collect_on", "test", "--output_dir", folder)
    return folder, given, run(*given)


@pytest.fixture(scope="module")
def held_out(tmp_path_factory):
    """A run that holds out instances which select_instances.py chose: the folder, their indices, the arguments."""
    folder = tmp_path_factory.mktemp("held_out")
    assert run("-t", "identity", "--output_dir", folder / "all").returncode == 0
    (path,) = files(folder / "all", "identity_severity1") or files(folder / "all", "identity_severity3")
    select = ("--statistics", path, "--select_ratio", 0.2, "--output", folder / "chosen")
    assert processes.run(ROOT / "scripts" / "select_instances.py", *select).returncode == 0
    given = ("-t", "identity", "--collect_on", folder / "chosen.npy", "--output_dir", folder / "rest")
    result = run(*given)
    assert result.returncode == 0, result.stderr
    return folder / "rest", np.sort(np.load(folder / "chosen.npy")), given


def test_every_severity_has_the_file_of_a_run_of_its_own(several, tmp_path):
    folder, _, result = several
    assert result.returncode == 0, result.stderr
    for severity in (1, 3, 5):
        (path,) = files(folder, f"_tgaussian_noise_severity{severity}")
        assert records.load(path)[1]["severity"] == severity
    assert len(files(folder, "_tpgd_severity?")) == 1
    # Nothing of a run says whether it recorded more.
    assert run("-t", "gaussian_noise", "pgd", "--severity", 1, "--output_dir", tmp_path).returncode == 0
    for path in files(tmp_path, ""):
        assert path.read_bytes() == (folder / path.name).read_bytes()
    again = run("-t", "gaussian_noise", "--severity", 3, "--output_dir", folder)
    assert "finished already" in again.stderr


def test_the_table_names_severities_and_instances(several):
    lines = several[2].stdout.splitlines()
    begin = [line.split("   ")[0] for line in lines[1:9]]
    trained = [*(f"gaussian_noise, severity {severity}" for severity in (1, 3, 5)), "pgd"]
    assert begin == [*trained, *(f"{name}, test" for name in trained)]
    assert [line.startswith("saved ") for line in lines].count(True) == 8


def test_the_test_split_is_recorded_in_files_that_say_so(several):
    rows, about = records.load(files(several[0], "_tpgd_severity1_on_test")[0])
    assert (about["split"], about["trained_on"], about["instances"]) == ("test", False, rows.shape[1])
    assert about["checkpoints"][-1]["accuracy"] == pytest.approx(rows["original_pred"][-1].mean())
    log = json.loads((several[0] / "log.jsonl").read_text())
    assert rows["original_pred"][-1].mean() == pytest.approx(log["test_accuracy"])
    rows, about = records.load(files(several[0], "_tpgd_severity1")[0])
    assert (about["split"], about["trained_on"], about["instances"]) == ("train", True, 40)


def test_the_validation_split_is_recorded_in_a_file_of_its_own(tmp_path):
    given = ("-t", "identity", "--val_len", 20, "--collect_on", "val", "--output_dir", tmp_path)
    assert run(*given).returncode == 0
    rows, about = records.load(files(tmp_path, "_on_val")[0])
    assert (about["split"], about["trained_on"], rows.shape[1]) == ("val", False, 20)
    log = json.loads((tmp_path / "log.jsonl").read_text())
    assert rows["original_loss"][-1].mean() == pytest.approx(log["val_loss"], rel=1e-5)
    trained, _ = records.load(files(tmp_path, "_severity3")[0])
    assert not set(trained["index"][0]) & set(rows["index"][0])


def test_a_killed_run_ends_with_the_same_bytes(several, tmp_path):
    given = [*SMALL, *several[1][:-1], tmp_path]
    mishap = [ROOT / "tests" / "dying.py", "kill", "robust_data.collection.perturb_batch", 20]
    assert processes.run(*mishap, ROOT / "data_statistics.py", *given).returncode == -9
    assert files(tmp_path, "") == [] and list(tmp_path.glob("*.state"))
    other = [value for value in given if value not in ("--collect_on", "test")]
    refused = processes.run(ROOT / "data_statistics.py", *other)
    assert refused.returncode == 2 and "--collect_on was test, is None" in refused.stderr
    result = processes.run(ROOT / "data_statistics.py", *given)
    assert result.returncode == 0 and "going on at step" in result.stderr
    assert len(files(tmp_path, "")) == 8
    for path in files(tmp_path, ""):
        assert path.read_bytes() == (several[0] / path.name).read_bytes()


@pytest.mark.parametrize("script", ["scripts/select_instances.py", "finetune_with_select_data.py"])
def test_nothing_is_chosen_for_training_from_the_test_split(several, tmp_path, script):
    (path,) = files(several[0], "_tpgd_severity1_on_test")
    result = processes.run(ROOT / script, "--statistics", path, cwd=tmp_path)
    assert result.returncode == 2 and "holds instances of the test split" in result.stderr


def test_held_out_instances_are_recorded_and_not_trained_on(held_out):
    folder, index, _ = held_out
    (ours,), (rest,) = files(folder, "_held_out"), files(folder, "_severity?")
    rows, about = records.load(ours)
    assert rows["index"][0].tolist() == index.tolist() and (about["split"], about["trained_on"]) == ("train", False)
    others, about = records.load(rest)
    assert not set(others["index"][0]) & set(index) and others.shape[1] == 32 and about["trained_on"]
    # A step more would be taken for 40 instances.
    assert others["global_step"][-1, 0] == 2


def test_a_held_out_run_is_known_by_the_instances_and_not_by_the_name_of_the_file(held_out, tmp_path):
    folder, index, given = held_out
    np.save(tmp_path / "other.npy", index[::-1].astype(np.int32))
    again = run(*given[:3], tmp_path / "other.npy", *given[4:])
    assert "finished already" in again.stderr
    np.save(tmp_path / "other.npy", index[1:])
    more = run(*given[:3], tmp_path / "other.npy", *given[4:])
    assert more.returncode == 0 and "finished already" not in more.stderr
    assert len(files(folder, "_held_out")) == 2


def test_fine_tuning_on_the_statistics_of_the_rest_leaves_out_what_was_held_out(held_out, tmp_path):
    (ours, *_), (rest, *_) = files(held_out[0], "_held_out"), files(held_out[0], "_severity?")
    given = ("--epochs", 1, "--pgd_step", 0, "--select_ratio", 1, "--output_dir", tmp_path)
    script = ROOT / "new_fine_tune_flooding" / "new_fine_tune_flooding.py"
    assert "holds the instances that its run held out" in processes.run(script, "--statistics", ours, *given).stderr
    result = processes.run(script, "--statistics", rest, *given)
    instances = records.load(rest)[0].shape[1]
    assert result.returncode == 0 and f"digits train, {instances} instances" in result.stderr, result.stderr


def test_statistics_rank_the_training_of_any_other_seed(several, tmp_path):
    """The subset of --dataset_len is that of the statistics, whatever the seed and the model of the run."""
    (path,) = files(several[0], "_tgaussian_noise_severity3")
    given = ("--select_from", path, "--epochs", 1, "--pgd_step", 0, "--seed", 7, "--model_name", "resnet20")
    for script in ("finetune_with_select_data.py", "new_fine_tune_flooding/new_fine_tune_flooding.py"):
        result = processes.run(ROOT / script, *given, "--output_dir", tmp_path / Path(script).stem)
        assert result.returncode == 0 and "digits train, 40 instances" in result.stderr, result.stderr
        assert "seed 7" in result.stderr and "model resnet20" in result.stderr
