"""Blocks that give a model back as it was, whatever happened inside."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from sparsedd._state import write_


@contextmanager
def modes(model: nn.Module) -> Iterator[None]:
    """Whether each module is in training or evaluation mode."""
    before = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, mode in before:
            module.training = mode


@contextmanager
def buffers(model: nn.Module) -> Iterator[None]:
    """The buffers: the same tensors with the same bits."""
    before = [(m, k, b, b.clone()) for m in model.modules() for k, b in m._buffers.items() if b is not None]
    try:
        yield
    finally:
        with torch.no_grad():
            for module, name, buffer, bits in before:
                write_(name, buffer, bits)
                module._buffers[name] = buffer  # a forward pass may have put another tensor there


@contextmanager
def parameters(model: nn.Module) -> Iterator[None]:
    """The parameters, likewise, and their gradients; inside there are no gradients at first."""
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
