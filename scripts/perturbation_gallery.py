#!/usr/bin/env python3
"""Draw the contact sheets of the perturbations, as `plot_utils/perturbation_gallery.py` does."""

import signal

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # Ctrl-C while the imports below take their moment ends the script without a traceback; see `run_script`.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import sys
from pathlib import Path

# The script also starts from its own folder, where the packages beside it would not be found.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from plot_utils.perturbation_gallery import build_parser, main
from robust_data.command_line.parser import run_script

if __name__ == "__main__":
    run_script(build_parser(), main)
