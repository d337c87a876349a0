"""One name, robust_data: in a checkout, installed from a wheel, beside packages of others with names of its parts."""

import contextlib
import importlib
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import processes
import pytest
from processes import ROOT

from robust_data import __main__ as command_line
from robust_data import __version__

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def python(code, *arguments):
    """Run code in a new process of a checkout; returns what it printed."""
    result = subprocess.run([sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_build_knows_every_package():
    mapped = PROJECT["tool"]["setuptools"]["package-dir"]
    parts = {"robust_data": "robust_data"} | mapped
    found = {
        ".".join([name, *path.parent.relative_to(ROOT / folder).parts])
        for name, folder in parts.items()
        for path in (ROOT / folder).rglob("*.py")
    }
    assert found == set(PROJECT["tool"]["setuptools"]["packages"])


SAME = """
import {first}perturbations.weather, {first}models.vision, {second}perturbations.weather, {second}models.vision
from {first}datasets.images import ImageArrays
from {second}datasets.images import ImageArrays as Same
import datasets, models, perturbations, robust_data, sys

assert ImageArrays is Same and robust_data.datasets is datasets and robust_data.perturbations is perturbations
assert sys.modules["perturbations.weather"] is robust_data.perturbations.weather is perturbations.weather
assert robust_data.models.vision is models.vision and models.vision.__spec__.name == "robust_data.models.vision"
"""


@pytest.mark.parametrize("first, second", [("", "robust_data."), ("robust_data.", "")])
def test_bare_names_in_a_checkout_are_the_same_modules(first, second):
    python(SAME.format(first=first, second=second))


def test_the_package_is_light_until_its_names_are_used():
    code = "import robust_data, sys\nassert not {'torch', 'numpy', 'argparse'} & {*sys.modules}\n"
    code += "assert 'blur' in robust_data.perturbations.names() and robust_data.Recorder.record"
    python(code)


@pytest.mark.parametrize("command", command_line.COMMANDS)
def test_a_command_has_the_help_of_its_script(command, monkeypatch, capsys):
    path = command_line.COMMANDS[command][0]
    parser = importlib.import_module(f"robust_data.{path.replace('/', '.')}").build_parser()
    parser.prog = "PROGRAM"
    expected = parser.format_help().replace(f"python {path}.py", "PROGRAM")
    monkeypatch.setattr(sys, "argv", ["robust-data", command, "--help"])
    with pytest.raises(SystemExit, match="0"):
        command_line.main()
    assert capsys.readouterr().out.replace(f"robust-data {command}", "PROGRAM").split() == expected.split()


def test_every_script_is_a_command():
    folders = ("", "plot_utils", "scripts", "new_fine_tune_flooding")
    scripts = {path for folder in folders for path in (ROOT / folder).glob("*.py")}
    scripts = {path.stem for path in scripts if "run_script(build_parser" in path.read_text()}
    assert scripts == {Path(path).name for path, _ in command_line.COMMANDS.values()}


@pytest.mark.parametrize(
    "line, status, said",
    [("--help", 0, "soft-label"), ("--version", 0, __version__), ("floood", 2, "flood"), ("study", 2, "repository")],
)
def test_the_command_line_without_a_command(line, status, said, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["robust-data", line])
    with pytest.raises(SystemExit) if status else contextlib.nullcontext() as ended:
        command_line.main()
    out, err = capsys.readouterr()
    assert said in (err if status else out) and len(err.splitlines()) == (status == 2)
    assert ended is None or ended.value.code == status


# A program of a user that records images, texts, and a model of Hugging Face.
PROGRAM = """
import sys

root, bert, folder = sys.argv[1:]
texts, labels = ["a good film", "the film is dull", "warm", "a lame story"], [1, 0, 1, 0]
{start}
from robust_data import Recorder
import torch
from transformers import AutoModelForSequenceClassification

torch.manual_seed(0)
images = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
recorder = Recorder((images, labels), ["shot_noise"], folder, name="images")
recorder.record(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 2)), 1)
recorder.finish()
recorder = Recorder((texts, labels), ["pgd", "char_swap"], folder, tokenizer=bert, name="texts")
recorder.record(AutoModelForSequenceClassification.from_pretrained(bert), 1)
recorder.finish()
{end}
"""
NAMES = ("datasets", "models", "perturbations", "utils")
ARE_OURS = "import datasets, models, perturbations\nassert datasets.MissingSplit and models.MEMORY_FORMATS"
ARE_OTHERS = f"import {', '.join(NAMES)}\nassert all(one.WHOSE == 'of another' for one in ({', '.join(NAMES)}))"


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.npy")}


def recorded(folder, interpreter, bert, start, end):
    """The bytes of each file that the program writes when the interpreter runs it in the folder."""
    (folder / "program.py").write_text(PROGRAM.format(start=start, end=end))
    command = [interpreter, "program.py", ROOT, bert, folder / "recorded"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert len(contents(folder / "recorded")) == 3
    return contents(folder / "recorded")


@pytest.fixture(scope="module")
def expected(bert, tmp_path_factory):
    """The bytes of each file where the project's packages have their bare names, too."""
    start = "sys.path.insert(0, root)"
    return recorded(tmp_path_factory.mktemp("first"), sys.executable, bert, start, ARE_OURS)


@pytest.fixture(scope="module", params=["checkout", pytest.param("wheel", marks=pytest.mark.slow)])
def place(request):
    """An interpreter, and the line that leads a program to the package."""
    if request.param == "checkout":
        return sys.executable, "sys.path.append(root)"
    return request.getfixturevalue("environment") / "python", ""


@pytest.fixture(scope="session")
def environment(tmp_path_factory):
    """The folder of the programs of an environment outside the checkout in which the wheel is installed.

    It is empty but for the packages that the tests themselves run with.
    """
    folder = tmp_path_factory.mktemp("installed")
    wheels, programs = folder / "wheels", folder / "environment" / "bin"
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    # A build in the checkout itself would find what was built there before.
    unbuilt = shutil.ignore_patterns(".*", "build", "data", "results", "__pycache__", "*.egg-info")
    sources = shutil.copytree(ROOT, folder / "sources", ignore=unbuilt)
    subprocess.run([*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", wheels, sources], check=True)
    subprocess.run([sys.executable, "-m", "venv", programs.parent], check=True)
    (packages,) = programs.parent.glob("lib/*/site-packages")
    (packages / "others.pth").write_text(sysconfig.get_path("purelib"))
    (wheel,) = wheels.iterdir()
    subprocess.run([programs / "python", *pip[1:], "install", "--quiet", f"{wheel}[hub]"], check=True)
    return programs


@pytest.mark.parametrize("imported", ["before the Recorder", "after it"])
def test_a_recorder_works_beside_other_packages_of_these_names(imported, place, expected, bert, tmp_path):
    for name in NAMES:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("WHOSE = 'of another'\n")
    interpreter, start = place
    before = ARE_OTHERS if imported == "before the Recorder" else ""
    assert recorded(tmp_path, interpreter, bert, f"{before}\n{start}", ARE_OTHERS) == expected


@pytest.mark.slow
@pytest.mark.parametrize("imported", ["before the Recorder", "after it"])
def test_a_recorder_takes_the_columns_of_the_hugging_face_package_datasets(
    imported, environment, expected, bert, tmp_path
):
    own = "import datasets\nown = datasets.Dataset.from_dict({'text': texts, 'label': labels})\n"
    own += "texts, labels = own['text'], own['label'][:]\n"
    start = own if imported == "before the Recorder" else f"from robust_data import Recorder\n{own}"
    end = "assert datasets.load_dataset"
    assert recorded(tmp_path, environment / "python", bert, start, end) == expected


@pytest.mark.slow
def test_an_installed_package_makes_the_digits_run(environment, tmp_path):
    script = ROOT / "data_statistics.py"
    ours = processes.run(script, "--epochs", 2, "--output_dir", "out", cwd=tmp_path)
    assert ours.returncode == 0, ours.stderr
    (path,) = (tmp_path / "out").glob("*.npy")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for line in ("collect --epochs 2 --output_dir out", "map --statistics FILE", "report --statistics FILE"):
        command = [environment / "robust-data", *line.replace("FILE", f"out/{path.name}").split()]
        done = subprocess.run(command, cwd=elsewhere, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert (elsewhere / "out" / path.name).read_bytes() == path.read_bytes()
    assert (elsewhere / "out" / f"{path.stem}.html").exists()


@pytest.mark.slow
def test_what_is_installed_fits_together(environment):
    checked = subprocess.run([environment / "python", "-m", "pip", "check"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
