"""Level: what one prune-retrain round gave."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self


@dataclass(frozen=True)
class Curves:
    """Accuracy and loss on training and test data after the epochs named in ``epoch``, counted from 1."""

    epoch: tuple[int, ...]
    train_accuracy: tuple[float, ...]
    test_accuracy: tuple[float, ...]
    train_loss: tuple[float, ...]
    test_loss: tuple[float, ...]


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
        From the original dense initialisation, see :func:`sparsedd.metrics.learning_distance`.
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
    learning_distance: float
    train_loss: float
    test_loss: float
    seconds: float
    epochs: Curves

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and lists."""
        return asdict(self)

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Self:
        """The level of a :meth:`to_json`."""
        return cls(**{**plain, "epochs": Curves(**{name: tuple(v) for name, v in plain["epochs"].items()})})
