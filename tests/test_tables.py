"""Tables: what is written is what is read."""

import math
import subprocess
import sys
import tempfile
from dataclasses import replace
from fractions import Fraction
from itertools import permutations
from pathlib import Path

import pandas
import pytest
from helpers import record
from hypothesis import given
from hypothesis import strategies as st

from sparsedd import Pruner
from sparsedd.experiments import Curves, Experiment, Line, Record, Tables
from sparsedd.experiments._figures._measures import Levels
from sparsedd.experiments._labels import make_labels

SHARE = st.floats(0, 1)
NUMBER = st.none() | st.floats(0, allow_nan=False, allow_infinity=False)
ANY = st.floats()
CURVES = st.lists(st.tuples(st.integers(1, 10**6), SHARE, SHARE, ANY, ANY), min_size=1, max_size=4).map(Curves.of)
CURVE = Curves((1,), (1.0,), (1.0,), (0.1,), (0.1,))
LEVELS = st.builds(
    record,
    level=st.integers(0, 99),
    sparsity=SHARE,
    remaining=st.integers(0, 10**12),
    train_accuracy=SHARE,
    test_accuracy=SHARE,
    best_test_accuracy=SHARE,
    best_epoch=st.integers(1, 10**6),
    clean_accuracy=st.none() | SHARE,
    flipped_accuracy=st.none() | SHARE,
    learning_distance=NUMBER,
    train_loss=NUMBER,
    test_loss=NUMBER,
    seconds=st.floats(0, 1e9),
    epochs=CURVES,
)


@given(st.lists(LEVELS, max_size=4), CURVES, st.integers(0, 2**31))
def test_tables_are_read_as_they_were_written(levels, curves, seed):
    tables, experiment = Tables(), Experiment(seed=seed)
    tables.add_levels(experiment, levels)
    tables.add_curves(experiment, 3, "sparse", curves)
    with tempfile.TemporaryDirectory() as out:
        tables.write(out)
        read = Tables.read(out)
    assert read == tables
    assert [row["diverged"] for row in read.levels] == [level.diverged for level in levels]
    numbers = [value for row in (*read.levels, *read.epochs) for value in row.values() if isinstance(value, float)]
    assert all(map(math.isfinite, numbers))


def test_experiments_of_one_name_are_told_apart():
    """As soon as there are two, whatever their order; what has a name of its own keeps it."""
    names = ("train_accuracy", "test_accuracy", "best_test_accuracy", "best_epoch", "train_loss", "test_loss")
    measures = dict.fromkeys(names, 1.0) | {"clean_accuracy": None, "flipped_accuracy": None}
    level = Record(0, 0.0, 9, 1.0, 1.0, measures, CURVE)
    plain = Experiment(levels=3)
    others = [replace(plain, width=0.5, seed=1), replace(plain, pruner=Pruner(fraction=Fraction(1, 5)))]
    clean, smoke = replace(plain, noise=None), plain.scaled("smoke")
    small = [replace(plain, scale="small"), replace(plain, scale="small", seed=3)]
    for order in permutations([plain, *others]):
        tables = Tables()
        for e in [clean, smoke, *small, *order]:
            tables.add_levels(e, [level])
            tables.add_curves(e, 0, "sparse", CURVE)
            tables.add_line(e, 0, Line("direction 0", (0.0,), (1.0,), (1.0,), (None,), (None,)))
        for rows in (tables.levels, tables.epochs, tables.lines):
            found = {row["experiment"] for row in rows if row["scale"] == "paper"}
            assert found == {
                clean.name,
                f"{plain.name} width=1.0 pruner.fraction=0.2",
                f"{plain.name} width=0.5 pruner.fraction=0.2",
                f"{plain.name} width=1.0 pruner.fraction=Fraction(1, 5)",
            }
            assert {row["experiment"] for row in rows if row["scale"] != "paper"} == {plain.name, smoke.name}
            assert [row["seed"] for row in rows if "width=0.5" in row["experiment"]] == [1]
        for e, name in make_labels([plain, *others, clean]).items():
            assert Levels.of([row for row in tables.levels if row["scale"] == "paper"], name).seeds == (e.seed,)


@given(LEVELS)
def test_a_level_is_its_json(level):
    assert Record.from_json(level.to_json()) == level


# ---------------------------------------------------------------- pandas

RESULTS = Path(__file__).parent.parent / "results"


def filled(levels: list[Record], curves: Curves) -> Tables:
    tables, experiment = Tables(), Experiment(seed=5)
    tables.add_levels(experiment, levels)
    tables.add_curves(experiment, 3, "re-dense", curves)
    n = len(curves.epoch)
    measures = {name: values for name, values in vars(curves).items() if name != "epoch"}
    tables.add_line(experiment, 2, Line("interpolation", tuple(k / n for k in range(n)), **measures))
    return tables


def kinds(frame: pandas.DataFrame) -> dict[str, str]:
    """The kind of each column: "i", "f", or "O" for words."""
    return {name: "O" if pandas.api.types.is_string_dtype(t) else t.kind for name, t in frame.dtypes.items()}


@given(st.lists(LEVELS, min_size=1, max_size=4), CURVES)
def test_the_rows_are_ready_for_pandas(levels, curves):
    tables = filled(levels, curves)
    for name in ("levels", "epochs", "lines"):
        rows, frame = getattr(tables, name), tables.frame(name)
        assert list(frame.columns) == list(rows[0])
        found = kinds(frame)
        for kind, columns in (("O", "experiment scale training line"), ("i", "seed level epoch remaining diverged")):
            assert {column for column, other in found.items() if other == kind} == {*columns.split()} & {*found}
        assert {*found.values()} == {"O", "i", "f"}
        plain = pandas.DataFrame(rows)  # without us: the same, but where a column has no value at all
        some = [column for column in frame if not frame[column].isna().all()]
        pandas.testing.assert_frame_equal(plain[some], frame[some], check_dtype=False)
        assert kinds(plain[some]) == kinds(frame[some])
        for row, (_, read) in zip(rows, frame.iterrows(), strict=True):
            assert all(math.isnan(read[name]) if value is None else read[name] == value for name, value in row.items())


def test_a_table_without_rows_has_its_columns():
    frame = Tables().frame("epochs")
    assert len(frame) == 0
    assert kinds(frame)["epoch"] == "i"
    assert kinds(frame)["train_loss"] == "f"


@pytest.mark.parametrize("folder", [p.parent for p in sorted(RESULTS.rglob("levels.csv"))][:3], ids=lambda p: p.name)
def test_a_frame_becomes_parquet_that_holds_what_the_csv_holds(folder, tmp_path):
    frame, theirs = Tables.read(folder).frame(), pandas.read_csv(folder / "levels.csv")
    frame.to_parquet(tmp_path / "levels.parquet")
    ours = pandas.read_parquet(tmp_path / "levels.parquet")
    pandas.testing.assert_frame_equal(ours, frame)
    assert {*ours.columns} - {*theirs.columns} <= {"diverged"}  # which an older table has not
    pandas.testing.assert_frame_equal(ours[list(theirs.columns)], theirs, check_dtype=False, check_exact=True)


def test_a_table_that_lost_its_rows_leaves_no_file_behind(tmp_path):
    tables = filled([], Curves((1,), (1.0,), (1.0,), (0.0,), (None,)))
    assert [path.name for path in tables.write(tmp_path)] == ["levels.csv", "epochs.csv", "lines.csv"]
    Tables().write(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"levels.csv"}


def test_a_number_that_a_frame_can_not_hold_is_refused():
    tables = Tables()
    tables.add_curves(Experiment(seed=2**64), 0, "sparse", Curves((1,), (1.0,), (1.0,), (0.0,), (0.0,)))
    with pytest.raises(ValueError, match="a frame can't hold these rows"):
        tables.frame("epochs")


def test_a_table_that_a_spreadsheet_has_saved_is_read(tmp_path):
    tables = filled([], Curves((1,), (1.0,), (1.0,), (0.0,), (None,)))
    for path in tables.write(tmp_path):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert Tables.read(tmp_path) == tables


def test_without_the_extra_a_frame_says_what_to_install():
    code = """import sys
sys.modules["pandas"] = None
from sparsedd.experiments import Tables
try:
    Tables().frame()
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "a frame needs pandas: pip install 'sparsedd[parquet]'.", done.stderr
