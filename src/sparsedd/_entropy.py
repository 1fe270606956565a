"""Entropy: how undecided the units of a model are between on and off."""

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sparsedd import _restored
from sparsedd._parameters import modules

RECTIFIERS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU)  # above zero where the input is


def activation_entropy(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, float]:
    r"""Measure how undecided the units of each rectified layer are: the mean of H = -p log₂ p - (1 - p) log₂ (1 - p), in bits.

    p is the share of all samples for which a unit is on, its output above zero. A unit that is always on, or always off, has
    0 bits; one that is a fair coin has 1 (Quétu and Tartaglione 2024). The model runs as in
    :func:`.evaluate`.

    Parameters
    ----------
    batches
        (inputs, targets), of which only the number of targets matters: one for each sample. All batches count as one: the
        published code looks at the first alone.

    Returns
    -------
    dict
        Bits by the name of the layer, in the order of the model. Layers are modules whose output is above zero where their
        input is: ``ReLU``, ``ReLU6``, ``LeakyReLU``, ``ELU``, ``CELU``, ``SELU``, ``GELU``, ``SiLU``, and subclasses. A unit is
        an entry of the output of one sample: after a convolution each channel at each position, as in the published code. A
        layer that is called twice in a pass has the units of both calls; one that is not called is left out. Where an output is
        NaN, and where a layer has no units, the entropy is NaN.

    Raises
    ------
    ValueError
        When there are no samples, no such layers, none that is called, or a layer's output has another shape from one batch
        to the next. A ``torch.nn.functional.relu`` is no module, and not seen: write ``nn.ReLU()`` in its place. When a
        layer's output doesn't have a row for each sample: where a sequence comes first, or time is merged into the batch, and
        in the parts of ``nn.DataParallel``. A sequence first that is as long as the batch is not noticed.

    Examples
    --------
    >>> x = torch.tensor([[1.0, 1.0], [1.0, -1.0]])
    >>> activation_entropy(nn.Sequential(nn.ReLU()), [(x, torch.zeros(2))])
    {'0': 0.5}
    """
    names: dict[nn.Module, str] = {}  # the first of each
    for name, module in modules(model):
        if isinstance(module, RECTIFIERS):
            names.setdefault(module, name)
    if not names:
        raise ValueError(
            f"{type(model).__name__} has no rectified layer that is a module, such as nn.ReLU, and calls of "
            "torch.nn.functional.relu are not seen: write nn.ReLU() in their place."
        )
    total: list[_Call] | None = None
    calls: list[_Call] = []  # those of one batch
    hooks = [  # the name is bound: a replica of DataParallel has the hooks, and is another module
        module.register_forward_hook(lambda m, _, output, name=name: calls.append(_Call.of(name, output)))
        for module, name in names.items()
    ]
    eager = torch.compiler.set_stance("force_eager")  # compiled code may pass hooks by
    try:
        with eager, _restored.outputs(model, batches) as outputs:
            for _, targets in outputs:
                for call in calls:
                    call.check(targets)
                total = calls[:] if total is None else _add(total, calls)
                calls.clear()
    finally:
        for hook in hooks:
            hook.remove()
    if total is None:
        raise ValueError("activation_entropy needs at least one sample, got none: is the iterator used up?")
    if not total:
        raise ValueError(
            f"no rectified layer was called, of {', '.join(map(repr, names.values()))}: call the module itself in forward, "
            "such as self.relu(x)."
        )
    by_layer = {name: [call for call in total if call.layer == name] for name in names.values()}
    return {name: _mean_entropy(calls) for name, calls in by_layer.items() if calls}


class _Call(NamedTuple):
    """How often each unit of a layer was on in one call, of so many times."""

    layer: str
    on: Tensor
    n: int

    @classmethod
    def of(cls, layer: str, output: Tensor) -> "_Call":
        on = (output > 0).sum(dim=0).cpu().double()
        return cls(layer, on.masked_fill(output.isnan().any(dim=0).cpu(), math.nan), output.shape[:1].numel())

    def check(self, targets: Tensor) -> None:
        """Raise unless there was a row for each sample."""
        if self.n != (samples := targets.shape[:1].numel()):
            raise ValueError(
                f"the output of {self.layer!r} has {self.n:,} rows of shape {tuple(self.on.shape)}, and the batch {samples:,} "
                "targets: each sample needs one. Let samples come first in the layer, as with batch_first=True, and time not "
                "be merged into them; of nn.DataParallel, pass the .module."
            )


def _add(total: list[_Call], calls: list[_Call]) -> list[_Call]:
    """Add the calls of a batch to those of the batches before."""
    if [(call.layer, call.on.shape) for call in total] != [(call.layer, call.on.shape) for call in calls]:
        raise ValueError("the layers have other units in one batch than in another: use samples of one shape.")
    return [_Call(a.layer, a.on + b.on, a.n + b.n) for a, b in zip(total, calls, strict=True)]


def _mean_entropy(calls: list[_Call]) -> float:
    """Return the mean over units of the entropy, in bits, of being on or off."""
    on = torch.cat([call.on.flatten() / call.n for call in calls])
    return float(sum((-(p * p.log2()).where(p != 0, 0.0) for p in (on, 1 - on)), torch.zeros_like(on)).mean())
