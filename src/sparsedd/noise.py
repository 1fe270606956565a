r"""Label noise: labels become partly wrong labels.

A noise is any callable ``(labels, num_classes, seed) -> labels``: int64 tensors of shape (n,). Three of these are the paper's
(He et al. 2022, A.3). They flip the first so many labels of an order that the seed alone decides, so that for one seed
the labels touched at a lower rate are among those touched at a higher one. The fourth holds labels that somebody else made.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from sparsedd import _checks, _random

__all__ = ["CIFAR100_SUPERCLASS", "FLIPS", "Asymmetric", "Given", "Noise", "Pairflip", "Symmetric"]

Noise: TypeAlias = Callable[[Tensor, int, int], Tensor]

#: The superclass of each of CIFAR-100's classes (Krizhevsky 2009), by class index.
CIFAR100_SUPERCLASS = (
    *(4, 1, 14, 8, 0, 6, 7, 7, 18, 3, 3, 14, 9, 18, 7, 11, 3, 9, 7, 11, 6, 11, 5, 10, 7),
    *(6, 13, 15, 3, 15, 0, 11, 1, 10, 12, 14, 16, 9, 11, 5, 5, 19, 8, 8, 15, 13, 14, 17, 18, 10),
    *(16, 4, 17, 4, 2, 0, 17, 4, 18, 17, 10, 3, 2, 12, 12, 16, 12, 1, 9, 19, 2, 10, 0, 1, 16),
    *(12, 9, 13, 15, 13, 16, 19, 2, 4, 6, 19, 5, 5, 8, 19, 18, 1, 2, 15, 6, 0, 17, 8, 14, 13),
)


def _fix(flips: Mapping[int, int]) -> dict[int, int]:
    return _checks.Fixed("flips", flips, "Make another Asymmetric(rate, {1: 7})")


def _superclass_flips() -> dict[int, int]:
    members = [[c for c, s in enumerate(CIFAR100_SUPERCLASS) if s == superclass] for superclass in range(20)]
    return {c: after for classes in members for c, after in zip(classes, classes[1:] + classes[:1], strict=True)}


#: Named flips, with the number of classes and which class becomes which. ``"cifar100"`` goes to the next class of the same
#: superclass; ``"cifar100-index"`` stays within blocks of five consecutive indices, as the authors' code does.
FLIPS: dict[str, tuple[int, dict[int, int]]] = _checks.Named(
    "flips",
    {
        "mnist": (10, _fix({2: 7, 3: 8, 5: 6, 6: 5})),
        "cifar10": (10, _fix({2: 0, 3: 5, 4: 7, 5: 3, 9: 1})),
        "cifar100": (100, _fix(_superclass_flips())),
        "cifar100-index": (100, _fix({c: c - 4 if c % 5 == 4 else c + 1 for c in range(100)})),
    },
    "Pass others as a mapping: Asymmetric(rate, {1: 7})",
)


@dataclass(frozen=True)
class Symmetric:
    """A noise that draws exactly round(rate · n) labels anew, chosen at random.

    Parameters
    ----------
    rate
        ε in [0, 1].
    draw
        ``"uniform"``: from all classes, the true one included, so that ε (1 - 1/C) of the labels are wrong (what the published
        curves used). ``"other"``: from the other classes. ``"permute"``: the chosen labels are permuted (the paper's words).

    Examples
    --------
    >>> labels = torch.arange(10).repeat(10)
    >>> noisy = Symmetric(0.2, draw="other")(labels, 10, seed=0)
    >>> int((noisy != labels).sum())
    20
    """

    rate: float
    draw: Literal["uniform", "other", "permute"] = "uniform"

    def __post_init__(self) -> None:
        _checks.share("rate", self.rate, one=True)
        _checks.one_of("draw", self.draw, ("uniform", "other", "permute"))

    def __call__(self, labels: Tensor, num_classes: int, seed: int) -> Tensor:
        true = _check(labels, num_classes, seed)
        chosen = _choose(self.rate, np.arange(len(true)), ("symmetric", seed))
        noisy = true.copy()
        if self.draw == "uniform":
            noisy[chosen] = _random.integers(("symmetric uniform", seed), len(true), num_classes)[: len(chosen)]
        elif self.draw == "other":
            if num_classes < 2 and len(chosen):
                raise ValueError(f"draw='other' needs at least two classes, got {num_classes}.")
            shift = 1 + _random.integers(("symmetric other", seed), len(true), max(num_classes - 1, 1))[: len(chosen)]
            noisy[chosen] = (true[chosen] + shift) % num_classes
        else:
            noisy[chosen] = true[chosen[_random.permutation(("symmetric permute", seed), len(chosen))]]
        return _like(noisy, labels)


@dataclass(frozen=True)
class Asymmetric:
    """A noise in which exactly round(rate · n_c) labels of each class c that flips become the class it is mistaken for.

    Flips look at the true labels alone, so they never cascade.

    Parameters
    ----------
    rate
        ε in [0, 1].
    flips
        ``"mnist"`` (2→7, 3→8, 5↔6), ``"cifar10"`` (bird→airplane, deer→horse, truck→automobile, cat↔dog),
        ``"cifar100"`` (the next class of the same superclass), ``"cifar100-index"`` (the authors' blocks of five
        consecutive indices), or a mapping from class to class.

    Examples
    --------
    >>> labels = torch.tensor([0, 0, 0, 0, 1, 1])
    >>> noisy = Asymmetric(0.5, flips={0: 1})(labels, 2, seed=0)
    >>> noisy.bincount()
    tensor([2, 4])
    """

    rate: float
    flips: Literal["mnist", "cifar10", "cifar100", "cifar100-index"] | Mapping[int, int] = field(hash=False)

    def __post_init__(self) -> None:
        _checks.share("rate", self.rate, one=True)
        if isinstance(self.flips, Mapping):
            flips = {_checks.whole("flips", c): _checks.whole("flips", to) for c, to in self.flips.items()}
            object.__setattr__(self, "flips", _fix(flips))
        else:
            _checks.one_of("flips", self.flips, tuple(FLIPS), " or a mapping from class to class")

    def __call__(self, labels: Tensor, num_classes: int, seed: int) -> Tensor:
        true = _check(labels, num_classes, seed)
        if isinstance(self.flips, str):
            classes, flips = FLIPS[self.flips]
            if num_classes != classes:
                raise ValueError(f"flips={self.flips!r} is for {classes} classes, got num_classes={num_classes}.")
        else:
            flips = dict(self.flips)
            if (last := max([*flips, *flips.values()], default=-1)) >= num_classes:
                raise ValueError(f"flips names class {last}, but there are only {num_classes} classes, from 0.")
        return _like(_flip(true, flips, self.rate, ("asymmetric", seed)), labels)


@dataclass(frozen=True)
class Pairflip:
    """A noise in which exactly round(rate · n_c) labels of each class c become c + 1, the last class the first.

    >>> Pairflip(1.0)(torch.tensor([0, 1, 2]), 3, seed=0)
    tensor([1, 2, 0])
    """

    rate: float

    def __post_init__(self) -> None:
        _checks.share("rate", self.rate, one=True)

    def __call__(self, labels: Tensor, num_classes: int, seed: int) -> Tensor:
        true = _check(labels, num_classes, seed)
        flips = {int(c): (int(c) + 1) % num_classes for c in np.unique(true)}
        return _like(_flip(true, flips, self.rate, ("pairflip", seed)), labels)


@dataclass(frozen=True, eq=False, repr=False)
class Given:
    """A noise of labels that somebody else made: human annotators, say. No seed changes them.

    Parameters
    ----------
    labels
        (n,) integers, in the order of the data set: a tensor, an array or a list. It is copied, and handed out as copies.
    clean
        (n,) integers: the data set's own labels, as they came with the others. They are compared with those that the data set
        has, so that an order that differs between classes is noticed. Another order within a class is not.

    Attributes
    ----------
    rate
        The share of labels that differ from ``clean``; None without these.

    Raises
    ------
    TypeError
        When the labels are not integers, or not of one dimension.
    ValueError
        When called: for another number of labels, or for labels that differ from ``clean``. A part of the data set needs the
        labels of its samples, picked out of both: ``Given(labels[part], clean[part])``. An experiment with a ``train_size``
        does that by itself.

    Examples
    --------
    >>> clean = torch.tensor([0, 1, 2, 2])
    >>> noise = Given(torch.tensor([0, 1, 2, 1]), clean)
    >>> noise
    Given(4 labels, 25.00% wrong)
    >>> noise(clean, 3, seed=0)
    tensor([0, 1, 2, 1])
    """

    labels: Tensor
    clean: Tensor | None = None
    rate: float | None = field(init=False)

    def __post_init__(self) -> None:
        labels, clean, rate = self.labels, self.clean, None
        if clean is not None:
            if len(clean) != len(labels):
                raise ValueError(f"labels and clean must be equally many, got {len(labels):,} and {len(clean):,}.")
            rate = int((labels != clean).sum()) / max(len(labels), 1)
        object.__setattr__(self, "rate", rate)

    def __call__(self, labels: Tensor, num_classes: int, seed: int) -> Tensor:
        true, n = torch.from_numpy(_check(labels, num_classes, seed)), len(labels)
        found, clean = self.labels, self.clean
        if n != len(found):
            advice = (
                "labels are missing" if n > len(found) else "pick out those of its samples, Given(labels[part], clean[part])"
            )
            raise ValueError(f"{len(found):,} labels are given, and the data set has {n:,}: {advice}.")
        if clean is not None and (wrong := int((true != clean).sum())):
            raise ValueError(
                f"{wrong:,} of {n:,} labels of the data set are not those that the given ones came with: is one of them in "
                "another order, as CIFAR-10 is in TensorFlow Datasets? Put the given ones into the order of the data set."
            )
        if n and (last := int(found.max())) >= num_classes:
            raise ValueError(
                f"the given labels must be in 0 ... {num_classes - 1}, got {int(found.min())} ... {last}: "
                f"pass num_classes={last + 1}, unless they are to begin at 0."
            )
        return found.to(labels.device)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Given):
            return NotImplemented
        return self._bytes() == other._bytes()

    def __hash__(self) -> int:
        return hash(self._bytes())

    def __repr__(self) -> str:
        return f"Given({len(self.labels):,} labels{'' if self.rate is None else f', {self.rate:.2%} wrong'})"

    def _bytes(self) -> tuple[bytes, bytes | None]:
        return self.labels.numpy().tobytes(), None if self.clean is None else self.clean.numpy().tobytes()


class _Classes:
    """A field that holds classes, checked, and hands out copies: nobody else can write to them."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        if instance is None:
            return self
        held = vars(instance)[self.name]
        return None if held is None else held.clone()

    def __set__(self, instance: object, value: Any) -> None:
        vars(instance)[self.name] = None if value is None and self.name == "clean" else _copy(self.name, value)


for _name in ("labels", "clean"):  # after the dataclass is made, which would take them for defaults
    setattr(Given, _name, _Classes(_name))

INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
Labels: TypeAlias = "np.ndarray[tuple[int], np.dtype[np.int64]]"


def _choose(rate: float, positions: Labels, key: _random.Key) -> Labels:
    """Return the first round(rate · n) of the positions, in an order drawn from the key."""
    count = round(_checks.share("rate", rate, one=True) * len(positions))
    return positions[_random.permutation(key, len(positions))[:count]]


def _flip(true: Labels, flips: Mapping[int, int], rate: float, key: _random.Key) -> Labels:
    noisy = true.copy()
    for c, to in flips.items():
        noisy[_choose(rate, np.flatnonzero(true == c), (*key, c))] = to
    return noisy


def _check(labels: Tensor, num_classes: int, seed: int) -> Labels:
    _checks.whole("num_classes", num_classes, least=1)
    _checks.whole("seed", seed)
    _check_integers("labels", labels)
    check_range("labels", labels, num_classes)
    return labels.cpu().numpy().astype(np.int64)


def _check_integers(what: str, labels: object) -> Tensor:
    if not isinstance(labels, Tensor) or labels.dim() != 1 or labels.dtype not in INTEGERS:
        got = f"{labels.dtype} of shape {tuple(labels.shape)}" if isinstance(labels, Tensor) else type(labels).__name__
        raise TypeError(f"{what} must be an integer tensor of shape (n,), got {got}.")
    return labels


def _copy(what: str, labels: Any) -> Tensor:
    """Return classes in a tensor, an array or a list as a tensor of their own."""
    if not isinstance(labels, Tensor):
        try:
            array = np.asarray(labels)
        except ValueError:  # lists of unequal lengths
            array = np.asarray(None)
        if array.dtype.kind not in "iu" or array.ndim != 1:
            got = f"{type(labels).__name__} of {array.dtype} of shape {array.shape}"
            raise TypeError(f"{what} must be integers of shape (n,) in a tensor, an array or a list, got {got}.")
        labels = torch.from_numpy(array.astype(np.int64))
    copy = _check_integers(what, labels).detach().to("cpu", torch.int64, copy=True)
    if len(copy) and copy.min() < 0:
        raise ValueError(f"{what} must be classes, from 0 on, got {int(copy.min())}.")
    return copy


def check_range(what: str, labels: Tensor, num_classes: int) -> None:
    """Raise unless all labels are classes, from 0 on."""
    if len(labels) and not (int(labels.min()) >= 0 and int(labels.max()) < num_classes):
        raise ValueError(f"{what} must be in 0 ... {num_classes - 1}, got {int(labels.min())} ... {int(labels.max())}.")


def _like(noisy: Labels, labels: Tensor) -> Tensor:
    return torch.from_numpy(noisy).to(labels.device)
