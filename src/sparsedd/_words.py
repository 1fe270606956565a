"""Words: weights' bits as integers, each with a factor of 1 or 0 that keeps or clears it."""

from collections.abc import Collection, Iterator

import torch
from torch import Tensor

WIDE = 1 << 20  # weights: nets of at most so many have factors as wide as the weights, in all some MB
SLICE = 1 << 18  # weights: so many words and their factors lie in a core's cache
_INTEGER = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by width in bytes

Pair = tuple[Tensor, Tensor]


class Words:
    """The words of all masked weights, each with its factor.

    A small net has factors as wide as its words: nothing is converted, and a GPU masks all parameters in one launch. In
    others they are the mask's own bools, a byte for each weight. A GPU reads those as they are, in one launch for each
    parameter; a CPU has to convert them first, and does so in slices, into one place that stays in the cache.
    """

    def __init__(self, weights: Collection[Pair]) -> None:
        wide = sum(p.numel() for p, _ in weights) <= WIDE
        pairs = [pair for p, keep in weights for pair in _view(p, keep, wide)]
        self._slices = [] if wide else [pair for pair in pairs if pair[0].device.type == "cpu"]
        self._whole = pairs if wide else [pair for pair in pairs if pair[0].device.type != "cpu"]
        size = max((words.numel() * words.element_size() for words, _ in self._slices), default=0)
        self._scratch = torch.empty((size + 7) // 8, dtype=torch.int64, device="cpu")

    def clear_pruned_(self) -> None:
        """Set pruned weights to +0.0, whatever they are: words times 0 are 0, and times 1 the same bits. Allocates nothing."""
        if self._whole:
            torch._foreach_mul_(*map(list, zip(*self._whole, strict=True)))
        for words, keep in self._slices:
            words.mul_(self._scratch.view(words.dtype)[: keep.numel()].view(keep.shape).copy_(keep))


def _view(p: Tensor, keep: Tensor, wide: bool) -> Iterator[Pair]:
    """Yield words and their factors; those of contiguous weights are views, or else follow the order in memory."""
    w = torch.view_as_real(p.data) if p.is_complex() else p.data  # masking is no change that autograd should know of
    keep = keep if keep.shape == w.shape else keep.unsqueeze(-1).expand(w.shape)
    words = w.view(_INTEGER[w.element_size()])
    order = sorted(range(words.dim()), key=words.stride, reverse=True)
    words, keep = words.permute(order), keep.permute(order)
    if words.is_contiguous():
        words, keep = words.as_strided((words.numel(),), (1,)), keep.reshape(-1)
        if wide and words.dtype == torch.int64:  # processors multiply halves faster
            words, keep = words.view(torch.int32), keep.repeat_interleave(2)
    if wide:
        yield words, keep.to(words.dtype)
    elif words.device.type != "cpu" or words.numel() <= SLICE:
        yield words, keep
    else:
        rows = max(1, SLICE // words[0].numel())
        yield from zip(words.split(rows), keep.split(rows), strict=True)
