"""Put what runs have finished into a folder of results: tables, picture and claims of a figure.

    python results/collect.py mnist-paper 4 --runs runs

Sweeps that the runs have not, or not yet to the last level, are taken from the other tables of the folder.
"""

import argparse
import re
from dataclasses import replace
from pathlib import Path

from sparsedd.cli import main
from sparsedd.experiments import FIGURES, PRESETS, Store, Tables


def collect(folder: Path, number: str, runs: Path, unfinished: bool = False, most: int = 5) -> None:
    """Write the tables of a figure's finished sweeps, the first seeds of each, and draw and judge them."""
    preset, scale = re.search(r"--on (\S+) --scale (\S+)", (folder / "README.md").read_text()).groups()
    figure = FIGURES[number].on(PRESETS[preset]).scaled(scale)
    if figure.drawing.needs:
        raise SystemExit(f"Figure {number} needs more than levels: sparsedd figure {number} with --runs computes and draws it.")
    others = [row for path in sorted(folder.glob("*/levels.csv")) for row in Tables.read(path.parent).levels]
    tables = Tables()
    for experiment in figure.experiments:
        before = len(tables.levels)
        for seed in range(most):
            levels = Store(runs, replace(experiment, seed=seed)).levels()
            there = {row["level"]: row for row in others if (row["experiment"], row["seed"]) == (experiment.name, seed)}
            if len(levels) == experiment.levels or (levels and unfinished):
                tables.add_levels(replace(experiment, seed=seed), levels)
            elif len(there) == experiment.levels:
                tables.levels += there.values()
        if len(tables.levels) == before:
            raise SystemExit(f"Figure {number} needs {experiment.name}, of which no seed is finished.")
    for row in tables.levels:
        row["seconds"] = row["seconds"] and round(row["seconds"], 1)
    tables.write(folder / number)
    raise SystemExit(main(["figure", number, "--on", preset, "--from", str(folder / number)]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", help="a folder beside this script")
    parser.add_argument("number", choices=FIGURES, metavar="N")
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--unfinished", action="store_true", help="take sweeps that have not all levels, to have a look")
    options = parser.parse_args()
    collect(Path(__file__).parent / options.family, options.number, options.runs, options.unfinished)
