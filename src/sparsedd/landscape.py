"""Landscape: loss, or any measure, at other weights than a model's own (He et al. 2022, A.5 and A.6).

A measure is any callable ``model -> value``. Every function here borrows the model: weights, gradients, buffers and modes are
given back bit for bit, also when the measure raises.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from sparsedd import _checks, _random, _restored
from sparsedd._parameters import abridge, check_present, drop_tied, modules, parameters, select
from sparsedd._shards import shard_like
from sparsedd._state import Weights, check_same, find_overwritten, is_float, read_tensors, resolve_names, write_

__all__ = ["ALPHAS", "at", "filter_normalized", "interpolate", "line", "random_direction", "sharpness"]

Model = TypeVar("Model", bound=nn.Module)
Value = TypeVar("Value")

#: α from 0 to 1 in steps of 0.01, as in the paper's interpolations.
ALPHAS: tuple[float, ...] = tuple(k / 100 for k in range(101))

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)  # their weights are (in, out, ...)


@contextmanager
def at(model: Model, weights: Weights) -> Iterator[Model]:
    """Give the model other weights inside a ``with`` block.

    Parameters
    ----------
    weights
        A model of the same kind, or name → tensor (a state dict): parameters and buffers. What is not named keeps its value.
        A tied weight may come under any of its names.

    Raises
    ------
    ValueError
        When a name or a shape is not the model's, or two names of one memory have different values; nothing has changed then.

    Examples
    --------
    >>> model = nn.Linear(2, 1)
    >>> before = model.weight.clone()
    >>> with at(model, {"weight": torch.zeros(1, 2)}):
    ...     model.weight.sum().item()
    0.0
    >>> torch.equal(model.weight, before)
    True
    """
    own = read_tensors(_checks.kind("model", model, nn.Module, "a torch.nn.Module"))
    given = resolve_names(model, weights)
    for name, tensor in given.items():
        if name not in own:
            raise ValueError(f"the model has no parameter or buffer {name!r}. It has {abridge(own)}.")
        if own[name].shape != tensor.shape:
            raise ValueError(f"{name!r} has shape {tuple(own[name].shape)} in the model, got {tuple(tensor.shape)}.")
    check_present({name: own[name] for name in given})
    given = {name: shard_like(tensor.detach().clone(), own[name]) for name, tensor in given.items()}  # it may be the model's
    with _restored.buffers(model), _restored.parameters(model), _restored.modes(model):  # which may write to weights
        for name, tensor in given.items():
            write_(name, own[name], tensor)
        if lost := find_overwritten(own, given):
            raise ValueError(f"{lost!r} shares memory with other weights, in another shape or order, that got other values.")
        yield model


def line(
    model: nn.Module,
    origin: Weights,
    direction: Mapping[str, Tensor],
    alphas: Iterable[float],
    measure: Callable[[nn.Module], Value],
) -> list[Value]:
    """Measure at ``origin + α · direction`` for every α.

    Parameters
    ----------
    model
        Whose forward pass it is; its own weights don't matter.
    origin
        The weights at α = 0, often the model itself.
    direction
        Name → tensor. What it does not name stays at the origin, and so do buffers of whole numbers.

    Examples
    --------
    >>> model = nn.Linear(1, 1, bias=False)
    >>> _ = nn.init.constant_(model.weight, 3.0)
    >>> line(model, model, {"weight": torch.ones(1, 1)}, [0, 0.5], lambda model: model.weight.item())
    [3.0, 3.5]
    """
    start = {name: tensor.detach().clone() for name, tensor in resolve_names(model, origin).items()}
    for name, tensor in (steps := resolve_names(model, direction)).items():
        if name not in start or start[name].shape != tensor.shape:
            has = f"{name!r} of shape {tuple(start[name].shape)}" if name in start else abridge(start)
            raise ValueError(f"direction names {name!r} of shape {tuple(tensor.shape)}; the origin has {has}.")
    steps = {n: shard_like(step.to(start[n].device), start[n]) for n, step in steps.items() if is_float(start[n])}
    points = (
        start | {name: torch.add(start[name], step, alpha=a) for name, step in steps.items()} for a in _check_alphas(alphas)
    )
    return _measure_along(model, points, measure)


def interpolate(
    model: nn.Module,
    start: Weights,
    end: Weights,
    measure: Callable[[nn.Module], Value],
    alphas: Iterable[float] = ALPHAS,
    recalibrate: Callable[[nn.Module], object] | None = None,
) -> list[Value]:
    """Measure at w(α) = (1 - α) w_start + α w_end for every α (Goodfellow and Vinyals 2015; He et al. 2022, A.5).

    Floating buffers are interpolated with the parameters, and others are those of the nearer end, so that both ends are
    exact.

    Parameters
    ----------
    model
        Whose forward pass it is; its own weights don't matter.
    start, end
        The weights at α = 0 and α = 1: models, or state dicts, with the same names.
    alphas
        101 points from 0 to 1 by default.
    recalibrate
        Called with the model at each α, before the measure. Interpolated BatchNorm statistics are those of no net on the
        way; ``lambda model: torch.optim.swa_utils.update_bn(batches, model)`` estimates them anew.

    Examples
    --------
    >>> ends = {"weight": torch.zeros(1, 1)}, {"weight": torch.ones(1, 1)}
    >>> interpolate(nn.Linear(1, 1, bias=False), *ends, lambda model: model.weight.item(), alphas=[0, 0.25, 1])
    [0.0, 0.25, 1.0]
    """
    starts, ends = ({n: t.detach().clone() for n, t in resolve_names(model, weights).items()} for weights in (start, end))
    check_same("start and end", starts, ends)
    _checks.function("measure", measure, "measure(model)")
    if recalibrate is not None:
        _checks.function("recalibrate", recalibrate, "recalibrate(model)")

    def recalibrate_and_measure(model: nn.Module) -> Value:
        if recalibrate is not None:
            recalibrate(model)
        return measure(model)

    points = ({n: _mix(starts[n], ends[n], alpha) for n in starts} for alpha in _check_alphas(alphas))
    return _measure_along(model, points, recalibrate_and_measure)


def random_direction(model: nn.Module, seed: int = 0, names: Iterable[str] | None = None) -> dict[str, Tensor]:
    """Draw a direction from N(0, 1), keyed by seed and name: equal on every device.

    Parameters
    ----------
    names
        The parameters to move; by default those of two or more dimensions. Biases and norm layers stay, as moving them
        changes the loss beyond all scale (Li et al. 2018).

    Examples
    --------
    >>> random_direction(nn.Linear(2, 1), seed=0)
    {'weight': tensor([[ 1.3799, -1.6516]])}
    """
    _checks.whole("seed", seed)
    chosen = drop_tied(select(model, parameters(model) if names is None else names))
    return {
        name: torch.from_numpy(_random.normal(("direction", seed, name), p.numel())).reshape(p.shape).to(p.device, p.dtype)
        for name, p in chosen.items()
        if names is not None or p.dim() >= 2
    }


@torch.no_grad()
def filter_normalized(direction: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Scale a direction so that each filter is as long as the model's: d_f ‖w_f‖ / ‖d_f‖ (Li et al. 2018; He et al. 2022, A.6).

    A filter is what makes one output: a row of a Linear, an output channel of a convolution. Of vectors it is each number.

    Examples
    --------
    >>> model = nn.Linear(2, 1)
    >>> _ = nn.init.constant_(model.weight, 2.0)
    >>> filter_normalized({"weight": torch.tensor([[0.0, -1.0]])}, model)
    {'weight': tensor([[ 0.0000, -2.8284]])}
    """
    steps = resolve_names(model, direction)
    transposed = {id(m.weight) for _, m in modules(model) if isinstance(m, TRANSPOSED)}
    scaled = {}
    for name, w in select(model, steps).items():
        d = shard_like(steps[name], w)
        if w.shape != d.shape:
            raise ValueError(f"direction has shape {tuple(d.shape)} for {name!r}, the model {tuple(w.shape)}.")
        axis = 1 if id(w) in transposed else 0
        scaled[name] = d * (_norms(w.detach(), axis) / _norms(d, axis)).nan_to_num(0.0, 0.0)
    return scaled


def sharpness(alphas: ArrayLike, losses: ArrayLike, *, radius: float = 0.5) -> float:
    """Measure how steeply the loss rises from a minimum: the mean of L(α) - L(0) over 0 < \\|α\\| ≤ radius and directions.

    Along filter-normalised directions α is relative to the size of the weights, so that nets of one architecture compare.

    Parameters
    ----------
    alphas
        (n,), 0 among them.
    losses
        (n,), or (directions, n), finite.
    radius
        How far from the minimum to look.

    Examples
    --------
    >>> sharpness([-0.5, 0, 0.5], [1.25, 1.0, 1.75])
    0.5
    """
    a, loss = _checks.numbers("alphas", alphas), np.atleast_2d(_checks.numbers("losses", losses))
    if a.ndim != 1 or loss.ndim != 2 or loss.shape[1:] != a.shape or not len(loss):
        raise ValueError(f"losses must have shape (directions, {a.size}) or ({a.size},) like alphas, got {loss.shape}.")
    _checks.number("radius", radius, above=0)
    centre = np.isclose(a, 0.0, atol=1e-12)  # what rounding leaves of a grid's middle
    near = (np.abs(a) <= radius * (1 + 1e-9)) & ~centre
    if not centre.any() or not near.any():
        raise ValueError(f"alphas must hold 0 and others within {radius:g} of it, got {abridge(a.tolist())}.")
    if not np.isfinite(loss).all():
        raise ValueError(f"losses must be finite, got {loss[~np.isfinite(loss)][0]}: take a smaller range of alphas.")
    return float((loss[:, near].mean(axis=1) - loss[:, centre].mean(axis=1)).mean())


def _measure_along(model: nn.Module, points: Iterable[Weights], measure: Callable[[nn.Module], Value]) -> list[Value]:
    _checks.function("measure", measure, "measure(model)")
    values = []
    for point in points:
        with at(model, point):
            values.append(measure(model))
    return values


def _check_alphas(alphas: Iterable[float]) -> list[float]:
    return [_checks.number("alpha", alpha) for alpha in _checks.kind("alphas", alphas, Iterable, "a list of numbers")]


def _mix(a: Tensor, b: Tensor, alpha: float) -> Tensor:
    if alpha in (0, 1) or not is_float(a):
        return a if alpha < 0.5 else b
    return torch.lerp(a, shard_like(b.to(a.device, a.dtype), a), alpha)


def _norms(tensor: Tensor, axis: int) -> Tensor:
    """Return the norm of each slice along an axis, in a shape that multiplies with the tensor."""
    if tensor.dim() < 2:
        return tensor.abs()
    others = [d for d in range(tensor.dim()) if d != axis]
    norms: Tensor = torch.linalg.vector_norm(tensor, dim=others, keepdim=True)
    return norms
