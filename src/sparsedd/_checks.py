"""Arguments, checked and read exactly."""

import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from math import inf, isfinite
from numbers import Integral, Rational, Real
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")


def warn(message: str) -> None:
    """Warn at the caller's line: the first that is neither in this package nor in torch, which calls hooks."""
    frame, level = sys._getframe(1), 2
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in (__package__, "torch"):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)


class Missing(KeyError, ValueError):
    """A name that is not there: a mapping's KeyError, which prints as its message, and a wrong value."""

    def __str__(self) -> str:
        return str(self.args[0])


class Fixed(dict[K, V]):
    """A mapping that can't be written to; errors say what to do ``instead``."""

    def __init__(self, what: str, things: Mapping[K, V], instead: str) -> None:
        super().__init__(things)
        self._what, self._instead = what, instead

    def __reduce__(self) -> Any:
        return type(self), (self._what, dict(self), self._instead)

    def _refuse(self, *arguments: object, **named: object) -> Any:
        raise TypeError(
            f"the {self._what.removesuffix('s')}s can't be written to: stored results go by what they are. {self._instead}."
        )

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse


class Named(Fixed[str, V]):
    """A mapping whose error for a missing name lists those that it has."""

    def __repr__(self) -> str:
        return f"{len(self)} {self._what.removesuffix('s')}s by name: {', '.join(map(repr, self))}"

    def __missing__(self, name: object) -> V:
        raise Missing(f"there is no {self._what} {name!r}. There are {', '.join(map(repr, self))}.")


def share(name: str, value: object, *, one: bool) -> Fraction:
    """Read a share as the decimal number that was written: 0.07 is 7/100, not the nearest double."""
    bounds = "[0, 1]" if one else "[0, 1)"
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number in {bounds}, got {value!r} of type {type(value).__name__}.")
    if isinstance(value, Rational):
        exact = Fraction(value)
    elif not isfinite(value):
        raise ValueError(f"{name} must be in {bounds}, got {value}.")
    else:
        exact = Fraction(str(value))
    if not (0 <= exact < 1 or (one and exact == 1)):
        hint = f" It is a share, not a percentage: did you mean {float(exact) / 100:g}?" if 1 < exact <= 100 else ""
        raise ValueError(f"{name} must be in {bounds}, got {value}.{hint}")
    return exact


def whole(name: str, value: object, *, least: int = 0) -> int:
    """Read an integer of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be an integer, got {value!r} of type {type(value).__name__}.")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}.")
    return int(value)


def real(name: str, value: object) -> float:
    """Read a number, which may be NaN or infinite."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {value!r} of type {type(value).__name__}.")
    return float(str(value)) if not isinstance(value, Rational) else float(value)


def number(name: str, value: object, *, above: float = -inf, least: float = -inf) -> float:
    """Read a finite number above one bound and not below another."""
    found = real(name, value)
    if not isfinite(found) or found <= above or found < least:
        bound = f" and above {above:g}" if above > -inf else f" and at least {least:g}" if least > -inf else ""
        raise ValueError(f"{name} must be finite{bound}, got {value}.")
    return found


def one_of(name: str, value: object, allowed: tuple[str, ...], otherwise: str = "") -> None:
    """Check that a value is one of a few names; ``otherwise`` is what else it might have been."""
    if not isinstance(value, str) or value not in allowed:
        kind = ValueError if isinstance(value, str) else TypeError
        raise kind(f"{name} must be one of {', '.join(map(repr, allowed))}{otherwise}, got {value!r}.")


def kind(name: str, value: object, wanted: type[T] | tuple[type[T], ...], words: str) -> T:
    """Check that a value is of a class, or of one of several, which ``words`` describe; return it."""
    if not isinstance(value, wanted):
        text = repr(value)
        text = text if len(text) <= 60 and "\n" not in text else "one"
        raise TypeError(f"{name} must be {words}, got {text} of type {type(value).__name__}.")
    return value


def function(name: str, value: object, words: str) -> None:
    """Check that a value is callable and not a class."""
    if not callable(value) or isinstance(value, type):
        raise TypeError(f"{name} must be a callable, {words}, got {value!r}.")


def every(name: str, values: object, wanted: type[T], words: str) -> list[T]:
    """List values of one class from any iterable."""
    if isinstance(values, str | wanted) or not isinstance(values, Iterable):
        raise TypeError(f"{name} must be a list of {words}, got {values!r} of type {type(values).__name__}.")
    return [kind(name, value, wanted, words) for value in values]


def executor(name: str, value: object) -> None:
    """Check that tasks can be submitted to a value."""
    if not callable(getattr(value, "submit", None)) or isinstance(value, type):
        raise TypeError(f"{name} must be a concurrent.futures.Executor or None, got {value!r}.")


def path(name: str, value: object) -> Path:
    """Read the path of a file or a folder."""
    return Path(kind(name, value, (str, os.PathLike), "a string or a path"))  # type: ignore[arg-type]


def folder(name: str, value: object) -> Path:
    """Read the path of a folder that is there or can be made."""
    place = path(name, value)
    for part in (place, *place.parents):
        if part.is_file():
            raise NotADirectoryError(f"{part} is a file, and {name} must be a folder: pass another.")
    return place


def device(name: str, value: object) -> torch.device:
    """Read a device that is there, and holds what is put on it."""
    try:
        found: torch.device = torch.device(value)  # type: ignore[call-overload]
    except TypeError:
        raise TypeError(f"{name} must be a torch.device or its name, such as 'cpu', got {value!r}.") from None
    except RuntimeError:
        found = torch.device("meta")
    if found.type == "meta":
        raise ValueError(f"{name} must be one that torch computes on, such as 'cpu' or 'cuda', got '{value}'.")
    if found.type == "cuda":  # counted, which leaves CUDA asleep: once awake, it is of no use to processes that are forked
        if not (count := torch.cuda.device_count()):
            raise RuntimeError(f"{name} must be one that torch finds, got '{value}' on a machine without CUDA: use 'cpu'.")
        if (found.index or 0) >= count:
            raise RuntimeError(f"{name} must be one of {count} CUDA devices, from 0 on, got '{value}': use 'cuda' or 'cpu'.")
        return found
    try:
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise RuntimeError(f"{name} must be one that torch finds, got '{value}': use 'cpu'.") from error
    return found


def numbers(name: str, values: object) -> NDArray[np.float64]:
    """Read an array of numbers from lists, arrays or tensors."""
    try:
        return np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values, dtype=np.float64)
    except (ValueError, TypeError, RuntimeError) as error:
        raise TypeError(f"{name} must be numbers in lists of equal length, got {values!r}.") from error


def pairs(batches: object) -> Iterator[tuple[Any, Any]]:
    """Yield batches checked to be pairs of inputs and targets; those without samples are passed over."""
    if isinstance(batches, Tensor | str | Mapping) or not isinstance(batches, Iterable):
        raise TypeError(f"batches must be an iterable of (inputs, targets), got {type(batches).__name__}: write [(x, y)].")
    for batch in batches:
        parts = batch if isinstance(batch, tuple | list) else (batch,)
        if len(parts) != 2 or not all(hasattr(part, "to") for part in parts):
            got = ", ".join(type(part).__name__ for part in parts)
            raise TypeError(f"a batch must be a pair of tensors, (inputs, targets), got ({got}): is it [(x, y)] that you mean?")
        if not isinstance(parts[1], Tensor) or parts[1].numel():
            yield parts[0], parts[1]


def output(found: object) -> Tensor:
    """Check that a model returned its logits and nothing else."""
    if not isinstance(found, Tensor):
        key = next(iter(found), "logits") if isinstance(found, Mapping) else 0
        part = ".logits" if hasattr(found, "logits") else f"[{key!r}]"
        raise TypeError(
            f"the model must return a tensor of logits, got {type(found).__name__}: pass a torch.nn.Module whose "
            f"forward returns model(inputs){part}."
        )
    return found


def loss(function: Callable[[Tensor, Tensor], Tensor], logits: Tensor, targets: Tensor) -> Tensor:
    """Compute the loss of logits and targets; for cross-entropy, check that targets are classes first."""
    for_classes = function is cross_entropy or isinstance(function, nn.CrossEntropyLoss)
    if for_classes and targets.shape != output(logits).shape and targets.dtype not in (torch.int64, torch.uint8):
        raise TypeError(f"targets must be classes of type torch.int64, got {targets.dtype}: use targets.long().")
    if for_classes and targets.shape not in (logits.shape, logits.shape[:1] + logits.shape[2:]):
        got = f"{tuple(logits.shape)} and {tuple(targets.shape)}"
        raise ValueError(f"this cross-entropy takes (b, C) logits and (b,) targets, got {got}: pass another loss.")
    with classes(targets):
        return function(logits, targets)


@contextmanager
def classes(targets: Tensor) -> Iterator[None]:
    """Turn an IndexError inside the block into a ValueError about targets that are no classes of the logits."""
    try:
        yield
    except IndexError as error:
        low, high = targets.min().item(), targets.max().item()
        raise ValueError(f"targets must be classes that the logits have, from 0 on, got {low} ... {high}: {error}.") from error
