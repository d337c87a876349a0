"""The Recorder against a plain loop: the same numbers, or one line that says why not; never other numbers.

A case is drawn by its seed: data in one of their forms, a model, a preprocess, a state of torch, a size of the batch, a
restart. At most one of its parts is one that must be refused.
"""

import contextlib
import copy
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional
from torchvision.transforms import Normalize

from robust_data import Recorder, perturbations, records
from robust_data.registry import InputError

CASES, COUNT, SIDE, CLASSES, SEVERITY = 200, 20, 8, 4, 4
LABELS = [place % CLASSES for place in range(COUNT)]


class MapStyle(torch.utils.data.Dataset):
    def __init__(self, instances, label=lambda label: label, form=lambda image, label: (image, label)):
        self.instances, self.label, self.form = instances, label, form

    def __len__(self):
        return len(self.instances)

    def __getitem__(self, place):
        image = self.instances[place]
        return self.form(image() if callable(image) else image, self.label(LABELS[place]))


def pillow(mode, levels):
    """Images of Pillow of one-channel modes that hold these levels, uint8 [N,H,W]."""
    as_mode = {
        "L": lambda grey: Image.fromarray(grey),
        "I;16": lambda grey: Image.fromarray(grey.astype(np.uint16) * 257),
        "F": lambda grey: Image.fromarray(grey.astype(np.float32) / 255),
        "I": lambda grey: Image.fromarray(grey.astype(np.int32)),
        "RGBA": lambda grey: Image.merge("RGBA", [Image.fromarray(grey)] * 3 + [Image.new("L", (SIDE, SIDE), 255)]),
        "P": lambda grey: Image.fromarray(grey).convert("P"),
    }[mode]
    return [as_mode(grey) for grey in levels]


def flickers(image):
    return lambda: np.where(np.random.rand(SIDE, SIDE) < 0.5, image, 255 - image)


# By name: what the Recorder gets for levels uint8 [N,3,H,W], whose channels are equal.
GOOD_DATA = {
    "array": lambda x: (x, LABELS),
    "of [N,H,W,3]": lambda x: (x.transpose(0, 2, 3, 1), np.array(LABELS)),
    "grey": lambda x: (x[:, 0], torch.tensor(LABELS)),
    "one channel": lambda x: (torch.from_numpy(x[:, :1]), LABELS),
    "float": lambda x: (torch.from_numpy(x).float() / 255, LABELS),
    "float64": lambda x: (x / 255, LABELS),
    "list": lambda x: (list(x), LABELS),
    "mirrored twice": lambda x: (np.ascontiguousarray(x[..., ::-1])[..., ::-1], np.array(LABELS)[:, None]),
    "map-style": lambda x: MapStyle(list(x)),
    "dicts": lambda x: MapStyle(list(x), form=lambda image, label: {"image": image, "label": label, "id": 0}),
    "pairs in a list": lambda x: list(zip(x, LABELS)),
    **{
        f"Pillow {mode}": lambda x, mode=mode: MapStyle(pillow(mode, x[:, 0]))
        for mode in ("L", "I;16", "F", "I", "RGBA", "P")
    },
}
BAD_DATA = {
    "bytes as float": lambda x: (x.astype(np.float32), LABELS),
    "int64": lambda x: (x.astype(np.int64), LABELS),
    "normalised": lambda x: ((x / 255 - 0.5).astype(np.float32), LABELS),
    "random": lambda x: MapStyle([flickers(image) for image in x[:, 0]]),
    "labels from 1": lambda x: (x, [label + 1 for label in LABELS]),
    "labels in words": lambda x: MapStyle(list(x), label=lambda label: f"class {label}"),
    "fewer labels": lambda x: (x, LABELS[1:]),
    "other keys": lambda x: MapStyle(list(x), form=lambda image, label: {"img": image, "label": label}),
    "triples": lambda x: MapStyle(list(x), form=lambda image, label: (image, label, 0)),
    "two channels": lambda x: (x[:, :2], LABELS),
    "sizes": lambda x: MapStyle([image[:, : SIDE - (place == 3)] for place, image in enumerate(x)]),
    "labels below 0": lambda x: (x, [label - 1 for label in LABELS]),
}


class Network(nn.Module):
    """Convolution, batch norm, dropout, a linear layer; `before` and `after` it something else."""

    def __init__(self, channels=3, before=lambda x: x, after=lambda x: x):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
            nn.Flatten(),
            nn.Linear(4 * (SIDE - 2) ** 2, CLASSES),
        )
        self.before, self.after = before, after

    def forward(self, pixels):
        return self.after(self.layers(self.before(pixels)))


GOOD_MODELS = {
    "plain": Network,
    "one channel": lambda: Network(channels=1),
    "writes into its input": lambda: Network(before=lambda x: x.sub_(0.5).mul_(2)),
    "logits in an object": lambda: Network(after=lambda logits: SimpleNamespace(logits=logits)),
    "log probabilities": lambda: Network(after=lambda logits: logits.log_softmax(1)),
    "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, CLASSES)),
    "double": lambda: Network().double(),
    "bfloat16": lambda: Network().bfloat16(),
}
BAD_MODELS = {
    "softmax": lambda: Network(after=lambda logits: logits.softmax(1)),
    "NaN": lambda: Network(after=lambda logits: logits * torch.nan),
    "infinite": lambda: Network(after=lambda logits: logits / 0.0),
    "NaN for one instance": lambda: Network(
        after=lambda logits: torch.where(logits == logits.max(), torch.nan, logits)
    ),
    "functional dropout": lambda: Network(after=lambda logits: functional.dropout(logits, 0.5)),
    "noise": lambda: Network(before=lambda x: x + torch.rand_like(x)),
    "of its batch": lambda: Network(after=lambda logits: logits - logits.mean(0)),
    "batch norm without statistics": lambda: nn.Sequential(
        nn.BatchNorm2d(3, track_running_stats=False), nn.Flatten(), nn.Linear(3 * SIDE * SIDE, CLASSES)
    ),
    "tuple": lambda: Network(after=lambda logits: (logits, logits)),
    "fewer classes": lambda: Network(after=lambda logits: logits[:, :2]),
    "no module": lambda: lambda pixels: pixels.flatten(1)[:, :CLASSES],
}

# What comes before the model; in the loop by hand always a function that writes into nothing.
GOOD_PREPROCESS = {
    "none": (None, lambda x: x),
    "mean and deviation": ((0.4, 0.2), lambda x: (x - 0.4) / 0.2),
    "of channels": (([0.4, 0.5, 0.6], (0.2, 0.3, 0.4)), Normalize((0.4, 0.5, 0.6), (0.2, 0.3, 0.4))),
    "in place": (Normalize((0.4,) * 3, (0.2,) * 3, inplace=True), Normalize((0.4,) * 3, (0.2,) * 3)),
}
BAD_PREPROCESS = {
    "random": (lambda x: x + torch.rand_like(x), None),
    "of its batch": (lambda x: (x - x.mean()) / x.std(), None),
    "no function": ("normalise", None),
    "a deviation of 0": ((0.5, 0), None),
}


@contextlib.contextmanager
def default_dtype(dtype):
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextlib.contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


AMBIENT = {
    "none": contextlib.nullcontext,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "default float64": lambda: default_dtype(torch.float64),
    "default bfloat16": lambda: default_dtype(torch.bfloat16),
    "deterministic": deterministic,
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
}
RESTARTS = ("none", "none", "same", "another model", "another preprocess", "damaged")


def by_hand(model, ready, pixels, name, seed):
    """The records of one checkpoint, by field: each instance alone, in eval mode."""
    model = copy.deepcopy(model).eval()
    dtype = next(model.parameters()).dtype
    shown = perturbations.perturb(name, pixels, SEVERITY, torch.arange(COUNT), seed)
    first = next(layer for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear))
    found = {"delta_norm": (shown - pixels).flatten(1).norm(dim=1)}
    for prefix, images in (("original", pixels), ("after_perturb", shown)):
        rows = []
        for image in images:
            image = image[:1] if getattr(first, "in_channels", 3) == 1 else image
            with torch.no_grad():
                output = model(ready(image[None].clone()).to(dtype))
            rows.append(getattr(output, "logits", output)[0].double())
        logits, golden = torch.stack(rows), torch.tensor(LABELS)
        places = torch.arange(COUNT)
        others = logits.clone()
        others[places, golden] = -torch.inf
        found[f"{prefix}_loss"] = logits.logsumexp(1) - logits[places, golden]
        found[f"{prefix}_logit"] = logits[places, golden]
        found[f"{prefix}_margin"] = logits[places, golden] - others.amax(1)
        found[f"{prefix}_probability"] = logits.softmax(1)[places, golden]
    return found


def draw(seed):
    """The parts of a case by name, and which of them is to be refused, or None."""
    source = random.Random(seed)
    parts = {
        "data": source.choice([*GOOD_DATA]),
        "model": source.choice([*GOOD_MODELS]),
        "preprocess": source.choice([*GOOD_PREPROCESS]),
        "ambient": source.choice([*AMBIENT]),
        "batch_size": source.choice([1, 7, 256]),
        "perturbation": source.choice(["shot_noise", "blur", "brightness", "contrast", "identity"]),
        "restart": source.choice(RESTARTS),
    }
    if parts["model"] == "one channel":
        parts["preprocess"] = "none"
    if source.random() < 0.35:
        kind, bad = source.choice([("data", BAD_DATA), ("model", BAD_MODELS), ("preprocess", BAD_PREPROCESS)])
        return parts | {kind: source.choice([*bad]), "restart": "none"}, kind
    return parts, "restart" if parts["restart"] not in ("none", "same") else None


@pytest.mark.parametrize("seed", range(CASES))
def test_a_record_is_that_of_a_plain_loop_or_refused(seed, tmp_path):
    parts, refused = draw(seed)
    levels = np.random.default_rng(seed).integers(0, 256, (COUNT, 1, SIDE, SIDE), dtype=np.uint8).repeat(3, axis=1)
    torch.manual_seed(seed)
    models = [(GOOD_MODELS | BAD_MODELS)[parts["model"]]() for _ in range(3)]
    preprocess, ready = (GOOD_PREPROCESS | BAD_PREPROCESS)[parts["preprocess"]]
    name = parts["perturbation"]

    def recorder(preprocess=preprocess):
        data = (GOOD_DATA | BAD_DATA)[parts["data"]](levels.copy())
        options = {"batch_size": parts["batch_size"], "preprocess": preprocess}
        return Recorder(data, [name], tmp_path, SEVERITY, seed, **options)

    def record():
        recording = recorder()
        if parts["restart"] != "none":
            recording.record(models[0], 1)
            if parts["restart"] == "damaged":
                (path,) = tmp_path.glob(f"*.partial/{name}/1.npy")
                path.write_bytes(path.read_bytes()[:-50])
            recording = recorder((lambda x: x * 1.5) if parts["restart"] == "another preprocess" else preprocess)
        recording.record(models[2 if parts["restart"] == "another model" else 0], 1)
        recording.record(models[1], 2)
        return records.load(recording.finish()[0])[0]

    with AMBIENT[parts["ambient"]]():
        if refused:
            with pytest.raises(InputError) as raised:
                record()
            assert "\n" not in str(raised.value) and len(str(raised.value)) < 500
            return
        rows = record()
    pixels = torch.from_numpy(levels).float() / 255
    for row, model in zip(rows, models):
        for field, expected in by_hand(model, ready, pixels, name, seed).items():
            rounding = 0.05 if parts["model"] == "bfloat16" and field != "delta_norm" else 1e-4
            np.testing.assert_allclose(row[field], expected, rtol=rounding, atol=rounding, err_msg=f"{field}, {parts}")
