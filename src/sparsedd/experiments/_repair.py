"""repair: compute what is damaged again, and nothing else."""

import os
import shutil
from collections.abc import Iterable
from tempfile import TemporaryDirectory

import torch

from sparsedd import _checks, _files
from sparsedd._parameters import abridge
from sparsedd.experiments._experiment import Experiment, owns
from sparsedd.experiments._redense import directions, interpolation, redense
from sparsedd.experiments._run import Run
from sparsedd.experiments._store import Store
from sparsedd.experiments._task import Task
from sparsedd.experiments._verify import DERIVED, find_faults, folders, open_folder, verify
from sparsedd.sweeps._repair import take_out
from sparsedd.sweeps._store import Store as Folder
from sparsedd.sweeps._verify import Finding, digest, join_lines, read_file, whole_lines


def repair(
    path: str | os.PathLike[str], experiments: Iterable[Experiment] = (), *, device: str | torch.device = "cpu"
) -> list[Finding]:
    """Compute again the levels of experiments that are damaged, and what was made of them; then :func:`verify`.

    Of a :class:`.Sweep`, whose training is in a script, the first damaged level and those after it are taken out, and a finding
    says so: the script computes them again, as far back as it must. Nothing else is removed.

    A level is computed aside from the intact ones before it, and takes its place only if it is, bit for bit, the one that was
    written: on the same machine and device, and with the same number of threads, it is. What is intact stays as it is. A
    configuration can't be computed again, nor can a mask or a rewinder that belongs to no experiment.

    Parameters
    ----------
    path
        A folder, with all folders in it.
    experiments
        Those there that have functions of your own: of these, the folder holds the names alone, and imports nothing.
    device
        Where the levels were trained.

    Returns
    -------
    list
        A finding for each sweep that could not be repaired, or of which levels were taken out, and those of :func:`verify`.

    Examples
    --------
    >>> import tempfile
    >>> from sparsedd.experiments import Experiment, Store, run
    >>> experiment = Experiment().scaled("smoke")
    >>> with tempfile.TemporaryDirectory() as out:
    ...     levels = list(run(experiment, out))
    ...     Store(out, experiment).mask_path(1).unlink()
    ...     [finding] = repair(out)
    ...     finding.ok, list(run(experiment, out)) == levels
    (True, True)
    """
    said, place = [], _checks.device("device", device)
    known = {e.key: e for e in _checks.every("experiments", experiments, Experiment, "Experiments")}
    stores = [store for store in map(open_folder, folders(_checks.path("path", path))) if isinstance(store, Folder)]
    for store in sorted(stores, key=_takes_masks):  # masks before those who take them
        try:
            if isinstance(store, Store):
                _repaired(store, known.get(store.experiment.key, store.experiment), place)
            else:
                said += take_out(store)
        except (ValueError, OSError, RuntimeError) as error:
            said.append(Finding(store.path, f"{store.path} could not be repaired: {error}"))
    return said + verify(path)


def _takes_masks(store: Folder) -> bool:
    return isinstance(store, Store) and store.experiment.tickets_of is not None


def _repaired(store: Store, experiment: Experiment, device: torch.device) -> None:
    found = find_faults(store)
    if not found:
        return
    if unknown := [part for part in owns(experiment) if part.function is None]:
        raise RuntimeError(
            f"it has {abridge(map(repr, unknown))} of your own, and nothing that a file names is imported. In your script, "
            f"call sparsedd.experiments.repair({str(store.path)!r}, [experiment]); or remove the damaged files, and from "
            "levels.jsonl the lines of their levels and of those after them, and run again: your script, or sparsedd run "
            "FILE.py:NAME."
        )
    store = Store(store.path.parent.parent, experiment)
    lines = whole_lines(store)
    with store.locked():
        for number in sorted({fault.level for fault in found if fault.level is not None}):
            lines[number] = _again(store, number, lines, device)
        _files.write(store.path / "levels.jsonl", join_lines(lines))
    for fault in sorted(found, key=lambda fault: len(fault.path.name)):  # a re-dense net before the lines around it
        if match := DERIVED.fullmatch(fault.path.name):
            make = {None: redense, "interpolation": interpolation, "directions": directions}[match[3]]
            fault.path.unlink(missing_ok=True)
            make(store.experiment, int(match[1]), store.path.parent.parent, float(match[2]), device)


def _again(store: Store, number: int, lines: dict[int, str], device: torch.device) -> str:
    """Compute a level aside, have its files here be whole, and return its line."""
    out = store.path.parent.parent
    with TemporaryDirectory() as folder:
        aside = Store(folder, store.experiment)
        aside.configure()
        if number:
            _files.write(aside.path / "levels.jsonl", join_lines({k: lines[k] for k in range(number)}))
        for path in (path for k in {0, number - 1} & {*range(number)} for path in store.files(k) if path.exists()):
            shutil.copy(path, aside.path)
        sweep = Run(Task(store.experiment, device), aside, out, device)
        sweep.finish(iter(sweep))
        line = aside.lines()[number]
        computed = aside.read(number, line)[1]
        if number in lines:
            line = lines[number]
            written = store.read(number, line)[1]
        else:  # nothing else vouches for the files that are there
            written = {path.name: str(digest(path)) for path in store.files(number) if read_file(path, _files.read_sealed).ok}
        if any(computed.get(name) != written[name] for name in written):
            raise ValueError(
                f"level {number} came out otherwise here, as on another machine, device or number of threads. To compute it "
                f"and those after it anew, remove line {number + 1} of levels.jsonl and those after it, and run again."
            )
        for path in store.files(number):
            if path.name in computed and digest(path) != computed[path.name]:
                _files.write(path, (aside.path / path.name).read_bytes())
    return line
