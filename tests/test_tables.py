"""Tables: what is written is what is read."""

import math
import tempfile

from hypothesis import given
from hypothesis import strategies as st

from sparsedd.experiments import Curves, Experiment, Level, Tables

SHARE = st.floats(0, 1)
NUMBER = st.none() | st.floats(0, allow_nan=False, allow_infinity=False)
ANY = st.floats()
CURVES = st.lists(st.tuples(st.integers(1, 10**6), SHARE, SHARE, ANY, ANY), min_size=1, max_size=4).map(Curves.of)
LEVELS = st.builds(
    Level,
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


@given(LEVELS)
def test_a_level_is_its_json(level):
    assert Level.from_json(level.to_json()) == level
