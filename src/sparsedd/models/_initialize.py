"""Initial weights that depend on a seed alone."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

from sparsedd import _checks, _random
from sparsedd._parameters import parameters

Model = TypeVar("Model", bound=nn.Module)


@torch.no_grad()
def initialize_(model: Model, seed: int = 0) -> Model:
    """Draw every weight of two or more dimensions from N(0, 2 / fan_in), keyed by seed and name; biases become zero.

    Norm layers become the identity: weight 1, bias 0, fresh statistics (He et al. 2022, Appendix B). No global generator is
    touched, and the same seed gives the same bits on every machine.

    Examples
    --------
    >>> model = initialize_(nn.Linear(2, 1), seed=0)
    >>> model.weight
    Parameter containing:
    tensor([[-0.0465,  0.7018]], requires_grad=True)
    """
    _checks.whole("seed", seed)
    for name, parameter in parameters(model).items():
        if parameter.dim() >= 2:
            fan_in = parameter[0].numel()
            draws = torch.from_numpy(_random.normal(("initial weights", seed, name), parameter.numel()))
            parameter.copy_((draws * (2.0 / fan_in) ** 0.5).reshape(parameter.shape))
        else:
            parameter.fill_(1.0 if name.endswith("weight") else 0.0)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase):
            module.reset_running_stats()
    return model


def built(make: Callable[[], Model], seed: int) -> Model:
    """The model that ``make`` makes, with :func:`initialize_`'s weights; its own draws are never made."""
    with torch.device("meta"):
        model = make()
    return initialize_(model.to_empty(device="cpu"), seed)
