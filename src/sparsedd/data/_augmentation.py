"""Augmentations: whole batches at once, each sample with its own draw, on the device that the batch is on."""

from collections.abc import Callable
from dataclasses import dataclass
from math import log
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from sparsedd import _checks
from sparsedd._ambient import exact_on

#: ``(inputs (b, c, h, w), draws (b, 4) from U[0, 1), fill (c, 1, 1)) -> inputs``; fill is a black pixel.
Augmentation: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Flip:
    """Left and right exchanged for half of the samples (He et al. 2022, Appendix B).

    Examples
    --------
    >>> row = torch.tensor([1.0, 2.0]).expand(2, 1, 1, 2)
    >>> Flip()(row, torch.tensor([[0.2] * 4, [0.7] * 4]), torch.zeros(1, 1, 1)).flatten(1)
    tensor([[2., 1.],
            [1., 2.]])
    """

    def __call__(self, inputs: Tensor, draws: Tensor, fill: Tensor) -> Tensor:
        return torch.where(draws[:, 0, None, None, None] < 0.5, inputs.flip(-1), inputs)


@dataclass(frozen=True)
class Shift:
    """A shift by up to ``pixels`` in any direction; what comes in from outside is black (He et al. 2022, Appendix B).

    Parameters
    ----------
    pixels
        The largest shift; each of the (2 · pixels + 1)² shifts is equally likely.

    Examples
    --------
    >>> row = torch.tensor([1.0, 2.0, 3.0]).expand(1, 1, 3, 3)
    >>> Shift(1)(row, torch.tensor([[0.5, 0.9, 0.0, 0.0]]), torch.zeros(1, 1, 1))[0, 0, 0]
    tensor([2., 3., 0.])
    """

    pixels: int = 4

    def __post_init__(self) -> None:
        _checks.whole("pixels", self.pixels)

    def __call__(self, inputs: Tensor, draws: Tensor, fill: Tensor) -> Tensor:
        b, c, h, w = inputs.shape
        p = self.pixels
        padded = fill.expand(b, c, h + 2 * p, w + 2 * p).clone()
        padded[:, :, p : p + h, p : p + w] = inputs
        down, right = (draws[:, :2].mul(2 * p + 1).long().clamp(max=2 * p)).unbind(1)
        rows, columns = (start[:, None] + torch.arange(size, device=inputs.device) for start, size in ((down, h), (right, w)))
        samples, channels = (torch.arange(size, device=inputs.device) for size in (b, c))
        return padded[samples[:, None, None, None], channels[:, None, None], rows[:, None, :, None], columns[:, None, None, :]]


@dataclass(frozen=True)
class RandomResizedCrop:
    """A random part of the image, resized (Szegedy et al. 2015; He et al. 2022, Appendix B).

    Area and aspect ratio are those of torchvision's transform; a part that would be larger than the image is cut to it, where
    torchvision draws again. Sampled bilinearly, without anti-aliasing.

    Parameters
    ----------
    size
        Height and width of the result.
    scale
        Bounds of the area, as a share of the image's.
    ratio
        Bounds of width / height; its logarithm is drawn uniformly.

    Examples
    --------
    >>> RandomResizedCrop(32)(torch.zeros(2, 3, 64, 64), torch.rand(2, 4), torch.zeros(3, 1, 1)).shape
    torch.Size([2, 3, 32, 32])
    """

    size: int = 32
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)

    def __post_init__(self) -> None:
        _checks.whole("size", self.size, least=1)
        for name in ("scale", "ratio"):
            _checks.kind(name, getattr(self, name), (tuple, list), "two rising bounds")
            bounds = tuple(_checks.number(name, bound, above=0) for bound in getattr(self, name))
            if len(bounds) != 2 or bounds[0] > bounds[1] or (name == "scale" and bounds[1] > 1):
                raise ValueError(f"{name} must be two rising bounds{', at most 1' * (name == 'scale')}, got {bounds}.")
            object.__setattr__(self, name, bounds)

    def __call__(self, inputs: Tensor, draws: Tensor, fill: Tensor) -> Tensor:
        b, c, h, w = inputs.shape
        u = draws.to(exact_on(draws.device)).double()
        area = h * w * (self.scale[0] + (self.scale[1] - self.scale[0]) * u[:, 0])
        low, high = log(self.ratio[0]), log(self.ratio[1])
        ratio = (low + (high - low) * u[:, 1]).exp()
        width, height = (area * ratio).sqrt().round().clamp(1, w), (area / ratio).sqrt().round().clamp(1, h)
        left, top = ((w - width + 1) * u[:, 2]).floor(), ((h - height + 1) * u[:, 3]).floor()
        zero = torch.zeros_like(width)
        theta = torch.stack(  # from the result's [-1, 1] to the image's
            [
                torch.stack([width / w, zero, (2 * left + width) / w - 1], dim=1),
                torch.stack([zero, height / h, (2 * top + height) / h - 1], dim=1),
            ],
            dim=1,
        )
        grid = affine_grid(theta.to(inputs.dtype).to(inputs.device), [b, c, self.size, self.size], align_corners=False)
        return grid_sample(inputs, grid, padding_mode="border", align_corners=False)
