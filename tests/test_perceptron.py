"""The gradients written out are those of autograd."""

from copy import deepcopy
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy

from sparsedd import Mask, models, sparse
from sparsedd._perceptron import Perceptron


def chain(sizes: list[int], dtype: torch.dtype) -> nn.Sequential:
    generator = torch.Generator().manual_seed(0)
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    model = nn.Sequential(*layers[:-1]).to(dtype)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator))
    return model


def some(model: nn.Module, density: float) -> Mask:
    generator = torch.Generator().manual_seed(2)
    return Mask({name: torch.rand(keep.shape, generator=generator) < density for name, keep in Mask.dense(model).items()})


def batch(n: int, features: int, classes: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(n, 1, features, generator=generator).to(dtype),
        torch.randint(0, classes, (n,), generator=generator),
    )


@given(
    sizes=st.lists(st.integers(1, 9), min_size=2, max_size=5),
    n=st.integers(1, 7),
    density=st.sampled_from([0.05, 0.3, 0.7, 1.0]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_logits_and_gradients_are_those_of_autograd_dense_and_sparse(sizes, n, density, dtype):
    model = chain(sizes, dtype)
    inputs, targets = batch(n, sizes[0], sizes[-1], dtype)
    mask = some(model, density)
    fast, _ = sparse.compact(model, mask, below=1.1)
    perceptron = Perceptron.of(fast)
    assert perceptron is not None
    mask.apply_(model)
    tolerance = {"rtol": 1e-4, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 1e-10, "atol": 1e-12}
    logits = model(inputs)
    torch.testing.assert_close(perceptron(inputs), logits, **tolerance)
    assert not perceptron(inputs).requires_grad
    torch.testing.assert_close(perceptron.loss(perceptron(inputs), targets), cross_entropy(logits, targets), **tolerance)
    cross_entropy(logits, targets).backward()
    perceptron.backward(inputs, targets)
    for name, layer in fast.named_children():
        dense = model.get_submodule(name)
        if isinstance(layer, sparse.SparseLinear):
            torch.testing.assert_close(layer.values.grad, dense.weight.grad[mask[f"{name}.weight"]], **tolerance)
        elif isinstance(layer, nn.Linear):
            torch.testing.assert_close(layer.weight.grad, dense.weight.grad, **tolerance)
        if hasattr(layer, "bias"):
            torch.testing.assert_close(layer.bias.grad, dense.bias.grad, **tolerance)


def test_bfloat16_rounds_the_products_of_dense_layers_and_nothing_else():
    model = chain([30, 20, 10], torch.float32)
    inputs, targets = batch(50, 30, 10, torch.float32)
    theirs = deepcopy(model)
    with torch.autocast("cpu", torch.bfloat16):
        loss = cross_entropy(theirs(inputs), targets)
    loss.backward()
    perceptron = Perceptron.of(model, torch.bfloat16)
    perceptron.backward(inputs, targets)
    for ours, other in zip(model.parameters(), theirs.parameters(), strict=True):
        assert ours.grad.dtype == torch.float32
        torch.testing.assert_close(ours.grad, other.grad, rtol=0.05, atol=0.02)
    assert not torch.equal(perceptron(inputs), model(inputs))


def test_lenet_is_one_and_gives_what_it_gives():
    model = models.lenet_300_100(in_features=64)
    inputs, _ = batch(5, 64, 10, torch.float32)
    torch.testing.assert_close(Perceptron.of(model)(inputs), model(inputs))


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


def hooked(module: nn.Module, how: str) -> nn.Module:
    getattr(module, how)(lambda *args: None)
    return module


def watched(module: nn.Module) -> nn.Module:
    module.weight.register_post_accumulate_grad_hook(lambda p: None)
    return module


@pytest.mark.parametrize(
    "model",
    [
        nn.Linear(3, 2),
        nn.Sequential(watched(nn.Linear(3, 2))),
        nn.Sequential(),
        nn.Sequential(nn.Flatten()),
        nn.Sequential(nn.Linear(3, 2), nn.ReLU()),
        nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2)),
        nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 2)),
        nn.Sequential(nn.Linear(3, 2, bias=False)),
        nn.Sequential(nn.Linear(3, 2).requires_grad_(False)),
        nn.Sequential(nn.Linear(3, 2).half()),
        nn.Sequential(nn.Flatten(0), nn.Linear(3, 2)),
        nn.Sequential(nn.Linear(3, 2), nn.Flatten(), nn.Linear(2, 2)),
        nn.Sequential(Doubled(3, 2)),
        nn.Sequential(hooked(nn.Linear(3, 2), "register_forward_hook")),
        nn.Sequential(hooked(nn.Linear(3, 2), "register_full_backward_hook")),
        hooked(nn.Sequential(nn.Linear(3, 2)), "register_forward_pre_hook"),
        models.resnet18(width=1 / 16),
    ],
    ids=repr,
)
def test_nothing_else_is_one(model):
    assert Perceptron.of(model) is None


def test_a_layer_used_twice_is_none():
    layer = nn.Linear(3, 3)
    assert Perceptron.of(nn.Sequential(layer, nn.ReLU(), layer)) is None
