"""Pruner: a mask becomes a smaller mask."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor
from operator import eq
from typing import Literal
from warnings import warn

import torch
from torch import Tensor, nn

from sparsedd import _checks, scores
from sparsedd._mask import Mask
from sparsedd._parameters import listed, once, present, select
from sparsedd._prunable import prunable
from sparsedd._selection import FLOATS, Ranking, Scored, array, count

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
        if self.score is scores.random:  # type: ignore[comparison-overlap]
            raise TypeError("score must be scores.random(seed), got scores.random itself: say which seed.")
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

        Warns
        -----
        UserWarning
            When a layer loses its last weight.
        """
        return _noticed(self._prune(model, mask), mask)

    def _prune(self, model: nn.Module, mask: Mask | None) -> Mask:
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
        return _noticed(self._prune_to(model, sparsity, mask), mask)

    def _prune_to(self, model: nn.Module, sparsity: float | Fraction, mask: Mask | None) -> Mask:
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
            old = _unpruned(model)
        elif isinstance(mask, Mask):
            old = dict(mask._on(model))
        else:
            raise TypeError(f"mask must be a Mask or None, got {type(mask).__name__}.")
        groups = [list(old)] if self.scope == "global" else [[name] for name in old]
        plan = []
        for group in groups:
            layers = [old[name] for name in group]
            remaining = sum(p.numel() if keep is None else count(array(keep)) for p, keep in layers)
            wanted = quota(sum(p.numel() for p, _ in layers), remaining)
            if wanted > remaining:
                what = "the mask" if self.scope == "global" else f"the mask of {group[0]!r}"
                raise ValueError(
                    f"{what} keeps {remaining:,} weights, fewer than the {wanted:,} wanted: prune_to never regrows."
                )
            plan.append((group, remaining, wanted))
        if not any(wanted for _, _, wanted in plan):
            raise ValueError(f"nothing would be kept of {mask or Mask.dense(model)!r}: prune less, or stop the sweep here.")
        score = NAMED[self.score] if isinstance(self.score, str) else self.score
        new: dict[str, Tensor] = {}
        for group, remaining, wanted in plan:
            ranking = Ranking([_scored(score, name, *old[name]) for name in group], remaining)
            new |= zip(group, ranking.without_lowest(remaining - wanted), strict=True)
        return Mask._of(new)


def _noticed(mask: Mask, before: Mask | None) -> Mask:
    """The mask; a warning names the layers that have no weights left and had some before."""
    empty = [name for name, keep in mask.items() if keep.numel() and not keep.any() and (before is None or before[name].any())]
    if empty:
        warn(
            f"no weight is left of {listed(map(repr, empty))}: such a layer gives the same for every input, and the model may, "
            "too. Prune less, prune each layer alone (scope='layer'), or leave it out of the mask.",
            stacklevel=3,
        )
    return mask


def _unpruned(model: nn.Module) -> dict[str, tuple[nn.Parameter, Tensor | None]]:
    """All the prunable weights, unless they say that some were pruned before."""
    weights = present(once(select(model, prunable(model))))
    size = sum(p.numel() for p in weights.values())
    zeros = sum(z for n, p in weights.items() if (z := _scored(scores.magnitude, n, p, None).count(eq, 0)) < p.numel())
    if zeros > 1 and 20 * zeros >= size:
        raise RuntimeError(
            f"mask=None means that nothing is pruned yet, but {zeros:,} of {size:,} weights are zero. "
            "Pass the mask; sparsedd.Mask.nonzero(model) finds it."
        )
    return {name: (p, None) for name, p in weights.items()}


def _scored(score: scores.Score, name: str, parameter: nn.Parameter, keep: Tensor | None) -> Scored:
    """The scores of a parameter. Magnitudes are left to be made slice by slice."""
    if score is scores.magnitude and parameter.dtype in FLOATS:
        return Scored(name, parameter.detach(), keep, abs)
    values = score(name, parameter)
    if not isinstance(values, Tensor):
        raise TypeError(f"the score of {name!r} must be a tensor, got {type(values).__name__}.")
    if values.shape != parameter.shape:
        raise ValueError(f"the score of {name!r} must have shape {tuple(parameter.shape)}, got {tuple(values.shape)}.")
    if values.is_complex() or values.dtype == torch.bool:
        raise TypeError(f"the score of {name!r} must be real numbers, got {values.dtype}.")
    values = values.detach().to(parameter.device)
    return Scored(name, values if values.dtype in FLOATS else values.double(), keep)
