"""Batches of a data set in memory."""

from collections.abc import Iterator, Sequence
from copy import copy

import torch
from torch import Tensor

from sparsedd import _checks, _random
from sparsedd.data._augmentation import Augmentation, RandomResizedCrop
from sparsedd.data._data import Data


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
        n, device = len(self.targets), self.targets.device
        _checks.whole("number", number)
        _checks.whole("start", start)
        order = torch.from_numpy(_random.permutation(("data order", self.seed, number), n)).to(device)
        draws = [self._draw(k, number) for k in range(len(self.augmentation))]
        for batch in order.split(self.size)[start:]:
            yield self._augment(batch, draws), self.targets[batch]

    def sample(self, batch: Tensor, number: int) -> tuple[Tensor, Tensor]:
        """Return inputs and targets of the samples of these indices as they are in an epoch."""
        batch = _checks.kind("batch", batch, Tensor, "a tensor of indices").to(self.targets.device)
        if batch.dtype != torch.int64 or (len(batch) and not 0 <= int(batch.min()) <= int(batch.max()) < len(self.targets)):
            got = ", ".join(map(str, batch.flatten()[:6].tolist()))
            raise ValueError(f"batch must hold int64 indices below {len(self.targets):,}, got {batch.dtype} {got}.")
        draws = [self._draw(k, number) for k in range(len(self.augmentation))]
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

    def _draw(self, transform: int, number: int) -> Tensor:
        u = _random.uniform(("augmentation", self.seed, transform, number), 4 * len(self.targets))
        return torch.from_numpy(u).float().clamp_(max=1 - 2**-24).reshape(-1, 4).to(self.targets.device)

    def _augment(self, batch: Tensor, draws: list[Tensor]) -> Tensor:
        inputs = self._inputs.index_select(0, batch)
        if inputs.dtype == torch.uint8:
            inputs = (inputs / 255 - self.source.mean) / self.source.std
        for transform, u in zip(self.augmentation, draws, strict=True):
            inputs = transform(inputs, u[batch], self._fill)
        return inputs
