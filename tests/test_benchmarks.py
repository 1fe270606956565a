import subprocess
import sys
from importlib import import_module
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


def test_launches_are_counted():
    launches = import_module("launches")
    own, enforced = (launches.row(f"LeNet-300-100, {loop}") for loop in ("a plain loop", "enforced"))
    assert 15 < own["launches"] == enforced["launches"] - 1
    assert own["waits"] == enforced["waits"] == enforced["uploads"] == 0


@pytest.mark.long
def test_what_waits_for_a_gpu_runs_on_a_pretended_one(tmp_path):
    pytest.importorskip("torchvision")
    command = [sys.executable, "gpu.py", "--smoke", str(tmp_path)]
    done = subprocess.run(command, cwd=Path(large.__file__).parent, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout
    assert {path.stem for path in (tmp_path / "gpu").iterdir()} == {"fleet", "images", "launches", "prune", "steps", "tests"}
