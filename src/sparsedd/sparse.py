"""Sparse execution: linear layers at the cost of their surviving weights.

Products with a few kept weights are done by ``torch.sparse``: W x as a product in CSR form, and the weights' gradient as a
product sampled at the kept places. Results equal those of the dense layers up to float rounding. Activations are kept
feature-major, (features, batch) in memory, which suits both products.
"""

import warnings
from collections import Counter
from copy import deepcopy
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from sparsedd._mask import Mask
from sparsedd._parameters import parameters, state_names, unwrapped

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
        self.values = nn.Parameter(linear.weight.detach()[keep], linear.weight.requires_grad)
        self.bias = None if linear.bias is None else nn.Parameter(linear.bias.detach().clone(), linear.bias.requires_grad)
        self.train(linear.training)
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
        with torch.autocast(x.device.type, enabled=False):  # torch.sparse has no half precision on a CPU
            flat = x.reshape(-1, self.shape[1]).to(self.values.dtype)
            y: Tensor = _Product.apply(flat, self.values, self.bias, self)
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
        with torch.autocast(gt.device.type, enabled=False):
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
    >>> model = nn.Linear(20, 20)
    >>> keep = torch.zeros(20, 20, dtype=torch.bool).fill_diagonal_(True)
    >>> fast, rest = compact(model, Mask({"weight": keep}))
    >>> fast.values.shape, rest
    (torch.Size([20]), None)
    """
    if not isinstance(mask, Mask):
        raise TypeError(f"mask must be a Mask, got {type(mask).__name__}.")
    fast: Any = mask.apply_(deepcopy(unwrapped(model)))
    uses = Counter(id(p) for p in parameters(fast).values())
    rest = {}
    for name in mask:
        path, _, leaf = name.rpartition(".")
        layer, keep = _module(fast, path), mask[name]
        if (
            not isinstance(layer, nn.Linear)
            or type(layer) is not nn.Linear  # a subclass may compute something else
            or leaf != "weight"
            or layer._forward_hooks
            or uses[id(layer.weight)] > 1  # tied weights must stay one tensor
            or layer.weight.dtype not in (torch.float32, torch.float64)
            or not 0 < float(keep.float().mean()) < below
        ):
            rest[name] = keep
            continue
        sparse_layer = SparseLinear(layer, keep.to(layer.weight.device))
        if not path:
            return sparse_layer, None  # type: ignore[return-value]
        parent, _, child = path.rpartition(".")
        setattr(_module(fast, parent), child, sparse_layer)
    return fast, Mask(rest) if rest else None


@torch.no_grad()
def expand_(model: Model, fast: nn.Module, mask: Mask) -> Model:
    """Copy the weights and buffers of a :func:`compact` copy back into the model it came from; pruned weights are +0.0.

    Raises
    ------
    ValueError
        When model, copy and mask do not belong together; the model is as it was.
    """
    state = dict(zip(state_names(fast).values(), fast.state_dict().values(), strict=True))
    names = state_names(model)
    pairs: list[tuple[Tensor, Tensor]] = []
    for key, target in model.state_dict().items():
        name = names[key]
        source = state.get(name)
        if source is None:
            path = name.rpartition(".")[0]
            values = state.get(f"{path}.values" if path else "values")
            if values is None or name not in mask or mask[name].shape != target.shape or int(mask[name].sum()) != len(values):
                raise ValueError(f"the copy and the mask have no weights for {name!r}: it was not made of this model and mask.")
            keep = mask[name].to(target.device)
            source = torch.zeros_like(target).masked_scatter_(keep, values.to(target))
        if source.shape != target.shape:
            raise ValueError(f"{name!r} has shape {tuple(target.shape)} in the model and {tuple(source.shape)} in the copy.")
        pairs.append((target, source))
    for target, source in pairs:
        target.copy_(source)
    return model


def _module(model: nn.Module, path: str) -> nn.Module:
    """A module by its path, through wrappers."""
    for part in path.split(".") if path else ():
        model = unwrapped(model._modules[part])  # type: ignore[arg-type]
    return model
