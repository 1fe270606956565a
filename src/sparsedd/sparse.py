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
BELOW = 0.1


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
        # Wᵀ in CSR form has the same values in another order.
        number = torch.zeros(keep.shape, dtype=torch.int64, device=keep.device)
        number[keep] = torch.arange(len(self.values), device=keep.device)
        rows, columns = keep.nonzero(as_tuple=True)
        columns_t, rows_t = keep.t().nonzero(as_tuple=True)
        for name, value in (
            ("crow", _starts(rows, keep.shape[0])),
            ("col", columns),
            ("crow_t", _starts(columns_t, keep.shape[1])),
            ("col_t", rows_t),
        ):
            self.register_buffer(name, value.to(torch.int32), persistent=False)
        self.register_buffer("order_t", number[rows_t, columns_t], persistent=False)
        with warnings.catch_warnings():  # torch says once that its CSR support is in beta
            warnings.simplefilter("ignore")
            _csr(self.crow, self.col, self.values.detach(), self.shape)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = _Product.apply(x.reshape(-1, self.shape[1]), self.values, self.bias, self)
        return y.reshape(*x.shape[:-1], self.shape[0])


class _Product(torch.autograd.Function):
    """x (b, in), values, bias → x Wᵀ + bias (b, out), whose memory is feature-major."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, values: Tensor, bias: Tensor | None, layer: SparseLinear) -> Tensor:
        xt = x.t().contiguous()
        ctx.save_for_backward(xt, values)
        ctx.layer = layer
        yt = _csr(layer.crow, layer.col, values, layer.shape) @ xt
        return (yt if bias is None else yt.add_(bias[:, None])).t()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        xt, values = ctx.saved_tensors
        layer: SparseLinear = ctx.layer
        gt = gradient.t().contiguous()
        grad_x = grad_values = grad_bias = None
        if ctx.needs_input_grad[0]:
            grad_x = (_csr(layer.crow_t, layer.col_t, values[layer.order_t], layer.shape[::-1]) @ gt).t()
        if ctx.needs_input_grad[1]:  # gᵀ x, sampled at the kept places; with beta = 0 their values don't count
            places = _csr(layer.crow, layer.col, values, layer.shape)
            grad_values = torch.sparse.sampled_addmm(places, gt, xt.t(), beta=0.0).values()
        if ctx.needs_input_grad[2]:
            grad_bias = gt.sum(dim=1)
        return grad_x, grad_values, grad_bias, None


def _starts(rows: Tensor, count: int) -> Tensor:
    """Where each row of a CSR matrix starts among its values."""
    return torch.cat([rows.new_zeros(1), rows.bincount(minlength=count).cumsum(0)])


def _csr(crow: Tensor, col: Tensor, values: Tensor, shape: Any) -> Tensor:
    return torch.sparse_csr_tensor(crow, col, values, shape, check_invariants=False)


def compact(model: Model, mask: Mask, *, below: float = BELOW) -> tuple[Model, Mask | None]:
    """A copy of the model in which every masked Linear of a density under ``below`` is a :class:`SparseLinear`.

    Returns
    -------
    fast
        The copy, to be trained in the model's place; :func:`expand_` brings the weights back.
    rest
        What is left of the mask: the parameters that are dense still. None if there are none.

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
