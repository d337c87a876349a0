"""Weights that are spread over two processes: the records, the models and the judgements of one process."""

import numpy as np
import processes
import pytest
from test_distributed import ROOT
from text_models import save_bert, write_sst2

from robust_data import records

# Sums are taken in another order.
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    none = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    save_bert(folder / "bert", num_hidden_layers=2, **none)
    write_sst2(folder, train=31, test=9)
    return folder


def run(count, script, texts, output, *more):
    given = ["--dataset_name", "glue", "--task_name", "sst2", "--data_dir", texts, "--model_name", texts / "bert"]
    command = (ROOT / script, *given, "--eval_size", 4, "--output_dir", output, *more)
    result = processes.run(*command) if count == 1 else processes.run_together(count, *command)
    assert result.returncode == 0, result.stderr
    return result


def test_two_processes_record_what_one_does(texts, tmp_path):
    rows = {}
    for count, more in ((1, ()), (2, ("--shard", 1))):
        asked = ("-t", "pgd", "char_swap", "--epochs", 2, "--bsz", 6, "--lr", 1e-3, *more)
        run(count, "data_statistics.py", texts, tmp_path / str(count), *asked)
        rows[count] = [records.load(path)[0] for path in sorted((tmp_path / str(count)).glob("*.npy"))]
    for one, two in zip(rows[1], rows[2], strict=True):
        for name in ("original_loss", "after_perturb_loss", "delta_norm"):
            assert np.abs(one[name] - two[name]).max() < TOLERANCE
        assert np.abs(one["original_loss"][0] - one["original_loss"][-1]).max() > 100 * TOLERANCE
