"""Data sets that fit in memory: training and test images with clean labels, as tensors, and their batches."""

from sparsedd.data._augmentation import Augmentation, Flip, RandomResizedCrop, Shift
from sparsedd.data._batches import Batches
from sparsedd.data._blobs import blobs
from sparsedd.data._cifar import cifar10, cifar100
from sparsedd.data._cifar10n import cifar10n
from sparsedd.data._data import Data
from sparsedd.data._datasets import DATASETS
from sparsedd.data._digits import digits
from sparsedd.data._mnist import mnist
from sparsedd.data._tiny_imagenet import arrange_tiny_imagenet, tiny_imagenet

__all__ = [
    "DATASETS",
    "Augmentation",
    "Batches",
    "Data",
    "Flip",
    "RandomResizedCrop",
    "Shift",
    "arrange_tiny_imagenet",
    "blobs",
    "cifar10",
    "cifar10n",
    "cifar100",
    "digits",
    "mnist",
    "tiny_imagenet",
]
