"""MNIST."""

from sparsedd.data._data import Data, normalize
from sparsedd.data._folder import load


def mnist() -> Data:
    """Load MNIST: 60,000 training and 10,000 test images of 28×28 grey values (LeCun et al. 1998), read by torchvision.

    Looked for in the folder that the environment variable ``SPARSEDD_DATA`` names, else in ``~/.cache/sparsedd``, and
    downloaded to there when absent.

    Raises
    ------
    ImportError
        Without torchvision.
    FileNotFoundError
        When the files are neither there nor to be had; the message names them.
    """
    train, test = (load("MNIST", train=train) for train in (True, False))
    return normalize(train.data[:, None], train.targets, test.data[:, None], test.targets, 10, unit=1 / 255)
