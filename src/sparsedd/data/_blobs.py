"""Synthetic clusters: a data set of any shape in no time."""

import torch

from sparsedd import _checks, _random
from sparsedd.data._data import Data, normalize


def blobs(
    *, shape: tuple[int, int, int] = (1, 4, 4), num_classes: int = 10, train: int = 500, test: int = 500, seed: int = 0
) -> Data:
    """Draw one Gaussian cluster for each class: x = 1.5 c_y + e, with c and e drawn from N(0, 1) in every coordinate.

    Parameters
    ----------
    shape
        (channels, height, width) of one input.
    num_classes, train, test
        How many classes, training and test samples; labels go round the classes.
    seed
        Of the clusters and the samples.

    Examples
    --------
    >>> blobs(train=100, test=50)
    Data(100 training and 50 test samples of 1×4×4, 10 classes)
    """
    _checks.whole("seed", seed)
    if not isinstance(shape, tuple | list) or len(shape) != 3:
        kind = ValueError if isinstance(shape, tuple | list) else TypeError
        raise kind(f"shape must be (channels, height, width), got {shape!r}.")
    for name, value in (("num_classes", num_classes), ("train", train), ("test", test), *(("shape", size) for size in shape)):
        _checks.whole(name, value, least=1)
    n, size = train + test, shape[0] * shape[1] * shape[2]
    centres = torch.from_numpy(_random.normal(("blobs centres", seed), num_classes * size)).reshape(num_classes, size)
    labels = torch.arange(n, device="cpu") % num_classes
    noise = torch.from_numpy(_random.normal(("blobs samples", seed), n * size)).reshape(n, size)
    inputs = (1.5 * centres[labels] + noise).reshape(n, *shape)
    return normalize(inputs[:train], labels[:train], inputs[train:], labels[train:], num_classes)
