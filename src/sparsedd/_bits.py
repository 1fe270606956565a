"""Bits: bool tensors at rest, eight values in a byte; and the slices in which what is large is read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

SLICE = 1 << 16  # fits a core's cache
LARGE_SLICE = 1 << 22  # on other devices, where each slice costs a wait

Array: TypeAlias = Any  # numpy's on the CPU, where it compares ten times as fast as torch; else torch's


class Bits:
    """The values of a bool tensor, row after row, packed as by ``np.packbits``: those beyond the last are False.

    They never change once they are made, so whoever needs them elsewhere gets a copy that is made once and kept.
    """

    __slots__ = ("copies", "packed", "shape")

    def __init__(self, packed: Tensor, shape: Sequence[int]) -> None:
        self.packed, self.shape = packed, torch.Size(shape)
        self.copies: dict[Any, Bits] = {}  # by device, or by the box of a part

    def __reduce__(self) -> tuple[Any, ...]:
        return Bits, (self.packed, self.shape)

    @classmethod
    def zeros(cls, shape: Sequence[int], device: torch.device | str) -> Bits:
        """Return as many that are False, for :meth:`put_`."""
        return cls(torch.zeros((prod(shape) + 7) // 8, dtype=torch.uint8, device=device), shape)

    @classmethod
    def trim(cls, packed: Tensor, shape: Sequence[int]) -> Bits:
        """Take packed values that nobody else holds, and clear those beyond the last."""
        if beyond := -prod(shape) % 8:
            packed[-1:] &= 256 - (1 << beyond)
        return cls(packed, shape)

    @classmethod
    def pack(cls, flags: Tensor) -> Bits:
        """Pack a tensor's bools, or whether its numbers are not zero."""
        bits, start = cls.zeros(flags.shape, flags.device), 0
        for (piece,) in pieces(flags):
            bits.put_(start, array(piece.bool()))
            start += len(piece)
        return bits

    def invert(self) -> Bits:
        return self.trim(~self.packed, self.shape)

    def numel(self) -> int:
        return prod(self.shape)

    def any(self) -> bool:
        return bool(self.packed.any())

    def count(self) -> int:
        """Count those that are True."""
        return count_ones(array(self.packed))

    def equals(self, other: Bits) -> bool:
        return self.shape == other.shape and torch.equal(self.packed, other.to(self.packed.device).packed)

    def to(self, device: torch.device) -> Bits:
        """Return the same on a device, from the second time on without a transfer."""
        if device == self.packed.device:
            return self
        if (copy := self.copies.get(device)) is None:
            copy = Bits(self.packed.to(device), self.shape)
            self.copies[copy.packed.device] = copy  # with the number that "cuda" leaves open
        return copy

    def flags(self, start: int, stop: int) -> Array:
        """Return a new array of the values from one position to another."""
        first, offset = start >> 3, start & 7
        return _unpack(array(self.packed)[first : (stop + 7) >> 3], offset + stop - start)[offset:]

    def read(self, start: int, stop: int) -> Tensor:
        """Return a new tensor of the values from one position to another."""
        return _tensor(self.flags(start, stop))

    def unpack(self) -> Tensor:
        """Return a new bool tensor of all values."""
        return self.read(0, self.numel()).view(self.shape)

    def take(self, at: Tensor) -> Tensor:
        """Return the values at some positions."""
        return (self.packed[at >> 3] >> (7 - (at & 7)).to(torch.uint8) & 1).bool()

    def along(self, tensor: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield views of a tensor of this shape, slice after slice, each with its values."""
        start = 0
        for (piece,) in split(tensor):
            stop = start + piece.numel()
            yield piece, self.read(start, stop).view(piece.shape)
            start = stop

    def put_(self, start: int, flags: Array) -> None:
        """Write flat values from a position on. It is for whoever makes them, and for each value once."""
        first, offset = start >> 3, start & 7
        if offset:
            flags = array(nn.functional.pad(_tensor(flags), (offset, 0)))
        packed = _pack(flags)
        array(self.packed)[first : first + len(packed)] |= packed


def count_ones(packed: Array) -> int:
    """Count the ones among the bits of bytes, of numpy or of torch."""
    if isinstance(packed, np.ndarray) and hasattr(np, "bitwise_count"):  # from numpy 2.0 on
        whole = len(packed) & ~7
        return sum(int(np.bitwise_count(some).sum(dtype=np.int64)) for some in (packed[:whole].view("u8"), packed[whole:]))
    pairs = packed - (packed >> 1 & 0x55)
    fours = (pairs & 0x33) + (pairs >> 2 & 0x33)
    return int((fours + (fours >> 4) & 0x0F).sum())


def _unpack(packed: Array, count: int) -> Array:
    if isinstance(packed, np.ndarray):
        return np.unpackbits(packed, count=count).view(bool)
    return (packed.unsqueeze(1) >> _shifts(packed) & 1).view(torch.bool).view(-1)[:count]


def _pack(flags: Array) -> Array:
    if isinstance(flags, np.ndarray):
        return np.packbits(flags)
    eights = nn.functional.pad(flags.to(torch.uint8), (0, -len(flags) % 8)).view(-1, 8)
    return (eights << _shifts(flags)).sum(1, dtype=torch.uint8)


def _shifts(like: Tensor) -> Tensor:
    return torch.arange(7, -1, -1, dtype=torch.uint8, device=like.device)  # made there: nothing waits for an upload


def _tensor(flags: Array) -> Tensor:
    return flags if isinstance(flags, Tensor) else torch.from_numpy(flags)


def array(tensor: Tensor) -> Array:
    """Return the same memory as the array type that is fastest on its device."""
    return tensor.numpy(force=True) if tensor.device.type == "cpu" else tensor


def slice_size(values: Tensor) -> int:
    """Return how many values a slice has on their device."""
    return SLICE if values.device.type == "cpu" else LARGE_SLICE


def split(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield views of tensors of one shape in slices, row after row: flat ones if all lie in memory so, else some rows each."""
    size = slice_size(tensors[0])
    if all(tensor.is_contiguous() for tensor in tensors):
        yield from zip(*(tensor.view(-1).split(size) for tensor in tensors), strict=True)
    else:
        rows = max(1, size // tensors[0][0].numel())
        yield from zip(*(tensor.split(rows) for tensor in tensors), strict=True)


def pieces(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield the same slices flat, each copied if its rows do not lie one after the other; never a tensor as a whole."""
    for views in split(*tensors):
        yield views if views[0].dim() == 1 else tuple(view.reshape(-1) for view in views)
