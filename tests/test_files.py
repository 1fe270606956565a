"""Sealed files: byte for byte those of safetensors, written one tensor after the other."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from helpers import bits, risen
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save
from torch import Tensor

from sparsedd import _files

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.complex64, torch.float8_e4m3fn]
WHOLE = [torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64]
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=5).filter(lambda name: name != "__metadata__")


def by_safetensors(kind: str, tensors: dict[str, Tensor], content: object) -> bytes:
    """The whole file at once, with its seal."""
    metadata = {"sha256": "0" * 64, "kind": kind, "version": 1, "content": content}
    own = {name: t.resolve_conj().clone(memory_format=torch.contiguous_format) for name, t in tensors.items()}
    blank = save(own, {"sparsedd": json.dumps(metadata, separators=(",", ":"))})
    return blank.replace(b"0" * 64, hashlib.sha256(blank).hexdigest().encode(), 1)


@st.composite
def any_tensor(draw: st.DrawFn) -> Tensor:
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    values = torch.arange(torch.Size(shape).numel()).reshape(shape).to(draw(st.sampled_from(DTYPES + WHOLE)))
    values = values.permute(draw(st.permutations(range(len(shape)))))
    if values.is_complex() and draw(st.booleans()):
        return (values * 1j).conj()
    return values[..., ::2] if shape and draw(st.booleans()) else values


@given(
    tensors=st.dictionaries(NAMES, any_tensor(), max_size=6), content=st.dictionaries(NAMES, st.integers() | NAMES, max_size=2)
)
def test_a_sealed_file_is_the_one_of_safetensors(tmp_path_factory, tensors, content):
    path = tmp_path_factory.mktemp("files") / "sealed"
    _files.write_sealed(path, "thing", tensors, content)
    assert path.read_bytes() == _files.seal("thing", tensors, content) == by_safetensors("thing", tensors, content)
    read, found = _files.unseal(path, "thing")
    assert found == content
    assert {name: bits(t) for name, t in read.items()} == {
        name: bits(t.resolve_conj().clone(memory_format=torch.contiguous_format)) for name, t in tensors.items()
    }


def test_what_fails_in_the_middle_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    _files.write_sealed(path, "thing", {"a": torch.zeros(3)}, None)
    before = path.read_bytes()
    monkeypatch.setattr(_files, "_read_bytes", lambda tensor: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        _files.write_sealed(path, "thing", {"a": torch.ones(3)}, None)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_writing_takes_one_tensor_at_most(tmp_path: Path):
    tensors = {str(k): torch.ones(1 << 20, 2).mT for k in range(4)}  # of which each is copied, row after row
    _files.write_sealed(tmp_path / "warm", "thing", {}, None)
    assert risen(lambda: _files.write_sealed(tmp_path / "file", "thing", tensors, None)) < 1.5 * 8 * (1 << 20)
