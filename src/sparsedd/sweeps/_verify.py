"""verify: is what the folder of a sweep holds what was written?"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from sparsedd import _files
from sparsedd._mask import Mask
from sparsedd._rewinder import Rewinder
from sparsedd.sweeps._config import read_config
from sparsedd.sweeps._store import OF_LEVEL, Store, check_fit

REMADE = ("magnitude", "random")  # the scores that need nothing but the weights


@dataclass(frozen=True)
class Finding:
    """A word of :func:`verify` on a sweep, or on one file.

    Attributes
    ----------
    path
        The folder of a sweep where all is well, else the file.
    message
        A line that names it, and says what to do when something is wrong.
    ok
        Is it what was written?
    level
        The level of the sweep that is damaged, if one is.
    """

    path: Path
    message: str
    ok: bool = False
    level: int | None = None

    def __repr__(self) -> str:
        return f"Finding({'well' if self.ok else 'not well'}: {self.path})"

    def __str__(self) -> str:
        return self.message


def describe(store: Store, faults: Iterable[Finding]) -> list[Finding]:
    """Return the faults of a sweep, or a finding that all is well."""
    if found := list(faults):
        return found
    folder = store.path
    count = len(list(folder.glob("*.safetensors"))) + sum((folder / n).exists() for n in ("config.json", "levels.jsonl"))
    return [Finding(folder, f"{folder}: ok, {len(whole_lines(store))} of {store.count} levels, {count} files", ok=True)]


def faults(store: Store, others: Callable[[Store], Iterator[Finding]] | None = None) -> list[Finding]:
    """Return what is damaged or missing in the folder of a sweep; ``others`` looks at what is not of finished levels."""
    return [*_line_faults(store), *_level_faults(store), *(others or _other_faults)(store)]


def whole_lines(store: Store) -> dict[int, str]:
    """Return the lines of ``levels.jsonl`` that are what was written, by level, wherever in the file they are."""
    lines = {}
    for line in store.lines():
        with suppress(ValueError, LookupError, TypeError, RecursionError):
            number = json.loads(line)["level"]["level"]
            store.read(number, line)
            lines[number] = line
    return lines


def join_lines(lines: Mapping[int, str]) -> bytes:
    """Return ``levels.jsonl``."""
    return "".join(f"{lines[number]}\n" for number in sorted(lines)).encode()


def _line_faults(store: Store) -> Iterator[Finding]:
    """Yield the levels of which ``levels.jsonl`` has no line, though they have finished."""
    path, lines = store.path / "levels.jsonl", whole_lines(store)
    # A run that was stopped leaves weights of the level that it was in at most, but masks of later ones.
    begun = [int(match[1]) for p in store.path.iterdir() if (match := OF_LEVEL.fullmatch(p.name)) and match[2] == "weights"]
    count = max([len(store.lines()), *(k + 1 for k in lines), *begun])
    count = count if store.count is None else min(count, store.count)
    for number in sorted({*range(count)} - {*lines}):
        yield fault(store, path, f"is damaged: it has no whole line for level {number}", number)
    if count == len(lines) and path.exists() and path.read_bytes() != join_lines(lines):
        yield fault(store, path, "is damaged: it is not a line for each level in turn")


def _level_faults(store: Store) -> Iterator[Finding]:
    """Yield the files of finished levels that are not what was written."""
    like: dict[str, Mapping[str, Tensor]] = {}  # the first weights, mask and momentum, which all others are like

    def fits(path: Path) -> None:
        kind = path.name.split(".")[-2].replace("start", "weights").replace("beginning", "weights")
        state = Mask.load(path) if kind == "mask" else _files.unseal(path, kind)[0]
        check_fit(path, state, like.setdefault(kind, state))

    lines = whole_lines(store)
    for number, line in sorted(lines.items()):
        digests = store.read(number, line)[1]
        for path in store.files(number):
            spare = path == store.weights_path(number) and _is_spare(store, number, max(lines))
            if not path.exists() and (spare or path.name not in digests):
                continue
            if digest(path) != digests.get(path.name, ""):
                what = "is damaged or altered" if path.exists() else "is missing"
                yield fault(store, path, what, None if spare else number)
            elif not (found := read_file(path, fits)).ok:
                yield found


def _is_spare(store: Store, number: int, last: int) -> bool:
    """Return whether nothing follows from the weights of a level any more, where a sweep keeps those of the last one alone."""
    if not store.last or number < last:
        return store.last
    taken_out = not store.weights_path(number).exists() and store.mask_path(number + 1).exists()  # those after it were
    return taken_out and read_config(store.path / "config.json")["retraining"]["weights"] != "keep"


def _other_faults(store: Store) -> Iterator[Finding]:
    """Yield what is damaged of the files that no line vouches for, such as those of the level in work."""
    lines = whole_lines(store)
    vouched = {name for number, line in lines.items() for name in store.read(number, line)[1]}
    for path in sorted(store.path.glob("*.safetensors")):
        if path.name not in vouched and not (found := read_file(path, check_seal)).ok:
            own = OF_LEVEL.fullmatch(path.name)
            yield fault(store, path, "is damaged or altered") if own else found
    following, last = store.mask_path(len(lines)), max(lines, default=-1)
    wanted = 0 < len(lines) < (store.count or 0) and not store.read(last, lines[last])[0].diverged
    if wanted and not following.exists() and not can_remake(store):
        yield fault(store, following, "is missing")


def can_remake(store: Store) -> bool:
    """Return whether the masks of a sweep follow from weights alone, or are those of another one."""
    config = read_config(store.path / "config.json")
    return config["tickets"] is not None or config["pruner"]["score"] in REMADE


def digest(path: Path) -> str | None:
    """Return the SHA-256 of a file, if it is there."""
    return _files.digest(path) if path.is_file() else None


def fault(store: Store, path: Path, what: str, level: int | None = None) -> Finding:
    """Return a finding of what can be repaired."""
    remedy = f"To compute it again: sparsedd verify --repair {store.path}{store.AGAIN}"
    return Finding(path, f"{path} {what}. {remedy}", level=level)


def read_file(path: Path, reader: Callable[[Path], object]) -> Finding:
    """Return whether a file can be read."""
    try:
        reader(path)
    except (ValueError, OSError) as error:
        return Finding(path, str(error))
    return Finding(path, f"{path}: ok", ok=True)


def check_seal(path: Path) -> object:
    """Read a file that carries a seal; whole ones of other programs, such as a plain checkpoint, are none of ours."""
    if _files.is_foreign(path) and not OF_LEVEL.fullmatch(path.name):
        return None
    kind, *_ = _files.read_sealed(path)
    return {"mask": Mask.load, "rewinder": Rewinder.load}.get(kind, str)(path)
