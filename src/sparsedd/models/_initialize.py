"""Initial weights that depend on a seed alone."""

from collections.abc import Callable
from typing import Any, Literal, TypeAlias, TypeVar

import torch
from torch import nn

from sparsedd import _checks, _random
from sparsedd._parameters import check_present, modules, parameters, select

Model = TypeVar("Model", bound=nn.Module)
Scheme: TypeAlias = Literal["paper", "authors"]
SCHEMES = ("paper", "authors")


@torch.no_grad()
def initialize_(model: Model, seed: int = 0, scheme: Scheme = "paper") -> Model:
    """Draw every weight of two or more dimensions from N(0, 2 / fan_in), keyed by seed and name.

    No global generator is touched, and the same seed gives the same bits on every machine.

    Parameters
    ----------
    seed
        Of the draws.
    scheme
        Of everything else. ``"paper"``: biases become zero, and norm layers the identity, weight 1 and bias 0 (He et al.
        2022, Appendix B). ``"authors"``: what their code does: biases of other layers are drawn from
        U(-1/√fan_in, 1/√fan_in), as PyTorch does, and weights of norm layers from U(0, 1). Statistics become fresh.

    Examples
    --------
    >>> model = initialize_(nn.Linear(2, 1), seed=0)
    >>> model.weight
    Parameter containing:
    tensor([[-0.0465,  0.7018]], requires_grad=True)
    """
    _checks.whole("seed", seed)
    _checks.one_of("scheme", scheme, SCHEMES)
    named = check_present(select(model, parameters(model)))
    for name, parameter in named.items():
        n = parameter.numel()
        if parameter.dim() >= 2:
            fan_in = max(1, n // max(1, len(parameter)))
            draws = torch.from_numpy(_random.normal(("initial weights", seed, name), n))
            parameter.copy_((draws * (2.0 / fan_in) ** 0.5).reshape(parameter.shape))
            continue
        norm = name.endswith("weight")
        parameter.fill_(1.0 if norm else 0.0)
        weight = named.get(f"{name.removesuffix('bias')}weight")
        if scheme == "authors" and (norm or (weight is not None and weight.dim() >= 2)):
            draws = torch.from_numpy(_random.uniform(("initial vectors", seed, name), n))
            bound = 1.0 if norm or weight is None else weight[0].numel() ** -0.5
            parameter.copy_((draws if norm else (2.0 * draws - 1.0) * bound).reshape(parameter.shape))
    for _, module in modules(model):
        if isinstance(module, nn.modules.batchnorm._NormBase):
            module.reset_running_stats()
    return model


def build(make: Callable[[], Model], seed: int, scheme: Scheme = "paper") -> Model:
    """Build the model that ``make`` makes, with :func:`initialize_`'s weights; its own draws are never made."""
    _checks.whole("seed", seed)
    _checks.one_of("initialization", scheme, SCHEMES)
    with torch.device("meta"):
        model = make()
    return initialize_(model.to_empty(device="cpu"), seed, scheme)


def import_torchvision_models() -> Any:
    """Return torchvision.models, or raise an ImportError that says how to get it."""
    try:
        from torchvision import models
    except ImportError as error:
        raise ImportError("ResNet and VGG are built of torchvision's layers: pip install 'sparsedd[vision]'.") from error
    return models
