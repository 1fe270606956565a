"""Enforcement: pruned weights stay zero while an optimizer trains the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn
from torch.optim import Adagrad, Optimizer, Rprop

from sparsedd._parameters import lookup

if TYPE_CHECKING:
    from sparsedd._mask import Mask

# What a fresh optimizer holds for a weight, where that is not zero.
_FRESH: dict[tuple[type[Optimizer], str], Callable[[dict[str, Any]], Any]] = {
    (Adagrad, "sum"): lambda group: group["initial_accumulator_value"],
    (Rprop, "step_size"): lambda group: group["lr"],
}
_INTEGER = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by width in bytes


class Enforcement:
    """What :meth:`Mask.enforce` returns: a ``with`` block in which pruned weights are exactly +0.0 after every step.

    Attributes
    ----------
    mask
        The mask in force.
    """

    mask: Mask

    def __init__(self, mask: Mask, model: nn.Module, optimizers: Sequence[Optimizer]) -> None:
        if not optimizers:
            raise TypeError("enforce needs the optimizers that train the model: mask.enforce(model, optimizer).")
        for optimizer in optimizers:
            if not isinstance(optimizer, Optimizer):
                raise TypeError(f"enforce takes optimizers of torch.optim, got {type(optimizer).__name__}.")
        mask.apply_(model)
        self.mask = mask
        self._model = model
        self._optimizers = tuple(optimizers)
        self._bits: dict[str, Tensor] = {}
        self._hooks = [o.register_step_post_hook(self._after_step) for o in self._optimizers]

    def __repr__(self) -> str:
        state = "in force" if self._hooks else "ended"
        return f"Enforcement({self.mask!r}, {state})"

    def __enter__(self) -> Self:
        if not self._hooks:
            raise RuntimeError("this enforcement has ended: call mask.enforce(model, optimizer) again.")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            self.remove()
        else:
            with suppress(Exception):  # the error may be that the mask no longer fits the model: it passes unchanged
                self._detach()

    def update(self, mask: Mask) -> None:
        """Go on with a smaller mask, from now on: gradual pruning in the middle of training.

        Raises
        ------
        ValueError
            When the mask keeps a weight that the present one prunes: regrowing is leaving the block.
        RuntimeError
            When the enforcement has ended.
        """
        if not self._hooks:
            raise RuntimeError("this enforcement has ended: call mask.enforce(model, optimizer) again.")
        if not isinstance(mask, type(self.mask)):
            raise TypeError(f"update takes a Mask, got {type(mask).__name__}.")
        if not mask <= self.mask:
            raise ValueError(f"update only ever prunes more, but {mask!r} keeps weights that {self.mask!r} prunes.")
        mask.apply_(self._model)
        self.mask = mask
        self._bits = {}

    def remove(self) -> None:
        """End it, as leaving the block does. A second call does nothing.

        Raises
        ------
        RuntimeError
            When something else than the enforced optimizers has moved pruned weights.
        """
        if not self._hooks:
            return
        self._detach()
        if not self.mask.holds(self._model):
            raise RuntimeError(
                "pruned weights were moved by something else than the enforced optimizers: pass every optimizer of the "
                "model to enforce, and call mask.apply_(model) after loading weights inside the block."
            )

    def _detach(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        self._bits = {}
        self._refresh_state()

    @torch.no_grad()
    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        # w AND 11...1 = w, w AND 00...0 = +0.0, whatever w is: NaN and -0.0 end here too.
        weights = {name: _real(lookup(self._model, name)) for name in self._bits}
        if not weights or any(_differ(weights[name], bits) for name, bits in self._bits.items()):
            pairs = {name: (_real(p), keep) for name, (p, keep) in self.mask._on(self._model).items()}
            weights = {name: w for name, (w, _) in pairs.items()}
            self._bits = {name: _all_ones(w, keep) for name, (w, keep) in pairs.items()}
        for name, bits in self._bits.items():
            weights[name].view(bits.dtype).bitwise_and_(bits)

    @torch.no_grad()
    def _refresh_state(self) -> None:
        """Give the pruned weights the state that a fresh optimizer has."""
        pruned = {id(p): ~keep for p, keep in self.mask._on(self._model).values()}
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                for p in group["params"]:
                    if id(p) not in pruned:
                        continue
                    for key, value in optimizer.state.get(p, {}).items():
                        if isinstance(value, Tensor) and value.shape == p.shape and key != "step":
                            fresh = next((f(group) for (c, k), f in _FRESH.items() if k == key and isinstance(optimizer, c)), 0)
                            value.masked_fill_(pruned[id(p)].to(value.device), fresh)


def _real(p: Tensor) -> Tensor:
    """The weights themselves; of complex ones the two parts, as one more dimension."""
    return torch.view_as_real(p.detach()) if p.is_complex() else p.detach()


def _differ(w: Tensor, bits: Tensor) -> bool:
    """Have the weights become something else than what the bits were made for?"""
    return bits.device != w.device or bits.element_size() != w.element_size() or bits.shape != w.shape


def _all_ones(w: Tensor, keep: Tensor) -> Tensor:
    """Integers as wide as the weights, in their memory order: all bits one where kept, else zero."""
    keep = keep if keep.shape == w.shape else keep.unsqueeze(-1)
    return torch.empty_like(w, dtype=_INTEGER[w.element_size()]).copy_(keep).neg_()
