"""Conversions: torch.nn.utils.prune itself makes what is read, and reads what is made."""

import copy
import io

import pytest
import torch
from helpers import batch, bits, everything, filled, net
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from test_parameters import Tied
from torch import nn
from torch.nn.parallel import DataParallel
from torch.nn.utils import parametrizations, prune

from sparsedd import Mask, Pruner
from sparsedd.convert import from_state_dict, from_torch_prune, from_torch_prune_, plain_state_dict, to_torch_prune_

BOOLS = arrays.arrays(bool, (3, 5)).map(torch.from_numpy)
FLOATS = arrays.arrays("float32", (3, 5), elements=st.floats(width=32)).map(torch.from_numpy)  # NaN, -0.0, infinities
VECTORS = arrays.arrays(bool, 3).map(torch.from_numpy)


def linear(weight: torch.Tensor) -> nn.Linear:
    module = nn.Linear(5, 3)
    with torch.no_grad():
        module.weight.copy_(weight)
    return module


def removed(model: nn.Module) -> nn.Module:
    """A copy without pruning, as torch.nn.utils.prune makes it."""
    buffer = io.BytesIO()  # a pruned module can't be deep-copied
    torch.save(model, buffer)
    buffer.seek(0)
    model = torch.load(buffer, weights_only=False)
    for module in model.modules():
        for name in [hook._tensor_name for hook in module._forward_pre_hooks.values()]:
            prune.remove(module, name)
    return model


def one(model: nn.Module) -> None:
    prune.l1_unstructured(model.fc, "weight", amount=0.5)


def everywhere(model: nn.Module) -> None:
    prune.global_unstructured([(model.conv, "weight"), (model.fc, "weight")], prune.L1Unstructured, amount=0.8)


def by_chance(model: nn.Module) -> None:
    prune.random_unstructured(model.conv, "weight", amount=7)
    prune.random_unstructured(model.fc, "bias", amount=1)


def rows(model: nn.Module) -> None:
    prune.ln_structured(model.fc, "weight", amount=1, n=2, dim=0)
    prune.random_structured(model.conv, "weight", amount=1, dim=2)


def twice(model: nn.Module) -> None:
    everywhere(model)
    prune.l1_unstructured(model.fc, "weight", amount=0.5)
    prune.ln_structured(model.fc, "weight", amount=5, n=1, dim=1)
    assert isinstance(next(iter(model.fc._forward_pre_hooks.values())), prune.PruningContainer)


def nothing(model: nn.Module) -> None:
    prune.identity(model.fc, "weight")


PRUNINGS = pytest.mark.parametrize("pruned", [one, everywhere, by_chance, rows, twice, nothing])


# ---------------------------------------------------------------- what torch.nn.utils.prune has made


@PRUNINGS
def test_the_mask_is_that_of_torch(pruned):
    model = net()
    pruned(model)
    before = everything(model)
    mask = from_torch_prune(model)
    assert everything(model) == before
    buffers = {name.removesuffix("_mask"): buffer for name, buffer in model.named_buffers()}
    assert dict.fromkeys(mask) == dict.fromkeys(buffers)
    assert all(torch.equal(mask[name], buffers[name].bool()) for name in mask)
    assert mask == Mask.nonzero(removed(model), names=list(mask))


@PRUNINGS
def test_taken_out_it_is_what_prune_remove_leaves_with_the_same_parameters(pruned):
    model = net()
    held = {name: (p, p.data_ptr()) for name, p in model.named_parameters()}
    state = list(model.state_dict())
    pruned(model)
    peer, before = removed(model), from_torch_prune(model)
    inputs, _ = batch(0)
    outputs = model(inputs)
    mask = from_torch_prune_(model)
    assert mask == before
    assert {name: (p, p.data_ptr()) for name, p in model.named_parameters()} == held
    assert sorted(model.state_dict()) == sorted(state) == sorted(peer.state_dict())
    assert not prune.is_pruned(model)
    assert not list(model.buffers())
    copy.deepcopy(model)
    assert torch.equal(model(inputs), outputs)
    for name, p in model.named_parameters():
        assert torch.equal(p, peer.get_parameter(name))  # up to the sign of its zeros
    for name in mask:
        assert not model.get_parameter(name)[~mask[name]].signbit().any()


@PRUNINGS
def test_a_checkpoint_is_read_as_its_model(pruned):
    model = net()
    pruned(model)
    state = model.state_dict()
    before = {name: bits(t) for name, t in state.items()}
    mask, plain = from_state_dict(state), plain_state_dict(state)
    assert {name: bits(t) for name, t in state.items()} == before
    assert mask == from_torch_prune(model)
    fresh = net(1)
    assert str(fresh.load_state_dict(plain)) == "<All keys matched successfully>"
    assert mask.holds(fresh)
    from_torch_prune_(model)
    assert {n: bits(p) for n, p in fresh.named_parameters()} == {n: bits(p) for n, p in model.named_parameters()}


@given(FLOATS, BOOLS, VECTORS)
def test_there_and_back_every_bit_is_the_same(weight, keep, bias):
    model, mask = linear(weight), Mask({"weight": keep, "bias": bias})
    assert from_torch_prune(to_torch_prune_(model, mask)) == mask
    assert bits(model.weight_orig) == bits(weight)
    state = model.state_dict()
    assert from_state_dict(state) == mask
    assert from_torch_prune_(model) == mask
    expected = bits(weight.masked_fill(~keep, 0.0))
    assert bits(model.weight) == expected == bits(plain_state_dict(state)["weight"])
    assert not model.bias[~bias].any()


@given(FLOATS, BOOLS)
def test_the_masks_that_torch_combines_are_combined_by_and(weight, keep):
    model = prune.custom_from_mask(linear(torch.ones(3, 5)), "weight", keep)
    first = from_torch_prune(model)
    prune.custom_from_mask(model, "weight", weight > 0)
    assert from_torch_prune(model) == first & Mask({"weight": weight > 0})


def test_pruned_for_torch_it_computes_and_trains_as_custom_from_mask():
    mask = Pruner(fraction=0.7).prune(net())
    ours, theirs = to_torch_prune_(net(), mask), net()
    for module, name in ((theirs.conv, "conv.weight"), (theirs.fc, "fc.weight")):
        prune.custom_from_mask(module, "weight", mask[name])
    for model in (ours, theirs):
        optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
        for step in range(3):
            inputs, targets = batch(step)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs), targets).backward()
            optimizer.step()
    assert {n: bits(t) for n, t in ours.state_dict().items()} == {n: bits(t) for n, t in theirs.state_dict().items()}


def test_the_hook_can_not_change_the_mask():
    mask = Mask({"weight": torch.ones(3, 5, dtype=torch.bool)})
    model = to_torch_prune_(nn.Linear(5, 3), mask)
    (hook,) = model._forward_pre_hooks.values()
    hook.mask.zero_()
    model.weight_mask.zero_()
    assert mask.remaining == 15


# ---------------------------------------------------------------- ties, wrappers, shared modules


def test_a_tied_weight_is_pruned_for_all_owners():
    model = filled(Tied())
    mask = Pruner(fraction=0.5).prune(model)
    inputs = torch.eye(4)
    outputs = mask.apply_(copy.deepcopy(model))(inputs)
    to_torch_prune_(model, mask)
    assert {name for name, _ in model.named_buffers()} == {"a.weight_mask", "b.weight_mask"}
    assert torch.equal(model(inputs), outputs)
    assert from_torch_prune(model) == mask
    assert from_torch_prune_(model) == mask
    assert model.a.weight is model.b.weight
    assert torch.equal(model(inputs), outputs)


def test_a_weight_tied_by_memory_alone_stays_tied():
    model = filled(Tied())
    model.b.weight = nn.Parameter(model.a.weight.data)
    mask = Pruner(fraction=0.5).prune(model)
    assert from_torch_prune_(to_torch_prune_(model, mask)) == mask
    assert model.a.weight is not model.b.weight
    assert model.a.weight.data_ptr() == model.b.weight.data_ptr()


@pytest.mark.parametrize("second", [None, 3])
def test_a_tied_weight_that_is_pruned_otherwise_elsewhere_is_refused(second):
    model = filled(Tied())
    prune.l1_unstructured(model.a, "weight", amount=2)
    if second:
        prune.l1_unstructured(model.b, "weight", amount=second)
    before = everything(model)
    for read in (from_torch_prune, from_torch_prune_):
        with pytest.raises(ValueError, match=r"'a.weight' and 'b.weight' are one tied parameter.*prune both"):
            read(model)
    assert everything(model) == before


def test_a_tied_weight_of_a_checkpoint_is_read_once():
    model = filled(Tied())
    mask = Pruner(fraction=0.5).prune(model)
    mask.apply_(model)
    assert from_state_dict(model.state_dict()) == mask
    assert list(from_state_dict(model.state_dict(), names=["b.weight"])) == ["b.weight"]
    to_torch_prune_(model, mask)
    assert from_state_dict(model.state_dict()) == mask
    prune.l1_unstructured(model.b, "weight", amount=1)
    with pytest.raises(ValueError, match=r"'a.weight' and 'b.weight' are one tied parameter.*prune both"):
        from_state_dict(model.state_dict())


def test_a_module_of_two_names_is_pruned_once():
    shared = filled(nn.Linear(4, 4))
    model = nn.Sequential(shared, nn.Tanh(), shared)
    mask = Pruner().prune(model)
    to_torch_prune_(model, mask)
    assert not isinstance(next(iter(shared._forward_pre_hooks.values())), prune.PruningContainer)
    assert from_torch_prune(model) == mask
    assert from_torch_prune_(model) == mask
    assert mask.holds(model)


@pytest.mark.parametrize("wrap", [DataParallel, lambda model: torch.compile(model, backend="eager")])
def test_names_are_those_of_the_model_inside(wrap):
    model = net()
    mask = Pruner().prune(model)
    wrapped = wrap(model)
    to_torch_prune_(wrapped, mask)
    assert model.fc.weight_mask.sum() == mask["fc.weight"].sum()
    assert from_torch_prune(wrapped) == mask
    state = wrapped.state_dict()
    assert all(name.startswith(("module.", "_orig_mod.")) for name in state)
    assert from_state_dict(state) == mask
    net().load_state_dict(plain_state_dict(state))
    from_torch_prune_(wrapped)
    state = wrapped.state_dict()
    assert from_state_dict(state) == mask == Mask.nonzero(wrapped)
    weights = [name for name in state if name.endswith("weight")]
    assert from_state_dict(state, names=weights) == mask == from_state_dict(state, names=mask)


# ---------------------------------------------------------------- plain checkpoints


def test_zeros_of_a_plain_checkpoint_are_its_mask():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 8))
    mask = Pruner(fraction=0.6).prune(model)
    state = mask.apply_(model).state_dict()
    assert from_state_dict(state) == mask == Mask.nonzero(model)
    assert list(from_state_dict(state, names=["3.weight"])) == ["3.weight"]
    assert plain_state_dict(state).keys() == state.keys()
    assert all(plain_state_dict(state)[name] is tensor for name, tensor in state.items())


def test_names_choose_among_masks_and_zeros():
    model = net()
    prune.l1_unstructured(model.fc, "weight", amount=0.5)
    with torch.no_grad():
        model.conv.weight[0] = 0
    state = model.state_dict()
    assert list(from_state_dict(state)) == ["fc.weight"]
    mask = from_state_dict(state, names=["conv.weight", "fc.weight"])
    assert mask.remaining == 2 * 9 + 72
    with pytest.raises(ValueError, match=r"no parameter 'fc.weight_orig'. It has conv.weight, conv.bias, fc.bias, fc.weight\."):
        from_state_dict(state, names=["fc.weight_orig"])


def test_masks_of_another_dtype_are_read():
    state = {"w_orig": torch.ones(2, 2, dtype=torch.float16), "w_mask": torch.tensor([[True, False], [True, True]])}
    for dtype in (torch.bool, torch.uint8, torch.float64):
        assert from_state_dict(state | {"w_mask": state["w_mask"].to(dtype)}).remaining == 3
        assert plain_state_dict(state)["w"].dtype == torch.float16


# ---------------------------------------------------------------- what is refused, and changes nothing


def half() -> nn.Module:
    return prune.custom_from_mask(nn.Linear(2, 1), "weight", torch.tensor([[0.5, 1.0]]))


def normed() -> nn.Module:
    with pytest.warns(FutureWarning):
        model = nn.utils.weight_norm(nn.Linear(3, 3))
    return prune.l1_unstructured(model, "weight_v", amount=2)


def parametrized() -> nn.Module:
    model = parametrizations.orthogonal(nn.Linear(3, 3))
    prune.l1_unstructured(model.parametrizations.weight, "original", amount=2)
    return model


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Linear(2, 2), r"carries no mask of torch.nn.utils.prune: Mask.nonzero\(model\)"),
        (half, r"mask of 'weight' must be of zeros and ones, got 0.5, 1.0"),
        (normed, r"pruned 'weight_v', which another weight is computed from.*Remove the parametrization"),
        (parametrized, r"pruned 'parametrizations.weight.original', which another weight is computed from"),
        (lambda: prune.identity(nn.Linear(2, 2), "weight").to("meta"), r"mask of 'weight' .*holds its bits, got tensor"),
    ],
)
def test_what_is_no_mask_is_refused(make, message):
    model = make()
    for read in (from_torch_prune, from_torch_prune_):
        before = repr(model), list(model.state_dict()), len(model._forward_pre_hooks)
        with pytest.raises(ValueError, match=message):
            read(model)
        assert (repr(model), list(model.state_dict()), len(model._forward_pre_hooks)) == before


def test_a_model_that_is_pruned_already_is_refused():
    model = net()
    one(model)
    before = everything(model)
    with pytest.raises(RuntimeError, match=r"has pruned fc.weight of the model already: take that out first"):
        to_torch_prune_(model, Mask.dense(net()))
    assert everything(model) == before


class Masked(nn.Linear):
    """A layer that has masks of its own, as many have."""

    def __init__(self):
        super().__init__(48, 3)
        self.register_buffer("weight_mask", torch.ones(3, 48))


class Stubborn(nn.Linear):
    """A layer that lets nobody touch its weight."""

    def __setattr__(self, name, value):
        if name == "weight" and not isinstance(value, nn.Parameter):
            raise RuntimeError("leave it alone")
        super().__setattr__(name, value)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (Masked, ValueError, r"has 'fc.weight_mask' already, a name that torch"),
        (lambda: Stubborn(48, 3), RuntimeError, "leave it alone"),
        (lambda: parametrizations.orthogonal(nn.Linear(48, 3)), ValueError, "has no parameter 'fc.weight'"),
        (lambda: nn.Linear(4, 3), ValueError, "belongs to another model"),
    ],
)
def test_pruning_for_torch_is_all_or_nothing(make, error, message):
    model = net()
    model.fc = make()
    before = everything(model)
    with pytest.raises(error, match=message):
        to_torch_prune_(model, Mask.dense(net()))
    assert everything(model) == before


def test_a_layer_that_is_never_called_is_warned_of():
    attention = nn.MultiheadAttention(4, 2)
    with pytest.warns(UserWarning, match=r"'out_proj.weight' belongs to a layer that its MultiheadAttention reads"):
        to_torch_prune_(attention, Mask.dense(attention))
    inputs = torch.randn(3, 1, 4)
    attention(inputs, inputs, inputs)[0].sum().backward()
    with pytest.raises(RuntimeError, match="second time"):  # which is why
        attention(inputs, inputs, inputs)[0].sum().backward()


@pytest.mark.parametrize(
    ("state", "names", "message"),
    [
        ({"b": torch.ones(3)}, None, "no weights to read, got no float tensor of two"),
        ({"w": torch.ones(2, 2, dtype=torch.int64)}, None, "no weights to read"),
        ({"w": torch.ones(2, 2)}, ["v"], "no parameter 'v'. It has w"),
        ({"w_orig": torch.ones(2, 2), "w_mask": torch.ones(2)}, None, "'w_orig' and 'w_mask' are not as torch"),
        (
            {"w_orig": torch.ones(2), "w_mask": torch.tensor([0, 3.0])},
            None,
            "'w' must be of zeros and ones, got 0.0, 3.0",
        ),
        ({"w_orig": torch.ones(2), "w_mask": torch.tensor([0, torch.nan])}, None, "must be of zeros and ones, got 0.0, nan"),
        ({"a": 1, "_orig_mod.a": 2}, None, "differ only by '_orig_mod.'"),
        ({"w": torch.eye(2).to_sparse()}, None, "'w' must be a dense tensor that holds its bits, got tensor"),
        ({"w_orig": torch.eye(2), "w_mask": torch.eye(2).to_sparse()}, None, "mask of 'w' must be a dense tensor"),
        (parametrizations.orthogonal(nn.Linear(2, 2)).state_dict(), None, "computed from 'parametrizations.weight.original'"),
    ],
)
def test_a_checkpoint_without_a_mask_is_refused(state, names, message):
    with pytest.raises(ValueError, match=message):
        from_state_dict(state, names)
