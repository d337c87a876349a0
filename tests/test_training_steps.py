"""What training steps computed anyway, kept by a Recorder as a statistics file of clean inputs."""

import numpy as np
import pytest
import torch
from conftest import refuses

from robust_data import Recorder, metrics, records
from robust_data.collection import measure

LABELS = torch.arange(7) % 3
IMAGES = torch.arange(7 * 3 * 4 * 4, dtype=torch.float32).reshape(7, 3, 4, 4) / 400


def recorder(folder, names=()):
    return Recorder((IMAGES, LABELS), list(names), folder)


def logits(seed):
    return torch.randn(7, 3, generator=torch.Generator().manual_seed(seed))


def fill(recording, epochs, size=3):
    for epoch in epochs:
        for index in torch.randperm(7, generator=torch.Generator().manual_seed(epoch)).split(size):
            recording.update(logits(epoch)[index], LABELS[index], index)
        recording.end_epoch(epoch)


def test_each_epoch_is_a_checkpoint_of_what_the_steps_saw(tmp_path):
    recording = recorder(tmp_path)
    fill(recording, (1, 2))
    (path,) = recording.finish()
    rows, about = records.load(path)
    assert rows["global_step"][:, 0].tolist() == [1, 2] and rows["index"][0].tolist() == list(range(7))
    for epoch in (1, 2):
        expected = measure(logits(epoch), LABELS, LABELS)
        for name in ("loss", "class", "margin", "el2n"):
            assert np.array_equal(rows[f"original_{name}"][epoch - 1], expected[name].numpy())
    assert records.is_clean_only(rows) and about["clean_only"] and about["instances"] == 7
    assert {"confidence", "aum"} <= metrics.instance_metrics(rows).keys()


def test_perturbed_passes_at_some_epochs_have_a_file_of_their_own(tmp_path):
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 3))
    recording = recorder(tmp_path, ["rotate"])
    for epoch in (1, 2, 3, 4):
        fill(recording, [epoch])
        if epoch % 2 == 0:
            recording.record(model, epoch)
    perturbed, clean = map(records.load, recording.finish())
    assert perturbed[0]["global_step"][:, 0].tolist() == [2, 4] and perturbed[1]["perturbation"] == "rotate"
    assert clean[0]["global_step"][:, 0].tolist() == [1, 2, 3, 4]


def test_a_killed_loop_goes_on_and_ends_with_the_same_bytes(tmp_path):
    first, second = recorder(tmp_path / "a"), recorder(tmp_path / "b")
    fill(first, (1, 2, 3))
    fill(second, (1, 2))
    second.update(logits(3)[:2], LABELS[:2], torch.arange(2))
    second._unlock()  # as the end of the process does
    again = recorder(tmp_path / "b")
    fill(again, (1, 2, 3), size=5)
    assert first.finish()[0].read_bytes() == again.finish()[0].read_bytes()


def test_a_finished_file_of_clean_inputs_is_replaced_on_request_alone(tmp_path):
    first = recorder(tmp_path, ["rotate"])
    fill(first, (1,))
    (path,) = first.finish()
    before = path.read_bytes()
    with refuses("overwrite"):
        fill(recorder(tmp_path, ["rotate"]), (2,))
    assert path.read_bytes() == before
    again = Recorder((IMAGES, LABELS), ["rotate"], tmp_path, overwrite=True)
    fill(again, (2,))
    assert again.finish() == [path] and path.read_bytes() != before


def test_the_map_and_the_page_are_drawn_from_the_program(tmp_path):
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 3))
    recording = recorder(tmp_path, ["rotate"])
    with refuses("finish"):
        recording.map()
    fill(recording, (1, 2))
    for step in (1, 2):
        recording.record(model, step)
    recording.finish()
    assert "variability" in recording.map(0).axes[0].get_xlabel() and recording.map(1).axes
    assert "<html" in recording.report().read_text()
    with refuses("_clean.npy"):
        recording.report(1)


@pytest.mark.parametrize(
    "wrong, named",
    [
        (lambda recording: recording.update(logits(0)[:2], LABELS[:2], torch.tensor([0, 7])), "index 7"),
        (lambda recording: recording.update(logits(0)[:2], LABELS[:2], torch.tensor([1, 1])), "index 1"),
        (lambda recording: recording.update(logits(0)[:2], LABELS[:2], torch.tensor([1, 2])), "labels"),
        (lambda recording: recording.update(logits(0)[:2], LABELS[:2], torch.tensor([0])), "index"),
        (lambda recording: recording.update(logits(0)[:2, :2], LABELS[:2], torch.arange(2)), "logits"),
        (lambda recording: recording.update(logits(0).softmax(1)[:2], LABELS[:2], torch.arange(2)), "logits"),
        (lambda recording: recording.update(logits(0), LABELS, None), "index"),
        (lambda recording: [fill(recording, [1]), recording.finish(), fill(recording, [2])], "finish"),
        (lambda recording: recording.end_epoch(1), "7 of 7"),
        (lambda recording: [fill(recording, [2]), fill(recording, [1])], "step 1"),
        (lambda recording: recording.record(torch.nn.Identity(), 1), "perturbations"),
        (lambda recording: recording.finish(), "recorded"),
    ],
)
def test_wrong_use_is_told_in_one_line(wrong, named, tmp_path):
    with refuses(named):
        wrong(recorder(tmp_path))
