"""Masks, scores, rewinds and experiments of several processes: what each does is in ranks.py."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import ranks
import torch

from sparsedd import Mask, distributed
from sparsedd.experiments import run

PROGRAM = str(Path(ranks.__file__))
SCENES = ("scored", "loop", "sweep", "disagree", "absent")


def torchrun(size: int, out: Path, *scenes: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={size}", PROGRAM, str(out)]
    return subprocess.run([*command, *scenes], capture_output=True, text=True, timeout=timeout)


def seen(out: Path, scene: str, rank: int):
    return json.loads((out / f"{scene}.{rank}.json").read_text())


@pytest.fixture(scope="module", params=[2, 3])
def world(request, tmp_path_factory):
    """The scenes in processes of one machine: how many, and what each rank saw of a scene."""
    out = tmp_path_factory.mktemp("ranks")
    done = torchrun(request.param, out, *SCENES)
    assert done.returncode == 0, done.stderr[-5000:]
    return request.param, out, lambda scene: [seen(out, scene, rank) for rank in range(request.param)]


def test_scores_and_masks_are_equal_on_all_ranks(world):
    size, _, every = world
    first, *others = every("scored")
    assert all(other["seen"] == first["seen"] for other in others)
    assert set(first["seen"]) == {f"{score} {scope}" for score in ranks.SCORES for scope in ("global", "layer")}
    assert len({mask for masks in first["seen"].values() for mask in masks[:2]}) == 12  # none is another's by accident
    assert all(rank["mean"] for rank in every("scored"))


def test_gradients_of_the_ranks_own_data_are_found_out_on_all_ranks(world):
    size, _, every = world
    assert len({rank["own"] for rank in every("scored")}) == size
    assert all("the ranks have different masks: rank 0 has" in rank["local"] for rank in every("scored"))


def test_a_loop_of_ones_own_is_the_same_on_all_ranks(world):
    size, out, every = world
    first, *others = every("loop")
    assert all(other == first for other in others)
    for seen in first.values():
        assert all(holds for *_, holds, _ in seen["records"])
        masks, rewound, trained, _, distances = zip(*seen["records"], strict=True)
        assert len(set(masks)) == len(set(trained)) == 3
        assert rewound[1] == rewound[2]
        assert len(set(distances)) == 3
        assert seen["loaded"]
        assert seen["again"]
    assert len(list(out.glob("*.safetensors"))) == 3 * 4


def test_two_ranks_with_the_same_data_train_as_one_process_does(world, tmp_path, monkeypatch):
    size, _, every = world
    if size == 2:  # the mean of two equal gradients is that gradient, to the last bit
        monkeypatch.setattr(ranks, "DistributedDataParallel", Alone)
        monkeypatch.setattr(ranks.dist, "barrier", lambda: None)
        alone = ranks.loop(0, 1, tmp_path)
        assert json.loads(json.dumps(alone)) == every("loop")[0]


class Alone(torch.nn.parallel.DataParallel):
    """What DistributedDataParallel is to one process without a group."""

    def __init__(self, module, **options):
        super().__init__(module)


def test_an_experiment_is_run_once_and_is_equal_on_all_ranks(world, tmp_path):
    size, out, every = world
    first, *others = every("sweep")
    assert all((other["levels"], other["file"]) == (first["levels"], first["file"]) for other in others)
    assert sorted(level for rank in every("sweep") for level in rank["made"]) == [0, 1, 2]
    assert len(list((out / "runs").rglob("levels.jsonl"))) == 1
    assert not list((out / "runs").rglob("*tmp*"))
    alone = [replace(level, seconds=0.0).to_json() for level in run(ranks.SWEEP, tmp_path)]
    assert [{**level, "seconds": 0.0} for level in first["levels"]] == json.loads(json.dumps(alone))


def test_different_masks_raise_on_every_rank(world):
    size, _, every = world
    for rank in every("disagree"):
        for odd, (message, seconds) in enumerate(rank["seen"]):
            assert message.startswith("RuntimeError: the ranks have different masks: rank 0 has")
            digests = [ranks.a_mask(k == odd).digest()[:12] for k in range(size)]
            assert ", ".join(f"rank {k} has {digest}" for k, digest in enumerate(digests)) in message
            assert seconds < 30
        assert len(rank["seen"]) == size
        assert rank["sent"] == "returned None"
        assert rank["same"]


def test_a_rank_that_does_not_come_is_not_waited_for_and_hears_of_it(world):
    size, _, every = world
    *prompt, late = every("absent")
    for rank in prompt:
        assert rank["seen"][0] == rank["seen"][2]
        assert rank["seen"][0].startswith("RuntimeError: not every rank called agree within 1 s: there is no word from rank ")
        assert f"rank {size - 1}" in rank["seen"][0]
        assert rank["seconds"] < 3
    assert late["seen"][0] == late["seen"][2]
    assert "RuntimeError: not every rank called agree in time: rank 0 has given up waiting" in late["seen"][0]
    assert late["seconds"] < 10
    for rank in (*prompt, late):
        assert rank["seen"][1] == "returned None"
        assert rank["total"] == [float(size)] * 3


@pytest.mark.parametrize("scene", ["dead_first", "dead_last"])
def test_a_dead_rank_is_not_waited_for(tmp_path, scene):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "3"}
    command = [sys.executable, PROGRAM, str(tmp_path), scene]
    processes = [
        subprocess.Popen(command, env=os.environ | address | {"RANK": str(rank)}, stderr=subprocess.DEVNULL)
        for rank in range(3)
    ]
    dead = 0 if scene == "dead_first" else 2
    try:
        assert [process.wait(120) for process in processes][dead] == 7
    finally:
        for process in processes:
            process.kill()
    for rank in {0, 1, 2} - {dead}:
        found = seen(tmp_path, scene, rank)
        assert found["seen"].startswith("RuntimeError: not every rank called agree within 3 s: there is no word from ")
        assert found["seen"].endswith("rank 2." if dead else "the rank that holds the store.")
        assert found["seconds"] < 10


@pytest.mark.long
def test_torchrun_ends_when_a_rank_dies(tmp_path):
    done = torchrun(3, tmp_path, "dead_last", timeout=120)
    assert done.returncode == 1
    assert "exitcode  : 7" in done.stderr


def test_one_process_agrees_with_itself():
    distributed.agree(Mask({"w": torch.tensor([True])}))


def test_arguments_are_checked():
    with pytest.raises(TypeError, match="type dict"):
        distributed.agree({"w": torch.tensor([True])})
    for wrong, error in ((0, ValueError), (float("inf"), ValueError), ("30", TypeError)):
        with pytest.raises(error, match="timeout must be"):
            distributed.agree(Mask({"w": torch.tensor([True])}), timeout=wrong)
