"""A disk to break: each operation that changes a folder is met before it happens, and what a power cut may leave is known."""

import builtins
import io
import math
import os
import random
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from sparsedd._files import TEMPORARY

Content = dict[str, bytes | None]  # path -> bytes of a file, None for a folder
CHANGING = {"mkdir": 1, "rmdir": 1, "unlink": 1, "remove": 1, "chmod": 1, "truncate": 1, "rename": 2, "replace": 2, "link": 2}
DRAWN = re.compile(rf"\.[0-9a-f]{{8}}{re.escape(TEMPORARY)}")


class Met(io.FileIO):
    """A file whose writes are met one by one, each in two parts."""

    def __init__(self, path: str, mode: str, meet: Callable[..., None]) -> None:
        super().__init__(path, mode)
        self.meet, self.path, self.parted = meet, path, False

    def write(self, data: Any) -> int:
        self.parted = not self.parted
        part = bytes(data[: (len(data) + 1) // 2] if self.parted else data)
        self.meet("write", self.path, part, self.tell())
        return super().write(part)


@contextmanager
def met(folder: Path, meet: Callable[..., None]) -> Iterator[None]:
    """Call ``meet(operation, path, ...)`` before each operation that changes something in the folder."""
    root, opened, os_open, fsync = os.path.abspath(folder), builtins.open, os.open, os.fsync

    def below(path: Any) -> str | None:
        path = os.path.abspath(os.fsdecode(path)) if isinstance(path, str | bytes | os.PathLike) else ""
        return path if path == root or path.startswith(root + os.sep) else None

    def open_(file: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
        path = below(file)
        if path is None or not set(mode) & set("wax+"):
            return opened(file, mode, *args, **options)
        meet("open", path, mode)
        raw = Met(path, mode.replace("b", ""), meet)
        buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered)

    def open_handle(path: Any, flags: int, *args: Any, **options: Any) -> int:
        assert not (below(path) and flags & (os.O_WRONLY | os.O_RDWR)), f"{path} is opened in a way that is not met"
        return os_open(path, flags, *args, **options)

    def sync(handle: int) -> None:
        if path := below(os.readlink(f"/proc/self/fd/{handle}")):
            meet("fsync", path)
        fsync(handle)

    def changing(name: str, count: int) -> Callable[..., Any]:
        original = getattr(os, name)

        def call(*args: Any, **options: Any) -> Any:
            if path := below(args[0]):
                meet(name, path, *(os.path.abspath(other) for other in args[1:count]))
            return original(*args, **options)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name, count in CHANGING.items():
            patch.setattr(os, name, changing(name, count))
        patch.setattr(os, "open", open_handle)
        patch.setattr(os, "fsync", sync)
        for module in (builtins, io):
            patch.setattr(module, "open", open_)
        yield


class PowerCut:
    """What may be found after a power cut: no more than POSIX promises.

    A name is sure once its folder has been synced, and the content of a file once the file has; of what has happened since
    then, any part may be there. The disk is empty in the beginning.
    """

    def __init__(self, folder: Path) -> None:
        self.root = os.path.abspath(folder)
        self.written: dict[int, bytes] = {}
        self.synced: dict[int, bytes] = {}
        self.names: dict[str, int | None] = {self.root: None}  # None: a folder
        self.sure = dict(self.names)
        self.pending: list[tuple[str, str, str, int | None]] = []  # operation, path, path before it, file

    def meet(self, operation: str, path: str, more: Any = None, at: int = 0) -> None:
        """Do what is going to be done."""
        if operation == "open":
            if path not in self.names:
                self._rename(path, path, len(self.written))
            if "a" not in more:
                self.written[self._file(path)] = b""
            self.written.setdefault(self._file(path), b"")
        elif operation == "write":
            before = self.written[self._file(path)]
            self.written[self._file(path)] = before[:at] + more + before[at + len(more) :]
        elif operation == "mkdir":
            self._rename(path, path, None)
        elif operation == "replace":
            assert os.path.dirname(path) == os.path.dirname(more)
            self._rename(more, path, self.names.pop(path))
        elif operation == "unlink":
            if path in self.names:
                self.pending.append(("unlink", path, path, self.names.pop(path)))
        elif operation == "fsync" and self.names[path] is not None:
            self.synced[self._file(path)] = self.written[self._file(path)]
        elif operation == "fsync":
            mine = [p for p in self.pending if os.path.dirname(p[1]) == path]
            self.pending = [p for p in self.pending if p not in mine]
            _happened(self.sure, mine)
        else:
            raise NotImplementedError(operation)

    def _file(self, path: str) -> int:
        file = self.names[path]
        assert file is not None
        return file

    def _rename(self, path: str, before: str, file: int | None) -> None:
        self.names[path] = file
        self.pending.append(("name", path, before, file))

    def disks(self) -> Iterator[Content]:
        """What may be there if the power is cut now, each once: all of it, or some where that is too much."""
        seen = set()
        for kept in some([[True, False]] * len(self.pending)):
            names = dict(self.sure)
            _happened(names, [pending for pending, is_kept in zip(self.pending, kept, strict=True) if is_kept])
            names = {path: file for path, file in names.items() if path == self.root or self._reachable(path, names)}
            files = sorted({file for file in names.values() if file is not None})
            for contents in some([self._contents(file) for file in files]):
                content: Any = dict(zip(files, contents, strict=True)) | {None: None}
                disk = {os.path.relpath(path, self.root): content[file] for path, file in names.items()}
                if (key := alike(disk)) not in seen:
                    seen.add(key)
                    yield disk

    def _contents(self, file: int) -> list[bytes]:
        new, old = self.written[file], self.synced.get(file, b"")
        return [new] if new == old else [new, old, new[: len(new) // 2], bytes(len(new))]

    def _reachable(self, path: str, names: dict[str, int | None]) -> bool:
        folder = os.path.dirname(path)
        return folder == self.root or (folder in names and self._reachable(folder, names))


def some(choices: list[list[Any]]) -> Iterator[tuple[Any, ...]]:
    """All combinations of choices; where they are many, the first and the last ones with one changed, and a few."""
    if math.prod(map(len, choices)) <= 64:
        yield from product(*choices)
        return
    draw = random.Random(0)
    for all_but_one in ([choice[0] for choice in choices], [choice[-1] for choice in choices]):
        for k, choice in enumerate(choices):
            yield from ((*all_but_one[:k], one, *all_but_one[k + 1 :]) for one in choice)
    for _ in range(8):
        yield tuple(draw.choice(choice) for choice in choices)


def _happened(names: dict[str, int | None], operations: list[tuple[str, str, str, int | None]]) -> None:
    for operation, path, before, file in operations:
        if operation == "unlink":
            names.pop(path, None)
        else:
            if before != path and names.get(before) == file:
                del names[before]
            names[path] = file


def alike(disk: Content) -> Any:
    """A value that is equal for disks that are, whatever the temporary files are called."""
    return tuple(sorted((DRAWN.sub(TEMPORARY, path), content or b"") for path, content in disk.items()))


def found(folder: Path) -> Content:
    """What is in a folder."""
    return {
        str(path.relative_to(folder)): None if path.is_dir() else path.read_bytes() for path in (folder, *folder.rglob("*"))
    }


def laid(folder: Path, disk: Content) -> Path:
    """Make a folder that has this in it."""
    for path, content in sorted(disk.items()):  # folders come before what is in them
        if content is None:
            (folder / path).mkdir(parents=True, exist_ok=True)
        else:
            (folder / path).write_bytes(content)
    return folder
