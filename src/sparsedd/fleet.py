"""Fleet: many models of one shape, trained as one.

A small net leaves a machine idle: most of a step is book-keeping, and on a GPU the launch of kernels. With the weights of many
nets stacked, one product, one optimizer and one launch serve them all.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from copy import deepcopy
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.parameter import UninitializedParameter
from torch.optim import Optimizer

from sparsedd import _checks, _random, _restored
from sparsedd._bits import Bits
from sparsedd._enforcement import Enforcement
from sparsedd._mask import Mask
from sparsedd._parameters import check_undivided, has_hooks, memory_key, unwrap
from sparsedd._perceptron import Perceptron
from sparsedd.metrics import Evaluation
from sparsedd.sparse import SparseLinear

__all__ = ["Fleet", "cross_entropy"]

_POINTWISE = (nn.Identity, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Sigmoid, nn.Tanh, nn.Softplus)


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return each member's mean cross-entropy (members,) for logits (members, b, C) and targets (members, b).

    Train on the sum: a member's weights are in one term of it alone, so that each gets the gradient of its own loss.

    >>> cross_entropy(torch.zeros(2, 4, 10), torch.zeros(2, 4, dtype=torch.int64))
    tensor([2.3026, 2.3026])
    """
    for name, value in (("logits", logits), ("targets", targets)):
        _checks.kind(name, value, Tensor, "a tensor")
    if logits.dim() != 3 or targets.shape != logits.shape[:2]:
        got = f"{tuple(logits.shape)} and {tuple(targets.shape)}"
        raise ValueError(f"cross_entropy takes (members, b, C) logits and (members, b) targets, got {got}.")
    each = _checks.loss(_each, logits.flatten(0, 1), targets.flatten())
    return each.reshape(targets.shape).mean(dim=1)


_each = nn.CrossEntropyLoss(reduction="none")


class Fleet(nn.Module):
    r"""Models of one shape as one module: each with its own weights, batch, mask and, in the end, result.

    A parameter W of the models becomes one of shape (members, \*W.shape) under the same name, a buffer likewise. So the
    optimizer may be any that treats weights one by one: all members share its settings, and nothing else. A member learns
    what it would learn alone, up to float rounding, whoever the others are.

    Chains of Linear layers and activations are run as one batched product a layer; :meth:`backward` makes the most of them.
    Anything else is run by :func:`torch.vmap`, which it must support: what draws random numbers in its forward pass, such as
    Dropout while training, does not. Convolutions become grouped ones; on a CPU this pays for narrow nets alone, and autocast
    does not reach them.

    Parameters
    ----------
    models
        They are copied. All have one architecture, and are in one mode and on one device; what is neither parameter nor
        buffer is taken from the first.

    Raises
    ------
    ValueError
        When the models differ, or share parameters; the message names the first place.

    Examples
    --------
    >>> models = [nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)) for _ in range(5)]
    >>> fleet = Fleet(models)
    >>> fleet
    Fleet(5 members of Sequential, 67 parameters each)
    >>> masks = [Mask.dense(model) for model in models]
    >>> optimizer = torch.optim.SGD(fleet.parameters(), lr=0.1)
    >>> inputs, targets = torch.randn(5, 10, 4), torch.randint(3, (5, 10))
    >>> with fleet.enforce(masks, optimizer):
    ...     for _ in range(3):
    ...         optimizer.zero_grad()
    ...         cross_entropy(fleet(inputs), targets).sum().backward()
    ...         optimizer.step()
    >>> models = fleet.members()
    """

    _tree: nn.Module  # one model around the stacked tensors

    def __init__(self, models: Iterable[nn.Module]) -> None:
        super().__init__()
        every = _check_alike(models)
        tensors = [_tensors(model) for model in every]
        stacked: dict[int, Any] = {
            id(first): _as(first, torch.stack([each[name].detach() for each in tensors])) for name, first in tensors[0].items()
        }
        tree = deepcopy(every[0], stacked)  # what is in the memo is not copied: the first model around stacked tensors
        # The fleet's children, parameters and buffers are the tree's, so that the names are those of one model.
        self.__dict__["_tree"] = tree
        for shared in ("_modules", "_parameters", "_buffers", "_non_persistent_buffers_set"):
            self.__dict__[shared] = tree.__dict__[shared]
        self.training: bool = tree.training
        self._size = len(every)

    def __len__(self) -> int:
        return self._size

    def __repr__(self) -> str:
        count = sum(p[0].numel() for p in self.parameters())
        return f"Fleet({len(self)} members of {type(self._tree).__name__}, {count:,} parameters each)"

    def train(self, mode: bool = True) -> Self:
        """Set the mode as the models do, who may have a ``train`` of their own."""
        self._tree.train(mode)
        self.training = self._tree.training
        return self

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the members' outputs (members, b, ...) for inputs (members, b, ...), each for its own.

        Inputs that they share are ``inputs.expand(len(fleet), *inputs.shape)``, which takes no memory.
        """
        tree = self._checked_tree(inputs)
        if _is_chain(tree):
            return _run_chain(tree, inputs)
        state = _tensors(tree)
        try:
            outputs, replaced = vmap(self._run_one)(state, inputs)
        except RuntimeError as error:
            if "vmap" not in str(error) and "Batching rule" not in str(error):
                raise
            kind = type(tree).__name__
            raise RuntimeError(f"a {kind} can't be run as a fleet: train its models one by one. torch says: {error}") from error
        with torch.no_grad():
            for name, value in replaced.items():
                state[name].copy_(value)
        result: Tensor = outputs
        return result

    def backward(self, inputs: Tensor, targets: Tensor) -> None:
        """Set every ``.grad`` to that of its member's mean cross-entropy for inputs (members, b, ...), targets (members, b).

        It is ``zero_grad()`` and ``cross_entropy(fleet(inputs), targets).sum().backward()``, faster for chains of Linear layers
        and ReLU, as the gradients are written out. Targets are classes, all of them: there is no ``ignore_index``.
        """
        tree, device = self._checked_tree(inputs), inputs.device.type
        if _checks.kind("targets", targets, Tensor, "a tensor").shape != inputs.shape[:2] or targets.dtype != torch.int64:
            got = f"{targets.dtype}, {tuple(targets.shape)}"
            raise ValueError(f"targets must be classes, int64 of shape {tuple(inputs.shape[:2])}, got {got}.")
        precision = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        perceptron = None if has_hooks(self) else Perceptron.of(tree, precision)
        if perceptron is not None and (inputs.dim() == 3 or type(next(iter(tree.children()))) is nn.Flatten):
            _check_width(next(iter(self.parameters())), inputs.flatten(2))
            with _checks.classes(targets):
                perceptron.backward(inputs, targets)
            return
        self.zero_grad()
        with torch.inference_mode(False):  # with gradients
            loss = cross_entropy(_checks.output(self(inputs)), targets).sum()
        with torch.autocast(device, enabled=False):
            loss.backward()

    def _checked_tree(self, inputs: Tensor) -> nn.Module:
        if _checks.kind("inputs", inputs, Tensor, "a tensor").dim() < 2 or len(inputs) != len(self):
            got = f"shape {tuple(inputs.shape)}"
            raise ValueError(f"inputs must be (members, batch, ...) with {len(self)} members, got {got}.")
        return self._tree

    def _run_one(self, state: dict[str, Tensor], inputs: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return a member's outputs, and the buffers that its forward pass has replaced."""
        after = dict(state)
        outputs = functional_call(self._tree, after, (inputs,))
        return outputs, {name: value for name, value in after.items() if value is not state[name]}

    def mask(self, masks: Sequence[Mask]) -> Mask:
        """Stack the members' masks to one mask of the fleet.

        >>> fleet = Fleet([nn.Linear(2, 1), nn.Linear(2, 1)])
        >>> fleet.mask([Mask({"weight": torch.tensor([[True, keep]])}) for keep in (True, False)])
        Mask(3 of 4 weights, sparsity 25.00%)
        """
        every = _checks.every("masks", masks, Mask, "Masks")
        if len(every) != len(self):
            raise ValueError(f"a fleet of {len(self)} takes {len(self)} masks, one for each member, got {len(every)}.")
        _ = [every[0] | mask for mask in every]  # other names or shapes raise
        on = {name: bits.packed.device for name, bits in every[0]._bits.items()}
        return Mask._of({name: Bits.pack(torch.stack([mask[name].to(on[name]) for mask in every])) for name in every[0]})

    def enforce(self, masks: Sequence[Mask], *optimizers: Optimizer) -> Enforcement:
        """Hold each member's pruned weights at zero, as :meth:`.Mask.enforce` does."""
        return self.mask(masks).enforce(self, *optimizers)

    def members(self) -> list[nn.Module]:
        """Copy the members, as they are now, to ordinary models: weights, buffers and mode."""
        return [
            deepcopy(self._tree, {id(t): _as(t, t.detach()[i].clone()) for t in _tensors(self._tree).values()})
            for i in range(len(self))
        ]

    @torch.no_grad()
    def copy_to_(self, models: Sequence[nn.Module]) -> Sequence[nn.Module]:
        """Copy the members' weights and buffers into models, and give these back.

        Raises
        ------
        ValueError
            When the models are not as many, or not of this shape; they are as they were.
        """
        every = _checks.every("models", models, nn.Module, "torch.nn.Modules")
        if len(every) != len(self):
            raise ValueError(f"a fleet of {len(self)} is copied to {len(self)} models, got {len(every)}.")
        ours, pairs = _tensors(self._tree), []
        for i, model in enumerate(every):
            theirs = _tensors(unwrap(model))
            for name in (*ours, *theirs):
                a, b = (tuple(t[name].shape) if name in t else None for t in (ours, theirs))
                if a is None or b is None or a[1:] != b:
                    raise ValueError(f"{name!r} has shape {a and a[1:]} in the fleet and {b} in model {i}.")
            pairs += [(theirs[name], stacked[i]) for name, stacked in ours.items()]
        for target, source in pairs:
            target.copy_(source)
        return models

    def evaluate(
        self, batches: Iterable[tuple[Tensor, Tensor]], *, loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy
    ) -> list[Evaluation]:
        """Measure each member's mean loss and accuracy, as :func:`.metrics.evaluate` does.

        Parameters
        ----------
        batches
            Of inputs (members, b, ...) and targets (members, b), or of inputs (b, ...) and targets (b,) that all share.
        loss
            ``(logits (members, b, C), targets (members, b)) -> (members,)``, means over the batch.
        """
        device = next((p.device for p in self.parameters()), None)
        losses, correct, counts = [], [], []
        _checks.function("loss", loss, "loss(logits, targets)")
        with _restored.modes(self), _random.untouched(), torch.no_grad():
            self.eval()
            for inputs, targets in _checks.pairs(batches):
                inputs, targets = inputs.to(device), targets.to(device)
                if targets.dim() == 1:
                    inputs, targets = (tensor.expand(len(self), *tensor.shape) for tensor in (inputs, targets))
                logits = _checks.output(self(inputs))
                if logits.dim() != 3 or targets.shape != logits.shape[:2]:
                    got = f"{tuple(logits.shape)} and {tuple(targets.shape)}"
                    raise ValueError(f"evaluate takes (members, b, C) logits and (members, b) targets, got {got}.")
                means = _checks.loss(loss, logits, targets)
                if not isinstance(means, Tensor) or means.shape != (len(self),):
                    raise ValueError(f"a fleet's loss gives a tensor of {len(self)} means, one for each member, got {means!r}.")
                losses.append(means)
                correct.append((logits.argmax(dim=2) == targets).sum(dim=1))
                counts.append(targets.shape[1])
        if not counts:
            raise ValueError("evaluate needs at least one sample, got none: is the iterator used up?")
        n = sum(counts)  # read from the device at the end alone: a GPU need not wait
        total = torch.stack(losses).cpu().double().mul_(torch.tensor(counts, device="cpu")[:, None]).sum(dim=0) / n
        right = torch.stack(correct).sum(dim=0)
        return [Evaluation(loss, hits / n, n) for loss, hits in zip(total.tolist(), right.tolist(), strict=True)]


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return parameters and buffers by name."""
    return dict([*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)])


def _as(kind: Tensor, tensor: Tensor) -> Tensor:
    """Return the tensor as a parameter or a buffer, whichever the other is."""
    return nn.Parameter(tensor, kind.requires_grad) if isinstance(kind, nn.Parameter) else tensor


def _check_alike(models: Iterable[nn.Module]) -> list[nn.Module]:
    """Return the unwrapped models, or an error if they can't be stacked."""
    if not isinstance(models, Iterable) or (isinstance(models, nn.Module) and not isinstance(models, nn.ModuleList)):
        raise TypeError(f"models must be a list of models, got {type(models).__name__}: write Fleet([model, ...]).")
    every = list(models)
    if not every:
        raise ValueError("a fleet needs at least one model, got none.")
    for model in every:
        if not isinstance(model, nn.Module):
            raise TypeError(f"the members of a fleet are torch.nn.Modules, got {type(model).__name__}.")
        if any(isinstance(module, SparseLinear) for module in model.modules()):
            raise ValueError("the members of a fleet are dense: bring the weights back with sparse.expand_ first.")
    every = [unwrap(model) for model in every]
    owners: dict[Hashable, str] = {}
    first = _describe(every[0])
    for i, model in enumerate(every):
        described = _describe(model)
        for name in (*first, *described):
            a, b = first.get(name, "missing"), described.get(name, "missing")
            if a != b:
                raise ValueError(f"the models of a fleet are alike, but {name} is {a} in the first and {b} in model {i}.")
        for name, tensor in check_undivided(_tensors(model)).items():
            here = f"{name!r} of model {i}"
            if (owner := owners.setdefault(memory_key(tensor), here)) != here:
                raise ValueError(f"{owner} and {here} are one tensor: a fleet's weights are each its own.")
    return every


def _describe(model: nn.Module) -> dict[str, str]:
    """Describe each module, parameter and buffer, but for its values."""
    found = {}
    for name, m in model.named_modules(remove_duplicate=False):
        mode = "training" if m.training else "evaluation"
        found[f"module {name!r}" if name else "the model"] = f"{type(m).__name__}({m.extra_repr()}) in {mode} mode"
    for name, t in _tensors(model).items():
        if isinstance(t, UninitializedParameter):
            raise RuntimeError(f"{name!r} has no shape yet: run a batch through its lazy module first.")
        kind = ("trained" if t.requires_grad else "frozen") if isinstance(t, nn.Parameter) else "a buffer"
        found[repr(name)] = f"{kind}, {tuple(t.shape)}, {t.dtype}, on {t.device}"
    return found


def _is_chain(module: nn.Module) -> bool:
    """Return whether the module can be run on stacked inputs and weights as it is."""
    if has_hooks(module):
        return False
    if type(module) is nn.Sequential:
        return all(map(_is_chain, module))
    if type(module) is nn.Flatten:
        return (module.start_dim, module.end_dim) == (1, -1)
    return type(module) is nn.Linear or type(module) in _POINTWISE


def _run_chain(module: nn.Module, x: Tensor) -> Tensor:
    """Run a chain on x (members, b, ...). torch.vmap takes half as long again for nets that small."""
    if isinstance(module, nn.Sequential):
        for child in module:
            x = _run_chain(child, x)
        return x
    if isinstance(module, nn.Linear):
        # As W xᵀ, not x Wᵀ: its gradient then has the layout of W.
        w, b = module.weight, module.bias
        _check_width(w, x)
        columns = x.reshape(len(x), -1, x.shape[-1]).mT
        y = torch.bmm(w, columns) if b is None else torch.baddbmm(b[:, :, None], w, columns)
        return y.mT.reshape(*x.shape[:-1], w.shape[1])
    if isinstance(module, nn.Flatten):
        return x.flatten(2)
    result: Tensor = module(x)
    return result


def _check_width(weight: Tensor, x: Tensor) -> None:
    if x.shape[-1] != weight.shape[-1]:
        raise ValueError(f"a layer of {weight.shape[-1]} inputs got {x.shape[-1]}: its inputs have shape {tuple(x.shape)}.")
