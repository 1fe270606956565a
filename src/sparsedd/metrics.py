"""Measures of a model: plain functions of models, tensors and batches."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.parameter import is_lazy

from sparsedd import _checks, _restored
from sparsedd._ambient import exact_on
from sparsedd._bits import slice_size
from sparsedd._entropy import activation_entropy
from sparsedd._parameters import (
    check_present,
    drop_tied,
    find_computed,
    find_names,
    join,
    memory_key,
    modules,
    parameters,
    select,
)
from sparsedd._prunable import select_prunable
from sparsedd._shards import Place, is_sharded, local, sum_over, take_part
from sparsedd._state import Weights, check_same, find_first_names, is_weight, read_tensors, resolve_names
from sparsedd.noise import INTEGERS, check_range

__all__ = [
    "Evaluation",
    "accuracy",
    "activation_entropy",
    "evaluate",
    "generalization_gap",
    "learning_distance",
    "margins",
    "sparsity",
]

NORMS = (nn.LayerNorm, nn.RMSNorm)  # those whose weights may have two or more dimensions


@dataclass(frozen=True)
class Evaluation:
    """Mean loss and accuracy over n samples."""

    loss: float
    accuracy: float
    n: int


@torch.no_grad()
def learning_distance(start: Weights, end: Weights, names: Iterable[str] | None = None) -> float:
    r"""Measure how far training went: D = ‖w_init - w_learned‖₂, pruned weights counted as zero (He et al. 2022, 3.2).

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
    model = next((weights for weights in (end, start) if isinstance(weights, nn.Module)), None)
    starts, ends = _read_pair(start, end, names) if model is None else (_read(w, model, names) for w in (start, end))
    check_same("start and end", starts, ends)
    if not ends:
        raise ValueError("there are no weights to measure, got no tensor of two or more dimensions: pass names=.")
    squares: list[float] = []
    places: list[Place] = []
    rooms = _Rooms(max(local(b).numel() for b in ends.values()))
    apart = {(memory_key(starts[name]), memory_key(b)): name for name, b in ends.items()}  # what is tied in both counts once
    for name in apart.values():
        like = ends[name] if is_sharded(ends[name]) else starts[name]
        a, b = (take_part(weights[name].detach(), like) for weights in (starts, ends))
        b = b.to(exact_on(b.device))
        squares.append(_sum_squares(a, b, rooms))
        places.append(Place.of(like))
    return math.sqrt(sum_over(squares, places))


class _Rooms(dict[torch.device, Tensor]):
    """Room for as many numbers on each device: what is written to at once costs less than what is made anew."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __missing__(self, device: torch.device) -> Tensor:
        return self.setdefault(device, torch.empty(self.size, dtype=torch.float64, device=device))


def _sum_squares(a: Tensor, b: Tensor, rooms: _Rooms) -> float:
    """Compute Σ |a - b|² in float64, in one sum over the whole tensor: sums of slices would round otherwise."""
    if not all(t.layout is torch.strided and t.is_contiguous() and not t.is_complex() for t in (a, b)):
        wide = torch.complex128 if b.is_complex() else torch.float64
        return float((a.to(b.device, wide) - b.to(wide)).abs().square().sum())
    squares, size = rooms[b.device][: b.numel()], slice_size(b)
    for x, y, out in zip(a.view(-1).split(size), b.view(-1).split(size), squares.split(size), strict=True):
        out.copy_(x).sub_(y).square_()
    return float(squares.sum())


def _read(weights: Weights, model: nn.Module, names: Iterable[str] | None) -> Mapping[str, Tensor]:
    """Return the weights to count of a model, tied ones once, or those that a state dict has of them; it may hold more."""
    if isinstance(weights, nn.Module):
        return check_present(drop_tied(select(weights, _find_weights(weights) if names is None else names)))
    found, first = resolve_names(model, weights), find_first_names(model)
    return {n: found[first[n]] for n in _read(model, model, names) if first[n] in found}


def _read_pair(start: Weights, end: Weights, names: Iterable[str] | None) -> list[dict[str, Tensor]]:
    """Return the weights to count of two state dicts, under the names of the first."""
    like = read_tensors(start)
    wanted = None if names is None else set(find_names(names, like, "start"))
    return [
        {n: t for n, t in state.items() if (is_weight(n, t) if wanted is None else n in wanted)}
        for state in (like, read_tensors(end, like))
    ]


def _find_weights(model: nn.Module) -> list[str]:
    """Return the names of a model's weights, those of norm layers left out."""
    without = set()
    for prefix, module in modules(model):
        if isinstance(module, NORMS):
            without |= {join(prefix, name) for name in module._parameters}
        for name in find_computed(module):
            raise ValueError(
                f"{join(prefix, name)!r} is computed from other parameters, by a parametrization: their distance is not that "
                "of the weights. Give the weights themselves, name → tensor, as start and end, or others as names."
            )
    return [n for n, p in parameters(model).items() if n not in without and (is_lazy(p) or is_weight(n, p))]


def evaluate(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy,
) -> Evaluation:
    """Measure mean loss and accuracy over batches of (inputs (b, ...), targets (b,)), each sample counted once.

    The model runs in evaluation mode without gradients; every module is switched back by its own ``train`` or ``eval``, and
    the buffers and the global generators, from which a ``DataLoader`` draws, are left as they were.

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
    _checks.function("loss", loss, "loss(logits, targets)")
    losses: list[Tensor] = []
    sizes: list[int] = []
    correct = torch.zeros((), dtype=torch.int64, device="cpu")
    with _restored.outputs(model, batches) as outputs:
        for output, targets in outputs:
            logits = _check_logits("evaluate", output, targets)
            mean = _checks.loss(loss, logits, targets)
            losses.append(mean if isinstance(mean, Tensor) else torch.tensor(mean, dtype=torch.float64, device="cpu"))
            if losses[-1].dim():
                raise ValueError(f"loss must give the mean over the batch, got a tensor of shape {tuple(mean.shape)}.")
            sizes.append(len(targets))
            correct = correct.to(logits.device) + (logits.contiguous().argmax(dim=1) == targets).sum()
    if not (n := sum(sizes)):
        raise ValueError("evaluate needs at least one sample, got none: is the iterator used up?")
    total_loss = 0.0
    for value, size in zip(torch.stack(losses).tolist(), sizes, strict=True):  # in the order of the batches
        total_loss += value * size
    return Evaluation(loss=total_loss / n, accuracy=int(correct) / n, n=n)


def margins(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    r"""Measure by how much each sample is right: the logit of its label less the highest other one.

    m = z_y - max_{c ≠ y} z_c is above zero where the sample is classified as its label says. The model runs as in
    :func:`evaluate`.

    Returns
    -------
    Tensor
        (n,), on the CPU, in the order of the batches; float64 where the logits are, else float32.

    Raises
    ------
    ValueError
        When there are no samples, or fewer than two classes.
    TypeError
        When the model returns anything else than a tensor of dense, real logits, or the targets are no classes.

    Notes
    -----
    To compare the margins of levels sample by sample, all must see the same order: a ``DataLoader`` that shuffles draws another
    one each time.

    Examples
    --------
    >>> logits = torch.tensor([[0.0, 9.0, 1.0], [0.0, 9.0, 1.0]])
    >>> margins(nn.Identity(), [(logits, torch.tensor([1, 2]))])
    tensor([ 8., -8.])

    Of every level of a sweep that keeps the weights of all, ``keep="all"``, as it does unless told otherwise:

    >>> import tempfile
    >>> from sparsedd import Sweep, landscape
    >>> model, batches = nn.Linear(3, 3), [(logits, torch.tensor([1, 2]))]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for level in (sweep := Sweep(folder, model, levels=2)):
    ...         record = level.record()
    ...     for record in sweep.records:
    ...         with landscape.at(model, sweep.weights(record.level)):
    ...             print(record.level, margins(model, batches).shape)
    0 torch.Size([2])
    1 torch.Size([2])
    """
    found = []
    with _restored.outputs(model, batches) as outputs:
        for output, targets in outputs:
            logits = _check_logits("margins", output, targets)
            if logits.is_complex() or logits.layout is not torch.strided:
                raise TypeError(f"margins needs dense, real logits, got {logits.dtype} of layout {logits.layout}.")
            if targets.dtype not in INTEGERS:
                raise TypeError(f"targets must be classes of type torch.int64, got {targets.dtype}: use targets.long().")
            if logits.shape[1] < 2:
                raise ValueError(f"margins needs the logits of two classes or more, got {tuple(logits.shape)}.")
            check_range("targets", targets, logits.shape[1])
            logits, label = logits if logits.dtype == torch.float64 else logits.float(), targets.long()[:, None]
            others = logits.scatter(1, label, -math.inf).amax(dim=1)
            found.append((logits.gather(1, label)[:, 0] - others).cpu())
    if not found:
        raise ValueError("margins needs at least one sample, got none: is the iterator used up?")
    return torch.cat(found)


def _check_logits(what: str, output: object, targets: Tensor) -> Tensor:
    logits = _checks.output(output)
    if logits.dim() != 2 or targets.shape != logits.shape[:1]:
        raise ValueError(f"{what} takes (b, C) logits and (b,) targets, got {tuple(logits.shape)} and {tuple(targets.shape)}.")
    return logits


def accuracy(logits: Tensor, targets: Tensor) -> float:
    """Return the share of rows of ``logits`` (n, C) whose largest entry is at ``targets`` (n,).

    >>> accuracy(torch.tensor([[0.1, 0.9], [0.8, 0.2]]), torch.tensor([1, 1]))
    0.5
    """
    for name, value in (("logits", logits), ("targets", targets)):
        _checks.kind(name, value, Tensor, "a tensor")
    if logits.dim() != 2 or targets.shape != logits.shape[:1] or not len(targets):
        raise ValueError(f"accuracy takes (n, C) logits and (n,) targets, got {tuple(logits.shape)}, {tuple(targets.shape)}.")
    return int((logits.argmax(dim=1) == targets).sum()) / len(targets)


def generalization_gap(train: Evaluation | float, test: Evaluation | float) -> float:
    """Return test error - train error = train accuracy - test accuracy (He et al. 2022, Fig. 32).

    >>> generalization_gap(1.0, 0.75)
    0.25
    """
    pair = (("train", train), ("test", test))
    a, b = (e.accuracy if isinstance(e, Evaluation) else float(_checks.share(name, e, one=True)) for name, e in pair)
    return a - b


def sparsity(model: nn.Module, names: Iterable[str] | None = None) -> float:
    """Return the share of exact zeros among the prunable weights, or those of ``names``.

    >>> sparsity(nn.utils.skip_init(nn.Linear, 2, 2).requires_grad_(False).apply(lambda m: m.weight.zero_()))
    1.0
    """
    chosen = check_present(select_prunable(model, names))
    zeros = sum_over([int((local(p) == 0).sum()) for p in chosen.values()], [Place.of(p) for p in chosen.values()])
    return int(zeros) / max(sum(p.numel() for p in chosen.values()), 1)
