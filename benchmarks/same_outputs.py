#!/usr/bin/env python3
"""Run the same commands in this working tree and in another revision of it, and name every output that differs.

Compared are the bytes of records, tables, figures and weights. Of JSON, tables and pages, times, versions and memory do
not count. The commands run in a folder of one name, so that the paths that they write down agree. Several minutes.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from robust_data.command_line.parser import Parser, run_script

ROOT = Path(__file__).resolve().parent.parent

# The parts, none of which needs another. "killed" ends a command by SIGKILL
# after its first epoch, "two" starts it in two processes. Every choice is named, for defaults may change.
COMMANDS = {
    "digits": """
        COLLECT -t glass_blur gaussian_noise rotate --severity 1 3 --collect_on test --statistic_interval 0.5 \
            --epochs 2 --seed 1 --output_dir digits
        COLLECT -t pgd --severity 3 --record_input_gradient 1 --epochs 2 --augment flip_crop --optimizer sgd \
            --lr_schedule onecycle --judge_every_epoch 1 --judge_instances 40 --seeds 2 3 --output_dir seeds
        data_statistics.py --config seeds/seed2/*tpgd*.json --epochs 1 --output_dir again
        new_fine_tune_flooding/new_fine_tune_flooding.py TUNE --b 1 --seeds 1 2 --output_dir tuned/flooding_seed{seed}
        new_fine_tune_flooding/new_fine_tune_soft_label.py TUNE --seed 1 --output_dir tuned/soft_seed1
        finetune_with_select_data.py TUNE --select_metric loss_diff_mean --select_ratio 0.4 --do_balance_labels 1 \
            --do_pgd_training 1 --seed 1 --output_dir tuned/subset_seed1
        JUDGE --model_name tuned/flooding_seed1/model --output_dir tuned/flooding_seed1
        JUDGE --model_name tuned/flooding_seed2/model --output_dir tuned/flooding_seed2
        JUDGE --model_name tuned/soft_seed1/model --source_model tuned/subset_seed1/model --output_dir transfer
        scripts/compare_models.py --results_dir tuned --baseline flooding
        scripts/select_instances.py --statistics_source CLEAN --select_metric residual_r+aum --select_ratio 0.3 \
            --within_class 1 --output selected
        plot_utils/plotting.py --statistics CLEAN --colour class --csv --output map
        plot_utils/plotting.py --statistics digits/*seed1_*severity?.npy --colour flip_rate --output grid
        plot_utils/sample_images.py --statistics CLEAN --output samples
        plot_utils/report.py --statistics CLEAN --output report.html
        plot_utils/report.py --statistics seeds/*/*tpgd*.npy --output files.html
        plot_utils/training_curves.py --log seeds/seed2/log.jsonl seeds/seed3/log.jsonl --output curves
        scripts/compare_statistics.py seeds/*/*tpgd*.npy CLEAN --metric perturbed_loss_mean --output compared
        scripts/export_statistics.py --statistics CLEAN --format csv --output exported
        scripts/export_statistics.py --statistics CLEAN --format npz --per_checkpoint 1 --output exported
        scripts/import_statistics.py --logits clean.npy --perturbed_logits perturbed.npy --labels labels.npy \
            --output imported.npy""",
    "gallery": "plot_utils/perturbation_gallery.py --output_dir gallery",
    "texts": """
        data_statistics.py TEXTS --model_name bert -t pgd char_swap word_drop --severity 3 --epochs 2 \
            --statistic_interval 0.5 --lr 0.003 --seed 1 --output_dir texts
        new_fine_tune_flooding/new_fine_tune_flooding.py --statistics_source texts/*tpgd*.npy --model_name bert \
            --b 0.5 --epochs 2 --pgd_step 2 --pgd_lr 0.03 --lr 0.003 --do_attack 1 --attack_method deepwordbug \
            --num_examples 8 --seed 1 --output_dir texts/flooding
        evaluate_robustness.py TEXTS --model_name texts/flooding/model -t char_swap --severities 3 --pgd_step 2 \
            --pgd_lr 0.03 --attack_method textbugger bae --masked_lm masked_lm --num_examples 8 --output_dir judged
        plot_utils/report.py --statistics texts/*tpgd*.npy --output texts.html
        plot_utils/sample_images.py --statistics texts/*char_swap*.npy --output text_samples""",
    "recorder": "examples/own_loop.py",
    "killed": """
        killed COLLECT -t glass_blur rotate --severity 3 --epochs 5 --save_every 3 --seed 1 --output_dir killed
        COLLECT -t glass_blur rotate --severity 3 --epochs 5 --save_every 3 --seed 1 --output_dir killed""",
    "two": "two COLLECT -t glass_blur pgd --severity 3 --epochs 2 --seed 1 --output_dir two",
}
SHORT = {
    "COLLECT": "data_statistics.py --dataset_name digits --dataset_len 199 NET",
    "TUNE": "--statistics_source CLEAN NET --epochs 2 --pgd_step 2 --pgd_lr 0.03",
    "JUDGE": "evaluate_robustness.py --dataset_name digits -t common --severities 3 --max_instances 60 --pgd_step 3"
    " --pgd_lr 0.03 --linf_eps 8/255 --memory_format contiguous",
    "NET": "--model_name small_cnn --memory_format contiguous",
    "TEXTS": "--dataset_name glue --task_name sst2 --data_dir data",
    "CLEAN": "digits/*seed1_*tglass_blur_severity3.npy",
}
# Keys of JSON, columns of tables and terms of pages that tell when, how fast and by what.
UNCOUNTED = r"(?:\w*seconds|finished|saved|versions|peak_memory\w*|\w+_per_second)"


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    parser.add_argument("revision", help="what git calls it, such as HEAD")
    parser.add_argument("--only", nargs="+", choices=COMMANDS, default=list(COMMANDS), help="these parts")
    return parser


def main(args: argparse.Namespace) -> None:
    commands = [line.strip() for part in args.only for line in COMMANDS[part].strip().splitlines()]
    with tempfile.TemporaryDirectory() as temporary:
        tree, inputs = Path(temporary) / "tree", Path(temporary) / "inputs"
        write_inputs(inputs)
        subprocess.run(["git", "worktree", "add", "-q", "--detach", tree, args.revision], cwd=ROOT, check=True)
        try:
            here, there = (outputs(root, commands, inputs, Path(temporary) / "run") for root in (ROOT, tree))
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", tree], cwd=ROOT, check=True)
    found = {name: difference(here.get(name), there.get(name)) for name in sorted(here.keys() | there.keys())}
    different = [f"{name}: {what}" for name, what in found.items() if what]
    print(*different, f"same_outputs: {len(different)} of {len(found)} outputs differ", sep="\n")
    if different:
        raise SystemExit(1)


def write_inputs(folder: Path) -> None:
    """Tiny models of texts, sentences, and logits of another training loop."""
    import numpy as np

    from robust_data.tests import text_models

    folder.mkdir()
    text_models.save_bert(folder / "bert")
    text_models.save_masked_lm(folder / "masked_lm")
    text_models.write_sst2(folder / "data")
    draws = np.random.default_rng(0)
    for name in ("clean", "perturbed"):
        np.save(folder / f"{name}.npy", draws.normal(size=(3, 50, 4)).astype(np.float32))
    np.save(folder / "labels.npy", np.arange(50) % 4)


def outputs(tree: Path, commands: list[str], inputs: Path, folder: Path) -> dict[str, dict[str, Any]]:
    """What the commands of a tree leave behind, output by output; the folder is removed."""
    started = time.monotonic()
    folder.mkdir()
    try:
        subprocess.run(["cp", "-R", f"{inputs}/.", folder], check=True)
        given = {path.relative_to(folder) for path in folder.rglob("*")}
        found = {}
        for command in commands:
            if failure := run(tree, command, folder):
                print(f"{tree}: {command}\n{failure}", file=sys.stderr)
                found[command] = {"fails": tree}  # which differs from what the other tree has, where it fails in both
        written = [path for path in sorted(folder.rglob("*")) if path.relative_to(folder) not in given]
        return found | {path.relative_to(folder).as_posix(): content(path) for path in written if path.is_file()}
    finally:
        subprocess.run(["rm", "-r", folder], check=True)
        print(f"{tree}: {time.monotonic() - started:.0f} s", file=sys.stderr)


def run(tree: Path, command: str, folder: Path) -> str:
    """Run a line of COMMANDS in the folder; what it says where it fails, and else nothing."""
    from robust_data.tests import processes

    for name, meaning in SHORT.items():
        command = command.replace(name, meaning)
    words = [found for word in command.split() for found in expanded(word, folder)]
    how = words.pop(0) if words[0] in ("killed", "two") else ""
    script, arguments = tree / words[0], words[1:]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "SOURCE_DATE_EPOCH": "0", "MPLBACKEND": "Agg"}
    if how == "killed":
        log = folder / arguments[-1] / "log.jsonl"
        process = processes.start(script, *arguments, cwd=folder, env=environment)
        while process.poll() is None and not (log.exists() and log.stat().st_size):
            time.sleep(0.01)
        process.kill()
        return "" if process.wait() == -9 else "ended before it was killed"
    start = (lambda *given, **more: processes.run_together(2, *given, **more)) if how == "two" else processes.run
    done = start(script, *arguments, cwd=folder, env=environment)
    return f"status {done.returncode}: {done.stderr[-1000:]}" if done.returncode else ""


def expanded(word: str, folder: Path) -> list[str]:
    """A pattern's files, as a shell has them."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.glob(word)) if "*" in word else [word]


def content(path: Path) -> dict[str, Any]:
    """What counts of an output, by the name of each part of it."""
    if path.suffix in (".json", ".jsonl"):
        lines = [path.read_text()] if path.suffix == ".json" else path.read_text().splitlines()
        return dict(parts([json.loads(line) for line in lines]))
    if path.suffix == ".csv":
        with open(path, newline="") as file:
            return dict(parts(list(csv.DictReader(file))))
    data = path.read_bytes()
    if path.suffix == ".html":
        data = re.sub(rf"<dt>{UNCOUNTED}</dt><dd>.*?</dd>".encode(), b"", data)
    return {"bytes": hashlib.sha256(data).hexdigest()}


def parts(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The values within lists and objects, but for those that do not count."""
    if isinstance(value, (dict, list)):
        for key, one in value.items() if isinstance(value, dict) else enumerate(value):
            if not re.fullmatch(UNCOUNTED, str(key)):
                yield from parts(one, f"{name}.{key}".lstrip("."))
    else:
        yield name, value


def difference(here: dict[str, Any] | None, there: dict[str, Any] | None) -> str:
    """In which parts two outputs differ, here before there, or who lacks it; nothing if they do not."""
    if here is None or there is None:
        return f"only {'there' if here is None else 'here'}"
    values = {name: (here.get(name, "-"), there.get(name, "-")) for name in here | there}
    told = [f"{name} {one!s:.40} | {other!s:.40}" for name, (one, other) in values.items() if str(one) != str(other)]
    if not told and list(here) != list(there):
        return "the order of its keys"
    return ", ".join(told[:3]) + (f" and {len(told) - 3} more" if len(told) > 3 else "")


if __name__ == "__main__":
    run_script(build_parser(), main)
