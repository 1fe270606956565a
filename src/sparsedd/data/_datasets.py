"""Data sets by name."""

from collections.abc import Callable
from functools import partial

from sparsedd import _checks
from sparsedd.data._blobs import blobs
from sparsedd.data._cifar import cifar10, cifar100
from sparsedd.data._data import Data
from sparsedd.data._digits import digits
from sparsedd.data._mnist import mnist
from sparsedd.data._tiny_imagenet import tiny_imagenet

_stand_in = partial(blobs, train=240, test=120)

#: Every data set, by name. ``"blobs-..."`` stands in for a data set: blobs of its shape and number of classes.
DATASETS: dict[str, Callable[..., Data]] = _checks.Named(
    "data set",
    {
        "mnist": mnist,
        "cifar10": cifar10,
        "cifar100": cifar100,
        "tiny_imagenet": tiny_imagenet,
        "digits": digits,
        "blobs": blobs,
        "blobs-cifar10": partial(_stand_in, shape=(3, 32, 32), num_classes=10),
        "blobs-cifar100": partial(_stand_in, shape=(3, 32, 32), num_classes=100),
        "blobs-tiny_imagenet": partial(_stand_in, shape=(3, 32, 32), num_classes=200),
    },
    "Write the loop for other data yourself, which takes a with block: mask.enforce(model, optimizer)",
)
