"""Scores: how important each weight is. The lowest are pruned first.

A score is any callable ``(name, parameter) -> tensor`` of the parameter's shape, in float32 or wider, that gives the same
answer when it is asked twice. These three are the paper's (He et al. 2022, A.1).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sparsedd import _checks, _random, _restored
from sparsedd._ambient import exact_on
from sparsedd._parameters import drop_tied, parameters
from sparsedd._shards import Place, is_sharded, local, wrap_like

__all__ = ["Score", "accumulate_", "gradient", "magnitude", "random"]

Score: TypeAlias = Callable[[str, nn.Parameter], Tensor]
Model = TypeVar("Model", bound=nn.Module)


def magnitude(name: str, parameter: nn.Parameter) -> Tensor:
    """Score by ``|w|``, the weight's magnitude (Han et al. 2015; He et al. 2022, A.1).

    >>> magnitude("w", nn.Parameter(torch.tensor([-2.0, 1.0])))
    tensor([2., 1.])
    """
    return _wide(_checks.kind(repr(name), parameter, Tensor, "a tensor").detach()).abs()


def gradient(name: str, parameter: nn.Parameter) -> Tensor:
    """Score by ``|w · ∂L/∂w|``, the change of the loss to first order (Lee et al. 2019; He et al. 2022, A.1). Reads ``.grad``.

    Of a complex weight it is ``|Re(w · conj(∂L/∂w))|``.

    Raises
    ------
    RuntimeError
        When the parameter has no gradient: :func:`accumulate_` fills it, unless it is frozen.

    Examples
    --------
    >>> w = nn.Parameter(torch.tensor([-2.0, 1.0]))
    >>> w.grad = torch.tensor([0.5, 3.0])
    >>> gradient("w", w)
    tensor([1., 3.])
    """
    _checks.kind(repr(name), parameter, Tensor, "a tensor")
    if parameter.grad is None:
        way = "call loss.backward(), or sparsedd.scores.accumulate_(model, batches, loss), before pruning"
        if not parameter.requires_grad:
            way = "it is frozen, so leave it out of the mask (prunable(model, exclude=...)), or score by magnitude"
        raise RuntimeError(f"{name!r} has no gradient to score with: {way}.")
    grad = parameter.grad.to_dense() if parameter.grad.is_sparse else parameter.grad
    change = _wide(parameter.detach()) * _wide(grad).conj()
    return change.real.abs() if change.is_complex() else change.abs()


def random(seed: int) -> Score:
    """Score by U[0, 1) draws, keyed by seed and parameter name: independent between layers, equal on every device.

    One seed ranks the weights once and for all, so that successive levels go on where the last one stopped.

    >>> score = random(seed=0)
    >>> score("w", nn.Parameter(torch.zeros(2)))
    tensor([0.8763, 0.5126], dtype=torch.float64)
    """
    return _Random(_checks.whole("seed", seed))


@dataclass(frozen=True)
class _Random:
    seed: int

    def __call__(self, name: str, parameter: nn.Parameter) -> Tensor:
        _checks.kind(repr(name), parameter, Tensor, "a tensor")
        place = Place.of(parameter)
        draws = [self.draw(name, n, start) for start, n in place.runs()]
        every = draws[0] if len(draws) == 1 else np.concatenate(draws)
        part = torch.from_numpy(every).reshape(place.size).to(exact_on(local(parameter).device))
        return wrap_like(part, parameter) if is_sharded(parameter) else part

    def draw(self, name: str, n: int, start: int = 0) -> NDArray[np.float64]:
        """Return the scores of n weights of a parameter, from a position on."""
        return _random.uniform(("random score", self.seed, name), n, start)

    def __repr__(self) -> str:
        return f"random(seed={self.seed})"


def accumulate_(model: Model, batches: Iterable[tuple[Tensor, Tensor]], loss: Callable[[Tensor, Tensor], Tensor]) -> Model:
    """Fill ``.grad`` with the mean over the batches of the gradient of ``loss(model(inputs), targets)``.

    The model runs in training mode, as in the paper, but its mode, its buffers (BatchNorm's statistics) and the global
    generators (Dropout's) are given back as they were. After an error its gradients are as they were, too.

    Raises
    ------
    ValueError
        When there are no batches.

    Examples
    --------
    >>> model = nn.Linear(1, 1, bias=False)
    >>> batches = [(torch.ones(1, 1), torch.zeros(1, 1)), (3 * torch.ones(1, 1), torch.zeros(1, 1))]
    >>> accumulate_(model, batches, lambda output, target: (output - target).sum()).weight.grad
    tensor([[2.]])
    """
    own = drop_tied(parameters(model))
    _checks.function("loss", loss, "loss(model(inputs), targets)")
    grads = {name: p.grad for name, p in own.items()}
    device = next((p.device for p in own.values()), None)
    done = 0
    try:
        for p in own.values():
            p.grad = None
        with _restored.buffers(model), _restored.modes(model), _random.untouched(), torch.inference_mode(False):
            model.train()
            for inputs, targets in _checks.pairs(batches):
                value = _checks.loss(loss, model(inputs.to(device)), targets.to(device))
                if not isinstance(value, Tensor) or value.numel() != 1 or not value.requires_grad:
                    raise ValueError(f"loss must give the mean over the batch, one number with a gradient, got {value!r}.")
                value.backward()
                done += 1
        if not done:
            raise ValueError("accumulate_ needs at least one batch, got none: is the iterator used up?")
        for p in own.values():
            if p.grad is not None:
                p.grad /= done
    except BaseException:
        for name, p in own.items():
            p.grad = grads[name]
        raise
    return model


def _wide(tensor: Tensor) -> Tensor:
    """Widen to float32: half precision has too few numbers to rank weights."""
    return tensor if tensor.dtype in (torch.float32, torch.float64) or tensor.is_complex() else tensor.float()
