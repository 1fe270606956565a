"""Enforcement: pruned weights stay zero while an optimizer trains the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import RLock, get_ident
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from weakref import ref

import torch
from torch import Tensor, nn
from torch.optim import LBFGS, Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.hooks import RemovableHandle

from sparsedd import _checks
from sparsedd._bits import Bits
from sparsedd._match import fit_names, have_moved, have_moved_anywhere, match, match_and_warn
from sparsedd._optimizers import ELEMENTWISE, fill_, find_optimizers, forget_directions, refresh_state
from sparsedd._parameters import abridge, address, follow, locate, parameters
from sparsedd._shards import local
from sparsedd._words import Words

if TYPE_CHECKING:
    from sparsedd._mask import Mask


class Enforcement:
    """A ``with`` block, of :meth:`Mask.enforce`, in which pruned weights are exactly +0.0 after every step.

    A CUDA graph of a step, captured inside the block, masks the weights at each replay, by the present mask after
    :meth:`update`, too. Once the block has ended, it is not to be replayed.

    Attributes
    ----------
    mask
        The mask in force.
    """

    mask: Mask
    _places: list[tuple[tuple[str, ...], Bits]]
    _words: Words

    def __init__(self, mask: Mask, model: nn.Module, optimizers: Sequence[Optimizer]) -> None:
        if not optimizers:
            raise TypeError("enforce needs the optimizers that train the model: mask.enforce(model, optimizer).")
        for optimizer in optimizers:
            if not isinstance(optimizer, Optimizer):
                hint = ": pass them one by one, enforce(model, *optimizers)" if isinstance(optimizer, list | tuple) else ""
                raise TypeError(f"enforce takes optimizers of torch.optim, got {type(optimizer).__name__}{hint}.")
            if not find_optimizers(optimizer):
                raise TypeError(f"this {type(optimizer).__name__} calls no step hooks: pass the optimizer that it wraps.")
        match_and_warn(mask, model)
        if strangers := _find_strangers(model, optimizers):
            raise ValueError(
                f"this {strangers[0]} holds no parameter of the model, so it can't train it: a copy of an optimizer holds "
                "copies, and load_state_dict(assign=True) puts other parameters into the model. "
                "Make a new optimizer of model.parameters()."
            )
        self._model = model
        self._given = tuple(optimizers)
        self._optimizers = tuple(dict.fromkeys(own for optimizer in optimizers for own in find_optimizers(optimizer)))
        self._steps = 0
        self._moved_by: str | None = None  # an optimizer that was not passed, and moved pruned weights
        self._before: dict[int, str | None] = {}  # by an optimizer's id: the same, when its step began
        self._copy: str | None = None  # one that was not passed, and stepped weights of the same shapes
        self._thread = get_ident()
        self._births: dict[Any, Any] = {}
        self._left: set[str] = set()  # what was said to be left alone
        self._hooks: list[RemovableHandle] = []
        self._words = Words([])
        try:
            for optimizer in self._optimizers:
                self._hooks.append(optimizer.register_step_pre_hook(self._before_step))
                self._hooks.append(own := optimizer.register_step_post_hook(self._after_step))
                hooks: Any = optimizer._optimizer_step_post_hooks
                hooks.move_to_end(own.id, last=False)  # the hooks of others see masked weights
            self._begin(mask)
        except BaseException:
            self._unhook()
            raise
        _watch(self, True)

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
                self._warn_of(self._detach())

    def update(self, mask: Mask, *, regrow: bool = False) -> None:
        """Go on with another mask: gradual pruning, or a mask that moves, in the middle of training.

        Parameters
        ----------
        mask
            A smaller one; with ``regrow`` any.
        regrow
            Let weights come back, bit for bit as if the block was left and entered again. They start at +0.0 with the state of
            a fresh optimizer, but for what it counts for a whole parameter: Adam's ``step`` goes on, so late in training the
            first move of such a weight is (1 - β₁)/√(1 - β₂) ≈ 3 learning rates long, not one.

        Raises
        ------
        ValueError
            When the mask keeps a weight that the present one prunes, without ``regrow``.
        RuntimeError
            When the enforcement has ended, or pruned weights were moved, by loading others, say: the mask comes first.

        Notes
        -----
        Gradients to choose by are in ``.grad`` between ``backward`` and the step, until :meth:`Mask.apply_to_grads_` clears
        those of pruned weights. They are of the net under the mask before, and a step that follows goes by them: move the mask
        instead of a step, or else first, then clear by the new mask, clip and step; not between two of several accumulated.
        """
        if not self._hooks:
            raise RuntimeError("this enforcement has ended: call mask.enforce(model, optimizer) again.")
        _checks.kind("mask", mask, type(self.mask), "a Mask")
        shrinks = not _checks.kind("regrow", regrow, bool, "True or False")
        if shrinks and not fit_names(mask, self._model) <= fit_names(self.mask, self._model):
            raise ValueError(
                f"update only ever prunes more, but {mask!r} keeps weights that {self.mask!r} prunes: pass regrow=True to let "
                "them come back."
            )
        if have_moved(match(self.mask, self._model)):  # asked even where no write counts, as of p.data.copy_(...)
            raise RuntimeError(
                f"pruned weights were moved by something else than the enforced optimizers{self._moved_by or ''}, and what the "
                "present mask prunes of them would be lost: update the mask first and load weights then, or call "
                "enforcement.mask.apply_(model) before."
            )
        self._begin(mask, regrow)

    def remove(self) -> None:
        """End the enforcement, as leaving the block does. A second call does nothing.

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
        left = self._detach()
        if have_moved_anywhere(match(self.mask, self._model), moved=bool(self._moved_by)):  # all shards' processes ask
            raise RuntimeError(
                f"pruned weights were moved by something else than the enforced optimizers{self._moved_by or ''}: pass every "
                "optimizer of the model to enforce, and call mask.apply_(model) after loading weights inside the block."
            )
        if self._copy and not self._steps:
            _checks.warn(
                f"no enforced optimizer took a step, but {self._copy} did: is it a copy? A copy of an optimizer trains "
                "copies of the weights, and no mask is enforced on them.",
            )
        self._warn_of(left)

    def _detach(self) -> set[str]:
        self._unhook()
        self._places, self._words = [], Words([])
        return self._refresh(self._optimizers)

    def _unhook(self) -> None:
        _watch(self, False)
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def _refresh(self, optimizers: Sequence[Optimizer]) -> set[str]:
        kept = self._map_kept()
        return {what for optimizer in optimizers for what in refresh_state(optimizer, kept, self._births)}

    def _warn_of(self, left: set[str]) -> None:
        if new := sorted(left - self._left):
            self._left |= left
            _checks.warn(
                f"{abridge(new)} may remember something of pruned weights, and was left alone: what a fresh optimizer would "
                "hold there could not be found out. Where training goes on dense, begin with a new optimizer."
            )

    def _map_kept(self) -> dict[int, Bits]:
        return {id(p): keep for p, keep in match(self.mask, self._model).values()}

    def _begin(self, mask: Mask, regrow: bool = False) -> None:
        """Hold a mask from now on, in the weights and in what optimizers remember of them."""
        places, words = self._locate(mask)  # what can fail comes before the first write
        if regrow:  # what the last mask pruned begins anew
            self.mask.apply_(self._model)
            self._warn_of(self._refresh(self._optimizers))
        mask.apply_(self._model)
        self.mask, self._places, self._words = mask, places, self._words.become(words)
        self._seen = self._look()
        self._warn_of(self._refresh(self._optimizers))
        for optimizer in self._optimizers:
            if isinstance(optimizer, LBFGS):
                forget_directions(optimizer, self._map_kept())

    def _locate(self, mask: Mask) -> tuple[list[tuple[tuple[str, ...], Bits]], Words]:
        """Return the place of each masked parameter now, with its mask, and the words of all that is here."""
        found = match(mask, self._model)
        places = [(locate(self._model, name), keep) for name, (_, keep) in found.items()]
        return places, Words([(local(p).data, keep) for p, keep in found.values()])

    def _look(self) -> list[tuple[Any, ...]]:
        """Return where the weights lie, and how often they were written to."""
        return [(address(p), p.stride(), p._version) for p in map(local, self._follow())]

    def _stays(self, now: list[tuple[Any, ...]]) -> bool:
        """Check whether the weights lie where they lay."""
        return [where for *where, _ in now] == [where for *where, _ in self._seen]

    def _holds(self, mask: Mask, model: nn.Module) -> bool:
        """Check whether this is of a mask and a model, and the weights lie where they lay."""
        return self.mask is mask and self._model is model and self._stays(self._look())

    def _follow(self) -> list[nn.Parameter]:
        try:
            return [follow(self._model, keys) for keys, _ in self._places]
        except (KeyError, AttributeError):  # another module has taken a place on the way
            return []

    def _is_spoilt(self) -> bool:
        """Check whether pruned weights here have moved since the mask was applied; looks at them only after something wrote."""
        return self._look() != self._seen and have_moved(match(self.mask, self._model))  # without a word to other processes

    def _before_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> Any:
        self._steps += 1
        self._before[id(optimizer)] = self._moved_by
        if not self._moved_by and self._is_spoilt():
            _checks.warn(
                "pruned weights were moved between two steps, by load_state_dict or the like, and this step zeroes them, but "
                "its gradients are those of the unpruned model: call mask.apply_(model) after loading inside the block.",
            )
        if type(optimizer) in ELEMENTWISE:
            return None
        self.mask.apply_to_grads_(self._model)
        if callable(closure := kwargs.get("closure")):
            return args, {**kwargs, "closure": self._mask_closure(closure)}
        return ((args[0], self._mask_closure(args[1]), *args[2:]), kwargs) if len(args) > 1 and callable(args[1]) else None

    def _mask_closure(self, closure: Callable[[], Any]) -> Callable[[], Any]:
        def compute_masked() -> Any:
            loss = closure()
            self.mask.apply_to_grads_(self._model)
            return loss

        return compute_masked

    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        now = self._look()
        if self._stays(now):
            self._seen = now  # masking through .data is no write that counts
        else:
            self._places, self._words = self._locate(self.mask)
            self._seen = self._look()
            for stranger in _find_strangers(self._model, self._given):
                _checks.warn(
                    f"this {stranger} holds no parameter of the model any more, so it trains nothing: after "
                    "load_state_dict(assign=True), make a new optimizer of model.parameters(), and enforce the mask on it.",
                )
        self._words.clear_pruned_()
        if hasattr(optimizer, "eval"):  # it swaps weights with others that it remembers, as schedule-free ones do
            self._refresh([optimizer])
        self._moved_by = self._before.pop(id(optimizer), self._moved_by)  # what another moved within this step is zero now

    def _notice_step(self, optimizer: Optimizer) -> None:
        """Notice optimizers that were not passed."""
        if any(optimizer is own for own in self._optimizers):
            return
        name = f"another {type(optimizer).__name__}"
        here = not self._steps and get_ident() == self._thread
        if here and any(_list_shapes(optimizer) == _list_shapes(own) for own in self._optimizers):
            self._copy = name
        if not {id(p) for p in self._follow()}.isdisjoint(map(id, _list_parameters(optimizer))) and self._is_spoilt():
            self._moved_by = f" ({name})"


def clear_gradients_(mask: Mask, model: nn.Module) -> None:
    """Set the gradients of pruned weights to zero: where an enforcement saw the weights last, or else by name.

    Gradients that lie in memory as the weights do are cleared as these are, by the same factors.
    """
    own = next((e for live in _live if (e := live()) is not None and e._holds(mask, model)), None)
    if own is None:
        weights = list(match(mask, model).values())
    else:
        weights = [(p, keep) for p, (_, keep) in zip(own._follow(), own._places, strict=True)]
        gradients = [local(p.grad).detach() for p, _ in weights if p.grad is not None and _lie_alike(local(p.grad), local(p))]
        if len(gradients) == len(weights) and own._words.clear_pruned_of_(gradients):
            return
    for p, keep in weights:
        if p.grad is not None:
            fill_(local(p.grad), keep, 0)


def _lie_alike(a: Tensor, b: Tensor) -> bool:
    return type(a) is Tensor and (a.layout, a.dtype, a.device) == (b.layout, b.dtype, b.device) and a.stride() == b.stride()


_lock = RLock()  # a thread may collect garbage at any time, and that may end an enforcement
_live: tuple[ref[Enforcement], ...] = ()  # those in force, which this must not keep alive


def _watch(enforcement: Enforcement, on: bool) -> None:
    """Show an enforcement every step of any optimizer, or no more. Another thread may read the tuple: it is never changed."""
    global _live
    with _lock:
        others = tuple(other for other in _live if other() not in (None, enforcement))
        _live = (*others, ref(enforcement)) if on else others


def _notice(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    for live in _live:
        if (enforcement := live()) is not None:
            enforcement._notice_step(optimizer)


register_optimizer_step_post_hook(_notice)  # for good: another thread may be going through torch's hooks


def _list_parameters(optimizer: Optimizer) -> list[Tensor]:
    return [p for group in getattr(optimizer, "param_groups", ()) for p in group["params"]]


def _list_shapes(optimizer: Optimizer) -> list[torch.Size]:
    return [p.shape for p in _list_parameters(optimizer)]


def _find_strangers(model: nn.Module, optimizers: Sequence[Optimizer]) -> list[str]:
    """Return the class names of optimizers that hold no parameter of the model."""
    own = {id(p) for p in parameters(model).values()}
    return [type(o).__name__ for o in optimizers if own.isdisjoint(map(id, _list_parameters(o)))]
