"""Tables: tidy CSV files, a row for each seed and level, epoch or point."""

import csv
import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal, Self

from sparsedd import _checks, _files
from sparsedd.experiments._experiment import Experiment
from sparsedd.experiments._labels import make_labels
from sparsedd.experiments._redense import Line
from sparsedd.sweeps._json import check_number
from sparsedd.sweeps._record import Curves, Record

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
    "diverged",
)
MEASURES = ("train_accuracy", "test_accuracy", "train_loss", "test_loss")
EPOCH_COLUMNS = ("experiment", "scale", "seed", "level", "training", "epoch", *MEASURES)
LINE_COLUMNS = ("experiment", "scale", "seed", "level", "line", "alpha", *MEASURES)
NEEDED = ("experiment", "seed", "level", "sparsity", "train_accuracy", "test_accuracy")  # what phases need of levels.csv
ABSENT = {"scale": "", "diverged": 0}  # what stands for a column that is not there, where it is not None
WORDS = ("experiment", "scale", "training", "line")  # the columns that are not numbers
WHOLE = ("seed", "level", "epoch", "remaining", "diverged")

Row = dict[str, Any]


@dataclass
class Tables:
    """The rows of ``levels.csv``, and of ``epochs.csv`` and ``lines.csv`` where a figure needs them.

    A table is for people and their programs to read and to change, and carries no seal: what can't be a measure is refused,
    but a row that is gone, or another digit, is not seen. The runs that it was made from are sealed.

    Attributes
    ----------
    levels
        A row for each experiment, seed and level, with a user's own measures after the columns of the standard. What is read
        needs ``experiment, seed, level, sparsity, train_accuracy, test_accuracy`` alone. ``experiment`` is its name, and what
        it differs in from others of its name (and scale) that are there:
        ``mnist-lenet_300_100-symmetric20-magnitude-ltr width=0.5``.
    epochs
        A row for each epoch of some levels; ``training`` is ``"sparse"``, or ``"re-dense"`` times the factor of its rate.
    lines
        A row for each point α of a line through the landscape; ``line`` is its name, see :class:`.Line`.
    """

    levels: list[Row] = field(default_factory=list)
    epochs: list[Row] = field(default_factory=list)
    lines: list[Row] = field(default_factory=list)
    _labels: dict[Experiment, str] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __repr__(self) -> str:
        return f"Tables({', '.join(f'{len(getattr(self, name)):,} rows of {name}' for name in TABLES)})"

    def add_levels(self, experiment: Experiment, levels: Iterable[Record]) -> None:
        """Add a row for each level."""
        _checks.kind("experiment", experiment, Experiment, "an Experiment")
        self.levels += [row for level in levels for row in level_rows(self._key(experiment), [level])]

    def _key(self, experiment: Experiment) -> Row:
        """Return the columns that say whose a row is; two experiments of one name are told apart."""
        if (one := replace(experiment, seed=0)) not in self._labels:
            before, self._labels = self._labels, make_labels([*self._labels, one])
            renamed = {(old, e.scale): self._labels[e] for e, old in before.items() if self._labels[e] != old}
            for row in chain(self.levels, self.epochs, self.lines) if renamed else ():
                row["experiment"] = renamed.get((row["experiment"], row["scale"]), row["experiment"])
        return {"experiment": self._labels[one], "scale": experiment.scale, "seed": experiment.seed}

    def add_curves(self, experiment: Experiment, level: int, training: str, curves: Curves) -> None:
        """Add a row for each epoch of the curves."""
        _checks.kind("experiment", experiment, Experiment, "an Experiment")
        head = self._key(experiment) | {"level": level, "training": training}
        for k, epoch in enumerate(curves.epoch):
            self.epochs.append(head | {"epoch": epoch} | {name: getattr(curves, name)[k] for name in MEASURES})

    def add_line(self, experiment: Experiment, level: int, line: Line) -> None:
        """Add a row for each point of the line."""
        _checks.kind("experiment", experiment, Experiment, "an Experiment")
        head = self._key(experiment) | {"level": level, "line": line.name}
        for k, alpha in enumerate(line.alpha):
            self.lines.append(head | {"alpha": alpha} | {name: getattr(line, name)[k] for name in MEASURES})

    @property
    def scale(self) -> Any:
        """The scale of the experiments, which must be the same for all.

        Raises
        ------
        ValueError
            When there are no rows, or those of several scales.
        """
        scales = sorted({row["scale"] for row in self.levels})
        if len(scales) != 1:
            raise ValueError(f"the tables must be of one scale, got {', '.join(scales) or 'no rows'}.")
        return scales[0]

    def frame(self, name: Literal["levels", "epochs", "lines"] = "levels") -> Any:
        """Return one of the tables as a ``pandas.DataFrame``, in which a missing number is NaN.

        ``pandas.DataFrame(tables.levels)`` is nearly the same, but does not know the type of a column that has no value.
        ``tables.frame().to_parquet("levels.parquet")`` writes it for other programs.

        Raises
        ------
        ImportError
            Without pandas.
        ValueError
            When a seed has more than 63 bits.

        Examples
        --------
        >>> Tables().frame("lines").dtypes["alpha"]
        dtype('float64')
        """
        _checks.one_of("name", name, tuple(TABLES))
        try:
            from pandas import DataFrame
        except ImportError as error:
            raise ImportError("a frame needs pandas: pip install 'sparsedd[parquet]'.") from error
        types = {column: _type(column, name) for column in columns_of(name, getattr(self, name))}
        try:
            return DataFrame(getattr(self, name), columns=list(types)).astype(types)
        except OverflowError as error:  # a seed of more than 63 bits
            raise ValueError(f"a frame can't hold these rows: {error}.") from error

    def write(self, out: str | os.PathLike[str]) -> list[Path]:
        """Write the files that have rows, each atomically, and return their paths; one without rows must not stay behind."""
        out, written = _checks.path("out", out), []
        for name in TABLES:
            rows, path = getattr(self, name), Path(out) / f"{name}.csv"
            if rows or name == "levels":
                write_table(path, rows, name)
                written.append(path)
            else:
                path.unlink(missing_ok=True)
        return written

    @classmethod
    def read(cls, out: str | os.PathLike[str]) -> Self:
        """Read the tables of a folder.

        Raises
        ------
        FileNotFoundError
            Without ``levels.csv``.
        ValueError
            When a column is missing or a number is none; the message names the file.
        """
        if not (_checks.path("out", out) / "levels.csv").exists():
            raise FileNotFoundError(f"there is no levels.csv in {out}: pass a folder with the tables of a figure.")
        return cls(**{name: read_rows(Path(out) / f"{name}.csv") for name in TABLES})


TABLES: dict[str, tuple[str, ...]] = {"levels": COLUMNS, "epochs": EPOCH_COLUMNS, "lines": LINE_COLUMNS}


def write_levels(path: str | os.PathLike[str], results: Mapping[Experiment, Iterable[Record]]) -> None:
    """Write ``levels.csv``: a row for each experiment (one seed) and level. A measure that is undefined stays empty."""
    tables = Tables()
    for experiment, levels in _checks.kind("results", results, Mapping, "a mapping of experiments to levels").items():
        tables.add_levels(experiment, levels)
    write_table(path, tables.levels)


def level_rows(head: Row, records: Iterable[Record], *, own: bool = False) -> Iterator[Row]:
    """Yield a row for each level; with ``own``, measures that have no column of the standard come after those that have."""
    for record in records:
        row = record.to_json() | head | {"diverged": int(record.diverged)}
        more = {n: value for n, value in record.measures.items() if n in head or n not in COLUMNS} if own else {}
        renamed = {f"measured_{n}" if n in head else n: value for n, value in more.items()}
        yield {name: row.get(name) for name in COLUMNS} | renamed


def columns_of(name: str, rows: Iterable[Row]) -> list[str]:
    """Return the columns of a table: the standard's, and those of a user's own measures."""
    return list(dict.fromkeys(chain(TABLES[name], *rows)))


def write_table(path: str | os.PathLike[str], rows: Sequence[Row], name: str = "levels") -> None:
    """Write one of the tables as a CSV file."""
    columns = columns_of(name, rows)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(columns)
    table.writerows(["" if row.get(column) is None else row[column] for column in columns] for row in rows)
    _files.write(path, text.getvalue().encode())


def read_rows(path: Path) -> list[Row]:
    """Read the rows of one of the tables, none where there is no file."""
    columns = TABLES[path.stem]
    if not path.exists():
        return []
    try:
        found, rows = _csv(path.read_bytes())
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path} is not a table: {error}.") from error
    missing = sorted(set(NEEDED if path.stem == "levels" else columns) - set(found))
    if missing or len(set(found)) != len(found):
        raise ValueError(f"{path} has no column {', '.join(missing)}." if missing else f"{path} has a column twice.")
    try:
        if any(None in row or None in row.values() for row in rows):
            raise ValueError("a row has more or fewer fields than there are columns")
        own = [
            name for name in found if path.stem == "levels" and name not in columns and all(_is_number(r[name]) for r in rows)
        ]
        return [
            {name: _value(name, row[name]) if name in found else ABSENT.get(name) for name in columns}
            | {name: _value(name, row[name], own=True) for name in own}
            for row in rows
        ]
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"{path} is not a table of numbers: {error}.") from error


def _csv(data: bytes) -> tuple[list[str], list[dict[str, str]]]:
    reader = csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""))
    return list(reader.fieldnames or ()), list(reader)


def _type(column: str, table: str) -> str:
    known = column in TABLES[table]
    return "str" if known and column in WORDS else "int64" if known and column in WHOLE else "float64"


def _is_number(text: str) -> bool:
    try:
        float(text or 0)
    except ValueError:
        return False
    return True


def _value(column: str, text: str, *, own: bool = False) -> Any:
    if column in WORDS and not own:
        return text
    whole = column in WHOLE and not own
    if not text and not whole:
        return None
    value = int(text) if whole else float(text)
    check_number(column, value)
    return value
