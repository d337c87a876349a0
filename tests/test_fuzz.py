"""Whatever a user types and whatever a file holds: a script does its work, or ends with one line and status 2."""

from functools import partial
from pathlib import Path

import fuzzing
import pytest
import specimens
from fuzzing import NASTY

from robust_data import models, records
from robust_data.fine_tune import results_file
from robust_data.judge import corruption_error, epoch_log, published
from robust_data.judge.conditions import Condition
from robust_data.plot_utils.perturbation_gallery import read_image
from robust_data.settings import Data, names
from robust_data.train import identity, resume, saved_models
from robust_data.words import masked_lm, word_vectors

# What is called where the work of a script begins. Without workers, who talk through files outside the folder.
DEVICE, MODEL, FIGURE = "robust_data.train.building.prepare_device", "robust_data.models.build", "matplotlib.use"
OUT = "--output_dir out --num_workers 0"
DATA = "--dataset_name npz --data_dir few.npz"
TEXT = "--model_name bert --max_seq_length 16 --dataset_name"
LOGITS = "--logits logits.npy --perturbed_logits logits.npy --labels labels.npy --output new.npy"
# The arguments with which every script comes to its work, and what begins it; of others their own `main` is all work.
USUAL = {
    f"data_statistics.py {DATA} {OUT}": DEVICE,
    f"finetune_with_select_data.py --statistics_source statistics.npy {OUT}": DEVICE,
    f"evaluate_robustness.py {DATA} --model_name small_cnn {OUT}": DEVICE,
    f"new_fine_tune_flooding/new_fine_tune_flooding.py --statistics_source statistics.npy {OUT}": DEVICE,
    f"new_fine_tune_flooding/new_fine_tune_soft_label.py --statistics_source statistics.npy {OUT}": DEVICE,
    "plot_utils/perturbation_gallery.py --output_dir out": "robust_data.plot_utils.perturbation_gallery.draw_sheet",
    "plot_utils/plotting.py --statistics statistics.npy": FIGURE,
    "plot_utils/report.py --statistics statistics.npy": None,
    "plot_utils/sample_images.py --statistics statistics.npy": FIGURE,
    "plot_utils/training_curves.py --log log.jsonl": FIGURE,
    "scripts/compare_models.py --results_dir judged": FIGURE,
    "scripts/compare_statistics.py statistics.npy other.npy": FIGURE,
    "scripts/convert_statistics.py --input older.npy --output new.npy": None,
    "scripts/export_statistics.py --statistics statistics.npy": None,
    f"scripts/import_statistics.py {LOGITS}": None,
    f"scripts/perturb_dataset.py {DATA} -t blur --severities 1 {OUT}": None,
    "scripts/select_instances.py --statistics statistics.npy": None,
}
OTHERS = {*fuzzing.scripts()} - {line.split()[0] for line in USUAL}
USUAL |= {name: f"robust_data.{name.removesuffix('.py').replace('/', '.')}.main" for name in sorted(OTHERS)}
REQUIRED = {
    "benchmarks/same_outputs.py": "HEAD",
    "benchmarks/word_attacks.py": "--model_name bert --data_dir texts --textattack_python python",
    "study/fold.py": "--model_name ours --plain ours --statistics_source statistics.npy --b 0.2 --reach 1 "
    "--dataset_name npz --data_dir few.npz --output_dir out",
    "study/older_scale.py": "--models ours --data_dir few.npz --output_dir out",
}
# Those that load data; what would be next is a model.
LOADING = [
    f"data_statistics.py {DATA} {OUT}",
    f"data_statistics.py --dataset_name imagefolder --data_dir images {OUT}",
    f"data_statistics.py {TEXT} csv --data_dir table.csv {OUT}",
    f"data_statistics.py {TEXT} glue --task_name sst2 --data_dir texts {OUT}",
    f"finetune_with_select_data.py --statistics_source statistics.npy {OUT}",
    f"evaluate_robustness.py {DATA} --model_name ours {OUT}",
    f"evaluate_robustness.py {TEXT} csv --data_dir table.csv --split train --attack_method deepwordbug {OUT}",
]
# The options whose values loading takes.
OF_DATA = {f"--{name}" for name in names(Data)} | {"--severity", "--collect_on", "--corruptions_dir", "--word_vectors"}
# Other files that scripts read.
READING = dict.fromkeys(LOADING, MODEL) | {
    f"data_statistics.py --dataset_name imagefolder --data_dir images --image_size 4 --skip_corrupt 1 {OUT}": MODEL,
    f"data_statistics.py {DATA} --collect_on chosen.npy {OUT}": MODEL,
    f"data_statistics.py {TEXT} tsv --data_dir table.tsv {OUT}": MODEL,
    f"data_statistics.py {TEXT} glue --task_name sst2 --data_dir zipped {OUT}": MODEL,
    f"data_statistics.py {TEXT} imdb --data_dir tarred {OUT}": MODEL,
    f"data_statistics.py {TEXT} imdb --data_dir reviews {OUT}": MODEL,
    f"data_statistics.py {TEXT} ag_news --data_dir news {OUT}": MODEL,
    f"data_statistics.py --config statistics.json {OUT}": DEVICE,
    f"new_fine_tune_flooding/new_fine_tune_flooding.py --config ours {OUT}": DEVICE,
    "evaluate_robustness.py --model_name small_cnn --output_dir before": DEVICE,
    "scripts/compare_models.py --results_dir judged --baseline plain": FIGURE,
    "scripts/convert_statistics.py --input older.pkl --output new.npy": None,
    "scripts/convert_statistics.py --input statistics.npy --output new.npy": None,
    "scripts/import_statistics.py --dynamics dynamics --output new.npy": None,
}


def add_result(path):
    row = {"model_folder": "out/model", "test_accuracy": 0.25}
    results_file.check(path, list(row))
    results_file.last_row(path, "out/model")
    results_file.append(path, row)


def continue_records(path):
    file = records.RecordFile(path.removesuffix(".partial"), 3, 40, rows=2)
    file.append(file._records[0].copy())


def check_run(folder):
    identity.check_arguments(
        saved_models.saved_arguments(folder), specimens.RUN | {"training labels": "0"}, Path(folder)
    )


def judge_by(reference):
    read = corruption_error.load_reference(reference)
    index = {"index_sha256": records.labels_hash(range(8))}
    corruption_error.check_reference(reference, read, [Condition("perturbation", "blur", 3)], index)
    corruption_error.corruption_errors(read["results"], read["results"])


def build(modality, folder):
    models.build(folder, 2, modality=modality, image_size=(16, 16), max_seq_length=8)


# What is read where scripts are at work already.
READERS = {
    "images/train/cat/0.png": read_image,
    "log.jsonl": lambda path: epoch_log.forget_epochs(Path(path), "plain_seed1", 4),
    "results.csv": add_result,
    "run.state": lambda path: resume.RunState(Path(path), {"lr": 0.1}).load(),
    "rest.npy.partial": continue_records,
    "ours": check_run,
    "vectors.txt": lambda path: word_vectors.load(path).nearest("good", 2, 0.1),
    "corruptions": lambda path: published.open_folder(path, 4, (8, 8)).load("fog", 1, ["0", "1", "2", "3"]),
    "judged/plain_seed1/robustness_small_cnn.json": judge_by,
    "./ours": partial(build, "image"),
    "vit": partial(build, "image"),
    "bert": partial(build, "text"),
    "sharded": partial(build, "text"),
    "masked": lambda folder: masked_lm.load(folder, "cpu"),
}


COMMANDS = [*USUAL.items(), *READING.items()]


def action(line, until=None):
    """What is done with a command, or a file or folder of `READERS`: a function for `fuzzing.trial`."""
    if line in READERS:
        return partial(fuzzing.read, partial(READERS[line], line))
    name, *arguments = f"{line} {REQUIRED.get(line, '')}".split()
    return partial(fuzzing.run, name, *arguments, until=until)


def files_of(line):
    """The files that a command or a reader names, those in folders that it names, and the JSONs beside them."""
    named = [Path(word) for word in line.split() if Path(word).exists() and not word.endswith(".py")]
    found = [path for name in named for path in ([name] if name.is_file() else sorted(name.rglob("*.*")))]
    found += [path.with_suffix(".json") for path in found]
    return [path for path in dict.fromkeys(found) if path.is_file()]


@pytest.mark.parametrize("line, until", [*COMMANDS, *((path, None) for path in READERS)])
def test_good_arguments_and_files_come_to_the_work(line, until, ground):
    kept = {path: path.read_bytes() for path in files_of(line)}
    assert fuzzing.trial(ground, action(line, until)) == (False, None)
    for path, content in kept.items():
        path.write_bytes(content)


# How much of all there is to try; the rest takes minutes.
FEW_VALUES, FEW_DAMAGES, MANY_DAMAGES = 3, 10, 400
SLOW = pytest.mark.slow


@pytest.mark.parametrize("count", [FEW_VALUES, pytest.param(len(NASTY), marks=SLOW)])
@pytest.mark.parametrize("line, until", [*USUAL.items(), *((line, MODEL) for line in LOADING)])
def test_no_value_of_an_option_ends_in_a_traceback(line, until, count, ground):
    options = fuzzing.options(line.split()[0])
    found = {}
    for option in options if until != MODEL else [option for option in options if option in OF_DATA]:
        for value in fuzzing.draws(line, option).sample(NASTY, count):
            found[option, value] = fuzzing.trial(ground, partial(action(line, until), option, value))[1]
    assert not {given: fault for given, fault in found.items() if fault}


@pytest.mark.parametrize("count", [FEW_DAMAGES, pytest.param(MANY_DAMAGES, marks=SLOW)])
@pytest.mark.parametrize("line, until", [*((USUAL | READING).items()), *((path, None) for path in READERS)])
def test_no_damage_to_a_file_ends_in_a_traceback(line, until, count, ground):
    found = {}
    for number in range(count if files_of(line) else 0):
        draw = fuzzing.draws(line, number)
        path = draw.choice(files_of(line))
        good = path.read_bytes()
        path.write_bytes(fuzzing.ruined(good, draw))
        # An archive is unpacked as a whole before it is known what its files hold.
        found[str(path), number] = fuzzing.trial(ground, action(line, until), "tarred" in line)[1]
        path.write_bytes(good)
    assert not {damaged: fault for damaged, fault in found.items() if fault}
