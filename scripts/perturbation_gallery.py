#!/usr/bin/env python3
"""Draw the contact sheets of the perturbations, as `plot_utils/perturbation_gallery.py` does."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from plot_utils.perturbation_gallery import build_parser, main
from robust_data.command_line.parser import run_script

if __name__ == "__main__":
    run_script(build_parser(), main)
