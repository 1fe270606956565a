"""Batches of a data set in memory."""

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from functools import partial

import torch
from torch import Tensor

from sparsedd import _checks, _random
from sparsedd.data._augmentation import Augmentation, RandomResizedCrop
from sparsedd.data._data import Data

ROOM = 2**27  # bytes of samples that are gathered and transformed at once where launches count


class Batches:
    """The training samples of a data set in batches, shuffled and augmented on the device that holds them.

    What a sample looks like in an epoch depends on the seed, the epoch and the sample alone: not on the batch, the device or
    the number of processes. The last, smaller batch of an epoch is kept.

    Parameters
    ----------
    source
        The data set, on its device: ``data.cifar10().to("cuda")``.
    targets
        (n,) the labels to train on, such as :attr:`.NoisyLabels.targets`; None takes the data set's own.
    size
        Samples a batch.
    augmentation
        Such as ``(Flip(), Shift(4))``, applied in this order: :class:`Flip`, :class:`Shift`, :class:`RandomResizedCrop` (of
        the whole images, where the data set keeps them), or any callable
        ``(inputs (b, c, h, w), draws (b, 4) from U[0, 1), fill (c, 1, 1)) -> inputs``.
    seed
        Of order and draws.

    Examples
    --------
    >>> from sparsedd import data
    >>> batches = data.Batches(data.blobs(train=100), size=30, augmentation=(data.Flip(),))
    >>> [len(labels) for inputs, labels in batches.epoch(0)]
    [30, 30, 30, 10]
    """

    source: Data
    targets: Tensor
    size: int
    augmentation: tuple[Augmentation, ...]
    seed: int

    def __init__(
        self,
        source: Data,
        targets: Tensor | None = None,
        *,
        size: int = 128,
        augmentation: Sequence[Augmentation] = (),
        seed: int = 0,
    ) -> None:
        self.size, self.seed = _checks.whole("size", size, least=1), _checks.whole("seed", seed)
        inputs, own = _checks.kind("source", source, Data, "a Data such as data.digits()").train.tensors
        if targets is not None and not isinstance(targets, Tensor):
            raise TypeError(f"targets must be a tensor, got {type(targets).__name__}.")
        if targets is not None and targets.dtype != torch.int64:
            raise TypeError(f"targets must be classes of type torch.int64, got {targets.dtype}: use targets.long().")
        targets = own if targets is None else targets.to(own.device)
        if targets.shape != own.shape:
            raise ValueError(f"targets must have shape {tuple(own.shape)}, got {tuple(targets.shape)}.")
        if len(targets) and not 0 <= int(targets.min()) <= int(targets.max()) < source.num_classes:
            got = f"{int(targets.min())} ... {int(targets.max())}"
            raise ValueError(f"targets must be in 0 ... {source.num_classes - 1}, got {got}.")
        for transform in _checks.kind("augmentation", augmentation, (tuple, list), "a tuple such as (Flip(), Shift(4))"):
            if not callable(transform) or isinstance(transform, type):
                raise TypeError(f"augmentation must hold callables such as Flip() or Shift(4), got {transform!r}.")
        self.source, self.targets, self.augmentation = source, targets, tuple(augmentation)
        self._fill = -source.mean / source.std
        crops = any(isinstance(transform, RandomResizedCrop) for transform in self.augmentation)
        self._inputs = source.uncropped if source.uncropped is not None and crops else inputs

    def __len__(self) -> int:
        """Return the batches, and so the steps, of an epoch."""
        return -(-len(self.targets) // self.size)

    def __repr__(self) -> str:
        return f"Batches({len(self):,} of {self.size:,} an epoch, of {self.source!r})"

    def epoch(self, number: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches (inputs (b, c, h, w), targets (b,)) of an epoch, from the ``start``-th on."""
        for inputs, targets in side_by_side([self], number, start):
            yield inputs[0], targets[0]

    def sample(self, batch: Tensor, number: int) -> tuple[Tensor, Tensor]:
        """Return inputs and targets of the samples of these indices as they are in an epoch."""
        batch = _checks.kind("batch", batch, Tensor, "a tensor of indices").to(self.targets.device)
        if batch.dtype != torch.int64 or (len(batch) and not 0 <= int(batch.min()) <= int(batch.max()) < len(self.targets)):
            got = ", ".join(map(str, batch.flatten()[:6].tolist()))
            raise ValueError(f"batch must hold int64 indices below {len(self.targets):,}, got {batch.dtype} {got}.")
        every = (_draw(k, number, len(self.targets), self.seed) for k in range(len(self.augmentation)))
        draws = [draw.to(batch.device)[batch] for draw in every]
        return self._augment(batch, draws), self.targets[batch]

    def narrowed(self, features: Tensor) -> "Batches":
        """Return the same batches with only these of each sample's features, (b, len(features)); augmentations are refused."""
        if self.augmentation:
            raise ValueError(f"augmentation needs whole images, and here is {self.augmentation!r}.")
        each = self._inputs[0].numel()
        if len(features) and not 0 <= int(features.min()) <= int(features.max()) < each:
            raise ValueError(f"features must be in 0 ... {each - 1}, got {int(features.min())} ... {int(features.max())}.")
        narrow = copy(self)
        narrow._inputs = self._inputs.flatten(1).index_select(1, features)
        return narrow

    def _augment(self, batch: Tensor, draws: list[Tensor]) -> Tensor:
        """Return the samples of these indices (b,), each transformed by its own draws (b, 4)."""
        inputs = self._inputs.index_select(0, batch)
        if inputs.dtype == torch.uint8:
            inputs = (inputs / 255 - self.source.mean) / self.source.std
        for transform, u in zip(self.augmentation, draws, strict=True):
            inputs = transform(inputs, u, self._fill)
        return inputs


def side_by_side(members: Sequence[Batches], number: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches of an epoch of several that differ in labels and seed alone, from the ``start``-th on.

    Inputs (members, b, c, h, w) and targets (members, b) are what each one's :meth:`Batches.epoch` yields. All members are
    gathered at once and, but on a CPU, many batches at once.
    """
    one = members[0]
    _checks.whole("number", number)
    _checks.whole("start", start)
    n, device, seeds = len(one.targets), one.targets.device, [batches.seed for batches in members]

    def stack(draw: Callable[[int], Tensor]) -> Tensor:
        drawn = {seed: draw(seed) for seed in dict.fromkeys(seeds)}  # once, however many share a seed
        return torch.stack([drawn[seed] for seed in seeds]).to(device)

    order = stack(partial(_draw_order, number, n))
    draws = [stack(partial(_draw, k, number, n)) for k in range(len(one.augmentation))]
    draws = [u.gather(1, order[..., None].expand(-1, -1, 4)) for u in draws]
    targets = torch.stack([batches.targets for batches in members]).gather(1, order)
    size = one.size * _count_at_once(device, 4 * len(members) * one.size * one._inputs[0].numel())
    for at in range(start * one.size, n, size):
        part, labels, *u = (tensor[:, at : at + size] for tensor in (order, targets, *draws))
        inputs = one._augment(part.flatten(), [draw.flatten(0, 1) for draw in u]).unflatten(0, part.shape)
        yield from zip(inputs.split(one.size, dim=1), labels.split(one.size, dim=1), strict=True)


def _count_at_once(device: torch.device, size: int) -> int:
    """Return how many batches of so many bytes to gather at once: one on a CPU, whose caches hold it, else what has room."""
    return 1 if device.type == "cpu" else max(1, ROOM // size)


def _draw_order(number: int, n: int, seed: int) -> Tensor:
    """Return the order (n,) of an epoch's samples."""
    return torch.from_numpy(_random.permutation(("data order", seed, number), n))


def _draw(transform: int, number: int, n: int, seed: int) -> Tensor:
    """Return a transform's draws (n, 4) from U[0, 1) for all samples of an epoch."""
    u = _random.uniform(("augmentation", seed, transform, number), 4 * n)
    return torch.from_numpy(u).float().clamp_(max=1 - 2**-24).reshape(-1, 4)
