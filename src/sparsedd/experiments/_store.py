"""Store: the folder of one experiment."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from torch import Tensor

from sparsedd import _checks, _files
from sparsedd.experiments._experiment import Experiment, owns
from sparsedd.experiments._own import digest_sources
from sparsedd.sweeps._config import format_config
from sparsedd.sweeps._store import Store as Folder


class Store(Folder):
    """The folder of an experiment: that of its sweep, and a ``config.json`` that is the experiment.

    Parameters
    ----------
    out
        The folder that holds all runs; the experiment's own is ``out / experiment.folder``.
    experiment
        Whose results these are.

    Raises
    ------
    ValueError
        When a file there is torn, altered, or another experiment's; the message names it.
    """

    word: str = "experiment"
    AGAIN: str = ""

    def __init__(self, out: str | os.PathLike[str], experiment: Experiment) -> None:
        self.experiment: Experiment = _checks.kind("experiment", experiment, Experiment, "an Experiment")
        path = _checks.folder("out", out) / experiment.folder
        super().__init__(path, experiment.levels, momentum=bool(experiment.momentum))
        place = self.path / "config.json"
        self.sources: dict[str, str] = {}
        if place.exists() and place.read_bytes() != _text(experiment).encode():
            other, self.sources = _read(place)
            if _text(other) != _text(experiment):
                raise ValueError(f"{place} is the configuration of {other!r}: move the folder away and run again.")

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """Return the store in a folder that exists: its experiment is read from the configuration there."""
        path = Path(path).resolve()
        experiment, _ = _read(path / "config.json")
        if path.parts[-2:] != tuple(experiment.folder.split("/")):
            raise ValueError(
                f"{path / 'config.json'} is not where its experiment belongs: call the folder {experiment.folder} again."
            )
        return cls(path.parent.parent, experiment)

    def configure(self) -> None:
        """Have the folder say whose it is, so that it can be opened."""
        if not (self.path / "config.json").exists():
            text = _text(self.experiment, digest_sources(owns(self.experiment)))
            _files.write(self.path / "config.json", text.encode())

    def _warn_of_changes(self) -> None:
        """Warn of functions of the user's own that are no longer those that the folder was begun with."""
        for name, digest in digest_sources(owns(self.experiment)).items():
            if self.sources.get(name, digest) != digest:
                _checks.warn(
                    f"{name} has changed since {self.path} was begun, whose levels stay as they are: take another name or "
                    "folder for the new one."
                )

    def save_start(self, state: Mapping[str, Tensor]) -> None:
        """Keep the state at the rewind step."""
        self.save_state(self.start_path, state)

    def start(self) -> dict[str, Tensor]:
        """Return the state at the rewind step."""
        return self.state(self.start_path)


def _text(experiment: Experiment, sources: Mapping[str, str] | None = None) -> str:
    """Return what ``config.json`` says: the experiment, and what its functions were made of, which is no part of the key."""
    return format_config({"key": experiment.key, **experiment.config(), **({"sources": sources} if sources else {})})


def _read(path: Path) -> tuple[Experiment, dict[str, str]]:
    """Return the experiment of a configuration that is, byte for byte, what was written, and the digests of its functions."""
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: restore it, or run the experiment again: what was computed stays.")
    try:
        with _files.blame(path, "the configuration of an experiment"):
            text = path.read_bytes().decode()
            config = _files.parse_json(text)
            del config["key"]
            sources = _checks.kind("sources", config.pop("sources", {}), dict, "digests by name")
            experiment = Experiment.from_config(config)
            if _text(experiment, sources) != text:
                raise ValueError("it was altered")
    except ValueError as error:
        raise ValueError(f"{error} Restore it, or remove it and run again: what was computed stays.") from error
    return experiment, sources
