"""verify: is what the files hold what was written?"""

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from sparsedd import _checks, _files
from sparsedd._mask import Mask
from sparsedd._rewinder import Rewinder
from sparsedd.experiments import _lines, _redense
from sparsedd.experiments._store import Store
from sparsedd.experiments._tables import TABLES, read_rows
from sparsedd.sweeps._store import fitting, sha256

OF_LEVEL = re.compile(r"(\d{2,9})\.(weights|mask|momentum)\.safetensors")
DERIVED = re.compile(r"(\d{2,9})\.redense-([\d.e+-]{1,30}?)(?:\.(interpolation|directions))?\.safetensors")


@dataclass(frozen=True)
class Finding:
    """What :func:`verify` says of an experiment, or of one file.

    Attributes
    ----------
    path
        The folder of an experiment where all is well, else the file.
    message
        A line that names it, and says what to do when something is wrong.
    ok
        Is it what was written?
    level
        The level of the experiment that is damaged, if one is.
    """

    path: Path
    message: str
    ok: bool = False
    level: int | None = None

    def __repr__(self) -> str:
        return f"Finding({'well' if self.ok else 'not well'}: {self.path})"

    def __str__(self) -> str:
        return self.message


def verify(path: str | os.PathLike[str]) -> list[Finding]:
    """Read every file of sparsedd's under a path, and say which are not what was written. Nothing is changed.

    Each changed byte is found of masks, of rewinders and of what an experiment's folder holds. A table (``levels.csv``,
    ``epochs.csv``, ``lines.csv``) is anyone's to change and carries no seal: of those, what is no table is found. The level
    that a stopped run was in is no fault.

    Parameters
    ----------
    path
        A folder, with all folders in it, or one file.

    Returns
    -------
    list
        A finding for each experiment, table or single file that is well, and for each file that is not; none where there is
        nothing of sparsedd's.

    Examples
    --------
    >>> import tempfile
    >>> from sparsedd.experiments import Experiment, run
    >>> with tempfile.TemporaryDirectory() as out:
    ...     levels = list(run(Experiment().scaled("smoke"), out))
    ...     [finding] = verify(out)
    >>> finding.ok, finding.message.split(": ")[1]
    (True, 'ok, 3 of 3 levels, 9 files')
    """
    path = _checks.path("path", path)
    experiments = folders(path)
    findings = [finding for folder in experiments for finding in _folder(folder)]
    for file in [path] if path.is_file() else sorted(p for p in path.rglob("*.*") if p.is_file()):
        if file.suffix == ".safetensors" and file.parent not in experiments:
            findings.append(_read(file, _sealed))
        elif file.suffix == ".csv" and file.stem in TABLES:
            findings.append(_table(file))
    return findings


def folders(path: Path) -> list[Path]:
    """The folders of experiments under a path. A configuration alone is none: others call theirs the same."""
    found = {file.parent for file in path.rglob("levels.jsonl")}
    begun = {file.parent for file in path.rglob("lock") if file.parent.name.startswith("seed-")}
    return sorted(found | {folder for folder in begun if (folder / "config.json").exists()})


def opened(folder: Path) -> Store | Finding:
    """The store in a folder, or what is wrong with its configuration."""
    try:
        return Store.open(folder)
    except (ValueError, OSError) as error:
        return Finding(folder / "config.json", str(error))


def _folder(folder: Path) -> list[Finding]:
    """A line for an experiment, or one for each file of it that is damaged."""
    store = opened(folder)
    if isinstance(store, Finding):
        files = (_read(path, _sealed) for path in sorted(folder.glob("*.safetensors")))
        return [store, *(file for file in files if not file.ok)]
    if found := faults(store):
        return found
    count = len(list(folder.glob("*.safetensors"))) + sum((folder / n).exists() for n in ("config.json", "levels.jsonl"))
    levels = f"{len(whole_lines(store))} of {store.experiment.levels} levels"
    return [Finding(folder, f"{folder}: ok, {levels}, {count} files", ok=True)]


def whole_lines(store: Store) -> dict[int, str]:
    """The lines of ``levels.jsonl`` that are what was written, by level, wherever in the file they are."""
    lines = {}
    for line in store.lines():
        with suppress(ValueError, LookupError, TypeError, RecursionError):
            number = json.loads(line)["level"]["level"]
            store.read(number, line)
            lines[number] = line
    return lines


def faults(store: Store) -> list[Finding]:
    """The files of a store that are damaged or missing."""
    return [*_lines_faults(store), *_level_faults(store), *_derived_faults(store)]


def _lines_faults(store: Store) -> Iterator[Finding]:
    path, lines, experiment = store.path / "levels.jsonl", whole_lines(store), store.experiment
    # A run that was stopped leaves weights of the level that it was in at most, but masks of later ones.
    begun = [int(match[1]) for p in store.path.iterdir() if (match := OF_LEVEL.fullmatch(p.name)) and match[2] == "weights"]
    count = min(max([len(store.lines()), *(k + 1 for k in lines), *begun]), experiment.levels)
    for number in sorted({*range(count)} - {*lines}):
        yield _fault(store, path, f"is damaged: it has no whole line for level {number}", number)
    if count == len(lines) and path.exists() and path.read_bytes() != text(lines):
        yield _fault(store, path, "is damaged: it is not a line for each level in turn")


def text(lines: Mapping[int, str]) -> bytes:
    """``levels.jsonl``."""
    return "".join(f"{lines[number]}\n" for number in sorted(lines)).encode()


def _level_faults(store: Store) -> Iterator[Finding]:
    like: dict[str, Mapping[str, Tensor]] = {}  # the first weights, mask and momentum, which all others are like

    def fits(path: Path) -> None:
        kind = path.name.split(".")[-2].replace("start", "weights")
        state = Mask.load(path) if kind == "mask" else _files.unseal(path, kind)[0]
        fitting(path, state, like.setdefault(kind, state))

    for number, line in sorted(whole_lines(store).items()):
        digests = store.read(number, line)[1]
        for path in store.files(number):
            if digest(path) != digests.get(path.name, ""):
                yield _fault(store, path, "is damaged or altered" if path.exists() else "is missing", number)
            elif not (found := _read(path, fits)).ok:
                yield found


def _derived_faults(store: Store) -> Iterator[Finding]:
    """What was made of levels, and files that nobody knows."""
    lines = whole_lines(store)
    for path in sorted(store.path.glob("*.safetensors")):
        match = DERIVED.fullmatch(path.name)
        if match is None:
            if not OF_LEVEL.fullmatch(path.name) and path != store.start_path:
                yield from [found for found in [_read(path, _sealed)] if not found.ok]
            continue
        number, kind = int(match[1]), match[3]
        try:
            of = _lines.opened(path, kind)[0][:1] if kind else [_redense.opened(path)[1]]
        except (ValueError, TypeError, OSError) as error:
            yield _fault(store, path, f"is damaged or altered ({error})")
            continue
        if number in lines and of != [sha256(store.read(number, lines[number])[1])]:
            yield _fault(store, path, f"was made of another level {number} than the one that is there")


def digest(path: Path) -> str | None:
    """The SHA-256 of a file, if it is there."""
    return _files.digest(path) if path.is_file() else None


def _fault(store: Store, path: Path, what: str, level: int | None = None) -> Finding:
    return Finding(path, f"{path} {what}. To compute it again: sparsedd verify --repair {store.path}", level=level)


def _sealed(path: Path) -> object:
    kind, *_ = _files.opened(path)
    return {"mask": Mask.load, "rewinder": Rewinder.load}.get(kind, str)(path)


def _table(path: Path) -> Finding:
    """Whether a table is one, and how long: nothing vouches for its numbers."""
    rows: list[object] = []
    found = _read(path, lambda path: rows.extend(read_rows(path)))
    return replace(found, message=f"{path}: a table of {len(rows):,} rows; tables carry no seal") if found.ok else found


def _read(path: Path, reader: Callable[[Path], object]) -> Finding:
    """Whether a file can be read."""
    try:
        reader(path)
    except (ValueError, OSError) as error:
        return Finding(path, str(error))
    return Finding(path, f"{path}: ok", ok=True)
