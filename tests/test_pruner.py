import copy
import dataclasses
import math
import pickle
import re
from contextlib import nullcontext
from fractions import Fraction

import numpy as np
import pytest
import torch
from helpers import everything, filled, net, no_global_draws
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

from sparsedd import Mask, Pruner, scores


def vector(values, dtype=torch.float32) -> nn.Module:
    """A module whose only prunable weight, (1, n), has these values."""
    model = nn.Linear(len(values), 1, bias=False, dtype=dtype)
    model.weight.data = torch.as_tensor(values, dtype=dtype).reshape(1, -1)
    return model


def layers(*sizes: int, seed: int = 0, dtypes=(torch.float32,)) -> nn.Module:
    """One layer of each size, called "0", "1", ..."""
    made = [nn.Linear(n, 1, bias=False, dtype=dtypes[k % len(dtypes)]) for k, n in enumerate(sizes)]
    return filled(nn.ModuleList(made), seed)


def by_sorting(model: nn.Module, mask: Mask, lose: int) -> Mask:
    """Global magnitude pruning in the plainest words: sort (|w|, position), drop the first."""
    names = [n for n, _ in model.named_parameters() if n in mask]
    kept = [(abs(p.double().item()), k, i) for k, n in enumerate(names)
            for i, p in enumerate(model.get_parameter(n).detach().flatten()) if mask[n].flatten()[i]]  # fmt: skip
    new = {n: mask[n].flatten() for n in names}
    for _, k, i in sorted(kept)[:lose]:
        new[names[k]][i] = False
    return Mask({n: new[n].reshape(mask[n].shape) for n in names})


# ---------------------------------------------------------------- exact counts


def test_every_percentage_of_every_size_is_exact():
    pruners = [(percent, Pruner(fraction=percent / 100)) for percent in range(100)]
    for size in range(1, 401):
        model = vector(range(1, size + 1))
        mask = Mask.dense(model)
        for percent, pruner in pruners:
            kept = size - -(-percent * size // 100)  # the ceiling, in integers
            if kept:
                assert pruner.prune(model, mask).remaining == kept, (percent, size)
            else:
                with pytest.raises(ValueError, match="nothing would be kept"):
                    pruner.prune(model, mask)


def test_every_percentage_of_every_size_is_exact_for_prune_to():
    for size in (*range(1, 30), 100, 300, 399, 1000):
        model = vector(range(1, size + 1))
        mask = Mask.dense(model)
        for percent in range(100):
            kept = (100 - percent) * size // 100
            if kept:
                assert Pruner().prune_to(model, percent / 100, mask).remaining == kept, (percent, size)
            else:
                with pytest.raises(ValueError, match="nothing would be kept"):
                    Pruner().prune_to(model, percent / 100, mask)


SEVEN = [0.07, Fraction(7, 100), np.float64(0.07), np.float32(0.07)]


@pytest.mark.parametrize("seven", SEVEN, ids=lambda f: type(f).__name__)
def test_seven_percent_of_a_hundred_is_seven_whatever_the_type(seven):
    model = vector(range(100))
    assert Pruner(fraction=seven).prune(model).remaining == 93
    assert Pruner().prune_to(model, seven).remaining == 93
    assert Pruner(fraction=seven).sparsity(2) == float(1 - Fraction(93, 100) ** 2)


@given(st.fractions(0, 1, max_denominator=10**6), st.integers(2, 2000), st.sampled_from(["global", "layer"]), st.data())
def test_counts_are_exact_for_any_fraction_and_any_mask(fraction, size, scope, data):
    assume(fraction < 1)
    cut = data.draw(st.integers(1, size - 1))
    model = layers(cut, size - cut)
    density = data.draw(st.sampled_from([0.1, 0.5, 1.0]))
    generator = torch.Generator().manual_seed(size)
    mask = Mask({n: torch.rand(p.shape, generator=generator) <= density for n, p in model.named_parameters()})
    groups = [[keep] for keep in mask.values()] if scope == "layer" else [list(mask.values())]
    remaining = [sum(int(keep.sum()) for keep in group) for group in groups]
    expected = [r - math.ceil(fraction * r) for r in remaining]
    if sum(expected):
        new = Pruner(fraction=fraction, scope=scope).prune(model, mask)
        assert new <= mask
        assert expected == ([int(k.sum()) for k in new.values()] if scope == "layer" else [new.remaining])
    else:
        with pytest.raises(ValueError, match="nothing would be kept"):
            Pruner(fraction=fraction, scope=scope).prune(model, mask)


def test_fraction_zero_keeps_the_mask():
    mask = Pruner(fraction=0.5).prune(net())
    assert Pruner(fraction=0).prune(net(), mask) == mask
    assert Pruner(fraction=0.0, scope="layer").prune(net()) == Mask.dense(net())


# ---------------------------------------------------------------- which weights


@pytest.mark.filterwarnings("ignore:.*weights that the mask keeps are zero")
@given(
    st.lists(st.lists(st.integers(-3, 3), min_size=1, max_size=12), min_size=1, max_size=4),
    st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16]),
    st.integers(0, 2**30),
    st.floats(0, 0.99),
)
def test_the_lowest_go_first_and_ties_by_position(values, dtype, kept, fraction):
    model = nn.ModuleList([vector(v, dtype) for v in values])
    bit = iter(range(1000))
    mask = Mask({n: torch.tensor([[kept >> (next(bit) % 30) & 1 == 0 for _ in range(p.numel())]])
                 for n, p in model.named_parameters()})  # fmt: skip
    lose = math.ceil(Fraction(str(fraction)) * mask.remaining)
    assume(lose < mask.remaining)
    assert Pruner(fraction=fraction).prune(model, mask) == by_sorting(model, mask, lose)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_equal_weights_go_in_the_order_of_the_model(dtype):
    model = nn.ModuleList([vector([1.0, -1.0, 1.0], dtype), vector([-1.0] * 5, dtype)])
    mask = Mask.dense(model)
    for same in (mask, Mask({name: mask[name] for name in ("1.weight", "0.weight")})):
        new = Pruner(fraction=0.5).prune(model, same)
        assert new["0.weight"].tolist() == [[False] * 3]
        assert new["1.weight"].tolist() == [[False, True, True, True, True]]
        by_layer = Pruner(fraction=0.5, scope="layer").prune(model, same)
        assert by_layer["0.weight"].tolist() == [[False, False, True]]
        assert by_layer["1.weight"].tolist() == [[False, False, False, True, True]]


@pytest.mark.filterwarnings("ignore:.*weights that the mask keeps are zero")
def test_zeros_of_both_signs_are_ties():
    model = vector([-0.0, 0.0, -0.0, 1.0, 2.0])
    assert Pruner(fraction=0.4).prune(model, Mask.dense(model))["weight"].tolist() == [[False, False, True, True, True]]


def test_half_precision_is_ranked_without_overflow():
    """The products of gradients underflow in half precision; |w * g| ranks them all the same."""
    model = vector([1e-4, 2e-4, 3e-4, 4e-4], torch.float16)
    model.weight.grad = torch.full((1, 4), 1e-4, dtype=torch.float16)
    assert Pruner("gradient", fraction=0.5).prune(model)["weight"].tolist() == [[False, False, True, True]]


def test_float32_and_float64_are_ranked_together():
    model = nn.ModuleList([vector([0.1, 0.3], torch.float32), vector([0.1, 0.2], torch.float64)])  # float32's 0.1 is larger
    mask = Pruner(fraction=0.25).prune(model)
    assert mask["1.weight"].tolist() == [[False, True]]
    mask = Pruner(fraction=0.5).prune(model)
    assert mask == Mask({"0.weight": torch.tensor([[False, True]]), "1.weight": torch.tensor([[False, True]])})
    for seed in range(5):
        model = layers(40, 30, 20, seed=seed, dtypes=(torch.float32, torch.float64, torch.bfloat16))
        assert Pruner(fraction=0.6).prune(model) == by_sorting(model, Mask.dense(model), 54)


def test_infinite_scores_are_ranked():
    model = vector([float("inf"), 1.0, float("-inf"), 2.0])
    assert Pruner(fraction=0.5).prune(model)["weight"].tolist() == [[True, False, True, False]]

    def score(name, w):
        return torch.tensor([[float("-inf"), 0.0, float("inf"), -1.0]])

    assert Pruner(score, fraction=0.5).prune(model)["weight"].tolist() == [[False, True, True, False]]


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.int32, torch.float16, torch.float64])
def test_a_score_may_be_of_any_real_dtype(dtype):
    model = vector([1.0] * 6)
    mask = Pruner(lambda name, w: torch.tensor([[5, 0, 4, 1, 3, 2]], dtype=dtype), fraction=0.5).prune(model)
    assert mask["weight"].tolist() == [[True, False, True, False, True, False]]


def test_scores_see_each_weight_by_name_and_pruned_ones_never_count():
    asked = []

    def score(name, parameter):
        asked.append(name)
        assert isinstance(parameter, nn.Parameter)
        return torch.where(Mask.nonzero(model)[name], parameter.detach().abs(), torch.tensor(float("nan")))

    model = net()
    mask = Pruner(fraction=0.5).prune(model)
    mask.apply_(model)
    assert Pruner(score).prune(model, mask) == Pruner().prune(model, mask)
    assert asked == ["conv.weight", "fc.weight"]


@given(st.integers(0, 1000), st.sampled_from(["magnitude", "random", "gradient"]), st.sampled_from(["global", "layer"]))
def test_levels_are_nested_and_reproducible(seed, score, scope):
    pruner = Pruner(score, fraction=0.3, scope=scope)

    def sweep() -> list[Mask]:
        model = net(seed)
        for p in model.parameters():
            p.grad = torch.sin(1e4 * p.detach())
        masks = [Mask.dense(model)]
        for _ in range(6):
            masks.append(pruner.prune(model, masks[-1]))
        return masks

    masks = sweep()
    assert masks == sweep()
    for level, (before, mask) in enumerate(zip(masks, masks[1:], strict=False), start=1):
        assert mask <= before
        assert mask.remaining < before.remaining
        assert 0 <= mask.sparsity - pruner.sparsity(level) < 2 * level / mask.size  # each of two layers rounds up


# ---------------------------------------------------------------- scope


def test_layer_scope_takes_the_fraction_of_each_layer_and_may_empty_one():
    model = layers(1, 2, 10, 33)
    mask = Pruner(fraction=0.5, scope="layer").prune(model)
    assert [int(keep.sum()) for keep in mask.values()] == [0, 1, 5, 16]
    mask = Pruner(fraction=0.5, scope="layer").prune(model, mask)
    assert [int(keep.sum()) for keep in mask.values()] == [0, 0, 2, 8]
    assert mask.by_layer()["0.weight"] == 1.0


def test_global_scope_may_empty_a_layer():
    model = nn.ModuleList([vector([0.1, 0.2]), vector([1.0, 2.0])])
    mask = Pruner(fraction=0.5).prune(model)
    assert mask.by_layer() == {"0.weight": 1.0, "1.weight": 0.0}


@pytest.mark.filterwarnings("error")
def test_a_layer_that_loses_its_last_weight_is_named_once():
    model, lost = nn.ModuleList([vector([0.1, 0.2]), vector([1.0, 2.0, 3.0])]), "no weight is left of '0.weight': such a layer"
    mask = Pruner(fraction=0.2).prune(model)  # one of the two is left
    for prune in (Pruner(fraction=0.2).prune, lambda model, mask: Pruner().prune_to(model, 0.4, mask)):
        with pytest.warns(UserWarning, match=lost) as warned:
            emptied = prune(model, mask)
        assert warned[0].filename == __file__
    assert Pruner(fraction=0.2).prune(model, emptied).remaining == 2
    with pytest.warns(UserWarning, match=lost):
        Pruner().prune_to(model, 0.4)


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_an_empty_mask_is_an_error(scope):
    model = layers(1, 1)
    with pytest.raises(ValueError, match=r"nothing would be kept of Mask\(2 of 2 weights, sparsity 0.00%\): prune less"):
        Pruner(fraction=0.9, scope=scope).prune(model)
    empty = ~Mask.dense(model)
    with pytest.raises(ValueError, match=r"nothing would be kept of Mask\(0 of 2 weights"):
        Pruner(fraction=0, scope=scope).prune(model, empty)


# ---------------------------------------------------------------- prune_to


@given(st.integers(1, 60), st.floats(0, 0.999), st.floats(0, 0.999), st.sampled_from(["global", "layer"]), st.integers(0, 99))
def test_prune_to_keeps_exactly_the_floor_and_never_regrows(size, first, second, scope, seed):
    model = layers(size, 3 * size, seed=seed)
    sizes = [size, 3 * size] if scope == "layer" else [4 * size]
    mask, kept = None, sizes
    for sparsity in (first, second):
        wanted = [math.floor((1 - Fraction(str(sparsity))) * n) for n in sizes]
        pruner = Pruner(scope=scope)
        if any(w > k for w, k in zip(wanted, kept, strict=True)):
            with pytest.raises(ValueError, match=r"fewer than the .* wanted: prune_to never regrows"):
                pruner.prune_to(model, sparsity, mask)
        elif not sum(wanted):
            with pytest.raises(ValueError, match="nothing would be kept"):
                pruner.prune_to(model, sparsity, mask)
        else:
            new = pruner.prune_to(model, sparsity, mask)
            assert mask is None or new <= mask
            assert new.remaining == sum(wanted)
            if scope == "layer":
                assert [int(keep.sum()) for keep in new.values()] == wanted
            mask, kept = new, wanted


def test_prune_to_names_the_layer_that_is_too_sparse():
    model = layers(10, 10)
    mask = Mask({"0.weight": torch.ones(1, 10).bool(), "1.weight": torch.arange(10).reshape(1, 10) < 2})
    with pytest.raises(ValueError, match=r"the mask of '1.weight' keeps 2 weights, fewer than the 5 wanted"):
        Pruner(scope="layer").prune_to(model, 0.5, mask)
    assert Pruner().prune_to(model, 0.4, mask) == mask


def test_one_shot_is_the_same_as_many_levels_where_the_score_stays():
    model = net()
    mask = None
    for _ in range(4):
        mask = Pruner(fraction=0.2).prune(model, mask)
    assert Pruner().prune_to(model, Fraction(mask.size - mask.remaining, mask.size)) == mask


# ---------------------------------------------------------------- sparsity


@pytest.mark.parametrize("fraction", [0.2, 0.07, Fraction(1, 3), 0, 0.5])
def test_nominal_sparsity(fraction):
    exact = Fraction(str(fraction)) if isinstance(fraction, float) else Fraction(fraction)
    for level in (0, 1, 2, 3, 17, 40):
        assert Pruner(fraction=fraction).sparsity(level) == float(1 - (1 - exact) ** level)
    assert Pruner(fraction=fraction).sparsity(np.int64(1)) == float(exact)


@pytest.mark.parametrize(("level", "error"), [(-1, ValueError), (1.0, TypeError), ("1", TypeError), (True, TypeError)])
def test_a_level_is_a_whole_number(level, error):
    with pytest.raises(error, match=f"level must be .*got {level!r}"):
        Pruner().sparsity(level)


# ---------------------------------------------------------------- purity


@pytest.mark.parametrize("score", ["magnitude", "gradient", "random", scores.random(5), lambda name, w: w.detach() ** 2])
@pytest.mark.parametrize("scope", ["global", "layer"])
def test_pruning_changes_nothing_but_the_answer(score, scope):
    model = net()
    for p in model.parameters():
        p.grad = torch.sin(1e4 * p.detach())
    model.conv.eval()
    model.fc.bias.requires_grad_(False)
    mask = Pruner(fraction=0.5).prune(model)
    kept, before = mask_bits(mask), everything(model)
    versions = [p._version for p in model.parameters()]
    with no_global_draws():
        Pruner(score, scope=scope).prune(model)
        new = Pruner(score, scope=scope).prune(model, mask)
        Pruner(score, scope=scope).prune_to(model, 0.9, mask)
    assert everything(model) == before
    assert [p._version for p in model.parameters()] == versions
    assert mask_bits(mask) == kept
    assert not any(keep.requires_grad for keep in new.values())


def mask_bits(mask: Mask) -> dict[str, list[bool]]:
    return {name: keep.flatten().tolist() for name, keep in mask.items()}


def test_a_pruner_is_a_value():
    assert Pruner(fraction=0.2) == Pruner() != Pruner(fraction=0.3)
    assert len({Pruner(), Pruner(fraction=0.2), Pruner("random")}) == 2
    assert Pruner(scores.random(1)) == Pruner(scores.random(1)) != Pruner(scores.random(2))
    for pruner in (Pruner(), Pruner(scores.random(3), Fraction(1, 3), "layer"), Pruner(scores.gradient)):
        assert pickle.loads(pickle.dumps(pruner)) == copy.deepcopy(pruner) == pruner
        with pytest.raises(dataclasses.FrozenInstanceError):
            pruner.fraction = 0.3


@pytest.mark.parametrize(
    ("pruner", "sentence"),
    [
        (Pruner(), "Pruner(magnitude, 0.2 of the survivors, global)"),
        (Pruner(scores.gradient, Fraction(1, 3), "layer"), "Pruner(gradient, 0.3333 of the survivors, layer)"),
        (Pruner(scores.random(3), 0.07), "Pruner(random(seed=3), 0.07 of the survivors, global)"),
    ],
)
def test_repr_is_a_sentence(pruner, sentence):
    assert repr(pruner) == sentence


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("fraction", "error", "message"),
    [
        (20, ValueError, r"fraction must be in \[0, 1\), got 20. It is a share, not a percentage: did you mean 0.2\?"),
        (7.5, ValueError, r"got 7.5. .*did you mean 0.075\?"),
        (1, ValueError, r"got 1\.$"),
        (1.0, ValueError, r"got 1.0\.$"),
        (-0.1, ValueError, r"got -0.1\.$"),
        (101, ValueError, r"got 101\.$"),
        (float("nan"), ValueError, "got nan"),
        (float("inf"), ValueError, "got inf"),
        ("0.2", TypeError, "must be a number.*got '0.2' of type str"),
        (None, TypeError, "got None of type NoneType"),
        (True, TypeError, "got True of type bool"),
        (torch.tensor(0.2), TypeError, r"got tensor\(0.2000\) of type Tensor"),
    ],
)
def test_shares_are_checked(fraction, error, message):
    with pytest.raises(error, match=message):
        Pruner(fraction=fraction)
    with pytest.raises(error, match=message.replace("fraction", "sparsity")):
        Pruner().prune_to(net(), fraction)


@pytest.mark.parametrize(("wrong", "scope_error"), [("taylor", ValueError), (None, TypeError), ([], TypeError), (3, TypeError)])
def test_score_and_scope_are_checked(wrong, scope_error):
    with pytest.raises(scope_error, match=re.escape(f"'magnitude', 'gradient', 'random' or a callable, got {wrong!r}")):
        Pruner(score=wrong)
    with pytest.raises(scope_error, match=re.escape(f"scope must be one of 'global', 'layer', got {wrong!r}")):
        Pruner(scope=wrong)


@pytest.mark.parametrize("name", ["conv.weight", "fc.weight"])
@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("how", ["weight", "gradient"])
def test_nan_is_refused_with_the_name_of_the_parameter(name, scope, how):
    model = net()
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    w = model.get_parameter(name)
    (w.data if how == "weight" else w.grad).view(-1)[5] = float("nan")
    before = everything(model)
    score = "magnitude" if how == "weight" else "gradient"
    with pytest.raises(ValueError, match=rf"the score of '{name}' is NaN for 1 kept weights: has training diverged\?"):
        Pruner(score, scope=scope).prune(model)
    assert everything(model) == before
    mask = Mask.dense(model)
    keep = mask[name]
    keep.view(-1)[5] = False  # a pruned weight's score is never looked at
    mask = mask & Mask({**mask, name: keep})
    assert Pruner(score, scope=scope).prune(model, mask) <= mask


@pytest.mark.parametrize(
    ("score", "error", "message"),
    [
        (lambda name, w: w.detach()[0], ValueError, r"score of 'conv.weight' must have shape \(3, 1, 3, 3\)"),
        (lambda name, w: None, TypeError, "type NoneType"),
        (lambda name, w: 1.0, TypeError, "type float"),
        (lambda name, w: w.detach() > 0, TypeError, "must be real numbers, got torch.bool"),
        (lambda name, w: w.detach() + 1j, TypeError, "must be real numbers, got torch.complex64"),
    ],
)
def test_a_score_that_is_none_is_refused(score, error, message):
    with pytest.raises(error, match=message):
        Pruner(score).prune(net())


def test_no_gradient_is_an_error_that_says_what_to_call():
    with pytest.raises(RuntimeError, match=r"'conv.weight' has no gradient.*sparsedd.scores.accumulate_"):
        Pruner("gradient").prune(net())


def test_a_mask_that_does_not_fit_is_refused():
    with pytest.raises(TypeError, match="mask must be a Mask or None, got .* type dict"):
        Pruner().prune(net(), dict(Mask.dense(net())))
    with pytest.raises(ValueError, match=r"no parameter 'weight'"):
        Pruner().prune(net(), Mask.dense(nn.Linear(2, 2)))
    with pytest.raises(ValueError, match=r"'fc.weight' has shape \(3, 48\) in the model and \(2, 2\) in the mask"):
        Pruner().prune(net(), Mask({"fc.weight": torch.ones(2, 2).bool()}))


@pytest.mark.parametrize("call", [lambda m: Pruner().prune(m), lambda m: Pruner().prune_to(m, 0.9)])
def test_forgetting_the_mask_of_a_sparse_model_is_an_error(call):
    model = net()
    mask = Pruner(fraction=0.05).prune(model)
    mask.apply_(model)
    before = everything(model)
    with pytest.raises(RuntimeError, match=r"9 of 171 weights are zero. Pass the mask; sparsedd.Mask.nonzero\(model\) finds"):
        call(model)
    assert everything(model) == before
    assert Pruner().prune(model, Mask.nonzero(model)) <= mask

    model = net()  # a few zeros, or a layer of nothing else, are no sign of pruning
    model.fc.weight.data[0, :8] = 0.0
    call(model)
    model.fc.weight.data[:] = 0.0
    call(model)


def test_a_model_without_weights_is_one_sentence():
    with pytest.raises(RuntimeError, match="'weight' is on the meta device and has no weights"):
        Pruner().prune(nn.Linear(10, 10, device="meta"))


@pytest.mark.parametrize(("zeros", "size", "sparse"), [(1, 20, False), (2, 40, True), (2, 41, False), (2, 39, True)])
def test_visibly_sparse_is_from_five_percent_on_and_more_than_one_weight(zeros, size, sparse):
    model = nn.Linear(size, 1)
    torch.nn.init.constant_(model.weight, 1.0)
    model.weight.data[0, :zeros] = 0.0
    with pytest.raises(RuntimeError, match=f"but {zeros} of {size} weights are zero") if sparse else nullcontext():
        Pruner().prune(model)


@pytest.mark.parametrize("prune", [lambda *a: Pruner().prune(*a), lambda *a: Pruner().prune_to(a[0], 0.95, a[1])])
def test_pruning_on_with_a_mask_that_keeps_many_zeros_is_a_warning(prune):
    model = nn.Linear(100, 10)
    mask = Pruner().prune_to(model, 0.9)
    mask.apply_(model)
    assert prune(model, mask) <= mask
    with pytest.warns(UserWarning, match="900 of the 1,000 weights that the mask keeps are zero"):
        prune(model, Mask.dense(model))
