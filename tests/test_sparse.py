"""Sparse execution computes what the dense layers compute."""

import ast
import re
import warnings
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from helpers import bits
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sparsedd import Mask, Pruner, sparse


def mlp(inputs: int, hidden: int, outputs: int, dtype: torch.dtype, bias: bool) -> nn.Sequential:
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(inputs, hidden, bias=bias), nn.Tanh(), nn.Linear(hidden, outputs, bias=bias)).to(dtype)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator))
    return model


@given(
    sizes=st.tuples(*[st.integers(1, 12)] * 4),
    sparsity=st.floats(0.05, 0.99),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    bias=st.booleans(),
)
def test_outputs_and_gradients_equal_those_of_the_dense_layers(sizes, sparsity, dtype, bias):
    batch, inputs, hidden, outputs = sizes
    model = mlp(inputs, hidden, outputs, dtype, bias)
    size = inputs * hidden + hidden * outputs
    mask = Pruner(score="random").prune_to(model, min(sparsity, 1 - 1 / size - 1e-9))
    mask.apply_(model)
    fast, rest = sparse.compact(model, mask, below=1.0)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(batch, inputs, generator=generator, dtype=dtype)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    y, expected = fast(ours), model(theirs)
    tolerance = {"rtol": 1e-4, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 1e-10, "atol": 1e-10}
    torch.testing.assert_close(y, expected, **tolerance)
    weight = torch.randn(y.shape, generator=generator, dtype=dtype)
    (y * weight).sum().backward()
    (expected * weight).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, **tolerance)
    for name in ("0", "2"):
        layer, dense = fast.get_submodule(name), model.get_submodule(name)
        if isinstance(layer, sparse.SparseLinear):
            assert rest is None or f"{name}.weight" not in rest
            torch.testing.assert_close(layer.values.grad, dense.weight.grad[mask[f"{name}.weight"]], **tolerance)
        else:
            assert f"{name}.weight" in rest
            torch.testing.assert_close(layer.weight.grad, dense.weight.grad, **tolerance)
        if bias:
            torch.testing.assert_close(layer.bias.grad, dense.bias.grad, **tolerance)


def test_expand_gives_back_what_compact_took():
    model = mlp(10, 8, 3, torch.float32, True)
    mask = Pruner(fraction=0.9).prune(model)
    fast, _ = sparse.compact(model, mask)
    restored = sparse.expand_(mlp(10, 8, 3, torch.float32, True).requires_grad_(False), fast, mask)
    for ours, theirs in zip(restored.parameters(), mask.apply_(deepcopy(model)).parameters(), strict=True):
        assert bits(ours) == bits(theirs)


def test_compact_leaves_the_model_alone_and_the_dense_layers_to_the_mask():
    model = mlp(10, 8, 3, torch.float32, True)
    before = [bits(p) for p in model.parameters()]
    keep = {"0.weight": torch.zeros(8, 10, dtype=torch.bool), "2.weight": torch.ones(3, 8, dtype=torch.bool)}
    keep["0.weight"][0, 0] = True
    fast, rest = sparse.compact(model, Mask(keep))
    assert [bits(p) for p in model.parameters()] == before
    assert isinstance(fast[0], sparse.SparseLinear)
    assert type(fast[2]) is nn.Linear
    assert rest == Mask({"2.weight": keep["2.weight"]})


@pytest.mark.parametrize("shape", [(5, 10), (2, 5, 10), (10,)])
def test_inputs_of_any_leading_shape(shape):
    model = mlp(10, 8, 3, torch.float32, True)
    mask = Pruner(fraction=0.9).prune(model)
    fast, _ = sparse.compact(model, mask)
    x = torch.ones(shape)
    torch.testing.assert_close(fast(x), mask.apply_(model)(x))


def train_a_little(model: nn.Module, mask: Mask | None) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    enforcement = mask.enforce(model, optimizer) if mask is not None else None
    generator = torch.Generator().manual_seed(2)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(4, 10, generator=generator)).square().mean().backward()
        optimizer.step()
    if enforcement is not None:
        enforcement.remove()


@pytest.mark.parametrize("how", ["module", "weight"])
def test_tied_layers_stay_tied(how):
    first, second = nn.Linear(10, 10), nn.Linear(10, 10)
    if how == "weight":
        second.weight = first.weight
    model = nn.Sequential(first, nn.Tanh(), first if how == "module" else second, nn.Linear(10, 10))
    mask = Pruner(score="random").prune_to(model, 0.95)
    fast, rest = sparse.compact(model, mask, below=0.5)
    assert list(rest) == ["0.weight"], "a tied weight stays dense"
    dense = deepcopy(model)
    train_a_little(dense, mask)
    train_a_little(fast, rest)
    sparse.expand_(model, fast, mask)
    assert mask.holds(model)
    for ours, theirs in zip(model.parameters(), dense.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_copy_of_something_else_leaves_the_model_alone():
    model = mlp(10, 8, 3, torch.float32, True)
    one, other = (Pruner(fraction=f).prune(model) for f in (0.95, 0.97))
    fast, _ = sparse.compact(model, one, below=0.5)
    before = [bits(p) for p in model.parameters()]
    with pytest.raises(ValueError, match="was not made of this model and mask"):
        sparse.expand_(model, fast, other)
    with pytest.raises(ValueError, match="was not made of this model and mask"):
        sparse.expand_(model, nn.Sequential(nn.Linear(10, 8)), one)
    assert [bits(p) for p in model.parameters()] == before


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda m: torch.compile(m, backend="eager")])
def test_wrapped_models(wrap):
    model = mlp(10, 8, 3, torch.float32, True)
    mask = Pruner(fraction=0.95).prune(model)
    fast, _ = sparse.compact(wrap(model), mask, below=0.5)
    assert isinstance(fast[0], sparse.SparseLinear)
    before = [bits(p) for p in mask.apply_(deepcopy(model)).parameters()]
    sparse.expand_(wrap(model), fast, mask)
    assert [bits(p) for p in model.parameters()] == before


def test_a_layer_keeps_its_mode_and_what_is_frozen():
    model = mlp(10, 8, 3, torch.float32, True).eval().requires_grad_(False)
    fast, _ = sparse.compact(model, Pruner(fraction=0.95).prune(model), below=0.5)
    assert not any(module.training for module in fast.modules())
    assert not any(p.requires_grad for p in fast.parameters())


def test_autocast_does_not_reach_the_sparse_products():
    model = mlp(10, 8, 3, torch.float32, True)
    mask = Pruner(fraction=0.95).prune(model)
    fast, _ = sparse.compact(model, mask, below=0.5)
    with torch.autocast("cpu", torch.bfloat16):
        fast(torch.randn(4, 10)).sum().backward()
    assert fast[0].values.grad is not None


def test_gradients_are_of_the_values_that_were_multiplied():
    layer = sparse.SparseLinear(nn.Linear(10, 8), torch.rand(8, 10, generator=torch.Generator().manual_seed(0)) < 0.3)
    x = torch.ones(4, 10, requires_grad=True)
    borrowed = {"values": 5 * layer.values.detach()}
    (expected,) = torch.autograd.grad(5 * layer(x).sum(), x)
    (found,) = torch.autograd.grad(torch.func.functional_call(layer, borrowed, (x,)).sum(), x)
    torch.testing.assert_close(found, expected)
    y = layer(x)
    layer.values = nn.Parameter(torch.zeros_like(layer.values))
    torch.testing.assert_close(5 * torch.autograd.grad(y.sum(), x)[0], expected)


def test_second_derivatives_are_refused():
    layer = sparse.SparseLinear(nn.Linear(10, 8), torch.rand(8, 10, generator=torch.Generator().manual_seed(0)) < 0.3)
    x = torch.ones(4, 10, requires_grad=True)
    (gradient,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.square().sum().backward()


@pytest.mark.parametrize("how", ["pre hook", "backward hook", "forward", "bias"])
def test_layers_that_do_more_than_multiply_stay_dense(how):
    model = mlp(10, 10, 10, torch.float32, True)
    if how == "pre hook":
        model[0].register_forward_pre_hook(lambda module, inputs: (inputs[0] * 100,))
    elif how == "backward hook":
        model[0].register_full_backward_hook(lambda *arguments: None)
    elif how == "forward":
        model[0].forward = lambda x: 2 * x
    else:
        model[2].bias = model[0].bias
    fast, rest = sparse.compact(model, Pruner(score="random").prune_to(model, 0.9), below=0.5)
    assert "0.weight" in rest
    assert type(fast[0]) is nn.Linear
    if how == "bias":
        assert fast[0].bias is fast[2].bias


@pytest.mark.parametrize("keep", [torch.ones(8, 10), torch.ones(10, 8, dtype=torch.bool)])
def test_a_mask_that_does_not_fit_is_refused(keep):
    with pytest.raises(ValueError, match=r"keep must be bool, of shape \(8, 10\), got"):
        sparse.SparseLinear(nn.Linear(10, 8), keep)


def test_building_a_layer_leaves_the_warnings_filters_of_other_threads_alone(monkeypatch):
    def touched(*arguments, **options):
        raise AssertionError("the filters are those of the whole process: two threads give them back in the wrong order")

    before = list(warnings.filters)
    with monkeypatch.context() as patched:  # pytest touches them, too
        for name in ("catch_warnings", "simplefilter", "filterwarnings", "resetwarnings"):
            patched.setattr(warnings, name, touched)
        layer = sparse.SparseLinear(nn.Linear(10, 10), torch.eye(10, dtype=torch.bool))
        layer(torch.ones(1, 10)).sum().backward()
    assert layer.density < sparse.SAMPLED, "its backward pass has a CSR tensor, of which torch would warn"
    assert warnings.filters == before


def test_no_function_touches_the_warnings_filters():
    for path in Path(sparse.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                assert not re.search("catch_warnings|simplefilter|filterwarnings", ast.unparse(node)), f"{path}: {node.name}"


@given(st.sampled_from([0.01, 0.05, 0.1]), st.sampled_from([torch.float32, torch.float64]), st.booleans())
def test_a_pattern_made_once_and_one_of_the_weights_give_the_same_bits(density, dtype, narrow):
    generator = torch.Generator().manual_seed(0)
    layer = sparse.SparseLinear(nn.Linear(40, 30, dtype=dtype), torch.rand(30, 40, generator=generator) < density)
    if narrow:
        layer.narrow_()
    g, x = (torch.randn(n, 9, generator=generator).to(dtype) for n in layer.shape)
    values = layer.values.detach()
    csr = torch.sparse_csr_tensor(layer.row_starts, layer.columns, values, layer.shape, check_invariants=False)
    expected = torch.sparse.sampled_addmm(csr, g, x.t(), beta=0.0).values()
    pattern = layer._pattern()
    for found in (layer.sampled(g, x), layer.sampled(g, x, pattern), layer.sampled(g, x, pattern)):
        assert torch.equal(found, expected)
    alone = [(row[:, None] * x[columns]).sum(0) for row, columns in zip(*_rows(layer, values), strict=True)]
    torch.testing.assert_close(layer.product(x, layer.values).detach(), torch.stack(alone))


def _rows(layer: sparse.SparseLinear, values: torch.Tensor) -> list[tuple[torch.Tensor, ...]]:
    return [t.split(layer.row_starts.diff().tolist()) for t in (values, layer.columns)]
