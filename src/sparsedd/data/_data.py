"""Data: a data set in memory."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import TensorDataset


@dataclass(frozen=True, repr=False)
class Data:
    """A data set in memory: ``train`` and ``test`` are ``TensorDataset(inputs, labels)``.

    Attributes
    ----------
    train, test
        Inputs (n, channels, height, width) float32, normalised by the training images; labels (n,) int64, clean.
    num_classes
        C.
    """

    train: TensorDataset
    test: TensorDataset
    num_classes: int

    def __repr__(self) -> str:
        shape = "×".join(map(str, self.train.tensors[0].shape[1:]))
        return f"Data({len(self.train):,} training and {len(self.test):,} test samples of {shape}, {self.num_classes} classes)"


def normalized(train: Tensor, train_labels: Tensor, test: Tensor, test_labels: Tensor, num_classes: int) -> Data:
    """Raw inputs as a data set: each channel of the training inputs gets mean 0 and standard deviation 1."""
    train, test = train.float(), test.float()
    axes = (0, *range(2, train.dim()))
    mean, std = train.double().mean(axes, keepdim=True), train.double().std(axes, keepdim=True, correction=0)
    return Data(
        TensorDataset(((train - mean) / std).float().contiguous(), train_labels.to(torch.int64)),
        TensorDataset(((test - mean) / std).float().contiguous(), test_labels.to(torch.int64)),
        num_classes,
    )
