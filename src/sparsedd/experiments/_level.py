"""Level: what one prune-retrain round gave."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any, Self

from sparsedd.experiments._records import built


def finite(value: float) -> float | None:
    """The value, or None for what no file of numbers can hold."""
    return value if isfinite(value) else None


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
        """Of (epoch, train accuracy, test accuracy, train loss, test loss) one after the other."""
        return cls(*zip(*((*accuracies, finite(a), finite(b)) for *accuracies, a, b in points), strict=True))

    def __post_init__(self) -> None:
        if not self.epoch or len({len(curve) for curve in vars(self).values()}) != 1:
            raise ValueError("the curves must have equally many points, and one at least.")


@dataclass(frozen=True)
class Level:
    """The record of one finished level.

    Attributes
    ----------
    level, sparsity, remaining
        0 is dense; 1 - Σm / d; Σm.
    train_accuracy, train_loss
        At the end, in evaluation mode, on the labels as trained on.
    test_accuracy, test_loss
        At the end, on clean labels.
    best_test_accuracy, best_epoch
        The highest after any evaluated epoch, and the first epoch that has it, counted from 1.
    clean_accuracy, flipped_accuracy
        On the training samples whose label is right and on those whose label is wrong: the latter is memorisation. None
        where there are no such samples.
    learning_distance
        From the original dense initialisation, see :func:`sparsedd.metrics.learning_distance`. It and the losses are None where
        they are not finite: training has diverged, and no further level can be pruned from such weights.
    seconds
        What the level took.
    epochs
        The curves.
    """

    level: int
    sparsity: float
    remaining: int
    train_accuracy: float
    test_accuracy: float
    best_test_accuracy: float
    best_epoch: int
    clean_accuracy: float | None
    flipped_accuracy: float | None
    learning_distance: float | None
    train_loss: float | None
    test_loss: float | None
    seconds: float
    epochs: Curves

    def __repr__(self) -> str:
        accuracies = f"train accuracy {self.train_accuracy:.2%}, test accuracy {self.test_accuracy:.2%}"
        return f"Level({self.level}, sparsity {self.sparsity:.2%}, {accuracies}{', diverged' if self.diverged else ''})"

    @property
    def diverged(self) -> bool:
        """Did training end with a loss or weights that are not finite? The sweep of its seed ends here."""
        return None in (self.train_loss, self.learning_distance)

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and lists."""
        return asdict(self)

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Self:
        """The level of a :meth:`to_json`; ValueError where a field is missing or is not what it must be."""
        level: Self = built(cls, plain, "the record of a level")
        return level
