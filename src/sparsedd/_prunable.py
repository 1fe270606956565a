"""Prunable: the weights of a model that pruning may remove."""

from collections.abc import Iterable
from fnmatch import fnmatchcase

from torch import nn
from torch.nn.parameter import UninitializedParameter, is_lazy

from sparsedd import _checks
from sparsedd._parameters import (
    abridge,
    check_names,
    drop_tied,
    find_computed,
    join,
    memory_key,
    modules,
    parameters,
    select,
    unwrap,
)

PRUNABLE = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
    nn.MultiheadAttention,
)


def prunable(
    model: nn.Module, *, types: type | tuple[type, ...] = PRUNABLE, exclude: str | Iterable[str] = ()
) -> tuple[str, ...]:
    """Return the names of the weights that pruning may remove, in the order of the model.

    These are the parameters of two or more dimensions that a module of ``types`` owns directly, biases left out. A tied
    parameter comes once, under its first name; the weight of a Linear that is tied to an Embedding is left out (name it in
    :meth:`Mask.dense` to prune it). Names are those of the model inside ``torch.compile``, DDP and DataParallel.

    Parameters
    ----------
    model
        Any module.
    types
        The kinds of modules whose weights count: ``Linear``, ``Conv*d``, ``ConvTranspose*d`` and ``MultiheadAttention``.
    exclude
        Names, or glob patterns, of parameters or of their modules: ``"fc3"``, ``"*.downsample.*"``.

    Warns
    -----
    UserWarning
        When ``types`` cover less than half of the model's weights, or a weight is left out because it is computed from others
        (``weight_norm`` and other parametrizations, ``torch.nn.utils.prune``).

    Raises
    ------
    ValueError
        When a pattern of ``exclude`` matches nothing, or nothing is left to prune.

    Examples
    --------
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    >>> prunable(model)
    ('0.weight', '2.weight')
    >>> prunable(model, exclude="2")
    ('0.weight',)
    """
    types = types if isinstance(types, tuple) else (types,)
    if not all(isinstance(t, type) for t in types):
        raise TypeError(f"types must be a class or a tuple of classes, such as nn.Linear, got {types!r}.")
    embedded = {memory_key(m.weight) for _, m in modules(model) if isinstance(m, nn.Embedding | nn.EmbeddingBag)}
    candidates: dict[str, nn.Parameter] = {}
    tied: list[str] = []
    away: dict[str, tuple[str, ...]] = {}
    for prefix, module in modules(model):
        if not isinstance(module, types):
            continue
        computed = find_computed(module)
        away |= {join(prefix, name): raw for name, raw in computed.items()}
        raw = {key for keys in computed.values() for key in keys}
        for name, parameter in module._parameters.items():
            full = join(prefix, name)
            if isinstance(parameter, UninitializedParameter):
                raise RuntimeError(f"{full!r} has no shape yet: run a batch through its lazy module first.")
            if parameter is None or parameter.dim() < 2 or "bias" in name or name in raw:
                continue
            if memory_key(parameter) in embedded and not isinstance(module, nn.Embedding | nn.EmbeddingBag):
                tied.append(full)
            else:
                candidates[full] = parameter
    candidates = drop_tied(candidates)

    left_out: set[str] = set()
    for pattern in [exclude] if isinstance(exclude, str) else check_names("exclude", exclude):
        matches = {n for n in (*candidates, *away) if any(fnmatchcase(n, p) for p in (pattern, f"{pattern}.*"))}
        if not matches:
            raise ValueError(f"exclude: {pattern!r} matches no prunable parameter. They are {abridge(candidates)}.")
        left_out |= matches
    for name in [name for name in away if name not in left_out]:
        _checks.warn(
            f"{name!r} is computed, by a parametrization, from {abridge(away[name])}, and is left out: to prune it, remove "
            "that first (torch.nn.utils.parametrize.remove_parametrizations, remove_weight_norm, prune.remove), or exclude it.",
        )
    names = tuple(name for name in candidates if name not in left_out)
    if not names:
        which = " besides the excluded ones." if candidates else f" ({abridge(t.__name__ for t in types)})."
        if tied:
            which += f" {abridge(map(repr, tied))} is tied to an Embedding, and pruned only if it is named: names=."
        elif not candidates:
            which += " Other kinds of modules are prunable(model, types=...)."
        raise ValueError(f"nothing to prune: {type(unwrap(model)).__name__} has no weights in modules of these types{which}")

    covered = sum(p.numel() for p in candidates.values())
    weights = sum(p.numel() for p in drop_tied(parameters(model)).values() if not is_lazy(p) and p.dim() >= 2)
    if 2 * covered < weights:
        _checks.warn(
            f"prunable covers {covered:,} of the model's {weights:,} weights ({covered / weights:.0%}): "
            "pass types= to include other kinds of modules.",
        )
    return names


def select_prunable(model: nn.Module, names: Iterable[str] | None = None) -> dict[str, nn.Parameter]:
    """Return the prunable weights, or those of ``names``, a tied one under its first name."""
    return drop_tied(select(model, prunable(model) if names is None else names))
