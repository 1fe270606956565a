"""Enforcement: pruned weights stay zero while an optimizer trains the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn
from torch.optim import Adagrad, Optimizer, Rprop

from sparsedd._parameters import follow, path

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
        self._words: dict[tuple[str, ...], tuple[object, Tensor, Tensor]] = {}
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
        self._words = {}

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
        self._words = {}
        self._refresh_state()

    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if not self._words or self._moved():
            on = self.mask._on(self._model)
            self._words = {path(self._model, name): (_where(p), *_words(p, keep)) for name, (p, keep) in on.items()}
        for _, words, ones in self._words.values():
            words.bitwise_and_(ones)  # w AND 11...1 = w, w AND 00...0 = +0.0, whatever w is: NaN and -0.0 end here too

    def _moved(self) -> bool:
        """Are the parameters somewhere else than they were?"""
        try:
            return any(where != _where(follow(self._model, keys)) for keys, (where, _, _) in self._words.items())
        except (KeyError, AttributeError):  # another module has taken a place on the way
            return True

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


def _where(p: Tensor) -> tuple[int, tuple[int, ...]]:
    """Where a parameter's weights lie in memory, and in which order."""
    return p.data_ptr(), p.stride()


def _words(p: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
    """The weights' bits as integers, and integers with all bits one where a weight is kept, else zero; in one memory order."""
    w = torch.view_as_real(p.detach()) if p.is_complex() else p.detach()
    keep = keep if keep.shape == w.shape else keep.unsqueeze(-1)
    words = w.view(_INTEGER[w.element_size()])
    return words, torch.empty_like(words).copy_(keep).neg_()
