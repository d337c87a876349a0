"""`robust-data COMMAND ...`, also `python -m robust_data`: the scripts by short names, with their own options."""

from __future__ import annotations

import importlib
import sys

from robust_data import __version__
from robust_data.registry import nearest, shown

# The path of each script without its ending, and what it does.
COMMANDS = {
    "collect": ("data_statistics", "train, and record every training instance, clean and perturbed"),
    "map": ("plot_utils/plotting", "draw the robust data map"),
    "samples": ("plot_utils/sample_images", "show robust, swing and non-robust instances of each class"),
    "report": ("plot_utils/report", "write one HTML page to explore statistics files"),
    "curves": ("plot_utils/training_curves", "draw the losses of runs, and of groups of instances"),
    "choose": ("scripts/select_instances", "write which instances a metric or a group chooses"),
    "flood": ("new_fine_tune_flooding/new_fine_tune_flooding", "fine-tune with flooding of the chosen instances"),
    "soft-label": ("new_fine_tune_flooding/new_fine_tune_soft_label", "the same with soft labels"),
    "fine-tune": ("finetune_with_select_data", "train on one group of instances"),
    "judge": ("evaluate_robustness", "accuracy clean, attacked, perturbed, and on CIFAR-10-C"),
    "compare": ("scripts/compare_models", "put judged models beside one another"),
    "compare-statistics": ("scripts/compare_statistics", "put statistics files of the same data beside one another"),
    "import": ("scripts/import_statistics", "make a statistics file of logits from your own training"),
    "export": ("scripts/export_statistics", "write all metrics of all instances as CSV or arrays"),
    "convert": ("scripts/convert_statistics", "from and to the older repositories' pickled statistics"),
    "perturb": ("scripts/perturb_dataset", "write images or texts perturbed, as CIFAR-10-C and ImageNet-C are"),
    "gallery": ("plot_utils/perturbation_gallery", "draw examples of each family of perturbations"),
}


def main() -> None:
    command, *line = sys.argv[1:] or ["--help"]
    if command in ("-h", "--help"):
        print("usage: robust-data COMMAND [options]\n\nrobust-data COMMAND --help shows the options of a command.\n")
        print("\n".join(f"  {name:20}{purpose}" for name, (_, purpose) in COMMANDS.items()))
    elif command == "--version":
        print(f"robust-data {__version__}")
    elif command in COMMANDS:
        run(command, line)
    else:
        told = f"unknown command '{command}'; nearest: {', '.join(nearest(command, COMMANDS))}"
        told += ". Shell scripts, study/ and benchmarks/ are in the repository alone: clone it"
        print(f"robust-data: error: {shown(told)}", file=sys.stderr)
        raise SystemExit(2)


def run(command: str, line: list[str]) -> None:
    """Run the script of a command as if it had been started by its path, under the command's name."""
    from robust_data.command_line.parser import run_script

    path, _ = COMMANDS[command]
    script = importlib.import_module(f"robust_data.{path.replace('/', '.')}")
    sys.argv = [f"robust-data {command}", *line]
    parser = script.build_parser()
    parser.prog = sys.argv[0]
    parser.description = parser.description.replace(f"python {path}.py", parser.prog)
    run_script(parser, script.main)


if __name__ == "__main__":
    main()
