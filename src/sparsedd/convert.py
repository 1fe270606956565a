"""Masks from and to ``torch.nn.utils.prune``, and from checkpoints.

``torch.nn.utils.prune`` puts a Parameter ``weight_orig`` and a buffer ``weight_mask`` in the place of ``weight``, and
multiplies them before each forward pass. Here that becomes a :class:`.Mask` and a model as it was, and the other way round.

>>> from torch.nn.utils import prune
>>> model = prune.l1_unstructured(nn.Linear(4, 4), "weight", amount=4)
>>> mask = from_torch_prune_(model)
>>> mask, list(model.state_dict()), mask.holds(model)
(Mask(12 of 16 weights, sparsity 25.00%), ['bias', 'weight'], True)
"""

from collections.abc import Collection, Hashable, Iterable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from torch.nn.utils import parametrize, prune

from sparsedd import _checks
from sparsedd._mask import Mask, warn_of_empty
from sparsedd._match import match
from sparsedd._parameters import abridge, check_undivided, find_computed, find_names, join, memory_key, modules, parameters
from sparsedd._state import is_weight, strip_prefixes

__all__ = ["from_state_dict", "from_torch_prune", "from_torch_prune_", "plain_state_dict", "to_torch_prune_"]

Model = TypeVar("Model", bound=nn.Module)
Value = TypeVar("Value")
Places = dict[str, tuple[nn.Module, str]]  # the name of a weight in the model: its module, and its name there


# ---------------------------------------------------------------- torch.nn.utils.prune


def from_torch_prune(model: nn.Module) -> Mask:
    """Read the mask of a model that ``torch.nn.utils.prune`` has pruned, by any of its methods; the model stays as it is.

    Its parameters are those that carry a mask, be they weights or biases, under the names that they have once the pruning is
    taken out. Those that ``prune`` did not touch are not in it.

    Raises
    ------
    ValueError
        When there is no mask in the model, one is not of zeros and ones, is of a weight that a parametrization computes others
        from, or is not that of all owners of a tied weight: then it does not say what is pruned.

    Examples
    --------
    >>> from torch.nn.utils import prune
    >>> model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    >>> pruned = [(model[0], "weight"), (model[1], "weight")]
    >>> prune.global_unstructured(pruned, pruning_method=prune.L1Unstructured, amount=0.5)
    >>> from_torch_prune(model)
    Mask(12 of 24 weights, sparsity 50.00%)
    """
    if not (places := _find_pruned(model)):
        raise ValueError(
            "the model carries no mask of torch.nn.utils.prune: Mask.nonzero(model) takes the mask from weights that are zero."
        )
    keep = _read_masks({name: module._buffers[f"{leaf}_mask"] for name, (module, leaf) in places.items()})
    return Mask(_untie(keep, _rename(parameters(model), places)))


def from_torch_prune_(model: nn.Module) -> Mask:
    """Take the mask of :func:`from_torch_prune` out of the model, whose pruned weights are exactly +0.0 from then on.

    As ``prune.remove`` of each weight, but in place: the Parameters that the optimizer holds, their memory and their ties stay.

    >>> from torch.nn.utils import prune
    >>> model = prune.random_unstructured(nn.Linear(4, 4), "weight", amount=0.5)
    >>> mask = from_torch_prune_(model)
    >>> prune.is_pruned(model), mask.holds(model)
    (False, True)
    """
    mask, places = from_torch_prune(model), _find_pruned(model)
    for module, leaf in places.values():
        if (keep := module._buffers.get(f"{leaf}_mask")) is not None:  # a module of two names comes twice
            with torch.no_grad():
                _take_out(module, leaf).masked_fill_(keep == 0, 0)
    return mask


def to_torch_prune_(model: Model, mask: Mask) -> Model:
    """Prune a model by a mask the way of ``torch.nn.utils.prune``, for programs that expect that, and give it back.

    A ``prune.custom_from_mask`` of each parameter of the mask, for all owners of a tied one. The pruned weights keep their
    values in ``weight_orig``. After an error the model is as it was.

    Raises
    ------
    RuntimeError
        When ``torch.nn.utils.prune`` has pruned the model already.
    ValueError
        When the mask is another model's, or the model has a ``weight_orig`` or ``weight_mask`` of its own.

    Warns
    -----
    UserWarning
        When a weight is that of the last layer of a ``MultiheadAttention``, which ``prune`` can't train.

    Examples
    --------
    >>> mask = Mask({"weight": torch.tensor([[True, False]])})
    >>> list(to_torch_prune_(nn.Linear(2, 1), mask).state_dict())
    ['bias', 'weight_orig', 'weight_mask']
    """
    _checks.kind("mask", mask, Mask, "a Mask")
    if taken := _find_pruned(model):
        raise RuntimeError(
            f"torch.nn.utils.prune has pruned {abridge(taken)} of the model already: take that out first, "
            "mask = from_torch_prune_(model), and combine the masks with &."
        )
    found = match(mask, model)
    check_undivided({name: p for name, (p, _) in found.items()})
    keeps = {memory_key(p): keep for p, keep in found.values()}
    places: dict[tuple[int, str], tuple[nn.Module, str, Tensor]] = {}
    for prefix, module in modules(model):
        for leaf, p in module._parameters.items():
            if p is None or (keep := keeps.get(memory_key(p))) is None:
                continue
            for own in (f"{leaf}_orig", f"{leaf}_mask"):
                if hasattr(module, own):
                    raise ValueError(f"the model has {join(prefix, own)!r} already, a name that torch.nn.utils.prune takes.")
            if isinstance(module, NonDynamicallyQuantizableLinear):
                _checks.warn(
                    f"{join(prefix, leaf)!r} belongs to a layer that its MultiheadAttention reads and never calls, so that "
                    "torch.nn.utils.prune multiplies it once and for all: right for inference, but it can't be trained.",
                )
            places[id(module), leaf] = module, leaf, keep.unpack()  # which the hook holds
    before = [
        (module, leaf, [(part, dict(part)) for part in (module._parameters, module._buffers, module._forward_pre_hooks)])
        for module, leaf, _ in places.values()
    ]
    try:
        for module, leaf, flags in places.values():
            prune.custom_from_mask(module, leaf, flags)
    except BaseException:
        for module, leaf, parts in before:
            for now, then in parts:
                now.clear()
                now.update(then)  # type: ignore[arg-type]
            setattr(module, leaf, module._parameters[leaf])
        raise
    return model


# ---------------------------------------------------------------- checkpoints


def from_state_dict(state: Mapping[str, Any], names: Iterable[str] | None = None) -> Mask:
    """Read the mask of a checkpoint: from its ``weight_mask`` where ``torch.nn.utils.prune`` left any, else from zeros.

    The weights are then, as in :meth:`.Mask.nonzero`, those of two or more dimensions; a state dict does not tell what kinds of
    layers they are of, so pass ``names`` where it holds embeddings too. Names are those of the model inside ``torch.compile``
    and DDP: ``_orig_mod.`` is left out, and ``module.`` where all begin with it. A tied weight comes under the first of its
    names. What :meth:`.Mask.state_dict` gave is read by :meth:`.Mask.from_state_dict`.

    Parameters
    ----------
    state
        Name → tensor, of ``model.state_dict()`` or ``torch.load(path, weights_only=True)``.
    names
        The weights that the mask is to be of.

    Raises
    ------
    ValueError
        When a name is not there, no weights are, or a mask is not of zeros and ones or not that of all owners of a tied weight.

    Examples
    --------
    >>> from_state_dict({"fc.weight": torch.tensor([[0.5, 0.0]]), "fc.bias": torch.zeros(1)})
    Mask(1 of 2 weights, sparsity 50.00%)
    >>> from_state_dict({"fc.weight_orig": torch.ones(1, 2), "fc.weight_mask": torch.tensor([[1.0, 0.0]])})
    Mask(1 of 2 weights, sparsity 50.00%)
    """
    every, keep = _split(state)
    weights = {name: value for name, value in every.items() if isinstance(value, Tensor)}
    if names is not None:
        wanted = find_names(names, weights, "the state dict")
    else:
        wanted = [*keep] or [name for name, tensor in weights.items() if is_weight(name, tensor)]
    for name in wanted:
        if "parametrizations." in name:
            raise ValueError(
                f"another weight is computed from {name!r} by a parametrization, and zeros here are none there: remove that "
                "before saving (torch.nn.utils.parametrize.remove_parametrizations), or pass others as names."
            )
    if not wanted:
        raise ValueError("there are no weights to read, got no float tensor of two or more dimensions: pass names=.")
    zeros = _check_dense({name: weights[name] for name in wanted if name not in keep})
    owners = weights if keep and names is None else {name: weights[name] for name in wanted}
    mask = Mask(_untie({name: keep[name] if name in keep else zeros[name] != 0 for name in wanted}, owners))
    return warn_of_empty(mask) if zeros else mask


def plain_state_dict(state: Mapping[str, Any]) -> dict[str, Any]:
    """Turn a checkpoint of a model pruned by ``torch.nn.utils.prune`` into one that a fresh model loads.

    Each pair of ``weight_orig`` and ``weight_mask`` becomes ``weight``, exactly +0.0 where it is pruned. All else is passed
    on, under names without those of wrappers, as :func:`from_state_dict` reads them.

    >>> from torch.nn.utils import prune
    >>> pruned = prune.l1_unstructured(nn.Linear(4, 4), "weight", amount=4)
    >>> fresh = nn.Linear(4, 4)
    >>> fresh.load_state_dict(plain_state_dict(pruned.state_dict()))
    <All keys matched successfully>
    >>> Mask.nonzero(fresh) == from_torch_prune(pruned)
    True
    """
    every, keep = _split(state)
    return {n: v.detach().masked_fill(~keep[n].to(v.device), 0) if n in keep else v for n, v in every.items()}


# ---------------------------------------------------------------- what both have


def _find_pruned(model: nn.Module) -> Places:
    """Find the weights that torch.nn.utils.prune has pruned."""
    found: Places = {}
    for prefix, module in modules(model):
        for hook in module._forward_pre_hooks.values():
            if not isinstance(hook, prune.BasePruningMethod):
                continue
            leaf = hook._tensor_name
            others = [name for name in find_computed(module) if leaf in (f"{name}_g", f"{name}_v")]  # weight_norm
            if others or isinstance(module, parametrize.ParametrizationList):
                raise ValueError(
                    f"torch.nn.utils.prune has pruned {join(prefix, leaf)!r}, which another weight is computed from: zeros "
                    "here are none there. Remove the parametrization first (prune.remove, then remove_parametrizations)."
                )
            found[join(prefix, leaf)] = module, leaf
    return found


def _take_out(module: nn.Module, leaf: str) -> nn.Parameter:
    """Undo a pruning: give the Parameter its name again, and its values."""
    for key, hook in [*module._forward_pre_hooks.items()]:
        if isinstance(hook, prune.BasePruningMethod) and hook._tensor_name == leaf:
            del module._forward_pre_hooks[key]
    p = module._parameters.pop(f"{leaf}_orig")
    del module._buffers[f"{leaf}_mask"]
    setattr(module, leaf, p)  # where it replaces the product
    return p  # type: ignore[return-value]


def _rename(tensors: Mapping[str, Value], pruned: Collection[str]) -> dict[str, Value]:
    """Give the tensors that torch.nn.utils.prune has pruned their names again."""
    return {now if (now := name.removesuffix("_orig")) in pruned else name: t for name, t in tensors.items()}


def _untie(keep: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the mask of a tied weight under the first of its names; raise unless all its owners have it."""
    owners: dict[Hashable, list[str]] = {}
    for name, weight in weights.items():
        owners.setdefault(memory_key(weight), []).append(name)
    for first, *others in owners.values():
        for other in others:
            if not (first in keep and other in keep and torch.equal(keep[first], keep[other])) and {first, other} & {*keep}:
                raise ValueError(
                    f"{first!r} and {other!r} are one tied parameter, and torch.nn.utils.prune prunes it differently for its "
                    "two owners: prune both with one mask (prune.custom_from_mask), or untie them."
                )
    return {first: keep[first] for first, *_ in owners.values() if first in keep}


def _read_masks(masks: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return masks of zeros and ones in some dtype as bool tensors."""
    for name, mask in _check_dense(masks, "the mask of ").items():
        if not torch.equal(mask, (mask != 0).to(mask.dtype)):
            raise ValueError(f"the mask of {name!r} must be of zeros and ones, got {abridge(mask.unique().tolist(), 4)}.")
    return {name: mask != 0 for name, mask in masks.items()}


def _check_dense(tensors: Mapping[str, Any], what: str = "") -> Mapping[str, Any]:
    """Return the same tensors if all their numbers are here, else raise."""
    for name, tensor in check_undivided(tensors).items():
        if not isinstance(tensor, Tensor) or tensor.is_meta or tensor.layout is not torch.strided:
            raise ValueError(f"{what}{name!r} must be a dense tensor that holds its bits, got {tensor!r:.60}.")
    return tensors


def _split(state: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return a state dict with ``weight`` for each pair of ``weight_orig`` and ``weight_mask``, and the masks."""
    state = strip_prefixes(state)
    pairs = [name.removesuffix("_orig") for name in state if name.endswith("_orig") and f"{name[:-5]}_mask" in state]
    for name in pairs:
        orig, mask = state[f"{name}_orig"], state[f"{name}_mask"]
        if getattr(orig, "shape", None) != getattr(mask, "shape", None) or name in state:
            raise ValueError(f"{name + '_orig'!r} and {name + '_mask'!r} are not as torch.nn.utils.prune leaves them.")
    masks = {f"{name}_mask": name for name in pairs}
    keep = _read_masks({name: state[mask] for mask, name in masks.items()})
    return _rename({name: value for name, value in state.items() if name not in masks}, pairs), keep
