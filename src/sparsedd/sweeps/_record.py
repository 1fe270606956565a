"""Record: what a finished level gave."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from math import isfinite
from numbers import Real
from types import MappingProxyType
from typing import Any, Self

from torch import Tensor

from sparsedd import _checks
from sparsedd.metrics import Evaluation
from sparsedd.sweeps._json import build, check_number

UNDEFINED = {"learning_distance"}  # may be None
OWN = ("level", "sparsity", "remaining", "learning_distance", "seconds", "epochs")


@dataclass(frozen=True)
class Curves:
    """Accuracy and loss on training and test data after the epochs named in ``epoch``, counted from 1.

    A loss is None where it was not finite.
    """

    epoch: tuple[int, ...]
    train_accuracy: tuple[float, ...]
    test_accuracy: tuple[float, ...]
    train_loss: tuple[float | None, ...]
    test_loss: tuple[float | None, ...]

    def __repr__(self) -> str:
        return f"Curves({len(self.epoch)} points to epoch {self.epoch[-1]}, test accuracy {self.test_accuracy[-1]:.2%})"

    @classmethod
    def of(cls, points: Iterable[tuple[int, float, float, float, float]]) -> Self:
        """Collect (epoch, train accuracy, test accuracy, train loss, test loss) of one epoch after the other."""
        return cls(*zip(*((*accuracies, finite(a), finite(b)) for *accuracies, a, b in points), strict=True))

    def __post_init__(self) -> None:
        if not self.epoch or len({len(curve) for curve in vars(self).values()}) != 1:
            raise ValueError("the curves must have equally many points, and one at least.")


@dataclass(frozen=True, repr=False)
class Record:
    """A finished level of a sweep: what was measured of it, under names that are attributes too.

    Attributes
    ----------
    level, sparsity, remaining
        0 is dense; 1 - Σm / d; Σm.
    learning_distance
        From the weights of the beginning, see :func:`sparsedd.metrics.learning_distance`; None where it is not finite.
    seconds
        What the level took.
    measures
        Numbers by name, such as ``test_accuracy``. None stands for what is undefined, and for a loss that is not finite.
    epochs
        Curves over the epochs, where the sweep keeps them.

    Examples
    --------
    >>> Record(1, 0.2, 80, 1.5, 0.1, {"test_accuracy": 0.9}).test_accuracy
    0.9
    """

    level: int
    sparsity: float
    remaining: int
    learning_distance: float | None
    seconds: float
    measures: Mapping[str, float | None] = field(default_factory=dict)
    epochs: Curves | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "measures", MappingProxyType(dict(self.measures)))

    def __getattr__(self, name: str) -> float | None:
        measures: Mapping[str, float | None] = self.__dict__.get("measures", {})
        if name not in measures:
            raise AttributeError(f"the record has no measure {name!r}. It has {', '.join(measures) or 'none'}.")
        return measures[name]

    def __getitem__(self, name: str) -> Any:
        """Return a column of the table of levels: a measure, or one of the record's own numbers."""
        row = self.to_json()
        if name not in row:
            raise _checks.Missing(f"the record has no column {name!r}. It has {', '.join(row)}.")
        return row[name]

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self.measures]

    def __hash__(self) -> int:
        return hash((self.level, self.sparsity, self.remaining, self.learning_distance, self.seconds))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).from_json, (self.to_json(),)

    def __repr__(self) -> str:
        shares = [
            f"{name.replace('_', ' ')} {value:.2%}"
            for name, value in self.measures.items()
            if value is not None and name in ("train_accuracy", "test_accuracy")
        ]
        diverged = ["diverged"] * self.diverged
        return f"Record({', '.join([f'level {self.level}', f'sparsity {self.sparsity:.2%}', *shares, *diverged])})"

    @property
    def curves(self) -> Curves:
        """The curves over the epochs; RuntimeError where the sweep keeps none."""
        if self.epochs is None:
            raise RuntimeError(f"the sweep has kept no curves of level {self.level}.")
        return self.epochs

    @property
    def diverged(self) -> bool:
        """Did training end with a training loss or weights that are not finite? The sweep ends here."""
        return self.learning_distance is None or self.measures.get("train_loss", 0.0) is None

    def to_json(self) -> dict[str, Any]:
        """Return plain numbers and lists."""
        own = {name: getattr(self, name) for name in OWN if name != "epochs"}
        return own | dict(self.measures) | ({} if self.epochs is None else {"epochs": asdict(self.epochs)})

    @classmethod
    def from_json(cls, plain: object) -> Self:
        """Return the record of a :meth:`to_json`; ValueError where a field is missing or is not what it must be."""
        if not isinstance(plain, dict) or not plain.keys() >= {*OWN[:-1]}:
            raise ValueError(f"the record of a level must have {', '.join(OWN[:-1])}, got {plain!r:.40}")
        own = {name: plain[name] for name in OWN[:-1]}
        measures = {name: value for name, value in plain.items() if name not in OWN}
        for name, value in {**own, **measures}.items():
            build(
                int if name in ("level", "remaining") else float | None if name in UNDEFINED | {*measures} else float,
                value,
                name,
            )
        return cls(**own, measures=measures, epochs=build(Curves, plain["epochs"]) if "epochs" in plain else None)


def finite(value: float) -> float | None:
    """Return the value, or None for what no file of numbers can hold."""
    return value if isfinite(value) else None


def flatten(measures: Mapping[str, Any]) -> Iterator[tuple[str, float | None]]:
    """Yield a number for each name; of an :class:`.Evaluation` its accuracy and its loss."""
    for name, value in measures.items():
        if name in ("train", "test") and not isinstance(value, Evaluation):
            raise TypeError(f"{name} must be an Evaluation, got {value!r:.40}: for a number, write {name}_accuracy=.")
        if isinstance(value, Evaluation):
            yield f"{name}_accuracy", _number(f"{name}_accuracy", value.accuracy)
            yield f"{name}_loss", _number(f"{name}_loss", value.loss)
        else:
            yield name, _number(name, value)


def _number(name: str, value: Any) -> float | None:
    if name in Record.__dataclass_fields__ or hasattr(Record, name):
        raise ValueError(f"a measure can't be called {name!r}: the record has that already.")
    if value is None:
        if name == "train_loss":
            raise ValueError("train_loss=None says that training has diverged: leave it out where it is undefined.")
        return None
    if isinstance(value, Tensor) and value.numel() == 1 and not value.requires_grad:
        value = value.item()
    if isinstance(value, Tensor | bool) or not isinstance(value, Real):
        way = ": use tensor.item()" if isinstance(value, Tensor) else ""
        raise TypeError(f"the measure {name!r} must be a number, an Evaluation or None, got {type(value).__name__}{way}.")
    try:
        number = _checks.real(name, value)
    except OverflowError:
        raise ValueError(f"the measure {name!r} must be a number that a float holds.") from None
    if not isfinite(number) and name.endswith("loss"):
        return None  # training has diverged
    try:
        check_number(name, number)
    except ValueError as error:
        hint = f"It is a share: did you mean {number / 100:.6g}?" if 1 < number <= 100 else "Pass None for what is undefined."
        raise ValueError(f"the measure {error}. {hint}") from None
    return number
