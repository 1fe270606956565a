"""Measures of a model: plain functions of models, tensors and batches."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.parameter import is_lazy

from sparsedd import _checks, _random, _restored
from sparsedd._parameters import (
    computed,
    fit,
    joined,
    listed,
    memory,
    modules,
    once,
    parameters,
    plain,
    present,
    select,
    strings,
    undivided,
)
from sparsedd._prunable import prunable
from sparsedd._state import Weights, check_same, first_names, resolve, tensors

__all__ = ["Evaluation", "accuracy", "evaluate", "generalization_gap", "learning_distance", "sparsity"]

NORMS = (nn.LayerNorm, nn.RMSNorm)  # those whose weights may have two or more dimensions


@dataclass(frozen=True)
class Evaluation:
    """Mean loss and accuracy over n samples."""

    loss: float
    accuracy: float
    n: int


@torch.no_grad()
def learning_distance(start: Weights, end: Weights, names: Iterable[str] | None = None) -> float:
    r"""How far training went: D = ‖w_init - w_learned‖₂, pruned weights counted as zero (He et al. 2022, 3.2).

    Summed in float64 over every weight tensor (two or more dimensions; no biases, no norm layers), a model's tied ones once.

    Parameters
    ----------
    start, end
        A model, or parameter name → tensor (a state dict). The paper's start is the original dense initialisation.
    names
        The parameters to count instead.

    Raises
    ------
    ValueError
        When the two do not have the same weights, or one is computed from others by a parametrization; the message names it.

    Examples
    --------
    >>> learning_distance({"w": torch.zeros(2, 2)}, {"w": torch.ones(2, 2)})
    2.0
    """
    starts: Mapping[str, Tensor]
    ends: Mapping[str, Tensor]
    if isinstance(end, nn.Module):
        ends = _counted(end, names)
        starts = _counted(start, names) if isinstance(start, nn.Module) else _of(start, end, ends)
    elif isinstance(start, nn.Module):
        starts = _counted(start, names)
        ends = _of(end, start, starts)
    else:
        both = tensors(start)
        starts, ends = _chosen(both, both, names), _chosen(tensors(end, both), both, names)
    check_same(starts, ends)
    if not ends:
        raise ValueError("there are no weights to measure, got no tensor of two or more dimensions: pass names=.")
    total = 0.0
    apart = {(memory(starts[name]), memory(b)): name for name, b in ends.items()}  # what is tied in both counts once
    for name in apart.values():
        b = ends[name]
        wide = torch.complex128 if b.is_complex() else torch.float64
        total += float((starts[name].detach().to(b.device, wide) - b.detach().to(wide)).abs().square().sum())
    return math.sqrt(total)


def _counted(model: nn.Module, names: Iterable[str] | None) -> dict[str, nn.Parameter]:
    """Return the model's weights, tied ones once, or those of the names."""
    return present(once(undivided(select(model, _weight_names(model) if names is None else names))))


def _of(state: Mapping[str, Tensor], model: nn.Module, counted: Collection[str]) -> dict[str, Tensor]:
    """Return what a state dict holds of weights that are counted in the model; it may hold more."""
    found, first = resolve(model, state), first_names(model)
    return undivided({name: found[first[name]] for name in counted if first[name] in found})


def _chosen(state: Mapping[str, Tensor], other: Mapping[str, Tensor], names: Iterable[str] | None) -> dict[str, Tensor]:
    """Return the weights of a state dict, or those of the names, as the other state dict has them."""
    if names is None:
        named = {name: t for name, t in state.items() if t.dim() >= 2 and (t.is_floating_point() or t.is_complex())}
        return undivided({name: tensor for name, tensor in named.items() if not _is_bias(name)})
    wanted = [fit(plain(name), other) for name in strings("names", names)]
    for name in wanted:
        if name not in state:
            raise ValueError(f"there are no weights named {name!r}. There are {listed(state)}.")
    return undivided({name: state[name] for name in wanted})


def _weight_names(model: nn.Module) -> list[str]:
    """Return the names of a model's weights."""
    without = set()
    for prefix, module in modules(model):
        if isinstance(module, NORMS):
            without |= {joined(prefix, name) for name in module._parameters}
        for name in computed(module):
            raise ValueError(
                f"{joined(prefix, name)!r} is computed from other parameters, by a parametrization: their distance is not that "
                "of the weights. Give the weights themselves, name → tensor, as start and end, or others as names."
            )
    every = parameters(model).items()
    return [n for n, p in every if n not in without and (is_lazy(p) or (p.dim() >= 2 and not _is_bias(n)))]


def _is_bias(name: str) -> bool:
    return "bias" in name.rpartition(".")[2]


def evaluate(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy,
) -> Evaluation:
    """Mean loss and accuracy over batches of (inputs (b, ...), targets (b,)), each sample counted once.

    The model runs in evaluation mode without gradients; every module is switched back by its own ``train`` or ``eval``, and
    the global generators, from which a ``DataLoader`` draws, are left as they were.

    Parameters
    ----------
    loss
        ``(logits (b, C), targets (b,)) -> mean over the batch``.

    Raises
    ------
    ValueError
        When there are no samples.
    TypeError
        When the model returns anything else than a tensor of logits, as those of Hugging Face do.

    Examples
    --------
    >>> evaluate(nn.Identity(), [(torch.tensor([[0.0, 9.0], [0.0, 9.0]]), torch.tensor([1, 0]))]).accuracy
    0.5
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}.")
    _checks.called("loss", loss, "loss(logits, targets)")
    device = next((p.device for p in model.parameters()), None)
    total_loss, correct = (torch.zeros((), dtype=dtype, device="cpu") for dtype in (torch.float64, torch.int64))
    n = 0
    with _restored.modes(model), _random.untouched(), torch.no_grad():
        model.eval()
        for inputs, targets in _checks.pairs(batches):
            inputs, targets = inputs.to(device), targets.to(device)
            logits = _checks.output(model(inputs))
            if logits.dim() != 2 or targets.shape != logits.shape[:1]:
                raise ValueError(
                    f"evaluate takes (b, C) logits and (b,) targets, got {tuple(logits.shape)} and {tuple(targets.shape)}."
                )
            mean = torch.as_tensor(_checks.loss(loss, logits, targets), dtype=torch.float64, device=logits.device)
            if mean.dim():
                raise ValueError(f"loss must give the mean over the batch, got a tensor of shape {tuple(mean.shape)}.")
            total_loss = total_loss.to(logits.device) + mean * len(targets)
            correct = correct.to(logits.device) + (logits.contiguous().argmax(dim=1) == targets).sum()
            n += len(targets)
    if not n:
        raise ValueError("evaluate needs at least one sample, got none: is the iterator used up?")
    return Evaluation(loss=float(total_loss) / n, accuracy=int(correct) / n, n=n)


def accuracy(logits: Tensor, targets: Tensor) -> float:
    """The share of rows of ``logits`` (n, C) whose largest entry is at ``targets`` (n,).

    >>> accuracy(torch.tensor([[0.1, 0.9], [0.8, 0.2]]), torch.tensor([1, 1]))
    0.5
    """
    for name, value in (("logits", logits), ("targets", targets)):
        _checks.kind(name, value, Tensor, "a tensor")
    if logits.dim() != 2 or targets.shape != logits.shape[:1] or not len(targets):
        raise ValueError(f"accuracy takes (n, C) logits and (n,) targets, got {tuple(logits.shape)}, {tuple(targets.shape)}.")
    return float((logits.argmax(dim=1) == targets).double().mean())


def generalization_gap(train: Evaluation | float, test: Evaluation | float) -> float:
    """Test error - train error = train accuracy - test accuracy (He et al. 2022, Fig. 32).

    >>> generalization_gap(1.0, 0.75)
    0.25
    """
    a, b = (
        e.accuracy if isinstance(e, Evaluation) else float(_checks.share(name, e, one=True))
        for name, e in (("train", train), ("test", test))
    )
    return a - b


def sparsity(model: nn.Module, names: Iterable[str] | None = None) -> float:
    """The share of exact zeros among the prunable weights, or those of ``names``.

    >>> sparsity(nn.utils.skip_init(nn.Linear, 2, 2).requires_grad_(False).apply(lambda m: m.weight.zero_()))
    1.0
    """
    chosen = present(once(select(model, prunable(model) if names is None else names)))
    return sum(int((p == 0).sum()) for p in chosen.values()) / max(sum(p.numel() for p in chosen.values()), 1)
