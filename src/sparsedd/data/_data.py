"""Data: a data set in memory."""

from dataclasses import dataclass, field, replace
from typing import Self

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from sparsedd import _checks

#: Mean and standard deviation of ImageNet's channels, in [0, 1]: what many normalise other images by, too.
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
NORMALIZATIONS = ("dataset", "imagenet")
CHUNK = 5000  # images at a time, so that no copy of a data set in float64 is made


@dataclass(frozen=True, repr=False)
class Data:
    """A data set in memory: ``train`` and ``test`` are ``TensorDataset(inputs, labels)``.

    Attributes
    ----------
    train, test
        Inputs (n, channels, height, width) float32, normalised by the training images; labels (n,) int64, clean.
    num_classes
        C.
    mean, std
        (channels, 1, 1): what the raw inputs were normalised with.
    uncropped
        (n, channels, H, W) uint8: the whole training images where ``train`` shows only a part of them; random crops are
        taken of these.
    """

    train: TensorDataset
    test: TensorDataset
    num_classes: int
    mean: Tensor = field(default_factory=lambda: torch.zeros(1, 1, 1, device="cpu"))
    std: Tensor = field(default_factory=lambda: torch.ones(1, 1, 1, device="cpu"))
    uncropped: Tensor | None = None

    def __post_init__(self) -> None:
        _checks.whole("num_classes", self.num_classes, least=1)
        for name, part in (("train", self.train), ("test", self.test)):
            _checks.kind(name, part, TensorDataset, "a TensorDataset(inputs, labels)")
            if type(part).__getitem__ is not TensorDataset.__getitem__:
                raise TypeError(f"{name} must have its tensors for items, got {type(part).__name__}, which changes them.")
            if len(part.tensors) != 2 or part.tensors[1].dim() != 1 or part.tensors[1].dtype != torch.int64:
                got = ", ".join(f"{tensor.dtype} {tuple(tensor.shape)}" for tensor in part.tensors)
                raise ValueError(f"{name} must be a TensorDataset of inputs (n, ...) and int64 labels (n,), got {got}.")
            low, high = part.tensors[1].aminmax() if len(part) else (0, 0)
            if low < 0 or high >= self.num_classes:
                raise ValueError(f"labels of {name} must be in 0 ... {self.num_classes - 1}, got {int(low)} ... {int(high)}.")
        if (whole := self.uncropped) is None:
            return
        _checks.kind("uncropped", whole, Tensor, "a tensor")
        if whole.dtype != torch.uint8 or len(whole) != len(self.train):
            got = f"{whole.dtype} {tuple(whole.shape)}"
            raise ValueError(f"uncropped must be uint8, one image for each of {len(self.train):,} training samples, got {got}.")

    def __repr__(self) -> str:
        shape = "×".join(map(str, self.train.tensors[0].shape[1:]))
        return f"Data({len(self.train):,} training and {len(self.test):,} test samples of {shape}, {self.num_classes} classes)"

    def first(self, n: int | None) -> Self:
        """Return the data set with its first ``n`` training samples alone; None takes all.

        >>> from sparsedd import data
        >>> data.blobs(train=100, test=50).first(20)
        Data(20 training and 50 test samples of 1×4×4, 10 classes)
        """
        if n is None:
            return self
        if _checks.whole("n", n, least=1) > len(self.train):
            raise ValueError(f"n must be at most the {len(self.train):,} training samples that there are, got {n:,}.")
        part = TensorDataset(*(tensor[:n] for tensor in self.train.tensors))
        return replace(self, train=part, uncropped=None if self.uncropped is None else self.uncropped[:n])

    def to(self, device: torch.device | str) -> Self:
        """Return the data set with all its tensors on a device, where batches are then made."""
        device = _checks.device("device", device)
        train, test = (TensorDataset(*(tensor.to(device) for tensor in part.tensors)) for part in (self.train, self.test))
        uncropped = None if self.uncropped is None else self.uncropped.to(device)
        return replace(self, train=train, test=test, mean=self.mean.to(device), std=self.std.to(device), uncropped=uncropped)


def measure_moments(inputs: Tensor, normalization: str = "dataset", unit: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each channel, (channels, 1, 1) float64, of inputs in multiples of ``unit``."""
    _checks.one_of("normalization", normalization, NORMALIZATIONS)
    if normalization == "imagenet":
        mean, std = (torch.tensor(values, dtype=torch.float64, device="cpu")[:, None, None] for values in IMAGENET)
        return mean, std
    axes = (0, *range(2, inputs.dim()))
    n, zero = inputs.numel() // inputs.shape[1], inputs.new_zeros((), dtype=torch.float64)
    mean = sum((part.double().sum(axes, keepdim=True) for part in inputs.split(CHUNK)), start=zero) / n
    squares = sum(((part - mean).square().sum(axes, keepdim=True) for part in inputs.split(CHUNK)), start=zero)
    return mean[0] * unit, (squares / n).sqrt()[0] * unit


def standardize(inputs: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Return (inputs - mean) / std in float32, rounded once."""
    out = torch.empty(inputs.shape, dtype=torch.float32, device=inputs.device)
    for target, part in zip(out.split(CHUNK), inputs.split(CHUNK), strict=True):
        target.copy_((part - mean.double()) / std.double())
    return out


def normalize(
    train: Tensor,
    train_labels: Tensor,
    test: Tensor,
    test_labels: Tensor,
    num_classes: int,
    normalization: str = "dataset",
    unit: float = 1.0,
) -> Data:
    """Make a data set of raw inputs in multiples of ``unit``: training inputs get mean 0 and deviation 1 in each channel."""
    mean, std = measure_moments(train, normalization, unit)
    return Data(
        TensorDataset(standardize(train, mean / unit, std / unit), train_labels.to(torch.int64)),
        TensorDataset(standardize(test, mean / unit, std / unit), test_labels.to(torch.int64)),
        num_classes,
        mean.float(),
        std.float(),
    )
