import copy
import os
import pickle
import random
import warnings

import pytest
import torch
from helpers import bits, everything, filled, net, risen
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils import parametrizations
from torch.optim import SGD

from sparsedd import Mask, Pruner, Rewinder, convert, prunable

# A mask over these shapes is a number of D bits, and set algebra on masks is bitwise algebra on numbers.
SHAPES = {"fc.weight": (2, 3), "scalar": (), "empty": (0, 4), "conv.weight": (2, 1, 2, 1)}
D, ALL = 11, 2**11 - 1
numbers = st.integers(0, ALL)


def mask_of(number: int, names: list[str] | None = None) -> Mask:
    keep = torch.tensor([bit == "1" for bit in f"{number:0{D}b}"])
    parts = keep.split([torch.Size(shape).numel() for shape in SHAPES.values()])
    tensors = {name: part.reshape(shape) for (name, shape), part in zip(SHAPES.items(), parts, strict=True)}
    return Mask({name: tensors[name] for name in names or SHAPES})


def one(*keep: bool) -> Mask:
    return Mask({"weight": torch.tensor([keep])})


# ---------------------------------------------------------------- reading


@given(numbers)
def test_counts(n):
    mask = mask_of(n)
    kept = n.bit_count()
    assert (mask.size, mask.remaining) == (D, kept)
    assert (mask.density, mask.sparsity) == (kept / D, (D - kept) / D)
    assert mask.by_layer()["fc.weight"] == (6 - (n >> 5).bit_count()) / 6
    assert mask.by_layer()["empty"] == 1.0
    assert (list(mask), len(mask), dict(mask).keys()) == (list(SHAPES), 4, SHAPES.keys())


@given(numbers)
def test_what_goes_in_and_out_is_a_copy(n):
    given_tensor = torch.tensor([[True, False]])
    mask = Mask({"w": given_tensor})
    given_tensor.fill_(True)
    assert mask["w"].tolist() == [[True, False]]
    mask = mask_of(n)
    for handed_out in (
        mask["fc.weight"],
        mask.get("fc.weight"),
        next(iter(mask.values())),
        dict(mask.items())["fc.weight"],
        mask.state_dict()["fc.weight"],
        mask.to("cpu")["fc.weight"],
        (mask | mask)["fc.weight"],
    ):
        handed_out.logical_not_()
        assert mask == mask_of(n)
    assert Mask(mask).digest() == mask.digest() == mask_of(n).digest()


@pytest.mark.parametrize("attribute", ["size", "sparsity", "digest", "anything"])
def test_a_mask_can_not_be_assigned_to(attribute):
    mask = one(True, False)
    with pytest.raises(AttributeError):
        setattr(mask, attribute, 1)
    with pytest.raises(TypeError):
        mask["weight"] = torch.tensor([[True, True]])


def test_a_name_that_is_not_there_is_named_with_those_that_are():
    with pytest.raises(KeyError, match=r"no parameter 'fc'. It has fc.weight, scalar, empty, conv.weight"):
        mask_of(3)["fc"]
    assert "fc" not in mask_of(3)
    assert mask_of(3).get("fc") is None


def test_repr_is_a_sentence():
    keep = torch.zeros(370, 100, dtype=torch.bool)
    keep.view(-1)[:2312] = True
    assert repr(Mask({"w": keep})) == "Mask(2,312 of 37,000 weights, sparsity 93.75%)"


@pytest.mark.parametrize(
    ("keep", "error", "message"),
    [
        ({}, ValueError, "at least one parameter, got none"),
        ([torch.ones(2).bool()], TypeError, "of type list"),
        ({"w": torch.ones(2)}, TypeError, r"'w' must be a bool tensor.*got torch.float32"),
        ({"w": [True]}, TypeError, "'w' must be a bool tensor.*got list"),
        ({0: torch.ones(2).bool()}, TypeError, "a name must be a string, got 0"),
        ({"a.w": torch.ones(1).bool(), "a._orig_mod.w": torch.ones(1).bool()}, ValueError, "differ only by '_orig_mod.'"),
    ],
)
def test_what_is_no_mask_is_refused(keep, error, message):
    with pytest.raises(error, match=message):
        Mask(keep)


# ---------------------------------------------------------------- algebra


@given(numbers, numbers)
def test_set_algebra_is_that_of_the_kept_weights(a, b):
    m, n = mask_of(a), mask_of(b)
    assert m & n == mask_of(a & b)
    assert m | n == mask_of(a | b)
    assert m - n == mask_of(a & ~b)
    assert ~m == mask_of(ALL & ~a)
    assert (m <= n) == (a & ~b == 0)
    assert (n >= m) == (m <= n)


@given(numbers, numbers, numbers)
def test_set_laws(a, b, c):
    m, n, o = mask_of(a), mask_of(b), mask_of(c)
    assert ~~m == m
    assert ~(m & n) == ~m | ~n
    assert m & (n | o) == (m & n) | (m & o)
    assert m - n == m & ~n
    assert m & n <= m <= m | n
    assert (m <= n and n <= m) == (m == n)
    assert (m & n).remaining + (m | n).remaining == m.remaining + n.remaining


def test_the_order_of_the_names_does_not_matter():
    other = mask_of(700, list(reversed(SHAPES)))
    assert other == mask_of(700)
    assert hash(other) == hash(mask_of(700))
    assert other & mask_of(37) == mask_of(700 & 37)
    assert other <= mask_of(700)


@pytest.mark.parametrize("operator", ["__and__", "__or__", "__sub__", "__le__"])
@pytest.mark.parametrize(
    ("other", "named"),
    [
        (mask_of(5, ["fc.weight", "scalar", "empty"]), "only one has 'conv.weight'"),
        (mask_of(5, ["fc.weight"]) & mask_of(5, ["fc.weight"]), "only one has 'scalar'"),
        (Mask({**mask_of(5), "scalar": torch.ones(1).bool()}), r"'scalar' has shape \(\) in one and \(1,\) in the other"),
    ],
)
def test_algebra_of_unlike_masks_names_the_parameter(operator, other, named):
    with pytest.raises(ValueError, match=named):
        getattr(mask_of(7), operator)(other)
    assert mask_of(7) != other


@pytest.mark.parametrize("other", [3, None, "weight", {}, torch.ones(1)])
def test_algebra_with_something_else_is_a_type_error_and_equality_is_false(other):
    mask = one(True)
    assert (mask == other) is False
    assert mask != dict(mask)
    for operator in (lambda: mask & other, lambda: mask | other, lambda: mask - other, lambda: mask <= other):
        with pytest.raises(TypeError):
            operator()


# ---------------------------------------------------------------- identity


@given(numbers, numbers)
def test_equality_hash_and_digest_agree(a, b):
    m, n = mask_of(a), mask_of(b)
    assert (m == n) == (a == b) == (m.digest() == n.digest()) == (len({m, n}) == 1)


def test_the_digest_is_the_same_on_every_machine():
    assert mask_of(0b10110011101).digest() == "6ef0e9ab8a9a2400531d3d42002f4c6d2cb5de0f2eeb4dcc0c0d053df103e2a1"


def test_the_digest_tells_names_and_shapes_apart():
    keep = torch.tensor([True, False, True, True, False, True])
    masks = [Mask({name: keep.reshape(shape)}) for name in ("a", "b") for shape in ((6,), (2, 3), (3, 2), (6, 1))]
    masks.append(Mask({"a": keep[:3], "b": keep[3:]}))
    masks.append(Mask({"a": keep[:2], "b": keep[2:]}))
    assert len({mask.digest() for mask in masks}) == len(set(masks)) == len(masks)


@given(numbers)
def test_copies_and_pickles_are_equal(n):
    mask = mask_of(n)
    copies = [copy.copy(mask), copy.deepcopy(mask), mask.to("cpu"), Mask(mask), Mask.from_state_dict(mask.state_dict())]
    copies += [pickle.loads(pickle.dumps(mask, protocol)) for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)]
    assert all(type(other) is Mask and other == mask and list(other) == list(mask) for other in copies)


def test_state_dict_loads_as_weights_only(tmp_path):
    torch.save({"mask": mask_of(1234).state_dict()}, tmp_path / "checkpoint.pt")
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert Mask.from_state_dict(state["mask"]) == mask_of(1234)


# ---------------------------------------------------------------- files

NAMES = st.text(min_size=1).filter(lambda name: "_orig_mod." not in name and name != "__metadata__")


@given(st.dictionaries(NAMES, st.lists(st.integers(0, 3), max_size=3), min_size=1, max_size=4), st.randoms())
def test_what_is_saved_is_loaded(tmp_path_factory, shapes, rnd):
    mask = Mask(
        {
            name: torch.tensor([rnd.random() < 0.5 for _ in range(torch.Size(shape).numel())]).bool().reshape(shape)
            for name, shape in shapes.items()
        }
    )
    path = tmp_path_factory.getbasetemp() / "round" / "trip.safetensors"
    mask.save(path)
    loaded = Mask.load(str(path))
    assert loaded == mask
    assert list(loaded) == list(mask)
    assert loaded.digest() == mask.digest()
    before = path.read_bytes()
    loaded.save(path)
    assert path.read_bytes() == before


def test_a_file_holds_a_bit_for_each_weight(tmp_path):
    Mask({"w": torch.ones(1000, 800, dtype=torch.bool)}).save(tmp_path / "mask")
    assert 100_000 <= (tmp_path / "mask").stat().st_size < 101_000


@pytest.mark.parametrize("change", [0x01, 0x20, 0xFF])
def test_any_changed_byte_is_refused(tmp_path, change):
    mask_of(0b10110011101).save(tmp_path / "mask")
    good = (tmp_path / "mask").read_bytes()
    for position in range(len(good)):
        bad = bytearray(good)
        bad[position] ^= change
        (tmp_path / "bad").write_bytes(bad)
        with pytest.raises(ValueError, match="bad"):
            Mask.load(tmp_path / "bad")


def test_a_file_that_is_too_short_or_too_long_is_refused(tmp_path):
    mask_of(77).save(tmp_path / "mask")
    good = (tmp_path / "mask").read_bytes()
    for bad in (*(good[:length] for length in range(len(good))), good + b"\0", good + good, b"\0" + good, good[1:]):
        (tmp_path / "bad").write_bytes(bad)
        with pytest.raises(ValueError, match="bad"):
            Mask.load(tmp_path / "bad")


def test_a_file_of_another_kind_is_refused(tmp_path):
    Rewinder(step=3, model=nn.Linear(2, 1)).save(tmp_path / "rewinder")
    with pytest.raises(ValueError, match="holds a rewinder, not a mask"):
        Mask.load(tmp_path / "rewinder")
    save_file({"w": torch.ones(3, dtype=torch.uint8)}, tmp_path / "plain")
    (tmp_path / "text").write_text("a mask, I swear")
    torch.save(mask_of(3).state_dict(), tmp_path / "pickle")
    for name in ("plain", "text", "pickle"):
        with pytest.raises(ValueError, match=f"{name} is not a mask saved by sparsedd"):
            Mask.load(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        Mask.load(tmp_path / "nothing")


def test_another_version_is_refused_by_its_number(tmp_path, monkeypatch):
    monkeypatch.setattr("sparsedd._files.VERSION", 99)
    mask_of(3).save(tmp_path / "mask")
    monkeypatch.undo()
    with pytest.raises(ValueError, match="has format version 99; this sparsedd reads version 1"):
        Mask.load(tmp_path / "mask")


@pytest.mark.parametrize("function", ["replace", "fsync"])
def test_a_save_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, function):
    mask_of(3).save(tmp_path / "mask")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, function, fail)
    with pytest.raises(OSError, match="disk full"):
        mask_of(4).save(tmp_path / "mask")
    monkeypatch.undo()
    assert Mask.load(tmp_path / "mask") == mask_of(3)
    assert os.listdir(tmp_path) == ["mask"]


def test_save_replaces_and_makes_folders(tmp_path):
    for n in (3, 4):
        mask_of(n).save(tmp_path / "new" / "folder" / "mask")
    assert Mask.load(tmp_path / "new" / "folder" / "mask") == mask_of(4)
    assert os.listdir(tmp_path / "new" / "folder") == ["mask"]


# ---------------------------------------------------------------- on a model

SPECIAL = st.sampled_from([0.0, -0.0, float("nan"), float("inf"), float("-inf"), 1.5, -2.0, 1e-7])
DTYPES = st.sampled_from([torch.float32, torch.float64, torch.float16, torch.bfloat16])


@given(st.lists(SPECIAL, min_size=6, max_size=6), st.integers(0, 63), DTYPES)
def test_apply_makes_pruned_weights_plus_zero_and_leaves_the_others(values, n, dtype):
    mask = Mask({"weight": torch.tensor([bool(n >> k & 1) for k in range(6)]).reshape(2, 3)})
    model = nn.Linear(3, 2, dtype=dtype)
    model.weight.data = torch.tensor(values, dtype=dtype).reshape(2, 3)
    model.weight.grad = torch.tensor(values, dtype=dtype).reshape(2, 3)
    before, keep = model.weight.detach().clone(), mask["weight"]
    expected = torch.where(keep, before, torch.zeros((), dtype=dtype))

    assert mask.holds(model) == bool((before[~keep] == 0).all())
    assert mask.apply_(model) is model
    assert bits(model.weight) == bits(expected)
    assert mask.holds(model)
    assert bits(model.weight.grad) == bits(before)
    assert mask.apply_to_grads_(model) is model
    assert bits(model.weight.grad) == bits(expected)
    assert bits(model.weight) == bits(expected)


def test_apply_to_grads_skips_what_has_no_gradient():
    model = net()
    mask = Mask.dense(model)
    model.conv.weight.grad = torch.ones_like(model.conv.weight)
    (~mask).apply_to_grads_(model)
    assert model.conv.weight.grad.count_nonzero() == 0
    assert model.fc.weight.grad is None


@pytest.mark.parametrize("method", ["apply_", "apply_to_grads_", "holds"])
def test_a_mask_of_another_model_changes_nothing(method):
    model = net()
    model.conv.weight.grad = torch.ones_like(model.conv.weight)
    keep = torch.zeros(3, 1, 3, 3, dtype=torch.bool)
    before = everything(model)
    with pytest.raises(ValueError, match=r"'fc.weight' has shape \(3, 48\) in the model and \(48, 3\) in the mask"):
        getattr(Mask({"conv.weight": keep, "fc.weight": torch.zeros(48, 3).bool()}), method)(model)
    with pytest.raises(ValueError, match=r"no parameter 'fc2.weight'. It has conv.weight, conv.bias, fc.weight, fc.bias"):
        getattr(Mask({"conv.weight": keep, "fc2.weight": torch.zeros(3, 48).bool()}), method)(model)
    with pytest.raises(TypeError, match=r"must be a torch.nn.Module, got .* type dict"):
        getattr(Mask({"conv.weight": keep}), method)(dict(model.named_parameters()))
    assert everything(model) == before


def test_dense_keeps_all_and_nonzero_keeps_what_is_not_zero():
    model = net()
    model.fc.weight.data[0] = 0.0
    model.conv.weight.data[0, 0, 0, 0] = -0.0
    before = everything(model)
    dense, sparse = Mask.dense(model), Mask.nonzero(model)
    assert dense.remaining == dense.size == 3 * 9 + 3 * 48
    assert dense - sparse == Mask({n: p == 0 for n, p in model.named_parameters() if p.dim() > 1})
    assert sparse.remaining == dense.size - 48 - 1
    assert sparse.holds(model)
    assert Mask.dense(model, ["fc.bias"]).size == Mask.nonzero(model, {"fc.bias"}).remaining == 3
    assert everything(model) == before


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_nonzero_takes_a_bit_a_weight(memory_format):
    model = filled(nn.Sequential(*(nn.Conv2d(512, 256, 3, bias=False) for _ in range(8)))).to(memory_format=memory_format)
    found = []
    assert risen(lambda: found.append(Mask.nonzero(model))) <= 0.6 * found[0].size
    assert found[0] == Mask({name: p.detach() != 0 for name, p in model.named_parameters()})


def test_masks_and_their_algebra_take_a_bit_a_weight():
    model = nn.Sequential(*(nn.Linear(2048, 1024, bias=False) for _ in range(8)))
    mask, n, made = Mask.nonzero(model), 8 * 2048 * 1024, [Mask.dense(model)]
    for make in (lambda: Mask.dense(model), lambda: ~mask, lambda: mask & mask):
        assert risen(lambda make=make: made.append(make())) <= 0.3 * n
    for use in (mask.digest, mask.by_layer, lambda: mask <= mask, lambda: mask.apply_(model), lambda: mask.holds(model)):
        assert risen(use) <= 0.35 * n


def test_nonzero_finds_the_mask_that_was_applied():
    for seed in range(20):
        model = filled(net(), seed)
        mask = Mask({n: torch.rand(p.shape, generator=torch.Generator().manual_seed(seed)) < random.Random(seed).random()
                     for n, p in model.named_parameters() if p.dim() > 1})  # fmt: skip
        assert Mask.nonzero(mask.apply_(model)) == mask


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        ("fc.weight", TypeError, r"got the string 'fc.weight': write \['fc.weight'\]"),
        (["fc.wait"], ValueError, "no parameter 'fc.wait'. It has conv.weight"),
        ([3], TypeError, r"must be a collection of strings, got \[3\]"),
        (3, TypeError, "must be a collection of strings, got 3"),
        ([], ValueError, "at least one parameter"),
    ],
)
@pytest.mark.parametrize("make", [Mask.dense, Mask.nonzero])
def test_names_that_are_none_are_refused(make, names, error, message):
    with pytest.raises(error, match=message):
        make(net(), names)


def test_masks_are_contiguous_whatever_they_were_made_of():
    keep = (torch.rand(3, 2, 4, 4, generator=torch.Generator().manual_seed(0)) > 0.5).to(memory_format=torch.channels_last)
    assert Mask({"w": keep}) == Mask({"w": keep.contiguous()})
    assert Mask({"w": keep}).digest() == Mask({"w": keep.contiguous()}).digest()
    assert Mask({"w": keep})["w"].is_contiguous()


def test_a_tied_parameter_is_named_once():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    mask = Mask({name: torch.ones(3, 3, dtype=torch.bool) for name in ("0.weight", "1.weight")})
    with pytest.raises(ValueError, match=r"'0.weight' and '1.weight' are one tied parameter"):
        mask.apply_(model)


def test_a_mask_under_a_wrappers_names_fits_the_wrapper():
    model = nn.DataParallel(nn.Linear(3, 3))
    mask = Mask({"module.weight": torch.eye(3) > 0})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with mask.enforce(model, optimizer):
        model(torch.ones(1, 3)).sum().backward()
        optimizer.step()
    assert int((model.module.weight != 0).sum()) == 3


def test_a_name_that_contains_a_wrappers_is_left_alone():
    model = nn.Sequential()
    model.add_module("my_orig_mod", nn.Linear(2, 2))
    assert list(Mask.dense(model)) == ["my_orig_mod.weight"]


def test_masks_of_a_meta_model_fit_what_it_becomes():
    model = nn.Linear(2, 2, device="meta")
    mask = Mask.dense(model)
    assert mask.holds(model.to_empty(device="cpu"))


def test_other_masks_have_other_hashes():
    assert len({hash(mask_of(remaining)) for remaining in range(1, 50)}) == 49


# ---------------------------------------------------------------- a mask and the zeros of a model


def adapted():
    """A layer, and a matrix beside it that begins at zero, as the B of a LoRA does."""
    model = nn.ModuleDict({"a": nn.Linear(6, 4), "b": nn.Linear(4, 6, bias=False)})
    nn.init.zeros_(model["b"].weight)
    return model


def test_a_mask_made_of_zeros_names_what_is_zero_throughout():
    model = adapted()
    with pytest.warns(UserWarning, match=r"all pruned in this mask: b\.weight\. .* pass the others as names=") as warned:
        mask = Mask.nonzero(model)
    assert warned[0].filename == __file__
    assert not mask["b.weight"].any()
    assert Mask.nonzero(model, ["a.weight"]).sparsity == 0.0


@pytest.mark.parametrize(("pruned", "quiet"), [(100, False), (50, False), (49, True), (0, True)])
def test_enforcing_a_mask_that_keeps_many_zeros_is_a_warning(pruned, quiet):
    model = nn.Linear(100, 10)
    model.weight.data.view(-1)[:pruned] = 0.0
    optimizer = SGD(model.parameters(), 0.1)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        with Mask.dense(model).enforce(model, optimizer):
            pass
    assert [w.filename for w in warned] == [__file__] * (not quiet)
    assert quiet or f"{pruned} of the 1,000 weights that the mask keeps are zero" in str(warned[0].message)


def test_where_a_mask_agrees_with_the_zeros_and_where_it_is_left_nothing_is_said():
    model = nn.Linear(100, 10)
    optimizer = SGD(model.parameters(), 0.1)
    mask = Pruner().prune_to(model, 0.9)
    for sparse in (mask, Mask.nonzero(mask.apply_(model))):
        with sparse.enforce(model, optimizer):
            pass
    model(torch.ones(1, 100)).sum().backward()  # dense again
    optimizer.step()
    with mask.enforce(model, optimizer):
        pass
    model = adapted()
    with Mask.dense(model).enforce(model, SGD(model.parameters(), 0.1)):
        pass  # initialised so


def spoilt(model, optimizer, mask):
    with mask.enforce(model, optimizer):
        nn.init.ones_(model["a"].weight)
        optimizer.step()


def unused(model, optimizer, mask):
    with mask.enforce(model, optimizer):
        copy.deepcopy(optimizer).step()


def uncovered():
    return nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Embedding(50, 9)})


WARNINGS = [
    lambda: prunable(uncovered()),
    lambda: Mask.dense(uncovered()),
    lambda: Pruner().prune(uncovered()),
    lambda: prunable(nn.ModuleDict({"a": nn.Linear(2, 2), "b": parametrizations.weight_norm(nn.Linear(2, 2))})),
    lambda: convert.to_torch_prune_(model := nn.MultiheadAttention(4, 2), Mask.dense(model)),
    lambda: Mask.nonzero(adapted()),
    lambda: Pruner().prune(model := nn.Linear(9, 9), Mask.dense(Pruner(fraction=0.5).prune(model).apply_(model))),
    lambda: spoilt(model := adapted(), SGD(model.parameters(), 0.1), Mask({"a.weight": torch.zeros(4, 6).bool()})),
    lambda: unused(model := adapted(), SGD(model.parameters(), 0.1), Mask({"a.weight": torch.zeros(4, 6).bool()})),
]


@pytest.mark.parametrize("call", WARNINGS)
def test_a_warning_points_at_the_line_of_the_caller(call):
    with pytest.warns(UserWarning, match=r"\w") as warned:
        call()
    assert {w.filename for w in warned} == {__file__}
