"""Files that are whole or absent: written atomically, and sealed with the SHA-256 of every byte."""

import errno
import glob
import hashlib
import io
import json
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import torch
from safetensors import SafetensorError
from safetensors import torch as safetensors
from torch import Tensor

VERSION = 1
TEMPORARY = ".sparsedd-tmp"  # what a killed process may leave behind ends in this
_SEAL = b'{\\"sha256\\":\\"'  # how the JSON of the metadata begins inside the JSON of the header
_BLANK = b"0" * 64
_BEGINNING = 1024  # where the seal is
_LONGEST = 100_000_000  # bytes of a header, for safetensors
Read: TypeAlias = Callable[[], Iterable[Tensor]]
_begun: set[Path] = set()  # what this process is writing


def write(path: str | os.PathLike[str], data: bytes) -> None:
    """Replace the file in one act: a reader, a kill or a power cut meets the old content or the new; from here on, the new."""
    _replace(Path(path), lambda file: file.write(data))


def write_sealed(
    path: str | os.PathLike[str], kind: str, tensors: Mapping[str, Tensor], content: Any, read: Read | None = None
) -> None:
    """Replace the file, as :func:`write` does, by what :func:`seal` returns, made of one tensor after the other.

    ``read`` gives them in the order of :func:`list_names`, if they are to be made as they are written; a file that has to be
    written again reads again.
    """
    _replace(Path(path), lambda file: _write_sealed(file, kind, tensors, content, read))


def list_names(tensors: Mapping[str, Tensor]) -> list[str]:
    """List the names of tensors in the order of a file."""
    return _lay_out(tensors, {"sparsedd": ""})[1]  # safetensors has no metadata without a key


def _replace(path: Path, fill: Callable[[BinaryIO], object]) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{TEMPORARY}")
    _begun.add(temporary)
    try:
        make(path.parent)
        with open(temporary, "xb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        clear(path, but=temporary)
        try:
            os.replace(temporary, path)
        except FileNotFoundError:  # another writer of this file has cleared it away
            return _replace(path, fill)
        _sync(path.parent)
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error  # not the temporary name
    finally:
        _remove(temporary)
        _begun.discard(temporary)


def abandon() -> None:
    """Remove what this process has begun to write, before it ends in the middle of it."""
    for temporary in list(_begun):
        _remove(temporary)


def clear(path: Path, but: Path | None = None) -> None:
    """Remove what killed processes had begun to write of a file."""
    for torn in path.parent.glob(f".{glob.escape(path.name)}.*{TEMPORARY}"):
        if torn != but:
            _remove(torn)


def remove(paths: Iterable[Path]) -> None:
    """Remove files, so that a power cut doesn't bring them back."""
    gone = [path for path in paths if path.exists()]
    for path in gone:
        path.unlink(missing_ok=True)
    for folder in {path.parent for path in gone}:
        _sync(folder)


def _remove(path: Path) -> None:
    with suppress(OSError):  # it is not there, or not ours
        path.unlink()


def make(folder: Path) -> None:
    """Make a folder, and those that it is to be in, so that a power cut doesn't undo it."""
    if not folder.is_dir():
        make(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync(folder.parent)


def _sync(folder: Path) -> None:
    """Make the names in a folder outlive a power cut, where the system can do that."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise OSError(error.errno, error.strerror, str(folder)) from error
    finally:
        os.close(handle)


def seal(kind: str, tensors: Mapping[str, Tensor], content: Any) -> bytes:
    """Return a safetensors file with ``content`` (JSON) in its metadata, and the SHA-256 of all of it."""
    file = io.BytesIO()
    _write_sealed(file, kind, tensors, content)
    return file.getvalue()


def _write_sealed(file: BinaryIO, kind: str, tensors: Mapping[str, Tensor], content: Any, read: Read | None = None) -> None:
    metadata = {"sha256": _BLANK.decode(), "kind": kind, "version": VERSION, "content": content}
    head, names = _lay_out(tensors, {"sparsedd": json.dumps(metadata, separators=(",", ":"))})
    file.write(head)
    sha = hashlib.sha256(head)
    for tensor in read() if read else map(tensors.__getitem__, names):
        data = _read_bytes(tensor)
        file.write(data)
        sha.update(data)
        del data, tensor  # before the next is read
    file.seek(head.find(_SEAL) + len(_SEAL))
    file.write(sha.hexdigest().encode())


def _lay_out(tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> tuple[bytes, list[str]]:
    """Return the beginning of a safetensors file, up to the tensors, and their names in the order of the file."""
    if "__metadata__" in tensors:
        raise ValueError("a .safetensors file can't hold a tensor called '__metadata__'.")
    empty = safetensors.save({name: torch.empty(0, dtype=t.dtype, device="cpu") for name, t in tensors.items()}, metadata)
    header, stop = json.loads(empty[8:]), 0  # it has all but the sizes
    names = [name for name in header if name != "__metadata__"]
    for name in names:
        start, stop = stop, stop + tensors[name].numel() * tensors[name].element_size()
        header[name] |= {"shape": list(tensors[name].shape), "data_offsets": [start, stop]}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, names


def _read_bytes(tensor: Tensor) -> bytes | memoryview:
    """Return the bytes of a tensor, row after row; those that lie so on the CPU are not copied."""
    rows = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    return rows.as_strided((rows.numel(),), (1,)).view(torch.uint8).numpy().data


def unseal(path: str | os.PathLike[str], kind: str) -> tuple[dict[str, Tensor], Any]:
    """Read the tensors and the content of a sealed file; ValueError where a single byte differs from what was written."""
    return read_sealed(path, kind)[1:]


def read_sealed(path: str | os.PathLike[str], wanted: str | None = None) -> tuple[str, dict[str, Tensor], Any]:
    """Read the kind of a sealed file, its tensors and its content; ValueError as for :func:`unseal`."""
    with open(path, "rb") as file:
        head, fits = _read_head(file)
        start = head.find(_SEAL, 0, _BEGINNING) + len(_SEAL)
        if start < len(_SEAL):
            raise ValueError(f"{path} is not a {wanted or 'file'} saved by sparsedd, or it is damaged: it carries no seal.")
        if not fits:
            raise ValueError(
                f"{path} is damaged or altered: its header tells another size than it has. Restore it from a copy."
            )
        file.seek(0)
        data = file.read()
    actual = hashlib.sha256(data[:start] + _BLANK)
    actual.update(memoryview(data)[start + 64 :])
    if actual.hexdigest().encode() != data[start : start + 64]:
        raise ValueError(f"{path} is damaged or altered: its SHA-256 is not the one it carries. Restore it from a copy.")
    with blame(path, "a file"):
        tensors = safetensors.load(data)
        header = parse_json(data[8 : 8 + int.from_bytes(data[:8], "little")])
        metadata = parse_json(header["__metadata__"]["sparsedd"])
        version, kind, content = metadata["version"], metadata["kind"], metadata["content"]
    if version != VERSION:
        raise ValueError(f"{path} has format version {version}; this sparsedd reads version {VERSION}.")
    if kind != (wanted or kind):
        raise ValueError(f"{path} holds a {kind}, not a {wanted}.")
    return kind, tensors, content


def _read_head(file: BinaryIO) -> tuple[bytes, bool]:
    """Read a file up to the end of its header, and no more than it has reason to hold; check that the sizes in it fit."""
    head, size = file.read(_BEGINNING), os.fstat(file.fileno()).st_size
    length = 8 + int.from_bytes(head[:8], "little")
    if length <= min(size, _LONGEST):
        head += file.read(max(0, length - len(head)))
    try:
        header = parse_json(head[8:length])
        body = max((value["data_offsets"][1] for name, value in header.items() if name != "__metadata__"), default=0)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return head, False
    return head[:length], bool(body == size - length)


def is_foreign(path: Path) -> bool:
    """Return whether a whole safetensors file is of another program: it neither carries a seal nor says that it did."""
    with open(path, "rb") as file:
        head, fits = _read_head(file)
    return fits and b"sparsedd" not in head and b"sha256" not in head


def digest(path: Path) -> str:
    """Compute the SHA-256 of a file, read in pieces."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def parse_json(text: str | bytes) -> Any:
    """Parse JSON in which no key may come twice."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        mapping = dict(pairs)
        if len(mapping) != len(pairs):
            raise ValueError("a key comes twice")
        return mapping

    return json.loads(text, object_pairs_hook=once)


@contextmanager
def blame(path: str | os.PathLike[str], what: str) -> Iterator[None]:
    """Turn whatever the block finds wrong with the content of a file into a ValueError that names the file.

    A seal shows damage, not good will: who writes a file on purpose can seal anything.
    """
    try:
        yield
    except (SafetensorError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError) as error:
        why = str(error).removesuffix(".") if isinstance(error, ValueError) else repr(error)
        raise ValueError(f"{path} is not {what} as sparsedd writes it: {why}.") from error
