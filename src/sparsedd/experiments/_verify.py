"""verify: is what the files hold what was written?"""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from sparsedd import _checks
from sparsedd.experiments import _redense
from sparsedd.experiments._experiment import SCALES
from sparsedd.experiments._store import Store
from sparsedd.experiments._tables import TABLES, read_rows
from sparsedd.sweeps._config import open_store
from sparsedd.sweeps._repair import announce
from sparsedd.sweeps._store import OF_LEVEL, sha256
from sparsedd.sweeps._store import Store as Folder
from sparsedd.sweeps._verify import (
    Finding,
    check_seal,
    describe,
    fault,
    faults,
    read_file,
    whole_lines,
)

OF_EXPERIMENT = re.compile(rf".+-({'|'.join(SCALES)})-[0-9a-f]{{8}}/seed-\d+")
SWEEP = b'"sweep"'
DERIVED = re.compile(r"(\d{2,9})\.redense-([\d.e+-]{1,30}?)(?:\.(interpolation|directions))?\.safetensors")


def verify(path: str | os.PathLike[str]) -> list[Finding]:
    """Read every file of sparsedd's under a path, and say which are not what was written. Nothing is changed.

    Each changed byte is found of masks, of rewinders and of what the folder of a :class:`.Sweep` or of an experiment holds. A
    table (``levels.csv``, ``epochs.csv``, ``lines.csv``) is anyone's to change and carries no seal: of those, what is no table
    is found. The level that a stopped run was in is no fault.

    Parameters
    ----------
    path
        A folder, with all folders in it, or one file.

    Returns
    -------
    list
        A finding for each sweep, table or single file that is well, and for each file that is not; none where there is
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
    sweeps = folders(path)
    findings = [finding for folder in sweeps for finding in _verify_folder(folder)]
    for file in [path] if path.is_file() else sorted(p for p in path.rglob("*.*") if p.is_file()):
        if file.suffix == ".safetensors" and file.parent not in sweeps:
            findings.append(read_file(file, check_seal))
        elif file.suffix == ".csv" and file.stem in TABLES:
            findings.append(_table(file))
    return findings


def folders(path: Path) -> list[Path]:
    """List the folders of sweeps under a path. A configuration alone is none: others call theirs the same."""
    found = {file.parent for file in path.rglob("levels.jsonl")}
    begun = {file.parent for file in path.rglob("lock") if file.parent.name.startswith("seed-") or _says(file.parent) == SWEEP}
    return sorted(found | {folder for folder in begun if (folder / "config.json").exists()})


def is_own(folder: Path) -> bool:
    """Return whether a folder is of a user's sweep, and not of an experiment, as far as that can be told."""
    said = _says(folder)
    return said == SWEEP or (said is None and not OF_EXPERIMENT.fullmatch("/".join(folder.resolve().parts[-2:])))


def _says(folder: Path) -> bytes | None:
    """Return what a configuration begins with, if it is one of sparsedd's."""
    with suppress(OSError):
        data = (folder / "config.json").read_bytes()[:40]
        return next((word for word in (SWEEP, b'"key"') if word in data), None)
    return None


def open_folder(folder: Path) -> Folder | Finding:
    """Return the store in a folder, or what is wrong with its configuration."""
    try:
        return open_store(folder) if is_own(folder) else Store.open(folder)
    except (ValueError, OSError) as error:
        return Finding(folder / "config.json", str(error))


def _verify_folder(folder: Path) -> list[Finding]:
    """Return a finding for a sweep, or one for each file of it that is damaged."""
    store = open_folder(folder)
    if isinstance(store, Finding):
        files = (read_file(path, check_seal) for path in sorted(folder.glob("*.safetensors")))
        return [store, *(file for file in files if not file.ok)]
    found = find_faults(store)
    if any(fault.message.endswith(store.AGAIN) for fault in found) and not isinstance(store, Store):
        said = announce(store, found)
        found = [replace(f, message=f"{f.message}. {said}") if f.message.endswith(store.AGAIN) else f for f in found]
    return describe(store, found)


def find_faults(store: Folder) -> list[Finding]:
    """Return the files of a sweep that are damaged or missing; of an experiment, also those made of its levels."""
    return faults(store, _derived_faults if isinstance(store, Store) else None)


def _derived_faults(store: Folder) -> Iterator[Finding]:
    """Yield what is wrong with what was made of levels, and with files that nobody knows."""
    lines = whole_lines(store)
    for path in sorted(store.path.glob("*.safetensors")):
        match = DERIVED.fullmatch(path.name)
        if match is None:
            if not OF_LEVEL.fullmatch(path.name) and path != store.start_path:
                yield from [found for found in [read_file(path, check_seal)] if not found.ok]
            continue
        number, kind = int(match[1]), match[3]
        try:
            of = _redense.read_lines(path, kind)[0][:1] if kind else [_redense.read_redense(path)[1]]
        except (ValueError, TypeError, OSError) as error:
            yield fault(store, path, f"is damaged or altered ({error})")
            continue
        if number in lines and of != [sha256(store.read(number, lines[number])[1])]:
            yield fault(store, path, f"was made of another level {number} than the one that is there")


def _table(path: Path) -> Finding:
    """Check that the table parses and count its rows; tables are not sealed."""
    rows: list[object] = []
    found = read_file(path, lambda path: rows.extend(read_rows(path)))
    return replace(found, message=f"{path}: a table of {len(rows):,} rows; tables carry no seal") if found.ok else found
