"""Packed bools are what they were, whichever part of them is read or written, with numpy or with torch alone."""

import pickle
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparsedd import Mask, _bits
from sparsedd._bits import Bits

flags = st.lists(st.booleans(), max_size=40).map(lambda values: torch.tensor(values, dtype=torch.bool))
elsewhere = st.sampled_from([_bits.array, lambda tensor: tensor])  # as on another device


@given(flags, elsewhere, st.data())
def test_they_are_those_of_numpy_and_give_back_each_part(values, array, data):
    a, b = sorted(data.draw(st.tuples(*[st.integers(0, len(values))] * 2)))
    with mock.patch.object(_bits, "array", array):
        packed = Bits.pack(values)
        assert packed.packed.tolist() == np.packbits(values.numpy()).tolist()
        assert packed.unpack().tolist() == values.tolist()
        assert packed.read(a, b).tolist() == values[a:b].tolist()
        assert packed.take(torch.arange(a, b)).tolist() == values[a:b].tolist()
        assert (packed.count(), packed.any(), packed.numel()) == (int(values.sum()), bool(values.any()), len(values))
        again = Bits.zeros(values.shape, "cpu")
        for part in data.draw(st.permutations([slice(0, a), slice(a, b), slice(b, None)])):
            again.put_(part.start, array(values[part]))
    assert again.equals(packed)
    assert Bits.trim(~packed.packed, packed.shape).unpack().tolist() == (~values).tolist()


@pytest.mark.parametrize("bitwise_count", [True, False])
def test_ones_are_counted_without_numpy_2_too(bitwise_count, monkeypatch):
    if not bitwise_count:
        monkeypatch.delattr(np, "bitwise_count", raising=False)
    some = np.random.default_rng(0).integers(0, 256, 1003).astype(np.uint8)
    assert _bits.count_ones(some) == np.unpackbits(some).sum()
    assert _bits.count_ones(np.arange(256, dtype=np.uint8)) == 1024


@given(st.integers(1, 9), st.booleans(), st.booleans())
def test_a_tensor_is_met_slice_by_slice_with_its_flags(size, transposed, nan):
    tensor = torch.arange(20.0).reshape(4, 5)
    tensor = tensor.mT.contiguous().mT if transposed else tensor
    tensor[1, 1] = float("nan") if nan else 0
    with mock.patch.object(_bits, "SLICE", size):
        met = list(Bits.pack(tensor).along(tensor))
        assert len(met) >= min(4, 20 // size)
        for part, kept in met:
            assert torch.equal(kept, part != 0)
            part.fill_(1)
    assert torch.equal(tensor, torch.ones(4, 5))


def test_a_copy_on_another_device_is_made_once_and_not_pickled():
    bits, meta = Bits.pack(torch.ones(100, 3) > 0), torch.device("meta")
    assert bits.to(torch.device("cpu")) is bits
    assert bits.to(meta) is bits.to(meta)
    assert bits.to(meta).packed.device == meta
    assert not pickle.loads(pickle.dumps(bits)).copies
    assert len(pickle.dumps(Mask({"w": torch.ones(800, 1000) > 0}))) < 101_000
