"""Rules of the house: instant help, nothing at import, one way of imports, one name."""

import ast
import os
import shlex
import signal
import subprocess
import sys

import processes
import pytest
from processes import ROOT

SCRIPTS = sorted(
    path.relative_to(ROOT)
    for folder in (".", "plot_utils", "scripts", "study", "new_fine_tune_flooding", "benchmarks")
    for path in (ROOT / folder).glob("*.py")
    if "__main__" in path.read_text()
)
SLOW_TO_IMPORT = ("torch", "torchvision", "transformers", "sklearn", "matplotlib.pyplot", "PIL")


@pytest.mark.parametrize("script", SCRIPTS, ids=str)
def test_help_waits_for_no_slow_import(script):
    watch = (
        "import atexit, runpy, sys; sys.argv = [sys.argv[1], '--help']; "
        "sys.path.insert(0, __import__('os').path.dirname(sys.argv[0]));"
        f"atexit.register(lambda: print('slow:', [m for m in {SLOW_TO_IMPORT} if m in sys.modules], file=sys.stderr)); "
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    result = subprocess.run([sys.executable, "-c", watch, str(ROOT / script)], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0 and result.stdout.startswith("usage:"), result.stderr
    assert result.stderr == "slow: []\n"


@pytest.mark.parametrize("script", SCRIPTS, ids=str)
def test_a_script_starts_from_its_own_folder(script):
    path = ROOT / script
    result = processes.run(path.name, "--help", cwd=path.parent)
    assert result.returncode == 0, result.stderr


def test_ctrl_c_is_told():
    # As at a terminal: what a shell starts in the background, as these tests may be, ignores Ctrl-C.
    code = "import os, signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += "from robust_data.command_line.parser import Parser, run_script\n"
    code += "run_script(Parser(prog='x'), lambda args: os.kill(os.getpid(), signal.SIGINT))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (result.returncode, result.stderr) == (128 + signal.SIGINT, "x: interrupted\n")


@pytest.mark.parametrize("target, status", [("| head -c 1", 128 + signal.SIGPIPE), ("> /dev/full", 2)])
def test_output_that_goes_nowhere_is_no_success_and_stops_no_work(target, status, tmp_path):
    code = "import pathlib; from robust_data.command_line.parser import Parser, run_script; parser = Parser()\n"
    code += "parser.add_argument('--done', type=pathlib.Path)\n"
    code += "def main(args): print('x' * 10**6); print(); args.done.touch()\n"
    code += "run_script(parser, main)"
    command = f"set -o pipefail; {sys.executable} -c {shlex.quote(code)} --done {tmp_path}/done {target}"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == status and (tmp_path / "done").exists()
    assert len(result.stderr.splitlines()) == (status == 2), result.stderr


# The rooms of the house: each may import from those before it, and from itself. The catalogues know of none another.
FLOOR, CATALOGUES = ("registry", "reading"), ("perturbations", "datasets", "models")
ROOMS = (
    *(*FLOOR, *CATALOGUES, "transforms", "settings", "files", "tables", "records", "metrics", "losses", "selection"),
    *("train", "collection", "evaluation", "analysis", "words", "judge", "complete", "treat", "collect", "fine_tune"),
    "command_line",
)
FOLDERS = ("robust_data", *CATALOGUES, "plot_utils", "scripts", "new_fine_tune_flooding", "study", "benchmarks")


def imported_by(path):
    """The names of all that a file imports, also within functions, later, or for the types alone."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "LazyModule":
            yield node.args[0].value


def place(room):
    return ROOT / room if room in CATALOGUES else ROOT / "robust_data" / room


def test_every_room_is_in_the_order_of_imports():
    rooms = {path.stem for path in (ROOT / "robust_data").iterdir()} - {"__init__", "__main__", "__pycache__"}
    assert rooms | {*CATALOGUES} == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_downwards(room):
    below = {*FLOOR, room} if room in CATALOGUES else {*ROOMS[: ROOMS.index(room) + 1], "__version__"}
    for path in [*place(room).glob("*.py"), place(room).with_suffix(".py")]:
        for name in imported_by(path) if path.exists() else ():
            project, _, module = name.partition(".")
            assert project != "robust_data" or module.partition(".")[0] in below, f"{path} imports {name}"


def test_everything_is_imported_by_the_one_name_that_no_other_package_has():
    """A program that uses the Recorder may have others: Hugging Face's `datasets`, its own `models`."""
    bare = {*FLOOR, *FOLDERS, *(path.stem for path in ROOT.glob("*.py"))} - {"robust_data"}
    for path in [*ROOT.glob("*.py"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))]:
        for name in imported_by(path):
            assert name.partition(".")[0] not in bare, f"{path} imports {name}; give robust_data.{name}"


def changed_arguments(path):
    """The lines of a file that set or delete an attribute of `args`."""
    for node in ast.walk(ast.parse(path.read_text())):
        is_args = isinstance(getattr(node, "value", None), ast.Name) and node.value.id == "args"
        if isinstance(node, ast.Attribute) and is_args and not isinstance(node.ctx, ast.Load):
            yield node.lineno
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("setattr", "delattr"):
            yield from [node.lineno] if getattr(node.args[0], "id", "") == "args" else []


def test_arguments_are_resolved_once_and_never_set_afterwards():
    # It ends the parsing.
    parsing = ROOT / "robust_data" / "command_line" / "older.py"
    files = {*(ROOT / "robust_data").rglob("*.py"), *(ROOT / script for script in SCRIPTS)} - {parsing}
    assert not {f"{path}:{line}" for path in files for line in changed_arguments(path)}
    assert list(changed_arguments(parsing))


USE_TRANSFORMERS = """
import sys, torch
sys.path.insert(0, sys.argv[1])
import datasets
assert "robust_data" in (datasets.__doc__ or "") or hasattr(datasets, "MissingSplit")
from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageClassification, AutoTokenizer
from transformers import AutoModelForSequenceClassification, BertConfig, ViTConfig
vit = AutoModelForImageClassification.from_config(ViTConfig(
    hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=16, patch_size=8))
assert vit(pixel_values=torch.rand(1, 3, 16, 16)).logits.shape == (1, 2)
bert = AutoModelForSequenceClassification.from_config(BertConfig(
    hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=9))
assert bert(input_ids=torch.tensor([[1, 2]])).logits.shape == (1, 2)
import models
"""


def use_transformers(search_path):
    environment = os.environ | {"PYTHONPATH": str(search_path), "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, "-c", USE_TRANSFORMERS, str(ROOT)], capture_output=True, text=True, env=environment
    )


def test_transformers_works_with_the_hugging_face_package_datasets_hidden(tmp_path):
    result = use_transformers(tmp_path)
    assert result.returncode == 0, result.stderr


def test_transformers_works_with_the_hugging_face_package_datasets_installed(tmp_path):
    """Installed: a distribution with that name and version, whose package ours hides."""
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "__init__.py").write_text("raise ImportError('the wrong package datasets was imported')")
    about = tmp_path / "datasets-5.2.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: datasets\nVersion: 5.2.0\n")
    (about / "RECORD").write_text("datasets/__init__.py,,\n")
    (about / "top_level.txt").write_text("datasets\n")
    result = use_transformers(tmp_path)
    assert result.returncode == 0, result.stderr
