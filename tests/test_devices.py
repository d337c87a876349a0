"""What is to run on a GPU mixes no devices, shown without a GPU.

Under torch's FakeTensorMode tensors have a shape, a type and a device that they only claim, and no values; whatever
brings tensors of two devices together raises, as it does on a GPU.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import refuses, save_vit
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from robust_data import models, perturbations
from robust_data.collection import collect
from robust_data.datasets.base import Batch, Dataset
from robust_data.evaluation import evaluate, evaluate_perturbed
from robust_data.fine_tune.methods import Flooding
from robust_data.fine_tune.objective import Objective
from robust_data.judge.conditions import Condition, attack_conditions
from robust_data.judge.judge import Judge
from robust_data.perturbations.sampling import finest_float
from robust_data.settings import Run, Training
from robust_data.train import building, distributed
from robust_data.train.training import Trainer

CUDA = torch.device("cuda:0")
# Below 64 px and above, where other constants and other ways to the same image are in use.
SIZES = ((32, 32), (80, 72))


@pytest.fixture(scope="module")
def mode():
    """One mode for all tests, since what a perturbation keeps from call to call belongs to a mode."""
    yield FakeTensorMode(allow_non_fake_inputs=True)
    for name, module in list(sys.modules.items()):
        if name.startswith("robust_data.perturbations."):
            for kept in vars(module).values():
                getattr(kept, "cache_clear", lambda: None)()


@pytest.fixture
def fake_gpu(mode, monkeypatch):
    """The mode at work; values, which there are none of, are zeros where they leave for numpy or a list."""

    def zeros(tensor):
        if tensor.device.type != "cpu":
            raise TypeError(f"can't convert {tensor.device} device type tensor to numpy")
        return np.zeros(tensor.shape, dtype=str(tensor.dtype).removeprefix("torch."))

    monkeypatch.setattr(FakeTensor, "numpy", zeros)
    monkeypatch.setattr(FakeTensor, "tolist", lambda tensor: zeros(tensor.cpu()).tolist())
    # A backward pass asks for the real device.
    monkeypatch.setattr(torch.autograd, "grad", lambda outputs, inputs: (torch.zeros_like(inputs),))
    with mode:
        yield mode


def claimed(tensor, mode):
    """A tensor of the same shape and type that claims to be on the GPU."""
    return FakeTensor(mode, torch.empty_like(tensor, device="meta"), CUDA)


def to_gpu(model, mode):
    """What `model.to("cuda")` moves, parameters and buffers, claims to be there; all else is where it was."""
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = nn.Parameter(claimed(parameter, mode), parameter.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = claimed(buffer, mode)
    return model


def pixels(count, height, width):
    return torch.rand(count, 3, height, width, device=CUDA)


class Images(Dataset):
    """Images whose pixels and labels claim to be on the device that they are asked for."""

    modality = "image"

    def __init__(self, image_size, count=1):
        index = torch.zeros(count, dtype=torch.int64)
        super().__init__("fake", "train", ["cat", "dog", "eel"], index, torch.zeros(count, dtype=torch.int64))
        self.image_size = image_size

    def collection_order(self):
        return torch.zeros(len(self), dtype=torch.int64)

    def batches(self, batches_of_positions, device):
        for positions in batches_of_positions:
            labels = torch.zeros(len(positions), dtype=torch.int64, device=device)
            index = torch.zeros(len(positions), dtype=torch.int64)
            yield Batch(positions, index, labels, {"pixel_values": pixels(len(positions), *self.image_size)})


def on_cpu(images):
    return images + torch.ones(3, 1, 1)


def test_a_tensor_that_stays_on_the_cpu_raises(fake_gpu):
    """So the tests below can fail: in a computation, in a model that keeps it in an attribute, on the way to numpy."""
    with pytest.raises(RuntimeError, match="two different devices"):
        on_cpu(pixels(2, 4, 4))
    model = to_gpu(models.build("small_cnn", 3, memory_format="contiguous"), fake_gpu)
    model.mean = torch.zeros(3, 1, 1)
    with pytest.raises(RuntimeError, match="two different devices"):
        model({"pixel_values": pixels(2, 8, 8)})
    with pytest.raises(TypeError, match="can't convert cuda:0"):
        pixels(2, 4, 4).numpy()


# The shape of something on their way depends on values, of which there are none here: a sparse matrix, what a mask
# lets through, a histogram.
UNTRACEABLE = ("zoom_blur", "convex_hull_black", "convex_hull_white", "frost", "spatter")
OF_PIXELS = [name for name in perturbations.names() if not perturbations.CATALOGUE[name].needs_gradient]


@pytest.mark.parametrize("name", [name for name in OF_PIXELS if name not in UNTRACEABLE])
def test_a_perturbation_stays_on_the_gpu(fake_gpu, name):
    index = torch.from_numpy(np.array([3, 8]))
    for height, width in SIZES:
        perturbed = perturbations.perturb(name, pixels(2, height, width), 3, index)
        assert (perturbed.device, perturbed.shape, perturbed.dtype) == (CUDA, (2, 3, height, width), torch.float32)


MODELS = [*("small_cnn", "resnet9_small", "resnet20", "resnet18", "mobilenet_v3_small", "squeezenet1_1", "vit")]


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """A function that builds one of `MODELS`, on the CPU and with values."""
    folder = save_vit(tmp_path_factory.mktemp("vit"), num_labels=3)

    def build(name, image_size=(32, 32)):
        return models.build(str(folder) if name == "vit" else name, 3, image_size=image_size)

    return build


@pytest.mark.parametrize(
    "name, precision", [*((name, "fp32") for name in MODELS), ("small_cnn", "bf16"), ("vit", "bf16")]
)
def test_a_model_is_collected_and_judged_on_the_gpu(build, mode, request, name, precision):
    """Its forward passes, the attacks' steps, what is measured, and the records that leave the GPU."""
    model = build(name)
    fake_gpu = request.getfixturevalue("fake_gpu")
    model = to_gpu(model, fake_gpu)
    assert next(model.parameters()).device == CUDA
    assert model.train()({"pixel_values": pixels(2, 32, 32)}).device == CUDA
    dataset = Images((32, 32))
    records = collect(model, dataset, ["identity", "gaussian_noise", "pgd"], precision=precision)
    assert [rows.shape for rows in records.values()] == [(1,)] * 3
    conditions = [Condition("clean", "clean"), Condition("perturbation", "fog", 3)]
    conditions += attack_conditions(["fgsm", "pgd"], [1 / 255], [0.1])
    assert len(Judge(model, precision=precision).rows(dataset, conditions)) == len(conditions)


class Waits(TorchDispatchMode):
    """Counts how often a value leaves the GPU, for which the process waits until all work before it is done."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        result = function(*arguments, **(named or {}))
        tensors = [value for value in (*arguments, result) if isinstance(value, torch.Tensor)]
        from_gpu = any(tensor.device == CUDA for tensor in tensors[:1])
        to_cpu = any(tensor.device.type == "cpu" for tensor in tensors[1:])
        self.count += from_gpu and (to_cpu or function is torch.ops.aten._local_scalar_dense.default)
        return result


CONDITIONS = [Condition("clean", "clean"), Condition("perturbation", "contrast", 3)]
CONDITIONS += attack_conditions(["pgd"], [1 / 255], [0.1])
# And how often each waits: once for the sums; judging also for what it found of every instance, and for the count of
# gradients that were 0.
PASSES = {
    "evaluate": (lambda *parts: evaluate(*parts, batch_size=2), 1),
    "evaluate_perturbed": (lambda *parts: evaluate_perturbed(*parts, "gaussian_noise", batch_size=2), 1),
    "judge": (lambda model, dataset: Judge(model, batch_size=2).rows(dataset, CONDITIONS), 3),
}


@pytest.mark.parametrize("name", PASSES)
def test_a_pass_waits_for_the_gpu_as_often_however_many_batches_there_are(build, mode, request, name):
    one_pass, expected = PASSES[name]
    model = build("small_cnn")
    fake_gpu = request.getfixturevalue("fake_gpu")
    model = to_gpu(model, fake_gpu)
    for count in (2, 8):
        with Waits() as waits:
            one_pass(model, Images((32, 32), count))
        assert waits.count == expected


BACKENDS = (torch.backends.cuda.matmul, "allow_tf32"), (torch.backends.cudnn, "allow_tf32")
BACKENDS += ((torch.backends.cudnn, "benchmark"),)


@pytest.fixture
def torchs_own_settings():
    """Whatever is changed of them, the next test finds them as they were."""
    before = [getattr(backend, name) for backend, name in BACKENDS]
    yield before
    for (backend, name), value in zip(BACKENDS, before):
        setattr(backend, name, value)


@pytest.mark.parametrize(
    "precision, dataset_name, expected",
    [
        ("fp32", "digits", [False, False, True]),
        ("tf32", "digits", [True, True, True]),
        ("tf32", "imdb", [True, True, False]),  # batches of texts are of many sizes
    ],
)
def test_a_gpu_computes_as_the_arguments_say(precision, dataset_name, expected, torchs_own_settings, monkeypatch):
    monkeypatch.setattr("robust_data.train.distributed.default_device", lambda: CUDA)
    assert building.prepare_device(Run(precision=precision), dataset_name) == CUDA
    assert [getattr(backend, name) for backend, name in BACKENDS] == expected


def test_on_a_cpu_the_arithmetic_of_gpus_stays_as_it_is(torchs_own_settings, monkeypatch):
    monkeypatch.setattr("robust_data.train.distributed.default_device", lambda: torch.device("cpu"))
    building.prepare_device(Run(precision="tf32"), "digits")
    assert [getattr(backend, name) for backend, name in BACKENDS] == torchs_own_settings


def test_the_device_is_the_one_that_is_asked_for(monkeypatch):
    for cuda, mps in ((False, False), (True, True)):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=cuda: there)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda there=mps: there)
        assert distributed.own_device(None).type == ("cuda" if cuda else "cpu")
        assert distributed.own_device("cpu") == torch.device("cpu")
        for kind in ("cuda", "mps"):
            if cuda:
                assert distributed.own_device(kind).type == kind
            else:
                with refuses(f"--device {kind}"):
                    distributed.own_device(kind)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with refuses("--device"):
        distributed.own_device("mps")


class WithoutFloat64(TorchDispatchMode):
    """Raises at a number of float64 on the GPU, as one of Apple does."""

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        result = function(*arguments, **(named or {}))
        tensors = [value for value in (*arguments, result) if isinstance(value, torch.Tensor)]
        assert not any(tensor.device == CUDA and tensor.dtype == torch.float64 for tensor in tensors), function
        return result


@pytest.fixture
def gpu_of_apple(fake_gpu, monkeypatch):
    """As `fake_gpu`, without float64: on Linux few operations can claim to run on torch's own device for it."""
    assert finest_float(torch.device("mps")) == torch.float32
    for name, module in list(sys.modules.items()):
        if name.startswith("robust_data.") and hasattr(module, "finest_float"):
            monkeypatch.setattr(module, "finest_float", lambda device: torch.float32)
    with WithoutFloat64():
        yield fake_gpu


def test_on_a_gpu_of_apple_nothing_is_in_float64(gpu_of_apple):
    with pytest.raises(AssertionError):
        pixels(2, 4, 4).double()
    for name in set(OF_PIXELS) - set(UNTRACEABLE):
        perturbations.perturb(name, pixels(2, 32, 32), 3, torch.from_numpy(np.array([3, 8])))
    model = to_gpu(models.build("small_cnn", 3, memory_format="contiguous"), gpu_of_apple)
    dataset = Images((32, 32))
    found = collect(model, dataset, ["identity", "pgd"], input_gradient=True)
    assert [len(rows) for rows in found.values()] == [1, 1]
    assert set(evaluate(model, dataset)) == {"accuracy", "loss"}
    objective = Objective(Flooding(0.2, 1.0, "batch"), torch.ones(3, dtype=torch.bool))
    trainer = Trainer(model, dataset, Training(epochs=1, bsz=1), CUDA, objective)
    (batch,) = dataset.batches([torch.arange(1)], CUDA)
    trainer.logits_and_losses(batch.inputs, batch, 1)


@pytest.mark.parametrize("place, gpu", [("0", 0), ("1", 1), ("2", 0)])
def test_more_processes_than_gpus_share_them(monkeypatch, place, gpu):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", place)
    assert distributed.default_device() == torch.device("cuda", gpu)


@pytest.mark.slow
def test_what_a_gpu_is_measured_by_runs_in_miniature(tmp_path):
    around = os.environ | {"OUT": str(tmp_path), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    ended = subprocess.run(["bash", "benchmarks/gpu.sh", "--smoke"], env=around, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr[-2000:]
    section = (tmp_path / "gpu.md").read_text()
    assert "| 15 together |" in section and "| pgd |" in section and "| gaussian_noise |" in section
    assert all(re.search(rf"\| {run} \| \d+ s \| \d+ MiB \|", section) for run in ("one", "two"))
