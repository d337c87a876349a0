"""Recording from a loop of one's own."""

import copy
import itertools
import json
import os
import subprocess
import sys

import numpy as np
import processes
import pytest
import torch
from conftest import refuses
from processes import ROOT
from torch import nn

from robust_data import Recorder, datasets, models, records
from robust_data.analysis.metadata import last_perturbation
from robust_data.collection import collect
from robust_data.perturbations import PgdOptions
from robust_data.registry import InputError
from robust_data.settings import Training
from robust_data.train.training import Trainer


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
    trainer = Trainer(model, dataset, Training(epochs=2, bsz=16, lr=0.01), torch.device("cpu"), seed=5)
    recorder = Recorder(dataset, names, tmp_path / "mine", seed=5)
    for step in (0, 3, 6):
        trainer.train_until(step)
        recorder.record(model, step, untrained=step == 0)
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
    Recorder(arrays, ["shot_noise"], tmp_path).record(model, 1)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training and model[0].training and not model[1].training
    assert torch.equal(torch.get_rng_state(), states[0]) and (np.random.get_state()[1] == states[1]).all()


# A loop of three checkpoints, of which any process may be killed while it records one.
LOOP = """
import os, signal, sys
sys.path.append(sys.argv[1])
import numpy as np
import torch
from torch import nn
from robust_data import Recorder

data, folder, meeting, killed_at = sys.argv[2:]
if "WORLD_SIZE" in os.environ:
    rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=count)
arrays = np.load(data)
recorder = Recorder((arrays["images"], arrays["labels"]), ["blur", "shot_noise"], folder, batch_size=16)
for step in range(3):
    torch.manual_seed(step)
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    if "SHARDED" in os.environ:
        from torch.distributed.fsdp import fully_shard
        fully_shard(model)
    if step == int(killed_at):
        model.register_forward_hook(lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    recorder.record(model, step, untrained=step == 0)
recorder.finish()
"""


@pytest.fixture
def loop(few_digits, tmp_path):
    """Runs the loop in so many processes; returns how each ended, and the bytes of the files."""
    (tmp_path / "loop.py").write_text(LOOP)
    attempts = itertools.count()

    def run(folder, count=1, killed_at=-1, **more):
        arguments = (ROOT, few_digits, tmp_path / folder, tmp_path / f"meeting{next(attempts)}", killed_at)
        of_several = [{"RANK": str(rank), "WORLD_SIZE": str(count)} if count > 1 else {} for rank in range(count)]
        environments = [os.environ | own | more for own in of_several]
        started = [processes.start(tmp_path / "loop.py", *arguments, env=environment) for environment in environments]
        ended = [(process.communicate(), process.returncode) for process in started]
        return ended, {path.name: path.read_bytes() for path in (tmp_path / folder).glob("*.npy")}

    return run


@pytest.mark.parametrize("more", [{}, {"SHARDED": "1"}], ids=["whole", "FSDP2"])
def test_each_of_several_processes_records_its_share(more, loop, tmp_path):
    """Of three batches one process has two, and where the weights are spread each must pass as many as the other."""
    (((_, errors), status),), expected = loop("one")
    assert status == 0 and len(expected) == 2, errors
    ended, recorded = loop("two", count=2, **more)
    assert [status for _, status in ended] == [0, 0], ended
    assert recorded == expected
    assert {json.loads(path.read_text())["processes"] for path in (tmp_path / "two").glob("*.json")} == {2}


@pytest.mark.parametrize("count", [1, 2])
def test_a_loop_that_was_killed_while_it_recorded_ends_with_the_same_bytes(count, loop):
    ended, files = loop("killed", count, killed_at=1)
    assert all(status != 0 for _, status in ended) and not files
    ended, recorded = loop("killed", count)
    assert all(status == 0 for _, status in ended), ended
    told = [output + errors for (output, errors), _ in ended]
    assert "step 0 is recorded already" in told[0] and "step 1 is" not in told[0]
    assert recorded == loop("undisturbed")[1]


def test_a_recording_is_not_continued_under_another_attack(arrays, tmp_path):
    model = linear()
    Recorder(arrays, ["pgd"], tmp_path, pgd_options=PgdOptions(sign=True, loss="margin")).record(model, 1)
    with refuses("adv_loss", "adv_sign"):
        Recorder(arrays, ["pgd"], tmp_path)
    recorder = Recorder(arrays, ["pgd"], tmp_path, pgd_options=PgdOptions(sign=True, loss="margin"))
    metadata = records.load(recorder.finish()[0])[1]
    options = last_perturbation(metadata, 1)["pgd_options"]
    assert (options.sign, options.loss, options.temperature) == (True, "margin", 1.0)


def test_several_processes_that_have_not_met_are_told_how(arrays, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with refuses("init_process_group"):
        Recorder(arrays, ["blur"], tmp_path)


def test_two_severities_are_recorded_in_one_folder(arrays, tmp_path):
    recorders = [Recorder(arrays, ["blur"], tmp_path, severity) for severity in (1, 3)]
    for recorder in recorders:
        recorder.record(linear(), 1)
    assert len({path for recorder in recorders for path in recorder.finish()}) == 2
    assert not list(tmp_path.glob("*.partial"))


def test_finish_comes_last(arrays, tmp_path):
    recorder = Recorder(arrays, ["blur"], tmp_path)
    model = linear()
    recorder.record(model, 1)
    assert recorder.finish() == recorder.finish()
    with refuses("step 2"):
        recorder.record(model, 2)


def test_texts_are_recorded_as_those_of_a_data_set_are(classifier, sst2, tmp_path):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    names = ["pgd", "char_swap", "word_drop"]
    known = datasets.load("glue", data_dir=sst2, task_name="sst2", tokenizer=classifier)
    expected = collect(models.build(classifier, 2, modality="text"), known, names, seed=1, global_step=4)
    model = AutoModelForSequenceClassification.from_pretrained(classifier).train()
    own = (known.columns[0], known.labels.tolist())
    recorder = Recorder(own, names, tmp_path, seed=1, tokenizer=AutoTokenizer.from_pretrained(classifier))
    recorder.record(model, 4)
    for name, path in zip(names, recorder.finish()):
        assert records.load(path)[0].tobytes() == expected[name].tobytes()
    assert model.training and all(parameter.grad is None for parameter in model.parameters())


def test_pairs_of_texts_and_a_model_of_ones_own(bert, tmp_path):
    pairs = [(f"is it {number} ?", "it is good" if number % 2 else "bad") for number in range(8)]

    class Counted(nn.Module):
        """Logits from the number of words."""

        def forward(self, inputs):
            words = inputs["attention_mask"].sum(dim=1).float()
            return torch.stack([words, -words], dim=1)

    source = [(pair, number % 2) for number, pair in enumerate(pairs)]
    recorder = Recorder(source, ["word_swap"], tmp_path, tokenizer=bert)
    recorder.record(Counted(), 1)
    (path,) = recorder.finish()
    assert records.load(path)[0].shape == (1, 8)
    with refuses("Counted"):
        Recorder(source, ["pgd"], tmp_path, tokenizer=bert).record(Counted(), 1)


def test_texts_that_cannot_be_used_are_one_line(bert, arrays, tmp_path):
    from transformers import AutoModelForSequenceClassification

    wrong = {
        "tokenizer": ((["a", "b"], [0, 1]), None),
        "1 and 2 instances": ((["a", "b"], [0]), bert),
        "instance 1 has the label good": ((["a", "b"], [0, "good"]), bert),
        "instance 1 is no text": ((["a", None], [0, 1]), bert),
        "acts on images": ((["a", "b"], [0, 1]), bert),
    }
    for message, (data, tokenizer) in wrong.items():
        with refuses(message):
            Recorder(data, ["blur"], tmp_path, tokenizer=tokenizer)
    long = Recorder((["a " * 300, "b"], [0, 1]), ["pgd"], tmp_path, tokenizer=bert, max_seq_length=200)
    with refuses("max_seq_length"):
        long.record(AutoModelForSequenceClassification.from_pretrained(bert), 1)


MISUSES = {
    "perturbations": ["blurr"],
    "severity": [3.0, 6],
    "seed": [None, -1],
    "batch_size": [0],
    "num_classes": [1, 3],
    "label_names": [["a", "b"]],
    "name": ["a/b"],
    "dataset": [None, {"images": []}, ([],)],
    "preprocess": [(0.5, 0), ([0.5, 0.5], 0.2), ("a", "b")],
}


def test_a_misuse_of_an_argument_is_one_line(arrays, tmp_path):
    for argument, values in MISUSES.items():
        for value in values:
            with pytest.raises(InputError) as raised:
                Recorder(**({"dataset": arrays, "perturbations": ["blur"], "output": tmp_path} | {argument: value}))
            assert "\n" not in str(raised.value), argument


def linear():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 4))


def test_steps_ascend_and_the_untrained_model_is_named(arrays, tmp_path):
    recorder = Recorder(arrays, ["blur"], tmp_path)
    with refuses():
        recorder.finish()
    with refuses("untrained=True"):
        recorder.record(linear(), 0)
    with refuses("untrained=True"):
        recorder.record(linear(), 1, untrained=True)
    recorder.record(linear(), 0, untrained=True)
    recorder.record(linear(), 3)
    for step in (3, 2, 0.5):
        with refuses(f"step {step}"):
            recorder.record(linear(), step)


def test_a_finished_file_is_replaced_on_request_alone(arrays, tmp_path):
    def record(seed, **options):
        recorder = Recorder(arrays, ["blur"], tmp_path, **options)
        torch.manual_seed(seed)
        recorder.record(nn.Sequential(nn.Flatten(), nn.Linear(192, 4)), 1)
        return recorder.finish()[0].read_bytes()

    first = record(0)
    with refuses("overwrite=True"):
        record(1)
    assert record(1, overwrite=True) != first and record(0, overwrite=True) == first
    assert {path.suffix for path in tmp_path.iterdir()} == {".npy", ".json"}


def test_the_files_are_those_of_one_recorder_at_a_time(arrays, few_digits, loop, tmp_path):
    first = Recorder((arrays[0], arrays[1]), ["blur"], tmp_path)
    second = Recorder((arrays[0], arrays[1]), ["blur"], tmp_path)
    with refuses("Recorder"):
        first.record(linear(), 1)
    second.record(linear(), 1)
    code = "import sys; sys.path.append(sys.argv[1]); from robust_data.files import locked\n"
    code += "with locked(sys.argv[2], 0): pass"
    (parts,) = tmp_path.glob("*.partial")
    held = subprocess.run([sys.executable, "-c", code, str(ROOT), str(parts)], capture_output=True)
    assert b"TimeoutError" in held.stderr
    second.finish()
    assert not list(tmp_path.glob("*.lock"))


def test_what_is_seen_while_recording(arrays, tmp_path, capsys):
    constant = linear()
    nn.init.zeros_(constant[1].weight)
    recorder = Recorder(arrays, ["blur", "contrast"], tmp_path)
    recorder.record(constant, 8)
    recorder.finish()
    line, warning = capsys.readouterr().err.splitlines()
    assert line.startswith("step 8: accuracy 25.0 % clean, 25.0 % blur, 25.0 % contrast, ")
    assert warning.startswith("warning: ") and "best constant answer" in warning


def test_one_precision_whatever_the_loop_trains_in(arrays, tmp_path):
    """As accelerate has it: a forward of the model's own that computes in bfloat16."""
    model = plain_model().eval()
    expected = recorded(arrays, model, tmp_path / "plain")
    model._original_forward, before = model.forward, model.forward

    def forward(*inputs):
        with torch.autocast("cpu", torch.bfloat16):
            return before(*inputs).float()

    model.forward = forward
    assert recorded(arrays, model, tmp_path / "wrapped") == expected and model.forward is forward
    (about,) = (tmp_path / "wrapped").glob("*.json")
    assert json.loads(about.read_text())["precision"] == "float32"


def recorded(data, model, folder, perturbation="shot_noise", **options):
    """The bytes of what a Recorder writes of one checkpoint."""
    recorder = Recorder(data, [perturbation], folder, seed=1, **options)
    recorder.record(model, 1)
    return recorder.finish()[0].read_bytes()
