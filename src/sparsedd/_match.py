"""Match: the parameters of a model, each with its mask. Of sharded ones a process looks at its own parts."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from operator import eq
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from sparsedd import _checks
from sparsedd._bits import Bits
from sparsedd._parameters import check_present, fit_name, memory_key, parameters, select
from sparsedd._selection import FLOATS, Scored
from sparsedd._shards import Place, local, sum_each, sum_over, take_bits

if TYPE_CHECKING:
    from sparsedd._mask import Mask


def match(mask: Mask, model: nn.Module) -> dict[str, tuple[nn.Parameter, Bits]]:
    """Return each masked parameter as it is now, in the order of the model, with its mask on the same device.

    Of a sharded parameter it is the part of the mask for the weights of this process.
    """
    found = check_present(select(model, mask))
    keeps = {fit_name(name, found): keep for name, keep in mask._bits.items()}
    owners: dict[Hashable, str] = {}
    for name, p in found.items():
        if p.shape != keeps[name].shape:
            raise ValueError(
                f"{name!r} has shape {tuple(p.shape)} in the model and {tuple(keeps[name].shape)} in the mask: "
                "the mask belongs to another model."
            )
        if (tied := owners.setdefault(memory_key(p), name)) != name:
            raise ValueError(f"{tied!r} and {name!r} are one tied parameter: a mask names it once.")
    return {name: (p, take_bits(keeps[name], p)) for name, p in found.items()}


def fit_names(mask: Mask, model: nn.Module) -> Mask:
    """Return the mask under the names of the unwrapped model."""
    every = parameters(model)
    return mask._of({fit_name(name, every): keep for name, keep in mask._bits.items()})


@torch.no_grad()
def have_moved(weights: Mapping[str, tuple[Tensor, Bits]]) -> bool:
    """Check for pruned weights of this process that are not zero."""
    return any(bool((w.bool() > kept).any()) for p, keep in weights.values() for w, kept in keep.along(local(p)))


def have_moved_anywhere(weights: Mapping[str, tuple[Tensor, Bits]], moved: bool = False) -> bool:
    """Check for pruned weights of any process that are not zero, or any process that says that some have moved."""
    moved = moved or have_moved(weights)
    return bool(sum_over([int(moved)] * len(weights), [Place.of(p) for p, _ in weights.values()]))


def match_and_warn(mask: Mask, model: nn.Module) -> dict[str, tuple[nn.Parameter, Bits]]:
    """Return the same as :func:`match`; warn where many of the kept weights are zero."""
    weights = match(mask, model)
    if found := count_zeros(weights):
        _checks.warn(
            f"{found[0]:,} of the {found[1]:,} weights that the mask keeps are zero, as if they were pruned: is it the "
            "mask of this model? sparsedd.Mask.nonzero(model) finds that."
        )
    return weights


def count_zeros(weights: Mapping[str, tuple[Tensor, Bits | None]]) -> tuple[int, int] | None:
    """Return how many kept weights are zero, and how many are kept, if more than one and at least 5 % are zero; else None.

    Without a mask all are kept. A parameter that is zero throughout was initialised so: none of it counts as zero.
    """
    zeros, kept = [], []
    for p, keep in weights.values():
        part = local(p.detach())
        values = part if p.dtype in FLOATS else (part != 0).float()
        kept.append(part.numel() if keep is None else keep.count())
        zeros.append(Scored("", values, keep).count(eq, 0) if kept[-1] else 0)
    places = [Place.of(p) for p, _ in weights.values()]
    zeros, kept = sum_each(zeros, places), sum_each(kept, places)
    zero, size = sum(here for here, all_of_it in zip(zeros, kept, strict=True) if here < all_of_it), sum(kept)
    return (zero, size) if zero > 1 and 20 * zero >= size else None
