"""Store: the folder of one experiment. What is in it is whole, and is known to be what was written."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from torch import Tensor

from sparsedd import _files
from sparsedd._mask import Mask
from sparsedd.experiments._experiment import Experiment
from sparsedd.experiments._level import Level

try:
    import fcntl
except ImportError:  # Windows: two processes must keep out of each other's way by themselves
    fcntl = None  # type: ignore[assignment]


class Store:
    """``config.json``, ``levels.jsonl`` (a line for each finished level), and weights and masks in safetensors.

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

    def __init__(self, out: str | os.PathLike[str], experiment: Experiment) -> None:
        if not isinstance(experiment, Experiment):
            raise TypeError(f"experiment must be an Experiment, got {experiment!r}.")
        self.experiment = experiment
        self.path = Path(out) / experiment.folder
        self._config = json.dumps({"key": experiment.key, **experiment.config()}, indent=2) + "\n"
        path = self.path / "config.json"
        if path.exists() and path.read_bytes() != self._config.encode():
            raise ValueError(f"{path} is not the configuration that belongs there: move the folder away and run again.")

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """The store in a folder that exists: its experiment is read from the configuration there."""
        path = Path(path) / "config.json"
        try:
            config = json.loads(path.read_bytes())
            del config["key"]
            experiment = Experiment.from_config(config)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is not the configuration of an experiment: {error}.") from error
        store = cls(path.resolve().parent.parent.parent, experiment)
        if store.path != path.resolve().parent:
            raise ValueError(f"{path.parent} is not where its experiment belongs: call the folder {experiment.folder} again.")
        return store

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Wait for other processes, and keep them out until the block ends; the lock goes with the process in any case."""
        _files.make(self.path)
        with open(self.path / "lock", "a") as file:
            if fcntl:
                fcntl.flock(file, fcntl.LOCK_EX)
            if not (self.path / "config.json").exists():
                _files.write(self.path / "config.json", self._config.encode())
            yield

    def levels(self) -> list[Level]:
        """The finished levels, from 0 on."""
        lines = self._lines()
        return [Level.from_json(self._checked(k, lines)["level"]) for k in range(len(lines))]

    def _lines(self) -> list[str]:
        path = self.path / "levels.jsonl"
        return path.read_text(errors="replace").splitlines() if path.exists() else []

    def _checked(self, number: int, lines: list[str]) -> dict[str, Any]:
        """The record of a level, which is what was written."""
        path = self.path / "levels.jsonl"
        if not 0 <= number < len(lines):
            raise ValueError(f"{path} has {len(lines)} levels, and no level {number}: run the experiment further.")
        try:
            record: dict[str, Any] = json.loads(lines[number])
            seal = record.pop("sha256")
        except (ValueError, KeyError, AttributeError, TypeError):
            raise ValueError(
                f"{path}, line {number + 1} is torn: remove that line and those after it, and run again."
            ) from None
        if seal != _sha256(record) or record["level"]["level"] != number:
            raise ValueError(f"{path}, line {number + 1} was altered: remove that line and those after it, and run again.")
        return record

    def add(self, level: Level, weights: dict[str, Tensor], mask: Mask, momentum: dict[str, Tensor] | None = None) -> None:
        """Keep a level that has finished. Only the last act, the new line, makes it count."""
        files = {self.weights_path(level.level): _files.seal("weights", _clean(weights), None)}
        files[self.mask_path(level.level)] = mask._bytes()
        if momentum is not None:
            files[self.momentum_path(level.level)] = _files.seal("momentum", _clean(momentum), None)
        for path, data in files.items():
            _files.write(path, data)
        digests = {path.name: hashlib.sha256(data).hexdigest() for path, data in files.items()}
        if level.level == 0 and self._start.exists():
            digests[self._start.name] = hashlib.sha256(self._start.read_bytes()).hexdigest()
        record = {"level": level.to_json(), "files": digests}
        path, before = self.path / "levels.jsonl", self._lines()
        if level.level != len(before):
            raise RuntimeError(f"{path} has {len(before)} levels, so the next is not level {level.level}.")
        lines = [*before, json.dumps({**record, "sha256": _sha256(record)})]
        _files.write(path, "".join(f"{line}\n" for line in lines).encode())

    def weights_path(self, level: int) -> Path:
        """Where the weights at the end of a level are."""
        return self.path / f"{level:02d}.weights.safetensors"

    def mask_path(self, level: int) -> Path:
        """Where the mask of a level is."""
        return self.path / f"{level:02d}.mask.safetensors"

    def momentum_path(self, level: int) -> Path:
        """Where the optimizer's momentum at the end of a level is, if it has any."""
        return self.path / f"{level:02d}.momentum.safetensors"

    def weights(self, level: int) -> dict[str, Tensor]:
        """The state dict at the end of a level."""
        return _files.unseal(self._verified(level, self.weights_path(level)), "weights")[0]

    def mask(self, level: int) -> Mask:
        """The mask of a level."""
        return Mask.load(self._verified(level, self.mask_path(level)))

    def momentum(self, level: int) -> dict[str, Tensor]:
        """The optimizer's momentum at the end of a level, by parameter; empty where there is none."""
        if not self.experiment.momentum:
            return {}
        return _files.unseal(self._verified(level, self.momentum_path(level)), "momentum")[0]

    def _verified(self, level: int, path: Path) -> Path:
        """The path of a file that is what the line of its level says it is."""
        expected = self._checked(level, self._lines())["files"].get(path.name)
        if not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() != expected:
            raise ValueError(
                f"{path} is missing, damaged or altered: remove line {level + 1} of levels.jsonl and those after it."
            )
        return path

    def digest(self, level: int) -> str:
        """The SHA-256 of all that a level is: what is made of it is known by that."""
        return _sha256(self._checked(level, self._lines())["files"])

    def keep(self, path: Path, kind: str, tensors: dict[str, Tensor], content: Any) -> None:
        """Keep what was made of a level: tensors, and JSON that says what."""
        _files.write(path, _files.seal(kind, _clean(tensors), content))

    def kept(self, path: Path, kind: str, made_of: object) -> Any:
        """The content of what was kept, if it was made of this; else None."""
        if path.exists():
            _files.clear(path)
            content = _files.unseal(path, kind)[1]
            if content["of"] == made_of:
                return content
        return None

    @property
    def _start(self) -> Path:
        return self.path / "start.safetensors"

    def save_start(self, state: dict[str, Tensor]) -> None:
        """Keep the state at the rewind step."""
        _files.write(self._start, _files.seal("weights", _clean(state), None))

    def start(self) -> dict[str, Tensor]:
        """The state at the rewind step."""
        return _files.unseal(self._verified(0, self._start), "weights")[0]


def _clean(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}


def _sha256(record: object) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
