import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
large = pytest.importorskip("large", reason="the benchmarks are not here")


@pytest.mark.parametrize("name", large.OPERATIONS)
def test_every_operation_on_a_large_net_is_measured_on_a_small_one(name):
    row = large.measure(name, millions=1, rounds=1)
    assert row["operation"] == name
    assert row["passes of `w != 0`"] > 0
    assert row["bytes a weight"] >= 0
