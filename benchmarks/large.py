"""Every operation on a net of the shape of a Llama: processor time, in passes of ``w != 0``, and memory, in bytes a weight.

    python benchmarks/large.py                   # 350 million weights
    python benchmarks/large.py --millions 92     # fewer

Weights are drawn at random, for nothing here depends on what they are, and each operation runs in a process of its own (Linux).
``torch.nn.utils.prune`` takes 48 bytes a weight, so it is measured with fewer: ``--peer 350`` if 18 GB are free.
"""

import argparse
import multiprocessing
import shlex
import sys
import tempfile
from collections.abc import Callable
from math import ceil
from pathlib import Path

import torch
from bench import in_turns, ratios, report, risen
from torch import nn
from torch.nn.utils import prune

from sparsedd import Mask, Pruner, Rewinder, metrics, scores

Operation = Callable[[], object]


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = width * 11 // 4
        self.q, self.k, self.v, self.o = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.gate, self.up, self.down = (nn.Linear(*s, bias=False) for s in ((width, hidden), (width, hidden), (hidden, width)))
        self.attention_norm, self.norm = nn.RMSNorm(width), nn.RMSNorm(width)


class Llama(nn.Module):
    """The weights of one, with the embedding tied to the head."""

    def __init__(self, millions: float) -> None:
        super().__init__()
        width, words = (1024, 32_000) if millions > 200 else (768, 32_000) if millions > 50 else (64, 1000)
        of_block = sum(p.numel() for p in Block(width).parameters())
        self.embedding = nn.Embedding(words, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(int((millions * 1e6 - words * width) / of_block)))
        self.norm, self.head = nn.RMSNorm(width), nn.Linear(width, words, bias=False)
        self.head.weight = self.embedding.weight
        generator = torch.Generator().manual_seed(0)
        for p in self.parameters():
            if p.dim() == 2:
                nn.init.normal_(p, std=0.02, generator=generator)


def pruned(model: nn.Module) -> Mask:
    mask = Pruner().prune_to(model, 0.8)
    mask.apply_(model)
    return mask


def pruning(score: str, level: int = 0) -> Callable[[nn.Module], Operation]:
    def make(model: nn.Module) -> Operation:
        pruner = Pruner(scores.random(0) if score == "random" else score)
        if score == "gradient":
            for p in model.parameters():
                p.grad = p.detach() + 1
        mask = pruner.prune(model) if level else None
        return lambda: pruner.prune(model, mask)

    return make


def enforcing(model: nn.Module) -> Operation:
    mask = pruned(model)
    torch.optim.SGD(model.parameters(), 0.0)  # the first of a process imports what is no part of a mask
    return lambda: mask.enforce(model, torch.optim.SGD(model.parameters(), 0.0))


def stepping(enforced: bool) -> Callable[[nn.Module], Operation]:
    def make(model: nn.Module) -> Operation:
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        for p in model.parameters():
            p.grad = torch.zeros_like(p)
        if enforced:
            pruned(model).enforce(model, optimizer)
        return optimizer.step

    return make


def saving(model: nn.Module) -> Operation:
    path, start = Path(tempfile.mkdtemp()) / "start.safetensors", Rewinder(model=model)
    return lambda: start.save(path)


def measuring(model: nn.Module) -> Operation:
    start = Rewinder(model=model)["model"]
    return lambda: metrics.learning_distance(start, model)


def torchs(model: nn.Module) -> Operation:
    weights = [module.weight for module in model.modules() if isinstance(module, nn.Linear)]

    def operation() -> None:
        modules = [nn.Module() for _ in weights]
        for module, weight in zip(modules, weights, strict=True):
            module.weight = weight
        lose = ceil(0.2 * sum(weight.numel() for weight in weights))
        prune.global_unstructured([(module, "weight") for module in modules], prune.L1Unstructured, amount=lose)

    return operation


PEER = "torch.nn.utils.prune.global_unstructured"
OPERATIONS: dict[str, Callable[[nn.Module], Operation]] = {
    "Mask.dense": lambda model: lambda: Mask.dense(model),
    "Mask.nonzero": lambda model: (pruned(model), lambda: Mask.nonzero(model))[1],
    "Pruner.prune, magnitude": pruning("magnitude"),
    "Pruner.prune, magnitude, the next level": pruning("magnitude", 1),
    "Pruner.prune, gradient": pruning("gradient"),
    "Pruner.prune, random": pruning("random"),
    PEER: torchs,
    "mask.apply_": lambda model: (lambda mask: lambda: mask.apply_(model))(pruned(model)),
    "mask.holds": lambda model: (lambda mask: lambda: mask.holds(model))(pruned(model)),
    "mask.enforce": enforcing,
    "a step of SGD, enforced": stepping(True),
    "a step of SGD": stepping(False),
    "Rewinder(model=model)": lambda model: lambda: Rewinder(model=model),
    "rewinder.rewind": lambda model: (lambda start: lambda: start.rewind(model=model))(Rewinder(model=model)),
    "rewinder.save": saving,
    "metrics.learning_distance": measuring,
}


def measure(name: str, millions: float, rounds: int = 3) -> dict[str, object]:
    """A row of the table, measured in this process."""
    torch.set_num_threads(1)
    model = Llama(millions)
    weights = list(model.parameters())
    operation = OPERATIONS[name](model)
    extra = risen(operation, times=1)
    seconds = in_turns({"": lambda: [p != 0 for p in weights], name: operation}, rounds=rounds)
    n = sum(p.numel() for p in weights)
    return {"operation": name, "passes of `w != 0`": round(ratios(seconds, "")[name], 1), "bytes a weight": round(extra / n, 2)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--millions", type=float, default=350)
    parser.add_argument("--peer", type=float, default=150, help="the most for torch.nn.utils.prune")
    millions, peer = vars(parser.parse_args()).values()
    rows = []
    for name in OPERATIONS:
        size = min(millions, peer) if name == PEER else millions
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            rows.append(pool.apply(measure, (name, size)))
        if size < millions:
            rows[-1]["operation"] += f", of {size:g} million weights"
        print(rows[-1], flush=True)
    report("large", shlex.join(["python", *sys.argv]), rows)
