"""Enforcement: pruned weights stay zero while an optimizer trains the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from warnings import warn
from weakref import WeakMethod, finalize

import torch
from torch import Tensor, nn
from torch.optim import LBFGS, Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook

from sparsedd._optimizers import ELEMENTWISE, forget_directions, refresh_state
from sparsedd._parameters import follow, parameters, path

if TYPE_CHECKING:
    from sparsedd._mask import Mask

_INTEGER = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by width in bytes


class Enforcement:
    """What :meth:`Mask.enforce` returns: a ``with`` block in which pruned weights are exactly +0.0 after every step.

    Attributes
    ----------
    mask
        The mask in force.
    """

    mask: Mask
    _places: dict[tuple[str, ...], tuple[Tensor, Tensor]]

    def __init__(self, mask: Mask, model: nn.Module, optimizers: Sequence[Optimizer]) -> None:
        if not optimizers:
            raise TypeError("enforce needs the optimizers that train the model: mask.enforce(model, optimizer).")
        for optimizer in optimizers:
            if not isinstance(optimizer, Optimizer):
                hint = ": pass them one by one, enforce(model, *optimizers)" if isinstance(optimizer, list | tuple) else ""
                raise TypeError(f"enforce takes optimizers of torch.optim, got {type(optimizer).__name__}{hint}.")
        mask._on(model)
        if strangers := _strangers(model, optimizers):
            raise ValueError(
                f"this {strangers[0]} holds no parameter of the model, so it can't train it: a copy of an optimizer holds "
                "copies, and load_state_dict(assign=True) puts other parameters into the model. "
                "Make a new optimizer of model.parameters()."
            )
        mask.apply_(model)
        self.mask = mask
        self._model = model
        self._optimizers = tuple(optimizers)
        self._stepping = False
        self._steps = 0
        self._moved_by: str | None = None  # an optimizer that was not passed, and moved pruned weights
        self._copy: str | None = None  # one that was not passed, and stepped weights of the same shapes
        self._begin()
        any_step = WeakMethod(self._after_any_step)  # the hook of all optimizers must not keep the model alive
        watch = register_optimizer_step_post_hook(lambda *step: (hook := any_step()) and hook(*step))
        finalize(self, watch.remove)
        self._hooks = [watch]
        for optimizer in self._optimizers:
            self._hooks.append(optimizer.register_step_pre_hook(self._before_step))
            self._hooks.append(own := optimizer.register_step_post_hook(self._after_step))
            hooks: Any = optimizer._optimizer_step_post_hooks
            hooks.move_to_end(own.id, last=False)  # the hooks of others see masked weights

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
        self._begin()

    def remove(self) -> None:
        """End it, as leaving the block does. A second call does nothing.

        Raises
        ------
        RuntimeError
            When something else than the enforced optimizers has moved pruned weights.

        Warns
        -----
        UserWarning
            When only optimizers that were not passed have stepped.
        """
        if not self._hooks:
            return
        self._detach()
        if self._moved_by or not self.mask.holds(self._model):
            raise RuntimeError(
                f"pruned weights were moved by something else than the enforced optimizers{self._moved_by or ''}: pass every "
                "optimizer of the model to enforce, and call mask.apply_(model) after loading weights inside the block."
            )
        if self._copy and not self._steps:
            warn(
                f"no enforced optimizer took a step, but {self._copy} did: is it a copy? A copy of an optimizer trains "
                "copies of the weights, and no mask is enforced on them.",
                stacklevel=3,
            )

    def _detach(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        self._places = {}
        pruned = self._pruned()
        for optimizer in self._optimizers:
            refresh_state(optimizer, pruned)

    def _pruned(self) -> dict[int, Tensor]:
        return {id(p): ~keep for p, keep in self.mask._on(self._model).values()}

    def _begin(self) -> None:
        """Start with a mask that holds now."""
        self._find()
        for optimizer in self._optimizers:
            if isinstance(optimizer, LBFGS):
                forget_directions(optimizer, self._pruned())

    def _find(self) -> None:
        """Look up where the weights are."""
        on = self.mask._on(self._model)
        self._places = {path(self._model, name): _words(p, keep) for name, (p, keep) in on.items()}
        self._seen = self._look()

    def _look(self) -> list[tuple[Any, ...]]:
        """Where the weights lie, and how often they were written to."""
        try:
            return [(p.data_ptr(), p.stride(), p._version) for p in (follow(self._model, keys) for keys in self._places)]
        except (KeyError, AttributeError):  # another module has taken a place on the way
            return []

    def _spoilt(self) -> bool:
        """Has something moved pruned weights since the mask was applied? Looks at them only where something was written."""
        return self._look() != self._seen and not self.mask.holds(self._model)

    def _before_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> Any:
        self._stepping = True
        self._steps += 1
        if not self._moved_by and self._spoilt():
            warn(
                "pruned weights were moved between two steps, by load_state_dict or the like, and this step zeroes them, but "
                "its gradients are those of the unpruned model: call mask.apply_(model) after loading inside the block.",
                stacklevel=4,
            )
        if isinstance(optimizer, ELEMENTWISE):
            return None
        self.mask.apply_to_grads_(self._model)
        if callable(closure := kwargs.get("closure")):
            return args, {**kwargs, "closure": self._masked(closure)}
        return ((args[0], self._masked(args[1]), *args[2:]), kwargs) if len(args) > 1 and callable(args[1]) else None

    def _masked(self, closure: Callable[[], Any]) -> Callable[[], Any]:
        def masked() -> Any:
            loss = closure()
            self.mask.apply_to_grads_(self._model)
            return loss

        return masked

    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        now = self._look()
        if [where for *where, _ in now] == [where for *where, _ in self._seen]:
            self._seen = now  # masking through .data is no write that counts
        else:
            self._find()
            for stranger in _strangers(self._model, [optimizer]):
                warn(
                    f"this {stranger} holds no parameter of the model any more, so it trains nothing: after "
                    "load_state_dict(assign=True), make a new optimizer of model.parameters(), and enforce the mask on it.",
                    stacklevel=4,
                )
        for words, ones in self._places.values():
            words.bitwise_and_(ones)  # w AND 11...1 = w, w AND 00...0 = +0.0, whatever w is: NaN and -0.0 end here too
        self._stepping = False

    def _after_any_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Notice optimizers that were not passed."""
        if self._stepping or any(optimizer is own for own in self._optimizers):
            return
        name = f"another {type(optimizer).__name__}"
        if not self._steps and any(_shapes(optimizer) == _shapes(own) for own in self._optimizers):
            self._copy = name
        if self._spoilt():
            self._moved_by = f" ({name})"


def _words(p: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
    """The weights' bits as integers, and integers with all bits one where a weight is kept, else zero; in one memory order."""
    w = torch.view_as_real(p.data) if p.is_complex() else p.data  # masking is no change that autograd should know of
    keep = keep if keep.shape == w.shape else keep.unsqueeze(-1)
    words = w.view(_INTEGER[w.element_size()])
    return words, torch.empty_like(words).copy_(keep).neg_()


def _held(optimizer: Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def _shapes(optimizer: Optimizer) -> list[torch.Size]:
    return [p.shape for p in _held(optimizer)]


def _strangers(model: nn.Module, optimizers: Sequence[Optimizer]) -> list[str]:
    """The optimizers that hold no parameter of the model."""
    own = {id(p) for p in parameters(model).values()}
    return [type(o).__name__ for o in optimizers if own.isdisjoint(map(id, _held(o)))]
