"""A model and all that is done to it, whole or sharded: ``twins.py RANK RANKS FOLDER`` does what lines of JSON say."""

import hashlib
import json
import sys
import warnings
from contextlib import suppress
from datetime import timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from helpers import batch, bits, net
from torch import distributed as dist
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.nn.functional import cross_entropy

from sparsedd import Mask, Pruner, Rewinder, metrics, scores
from sparsedd._shards import make_whole


class Twin:
    """Its acts are those of a machine in test_stateful. Steps see one batch on all ranks, whose mean is exact."""

    def __init__(self, folder: Path, mesh: DeviceMesh | None = None, rank: int = 0) -> None:
        self.folder, self.mesh, self.rank = folder, mesh, rank

    def begin(self, seed: int) -> None:
        self.model, self.steps, self.block, self.seed = net(seed), 0, None, seed
        for part in (self.model.conv, self.model.fc, self.model) if self.mesh else ():
            fully_shard(part, mesh=self.mesh)
        self.mask, self.start = Mask.dense(self.model), Rewinder(model=self.model)
        self.optimizer = torch.optim.SGD(self.model.parameters(), 0.05, momentum=0.9)

    def prune(self, score: str, fraction: str, scope: Any) -> None:
        pruner = Pruner(scores.random(self.seed) if score == "random" else score, Fraction(fraction), scope)  # type: ignore[arg-type]
        self.mask = pruner.prune(self.model, self.mask)
        if self.block:
            self.block.update(self.mask)

    def step(self) -> None:
        x, y = batch(self.steps)
        self.steps += 1
        self.optimizer.zero_grad()
        cross_entropy(self.model(x), y).backward()
        self.optimizer.step()

    def look(self) -> None:
        with torch.no_grad():
            self.model(batch(0)[0])  # leaves whole copies in the place of shards

    def enforce(self) -> None:
        self.block = self.mask.enforce(self.model, self.optimizer)

    def release(self) -> None:
        block, self.block = self.block, None
        block.remove()

    def apply(self) -> None:
        self.mask.apply_(self.model)

    def keep_point(self) -> None:
        self.start = Rewinder(step=self.steps, model=self.model)

    def rewind(self) -> None:
        self.start.rewind(model=self.model)

    def save_and_load(self) -> None:
        self.mask.save(self.folder / f"mask.{self.rank}")
        self.start.save(self.folder / "start")
        self.mask, self.start = Mask.load(self.folder / f"mask.{self.rank}"), Rewinder.load(self.folder / "start")

    def do(self, act: str, *arguments: Any) -> tuple[list[Any], float]:
        """What there is after an act: an error, mask, weights, momentum and files; and the learning distance."""
        error = ""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                getattr(self, act)(*arguments)
        except (ValueError, RuntimeError) as raised:
            error = f"{type(raised).__name__}: {raised}"
        parameters = list(self.model.parameters())
        buffers = [self.optimizer.state[p].get("momentum_buffer") for p in parameters if p in self.optimizer.state]
        wholes = [bits(make_whole(t.detach())) for t in (*parameters, *buffers) if t is not None]
        files = []
        for name in (f"mask.{self.rank}", "start") if act == "save_and_load" else ():
            with suppress(FileNotFoundError):
                files.append(hashlib.sha256((self.folder / name).read_bytes()).hexdigest())
        counts = self.mask.remaining, self.mask.holds(self.model), metrics.sparsity(self.model, list(self.mask))
        told = [error, self.mask.digest(), *counts, hashlib.sha256(repr(wholes).encode()).hexdigest(), files]
        return told, metrics.learning_distance(self.start["model"], self.model)


def main() -> None:
    rank, ranks, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    group = f"file://{folder}/group"
    dist.init_process_group("gloo", init_method=group, rank=rank, world_size=ranks, timeout=timedelta(seconds=60))
    twin = Twin(folder, DeviceMesh("cpu", list(range(ranks))), rank)
    for line in sys.stdin:
        print(json.dumps(twin.do(*json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
