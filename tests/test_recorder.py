"""Recording from a loop of one's own."""

import copy
import subprocess
import sys
from pathlib import Path

import numpy as np
import processes
import pytest
import torch
from torch import nn

import datasets
import models
from registry import InputError
from robust_data import Recorder, records
from robust_data.running.training import Trainer, TrainingOptions

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def arrays(training_set):
    return training_set.images.numpy(), training_set.labels.numpy()


def plain_model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.LazyLinear(4))


def test_a_file_recorded_in_a_loop_is_bit_for_bit_that_of_data_statistics(few_digits, tmp_path):
    names = ("blur", "shot_noise", "pgd")
    given = ("--dataset_name", "npz", "--data_dir", few_digits, "--seed", 5, "--epochs", 2, "--bsz", 16, "--lr", 0.01)
    result = processes.run(ROOT / "data_statistics.py", *given, "-t", *names, "--output_dir", tmp_path)
    assert result.returncode == 0, result.stderr

    dataset = datasets.load("npz", data_dir=few_digits)
    torch.manual_seed(5)
    model = models.build("small_cnn", 4, image_size=dataset.image_size)
    trainer = Trainer(model, dataset, TrainingOptions(epochs=2, bsz=16, lr=0.01, seed=5), torch.device("cpu"))
    recorder = Recorder(dataset, names, tmp_path / "mine", seed=5)
    for step in (0, 3, 6):
        trainer.train_until(step)
        recorder.record(model, step)
    for name, path in zip(names, recorder.finish()):
        (collected,) = tmp_path.glob(f"*_t{name}_severity3.npy")
        assert path.read_bytes() == collected.read_bytes()
        ours, theirs = records.load(path)[1], records.load(collected)[1]
        same = ("perturbation", "family", "severity", "parameter", "labels_sha256", "label_names", "split", "summary")
        assert {key: ours[key] for key in same} == {key: theirs[key] for key in same}
    assert not list((tmp_path / "mine").glob("*.partial"))


def test_a_model_and_all_random_states_stay_as_they_were(arrays, tmp_path):
    model = plain_model()
    model(torch.rand(2, 3, 8, 8))
    model[1].eval()
    before = copy.deepcopy(model.state_dict())
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    Recorder(arrays, ["shot_noise"], tmp_path).record(model, 0)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training and model[0].training and not model[1].training
    assert torch.equal(torch.get_rng_state(), states[0]) and (np.random.get_state()[1] == states[1]).all()


def test_a_recorder_that_was_killed_goes_on(arrays, tmp_path):
    model = plain_model()
    model(torch.rand(2, 3, 8, 8))
    Recorder(arrays, ["blur"], tmp_path).record(model, 0)
    again = Recorder(arrays, ["blur"], tmp_path)
    again.record(model, 0)
    again.record(model, 1)
    assert records.load(again.finish()[0])[0]["global_step"][:, 0].tolist() == [0, 1]


def test_wrong_use_names_the_remedy(arrays, tmp_path):
    images, labels = arrays
    with pytest.raises(InputError, match="number the classes from 0"):
        Recorder((images, labels - 1), ["blur"], tmp_path)
    with pytest.raises(InputError, match=r"give uint8 \[N,3,H,W\]"):
        Recorder((images / 255, labels), ["blur"], tmp_path)
    recorder = Recorder(arrays, ["blur"], tmp_path)
    with pytest.raises(InputError, match="nothing was recorded"):
        recorder.finish()
    with pytest.raises(InputError, match="one output for each class"):
        recorder.record(nn.Sequential(nn.Flatten(), nn.Linear(192, 7)), 0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    recorder.record(model, 3)
    with pytest.raises(InputError, match="recorded twice"):
        recorder.record(model, 3)
    with pytest.raises(InputError, match="ascending order"):
        recorder.record(model, 2)
    with pytest.raises(InputError, match="other arguments"):
        Recorder(arrays, ["blur"], tmp_path, severity=5)


def test_importing_the_package_imports_no_torch():
    code = "import sys, robust_data; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
