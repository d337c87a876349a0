#!/usr/bin/env python3
"""Rebuild study/README.md and its figures from the kept results of the study, offline, and print the verdicts.

A block of which a run is missing is named, and decides nothing. Where the statistics are complete, the scores of every
instance are published beside the results.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from robust_data import files
from robust_data.command_line.parser import Parser, run_script


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    parser.add_argument("--results_dir", default="study/results", metavar="FOLDER", help="default: %(default)s")
    parser.add_argument("--output", default="study/README.md", metavar="FILE", help="the page; default: %(default)s")
    return parser


def main(args: argparse.Namespace) -> None:
    # numpy and matplotlib are imported once the arguments are right.
    from robust_data.study import page, published
    from robust_data.study.results import Results

    results, output = Results(Path(args.results_dir)), Path(args.output)
    files.output_folder(str(output.parent), "--output")
    made = page.Page(results, output)
    text = "\n".join(made.lines())
    with files.atomic_write(output, "w") as file:
        file.write(text)
    for data, found in made.contrasts.items():
        for line in page.told(found):
            print(f"{data} {line}")
    for line in page.told(made.controls.values()):
        print(f"images control, {line}")
    for path in (output, *published.write_scores(results)):
        print(f"saved {path}")


if __name__ == "__main__":
    run_script(build_parser(), main)
