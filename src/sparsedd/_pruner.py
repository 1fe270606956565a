"""Pruner: a mask becomes a smaller mask."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from math import ceil, floor
from typing import Any, Literal, Self, TypeAlias

import torch
from torch import Tensor, nn

from sparsedd import _checks, scores
from sparsedd._ambient import exact_on
from sparsedd._bits import Bits
from sparsedd._mask import Mask
from sparsedd._match import count_zeros, match_and_warn
from sparsedd._parameters import abridge, check_present
from sparsedd._prunable import select_prunable
from sparsedd._selection import FLOATS, Draws, Ranking, Scored
from sparsedd._shards import Place, gather, local, sum_each, take_part

Name: TypeAlias = Literal["magnitude", "gradient", "random"]
Scope: TypeAlias = Literal["global", "layer"]
NAMED: dict[str, scores.Score] = {
    "magnitude": scores.magnitude,
    "gradient": scores.gradient,
    "random": scores.random(seed=0),
}


@dataclass(frozen=True, repr=False)
class Pruner:
    r"""A rule that removes a fraction of the surviving weights, those of lowest score (He et al. 2022, 2.2 and A.1).

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

    score: scores.Score | Name = "magnitude"
    fraction: float | Fraction = 0.2
    scope: Scope = "global"

    def __post_init__(self) -> None:
        _checks.share("fraction", self.fraction, one=False)
        if not callable(self.score):
            _checks.one_of("score", self.score, tuple(NAMED), " or a callable")
        if self.score is scores.random:  # type: ignore[comparison-overlap]
            raise TypeError("score must be scores.random(seed), got scores.random itself: say which seed.")
        _checks.one_of("scope", self.scope, ("global", "layer"))

    @classmethod
    def reaching(
        cls, sparsity: float | Fraction, levels: int, *, score: scores.Score | Name = "magnitude", scope: Scope = "global"
    ) -> Self:
        """Return the pruner that reaches a sparsity at the last of so many levels, the dense one included.

        fraction = 1 - (1 - sparsity)^(1 / (levels - 1))

        >>> pruner = Pruner.reaching(0.95, levels=8)
        >>> pruner, round(pruner.sparsity(7), 6)
        (Pruner(magnitude, 0.3482 of the survivors, global), 0.95)
        """
        density = 1 - _checks.share("sparsity", sparsity, one=False)
        return cls(score, 1 - float(density) ** (1 / (_checks.whole("levels", levels, least=2) - 1)), scope)

    def __repr__(self) -> str:
        name = self.score if isinstance(self.score, str) else getattr(self.score, "__name__", repr(self.score))
        return f"Pruner({name}, {float(self.fraction):.4g} of the survivors, {self.scope})"

    def prune(self, model: nn.Module, mask: Mask | None = None) -> Mask:
        """Return the mask without the ⌈fraction · remaining⌉ weights of lowest score. Neither model nor mask changes.

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
            When as many of the weights that ``mask`` keeps are, or when a layer loses its last weight.
        """
        return _warn_of_lost(self._prune(model, mask), mask)

    def _prune(self, model: nn.Module, mask: Mask | None) -> Mask:
        fraction = _checks.share("fraction", self.fraction, one=False)
        return self._keep_of(model, mask, lambda size, remaining: remaining - ceil(fraction * remaining))

    def prune_to(self, model: nn.Module, sparsity: float | Fraction, mask: Mask | None = None) -> Mask:
        """Prune in one shot: keep exactly ⌊(1 - sparsity) · size⌋ weights, never one that ``mask`` prunes.

        Raises
        ------
        ValueError
            As :meth:`prune`, and when the mask is sparser already.

        Examples
        --------
        >>> Pruner().prune_to(nn.Linear(10, 10), 0.97)
        Mask(3 of 100 weights, sparsity 97.00%)
        """
        return _warn_of_lost(self._prune_to(model, sparsity, mask), mask)

    def _prune_to(self, model: nn.Module, sparsity: float | Fraction, mask: Mask | None) -> Mask:
        density = 1 - _checks.share("sparsity", sparsity, one=False)
        return self._keep_of(model, mask, lambda size, remaining: floor(density * size))

    def sparsity(self, level: int) -> float:
        """Return the nominal sparsity of a level, 1 - (1 - fraction)^level, which counts round by less than a weight a level.

        >>> [round(Pruner(fraction=0.2).sparsity(k), 4) for k in (0, 1, 4)]
        [0.0, 0.2, 0.5904]
        """
        fraction = _checks.share("fraction", self.fraction, one=False)
        return float(1 - (1 - fraction) ** _checks.whole("level", level))

    @torch.no_grad()
    def _keep_of(self, model: nn.Module, mask: Mask | None, quota: Callable[[int, int], int]) -> Mask:
        """Return the mask that keeps quota(size, remaining) weights, of all or of each layer as the scope says."""
        old: dict[str, tuple[nn.Parameter, Bits | None]]
        if mask is None:
            old = {name: (p, None) for name, p in check_present(select_prunable(model)).items()}
            if found := count_zeros(old):
                raise RuntimeError(
                    f"mask=None means that nothing is pruned yet, but {found[0]:,} of {found[1]:,} weights are zero. "
                    "Pass the mask; sparsedd.Mask.nonzero(model) finds it."
                )
        else:
            old = dict(match_and_warn(_checks.kind("mask", mask, Mask, "a Mask or None"), model))
        places = [Place.of(p) for p, _ in old.values()]
        here = [local(p).numel() if keep is None else keep.count() for p, keep in old.values()]
        kept = dict(zip(old, sum_each(here, places), strict=True))
        groups = [list(old)] if self.scope == "global" else [[name] for name in old]
        plan = []
        for group in groups:
            remaining = sum(kept[name] for name in group)
            wanted = quota(sum(old[name][0].numel() for name in group), remaining)
            if wanted > remaining:
                what = "the mask" if self.scope == "global" else f"the mask of {group[0]!r}"
                raise ValueError(
                    f"{what} keeps {remaining:,} weights, fewer than the {wanted:,} wanted: prune_to never regrows."
                )
            plan.append((group, remaining, wanted))
        if not any(wanted for _, _, wanted in plan):
            raise ValueError(f"nothing would be kept of {mask or Mask.dense(model)!r}: prune less, or stop the sweep here.")
        score = NAMED[self.score] if isinstance(self.score, str) else self.score
        new: dict[str, Bits] = {}
        for group, remaining, wanted in plan:
            ranking = Ranking([_score(score, name, *old[name]) for name in group], remaining)
            parts = ranking.without_lowest(remaining - wanted)
            for name, part in zip(group, parts, strict=True):
                new[name] = gather(part.to(local(old[name][0]).device), old[name][0])
        return Mask._of(new)


def _warn_of_lost(mask: Mask, before: Mask | None) -> Mask:
    """Warn of layers that have no weights left and had some before, and return the mask."""
    empty = [name for name, keep in mask._bits.items() if keep.numel() and not keep.any()]
    if empty := [name for name in empty if before is None or name not in before or before[name].any()]:
        _checks.warn(
            f"no weight is left of {abridge(map(repr, empty))}: such a layer gives the same for every input, and the model "
            "may, too. Prune less, prune each layer alone (scope='layer'), or leave it out of the mask."
        )
    return mask


def _score(score: scores.Score, name: str, parameter: nn.Parameter, keep: Bits | None) -> Scored:
    """Score a parameter; the scores of :mod:`sparsedd.scores` are left to be computed slice by slice."""
    place, here = Place.of(parameter), local(parameter.detach())
    if score is scores.magnitude and parameter.dtype in FLOATS:
        return Scored(name, here, keep, abs, place=place)
    grad: Any = parameter.grad if score is scores.gradient and parameter.dtype in FLOATS else None
    if grad is not None and grad.dtype in FLOATS and grad.layout is torch.strided and _is_split_alike(grad, parameter):
        return Scored(name, here, keep, abs, local(grad.detach()), place=place)
    if isinstance(score, scores._Random) and not place.groups:
        return _on(exact_on(here.device), Draws(name, here, keep, draw=partial(score.draw, name)))
    values = score(name, parameter)
    _checks.kind(f"the score of {name!r}", values, Tensor, "a tensor")
    if values.shape not in (parameter.shape, place.size):  # the part alone will do
        raise ValueError(f"the score of {name!r} must have shape {tuple(parameter.shape)}, got {tuple(values.shape)}.")
    if values.is_complex() or values.dtype == torch.bool:
        raise TypeError(f"the score of {name!r} must be real numbers, got {values.dtype}.")
    values = take_part(values.detach(), parameter) if values.shape == parameter.shape else values.detach()
    wide = values.dtype == torch.float64 or values.dtype not in FLOATS
    at = exact_on(here.device) if wide else here.device
    values = values.to(at)
    return _on(at, Scored(name, values if values.dtype in FLOATS else values.double(), keep, place=place))


def _on(device: torch.device, scored: Scored) -> Scored:
    """Return scores that are read, and ranked, on a device."""
    keep = None if scored.keep is None else scored.keep.to(device)
    return replace(scored, values=scored.values.to(device), keep=keep)


def _is_split_alike(tensor: Any, other: Any) -> bool:
    """Check that two tensors are whole, or sharded in one way."""
    return getattr(tensor, "placements", None) == getattr(other, "placements", None)
