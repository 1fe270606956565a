"""Weights held to a mask by products of integers: bit for bit what an AND of their bits gives."""

import pytest
import torch
from helpers import bits, filled, risen
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from sparsedd import Mask, Pruner, _words
from sparsedd._bits import Bits
from sparsedd._words import Words

SPECIAL = [float("nan"), -float("nan"), float("inf"), -0.0, 1e-45, -3.5]


@st.composite
def layouts(draw: st.DrawFn) -> Tensor:
    """Weights, NaN and -0.0 among them, that lie in memory in some order, or with gaps."""
    shape = draw(st.lists(st.integers(0, 5), min_size=1, max_size=4))
    dtype = draw(st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64]))
    values = torch.tensor(SPECIAL).repeat(torch.Size(shape).numel() // 3 + 1)
    w = values[torch.randperm(len(values), generator=torch.Generator().manual_seed(draw(st.integers(0, 99))))]
    w = w[: torch.Size(shape).numel()].reshape(shape).to(dtype).permute(draw(st.permutations(range(len(shape)))))
    return torch.stack([w, w], -1)[..., 1] if draw(st.booleans()) else w


@given(
    weights=st.lists(layouts(), min_size=1, max_size=3),
    wide=st.sampled_from([0, 1 << 20]),
    size=st.integers(1, 70),
    seed=st.integers(0, 9),
)
def test_products_are_the_and_of_bits(weights, wide, size, seed):
    generator = torch.Generator().manual_seed(seed)
    keeps = [torch.rand(w.shape, generator=generator) < 0.5 for w in weights]
    expected = []
    for w, keep in zip(weights, keeps, strict=True):
        raw = w.clone(memory_format=torch.contiguous_format)
        raw = torch.view_as_real(raw) if w.is_complex() else raw
        ones = torch.where(keep if raw.shape == w.shape else keep.unsqueeze(-1), -1, 0)
        words = raw.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[raw.element_size()])
        expected.append(bits((words & ones.to(words.dtype)).view(raw.dtype)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_words, "WIDE", wide)
        patch.setattr(_words, "SLICE", size)
        words = Words([(w, Bits.pack(keep)) for w, keep in zip(weights, keeps, strict=True)])
        for _ in range(2):
            words.clear_pruned_()
    found = [w.clone(memory_format=torch.contiguous_format) for w in weights]
    assert [bits(torch.view_as_real(w) if w.is_complex() else w) for w in found] == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_mask_in_force_takes_its_own_bits_and_a_step_none(dtype):
    model = filled(nn.Sequential(*(nn.Linear(2048, 2048, bias=False) for _ in range(4)))).to(dtype)
    n = sum(p.numel() for p in model.parameters())
    mask = Pruner().prune_to(model, 0.8)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    held = []
    assert risen(lambda: held.append(mask.enforce(model, optimizer))) <= 0.3 * n
    optimizer.step()
    assert risen(optimizer.step) <= 0.05 * n
    assert mask.holds(model)


def test_weights_that_lie_in_another_order_take_a_byte_for_a_moment():
    model = filled(nn.Conv2d(1024, 512, 3, bias=False)).to(memory_format=torch.channels_last)
    mask = Mask({"weight": model.weight.detach().abs() > 0.5})
    words = []
    assert risen(lambda: words.append(Words([(model.weight.data, mask._bits["weight"])]))) <= 1.5 * model.weight.numel()
    model.weight.data.fill_(float("nan"))
    words[0].clear_pruned_()
    assert bool((model.weight.isnan() == mask["weight"]).all())


def test_other_devices_have_wide_factors_for_larger_nets():
    weights = torch.empty(3000, 1000, device="meta")
    keep = Bits.zeros(weights.shape, "meta")
    assert [factors.dtype for _, factors in Words([(weights, keep)])._whole] == [torch.int32]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_words, "WIDE_ELSEWHERE", weights.numel() - 1)
        assert [factors.dtype for _, factors in Words([(weights, keep)])._whole] == [torch.bool]
