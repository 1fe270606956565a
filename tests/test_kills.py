"""Recipes of the how-tos, killed anywhere on any rank: the same command then leaves the files of one that was not."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import kills
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_how_to import HOW_TO, files

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")
COMMAND = """
from concurrent.futures import Future

import sparsedd.cli._run

class Pool:  # of this process, so that it is the one that is killed
    def __init__(self, count): ...
    def __enter__(self): return self
    def __exit__(self, *exception): ...
    def submit(self, task):
        future = Future()
        future.set_result(task())
        return future

sparsedd.cli._run.workers = Pool
assert sparsedd.cli.main("run mine.py:experiment --seeds 2 --out mine --processes 1".split()) == 0
"""
RECIPES = {  # by page: its script, its ranks, and what makes it shorter
    "own-sweep": ("train.py", 1, {"range(3)": "range(1)", "levels=5": "levels=2", "Generator(), 4": "Generator(), 2"}),
    "own-experiment": ("command.py", 1, {"n=300": "n=100", "levels=5": "levels=2", "epochs=10": "epochs=2"}),
    "loggers": ("log.py", 1, {"epochs(20": "epochs(2", "levels=3": "levels=2"}),
    "ddp": ("ddp.py", 2, {"[:1300]": "[:300]", "epochs(4": "epochs(2", "levels=4": "levels=2"}),
    "sharded": ("sharded.py", 2, {"[:1300]": "[:300]", "epochs(4": "epochs(2", "levels=3": "levels=2", "mask(2)": "mask(1)"}),
}
MOMENTS = {  # where it is killed: the rank, what it is about to do, and the how many-th time in this run
    "own-sweep": [(0, "replace", 2), (0, "AdamW", 24), (0, "replace", 3), (0, "AdamW", 22), (0, "replace", 2)],
    "own-experiment": [
        (0, "replace", 2),
        (0, "SGD", 3),
        (0, "replace", 6),
        (0, "SGD", 7),
        (0, "replace", 2),
        (0, "replace", 7),
    ],
    "loggers": [(0, "replace", 4), (0, "log", 1), (0, "Adam", 2), (0, "log", 7)],
    "ddp": [(1, "SGD", 2), (0, "replace", 2), (0, "SGD", 4), (0, "replace", 2), (0, "replace", 3)],
    "sharded": [(1, "SGD", 2), (0, "replace", 2), (0, "SGD", 4), (0, "replace", 2), (1, "SGD", 5)],
}


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """The folders of all recipes, each with the runs "whole" and "killed", in one process that imports torch once."""
    folder, plan = tmp_path_factory.mktemp("kills"), {}
    for page, (name, ranks, shorter) in RECIPES.items():
        for kind in ("whole", "killed"):
            (folder / page / kind).mkdir(parents=True)
            for file, script in ({"command.py": COMMAND} | files(HOW_TO / f"{page}.md")).items():
                for more, fewer in shorter.items():
                    assert more in script or file != name or name == "command.py"
                    script = script.replace(more, fewer)
                (folder / page / kind / file).write_text(script)
        plan[page] = name, ranks, MOMENTS[page]
    command = [sys.executable, "-W", "ignore", kills.__file__, str(folder), json.dumps(plan)]
    done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-5000:]
    return folder


def left(folder: Path) -> dict[str, bytes]:
    """What is in a folder, but for seconds, and for pictures and logs."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.name == "levels.jsonl":
            for line in path.read_text().splitlines():
                plain = json.loads(line)
                plain["level"].pop("seconds"), plain.pop("sha256")
                found[f"{path.relative_to(folder)}, {plain['level']['level']}"] = json.dumps(plain).encode()
        elif path.suffix == ".csv":
            with open(path, newline="") as file:
                rows = [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]
            found[str(path.relative_to(folder))] = json.dumps(rows).encode()
        elif path.suffix in (".safetensors", ".json") or path.is_dir() or path.name.startswith("."):
            found[str(path.relative_to(folder))] = b"" if path.is_dir() else path.read_bytes()
    return found


@pytest.mark.parametrize("page", RECIPES)
def test_a_recipe_that_was_killed_anywhere_leaves_the_same_files(out, page):
    wanted, found = left(out / page / "whole"), left(out / page / "killed")
    assert sum(name.endswith("weights.safetensors") for name in wanted) == (4 if page == "own-experiment" else 2)
    assert sorted(found) == sorted(wanted)
    assert found == wanted, [name for name in wanted if found[name] != wanted[name]]


def test_a_log_has_each_level_once(out):
    for kind in ("whole", "killed"):
        events = EventAccumulator(str(out / "loggers" / kind / "events")).Reload()
        for name in ("train_accuracy", "train_loss", "test_accuracy", "test_loss"):
            assert [event.step for event in events.Scalars(name)] == [0, 1], (kind, name)
