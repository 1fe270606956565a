"""Words: weights' bits as integers, each with a factor of 1 or 0 that keeps or clears it."""

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence

import torch
from torch import Tensor

from sparsedd._bits import Bits
from sparsedd._parameters import address

WIDE = 1 << 20  # weights: so many on a CPU have factors as wide as the weights, in all some MB
WIDE_ELSEWHERE = 1 << 26  # and so many on a GPU, 256 MB in float32, where a launch costs more than bytes do
SLICE = 1 << 18  # weights: so many words and their factors lie in a core's cache
_INTEGER = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by width in bytes


class Words:
    """The words of all masked weights, each with its factor.

    A small net, of 1 million weights on a CPU and 67 million on another device, has factors as wide as its words: nothing is
    converted, and a GPU masks all parameters in one launch. Of a larger one a GPU has a byte for each weight, which it reads
    as it is, in one launch for each parameter; a CPU unpacks the mask's own bits, a slice at a time.
    """

    def __init__(self, weights: Iterable[tuple[Tensor, Bits]]) -> None:
        pairs = [_view(p, keep) for p, keep in weights]
        sizes: Counter[torch.device] = Counter()
        for words, keep in pairs:
            sizes[words.device] += keep.numel()
        self._whole: list[tuple[Tensor, Tensor]] = []
        self._slices: list[tuple[Tensor, Bits, int]] = []  # and where in the bits those of the slice begin
        for words, keep in pairs:
            wide = sizes[words.device] <= (WIDE if words.device.type == "cpu" else WIDE_ELSEWHERE)
            if words.device.type == "cpu" and not wide:
                rows = max(1, SLICE // max(1, words[:1].numel()))
                self._slices += [(part, keep, i * words[:rows].numel()) for i, part in enumerate(words.split(rows))]
                continue
            factors = keep.unpack().view(words.shape)
            if wide and words.dtype == torch.int64 and words.is_contiguous():  # processors multiply halves faster
                words, factors = words.view(torch.int32), factors.repeat_interleave(2)
            self._whole.append((words, factors.to(words.dtype) if wide else factors))
        size = max((words.numel() * words.element_size() for words, *_ in self._slices), default=0)
        self._scratch = torch.empty((size + 7) // 8, dtype=torch.int64, device="cpu")  # which stays in the cache

    def become(self, other: "Words") -> "Words":
        """Return the other ones; if all lie where these do, these with the others' factors, which a captured graph reads."""
        if self._slices or other._slices or self._places() != other._places():
            return other
        for (_, factors), (_, new) in zip(self._whole, other._whole, strict=True):
            factors.copy_(new)
        return self

    def clear_pruned_of_(self, tensors: Sequence[Tensor]) -> bool:
        """Do the same to others that lie in memory as the weights do, in one launch; return False if there are no factors."""
        if self._slices or not self._whole:
            return False
        words = [_flatten(tensor)[0] for tensor in tensors]
        words = [w.view(mine.dtype) if w.is_contiguous() else w for w, (mine, _) in zip(words, self._whole, strict=True)]
        torch._foreach_mul_(words, [factors for _, factors in self._whole])
        return True

    def clear_pruned_(self) -> None:
        """Set pruned weights to +0.0, whatever they are: words times 0 are 0, and times 1 the same bits."""
        if self._whole:
            torch._foreach_mul_(*map(list, zip(*self._whole, strict=True)))
        for words, keep, start in self._slices:
            factors = self._scratch.view(words.dtype)[: words.numel()].view(words.shape)
            words.mul_(factors.copy_(keep.read(start, start + words.numel()).view(words.shape)))

    def _places(self) -> list[Hashable]:
        return [(w.device, w.dtype, w.shape, w.stride(), address(w), factors.dtype) for w, factors in self._whole]


def _view(p: Tensor, keep: Bits) -> tuple[Tensor, Bits]:
    """Return words and what is kept of them, both in the order in memory; they are flat, unless there are gaps."""
    words, order = _flatten(p)
    if p.is_complex() or order != list(range(len(order))):
        flags = keep.unpack()
        flags = flags.unsqueeze(-1).expand(*p.shape, 2) if p.is_complex() else flags
        keep = Bits.pack(flags.permute(order))
    return words, keep


def _flatten(p: Tensor) -> tuple[Tensor, list[int]]:
    """Return words in the order in memory, flat unless there are gaps; and the order of the dimensions there."""
    w = torch.view_as_real(p) if p.is_complex() else p
    words = w.view(_INTEGER[w.element_size()])
    order = sorted(range(words.dim()), key=words.stride, reverse=True)
    words = words.permute(order)
    return words.as_strided((words.numel(),), (1,)) if words.is_contiguous() else words, order
