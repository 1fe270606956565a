"""Perceptron: the gradients of a chain of linear layers, written out."""

from collections.abc import Callable, Iterable
from typing import Any, Self

import torch
from torch import Tensor, nn

from sparsedd._parameters import has_hooks
from sparsedd.sparse import SparseLinear


class Perceptron(nn.Module):
    r"""The step of backpropagation through Linear and :class:`.SparseLinear` layers with ReLU between and softmax at the end.

    Written out, with samples as columns, it does without autograd's book-keeping and copies between layouts:

        h_0 = xᵀ,  h_l = max(0, W_l h_{l-1} + b_l),  p = softmax(W_L h_{L-1} + b_L)
        δ_L = (p - e_y) / b,  δ_{l-1} = W_lᵀ δ_l ⊙ [h_{l-1} > 0]
        ∂W_l = δ_l h_{l-1}ᵀ,  ∂b_l = δ_l 1

    Stacked weights (members, out, in), as of a :class:`.Fleet`, take inputs and targets with the members first.

    Parameters
    ----------
    layers
        The linear layers, first to last, with biases. They are shared, not copied.
    precision
        The dtype of the products of dense float32 layers; None leaves them in float32.
    """

    def __init__(self, layers: Iterable[nn.Linear | SparseLinear], precision: torch.dtype | None = None) -> None:
        super().__init__()
        self.layers = [_Sparse(layer) if isinstance(layer, SparseLinear) else _Dense(layer, precision) for layer in layers]
        bias = self.layers[-1].bias
        self.one_hot = torch.eye(bias.shape[-1], dtype=bias.dtype, device=bias.device)
        self._sample = 1 + (bias.dim() == 2)  # the dimension in which a sample begins

    @classmethod
    def of(cls, model: nn.Module, precision: torch.dtype | None = None) -> Self | None:
        """Return the perceptron that a model is; None if it is anything else."""
        if type(model) is not nn.Sequential or has_hooks(model):
            return None
        kinds = [_kind(module) for module in model]
        chain = kinds[kinds[:1] == ["flatten"] :]
        layers: list[Any] = [module for module, kind in zip(model, kinds, strict=True) if kind == "linear"]
        alternate = chain == [("linear", "relu")[k % 2] for k in range(len(chain))] and len(chain) % 2 == 1
        distinct = len({id(p) for layer in layers for p in layer._parameters.values()}) == 2 * len(layers)
        return cls(layers, precision) if alternate and distinct else None

    @torch.no_grad()
    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits (b, C) of inputs (b, ...), without a graph for autograd."""
        return self._forward(inputs)[0].mT

    @torch.no_grad()
    def backward(self, inputs: Tensor, targets: Tensor) -> None:
        """Set every ``.grad`` to that of the mean cross-entropy of inputs (b, ...) with targets (b,)."""
        logits, entered = self._forward(inputs)
        δ = logits.softmax(dim=-2).sub_(torch.embedding(self.one_hot, targets).mT).div_(targets.shape[-1])
        for layer, h in zip(reversed(self.layers), reversed(entered), strict=True):
            δ = layer.ready(δ)
            layer.accumulate(δ, h)
            if h is not entered[0]:
                δ = _through_relu(layer.adjoint(δ), h, 0)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy of :meth:`forward`'s logits: in their layout ten times as fast as torch's."""
        each = logits.mT.log_softmax(dim=-2) * torch.embedding(self.one_hot, targets).mT
        return each.sum().neg_().div_(targets.shape[-1])

    def _forward(self, inputs: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return logits (C, b), and what has entered each layer."""
        h = inputs.flatten(self._sample).mT
        entered: list[Tensor] = []
        for layer in self.layers:
            h = layer.ready(h.relu_() if entered else h)
            entered.append(h)
            h = layer.forward(h)
        return h.to(self.one_hot.dtype), entered


_through_relu: Any = torch.ops.aten.threshold_backward.default


class _Dense:
    def __init__(self, layer: nn.Linear, precision: torch.dtype | None) -> None:
        self.weight, self.bias = layer.weight, layer.bias
        self.precision = precision if precision and layer.weight.dtype == torch.float32 else layer.weight.dtype
        stacked = layer.weight.dim() == 3
        self.mm = torch.bmm if stacked else torch.mm
        self.addmm: Callable[..., Tensor] = torch.baddbmm if stacked else torch.addmm

    def ready(self, h: Tensor) -> Tensor:
        return h.to(self.precision)

    def forward(self, h: Tensor) -> Tensor:
        self.rounded = self.weight.to(self.precision)
        return self.addmm(self.bias.to(self.precision)[..., None], self.rounded, h)

    def accumulate(self, δ: Tensor, h: Tensor) -> None:
        self.weight.grad = self.mm(δ, h.mT).to(self.weight.dtype)
        self.bias.grad = δ.sum(dim=-1, dtype=self.bias.dtype)

    def adjoint(self, δ: Tensor) -> Tensor:
        return self.mm(self.rounded.mT, δ)


class _Sparse:
    def __init__(self, layer: SparseLinear) -> None:
        assert layer.bias is not None
        self.layer, self.values, self.bias = layer, layer.values, layer.bias
        self.pattern: Tensor | None = None

    def ready(self, h: Tensor) -> Tensor:
        return h.to(self.values.dtype).contiguous()

    def forward(self, h: Tensor) -> Tensor:
        return self.layer.product(h, self.values).add_(self.bias[:, None])

    def accumulate(self, δ: Tensor, h: Tensor) -> None:
        if self.pattern is None or self.pattern.shape != self.layer.shape:  # it may have been narrowed
            self.pattern = self.layer._pattern()
        self.values.grad = self.layer.sampled(δ, h, self.pattern)
        self.bias.grad = δ.sum(dim=1)

    def adjoint(self, δ: Tensor) -> Tensor:
        return self.layer.adjoint(δ, self.values)


def _kind(module: nn.Module) -> str:
    """Return what a module is in a chain; the empty string if it has no place there."""
    if has_hooks(module):
        return ""
    if type(module) is nn.Flatten and (module.start_dim, module.end_dim) == (1, -1):
        return "flatten"
    if type(module) is nn.ReLU:
        return "relu"
    if type(module) in (nn.Linear, SparseLinear) and all(map(_trained, module._parameters.values())):
        return "linear"
    return ""


def _trained(p: nn.Parameter | None) -> bool:
    """Return whether it is there, and autograd would give it a gradient and do no more."""
    if p is None or not p.numel() or p.dtype not in (torch.float32, torch.float64):
        return False
    return p.requires_grad and not p._backward_hooks and not p._post_accumulate_grad_hooks
