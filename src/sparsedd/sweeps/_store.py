"""Store: the folder of one sweep. What is in it is whole, and is known to be what was written."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import get_ident
from typing import Any, TypeVar

from torch import Tensor

from sparsedd import _checks, _files
from sparsedd._mask import Mask
from sparsedd.sweeps._record import Record

try:
    import fcntl
except ImportError:  # Windows: two processes must keep out of each other's way by themselves
    fcntl = None  # type: ignore[assignment]

Value = TypeVar("Value")
State = TypeVar("State", bound=Mapping[str, Tensor])
OF_LEVEL = re.compile(r"(\d{2,9})\.(weights|mask|momentum|inside)\.safetensors|(start|beginning)\.safetensors")
_held: dict[Path, int] = {}  # the folders that this process has locked, each with the thread


class Store:
    """``config.json``, ``levels.jsonl`` (a line for each finished level), and weights and masks in safetensors.

    Parameters
    ----------
    path
        The folder.
    levels
        How many there may be; None is any number.
    momentum
        Whether an optimizer's momentum is kept with each level.
    beginning
        Whether there is a state of the beginning beside that at the rewind step.
    last
        Whether the weights of levels before the last one may be gone.

    Raises
    ------
    ValueError
        When a file there is torn or altered; the message names it.
    """

    word: str = "sweep"
    AGAIN: str = ", then run the script again"  # what is to be done after a repair

    def __init__(
        self, path: Path, levels: int | None = None, *, momentum: bool = False, beginning: bool = False, last: bool = False
    ) -> None:
        self.path: Path = path
        self.count: int | None = levels
        self.has_momentum: bool = momentum
        self.has_beginning: bool = beginning
        self.last: bool = last

    def __repr__(self) -> str:
        return f"Store({self.path})"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Wait for other processes, and keep them out until the block ends; the lock goes with the process in any case."""
        place = self.path.resolve()
        if _held.get(place) == get_ident():
            raise RuntimeError(
                f"a level in {self.path} is in work in this thread already: end that loop before another begins."
            )
        _files.make(self.path)
        with open(self.path / "lock", "a") as file:
            if fcntl:
                fcntl.flock(file, fcntl.LOCK_EX)
            _held[place] = get_ident()
            try:
                self.configure()
                yield
            finally:
                del _held[place]

    def configure(self) -> None:
        """Have the folder say whose it is; a sweep does that by itself."""

    # ---------------------------------------------------------------- the lines of levels.jsonl

    def levels(self) -> list[Record]:
        """Return the finished levels, from 0 on."""
        lines = self.lines()
        return [self.read(k, line)[0] for k, line in enumerate(lines)]

    def lines(self) -> list[str]:
        """Return the lines of ``levels.jsonl``."""
        path = self.path / "levels.jsonl"
        lines = path.read_bytes().decode(errors="replace").split("\n") if path.exists() else [""]
        return lines if lines[-1] else lines[:-1]

    def read(self, number: int, line: str) -> tuple[Record, dict[str, str]]:
        """Return the record in a line, and the digests of its files, which are what was written."""
        where = f"{self.path / 'levels.jsonl'}, line {number + 1}"
        remedy = f"remove that line and those after it, and run again, or call: sparsedd verify --repair {self.path}"
        try:
            plain = json.loads(line)
            content = {name: plain[name] for name in ("level", "files")}
        except (ValueError, LookupError, TypeError, RecursionError):
            raise ValueError(f"{where} is torn: {remedy}") from None
        if line != seal_line(content):
            raise ValueError(f"{where} was altered: {remedy}")
        with _files.blame(where, "a level"):
            record, files = Record.from_json(content["level"]), content["files"]
            if record.level != number or (self.count is not None and number >= self.count):
                raise ValueError(f"it is that of level {record.level}")
            if not set(files) <= {path.name for path in self.files(number)} or not all(map(_is_text, files.values())):
                raise ValueError("its files are not those of a level")
        return record, files

    def written(self, number: int) -> tuple[Record, dict[str, str]]:
        """Return the record of a finished level, and the digests of its files."""
        lines = self.lines()
        if _checks.whole("level", number) >= len(lines):
            path = self.path / "levels.jsonl"
            raise ValueError(f"{path} has {len(lines)} levels, and no level {number}: run the {self.word} further.")
        return self.read(number, lines[number])

    def add(
        self, record: Record, weights: Mapping[str, Tensor], mask: Mask, momentum: Mapping[str, Tensor] | None = None
    ) -> None:
        """Keep a level that has finished. Only the last act, the new line, makes it count."""
        before = self.lines()
        if record.level != len(before):
            has = f"{self.path / 'levels.jsonl'} has {len(before)} levels"
            raise RuntimeError(f"{has}, so the next is not level {record.level}: run the {self.word}.")
        self.configure()
        files = {self.weights_path(record.level): _files.seal("weights", to_cpu(weights), None)}
        files[self.mask_path(record.level)] = mask._bytes()
        if momentum is not None:
            files[self.momentum_path(record.level)] = _files.seal("momentum", to_cpu(momentum), None)
        for path, data in files.items():
            _files.write(path, data)
        digests = {path.name: hashlib.sha256(data).hexdigest() for path, data in files.items()}
        for path in self.states(record.level):
            if path.exists():
                digests[path.name] = _files.digest(path)
        lines = [*before, seal_line({"level": record.to_json(), "files": digests})]
        _files.write(self.path / "levels.jsonl", "".join(f"{line}\n" for line in lines).encode())

    # ---------------------------------------------------------------- files

    def files(self, number: int) -> list[Path]:
        """Return where all that belongs to a level is, or may be."""
        paths = [self.weights_path(number), self.mask_path(number)]
        return paths + [self.momentum_path(number)] * self.has_momentum + self.states(number)

    def states(self, number: int) -> list[Path]:
        """Return where the states are that training began with, which belong to level 0."""
        return [self.start_path, *[self.beginning_path] * self.has_beginning] if number == 0 else []

    def weights_path(self, level: int) -> Path:
        """Return where the weights at the end of a level are."""
        return self.path / f"{_checks.whole('level', level):02d}.weights.safetensors"

    def mask_path(self, level: int) -> Path:
        """Return where the mask of a level is."""
        return self.path / f"{_checks.whole('level', level):02d}.mask.safetensors"

    def momentum_path(self, level: int) -> Path:
        """Return where the optimizer's momentum at the end of a level is, if it has any."""
        return self.path / f"{_checks.whole('level', level):02d}.momentum.safetensors"

    def inside_path(self, level: int) -> Path:
        """Return where training is kept in the middle of a level."""
        return self.path / f"{_checks.whole('level', level):02d}.inside.safetensors"

    @property
    def start_path(self) -> Path:
        """Where the state at the rewind step is."""
        return self.path / "start.safetensors"

    @property
    def beginning_path(self) -> Path:
        """Where the state at step 0 is, if it is not that at the rewind step."""
        return self.path / "beginning.safetensors"

    def stale(self) -> list[Path]:
        """List the files that belong to levels, where no level has finished."""
        return [path for path in sorted(self.path.iterdir()) if OF_LEVEL.fullmatch(path.name)]

    def weights(self, level: int) -> dict[str, Tensor]:
        """Return the state at the end of a level."""
        if self.last and level < len(self.lines()) - 1 and not self.weights_path(level).exists():
            raise ValueError(f"keep='last' has kept no weights of level {level}: there are those of the last level.")
        return _files.unseal(self.check(self.weights_path(level), level), "weights")[0]

    def mask(self, level: int) -> Mask:
        """Return the mask of a finished level."""
        return Mask.load(self.check(self.mask_path(level), level))

    def momentum(self, level: int) -> dict[str, Tensor]:
        """Return the optimizer's momentum at the end of a level, by parameter; empty where there is none."""
        if not self.has_momentum:
            return {}
        return _files.unseal(self.check(self.momentum_path(level), level), "momentum")[0]

    def save_state(self, path: Path, state: Mapping[str, Tensor]) -> None:
        """Keep the state at the rewind step or in the beginning."""
        _files.write(path, _files.seal("weights", to_cpu(state), None))

    def state(self, path: Path) -> dict[str, Tensor]:
        """Return the state that was kept in the beginning, or at the rewind step."""
        return _files.unseal(self.check(path, 0) if self.lines() else path, "weights")[0]

    def check(self, path: Path, level: int) -> Path:
        """Return the path of a file of a finished level, if the file is what the line of the level says it is."""
        expected = self.written(level)[1].get(path.name)
        if not path.exists() or _files.digest(path) != expected:
            raise ValueError(
                f"{path} is missing, damaged or altered: remove line {level + 1} of levels.jsonl and those after it, "
                f"or call: sparsedd verify --repair {self.path}"
            )
        return path

    # ---------------------------------------------------------------- what is made of a level

    def digest(self, level: int) -> str:
        """Return the SHA-256 of all that a level is: what is made of it is known by that."""
        return sha256(self.written(level)[1])

    def keep(self, path: Path, kind: str, tensors: Mapping[str, Tensor], content: Any) -> None:
        """Keep what was made of a level: tensors, and JSON that says what."""
        _files.write(path, _files.seal(kind, to_cpu(tensors), content))

    def kept(self, path: Path, kind: str, made_of: object, read: Callable[[Any], Value]) -> Value | None:
        """Return the cached result, read by ``read``, if it was derived from this; else None."""
        if path.exists():
            _files.clear(path)
            content = _files.unseal(path, kind)[1]
            with _files.blame(path, f"a {kind}"):
                if content["of"] == made_of:
                    return read(content)
        return None


def check_fit(path: Path, state: State, like: Mapping[str, Tensor]) -> State:
    """Return the tensors of a file, which must have the names, shapes and types of others."""
    for name in {**like, **state}:
        here, there = (f"{t[name].dtype} {tuple(t[name].shape)}" if name in t else "missing" for t in (state, like))
        if here != there:
            raise ValueError(
                f"{path} does not fit the model: {name!r} is {here} there and {there} in the model. A sweep needs the same "
                "tensors at every level: keep what grows outside of the state dict, register_buffer(..., persistent=False)."
            )
    return state


def seal_line(content: Mapping[str, Any]) -> str:
    """Return a line of ``levels.jsonl``: the content and its SHA-256."""
    return json.dumps({**content, "sha256": sha256(content)})


def to_cpu(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors as a file takes them."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}


def sha256(content: object) -> str:
    """Return the SHA-256 of JSON."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _is_text(value: object) -> bool:
    return isinstance(value, str)
