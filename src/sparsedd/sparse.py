"""Sparse execution: linear layers at the cost of their surviving weights.

Products with a few kept weights are done by ``torch.sparse``: W x as a product in CSR form, and the weights' gradient as a
product sampled at the kept places. Results equal those of the dense layers up to float rounding. Activations are kept
feature-major, (features, batch) in memory, which suits both products.
"""

import warnings
from collections.abc import Mapping
from copy import deepcopy
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from sparsedd._mask import Mask

__all__ = ["BELOW", "SparseLinear", "compact", "expand_"]

Model = TypeVar("Model", bound=nn.Module)

#: The density below which a layer runs faster in sparse form, on the CPUs measured.
BELOW = 0.2


class SparseLinear(nn.Module):
    """y = W x + b with only the kept weights of W, as a vector of parameters in the order of their places.

    Parameters
    ----------
    linear
        The layer whose weights are taken.
    keep
        Bool, of the weight's shape.
    """

    crow: Tensor
    col: Tensor
    crow_t: Tensor
    col_t: Tensor
    order_t: Tensor

    def __init__(self, linear: nn.Linear, keep: Tensor) -> None:
        super().__init__()
        self.shape = linear.weight.shape
        self.values = nn.Parameter(linear.weight.detach()[keep])
        self.bias = None if linear.bias is None else nn.Parameter(linear.bias.detach().clone())
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
            places = keep.to_sparse_csr()
        transposed = torch.zeros(keep.shape, dtype=torch.int64, device=keep.device)
        transposed[keep] = torch.arange(1, len(self.values) + 1, device=keep.device)
        transposed = transposed.t().to_sparse_csr()
        index = torch.int32
        self.register_buffer("crow", places.crow_indices().to(index), persistent=False)
        self.register_buffer("col", places.col_indices().to(index), persistent=False)
        self.register_buffer("crow_t", transposed.crow_indices().to(index), persistent=False)
        self.register_buffer("col_t", transposed.col_indices().to(index), persistent=False)
        self.register_buffer("order_t", transposed.values() - 1, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = _Product.apply(x.reshape(-1, self.shape[1]), self.values, self)
        y = y.reshape(*x.shape[:-1], self.shape[0])
        return y if self.bias is None else y + self.bias


class _Product(torch.autograd.Function):
    """x (b, in), values → x Wᵀ (b, out), whose memory is feature-major."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, values: Tensor, layer: SparseLinear) -> Tensor:
        xt = x.t().contiguous()
        ctx.save_for_backward(xt, values)
        ctx.layer = layer
        return (_csr(layer.crow, layer.col, values, layer.shape) @ xt).t()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        xt, values = ctx.saved_tensors
        layer: SparseLinear = ctx.layer
        gt = gradient.t().contiguous()
        grad_x = grad_values = None
        if ctx.needs_input_grad[0]:
            grad_x = (_csr(layer.crow_t, layer.col_t, values[layer.order_t], layer.shape[::-1]) @ gt).t()
        if ctx.needs_input_grad[1]:
            places = _csr(layer.crow, layer.col, torch.zeros_like(values), layer.shape)
            grad_values = torch.sparse.sampled_addmm(places, gt, xt.t(), beta=0.0).values()
        return grad_x, grad_values, None


def _csr(crow: Tensor, col: Tensor, values: Tensor, shape: Any) -> Tensor:
    return torch.sparse_csr_tensor(crow, col, values, shape, check_invariants=False)


def compact(model: Model, mask: Mask, *, below: float = BELOW) -> tuple[Model, Mask | None]:
    """A copy of the model in which every masked Linear of a density under ``below`` is a :class:`SparseLinear`.

    Returns
    -------
    The copy, to be trained in the model's place, and what is left of the mask: the parameters that are dense still (None if
    there are none). :func:`expand_` brings the weights back.

    Examples
    --------
    >>> model = nn.Linear(10, 10)
    >>> keep = torch.zeros(10, 10, dtype=torch.bool).fill_diagonal_(True)
    >>> fast, rest = compact(model, Mask({"weight": keep}))
    >>> fast.values.shape, rest
    (torch.Size([10]), None)
    """
    mask.apply_(fast := deepcopy(model))
    rest = {}
    for name in mask:
        path, _, leaf = name.rpartition(".")
        layer, keep = fast.get_submodule(path), mask[name]
        if type(layer) is not nn.Linear or leaf != "weight" or not 0 < float(keep.float().mean()) < below:
            rest[name] = keep
        elif not path:
            return SparseLinear(layer, keep.to(layer.weight.device)), None  # type: ignore[return-value]
        else:
            parent, _, child = path.rpartition(".")
            setattr(fast.get_submodule(parent), child, SparseLinear(layer, keep.to(layer.weight.device)))
    return fast, Mask(rest) if rest else None


@torch.no_grad()
def expand_(model: Model, fast: nn.Module, mask: Mask) -> Model:
    """Copy the weights and buffers of a :func:`compact` copy back into the model it came from; pruned weights are +0.0."""
    state: Mapping[str, Tensor] = fast.state_dict()
    targets = model.state_dict()
    for name, target in targets.items():
        if name in state:
            target.copy_(state[name])
        else:
            path = name.rpartition(".")[0]
            values = state[f"{path}.values" if path else "values"]
            target.zero_()[mask[name].to(target.device)] = values
    return model
