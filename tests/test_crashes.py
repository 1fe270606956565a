"""Kills, power cuts, full and read-only disks: what is run again then gives the same bytes as if nothing had happened.

The quick form tries a part of what the long one (``pytest -m long -s``) tries exhaustively, and says how much that was.
"""

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

import pytest
import torch
from disk import PowerCut, alike, found, laid, met
from matplotlib import pyplot
from test_sweep import net, train

from sparsedd import Mask, Pruner, Sweep, _files, noise
from sparsedd.experiments import (
    FIGURES,
    Experiment,
    Tables,
    directions,
    interpolation,
    redense,
    reproduce,
    run,
    run_fleet,
)
from sparsedd.experiments._figures._panel import Panel

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="kills forked processes, and reads /proc"),
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
]
LONG = pytest.mark.long
SMALL = replace(Experiment().scaled("smoke"), dataset="blobs", train_size=40, batch_size=20, width=0.03, momentum=0.9)
TOY = replace(SMALL, levels=2, epochs=1, milestones=(), noise=noise.Symmetric(0.4))


@pytest.fixture(autouse=True)
def no_time_passes(monkeypatch):
    """So that ``seconds`` are equal, and every byte can be compared."""
    monkeypatch.setattr(time, "perf_counter", lambda: 0.0)


# ---------------------------------------------------------------- what is disturbed


def sweep(out):
    """Two levels."""
    list(run(TOY, out))


def everything(out):
    """A sweep, its tickets with other weights, re-dense nets, lines, and their tables."""
    tables = Tables()
    for experiment in (TOY, TOY.reinitialized()):
        tables.add_levels(experiment, run(experiment, out / "runs"))
    record = redense(TOY, 1, out / "runs")
    tables.add_curves(TOY, 1, "re-dense", record.dense)
    for line in (interpolation(TOY, 1, out / "runs"), *directions(TOY, 1, out / "runs")):
        tables.add_line(TOY, 1, line)
    tables.write(out)


def fleet(out):
    """Two seeds, trained as one."""
    list(run_fleet([TOY, replace(TOY, seed=1)], out))


def own(out):
    """A sweep of a user's own: levels of two epochs, a rewind step, the weights of the last level kept."""
    train(Sweep(out, net(), Pruner(fraction=0.4), levels=2, rewind_step=3, keep="last"))


def figure(out):
    """A figure with its tables, picture and claims."""
    reproduce(replace(FIGURES["6"].scaled("smoke"), panels=(Panel("toy", (TOY,), at=1),)), out, seeds=1)


@lru_cache
def undisturbed(story):
    """What a story leaves, and the operations that it does, in order."""
    operations = []
    with tempfile.TemporaryDirectory() as folder, met(Path(folder), lambda *seen: operations.append(seen[0])):
        story(Path(folder) / "out")
        return found(Path(folder) / "out"), tuple(operations)


def resumed(story, out):
    """Run a story again, and see that everything is there as if nothing had happened, and no more than that."""
    story(out)
    left, wanted = found(out), undisturbed(story)[0]
    assert sorted(left) == sorted(wanted)
    assert left == wanted, [name for name in left if left[name] != wanted[name]]
    shutil.rmtree(out)


def said(fault, story, tried):
    print(f"\n{fault}: {story.__name__}: {tried} tried, all survived", end="")


# ---------------------------------------------------------------- kills


def started(task):
    """The id of a process that does a task, then ends with status 0, or with 1 after an error."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            task()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return child


def ended(child):
    """Wait for a process: was it killed? An error is one here, too."""
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def dying(story, out, count):
    """Do a story until just before the count-th operation, then die."""
    operations = iter(range(1, 10**6))

    def meet(*operation):
        if next(operations) == count:
            os.kill(os.getpid(), signal.SIGKILL)

    with met(out.parent, meet):
        story(out)


@pytest.mark.parametrize(
    ("story", "every"),
    [
        (sweep, 1),
        (own, 3),
        (everything, 19),
        (fleet, 23),
        *(pytest.param(story, 1, marks=LONG) for story in (own, everything, fleet, figure)),
    ],
)
def test_killed_before_any_operation(tmp_path, story, every):
    counts = range(1, len(undisturbed(story)[1]) + 1, every)
    for count in counts:
        out = tmp_path / str(count) / "out"
        assert ended(started(partial(dying, story, out, count)))
        resumed(story, out)
    said("killed at an operation", story, len(counts))


@pytest.mark.parametrize(
    ("story", "every", "again"),
    [
        (sweep, 13, 19),
        (own, 17, 23),
        *(pytest.param(*a, marks=LONG) for a in ((sweep, 1, 5), (own, 1, 1), (everything, 3, 41))),
    ],
)
def test_killed_again_while_it_resumes(tmp_path, story, every, again):
    states, kills = {}, 0
    for count in range(1, len(undisturbed(story)[1]) + 1, every):
        out = tmp_path / str(count) / "out"
        out.parent.mkdir()
        assert ended(started(partial(dying, story, out, count)))
        states.setdefault(alike(found(out.parent)), out.parent)
    for k, state in enumerate(states.values()):
        count, killed = 1 + k % again, True
        while killed:
            out = shutil.copytree(state, tmp_path / "again") / "out"
            killed = ended(started(partial(dying, story, out, count)))
            resumed(story, out)
            shutil.rmtree(out.parent)
            count, kills = count + again, kills + killed
    assert kills
    said(f"killed again while resuming, from {len(states)} states", story, kills)


@pytest.mark.parametrize("tries", [6, pytest.param(100, marks=LONG)])
def test_killed_at_any_time(tmp_path, tries):
    undisturbed(everything)
    began = time.monotonic()
    ended(started(partial(everything, tmp_path / "out")))
    duration, draw, kills = time.monotonic() - began, random.Random(tries), 0
    for _ in range(tries):
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        for _ in range(draw.choice((1, 1, 2, 3))):
            child = started(partial(everything, tmp_path / "out"))
            time.sleep(draw.uniform(0, duration))
            os.kill(child, signal.SIGKILL)
            kills += ended(child)
        resumed(everything, tmp_path / "out")
    said("killed at a random time", everything, f"{tries} runs with {kills} kills")


@pytest.mark.parametrize(
    ("story", "every"), [(own, 31), (everything, 47), *(pytest.param(s, 4, marks=LONG) for s in (own, everything, fleet))]
)
def test_one_of_four_processes_is_killed(tmp_path, story, every):
    counts, kills = range(1, len(undisturbed(story)[1]) + 1, every), 0
    for count in counts:
        out = tmp_path / str(count) / "out"
        victim, *others = [started(partial(dying, story, out, count)), *(started(partial(story, out)) for _ in range(3))]
        kills += ended(victim)
        assert [ended(child) for child in others] == [False] * 3
        resumed(story, out)
    said("one of four processes killed", story, f"{len(counts)} with {kills} kills")


# ---------------------------------------------------------------- power cuts


def surviving(disk):
    """How many levels are on a disk."""
    return sum(content.count(b"\n") for path, content in disk.items() if path.endswith("levels.jsonl"))


@pytest.mark.parametrize(
    ("story", "most"),
    [(sweep, 30), (own, 30), *(pytest.param(s, None, marks=LONG) for s in (sweep, own, everything, fleet, figure))],
)
def test_power_is_cut(tmp_path, story, most):
    disks, cut = {}, PowerCut(tmp_path)

    def meet(*operation):
        cut.meet(*operation)
        disks.update((alike(disk), disk) for disk in cut.disks())

    with met(tmp_path, meet):
        story(tmp_path / "out")
    assert list(cut.disks()) == [found(tmp_path)], "what has been done is sure"
    shutil.rmtree(tmp_path / "out")
    chosen = list(disks.values())
    if most is not None:
        chosen = random.Random(0).sample(chosen, most)
    for k, disk in enumerate(chosen):
        out = laid(tmp_path / str(k), disk) / "out"
        resumed(story, out)
    said(f"power cut, {len(disks)} different disks", story, len(chosen))


def test_a_level_that_was_yielded_outlives_a_power_cut(tmp_path):
    cut = PowerCut(tmp_path)
    with met(tmp_path, cut.meet):
        for level in run(TOY, tmp_path / "out"):
            assert {surviving(disk) for disk in cut.disks()} == {level.level + 1}


def test_a_saved_mask_outlives_a_power_cut(tmp_path):
    cut, mask = PowerCut(tmp_path), Mask({"weight": torch.tensor([[True, False]])})
    with met(tmp_path, cut.meet):
        mask.save(tmp_path / "new" / "folder" / "mask")
        assert list(cut.disks()) == [found(tmp_path)]


# ---------------------------------------------------------------- disks that are full, broken or read-only


class Failing:
    """A disk on which, from the count-th operation on, some fail."""

    def __init__(self, folder, count, error, *, forever=True, removing=True):
        self.folder, self.count, self.error, self.forever, self.removing = folder, count, error, forever, removing
        self.seen, self.before = 0, None

    def meet(self, operation, path, *more):
        self.seen += 1
        if self.seen < self.count or (operation == "unlink" and self.removing) or (self.before and not self.forever):
            return
        self.before = self.before or found(self.folder)
        named = (path,) if operation not in ("write", "fsync") else ()  # those know a handle, no name
        raise OSError(self.error, os.strerror(self.error), *named)


FAULTS = {
    "disk full": partial(Failing, error=errno.ENOSPC),
    "disk full once": partial(Failing, error=errno.ENOSPC, forever=False),
    "disk broken once": partial(Failing, error=errno.EIO, forever=False),
    "disk read-only": partial(Failing, error=errno.EROFS, removing=False),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(
    ("story", "every"),
    [(sweep, 7), (own, 11), *(pytest.param(s, 1, marks=LONG) for s in (sweep, own, everything, fleet, figure))],
)
def test_a_write_fails(tmp_path, story, every, fault):
    operations = undisturbed(story)[1]
    counts = [k for k in range(1, len(operations) + 1, every) if operations[k - 1] != "unlink"]
    for count in counts:
        folder = tmp_path / str(count)
        folder.mkdir()
        disk = FAULTS[fault](folder, count)
        with met(folder, disk.meet), pytest.raises(OSError, match=str(folder)) as raised:
            story(folder / "out")
        assert raised.value.errno == disk.error
        assert _files.TEMPORARY not in str(raised.value), "the file is named that could not be written"
        whole = {path: content for path, content in disk.before.items() if _files.TEMPORARY not in path}
        assert found(folder) == (whole if disk.removing else disk.before), "nothing has changed"
        resumed(story, folder / "out")
    said(fault, story, len(counts))


def test_a_picture_that_cannot_be_written_is_closed(tmp_path):
    def meet(operation, path, *more):
        if operation == "open" and ".figure.svg." in path:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    before = pyplot.get_fignums()
    with met(tmp_path, meet), pytest.raises(OSError, match=r"No space left on device: '.*figure\.svg'"):
        figure(tmp_path / "out")
    assert pyplot.get_fignums() == before


@pytest.mark.parametrize("finished", [0, 1, 2])
def test_a_folder_that_may_only_be_read(finished):
    """The levels that are there are read; the first one that is not is an error that names the folder."""

    def reading():
        if os.geteuid() == 0:
            os.setgid(65534)
            os.setuid(65534)
        with suppress(PermissionError):
            (out / "new").touch()
            raise AssertionError("the folder is not read-only")
        levels, error = [], None
        try:
            levels.extend(run(TOY, out))
        except OSError as raised:
            error = raised
        assert [level.level for level in levels] == list(range(finished))
        assert finished == 2 or (isinstance(error, PermissionError) and str(out) in str(error)), error

    undisturbed(sweep)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        out.mkdir()
        for _ in zip(range(finished), run(TOY, out), strict=False):
            pass
        for path in (Path(folder), out, *out.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        before = found(out)
        assert not ended(started(reading))
        assert found(out) == before
        for path in (Path(folder), out, *out.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)


# ---------------------------------------------------------------- writing


@pytest.mark.parametrize("story", [own, everything, fleet, figure])
def test_every_file_is_written_aside_synced_and_put_in_its_place(tmp_path, story):
    seen = []
    with met(tmp_path, lambda *operation: seen.append(operation)):
        story(tmp_path / "out")
    opened = {path for name, path, *_ in seen if name == "open"}
    assert {Path(path).name for path in opened if not path.endswith(_files.TEMPORARY)} == {"lock"}
    replaced = [(k, *more) for k, (name, *more) in enumerate(seen) if name == "replace"]
    assert len(replaced) == len(opened) - sum(Path(path).name == "lock" for path in opened)
    for k, temporary, path in replaced:
        assert ("fsync", temporary) in seen[:k]
        assert ("fsync", str(Path(path).parent)) == seen[k + 1]


def test_a_file_is_made_with_the_permissions_that_are_usual_here(tmp_path):
    before = os.umask(0o027)
    try:
        _files.write(tmp_path / "file", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_what_killed_processes_left_goes_and_what_others_write_stays(tmp_path):
    for name in (".a[b.0123abcd", ".a[b.", ".a.0123abcd", ".other.0123abcd"):
        (tmp_path / f"{name}{_files.TEMPORARY}").touch()
    _files.write(tmp_path / "a[b", b"new")
    assert sorted(p.name.removesuffix(_files.TEMPORARY) for p in tmp_path.iterdir()) == [
        ".a.0123abcd",
        ".other.0123abcd",
        "a[b",
    ]


def test_what_one_process_left_beside_what_another_one_finished_goes(tmp_path):
    everything(tmp_path / "out")
    for path in (*(tmp_path / "out").glob("*.csv"), *tmp_path.rglob("*.redense-*")):
        path.with_name(f".{path.name}.0123abcd{_files.TEMPORARY}").touch()
    resumed(everything, tmp_path / "out")


def test_two_that_write_one_file_at_once_both_succeed(tmp_path):
    """Each may take the other's beginning for what a killed process has left."""
    path, interfered = tmp_path / "file", []

    def meet(operation, *paths):
        if operation == "replace" and not interfered:
            interfered.append(True)
            _files.write(path, b"theirs")

    with met(tmp_path, meet):
        _files.write(path, b"ours")
    assert found(tmp_path) == {".": None, "file": b"ours"}


def test_a_file_system_that_syncs_no_folders_will_do(tmp_path):
    def meet(operation, path, *more):
        if operation == "fsync" and Path(path).is_dir():
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    with met(tmp_path, meet):
        _files.write(tmp_path / "new" / "file", b"new")
    assert (tmp_path / "new" / "file").read_bytes() == b"new"


@pytest.mark.long
@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
@pytest.mark.parametrize("story", [everything, fleet, figure])
def test_no_operation_happens_that_is_not_met(tmp_path, story):
    """The kernel's own list, of another process, has as many operations of each kind as are met here."""
    out, log = tmp_path / "out", tmp_path / "log"
    code = f"import test_crashes as t; from pathlib import Path; t.{story.__name__}(Path({str(out)!r}))"
    calls = "openat,mkdir,rename,renameat2,unlink,rmdir,chmod,fchmod,truncate,ftruncate,link,symlink,fsync,fdatasync"
    command = ["strace", "-f", "-y", "-qq", "-e", f"trace={calls},/^mkdirat,/^unlinkat", "-o", str(log)]
    command = [*command, sys.executable, "-c", code]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "MPLBACKEND": "agg", "OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, env=environment)
    lines = [line.split(maxsplit=1)[1] for line in log.read_text(errors="replace").splitlines() if str(tmp_path) in line]
    kernel = Counter(line.partition("(")[0] for line in lines if not line.startswith("openat") or "O_CREAT" in line)
    names = {"open": "openat", "replace": "rename"}
    seen = Counter(names.get(name, name) for name in undisturbed(story)[1] if name != "write")
    assert kernel == seen
