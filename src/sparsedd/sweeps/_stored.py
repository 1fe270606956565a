"""StoredSweep: what a sweep has finished, read from its folder."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sparsedd import _checks
from sparsedd._mask import Mask
from sparsedd.sweeps._config import open_store, read_config
from sparsedd.sweeps._level import Level
from sparsedd.sweeps._record import Record
from sparsedd.sweeps._store import Store


class StoredSweep:
    """The finished levels of a :class:`.Sweep`, read from its folder without a model. Nothing is locked or written.

    Parameters
    ----------
    path
        The folder of one seed.

    Attributes
    ----------
    path, levels, seed, config
        As the sweep was made with.

    Raises
    ------
    FileNotFoundError
        When no sweep has begun there.
    ValueError
        When its configuration is not what was written.

    Examples
    --------
    >>> import tempfile
    >>> from torch import nn
    >>> from sparsedd import Sweep
    >>> with tempfile.TemporaryDirectory() as out:
    ...     for level in Sweep(out, nn.Linear(8, 2), levels=2, seed=3):
    ...         record = level.record(test_accuracy=0.5)
    ...     stored = StoredSweep(out)
    ...     stored.seed, [record.test_accuracy for record in stored.records], stored.mask(1).remaining
    (3, [0.5, 0.5], 12)
    """

    path: Path
    levels: int
    seed: int
    config: Any
    _store: Store
    _config: dict[str, Any]

    def __init__(self, path: str | os.PathLike[str]) -> None:
        folder = _checks.folder("path", path).absolute()
        if not (folder / "config.json").exists():
            raise FileNotFoundError(f"no sweep has begun in {folder}, which has no config.json: pass the folder of one seed.")
        self._hold(open_store(folder), read_config(folder / "config.json"))

    def _hold(self, store: Store, config: dict[str, Any]) -> None:
        self._store, self._config, self.path = store, config, store.path
        self.levels, self.seed, self.config = config["levels"], config["seed"], config["config"]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self._store.lines())} of {self.levels} levels in {self.path}, seed {self.seed})"

    def __iter__(self) -> Iterator[Level]:
        """Raise TypeError: to train more levels takes a model."""
        raise TypeError(f"{self!r} has no model to train: make a Sweep of it, or read its records.")

    @property
    def records(self) -> tuple[Record, ...]:
        """The finished levels, from 0 on."""
        return tuple(self._store.levels())

    def curves(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return sparsity, training and test accuracy of the finished levels, (levels,) each: what :mod:`.phases` takes.

        Raises
        ------
        ValueError
            When a level was recorded without ``train=`` and ``test=``.
        """
        records = self.records
        for record in records:
            for name in ("train_accuracy", "test_accuracy"):
                if record.measures.get(name) is None:
                    raise ValueError(
                        f"level {record.level} has no {name}: call level.record(train=..., test=...) with Evaluations."
                    )
        names = ("sparsity", "train_accuracy", "test_accuracy")
        sparsity, train, test = (np.array([record[name] for record in records], dtype=np.float64) for name in names)
        return sparsity, train, test

    def mask(self, level: int) -> Mask:
        """Return the mask of a finished level."""
        return self._store.mask(level)

    def weights(self, level: int) -> dict[str, Tensor]:
        """Return the parameters and buffers at the end of a finished level, tied ones under the first of their names."""
        return self._store.weights(level)
