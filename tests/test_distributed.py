"""Masks of several processes."""

import subprocess
import sys

import pytest
import torch

from sparsedd import Mask, distributed

RANK = """
import sys
import torch
from torch import distributed as dist
from sparsedd import Mask, distributed
rank, file, same, calls = int(sys.argv[1]), sys.argv[2], sys.argv[3] == "same", sys.argv[4]
dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
mask = Mask({"w": torch.tensor([True, same or rank == 0])})
if calls == "both" or rank == 0:
    try:
        distributed.agree(mask, timeout=60 if calls == "both" else 1)
        print("agreed")
    except RuntimeError as error:
        print(error)
"""


def ranks(tmp_path, same, calls="both"):
    """What each of two processes prints."""
    command = [sys.executable, "-c", RANK]
    running = [
        subprocess.Popen([*command, str(rank), str(tmp_path / "group"), same, calls], stdout=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    return [process.communicate(timeout=300)[0] for process in running]


def test_equal_masks_agree(tmp_path):
    assert ranks(tmp_path, "same") == ["agreed\n"] * 2


def test_different_masks_raise_on_every_rank(tmp_path):
    for printed in ranks(tmp_path, "different"):
        assert "the ranks have different masks: rank 0 has" in printed


def test_a_rank_that_does_not_come_is_not_waited_for(tmp_path):
    assert "not every rank called agree" in ranks(tmp_path, "same", "one")[0]


def test_one_process_agrees_with_itself():
    distributed.agree(Mask({"w": torch.tensor([True])}))


def test_only_masks_are_compared():
    with pytest.raises(TypeError, match="got dict"):
        distributed.agree({"w": torch.tensor([True])})
