"""One command for several seeds: each run is the one that its seed alone makes."""

import re
import statistics as stdlib

import processes
import pytest
from conftest import table
from processes import ROOT

from robust_data import records

COLLECT = ("--dataset_len", 40, "--epochs", 1, "--bsz", 16, "--model_name", "resnet20", "-t", "gaussian_noise", "blur")
FLOODING = ROOT / "new_fine_tune_flooding" / "new_fine_tune_flooding.py"
TUNE = ("--epochs", 1, "--bsz", 16, "--pgd_step", 0)


def collect(*given, **environment):
    return processes.run(ROOT / "data_statistics.py", *COLLECT, *given)


def files(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.npy")}


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    folder = tmp_path_factory.mktemp("several")
    result = collect("--seeds", 3, 5, "--output_dir", folder)
    assert result.returncode == 0, result.stderr
    return folder, result


def test_a_run_of_several_is_that_of_its_seed_alone(several, tmp_path):
    """Whatever an earlier seed has left in the process, the last one's bytes are its own."""
    folder, _ = several
    assert sorted(path.name for path in folder.iterdir()) == ["seed3", "seed5"]
    assert collect("--seed", 5, "--output_dir", tmp_path).returncode == 0
    assert files(tmp_path) == files(folder / "seed5") and len(files(tmp_path)) == 2
    (alone,), (one_of_two,) = ([*where.glob("*blur*.json")] for where in (tmp_path, folder / "seed5"))
    recorded = [records.load(path.with_suffix(".npy"))[1]["arguments"] for path in (alone, one_of_two)]
    assert recorded[0] | {"output_dir": None} == recorded[1] | {"output_dir": None}


def test_the_table_has_means_and_deviations_over_the_seeds(several):
    folder, result = several
    blurred = [records.load(path)[0] for path in sorted(folder.glob("seed*/*blur*.npy"))]
    means = [rows["after_perturb_loss"][1:].astype(float).mean() for rows in blurred]
    *_, title, noise, blur = result.stdout.splitlines()
    assert title.startswith("over 2 seeds (3 5)  ") and noise.startswith("gaussian_noise, severity 3  ")
    mean, deviation = map(float, re.match(r"blur, severity 3 +(\S+) ± (\S+)  ", blur).groups())
    assert abs(mean - stdlib.mean(means)) < 1e-4 and abs(deviation - stdlib.stdev(means)) < 1e-4


def test_the_same_command_does_only_what_is_left(several):
    folder, result = several
    again = collect("--seeds", 3, 5, "--output_dir", folder)
    assert again.returncode == 0 and again.stderr.count("finished already") == 2
    assert again.stdout == result.stdout


def test_fine_tunings_share_a_results_file_and_may_have_the_seed_within_the_folders_name(statistics, tmp_path):
    given = ("--statistics_source", statistics, *TUNE, "--seeds", 1, 2)
    given += ("--output_dir", f"{tmp_path}/plain_seed{{seed}}")
    result = processes.run(FLOODING, *given)
    assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plain_seed1", "plain_seed2", "results.csv"]
    accuracies = [float(row["test_accuracy"]) for row in table(tmp_path / "results.csv")]
    told = re.search(r"^test: .*accuracy (\S+) ± (\S+)$", result.stdout, re.MULTILINE).groups()
    assert told == (f"{stdlib.mean(accuracies):.4f}", f"{stdlib.stdev(accuracies):.4f}")

    (tmp_path / "results.csv").unlink()
    again = processes.run(FLOODING, *given)
    assert again.returncode == 0 and "has no row of" in again.stderr


def test_several_seeds_on_two_processes(tmp_path):
    """The processes meet once, for all seeds."""
    given = ("--dataset_len", 24, "--epochs", 1, "--bsz", 8, "-t", "blur", "--seeds", 1, 2, "--output_dir", tmp_path)
    result = processes.run_together(2, ROOT / "data_statistics.py", *given)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-2].startswith("over 2 seeds (1 2)")
    assert len([*tmp_path.glob("seed*/*.npy")]) == 2
