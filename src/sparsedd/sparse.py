"""Sparse execution: linear layers at the cost of their surviving weights.

A row of y = W x is a weighted sum of the few rows of x that it has weights for, which is what ``torch.embedding_bag`` computes:
twice as fast on a CPU as ``torch.sparse``'s product. The weights' gradient is a product sampled at the kept places.
Results equal those of the dense layers up to float rounding. Activations are kept feature-major, (features, batch) in memory,
which suits both.
"""

import hashlib
import warnings
from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from sparsedd import _checks
from sparsedd._mask import Mask
from sparsedd._match import match
from sparsedd._parameters import check_undivided, has_hooks, memory_key, modules, parameters, unwrap
from sparsedd._state import read_tensors

__all__ = ["BELOW", "SparseLinear", "compact", "expand_"]

Model = TypeVar("Model", bound=nn.Module)

#: The density under which a layer trains faster in sparse form on the CPUs measured, see ``benchmarks/sparse.py``.
BELOW = 0.35
SAMPLED = 0.2  # the density below which sampling the product is faster than choosing from all of it

with warnings.catch_warnings():  # torch says once that CSR is in beta: here, since all threads share the filters
    warnings.simplefilter("ignore")
    torch.zeros(1, 1, device="cpu").to_sparse_csr()


class SparseLinear(nn.Module):
    """y = W x + b with only the kept weights of W, as a vector of parameters in the order of their places.

    Parameters
    ----------
    linear
        The layer whose weights are taken.
    keep
        Bool, of the weight's shape.

    Notes
    -----
    It has first derivatives only.
    """

    def __init__(self, linear: nn.Linear, keep: Tensor) -> None:
        super().__init__()
        _checks.kind("linear", linear, nn.Linear, "a torch.nn.Linear")
        _checks.kind("keep", keep, Tensor, "a bool tensor")
        if keep.dtype != torch.bool or keep.shape != linear.weight.shape:
            raise ValueError(
                f"keep must be bool, of shape {tuple(linear.weight.shape)}, got {keep.dtype}, {tuple(keep.shape)}."
            )
        self.shape: torch.Size = linear.weight.shape
        self.digest: Tensor = nn.Buffer(_digest(keep).to(keep.device))  # of the kept places: values belong to these alone
        self.values: nn.Parameter = nn.Parameter(linear.weight.detach()[keep], linear.weight.requires_grad)
        bias = linear.bias
        self.bias: nn.Parameter | None = None if bias is None else nn.Parameter(bias.detach().clone(), bias.requires_grad)
        self.train(linear.training)
        rows, columns = keep.nonzero(as_tuple=True)  # the values are in this order
        by_column = columns.argsort(stable=True)
        self.row_starts: Tensor = nn.Buffer(_starts(rows, keep.shape[0]).int(), persistent=False)
        self.columns: Tensor = nn.Buffer(columns.int(), persistent=False)
        self.column_starts: Tensor = nn.Buffer(_starts(columns, keep.shape[1]).int(), persistent=False)
        self.rows: Tensor = nn.Buffer(rows[by_column].int(), persistent=False)
        self.by_column: Tensor = nn.Buffer(by_column.int(), persistent=False)
        self.places: Tensor = nn.Buffer(self._places() if self.density >= SAMPLED else columns[:0], persistent=False)

    @property
    def density(self) -> float:
        """Share of the weights that is kept."""
        return len(self.values) / max(1, self.shape.numel())

    @property
    def weight(self) -> Tensor:
        """The weights (out, in) as a dense tensor made anew, for modules that read their layers' weights."""
        flat = self.values.new_zeros(self.shape.numel())
        return flat.index_put((self._places(),), self.values).view(self.shape)

    @property
    def in_features(self) -> int:
        """Number of inputs of a sample."""
        return self.shape[1]

    @property
    def out_features(self) -> int:
        """Number of outputs of a sample."""
        return self.shape[0]

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        *_, errors = rest
        digest = state.get(f"{prefix}digest")
        if isinstance(digest, Tensor) and not torch.equal(digest.cpu(), self.digest.cpu()):
            errors.append(f"{prefix}values are of a layer that keeps other weights: it was made with another mask.")
        else:
            super()._load_from_state_dict(state, prefix, *rest)

    def extra_repr(self) -> str:
        return f"{self.shape[1]} to {self.shape[0]} features, {self.density:.2%} of the weights"

    def forward(self, x: Tensor) -> Tensor:
        """Compute outputs (..., out) from inputs (..., in)."""
        if _checks.kind("inputs", x, Tensor, "a tensor").shape[-1:] != self.shape[1:]:
            width = x.shape[-1] if x.dim() else 1
            raise ValueError(f"a layer of {self.shape[1]} inputs got {width}: its inputs have shape {tuple(x.shape)}.")
        with _without_autocast(x.device.type):
            flat = x.reshape(-1, self.shape[1]).to(self.values.dtype)
            y: Tensor = _Linear.apply(flat, self.values, self.bias, self)
        return y.reshape(*x.shape[:-1], self.shape[0])

    def narrow_(self) -> Tensor:
        """Drop the inputs that no weight looks at: take (..., n) from now on, and return the indices (n,) of those n.

        >>> keep = torch.tensor([[False, True, False, True]])
        >>> SparseLinear(nn.Linear(4, 1), keep).narrow_()
        tensor([1, 3])
        """
        live = self.column_starts.diff().nonzero().flatten()
        self.columns = torch.searchsorted(live, self.columns.long()).int()
        self.column_starts = torch.cat([self.column_starts[live], self.column_starts[-1:]])
        self.shape = torch.Size([self.shape[0], len(live)])
        self.places = self._places() if len(self.places) else self.places
        return live

    def _places(self) -> Tensor:
        """Return the places of the kept weights in the flattened matrix."""
        rows = torch.arange(self.shape[0], device=self.columns.device).repeat_interleave(self.row_starts.diff())
        return rows * self.shape[1] + self.columns

    # The three products, all feature-major: x (in, b), y and g = ∂L/∂y (out, b).

    def product(self, x: Tensor, values: Tensor) -> Tensor:
        """Compute W x for the weights in ``values``."""
        return _weighted_sums(x, values, self.columns, self.row_starts)

    def adjoint(self, g: Tensor, values: Tensor) -> Tensor:
        """Compute Wᵀ g = ∂L/∂x."""
        return _weighted_sums(g, values.index_select(0, self.by_column), self.rows, self.column_starts)

    def sampled(self, g: Tensor, x: Tensor, pattern: Tensor | None = None) -> Tensor:
        """Compute g xᵀ at the kept places: ∂L/∂values; who does it again and again has made the pattern once."""
        if len(self.places):
            return (g @ x.t()).flatten().index_select(0, self.places)
        pattern = self._pattern() if pattern is None else pattern
        sampled: Tensor = torch.sparse.sampled_addmm(pattern, g, x.t(), beta=0.0)
        return sampled.values()

    def _pattern(self) -> Tensor:
        """Return the kept places as a CSR matrix of zeros."""
        zeros = torch.zeros_like(self.values, requires_grad=False)
        return torch.sparse_csr_tensor(self.row_starts, self.columns, zeros, self.shape, check_invariants=False)


class _Linear(torch.autograd.Function):
    """x (b, in), values, bias → x Wᵀ + bias (b, out), whose memory is feature-major."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, values: Tensor, bias: Tensor | None, layer: SparseLinear) -> Tensor:
        xt = x.t().contiguous()
        ctx.save_for_backward(xt, values)
        ctx.layer = layer
        yt = layer.product(xt, values)
        return (yt if bias is None else yt.add_(bias[:, None])).t()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        xt, values = ctx.saved_tensors
        layer: SparseLinear = ctx.layer
        gt = gradient.t().contiguous()
        with _without_autocast(gt.device.type):
            grad_x = layer.adjoint(gt, values).t() if ctx.needs_input_grad[0] else None
            grad_values = layer.sampled(gt, xt) if ctx.needs_input_grad[1] else None
            grad_bias = gt.sum(dim=1) if ctx.needs_input_grad[2] else None
        return grad_x, grad_values, grad_bias, None


def _without_autocast(kind: str) -> AbstractContextManager[object]:
    """Return a block without autocast on a kind of device; to enter torch's takes as long as a small product."""
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()


def _weighted_sums(table: Tensor, weights: Tensor, index: Tensor, starts: Tensor) -> Tensor:
    """Sum, for each row i, weights[k] · table[index[k]] over k from starts[i] up to starts[i + 1]."""
    mode_sum, include_last = 0, True
    weights = weights.detach()  # else torch prepares a backward pass that nobody will ask for
    sums: Tensor = torch.embedding_bag(table, index, starts, False, mode_sum, False, weights, include_last)[0]
    return sums


def _digest(keep: Tensor) -> Tensor:
    """Return the SHA-256 of the kept places, (32,) uint8."""
    bits = repr(tuple(keep.shape)).encode() + np.packbits(keep.cpu().numpy()).tobytes()
    return torch.tensor(list(hashlib.sha256(bits).digest()), dtype=torch.uint8, device="cpu")


def _starts(rows: Tensor, count: int) -> Tensor:
    """Return where each row of a CSR matrix starts among its values."""
    return torch.cat([rows.new_zeros(1), rows.bincount(minlength=count).cumsum(0)])


def compact(model: Model, mask: Mask, *, below: float = BELOW) -> tuple[Model, Mask | None]:
    """Copy a model with every masked Linear of a density under ``below`` as a :class:`SparseLinear`.

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
    found = match(_checks.kind("mask", mask, Mask, "a Mask"), model)  # another model raises
    check_undivided({name: p for name, (p, _) in found.items()})
    if not _checks.real("below", below) >= 0:
        raise ValueError(f"below must be a density of at least 0, got {below}.")
    fast: Any = mask.apply_(deepcopy(unwrap(model)))
    uses = Counter(map(id, parameters(fast).values()))
    if len(uses) > len(Counter(map(memory_key, parameters(model).values()))):
        raise ValueError("two Parameters of the model share memory, and those of a copy would not: tie them by one Parameter.")
    rest = {}
    for name in mask:
        path, _, leaf = name.rpartition(".")
        layer, keep = _find_module(fast, path), mask[name]
        if (
            not isinstance(layer, nn.Linear)
            or type(layer) is not nn.Linear  # a subclass may compute something else
            or leaf != "weight"
            or has_hooks(layer)
            or any(uses[id(p)] > 1 for p in layer.parameters())  # tied parameters must stay one tensor
            or layer.weight.dtype not in (torch.float32, torch.float64)
            or not 0 < float(keep.float().mean()) < below
        ):
            rest[name] = mask._bits[name]
            continue
        sparse_layer = SparseLinear(layer, keep.to(layer.weight.device))
        if not path:
            return sparse_layer, None  # type: ignore[return-value]
        parent, _, child = path.rpartition(".")
        setattr(_find_module(fast, parent), child, sparse_layer)
    return fast, Mask._of(rest) if rest else None


@torch.no_grad()
def expand_(model: Model, fast: nn.Module, mask: Mask) -> Model:
    """Copy the weights and buffers of a :func:`compact` copy back into the model it came from; pruned weights are +0.0.

    Raises
    ------
    ValueError
        When model, copy and mask do not belong together; the model is as it was.
    """
    for name, module in (("model", model), ("fast", fast)):
        _checks.kind(name, module, nn.Module, "a torch.nn.Module")
    _checks.kind("mask", mask, Mask, "a Mask")
    copied = read_tensors(fast)
    layers = {path: layer for path, layer in modules(fast) if isinstance(layer, SparseLinear)}
    pairs: list[tuple[Tensor, Tensor]] = []
    for name, target in read_tensors(model).items():
        path, _, leaf = name.rpartition(".")
        keep = mask[name].to(target.device) if name in mask else None
        if leaf == "weight" and (layer := layers.get(path)) is not None:
            if keep is None or not torch.equal(layer.digest.cpu(), _digest(keep)):
                raise ValueError(
                    f"the copy keeps other weights of {name!r} than the mask: it was not made of this model and mask."
                )
            source = torch.zeros_like(target).masked_scatter_(keep, layer.values.to(target))
        elif name in copied:
            source = copied[name] if keep is None else copied[name].masked_fill(~keep.to(copied[name].device), 0)
        else:
            raise ValueError(f"the copy has no weights for {name!r}: it was not made of this model and mask.")
        if source.shape != target.shape:
            raise ValueError(f"{name!r} has shape {tuple(target.shape)} in the model and {tuple(source.shape)} in the copy.")
        pairs.append((target, source))
    for target, source in pairs:
        target.copy_(source)
    return model


def _find_module(model: nn.Module, path: str) -> nn.Module:
    """Find a module by its path, through wrappers."""
    for part in path.split(".") if path else ():
        model = unwrap(model._modules[part])  # type: ignore[arg-type]
    return model
