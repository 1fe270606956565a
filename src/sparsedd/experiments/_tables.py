"""Tables: tidy CSV files, a row for each seed and level."""

import csv
import io
import os
from collections.abc import Iterable, Mapping

from sparsedd import _files
from sparsedd.experiments._experiment import Experiment
from sparsedd.experiments._level import Level

COLUMNS = (
    "experiment",
    "scale",
    "seed",
    "level",
    "sparsity",
    "remaining",
    "train_accuracy",
    "test_accuracy",
    "best_test_accuracy",
    "clean_accuracy",
    "flipped_accuracy",
    "learning_distance",
    "train_loss",
    "test_loss",
    "seconds",
)


def write_levels(path: str | os.PathLike[str], results: Mapping[Experiment, Iterable[Level]]) -> None:
    """Write ``levels.csv``: a row for each experiment (one seed) and level. A measure that is undefined stays empty."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for experiment, levels in results.items():
        for level in levels:
            row = {"experiment": experiment.name, "scale": experiment.scale, "seed": experiment.seed} | vars(level)
            table.writerow(["" if row[column] is None else row[column] for column in COLUMNS])
    _files.write(path, text.getvalue().encode())
