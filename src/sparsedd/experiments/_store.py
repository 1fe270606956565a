"""Store: the folder of one experiment. What is in it is whole, and is known to be what was written."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

from torch import Tensor

from sparsedd import _checks, _files
from sparsedd._mask import Mask
from sparsedd.experiments._experiment import Experiment
from sparsedd.experiments._level import Level

try:
    import fcntl
except ImportError:  # Windows: two processes must keep out of each other's way by themselves
    fcntl = None  # type: ignore[assignment]

Value = TypeVar("Value")
State = TypeVar("State", bound=Mapping[str, Tensor])


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
        self.experiment: Experiment = _checks.kind("experiment", experiment, Experiment, "an Experiment")
        self.path: Path = _checks.folder("out", out) / experiment.folder
        self._config = _config(experiment)
        path = self.path / "config.json"
        if path.exists() and path.read_bytes() != self._config.encode():
            other = _experiment(path)
            raise ValueError(f"{path} is the configuration of {other!r}: move the folder away and run again.")

    def __repr__(self) -> str:
        return f"Store({self.path})"

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """The store in a folder that exists: its experiment is read from the configuration there."""
        path = Path(path).resolve()
        experiment = _experiment(path / "config.json")
        if path.parts[-2:] != tuple(experiment.folder.split("/")):
            raise ValueError(
                f"{path / 'config.json'} is not where its experiment belongs: call the folder {experiment.folder} again."
            )
        return cls(path.parent.parent, experiment)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Wait for other processes, and keep them out until the block ends; the lock goes with the process in any case."""
        _files.make(self.path)
        with open(self.path / "lock", "a") as file:
            if fcntl:
                fcntl.flock(file, fcntl.LOCK_EX)
            self._configure()
            yield

    def _configure(self) -> None:
        """Have the folder say whose it is, so that it can be opened."""
        if not (self.path / "config.json").exists():
            _files.write(self.path / "config.json", self._config.encode())

    def levels(self) -> list[Level]:
        """The finished levels, from 0 on."""
        lines = self._lines()
        return [self._checked(k, lines)[0] for k in range(len(lines))]

    def _lines(self) -> list[str]:
        path = self.path / "levels.jsonl"
        lines = path.read_bytes().decode(errors="replace").split("\n") if path.exists() else [""]
        return lines if lines[-1] else lines[:-1]

    def _checked(self, number: int, lines: list[str]) -> tuple[Level, dict[str, str]]:
        """The record of a level and the digests of its files, which are what was written."""
        if _checks.whole("level", number) >= len(lines):
            path = self.path / "levels.jsonl"
            raise ValueError(f"{path} has {len(lines)} levels, and no level {number}: run the experiment further.")
        return self._record(number, lines[number])

    def _record(self, number: int, line: str) -> tuple[Level, dict[str, str]]:
        where = f"{self.path / 'levels.jsonl'}, line {number + 1}"
        remedy = f"remove that line and those after it, and run again, or call: sparsedd verify --repair {self.path}"
        try:
            plain = json.loads(line)
            record = {name: plain[name] for name in ("level", "files")}
        except (ValueError, LookupError, TypeError, RecursionError):
            raise ValueError(f"{where} is torn: {remedy}") from None
        if line != _line(record):
            raise ValueError(f"{where} was altered: {remedy}")
        with _files.named(where, "a level"):
            level, files = Level.from_json(record["level"]), record["files"]
            if level.level != number or number >= self.experiment.levels:
                raise ValueError(f"it is that of level {level.level}")
            known = {path.name for path in self._files(number)}
            if not set(files) <= known or not all(isinstance(digest, str) for digest in files.values()):
                raise ValueError("its files are not those of a level")
        return level, files

    def _files(self, level: int) -> list[Path]:
        """Where all that belongs to a level is."""
        paths = [self.weights_path(level), self.mask_path(level)]
        return paths + [self.momentum_path(level)] * bool(self.experiment.momentum) + [self.start_path] * (level == 0)

    def add(self, level: Level, weights: dict[str, Tensor], mask: Mask, momentum: dict[str, Tensor] | None = None) -> None:
        """Keep a level that has finished. Only the last act, the new line, makes it count."""
        before = self._lines()
        if level.level != len(before):
            has = f"{self.path / 'levels.jsonl'} has {len(before)} levels"
            raise RuntimeError(f"{has}, so the next is not level {level.level}: run the experiment.")
        self._configure()
        files = {self.weights_path(level.level): _files.seal("weights", _clean(weights), None)}
        files[self.mask_path(level.level)] = mask._bytes()
        if momentum is not None:
            files[self.momentum_path(level.level)] = _files.seal("momentum", _clean(momentum), None)
        for path, data in files.items():
            _files.write(path, data)
        digests = {path.name: hashlib.sha256(data).hexdigest() for path, data in files.items()}
        if level.level == 0 and self.start_path.exists():
            digests[self.start_path.name] = _files.digest(self.start_path)
        record = {"level": level.to_json(), "files": digests}
        path = self.path / "levels.jsonl"
        lines = [*before, _line(record)]
        _files.write(path, "".join(f"{line}\n" for line in lines).encode())

    def weights_path(self, level: int) -> Path:
        """Where the weights at the end of a level are."""
        return self.path / f"{_checks.whole('level', level):02d}.weights.safetensors"

    def mask_path(self, level: int) -> Path:
        """Where the mask of a level is."""
        return self.path / f"{_checks.whole('level', level):02d}.mask.safetensors"

    def momentum_path(self, level: int) -> Path:
        """Where the optimizer's momentum at the end of a level is, if it has any."""
        return self.path / f"{_checks.whole('level', level):02d}.momentum.safetensors"

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
        expected = self._checked(level, self._lines())[1].get(path.name)
        if not path.exists() or _files.digest(path) != expected:
            raise ValueError(
                f"{path} is missing, damaged or altered: remove line {level + 1} of levels.jsonl and those after it, "
                f"or call: sparsedd verify --repair {self.path}"
            )
        return path

    def digest(self, level: int) -> str:
        """The SHA-256 of all that a level is: what is made of it is known by that."""
        return sha256(self._checked(level, self._lines())[1])

    def keep(self, path: Path, kind: str, tensors: dict[str, Tensor], content: Any) -> None:
        """Keep what was made of a level: tensors, and JSON that says what."""
        _files.write(path, _files.seal(kind, _clean(tensors), content))

    def kept(self, path: Path, kind: str, made_of: object, read: Callable[[Any], Value]) -> Value | None:
        """What ``read`` makes of the content of what was kept, if it was made of this; else None."""
        if path.exists():
            _files.clear(path)
            content = _files.unseal(path, kind)[1]
            with _files.named(path, f"a {kind}"):
                if content["of"] == made_of:
                    return read(content)
        return None

    @property
    def start_path(self) -> Path:
        """Where the state at the rewind step is."""
        return self.path / "start.safetensors"

    def save_start(self, state: dict[str, Tensor]) -> None:
        """Keep the state at the rewind step."""
        _files.write(self.start_path, _files.seal("weights", _clean(state), None))

    def start(self) -> dict[str, Tensor]:
        """The state at the rewind step."""
        return _files.unseal(self._verified(0, self.start_path), "weights")[0]


def fitting(path: Path, state: State, like: Mapping[str, Tensor]) -> State:
    """The tensors of a file, which must have the names, shapes and types of others."""
    for name in {**like, **state}:
        kinds = [(t[name].shape, t[name].dtype) if name in t else None for t in (state, like)]
        if kinds[0] != kinds[1]:
            raise ValueError(f"{path} does not fit the net of its experiment: {name!r} is {kinds[0]}, not {kinds[1]}.")
    return state


def _config(experiment: Experiment) -> str:
    return json.dumps({"key": experiment.key, **experiment.config()}, indent=2) + "\n"


def _experiment(path: Path) -> Experiment:
    """The experiment of a configuration that is, byte for byte, what was written."""
    try:
        with _files.named(path, "the configuration of an experiment"):
            text = path.read_bytes().decode()
            config = _files.parsed(text)
            del config["key"]
            experiment = Experiment.from_config(config)
            if _config(experiment) != text:
                raise ValueError("it was altered")
    except ValueError as error:
        raise ValueError(f"{error} Restore it, or remove it and run again: what was computed stays.") from error
    return experiment


def _line(record: dict[str, Any]) -> str:
    """A line of ``levels.jsonl``: the record and its seal."""
    return json.dumps({**record, "sha256": sha256(record)})


def _clean(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}


def sha256(record: object) -> str:
    """The SHA-256 of JSON."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
