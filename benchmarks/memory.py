"""What masks and the operations on them take, in bytes for each weight of a net of 42 million.

python benchmarks/memory.py            takes about a minute (Linux)
"""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from bench import extra_memory, report
from prune import network

from sparsedd import Mask, Pruner, scores, sparse

MILLIONS = 42


def making_a_mask() -> Callable[[], object]:
    return partial(Mask.dense, network(MILLIONS))


def pruning(score: str) -> Callable[[], object]:
    model = network(MILLIONS)
    for p in model.parameters():
        p.grad = p.detach().clone()
    pruner = Pruner(scores.random(0) if score == "random" else score)
    return lambda: pruner.prune(model)


def applying() -> Callable[[], object]:
    model, mask = pruned()
    return lambda: mask.apply_(model)


def enforcing() -> Callable[[], object]:
    model, mask = pruned()
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    def operation() -> object:
        enforcement = mask.enforce(model, optimizer)
        optimizer.step()
        return enforcement

    return operation


def saving() -> Callable[[], object]:
    _, mask = pruned()
    return partial(mask.save, Path(tempfile.mkdtemp()) / "mask.safetensors")


def loading() -> Callable[[], object]:
    path = saved()
    return lambda: Mask.load(path)


def sparse_form() -> Callable[[], object]:
    linear = torch.nn.Linear(6500, 6500, bias=False)
    keep = Pruner().prune_to(linear, 0.95)["weight"]
    return lambda: sparse.SparseLinear(linear, keep)


def pruned() -> tuple[torch.nn.Module, Mask]:
    model = network(MILLIONS)
    return model, Pruner().prune_to(model, 0.8)


def saved() -> Path:
    path = Path(tempfile.mkdtemp()) / "mask.safetensors"
    pruned()[1].save(path)
    return path


OPERATIONS: dict[str, tuple[Callable[..., Callable[[], object]], tuple[str, ...]]] = {
    "Mask.dense": (making_a_mask, ()),
    "Pruner.prune, magnitude": (pruning, ("magnitude",)),
    "Pruner.prune, gradient": (pruning, ("gradient",)),
    "Pruner.prune, random": (pruning, ("random",)),
    "mask.apply_": (applying, ()),
    "mask.enforce and a step": (enforcing, ()),
    "mask.save": (saving, ()),
    "Mask.load": (loading, ()),
    "SparseLinear of 5 % density": (sparse_form, ()),
}

if __name__ == "__main__":
    weights = sum(p.numel() for p in network(MILLIONS).parameters())
    rows = []
    for name, (operation, arguments) in OPERATIONS.items():
        extra = extra_memory(operation, *arguments)
        rows.append(
            {"operation": name, "extra MB at its peak": round(extra / 1e6), "bytes a weight": round(extra / weights, 2)}
        )
    size = saved().stat().st_size
    rows.append({"operation": "the file of a mask", "extra MB at its peak": None, "bytes a weight": round(size / weights, 4)})
    report("memory", "python benchmarks/memory.py", rows)
