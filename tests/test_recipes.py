"""The commands of the pages are run as they stand there, on the digits and a few images and texts, and shortened."""

import os
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import processes
import pytest
import text_models
from conftest import write_images
from processes import ROOT

PAGES = ("README.md", "docs/using.md", "docs/data_and_models.md", "docs/results.md", "docs/running.md")
# Options that are added to a script's, of which the last count.
SHORTER = {
    "data_statistics.py": "--epochs 1 --pretrained 0 --overwrite 1",
    "evaluate_robustness.py": "--max_instances 20 --num_examples 4 --pgd_step 1 --severities 3",
    **dict.fromkeys(
        (
            "finetune_with_select_data.py",
            "new_fine_tune_flooding/new_fine_tune_flooding.py",
            "new_fine_tune_flooding/new_fine_tune_soft_label.py",
        ),
        "--epochs 1 --pgd_step 1 --overwrite 1",
    ),
}


def recipes() -> list[str]:
    """Every line of the pages' blocks that starts a Python script by itself; test_experiments.py runs the shell's."""
    text = "\n".join((ROOT / page).read_text() for page in PAGES)
    lines = "\n".join(re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL)).replace("\\\n", " ")
    found = dict.fromkeys(" ".join(line.partition(" #")[0].split()) for line in lines.splitlines())
    return [line for line in found if re.match(r"([A-Z_]+=\S* )*python \S+\.py\b", line)]


def run(command: str, folder: Path) -> None:
    """Run a command in a folder, shortened, as a shell would run it."""
    words = shlex.split(command)
    start = words.index("python")
    script, *given = words[start + 1 :]
    given = [name for word in given for name in (sorted(map(str, folder.glob(word))) if "*" in word else [word])]
    given += SHORTER.get(script, "").split()
    if "--dataset_len" in given:
        given += ["--dataset_len", "40"]
    if "cifar10" in given:
        given += ["--dataset_name", "npz", "--data_dir", "few.npz", "--download", "0"]
    environment = os.environ | dict(word.split("=", 1) for word in words[:start]) | {"OMP_NUM_THREADS": "1"}
    result = processes.run(ROOT / script, *given, cwd=folder, env=environment)
    assert result.returncode == 0, f"{command}\n{result.stderr}"


@pytest.fixture(scope="module")
def folder(few_digits, tmp_path_factory):
    """What the pages name: statistics, models, judgements, texts, images, and logits of another training loop."""
    from robust_data import datasets

    folder = tmp_path_factory.mktemp("recipes")
    shutil.copy(few_digits, folder / "few.npz")
    text_models.write_sst2(folder / "data")
    text_models.save_bert(folder / "bert-base-uncased")
    text_models.save_bert(folder / "FOLDER")
    for images in ("my_images", "cifar10_jpeg"):
        for split, count in (("train", 14), ("test", 2)):
            for seed, name in enumerate(("cat", "dog", "eel")):
                write_images(folder / images / split / name, count, seed=seed)
    labels = datasets.load("digits").labels.numpy()
    np.save(folder / "labels.npy", labels)
    for name in ("clean", "blurred"):
        np.save(folder / f"{name}.npy", np.random.default_rng(0).normal(size=(2, len(labels), 10)).astype(np.float32))
    (folder / "training_dynamics").mkdir()
    for epoch in range(2):
        lines = (f'{{"guid": {n}, "logits_epoch_{epoch}": [0.5, {n}], "gold": {n % 2}}}\n' for n in range(6))
        (folder / "training_dynamics" / f"dynamics_epoch_{epoch}.jsonl").write_text("".join(lines))

    run("python data_statistics.py -t blur --seeds 1 2 3", folder)
    for seed in "123":
        (statistics,) = (folder / "results" / f"seed{seed}").glob("robust_statistics_*.npy")
        for suffix in (".npy", ".json"):
            shutil.copy(statistics.with_suffix(suffix), folder / f"FILE{seed}{suffix}")
            shutil.copy(statistics.with_suffix(suffix), folder / f"FILE{suffix}")
    shutil.copytree(folder / "results" / "seed1", folder / "results" / "quickstart")
    tuning = "python new_fine_tune_flooding/new_fine_tune_flooding.py --statistics_source FILE.npy"
    run(f"{tuning} --output_dir results/flooding", folder)
    judging = "python evaluate_robustness.py --model_name results/flooding/model --dataset_name digits"
    for method in ("everything", "flooding"):
        run(f"{judging} --output_dir results/cifar10_pipeline/{method}_seed1", folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("command", recipes())
def test_a_command_of_the_pages_runs(command, folder):
    if "--tensorboard" in command:
        pytest.importorskip("tensorboard")
    run(command, folder)
