"""What enforcement has to know of optimizers: which of them mix weights, and what they remember of each."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, optim
from torch.optim import LBFGS, Adagrad, Optimizer, Rprop

# Those that treat weights one by one. All others are taken to mix them, and get masked gradients.
ELEMENTWISE = (
    *(optim.SGD, optim.Adam, optim.AdamW, optim.NAdam, optim.RAdam, optim.Adamax, optim.Adagrad, optim.Adadelta),
    *(optim.RMSprop, optim.Rprop, optim.ASGD, optim.SparseAdam),
)
# What a fresh optimizer holds for a weight, where that is not zero.
_FRESH: dict[tuple[type[Optimizer], str], Callable[[dict[str, Any]], Any]] = {
    (Adagrad, "sum"): lambda group: group["initial_accumulator_value"],
    (Rprop, "step_size"): lambda group: group["lr"],
}


def fill_(tensor: Tensor, where: Tensor, value: Any) -> None:
    """``tensor.masked_fill_(where, value)``, also for what a sparse tensor holds."""
    if tensor.is_sparse:
        tensor._values().masked_fill_(where[tuple(tensor._indices())], value)
    else:
        tensor.masked_fill_(where.to(tensor.device), value)


@torch.no_grad()
def refresh_state(optimizer: Optimizer, pruned: Mapping[int, Tensor]) -> None:
    """Give pruned weights the state that a fresh optimizer has; ``pruned`` is by the parameters' id."""
    optimizer = getattr(optimizer, "optim", optimizer)  # ZeroRedundancyOptimizer: the one inside
    for group in optimizer.param_groups:
        for p in group["params"]:
            if id(p) not in pruned:
                continue
            for key, value in optimizer.state.get(p, {}).items():
                if isinstance(value, Tensor) and value.shape == p.shape and key != "step":
                    fresh = next((f(group) for (c, k), f in _FRESH.items() if k == key and isinstance(optimizer, c)), 0)
                    fill_(value, pruned[id(p)], fresh)


@torch.no_grad()
def forget_directions(optimizer: LBFGS, pruned: Mapping[int, Tensor]) -> None:
    """Clear the history of an LBFGS that went elsewhere than the mask allows: it would move pruned weights inside a step."""
    parts = []
    for p in optimizer.param_groups[0]["params"]:
        gone = pruned.get(id(p), torch.zeros_like(p, dtype=torch.bool))
        parts.append(gone.flatten().repeat_interleave(2) if p.is_complex() else gone.flatten())  # as real numbers
    flat = torch.cat(parts)
    for state in optimizer.state.values():
        held = [t for v in state.values() for t in (v if isinstance(v, list) else [v]) if isinstance(t, Tensor)]
        if any(bool(t[flat].any()) for t in held if t.shape == flat.shape):
            state.clear()
