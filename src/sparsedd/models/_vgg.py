"""VGG-16 for small images."""

from typing import Any

from torch import Tensor, nn

from sparsedd import _checks
from sparsedd.models._initialize import Scheme, build, import_torchvision_models

PLAN = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512)


class VGG(nn.Module):
    """torchvision's convolutions with batch norm, a 2×2 average and one linear layer."""

    def __init__(self, features: nn.Sequential, channels: int, num_classes: int) -> None:
        super().__init__()
        self.features = features
        self.pool = nn.AvgPool2d(2)
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.pool(self.features(x)).flatten(1))
        return logits


def vgg16(
    *, num_classes: int = 10, in_channels: int = 3, width: float = 1.0, seed: int = 0, initialization: Scheme = "paper"
) -> nn.Module:
    """Build VGG-16 for 32×32 images: 13 convolutions with bias and batch norm, one linear layer (He et al. 2022, Appendix B).

    Parameters
    ----------
    num_classes, in_channels
        C; 3 for colour images.
    width
        Multiplies the 64 to 512 channels.
    seed, initialization
        As in :func:`initialize_`.

    Raises
    ------
    ImportError
        Without torchvision, whose ``make_layers`` it is built with.

    Notes
    -----
    The paper prunes the convolutions only: ``prunable(model, exclude="fc")``, 14,710,464 weights.

    Examples
    --------
    >>> import sparsedd
    >>> model = vgg16()
    >>> sparsedd.Mask.dense(model, sparsedd.prunable(model, exclude="fc"))
    Mask(14,710,464 of 14,710,464 weights, sparsity 0.00%)
    """
    _checks.whole("num_classes", num_classes, least=1)
    _checks.whole("in_channels", in_channels, least=1)
    _checks.number("width", width, above=0)
    plan: list[Any] = [c if isinstance(c, str) else max(1, round(c * width)) for c in PLAN]
    make_layers = import_torchvision_models().vgg.make_layers

    def make() -> nn.Module:
        features = make_layers(plan, batch_norm=True)
        if in_channels != 3:
            features[0] = nn.Conv2d(in_channels, plan[0], 3, padding=1)
        return VGG(features, plan[-1], num_classes)

    return build(make, seed, initialization)
