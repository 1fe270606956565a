"""Selection: the lowest of many scores, found exactly and without a copy of them all.

Writing a temporary as large as the weights costs more than computing it. So the scores are read a slice at a time: once to
count those beside a narrow bracket around the wanted rank and to collect those inside, once more to write the masks.

Where weights are sharded, each process does this with its own, and counts are summed: no score is sent anywhere.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import ceil, floor, inf, prod, sqrt
from operator import eq, lt
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparsedd._bits import Array, Bits, array, pieces, slice_size
from sparsedd._shards import Place, floats, search, sum_each, sum_over

BLOCK = 1 << 8  # draws: more cost little more than the start of a stream
FEW = 1 << 15  # so many are all collected, without a sample
SAMPLE = 2 / 3  # n ** SAMPLE of n positions: more would cost more than the narrower bracket saves
GOLDEN = (sqrt(5) - 1) / 2
FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Scored:
    """The scores of a parameter, ``key(values · factor)`` for both in FLOATS, and which of them count: None for all.

    They are those of a part, if the parameter is sharded, and the place says of which.
    """

    name: str
    values: Tensor
    keep: Bits | None
    key: Callable[[Array], Array] = lambda values: values
    factor: Tensor | None = None
    least: torch.dtype = torch.float32  # the scores are as wide as this, or wider
    place: Place | None = None

    @property
    def dtype(self) -> torch.dtype:
        return torch.promote_types(self.values.dtype, self.least)

    def slices(self) -> Iterator[tuple[slice, Array, Array | None]]:
        """Yield one slice after the other: its place, its scores, and which of them count."""
        stop = 0
        for scores in self._read():
            start, stop = stop, stop + len(scores)
            yield slice(start, stop), scores, None if self.keep is None else self.keep.flags(start, stop)

    def _read(self) -> Iterator[Array]:
        factors = () if self.factor is None else (self.factor,)
        return (self.key(array(_multiply(*piece).to(self.dtype))) for piece in pieces(self.values, *factors))

    def count(self, test: Callable[[Array, float], Array], value: float) -> int:
        """Count those that pass a test against a value, among those that count."""
        return sum(count(_among(keep, test(score, value))) for _, score, keep in self.slices())

    def sample(self, share: float) -> Array:
        """Return those that count among a share of all positions."""
        size = self.values.numel()
        at = torch.from_numpy(_spread(ceil(share * size), size)).to(self.values.device)
        taken = [tensor.take(at) for tensor in (self.values, self.factor) if tensor is not None]
        found = self.key(_multiply(*taken).to(self.dtype))
        return _host(found if self.keep is None else found[self.keep.take(at)])


@dataclass(frozen=True)
class Draws(Scored):
    """Scores that ``draw(n, start)`` draws anew whenever they are read; of the values, shape and device alone count."""

    draw: Callable[[int, int], NDArray[np.float64]] = field(kw_only=True)

    @property
    def dtype(self) -> torch.dtype:
        return torch.float64

    def _read(self) -> Iterator[Array]:
        size, step = self.values.numel(), slice_size(self.values)
        for start in range(0, max(1, size), step):
            draws = self.draw(min(step, size - start), start)
            yield array(torch.from_numpy(draws).to(self.values.device))

    def sample(self, share: float) -> Array:
        """Return those that count among a share of all positions, in blocks: draws are alike everywhere."""
        size = self.values.numel()
        blocks = _spread(ceil(share * size / BLOCK), size)[:, None] + np.arange(BLOCK)
        draws = np.array([self.draw(BLOCK, start) for start in blocks[:, 0].tolist()]).reshape(blocks.shape)
        found, at = draws[blocks < size], torch.from_numpy(blocks[blocks < size])
        return found if self.keep is None else found[_host(self.keep.take(at.to(self.values.device)))]


class Ranking:
    """All the scores of a group that count, lowest first; of equal ones the earlier position is the lower.

    ``length`` is how many there are, in all processes. Every process gets masks for its own parts, of one ranking.
    """

    def __init__(self, group: Sequence[Scored], length: int) -> None:
        widest = max((scored.dtype for scored in group), key=lambda dtype: dtype.itemsize)
        self._group = [replace(scored, least=widest) for scored in group]
        self._length = length
        self._places = [scored.place or Place.of(scored.values) for scored in group]
        self._sharded = any(place.groups for place in self._places)

    def without_lowest(self, lose: int) -> list[Bits]:
        """Return the mask of each parameter that keeps all but the ``lose`` lowest."""
        threshold, go, equal = self._threshold(lose)
        shares = self._share(threshold, go) if self._sharded and 0 < go < equal else [None] * len(self._group)
        masks = []
        for scored, share in zip(self._group, shares, strict=True):
            go = go if share is None else share
            mask = Bits.zeros(scored.values.shape, scored.values.device)
            for here, score, keep in scored.slices():
                if go == equal:
                    stay = score > threshold
                elif go == 0:
                    stay = score >= threshold
                else:
                    stay = score > threshold
                    same = _among(keep, score == threshold)
                    ties = count(same)
                    if ties > go:
                        stay |= same & (same.cumsum(0) > go)
                    go = max(0, go - ties)
                mask.put_(here.start, _among(keep, stay))
            masks.append(mask)
        return masks

    def _threshold(self, lose: int) -> tuple[float, int, int]:
        """Find the ``lose``-th lowest score, how many that equal it go, and how many there are."""
        if not lose:
            self._split(0.0, 0.0)
            return -inf, 0, 1
        for low, high in self._brackets(lose):
            below, inside, n = self._split(low, high)
            rank = lose - below
            if 0 < rank <= n:
                found = self._find(inside, rank)
                less, equal = self._sum([[count(some < found), count(some == found)] for some in inside])
                return found, rank - int(less), int(equal)
            end = low if rank <= 0 else high  # the threshold, where many scores equal it
            less, equal = self._count(lt, end), self._count(eq, end)
            if less < lose <= less + equal:
                return end, lose - less, equal
        raise AssertionError("the last bracket leaves nothing out")

    def _brackets(self, lose: int) -> Iterator[tuple[float, float]]:
        """Yield ever wider brackets for the ``lose``-th lowest score, from four standard deviations of a sample's rank on."""
        if self._length > FEW:
            share = sum(prod(place.shape) for place in self._places) ** (SAMPLE - 1)
            sample = [scored.sample(share) for scored in self._group]
            n = int(self._sum([len(some) for some in sample]))
            rank, margin = lose / self._length * n, 2 * sqrt(n)
            while 0 < margin < n:
                first, last = floor(rank - margin), ceil(rank + margin)
                yield self._find(sample, first + 1) if first >= 0 else -inf, self._find(sample, last + 1) if last < n else inf
                margin *= 8
        yield -inf, inf

    def _split(self, low: float, high: float) -> tuple[int, list[Array], int]:
        """Return how many scores are at most ``low``; those between it and ``high`` that are here; how many there are."""
        inside, counts = [], []
        for scored in self._group:
            below, collected = 0, []
            for _, score, keep in scored.slices():
                at_most, at_least = score <= low, score >= high
                below += count(_among(keep, at_most))
                collected.append(_host(score[_among(keep, ~(at_most | at_least))]))
            inside.append(np.concatenate(collected))
            counts.append([below, len(inside[-1]), count(np.isnan(inside[-1]))])  # NaN is neither at most nor at least anything
        below, n, nans = (int(total) for total in self._sum(counts))
        if nans:
            for scored, nan in zip(self._group, sum_each([nan for *_, nan in counts], self._places), strict=True):
                if nan:
                    raise ValueError(f"the score of {scored.name!r} is NaN for {nan:,} kept weights: has training diverged?")
        return below, inside, n

    def _find(self, values: list[Array], rank: int) -> float:
        """Return the ``rank``-th lowest, counted from one, of the values of all processes; each may sort its own."""
        if not self._sharded:
            every = np.concatenate(values)
            every.partition(rank - 1)  # in linear time
            return float(every[rank - 1])
        for some in values:
            some.sort()
        dtype = values[0].dtype
        infinity = int(np.array(inf, dtype).view(f"i{dtype.itemsize}"))

        def count_up_to(tried: list[int]) -> Array:
            limits = floats(tried, dtype)
            return self._sum([np.searchsorted(some, limits, side="right") for some in values])

        return float(floats([search(count_up_to, ~infinity, infinity, rank)], dtype)[0])

    def _share(self, threshold: float, go: int) -> list[int]:
        """Return how many scores here, of those that equal the threshold, go, if ``go`` do in all."""
        shares = []
        here = [scored.count(eq, threshold) for scored in self._group]
        for scored, place, mine, ties in zip(self._group, self._places, here, sum_each(here, self._places), strict=True):
            shares.append(mine if ties <= go else _share_one(scored, place, threshold, go) if go else 0)
            go = max(0, go - ties)
        return shares

    def _count(self, test: Callable[[Array, float], Array], value: float) -> int:
        return int(self._sum([scored.count(test, value) for scored in self._group]))

    def _sum(self, vectors: Sequence[Any]) -> Array:
        """Return the sum of vectors, one for each parameter's scores that are here, over parameters and processes."""
        return sum_over(vectors, self._places) if self._sharded else np.sum(vectors, axis=0)


def _share_one(scored: Scored, place: Place, threshold: float, go: int) -> int:
    """Return how many of the first ``go`` ties of a whole parameter are here."""
    ties = [np.flatnonzero(_host(_among(keep, score == threshold))) + here.start for here, score, keep in scored.slices()]
    at = place.locate(np.concatenate(ties))

    def count_up_to(tried: list[int]) -> Array:
        return sum_over([np.searchsorted(at, tried, side="right")], [place])

    return int(np.searchsorted(at, search(count_up_to, 0, prod(place.shape) - 1, go), side="right"))


def count(flags: Array) -> int:
    """Count those that are True."""
    return int(np.count_nonzero(flags) if isinstance(flags, np.ndarray) else torch.count_nonzero(flags))


def _host(values: Array) -> Array:
    return values if isinstance(values, np.ndarray) else values.numpy(force=True)


def _among(keep: Array | None, flags: Array) -> Array:
    return flags if keep is None else flags & keep


def _spread(n: int, size: int) -> NDArray[np.int64]:
    """Return n of ``size`` positions, in golden steps, which keep time with no pattern of rows or kernels."""
    return (np.arange(n) * GOLDEN % 1 * size).astype(np.int64)


def _multiply(values: Tensor, factor: Tensor | None = None) -> Tensor:
    """Multiply in float32 or wider: half precision has too few numbers to rank products."""
    if factor is None:
        return values
    wide = torch.promote_types(torch.promote_types(values.dtype, factor.dtype), torch.float32)
    return values.to(wide) * factor.to(wide)
