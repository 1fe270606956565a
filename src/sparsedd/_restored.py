"""Restored: parts of a model that a ``with`` block gives back as they were, whatever happened inside."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from sparsedd import _checks, _random
from sparsedd._shards import local
from sparsedd._state import write_


@contextmanager
def modes(model: nn.Module) -> Iterator[None]:
    """Restore the mode, training or evaluation, of each module by its own ``train`` and ``eval``.

    These may do more than set a flag. A layer of LoRA adds its product to its weight for evaluation and subtracts it again,
    which rounds; so the parameters of modules that switch in a way of their own are given back bit for bit, too.
    """
    before = [(module, module.training) for module in model.modules()]
    own = [p for m, _ in before if _switches(m) for p in m.parameters(recurse=False) if not is_lazy(p)]
    bits = [p.detach().clone() for p in own]
    try:
        yield
    finally:
        try:
            for module, mode in before:  # parents first, who take their children along
                if module.training != mode:
                    _ = module.train() if mode else module.eval()
        finally:
            for module, mode in before:
                module.training = mode  # where its switch leads elsewhere
            with torch.no_grad():
                for p, b in zip(own, bits, strict=True):
                    p.copy_(b)


def _switches(module: nn.Module) -> bool:
    """Check whether a module switches modes by a method that is neither torch's nor ours."""
    return any(str(method.__module__).partition(".")[0] not in ("torch", "sparsedd") for method in (module.train, module.eval))


@contextmanager
def buffers(model: nn.Module) -> Iterator[None]:
    """Restore the buffers: the same tensors with the same bits."""
    before = [(m, k, b, b.clone()) for m in model.modules() for k, b in m._buffers.items() if b is not None]
    try:
        yield
    finally:
        with torch.no_grad():
            for module, name, buffer, bits in before:
                if not _have_same_bits(buffer, bits):  # a write, even of the same, would spoil a backward pass that is to come
                    write_(name, buffer, bits)
                if module._buffers.get(name) is not buffer:  # a forward pass may have put another tensor there
                    module._buffers[name] = buffer


def _have_same_bits(a: Tensor, b: Tensor) -> bool:
    a, b = local(a), local(b)
    if a.layout is not torch.strided or a.is_quantized:
        return False
    return torch.equal(*(t.contiguous().flatten().view(torch.uint8) for t in (a, b)))


@contextmanager
def parameters(model: nn.Module) -> Iterator[None]:
    """Restore the parameters, likewise, and their gradients; inside there are no gradients at first."""
    before = [(p, p.detach().clone(), p.grad) for p in model.parameters()]
    try:
        for p, _, _ in before:
            p.grad = None
        yield
    finally:
        with torch.no_grad():
            for p, bits, grad in before:
                write_("a parameter", p, bits)
                p.grad = grad


@contextmanager
def outputs(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[Iterator[tuple[object, Tensor]]]:
    """Give what a model returns in evaluation mode, and the targets, batch after batch; restore modes, buffers, generators."""
    device = next((p.device for p in _checks.kind("model", model, nn.Module, "a torch.nn.Module").parameters()), None)
    with modes(model), buffers(model), _random.untouched(), torch.no_grad():
        model.eval()
        yield ((model(inputs.to(device)), targets.to(device)) for inputs, targets in _checks.pairs(batches))
