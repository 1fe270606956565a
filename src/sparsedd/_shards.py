"""Shards: the part of a tensor that lies in this process, and sums over the processes that hold the other parts.

A tensor of ``fully_shard`` or of tensor parallelism is a DTensor. Weights, gradients and scores stay where they are: all that
processes tell each other are sums of short vectors, and the bits of a new mask.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparsedd._bits import SLICE, Bits, array


@dataclass(frozen=True)
class Place:
    """The box of a tensor that this process holds, and the groups of processes that it is split over, one inside the other."""

    shape: tuple[int, ...]
    start: tuple[int, ...]
    size: tuple[int, ...]
    groups: tuple[Hashable, ...] = ()
    device: str = "cpu"  # on which the groups talk

    @classmethod
    def of(cls, tensor: Tensor) -> Place:
        shape = tuple(tensor.shape)
        if not is_sharded(tensor):
            return cls(shape, (0,) * len(shape), shape)
        sharded: Any = tensor
        mesh, placements = sharded.device_mesh, sharded.placements
        (box,) = sharded.__create_chunk_list__()  # which torch.distributed.checkpoint asks, too
        split = [i for i, placement in enumerate(placements) if not placement.is_replicate() and mesh.size(i) > 1]
        return cls(shape, tuple(box.offsets), tuple(box.sizes), tuple(map(mesh.get_group, split)), mesh.device_type)

    def take(self, whole: Tensor) -> Tensor:
        """Return a view of this process' part of a whole tensor."""
        return whole[tuple(slice(a, a + n) for a, n in zip(self.start, self.size, strict=True))] if self.groups else whole

    def cut(self, rows: Tensor) -> Tensor:
        """Return a view of what this process has of some rows of the whole tensor."""
        return rows[(slice(None), *(slice(a, a + n) for a, n in zip(self.start[1:], self.size[1:], strict=True)))]

    def bands(self) -> Iterator[tuple[slice, slice]]:
        """Yield, some rows at a time, their flat positions in this process' part, and in the whole those of the whole rows."""
        own, whole = prod(self.size[1:]), prod(self.shape[1:])
        step = max(1, SLICE // max(1, whole))
        for first in range(0, self.size[0] if own else 0, step):
            last = min(first + step, self.size[0])
            yield slice(first * own, last * own), slice((self.start[0] + first) * whole, (self.start[0] + last) * whole)

    def runs(self) -> list[tuple[int, int]]:
        """Return where, in the whole tensor row after row, unbroken runs of this process' part begin, and their length."""
        if self.size == self.shape or not prod(self.size):
            return [(0, prod(self.size))]
        last = max(i for i, (n, whole) in enumerate(zip(self.size, self.shape, strict=True)) if n < whole)
        length = prod(self.size[last:])
        return [(int(start), length) for start in self.locate(np.arange(0, prod(self.size), length))]

    def locate(self, flat: Any) -> Any:
        """Return positions in the whole tensor, row after row, of positions in this process' part. Their order is the same."""
        if not self.groups or not len(flat):
            return flat
        within = np.unravel_index(flat, self.size)
        return np.ravel_multi_index(tuple(i + a for i, a in zip(within, self.start, strict=True)), self.shape)


def is_sharded(tensor: Any) -> bool:
    """Check for a DTensor, whose class is costly to import."""
    return hasattr(tensor, "placements")


def local(tensor: Tensor) -> Tensor:
    """Return this process' part of a tensor, in the same memory; of a tensor that is not sharded, itself."""
    part: Tensor = getattr(tensor, "_local_tensor", tensor)  # to_local() would give another one while gradients are on
    return part


def take_part(tensor: Any, like: Any) -> Tensor:
    """Return this process' part of a tensor where that of ``like`` lies. What is split in another way is sent around."""
    if not is_sharded(tensor):
        return Place.of(like).take(tensor)
    if not is_sharded(like):
        return make_whole(tensor)
    if (tensor.device_mesh, tensor.placements) != (like.device_mesh, like.placements):
        tensor = tensor.redistribute(like.device_mesh, like.placements)
    return local(tensor)


def shard_like(tensor: Tensor, other: Tensor) -> Tensor:
    """Return a tensor as DTensor if the other one is, and whole if not. Of a whole one this process takes its own part."""
    if not is_sharded(other):
        return make_whole(tensor)
    return wrap_like(take_part(tensor, other).to(local(other).device, copy=True), other)  # no view, which keeps the whole alive


def make_whole(tensor: Any) -> Tensor:
    """Return a tensor that is whole on every process, where the weights of this one are; one that is not sharded, itself."""
    if not is_sharded(tensor):
        return tensor  # type: ignore[no-any-return]
    here = local(tensor)
    talking: Any = wrap_like(here.to(tensor.device_mesh.device_type), tensor)  # weights on the CPU may belong to ranks on GPUs
    whole: Tensor = talking.full_tensor()
    return whole.to(here.device)


def wrap_like(part: Tensor, other: Tensor) -> Tensor:
    """Return a DTensor of this process' part, split as the other one is."""
    from torch.distributed.tensor import DTensor

    like: Any = other
    strides = torch.empty(other.shape, device="meta").stride()
    make = partial(DTensor.from_local, run_check=False, shape=other.shape, stride=strides)
    return make(part.contiguous(), like.device_mesh, like.placements)


def sum_over(vectors: Sequence[Any], places: Sequence[Place]) -> Any:
    """Return the sum of the vectors, one for the part of each tensor, over all tensors and processes.

    Every process must call this with vectors for the same tensors. It is the one collective; without shards there is none.
    """
    sums: dict[tuple[tuple[Hashable, ...], str], Any] = {}
    for vector, place in zip(vectors, places, strict=True):
        key = place.groups, place.device if place.groups else ""
        sums[key] = sums[key] + np.asarray(vector) if key in sums else np.asarray(vector)
    return sum(_all_reduce(vector, *key) if key[0] else vector for key, vector in sums.items())


def sum_each(counts: Sequence[int], places: Sequence[Place]) -> list[int]:
    """Return the sum of each tensor's counts over the processes that hold its parts."""
    return [int(n) for n in sum_over(list(np.diag(counts)), places)] if any(p.groups for p in places) else list(counts)


def _all_reduce(vector: Any, groups: Sequence[Any], device: str) -> Any:
    total = torch.from_numpy(np.atleast_1d(vector).copy()).to(device)
    for group in groups:
        torch.distributed.all_reduce(total, group=group)
    return total.cpu().numpy().reshape(vector.shape)


def write_once(
    tensors: Mapping[str, Any], names: Sequence[str], write: Callable[[Callable[[], Iterator[Tensor]]], object]
) -> None:
    """Write whole tensors on the first of the processes that they are sharded over; return, or raise, on all when it has.

    ``write`` gets a function that reads them, in the order of the names, and may call it again. Each is made whole, by all
    processes, when its turn comes.
    """
    parts = [tensors[name] for name in names]
    wholes: Iterator[Tensor] = iter(())

    def read() -> Iterator[Tensor]:
        nonlocal wholes
        tell(1, 0)
        wholes = map(make_whole, parts)
        return wholes

    def tell(again: int, failed: int) -> Any:
        return _all_reduce(np.array([again, failed]), groups, mesh.device_type) if groups else None

    mesh: Any = max((part.device_mesh for part in parts if is_sharded(part)), key=lambda mesh: mesh.size(), default=None)
    groups = [mesh.get_group(i) for i in range(mesh.ndim) if mesh.size(i) > 1] if mesh else []
    if not groups or not any(mesh.get_coordinate()):
        try:
            write(read)
        except BaseException:
            deque(wholes, maxlen=0)  # the others are at those that are left
            tell(0, 1)
            raise
        tell(0, 0)
        return
    while (heard := tell(0, 0))[0]:
        deque(map(make_whole, parts), maxlen=0)
    if heard[1]:
        raise RuntimeError("the first of the processes that the model is sharded over could not write: it says why.")


def gather(part: Bits, like: Tensor) -> Bits:
    """Return the whole of flags of which every process has the part where that of ``like`` lies."""
    place = Place.of(like)
    if not place.groups:
        return part
    part, whole = part.to(torch.device("cpu")), Bits.zeros(place.shape, "cpu")
    for mine, around in place.bands():
        rows = torch.zeros(around.stop - around.start, dtype=torch.bool, device="cpu").view(-1, *place.shape[1:])
        place.cut(rows).copy_(part.read(mine.start, mine.stop).view(-1, *place.size[1:]))
        whole.put_(around.start, array(rows.view(-1)))
    return Bits(torch.from_numpy(sum_over([whole.packed.numpy()], [place])), place.shape)  # no other sets one of these bits


def take_bits(whole: Bits, like: Tensor) -> Bits:
    """Return this process' part of flags where that of ``like`` lies, cut out and sent there once."""
    place = Place.of(like)
    key = place.start, place.size
    part = whole.copies.get(key) if place.groups else whole
    if part is None:
        part = whole.copies[key] = Bits.zeros(place.size, whole.packed.device)
        for mine, around in place.bands():
            rows = whole.read(around.start, around.stop).view(-1, *place.shape[1:])
            part.put_(mine.start, array(place.cut(rows).reshape(-1)))
    return part.to(local(like).device)


def search(count_up_to: Callable[[list[int]], Any], low: int, high: int, rank: int) -> int:
    """Return the least integer of low ... high up to which there are ``rank`` or more of what is counted.

    Some 256 integers are tried at once: ``count_up_to`` gives the count for each of a list.
    """
    while low < high:
        step = max(1, (high - low + 1) >> 8)
        tried = list(range(low + step - 1, high, step))
        k = int(np.searchsorted(count_up_to(tried), rank))
        low, high = tried[k - 1] + 1 if k else low, tried[k] if k < len(tried) else high
    return low


def floats(ordered: Sequence[int], dtype: np.dtype[Any]) -> Any:
    """Return the floats of integers that are in the order of the floats: 0 is 0.0, 1 the next above it, -1 is -0.0."""
    integers = np.array(ordered).astype(f"i{dtype.itemsize}")
    return np.where(integers >= 0, integers, np.iinfo(integers.dtype).min ^ ~integers).view(dtype)
