"""LeNet-300-100, a perceptron with two hidden layers."""

from collections import OrderedDict

from torch import nn

from sparsedd import _checks
from sparsedd.models._initialize import Scheme, build


def lenet_300_100(
    *, in_features: int = 784, num_classes: int = 10, width: float = 1.0, seed: int = 0, initialization: Scheme = "paper"
) -> nn.Module:
    """Build LeNet-300-100: in_features → 300 → 100 → num_classes with ReLU (LeCun et al. 1998; He et al. 2022, Appendix B).

    Parameters
    ----------
    in_features
        The size of one flattened input: 784 for MNIST, 64 for the 8×8 digits.
    num_classes
        C.
    width
        Multiplies the hidden layers' 300 and 100 units.
    seed, initialization
        As in :func:`initialize_`.

    Notes
    -----
    The paper prunes the hidden layers only: ``prunable(model, exclude="fc3")``, 265,200 weights.

    Examples
    --------
    >>> import sparsedd
    >>> model = lenet_300_100(seed=0)
    >>> sparsedd.Mask.dense(model, sparsedd.prunable(model, exclude="fc3"))
    Mask(265,200 of 265,200 weights, sparsity 0.00%)
    """
    _checks.whole("in_features", in_features, least=1)
    _checks.whole("num_classes", num_classes, least=1)
    _checks.number("width", width, above=0)
    first, second = max(1, round(300 * width)), max(1, round(100 * width))

    def make() -> nn.Module:
        layers = OrderedDict(
            flatten=nn.Flatten(),
            fc1=nn.Linear(in_features, first),
            relu1=nn.ReLU(),
            fc2=nn.Linear(first, second),
            relu2=nn.ReLU(),
            fc3=nn.Linear(second, num_classes),
        )
        return nn.Sequential(layers)

    return build(make, seed, initialization)
