"""ResNets with the stem for small images."""

from typing import Any

from torch import Tensor, nn

from sparsedd import _checks
from sparsedd.models._initialize import Scheme, build, import_torchvision_models


class ResNet(nn.Module):
    """torchvision's residual blocks behind a 3×3 convolution; the names of the parameters are torchvision's."""

    def __init__(self, block: Any, depths: tuple[int, ...], in_channels: int, num_classes: int, width: float) -> None:
        super().__init__()
        planes = [max(1, round(64 * width)) * 2**k for k in range(len(depths))]
        self.conv1 = nn.Conv2d(in_channels, planes[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes[0])
        self.relu = nn.ReLU(inplace=True)
        channels = planes[0]
        for k, depth in enumerate(depths):
            blocks = []
            for i in range(depth):
                stride, out = (2 if k and not i else 1), planes[k] * block.expansion
                shortcut = None
                if stride > 1 or channels != out:
                    shortcut = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))
                blocks.append(block(channels, planes[k], stride, shortcut))
                channels = out
            self.add_module(f"layer{k + 1}", nn.Sequential(*blocks))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        for k in range(1, 5):
            x = self.get_submodule(f"layer{k}")(x)
        logits: Tensor = self.fc(self.avgpool(x).flatten(1))
        return logits


def resnet18(
    *, num_classes: int = 10, in_channels: int = 3, width: float = 1.0, seed: int = 0, initialization: Scheme = "paper"
) -> nn.Module:
    """Build ResNet-18 for 32×32 images: a 3×3 stem of stride 1 and no max-pooling (He et al. 2022, Appendix B).

    Parameters
    ----------
    num_classes, in_channels
        C; 3 for colour images.
    width
        Multiplies the 64, 128, 256 and 512 channels.
    seed, initialization
        As in :func:`initialize_`.

    Raises
    ------
    ImportError
        Without torchvision, whose blocks it is built of.

    Notes
    -----
    The paper prunes all weights of convolutions and of the linear layer: 11,164,352 for 10 classes, 11,210,432 for 100.

    Examples
    --------
    >>> import sparsedd
    >>> sparsedd.Mask.dense(resnet18())
    Mask(11,164,352 of 11,164,352 weights, sparsity 0.00%)
    """
    return _build_resnet("BasicBlock", (2, 2, 2, 2), in_channels, num_classes, width, seed, initialization)


def resnet101(
    *, num_classes: int = 200, in_channels: int = 3, width: float = 1.0, seed: int = 0, initialization: Scheme = "paper"
) -> nn.Module:
    """Build ResNet-101 with the stem of :func:`resnet18` (He et al. 2022, Appendix B: Tiny ImageNet at 32×32, 200 classes).

    The parameters are those of :func:`resnet18`. As in torchvision, a block's stride is in its 3×3 convolution.

    Examples
    --------
    >>> import sparsedd
    >>> sparsedd.Mask.dense(resnet101(width=1 / 16))
    Mask(191,276 of 191,276 weights, sparsity 0.00%)
    """
    return _build_resnet("Bottleneck", (3, 4, 23, 3), in_channels, num_classes, width, seed, initialization)


def _build_resnet(
    block: str, depths: tuple[int, ...], in_channels: int, num_classes: int, width: float, seed: int, scheme: Scheme
) -> nn.Module:
    _checks.whole("num_classes", num_classes, least=1)
    _checks.whole("in_channels", in_channels, least=1)
    _checks.number("width", width, above=0)
    kind = getattr(import_torchvision_models().resnet, block)
    return build(lambda: ResNet(kind, depths, in_channels, num_classes, width), seed, scheme)
