"""Pruner: a mask becomes a smaller mask."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor
from typing import Literal

import torch
from torch import Tensor, nn

from sparsedd import _checks, scores
from sparsedd._mask import Mask
from sparsedd._parameters import listed

NAMED: dict[str, scores.Score] = {
    "magnitude": scores.magnitude,
    "gradient": scores.gradient,
    "random": scores.random(seed=0),
}


@dataclass(frozen=True, repr=False)
class Pruner:
    r"""Removes a fraction of the surviving weights, those of lowest score (He et al. 2022, 2.2 and A.1).

    Level k of a sweep has the nominal sparsity 1 - (1 - fraction)^k. Counts are exact: a prune removes
    ⌈fraction · remaining⌉ weights in exact arithmetic, ties go by position in the model, and levels are nested.

    Parameters
    ----------
    score
        ``"magnitude"``, ``"gradient"``, ``"random"`` (seed 0; else pass ``scores.random(seed)``), or any callable
        ``(name, parameter) -> tensor``, see :mod:`sparsedd.scores`.
    fraction
        The share of the *survivors* that one :meth:`prune` removes, in [0, 1). A float means the decimal it prints as.
    scope
        ``"global"`` ranks all weights together; ``"layer"`` takes the fraction of each parameter.

    Examples
    --------
    >>> model = nn.Linear(10, 10)
    >>> pruner = Pruner(fraction=0.2)
    >>> mask = pruner.prune(model)
    >>> mask, pruner.prune(model, mask)
    (Mask(80 of 100 weights, sparsity 20.00%), Mask(64 of 100 weights, sparsity 36.00%))
    """

    score: scores.Score | Literal["magnitude", "gradient", "random"] = "magnitude"
    fraction: float | Fraction = 0.2
    scope: Literal["global", "layer"] = "global"

    def __post_init__(self) -> None:
        _checks.share("fraction", self.fraction, one=False)
        if not callable(self.score) and self.score not in list(NAMED):
            kind = ValueError if isinstance(self.score, str) else TypeError
            raise kind(f"score must be one of {listed(map(repr, NAMED))} or a callable, got {self.score!r}.")
        if not isinstance(self.scope, str):
            raise TypeError(f"scope must be 'global' or 'layer', got {self.scope!r}.")
        if self.scope not in ("global", "layer"):
            raise ValueError(f"scope must be 'global' or 'layer', got {self.scope!r}.")

    def __repr__(self) -> str:
        name = self.score if isinstance(self.score, str) else getattr(self.score, "__name__", repr(self.score))
        return f"Pruner({name}, {float(self.fraction):.4g} of the survivors, {self.scope})"

    def prune(self, model: nn.Module, mask: Mask | None = None) -> Mask:
        """The mask without the ⌈fraction · remaining⌉ weights of lowest score. Neither model nor mask changes.

        Parameters
        ----------
        model
            The model whose weights are scored, as they are now.
        mask
            The present mask; None means that nothing is pruned yet.

        Raises
        ------
        ValueError
            When a score is NaN or has the wrong shape, when nothing would be kept, or when the mask is another model's.
        RuntimeError
            When ``mask`` is None and the model is visibly sparse: more than one of its prunable weights, and at least 5 % of
            them, are exactly zero (layers that are zero throughout don't count).
        """
        fraction = _checks.share("fraction", self.fraction, one=False)
        return self._keep_of(model, mask, lambda size, remaining: remaining - ceil(fraction * remaining))

    def prune_to(self, model: nn.Module, sparsity: float | Fraction, mask: Mask | None = None) -> Mask:
        """In one shot: the mask that keeps exactly ⌊(1 - sparsity) · size⌋ weights, never one that ``mask`` prunes.

        Raises
        ------
        ValueError
            As :meth:`prune`, and when the mask is sparser already.

        Examples
        --------
        >>> Pruner().prune_to(nn.Linear(10, 10), 0.97)
        Mask(3 of 100 weights, sparsity 97.00%)
        """
        density = 1 - _checks.share("sparsity", sparsity, one=False)
        return self._keep_of(model, mask, lambda size, remaining: floor(density * size))

    def sparsity(self, level: int) -> float:
        """The nominal sparsity of a level, 1 - (1 - fraction)^level; exact counts round it by less than a weight a level.

        >>> [round(Pruner(fraction=0.2).sparsity(k), 4) for k in (0, 1, 4)]
        [0.0, 0.2, 0.5904]
        """
        fraction = _checks.share("fraction", self.fraction, one=False)
        return float(1 - (1 - fraction) ** _checks.whole("level", level))

    @torch.no_grad()
    def _keep_of(self, model: nn.Module, mask: Mask | None, quota: Callable[[int, int], int]) -> Mask:
        """The mask that keeps quota(size, remaining) weights, of all or of each layer as the scope says."""
        if mask is None:
            mask = _dense(model)
        elif not isinstance(mask, Mask):
            raise TypeError(f"mask must be a Mask or None, got {type(mask).__name__}.")
        old = mask._on(model)
        groups = [list(old)] if self.scope == "global" else [[name] for name in old]
        counts = []
        for group in groups:
            remaining = sum(int(old[name][1].sum()) for name in group)
            counts.append(quota(sum(old[name][1].numel() for name in group), remaining))
            if counts[-1] > remaining:
                what = "the mask" if self.scope == "global" else f"the mask of {group[0]!r}"
                raise ValueError(
                    f"{what} keeps {remaining:,} weights, fewer than the {counts[-1]:,} wanted: prune_to never regrows."
                )
        if not sum(counts):
            raise ValueError(f"nothing would be kept of {mask!r}: prune less, or stop the sweep here.")
        score = NAMED[self.score] if isinstance(self.score, str) else self.score
        new: dict[str, Tensor] = {}
        for group, count in zip(groups, counts, strict=True):
            keeps = [old[name][1] for name in group]
            values = [_scored(score, name, *old[name]) for name in group]
            new |= zip(group, _highest(values, keeps, count), strict=True)
        return Mask(new)


def _dense(model: nn.Module) -> Mask:
    """All kept, unless the weights say that some were pruned before."""
    mask = Mask.dense(model)
    zeros = sum(int(z.sum()) for p, _ in mask._on(model).values() if not (z := p == 0).all())
    if zeros > 1 and 20 * zeros >= mask.size:
        raise RuntimeError(
            f"mask=None means that nothing is pruned yet, but {zeros:,} of {mask.size:,} weights are zero. "
            "Pass the mask; sparsedd.Mask.nonzero(model) finds it."
        )
    return mask


def _scored(score: scores.Score, name: str, parameter: nn.Parameter, keep: Tensor) -> Tensor:
    """The scores of the kept weights of a parameter, as a vector."""
    values = score(name, parameter)
    if not isinstance(values, Tensor):
        raise TypeError(f"the score of {name!r} must be a tensor, got {type(values).__name__}.")
    if values.shape != parameter.shape:
        raise ValueError(f"the score of {name!r} must have shape {tuple(parameter.shape)}, got {tuple(values.shape)}.")
    if values.is_complex() or values.dtype == torch.bool:
        raise TypeError(f"the score of {name!r} must be real numbers, got {values.dtype}.")
    kept = values.detach().to(keep.device)[keep]
    if kept.dtype != torch.float32:  # float64 ranks every narrower float, and integers up to 2**53, exactly
        kept = kept.double() if kept.element_size() > 2 or not kept.is_floating_point() else kept.float()
    if kept.isnan().any():
        raise ValueError(f"the score of {name!r} is NaN for {int(kept.isnan().sum()):,} kept weights: has training diverged?")
    return kept


def _highest(values: list[Tensor], keeps: list[Tensor], count: int) -> list[Tensor]:
    """Masks of the ``count`` highest scores among the kept weights; of equal scores the later positions stay."""
    lose = sum(v.numel() for v in values) - count
    if not lose:
        return keeps
    if any(v.dtype == torch.float64 for v in values):
        values = [v.double() for v in values]
    threshold = _kth_lowest(values, lose)
    ties = lose - sum(int((v < threshold).sum()) for v in values)
    chosen = []
    for v, keep in zip(values, keeps, strict=True):
        equal = v == threshold
        stay = (v > threshold) | (equal & (equal.cumsum(0) > ties))
        ties = max(0, ties - int(equal.sum()))
        chosen.append(torch.zeros_like(keep).masked_scatter_(keep, stay))
    return chosen


def _kth_lowest(values: list[Tensor], k: int) -> float:
    """The k-th lowest of all values, counted from 1."""
    every = torch.cat([v.to(values[0].device) for v in values])
    if every.device.type != "cpu":
        return float(every.kthvalue(k).values)
    array = every.numpy()
    array.partition(k - 1)  # in place, in linear time
    return float(array[k - 1])
