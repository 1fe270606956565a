"""Files that are whole or absent: written atomically, and sealed with the SHA-256 of every byte."""

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors import torch as safetensors
from torch import Tensor

VERSION = 1
TEMPORARY = ".sparsedd-tmp"  # what a killed process may leave behind ends in this
_SEAL = b'{\\"sha256\\":\\"'  # how the JSON of the metadata begins inside the JSON of the header
_BLANK = b"0" * 64


def write(path: str | os.PathLike[str], data: bytes) -> None:
    """Replace the file in one act: a reader, or a crash, meets the old content or the new."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=TEMPORARY)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def seal(kind: str, tensors: Mapping[str, Tensor], content: Any) -> bytes:
    """A safetensors file with ``content`` (JSON) in its metadata, and the SHA-256 of all of it."""
    if "__metadata__" in tensors:
        raise ValueError("a .safetensors file can't hold a tensor called '__metadata__'.")
    metadata = {"sha256": _BLANK.decode(), "kind": kind, "version": VERSION, "content": content}
    blank = safetensors.save(dict(tensors), {"sparsedd": json.dumps(metadata, separators=(",", ":"))})
    return blank.replace(_SEAL + _BLANK, _SEAL + hashlib.sha256(blank).hexdigest().encode(), 1)


def unseal(path: str | os.PathLike[str], kind: str) -> tuple[dict[str, Tensor], Any]:
    """The tensors and the content of a sealed file; ValueError where a single byte differs from what was written."""
    data = Path(path).read_bytes()
    start = data.find(_SEAL) + len(_SEAL)
    found = data[start : start + 64]
    if start < len(_SEAL):
        raise ValueError(f"{path} is not a {kind} saved by sparsedd, or it is damaged: it carries no seal.")
    if hashlib.sha256(data[:start] + _BLANK + data[start + 64 :]).hexdigest().encode() != found:
        raise ValueError(f"{path} is damaged or altered: its SHA-256 is not the one it carries. Restore it from a copy.")
    try:
        tensors = safetensors.load(data)
    except SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file: {error}.") from error
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    metadata = json.loads(header["__metadata__"]["sparsedd"])
    if metadata["version"] != VERSION:
        raise ValueError(f"{path} has format version {metadata['version']}; this sparsedd reads version {VERSION}.")
    if metadata["kind"] != kind:
        raise ValueError(f"{path} holds a {metadata['kind']}, not a {kind}.")
    return tensors, metadata["content"]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
