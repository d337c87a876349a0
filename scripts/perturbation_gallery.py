#!/usr/bin/env python3
"""Draw the contact sheets of the perturbations, as `plot_utils/perturbation_gallery.py` does."""

from robust_data.command_line.parser import run_script
from robust_data.plot_utils.perturbation_gallery import build_parser, main

if __name__ == "__main__":
    run_script(build_parser(), main)
