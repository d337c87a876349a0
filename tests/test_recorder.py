"""Recording from a loop of one's own."""

import copy
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import processes
import pytest
import torch
from PIL import Image
from torch import nn

import datasets
import models
from perturbations import PgdOptions
from registry import InputError
from robust_data import Recorder, records
from robust_data.collection import collect
from robust_data.measuring.metadata import last_perturbation
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
    if step == int(killed_at):
        model.register_forward_hook(lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    recorder.record(model, step)
recorder.finish()
"""


@pytest.fixture
def loop(few_digits, tmp_path):
    """Runs the loop in so many processes; returns how each ended, and the bytes of the files."""
    (tmp_path / "loop.py").write_text(LOOP)
    attempts = itertools.count()

    def run(folder, count=1, killed_at=-1):
        arguments = (ROOT, few_digits, tmp_path / folder, tmp_path / f"meeting{next(attempts)}", killed_at)
        of_several = [{"RANK": str(rank), "WORLD_SIZE": str(count)} if count > 1 else {} for rank in range(count)]
        started = [processes.start(tmp_path / "loop.py", *arguments, env=os.environ | more) for more in of_several]
        ended = [(process.communicate(), process.returncode) for process in started]
        return ended, {path.name: path.read_bytes() for path in (tmp_path / folder).glob("*.npy")}

    return run


def test_each_of_several_processes_records_its_share(loop, tmp_path):
    (((_, errors), status),), expected = loop("one")
    assert status == 0 and len(expected) == 2, errors
    ended, recorded = loop("two", count=2)
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
    assert "step 0 is recorded already" in told[0] and "step 1" not in told[0]
    assert recorded == loop("undisturbed")[1]


def test_each_of_several_processes_is_told_of_remains_that_cannot_be_continued(loop, tmp_path):
    loop("killed", killed_at=1)
    (remains,) = (tmp_path / "killed").glob("*.partial/arguments.json")
    remains.write_text("{")
    ended, _ = loop("killed", count=2)
    for (_, errors), status in ended:
        assert status == 1 and str(remains) in errors, errors


def test_a_recorder_that_was_killed_after_its_files_were_written_starts_anew(arrays, tmp_path, monkeypatch):
    """What a kill leaves of its folder, of which it has removed the first steps, is no recording to go on with."""

    def killed(folder, **_):
        for path in Path(folder).glob("*/1.npy"):
            path.unlink()
        raise KeyboardInterrupt

    def record(*steps):
        recorder, model = Recorder(arrays, ["blur"], tmp_path), nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
        for step in steps:
            recorder.record(model, step)
        return recorder.finish()[0]

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("robust_data.measuring.recorder.shutil.rmtree", killed)
        record(1, 2)
    assert records.load(record(1, 2, 3))[0]["global_step"][:, 0].tolist() == [1, 2, 3]
    assert {path.suffix for path in tmp_path.iterdir()} == {".npy", ".json"}


def test_a_recording_is_not_continued_under_another_attack(arrays, tmp_path):
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    Recorder(arrays, ["pgd"], tmp_path, pgd_options=PgdOptions(sign=True, loss="margin")).record(model, 1)
    with pytest.raises(InputError, match="adv_loss was margin, is None; adv_sign was True, is None"):
        Recorder(arrays, ["pgd"], tmp_path)
    recorder = Recorder(arrays, ["pgd"], tmp_path, pgd_options=PgdOptions(sign=True, loss="margin"))
    metadata = records.load(recorder.finish()[0])[1]
    options = last_perturbation(metadata, 1)["pgd_options"]
    assert (options.sign, options.loss, options.temperature) == (True, "margin", 1.0)


def test_several_processes_that_have_not_met_are_told_how(arrays, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="call torch.distributed.init_process_group first"):
        Recorder(arrays, ["blur"], tmp_path)


def test_wrong_use_names_the_remedy(arrays, tmp_path):
    images, labels = arrays
    with pytest.raises(InputError, match="number the classes from 0"):
        Recorder((images, labels - 1), ["blur"], tmp_path)
    with pytest.raises(InputError, match="instance 0 has pixels from 0 to 239"):
        Recorder((images * 1.0, labels), ["blur"], tmp_path)
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
    with pytest.raises(
        InputError, match="perturbations was .'blur'., is .'fog'.; use those, give another output or name"
    ):
        Recorder(arrays, ["fog"], tmp_path)


class Images(torch.utils.data.Dataset):
    """A map-style data set: images as `show` makes them."""

    def __init__(self, arrays, show):
        self.arrays, self.show = arrays, show

    def __len__(self):
        return len(self.arrays[1])

    def __getitem__(self, place):
        return self.show(self.arrays[0][place]), self.arrays[1][place]


def recorded(data, model, folder, perturbation="shot_noise", **options):
    """The bytes of what a Recorder writes of one checkpoint."""
    recorder = Recorder(data, [perturbation], folder, seed=1, **options)
    recorder.record(model, 1)
    return recorder.finish()[0].read_bytes()


SHOWN = {
    "Pillow's": lambda image: Image.fromarray(image.transpose(1, 2, 0)),
    "grey": lambda image: image[0],
    "uint8 of [H,W,3]": lambda image: image.transpose(1, 2, 0),
    "float": lambda image: torch.from_numpy(image / 255),
    "float, as torchvision has it": lambda image: torch.from_numpy(image).float() / 255,
}


@pytest.mark.parametrize("show", SHOWN.values(), ids=SHOWN)
def test_a_map_style_data_set_is_recorded_as_its_arrays_are(show, arrays, tmp_path, monkeypatch):
    model = plain_model().eval()
    model(torch.rand(2, 3, 8, 8))
    expected = recorded(arrays, model, tmp_path / "arrays")
    assert recorded(Images(arrays, show), model, tmp_path / "kept") == expected
    monkeypatch.setattr(datasets.images, "MEMORY_LIMIT", 0)
    assert recorded(Images(arrays, show), model, tmp_path / "visited") == expected


def test_workers_read_what_is_not_kept_in_memory(arrays, tmp_path):
    model = plain_model().eval()
    model(torch.rand(2, 3, 8, 8))
    dim = Images(arrays, lambda image: torch.from_numpy(image / 300))  # no levels of bytes
    one = recorded(dim, model, tmp_path / "one")
    assert recorded(dim, model, tmp_path / "two", num_workers=2) == one != recorded(arrays, model, tmp_path / "bytes")


def test_random_transforms_are_refused(arrays, tmp_path, monkeypatch):
    def noisy(image):
        return np.clip(image / 255 + np.random.rand(3, 8, 8) / 100, 0, 1)

    with pytest.raises(InputError, match="instance 0 has other pixels .* without its random transforms"):
        Recorder(Images(arrays, noisy), ["blur"], tmp_path)
    monkeypatch.setattr(datasets.images, "MEMORY_LIMIT", 0)
    later = Images(arrays, lambda image: image)
    recorder = Recorder(later, ["blur"], tmp_path)
    later.show = noisy
    with pytest.raises(InputError, match="has other pixels than at its first visit"):
        recorder.record(nn.Sequential(nn.Flatten(), nn.Linear(192, 4)), 0)


def test_lists_of_images_are_recorded_as_arrays_are(arrays, tmp_path):
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    expected = recorded(arrays, model, tmp_path)
    for show in (SHOWN["Pillow's"], torch.from_numpy):
        assert recorded(([show(image) for image in arrays[0]], list(arrays[1])), model, tmp_path) == expected


def test_an_attack_follows_gradients_in_the_inference_mode_of_the_loop_too(arrays, tmp_path):
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    expected = recorded(arrays, model, tmp_path, "pgd")
    with torch.inference_mode():
        assert recorded(arrays, model, tmp_path, "pgd") == expected


def test_two_severities_are_recorded_in_one_folder(arrays, tmp_path):
    recorders = [Recorder(arrays, ["blur"], tmp_path, severity) for severity in (1, 3)]
    for recorder in recorders:
        recorder.record(nn.Sequential(nn.Flatten(), nn.Linear(192, 4)), 1)
    assert len({path for recorder in recorders for path in recorder.finish()}) == 2
    assert not list(tmp_path.glob("*.partial"))


def test_finish_comes_last(arrays, tmp_path):
    recorder = Recorder(arrays, ["blur"], tmp_path)
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    recorder.record(model, 1)
    assert recorder.finish() == recorder.finish()
    with pytest.raises(InputError, match=r"step 2 comes after finish\(\)"):
        recorder.record(model, 2)


MISUSES = {
    "preprocess is a str; give a function, or": {"preprocess": "normalise"},
    "preprocess: the mean is .0.5, 0.5.; give one number or three": {"preprocess": ([0.5, 0.5], 0.2)},
    "preprocess: the std is 0; give .* above 0": {"preprocess": (0.5, 0)},
    "perturbations is empty; give a list": {"perturbations": []},
    "perturbations 'blur' is one text; give a list": {"perturbations": "blur"},
    "severity 3.0 cannot be used; give a whole number from 1 to 5": {"severity": 3.0},
    "seed None cannot be used; give a whole number of 0 or more": {"seed": None},
    "batch_size 0 cannot be used; give a whole number of 1 or more": {"batch_size": 0},
    "name 'a/b' cannot stand in a file's name": {"name": "a/b"},
    "dataset is a NoneType; give": {"dataset": None},
    "instance 0 of the dataset is a tuple of 3; give pairs": {"dataset": [(0, 1, 2)]},
    "instance 0 of the dataset is a dict; .* columns, such as": {"dataset": [{"text": "a", "label": 0}]},
    "labels are no array of numbers .*, labels from 0": {"dataset": (np.zeros((2, 3, 8, 8)), np.array(["a", "b"]))},
}


def test_a_misuse_of_an_argument_is_one_line(arrays, tmp_path):
    for message, wrong in MISUSES.items():
        with pytest.raises(InputError, match=message) as raised:
            Recorder(**({"dataset": arrays, "perturbations": ["blur"], "output": tmp_path} | wrong))
        assert "\n" not in str(raised.value)


def test_what_is_no_model_or_no_step_is_one_line(arrays, tmp_path):
    recorder = Recorder(arrays, ["blur"], tmp_path)
    with pytest.raises(InputError, match="model is a function; give a torch.nn.Module"):
        recorder.record(lambda pixels: pixels.flatten(1)[:, :4], 1)
    with pytest.raises(InputError, match="model is the class Linear; give a torch.nn.Module"):
        recorder.record(nn.Linear, 1)
    with pytest.raises(InputError, match="step 0.5 cannot be used; give a whole number"):
        recorder.record(nn.Linear(4, 4), 0.5)


def test_an_error_of_the_model_tells_what_it_was_given_and_keeps_its_words(arrays, tmp_path):
    grey = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 4))
    with pytest.raises(RuntimeError, match="to have 1 channels") as raised:
        Recorder(arrays, ["blur"], tmp_path).record(grey, 1)
    assert raised.value.__notes__[0].startswith(
        "The Recorder's inputs are torch.float32 [40, 3, 8, 8]; give preprocess="
    )
    Recorder(arrays, ["blur"], tmp_path, preprocess=lambda pixels: pixels[:, :1]).record(grey, 1)


WRONG = {
    "negative": (lambda image: image / 255 - 0.5, "instance 0 has pixels from -0.5 to .* as preprocess"),
    "integers": (lambda image: image.astype(int), "instance 0 is torch.int64; give uint8, or float in"),
    "no image": (lambda image: "pixels", "the texts have no tokenizer"),
    "two channels": (lambda image: image[:2], "the shape .2, 8, 8. has neither 1 nor 3 channels"),
    "a size of its own": (lambda image: image[:, : 7 + image.sum() % 2], "give images of one size"),
}


@pytest.mark.parametrize("show, message", WRONG.values(), ids=WRONG)
def test_images_that_cannot_be_used_are_one_line(show, message, arrays, tmp_path):
    with pytest.raises(InputError, match=message) as raised:
        Recorder(Images(arrays, show), ["blur"], tmp_path)
    assert "\n" not in str(raised.value)


def test_the_classes_are_named_or_counted_where_the_labels_do_not_show_them(arrays, tmp_path):
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 6))
    counted, named = (
        Recorder(arrays, ["blur"], tmp_path / name, **{name: classes})
        for name, classes in (("num_classes", 6), ("label_names", "abcdef"))
    )
    for recorder, expected in ((counted, "012345"), (named, "abcdef")):
        recorder.record(model, 0)
        assert records.load(recorder.finish()[0])[1]["label_names"] == list(expected)
    with pytest.raises(InputError, match="label 3 is out of range; number the 3 classes from 0"):
        Recorder(arrays, ["blur"], tmp_path, num_classes=3)
    with pytest.raises(InputError, match="num_classes is 5, label_names has 4; give one of them"):
        Recorder(arrays, ["blur"], tmp_path, num_classes=5, label_names="abcd")
    with pytest.raises(InputError, match="the data have one class"):
        Recorder((arrays[0], arrays[1] * 0), ["blur"], tmp_path)


def test_a_mean_and_a_standard_deviation_are_a_preprocess(arrays, tmp_path):
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    mean, std = torch.rand(3), 1 + torch.rand(3)
    by_function = recorded(arrays, model, tmp_path, preprocess=lambda x: (x - mean.view(3, 1, 1)) / std.view(3, 1, 1))
    assert recorded(arrays, model, tmp_path, preprocess=(mean, std.numpy())) == by_function


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
    with pytest.raises(InputError, match="pgd and fgsm move word embeddings, which a Counted does not give"):
        Recorder(source, ["pgd"], tmp_path, tokenizer=bert).record(Counted(), 1)


def test_texts_that_cannot_be_used_are_one_line(bert, arrays, tmp_path):
    from transformers import AutoModelForSequenceClassification

    with pytest.raises(InputError, match="the texts have no tokenizer; give tokenizer="):
        Recorder((["a", "b"], [0, 1]), ["pgd"], tmp_path)
    with pytest.raises(InputError, match="there are 2 instances and 1 labels"):
        Recorder((["a", "b"], [0]), ["pgd"], tmp_path, tokenizer=bert)
    with pytest.raises(InputError, match="instance 1 has the label good"):
        Recorder((["a", "b"], [0, "good"]), ["pgd"], tmp_path, tokenizer=bert)
    with pytest.raises(InputError, match="acts on images, not on texts"):
        Recorder((["a", "b"], [0, 1]), ["blur"], tmp_path, tokenizer=bert)
    with pytest.raises(InputError, match="tokenizer is for texts"):
        Recorder(arrays, ["blur"], tmp_path, tokenizer=bert)
    long = Recorder((["a " * 300, "b"], [0, 1]), ["pgd"], tmp_path, tokenizer=bert, max_seq_length=200)
    with pytest.raises(InputError, match="a text has 200 tokens, the model takes 128; give max_seq_length=128"):
        long.record(AutoModelForSequenceClassification.from_pretrained(bert), 0)


def test_importing_the_package_imports_no_torch():
    code = "import sys, robust_data; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
