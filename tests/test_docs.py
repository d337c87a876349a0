"""What README, docs/ and CONTRIBUTING say is true of the files: links, scripts, options, settings, examples."""

import argparse
import ast
import functools
import importlib
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from processes import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", ROOT / "benchmarks" / "README.md"]
PAGES += [*sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "study").rglob("*.md"))]
FOLDERS = ("", "plot_utils", "scripts", "study", "new_fine_tune_flooding", "benchmarks")
SCRIPTS = {
    path.relative_to(ROOT).as_posix(): path
    for folder in FOLDERS
    for path in (ROOT / folder).glob("*.py")
    if "__main__" in path.read_text()
}
SHELL_SCRIPTS = {
    path.relative_to(ROOT).as_posix(): path
    for folder in ("scripts", "new_fine_tune_flooding", "benchmarks", ".ci")
    for path in (ROOT / folder).iterdir()
    if path.suffix in (".sh", ".sbatch", "") and path.is_file()
}
# Options in the text that are torchrun's, not ours.
OF_TORCHRUN = {"--nproc_per_node", "--max_restarts"}
# What the environment of any command may hold.
OF_ANY_COMMAND = {
    "CUDA_VISIBLE_DEVICES",
    "OMP_NUM_THREADS",
    "OPENCV_FOR_THREADS_NUM",
    "PYTHONPATH",
    "TEXTATTACK_PYTHON",
}

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks in a language, "" for those without one."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def prose(page: Path) -> str:
    """The page without its code blocks."""
    return re.sub(r"^```.*?^```\n", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[list[str]]:
    """The words of every command of the page that starts a Python or shell script."""
    lines = "\n".join(blocks(page, "bash") + blocks(page, "")).replace("\\\n", " ").splitlines()
    lines += [code.replace("\n", " ") for code in re.findall(r"`([^`]+)`", prose(page))]
    found = [re.split(r"&&|;|\|", line) for line in lines if re.search(r"\.(py|sh|sbatch)\b", line)]
    return [words(command) for line in found for command in line if words(command)]


def words(command: str) -> list[str]:
    try:
        return shlex.split(command, comments=True)
    except ValueError:  # prose in between, such as an apostrophe
        return []


@functools.cache
def parser_of(script: str) -> argparse.ArgumentParser:
    return importlib.import_module("robust_data." + script.removesuffix(".py").replace("/", ".")).build_parser()


def options_of(script: str) -> set[str]:
    return set(parser_of(script)._option_string_actions)


def script_in(command: list[str]) -> tuple[str, list[str]] | None:
    """The Python script that a command starts, from the root or from its own folder, and what it is given."""
    for place, word in enumerate(command):
        for script in SCRIPTS:
            if word == script or (word == Path(script).name and place > 0):
                return script, command[place + 1 :]
        if word.endswith(("run_multinode.sh", "run_slurm.sbatch")):
            return "data_statistics.py", command[place + 1 :]
    return None


@pages
def test_every_link_leads_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), f"{page.name} links to {link}"
        if anchor:
            titles = re.findall(r"^#+ (.*)$", prose(target), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w\- ]", "", title).lower().replace(" ", "-") for title in titles], link


@pages
def test_every_command_is_one_that_its_script_takes(page):
    for command in commands(page):
        started = script_in(command)
        # An option in the text may be one of a list, and a value a name in its place.
        if started is not None and started[1] and "..." not in started[1]:
            script, given = started
            unknown = {word.split("=")[0] for word in given if re.match(r"-{1,2}[a-z]", word)} - options_of(script)
            assert not unknown, f"{script} has no {unknown}: {shlex.join(command)}"


@pages
def test_every_shell_script_and_its_settings_are_there(page):
    for command in commands(page):
        for word in command:
            named = [script for script in SHELL_SCRIPTS if word == script or word == Path(script).name]
            if word.endswith((".sh", ".sbatch")) and not word.startswith("..."):
                assert named, f"{page.name} names {word}"
            settings = {word.split("=")[0] for word in command if re.match(r"[A-Z_]+=", word)} - OF_ANY_COMMAND
            for script in named:
                text = "".join(SHELL_SCRIPTS[name].read_text() for name in (script, "scripts/environment.sh"))
                missing = {setting for setting in settings if setting not in text}
                assert not missing, f"{script} knows no {missing}"


@pages
def test_every_option_in_the_text_is_one_of_a_script(page):
    known = OF_TORCHRUN.union(*map(options_of, SCRIPTS))
    known |= {
        option for path in SHELL_SCRIPTS.values() for option in re.findall(r"= (--[a-z]\w+) \]", path.read_text())
    }
    named = {option for code in re.findall(r"`([^`]+)`", prose(page)) for option in re.findall(r"--[a-z]\w+", code)}
    # A name that ends in an underscore stands for several.
    named = {option for option in named if not (option.endswith("_") and any(map(option.__lt__, known)))}
    others = {"--help"} | ({"--check"} if page.name == "CONTRIBUTING.md" else set())
    assert named - known - others == set()


@pages
def test_lines_are_no_longer_than_those_of_the_code(page):
    for line in prose(page).splitlines():
        assert len(line) <= 120 or line.startswith("|") or "](" in line, f"{page.name}: {line}"


def test_the_readme_is_short_and_names_every_script_and_page():
    readme = (ROOT / "README.md").read_text()
    assert len(readme.splitlines()) <= 210
    for script in SCRIPTS:
        assert script.startswith(("benchmarks/", "study/")) or f"{Path(script).name}`" in readme, script
    for page in (ROOT / "docs").glob("*.md"):
        assert f"(docs/{page.name})" in readme, page.name


@pages
def test_python_in_the_pages_is_python(page):
    for block in blocks(page, "python"):
        ast.parse(block)


def example(beginning: str) -> str:
    """The block of docs/extending.md that holds these words."""
    (block,) = [block for block in blocks(ROOT / "docs" / "extending.md", "python") if beginning in block]
    return block


def test_the_example_of_a_perturbation_works(monkeypatch):
    import torch

    from robust_data import registry
    from robust_data.perturbations import catalogue

    monkeypatch.setattr(catalogue, "CATALOGUE", registry.Registry("perturbation"))
    exec(example('@perturbation("darken"'), {})
    images = torch.full((2, 3, 8, 8), 0.5)
    darkened = catalogue.perturb("darken", images, 3, torch.arange(2))
    assert (darkened <= 0.35).all() and (darkened >= 0.2).all() and darkened[0, 0, 0, 0] != darkened[1, 0, 0, 0]


def test_the_example_of_a_collection_from_python_works(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    made = {}
    exec(example("from robust_data.collect.job import collect"), made)
    assert made["rows"].shape == (3, 200) and made["about"]["arguments"]["lr"] == 2e-3


def test_the_example_of_an_attack_on_words_works(capsys):
    made = {}
    exec(example("import attack_texts"), made)
    assert [one.result for one in made["attacked"]] == ["failed", "succeeded"] and "50.00%" in capsys.readouterr().out


def test_the_example_of_a_data_set_works(monkeypatch, tmp_path):
    from robust_data import registry
    from robust_data.datasets import catalogue

    monkeypatch.setattr(catalogue, "DATASETS", registry.Registry("dataset"))
    exec(example('@dataset("mine")'), {"__package__": "datasets"})
    np.save(tmp_path / "train.npy", np.zeros((4, 8, 8, 3), np.uint8))
    np.save(tmp_path / "train_labels.npy", np.array([0, 1, 1, 0]))
    loaded = catalogue.load("mine", data_dir=tmp_path)
    assert loaded.labels.tolist() == [0, 1, 1, 0] and loaded.label_names == ["cat", "dog"]


def test_the_example_of_a_model_works(monkeypatch):
    import torch

    from robust_data import models, registry
    from robust_data.models import vision

    monkeypatch.setattr(vision, "SMALL_MODELS", registry.Registry("model"))
    exec(example('@small_model("linear")'), vars(vision).copy())
    model = models.build("linear", 3)
    assert model({"pixel_values": torch.rand(2, 3, 32, 32)}).shape == (2, 3)
