"""scikit-learn's real handwritten digits: the data set that needs no download."""

import torch

from sparsedd import _random
from sparsedd.data._data import Data, normalize


def digits() -> Data:
    """Load 1,797 handwritten digits of 8×8 grey values, 1,297 to train on and 500 to test (Alpaydin and Kaynak 1998, UCI).

    The images come with scikit-learn; the split is drawn once and for all.

    Raises
    ------
    ImportError
        Without scikit-learn.

    Examples
    --------
    >>> digits()
    Data(1,297 training and 500 test samples of 1×8×8, 10 classes)
    """
    try:
        with _random.untouched():  # a package that it imports where there is one, rich, draws while it is imported
            from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError("the digits come with scikit-learn: pip install 'sparsedd[demo]'.") from error
    pixels, labels = load_digits(return_X_y=True)
    order = _random.permutation(("digits split",), len(labels))
    images, targets = torch.from_numpy(pixels)[order].reshape(-1, 1, 8, 8), torch.from_numpy(labels)[order]
    return normalize(images[:1297], targets[:1297], images[1297:], targets[1297:], 10)
