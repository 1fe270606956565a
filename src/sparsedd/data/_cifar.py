"""CIFAR-10 and CIFAR-100."""

import zipfile
import zlib
from typing import Literal

import numpy as np
import torch

from sparsedd import _checks
from sparsedd.data._data import NORMALIZATIONS, Data, normalize
from sparsedd.data._folder import data_folder, load

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def cifar10(*, normalization: Literal["dataset", "imagenet"] = "dataset") -> Data:
    """Load CIFAR-10: 50,000 training and 10,000 test images of 32×32 colour pixels in 10 classes (Krizhevsky 2009).

    Looked for in the folder that the environment variable ``SPARSEDD_DATA`` names, else in ``~/.cache/sparsedd``, and
    downloaded to there when absent. torchvision reads the official files, after it has compared their MD5 with the one that
    it knows; ``cifar10.npz`` in that folder is as good: the arrays x_train (50000, 32, 32, 3) uint8, y_train, x_test, y_test.

    Parameters
    ----------
    normalization
        Of each channel by the training images' own mean and deviation, or by ImageNet's, as the authors' code does.

    Raises
    ------
    ImportError
        Without torchvision, when there is no ``cifar10.npz``.
    FileNotFoundError
        When the files are neither there nor to be had; the message names them.
    """
    return _load_cifar("CIFAR10", 10, normalization)


def cifar100(*, normalization: Literal["dataset", "imagenet"] = "dataset") -> Data:
    """Load CIFAR-100: 50,000 training and 10,000 test images of 32×32 colour pixels in 100 classes (Krizhevsky 2009).

    Files, parameters and errors are those of :func:`cifar10`, with ``cifar100.npz``.
    """
    return _load_cifar("CIFAR100", 100, normalization)


def _load_cifar(name: str, num_classes: int, normalization: str) -> Data:
    _checks.one_of("normalization", normalization, NORMALIZATIONS)
    path = data_folder() / f"{name.lower()}.npz"
    if path.exists():
        try:
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
                x, y, test_x, test_y = (arrays[key] for key in ("x_train", "y_train", "x_test", "y_test"))
        except (KeyError, EOFError, ValueError, TypeError, zipfile.BadZipFile, zlib.error) as error:
            wanted = "the arrays x_train, y_train, x_test and y_test, without pickles"
            raise ValueError(f"{path} must hold {wanted}: {error}.") from error
    else:
        train, test = (load(name, train=train) for train in (True, False))
        x, y, test_x, test_y = train.data, np.asarray(train.targets), test.data, np.asarray(test.targets)
    for images, labels in ((x, y), (test_x, test_y)):
        if (
            images.dtype != np.uint8
            or images.shape[1:] != (32, 32, 3)
            or labels.size != len(images)
            or labels.dtype.kind not in "iu"
        ):
            got = f"{images.dtype} {images.shape} and {labels.dtype} {labels.shape}"
            raise ValueError(f"{path} must hold uint8 images (n, 32, 32, 3) and n integer labels, got {got}.")
    inputs, test_inputs = (torch.from_numpy(images).permute(0, 3, 1, 2) for images in (x, test_x))
    labels, test_labels = (torch.from_numpy(labels.astype(np.int64)).ravel() for labels in (y, test_y))
    return normalize(inputs, labels, test_inputs, test_labels, num_classes, normalization, unit=1 / 255)
