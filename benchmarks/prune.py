"""One global magnitude prune of 20 % of the weights: sparsedd, its peers, and the least that any method does.

    python benchmarks/prune.py                  # ResNet-18, ResNet-101 and 300 million weights; about two minutes
    python benchmarks/prune.py --millions 42    # one size
    python benchmarks/prune.py --all            # everything at 300 million weights, too

``exact`` says whether just ⌈0.2 · remaining⌉ weights went, of random weights and of these in 16 bits, where many are equal.
"""

import argparse
import shlex
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from math import ceil

import numpy as np
import torch
from bench import extra_memory, in_turns, ratios, report
from torch import Tensor, nn
from torch.nn.utils import prune

from sparsedd import Mask, Pruner

Keeps = list[Tensor]
Method = Callable[[nn.Module, Mask | None], Sequence[object]]
FRACTION = 0.2
NAMES = {11: "ResNet-18", 42: "ResNet-101", 300: "18 layers of 4096 × 4096"}


# ---------------------------------------------------------------- the methods


def ours(model: nn.Module, mask: Mask | None) -> Mask:
    return Pruner(fraction=FRACTION).prune(model, mask)


def torchs(model: nn.Module, mask: Mask | None) -> Keeps:
    """torch.nn.utils.prune, on modules of the same parameters, as it leaves its marks on modules."""
    modules = [nn.Module() for _ in model]
    for module, layer in zip(modules, model, strict=True):
        module.weight = layer.weight
    lose = ceil(FRACTION * sum(module.weight.numel() for module in modules))  # given a float, it rounds
    prune.global_unstructured([(module, "weight") for module in modules], prune.L1Unstructured, amount=lose)
    return [module.weight_mask for module in modules]


def openlths(model: nn.Module, mask: Mask | None) -> list[np.ndarray]:
    """As in OpenLTH: concatenate, sort, and keep what is above a threshold."""
    weights = [layer.weight.detach().numpy() for layer in model]
    scores = np.concatenate([np.abs(w).ravel() for w in weights])
    threshold = np.sort(scores)[ceil(FRACTION * scores.size)]
    return [np.where(np.abs(w) > threshold, 1, np.zeros_like(w)) for w in weights]


def partitions(model: nn.Module, mask: Mask | None) -> list[np.ndarray]:
    weights = [layer.weight.detach().numpy() for layer in model]
    scores = np.concatenate([np.abs(w).ravel() for w in weights])
    lose = ceil(FRACTION * scores.size)
    threshold = np.partition(scores, lose - 1)[lose - 1]
    return [np.abs(w) > threshold for w in weights]


def limit(model: nn.Module, mask: Mask | None) -> list[np.ndarray]:
    """Read the weights and write a mask, once, with a threshold that is known."""
    return [layer.weight.detach().numpy() > 0.005 for layer in model]


METHODS: dict[str, tuple[Method, float | None]] = {  # and the density of the mask before
    "sparsedd": (ours, None),
    "sparsedd, mask of 80 %": (ours, 0.8),
    "sparsedd, mask of 10 %": (ours, 0.1),
    "sparsedd, mask of 1 %": (ours, 0.01),
    "torch.nn.utils.prune.global_unstructured": (torchs, None),
    "OpenLTH": (openlths, None),
    "numpy.partition": (partitions, None),
    "limit: read weights, write a mask": (limit, None),
}
SLOW = {"torch.nn.utils.prune.global_unstructured", "OpenLTH", "sparsedd, mask of 10 %", "sparsedd, mask of 1 %"}


# ---------------------------------------------------------------- what they prune


def resnet(blocks: Sequence[int], bottleneck: bool) -> Iterator[tuple[int, ...]]:
    """The shapes of a ResNet for small images."""
    yield 64, 3, 3, 3
    channels, expansion = 64, 4 if bottleneck else 1
    for stage, depth in enumerate(blocks):
        width = 64 << stage
        for block in range(depth):
            if bottleneck:
                yield from ((width, channels, 1, 1), (width, width, 3, 3), (4 * width, width, 1, 1))
            else:
                yield from ((width, channels, 3, 3), (width, width, 3, 3))
            if block == 0 and channels != expansion * width:
                yield expansion * width, channels, 1, 1
            channels = expansion * width
    yield (200, channels) if bottleneck else (10, channels)


def shapes(millions: int) -> list[tuple[int, ...]]:
    if millions == 11:
        return list(resnet((2, 2, 2, 2), bottleneck=False))
    if millions == 42:
        return list(resnet((3, 4, 23, 3), bottleneck=True))
    return [(4096, 4096)] * max(1, round(millions * 1e6 / 4096**2))


def network(millions: int) -> nn.ModuleList:
    """Layers of these shapes with random weights: what a pruner sees of a network."""
    generator = torch.Generator().manual_seed(0)
    layers = nn.ModuleList()
    for shape in shapes(millions):
        layer = nn.Linear(1, 1, bias=False, device="meta")
        layer.weight = nn.Parameter(torch.empty(shape).normal_(0, 0.02, generator=generator))
        layers.append(layer)
    return layers


def mask_of(model: nn.Module, density: float | None) -> Mask | None:
    if density is None:
        return None
    generator = torch.Generator().manual_seed(1)
    return Mask({name: torch.rand(p.shape, generator=generator) < density for name, p in model.named_parameters()})


def prepared(method: str, millions: int) -> Callable[[], Sequence[object]]:
    function, density = METHODS[method]
    model = network(millions)
    return partial(function, model, mask_of(model, density))


@torch.no_grad()
def exact(method: str, millions: int = 11) -> bool:
    function, density = METHODS[method]
    model = network(millions)
    mask = mask_of(model, density)
    for _ in range(2):
        remaining = sum(p.numel() for p in model.parameters()) if mask is None else mask.remaining
        found = function(model, mask)
        kept = found.remaining if isinstance(found, Mask) else sum(int((np.asarray(keep) != 0).sum()) for keep in found)
        if kept != remaining - -(-remaining // 5):
            return False
        for p in model.parameters():
            p.copy_(p.bfloat16())
    return True


# ---------------------------------------------------------------- the table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--millions", type=int, nargs="+", default=[11, 42, 300], help="sizes, in millions of weights")
    parser.add_argument("--all", action="store_true", help="every row at 300 million weights: five more minutes")
    options = parser.parse_args()
    exactly = {method: exact(method) for method in METHODS if method != list(METHODS)[-1]}
    rows = []
    for millions in options.millions:
        methods = [method for method in METHODS if millions < 100 or options.all or method not in SLOW]
        model = network(millions)
        candidates = {m: partial(METHODS[m][0], model, mask_of(model, METHODS[m][1])) for m in methods}
        seconds = in_turns(candidates, rounds=3 if millions < 20 else 2 if millions < 100 else 1)
        del model, candidates
        relative = ratios(seconds, "sparsedd")
        for method in methods:
            rows.append(
                {
                    "weights": NAMES.get(millions, f"{millions} million"),
                    "method": method,
                    "CPU s": statistics.median(seconds[method]),
                    "ratio": relative[method],
                    "extra MB": extra_memory(prepared, method, millions) / 1e6,
                    "exact": {True: "yes", False: "no"}.get(exactly.get(method)),
                }
            )
    report("prune", shlex.join(["python", "benchmarks/prune.py", *sys.argv[1:]]), rows)


if __name__ == "__main__":
    main()
