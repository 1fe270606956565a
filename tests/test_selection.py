import math
import tracemalloc
from contextlib import contextmanager
from fractions import Fraction
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from helpers import bits, everything, filled, risen
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor, nn

from sparsedd import Mask, Pruner, _bits, _selection, scores
from sparsedd._bits import Bits
from sparsedd._selection import Ranking, Scored

ZEROS = pytest.mark.filterwarnings("ignore:.*weights that the mask keeps are zero:UserWarning")  # weights of few values

INF = math.inf
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]


@contextmanager
def small(slice_size: int, sample: float, few: int, elsewhere: bool = False):
    """Slices, sample and thresholds as for a few weights; elsewhere: computed with torch alone, as on another device."""
    kind = {"array": lambda tensor: tensor} if elsewhere else {}
    with (
        mock.patch.multiple(_bits, SLICE=slice_size, LARGE_SLICE=slice_size, **kind),
        mock.patch.multiple(_selection, SAMPLE=sample, FEW=few, **kind),
    ):
        yield


smallness = st.builds(small, st.sampled_from([1, 3, 8, 99]), st.sampled_from([0.1, 0.5, 0.8, 1, 1.4]),
                      st.sampled_from([0, 9, 999]), st.booleans())  # fmt: skip


def by_sorting(values: list[Tensor], keeps: list[Tensor], lose: int) -> list[list[bool]]:
    """All kept scores in one list, sorted so that equal ones stay in order; the first go."""
    kept = [(v, k, i) for k, (value, keep) in enumerate(zip(values, keeps, strict=True))
            for i, v in enumerate(value.double().flatten().tolist()) if keep.flatten()[i]]  # fmt: skip
    new = [keep.flatten().tolist() for keep in keeps]
    for _, k, i in sorted(kept, key=lambda entry: entry[0])[:lose]:
        new[k][i] = False
    return new


@st.composite
def groups(draw, dtypes=DTYPES):
    """Tensors of scores, of many sizes, dtypes and strides, often with many ties; and the masks so far."""
    kinds = [
        st.sampled_from([1.0, 2.0]),
        st.sampled_from([0.0, -0.0, INF, -INF, 1.0, -1.5]),
        st.integers(-3, 3).map(float),
        st.sampled_from([0.1, 0.1 + 1e-12, 0.3, -0.1]),  # other numbers in float32
        st.floats(-100, 100, width=16),
    ]
    values, keeps = [], []
    for _ in range(draw(st.integers(1, 3))):
        shape = draw(st.sampled_from([(1, 1), (3, 4), (7, 2), (1, 33), (5, 2, 4), (0, 3), (), (12,), (8, 8)]))
        n = math.prod(shape)
        value = torch.tensor(
            draw(st.lists(draw(st.sampled_from(kinds)), min_size=n, max_size=n)), dtype=draw(st.sampled_from(dtypes))
        )
        value = value.reshape(shape)
        values.append(value.mT.contiguous().mT if len(shape) > 1 and draw(st.booleans()) else value)
        density = draw(st.sampled_from([0, 1, 3, 4]))
        keeps.append(torch.tensor(draw(st.lists(st.integers(0, 3).map(lambda x, d=density: x < d), min_size=n, max_size=n)),
                                  dtype=torch.bool).reshape(shape))  # fmt: skip
    return values, keeps


@given(groups(), smallness, st.data())
def test_a_ranking_is_a_stable_sort(group, sizes, data):
    values, keeps = group
    before = [bits(t) for t in (*values, *keeps)]
    length = sum(int(keep.sum()) for keep in keeps)
    lose = data.draw(st.integers(0, length))
    scored = [
        Scored(str(k), v, None if keep.all() and k % 2 else Bits.pack(keep))
        for k, (v, keep) in enumerate(zip(values, keeps, strict=True))
    ]
    with sizes:
        new = Ranking(scored, length).without_lowest(lose)
    assert [mask.unpack().flatten().tolist() for mask in new] == by_sorting(values, keeps, lose)
    assert all(mask.shape == v.shape for mask, v in zip(new, values, strict=True))
    assert [bits(t) for t in (*values, *keeps)] == before


@given(
    groups(), smallness, st.lists(st.sampled_from([0.0, 1.0, 2.0, -1.5, 50.0, INF, -INF]), min_size=5, max_size=60), st.data()
)
def test_a_sample_that_misleads_costs_time_and_nothing_else(group, sizes, sample, data):
    values, keeps = group
    length = sum(int(keep.sum()) for keep in keeps)
    lose = data.draw(st.integers(0, length))
    scored = [Scored(str(k), v, Bits.pack(keep)) for k, (v, keep) in enumerate(zip(values, keeps, strict=True))]
    with sizes, mock.patch.object(Scored, "sample", return_value=np.array(sample)):
        new = Ranking(scored, length).without_lowest(lose)
    assert [mask.unpack().flatten().tolist() for mask in new] == by_sorting(values, keeps, lose)


def outcome(pruner: Pruner, model: nn.Module, mask: Mask) -> Any:
    """The bits of the mask, or the error."""
    try:
        return {name: bits(keep) for name, keep in pruner.prune(model, mask).items()}
    except ValueError as error:
        return str(error)


@ZEROS
@pytest.mark.filterwarnings("ignore:no weight is left of:UserWarning")
@given(groups(), smallness, st.sampled_from([scores.gradient, scores.random(3)]), st.sampled_from([0.0, 0.2, 0.9]), st.data())
def test_scores_in_slices_are_those_of_whole_parameters(group, sizes, score, fraction, data):
    values, keeps = group
    assume(any(bool(keep.any()) for keep in keeps))
    model = nn.ParameterList(values)
    for p in model:
        grad = torch.tensor([0.0, 1.0, -0.5, 3.0, 1e-30]).repeat(p.numel() // 5 + 1)[: p.numel()].reshape(p.shape).to(p.dtype)
        p.grad = grad.mT.contiguous().mT if p.dim() > 1 and data.draw(st.booleans()) else grad
    mask = Mask({str(k): keep for k, keep in enumerate(keeps)})
    expected = outcome(Pruner(lambda name, p: score(name, p), fraction), model, mask)
    with sizes:
        assert outcome(Pruner(score, fraction), model, mask) == expected


@pytest.mark.parametrize("start", [1, 4, 7, 4096])
def test_random_scores_can_be_read_from_any_position_on(start):
    score = scores.random(5)
    assert bits(score("w", nn.Parameter(torch.zeros(5000)))[start:]) == bits(
        torch.from_numpy(score.draw("w", 5000 - start, start))
    )


@pytest.mark.parametrize("score", ["magnitude", "gradient", "random"])
@pytest.mark.parametrize("level", [0, 1])
def test_scores_take_no_memory_of_their_own(score, level):
    model = filled(nn.Sequential(*(nn.Linear(2048, 1024, bias=False) for _ in range(8))))
    for p in model.parameters():
        p.grad = p.detach() + 1
    pruner = Pruner(score)
    first = pruner.prune(model)  # what torch makes at a first call is no score
    mask = first if level else None
    n = sum(p.numel() for p in model.parameters())
    assert risen(lambda: pruner.prune(model, mask)) <= 0.8 * n


def brackets(values: Tensor, lose: int, sample: int = 400) -> list[tuple[float, float]]:
    """The brackets that a selection looks into."""
    seen = []
    split = Ranking._split

    def spy(self, low, high):
        seen.append((low, high))
        return split(self, low, high)

    keep = torch.ones_like(values, dtype=torch.bool)
    with small(64, math.log(sample, len(values)), 100), mock.patch.object(Ranking, "_split", spy):
        new = Ranking([Scored("w", values, Bits.pack(keep))], values.numel()).without_lowest(lose)
    assert [mask.unpack().flatten().tolist() for mask in new] == by_sorting([values], [keep], lose)
    return seen


def test_each_way_to_a_threshold():
    n = 1000
    even = torch.arange(n) * 381 % n / 1.0  # every number once
    ((low, high),) = brackets(even, 400)
    assert -INF < low < 399 < high < INF
    assert brackets(even, 0) == [(0, 0)]
    assert brackets(even, n)[0][1] == brackets(even, 990)[0][1] == INF
    assert brackets(even, 1)[0][0] == brackets(even, 10)[0][0] == -INF
    assert brackets(even[:100], 40) == [(-INF, INF)]  # too few for a sample
    assert brackets(torch.ones(n), 400) == [(1, 1)]
    for lose in (480, 500, 501, 520):  # the threshold is an end of the bracket
        assert brackets((even >= 500).float(), lose) == [(0, 1)]
    rare = torch.zeros(n)
    rare[torch.tensor([3, 500])] = torch.tensor([-2.0, -1.0])  # in no sample
    for lose in (1, 2, 3):
        assert len(brackets(rare, lose)) == 1
    hidden = torch.arange(20000) * 381 % 20000 / 1.0
    steps = torch.from_numpy((np.arange(4001) * _selection.GOLDEN % 1 * 20000).astype(int))
    hidden[steps] -= 20000  # the sample sees other numbers than there are
    missed = brackets(hidden, 12000, sample=4000)
    assert len(missed) == 3
    assert missed[-1] == (-INF, INF)
    assert all(a >= c and b <= d for (a, b), (c, d) in zip(missed, missed[1:], strict=False))


@pytest.mark.parametrize("lose", range(6))
def test_float32_is_compared_in_float64_where_they_meet(lose):
    values = [torch.tensor([[0.1, 0.3, 0.7]]), torch.tensor([[0.1, 0.3, 0.7]], dtype=torch.float64)]  # other numbers, near by
    keeps = [torch.ones(1, 3).bool()] * 2
    for group in (values, values[::-1]):
        new = Ranking([Scored("w", v, None) for v in group], 6).without_lowest(lose)
        assert [mask.unpack().flatten().tolist() for mask in new] == by_sorting(group, keeps, lose)


@ZEROS
@pytest.mark.parametrize("values", ["random", "equal", "two", "few", "infinite"])
@pytest.mark.parametrize("fraction", [0, 0.2, 0.5, 0.9])
def test_no_copy_of_the_weights_is_made_whatever_they_are(values, fraction):
    n = 1 << 22
    model = nn.Linear(n // 64, 64, bias=False, device="meta")
    w = filled(nn.Linear(n // 64, 64, bias=False)).weight.detach()
    w = {
        "random": w,
        "equal": torch.ones_like(w),
        "two": 1.0 + (w > 0),
        "few": w.mul(8).round(),
        "infinite": w / (w.abs() > 0.4),
    }[values]
    model.weight = nn.Parameter(w)
    mask = Mask({"weight": w.abs() > 0.1 if values == "random" else w == w})
    Pruner(fraction=fraction).prune(model, mask)
    tracemalloc.start()  # sees what numpy makes, and it is numpy that computes
    try:
        new = Pruner(fraction=fraction).prune(model, mask)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert new.remaining == mask.remaining - math.ceil(Fraction(str(fraction)) * mask.remaining)
    assert peak < n  # a byte for each weight of four


# ---------------------------------------------------------------- through the Pruner


def module_of(values: list[Tensor]) -> nn.Module:
    """Layers whose weights, of two dimensions or more, are these."""
    made = nn.ModuleList()
    for value in values:
        layer = nn.Linear(1, 1, bias=False, device="meta")
        layer.weight = nn.Parameter(value if value.dim() > 1 else value.reshape(1, -1))
        made.append(layer)
    return made


@ZEROS
@given(groups(), smallness, st.sampled_from(["global", "layer"]), st.fractions(0, 1, max_denominator=20), st.booleans())
def test_a_pruner_drops_what_sorting_would(group, sizes, scope, share, one_shot):
    assume(share < 1)
    model = module_of(group[0])
    weights = [p.detach() for p in model.parameters()]
    mask = Mask({n: keep.reshape(p.shape) for (n, p), keep in zip(model.named_parameters(), group[1], strict=True)})
    keeps, before = list(mask.values()), everything(model)
    parts = [[k] for k in range(len(keeps))] if scope == "layer" else [list(range(len(keeps)))]
    expected, refused = {}, False
    for part in parts:
        length, size = sum(int(keeps[k].sum()) for k in part), sum(keeps[k].numel() for k in part)
        lose = length - math.floor((1 - share) * size) if one_shot else math.ceil(share * length)
        refused |= lose < 0
        found = by_sorting([weights[k].abs() for k in part], [keeps[k] for k in part], max(0, lose))
        expected |= zip(part, found, strict=True)
    pruner = Pruner(fraction=share, scope=scope)
    with sizes:
        if refused or not any(map(any, expected.values())):
            with pytest.raises(ValueError, match="never regrows|nothing would be kept"):
                pruner.prune_to(model, share, mask) if one_shot else pruner.prune(model, mask)
        else:
            new = pruner.prune_to(model, share, mask) if one_shot else pruner.prune(model, mask)
            assert [keep.flatten().tolist() for keep in new.values()] == list(expected.values())
            signed = Pruner(lambda name, w: w.detach(), fraction=share, scope="global").prune
            if scope == "global" and not one_shot:
                assert [k.flatten().tolist() for k in signed(model, mask).values()] == by_sorting(weights, keeps, lose)
    assert everything(model) == before
    assert all(torch.equal(keep, old) for keep, old in zip(mask.values(), keeps, strict=True))


@pytest.mark.parametrize("size", [n + d for n in (1 << 15, 1 << 16, 1 << 17) for d in (-1, 0, 1)])
def test_sizes_around_the_slices_and_the_sample(size):
    w = (torch.arange(size, dtype=torch.int64) * 40503 % size).float().reshape(1, -1)
    w[0, ::2] *= -1
    model = module_of([w[:, : size // 3], w[:, size // 3 :]])
    lose = math.ceil(Fraction(1, 5) * size)
    for mask in (None, Mask.dense(model)):
        new = Pruner().prune(model, mask)
        pruned = w.abs().flatten()[~torch.cat([keep.flatten() for keep in new.values()])]
        order = w.abs().flatten().sort(stable=True)
        assert torch.equal(pruned.sort().values, order.values[:lose])
        assert new.remaining == size - lose


def test_no_mask_is_a_dense_mask():
    for seed in range(5):
        model = filled(module_of([torch.empty(30, 9), torch.empty(4, 5, 3, 3)]), seed)
        with small(16, 0.8, 20):
            for scope in ("global", "layer"):
                assert Pruner(scope=scope).prune(model) == Pruner(scope=scope).prune(model, Mask.dense(model))
    model = module_of([torch.ones(4, 4), torch.ones(2, 2)])
    model[0].weight.data[3, 3] = model[1].weight.data[0, 0] = -0.0
    with small(3, 0.8, 20), pytest.raises(RuntimeError, match="2 of 20 weights are zero"):
        Pruner().prune(model)


@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.parametrize("fraction", [0, 0.3])
@pytest.mark.parametrize("few", [0, 10**6])
def test_nan_is_found_in_the_last_slice_and_nowhere_else(elsewhere, fraction, few):
    model = filled(module_of([torch.empty(5, 7), torch.empty(40, 3)]))
    mask = Mask.dense(model)
    model[1].weight.data[39, 1:] = math.nan
    before = everything(model)
    with small(16, 0.8, few, elsewhere):
        for scope in ("global", "layer"):
            with pytest.raises(ValueError, match=r"the score of '1.weight' is NaN for 2 kept weights: has training diverged\?"):
                Pruner(fraction=fraction, scope=scope).prune(model, mask)
        mask = Mask({**mask, "1.weight": model[1].weight == model[1].weight})
        assert Pruner(fraction=fraction).prune(model, mask).remaining == 153 - math.ceil(Fraction(str(fraction)) * 153)
    assert everything(model) == before


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128, torch.float8_e4m3fn, torch.int16, torch.uint16])
def test_weights_that_are_no_ordinary_floats_are_ranked_by_their_magnitude(dtype):
    w = torch.arange(120).reshape(30, 4) * 37 % 120
    w = (w * 1j if dtype.is_complex else w).to(dtype)
    model = nn.ModuleList([nn.Linear(1, 1, bias=False)])
    model[0].weight = nn.Parameter(w, requires_grad=False)
    values = scores.magnitude("w", w)
    with small(16, 0.8, 20):
        for mask in (None, Mask.dense(model)):
            new = Pruner().prune(model, mask)
            assert [new["0.weight"].flatten().tolist()] == by_sorting([values], [torch.ones(30, 4).bool()], 24)


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.uint32, torch.float8_e5m2, torch.float16])
def test_scores_of_any_real_dtype_are_sampled_and_sliced(dtype):
    values = (torch.arange(120).reshape(30, 4) * 37 % 120).to(dtype)
    model = filled(module_of([torch.empty(30, 4)]))
    with small(16, 0.8, 20):
        new = Pruner(lambda name, w: values.clone()).prune(model)
    assert [new["0.weight"].flatten().tolist()] == by_sorting([values], [torch.ones(30, 4).bool()], 24)


def test_channels_last_and_expanded_weights():
    w = torch.randn(6, 5, 3, 3, generator=torch.Generator().manual_seed(0)).round(decimals=1)
    model = module_of([w.to(memory_format=torch.channels_last), torch.ones(1, 1).expand(4, 3)])
    plain = module_of([w, torch.ones(4, 3)])
    with small(16, 0.8, 20):
        new = Pruner(fraction=0.4).prune(model, Mask.dense(model))
        assert new == Pruner(fraction=0.4).prune(plain, Mask.dense(plain))
    assert all(keep.is_contiguous() for keep in new.values())


def test_what_a_pruner_returns_no_one_can_change():
    model = filled(module_of([torch.empty(6, 5)]))
    for fraction in (0, 0.5):
        first = Pruner(fraction=fraction).prune(model)
        second = Pruner(fraction=0).prune(model, first)
        digest = first.digest()
        for handed_out in (first["0.weight"], first.state_dict()["0.weight"], second["0.weight"], (~first)["0.weight"]):
            handed_out.logical_not_()
        model[0].weight.data.neg_()
        assert second == first == Mask(first)
        assert second.digest() == Mask(first).digest() == digest
