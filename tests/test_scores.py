import numpy as np
import pytest
import torch
from helpers import batch, bits, everything, net, no_global_draws
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss

from sparsedd import Pruner, scores

WIDE = {torch.float32: torch.float32, torch.float64: torch.float64, torch.bfloat16: torch.float32, torch.float16: torch.float32}


@pytest.mark.parametrize(("dtype", "wide"), WIDE.items(), ids=str)
def test_magnitude_and_gradient_are_their_formulas_in_float32_or_wider(dtype, wide):
    w = nn.Parameter(torch.tensor([[-2.0, 1.0, 0.0], [1e-3, -0.5, 3.0]], dtype=dtype))
    w.grad = torch.tensor([[0.5, -3.0, 7.0], [1e-3, 0.0, 2.0]], dtype=dtype)
    before = bits(w), bits(w.grad)
    magnitude, gradient = scores.magnitude("w", w), scores.gradient("w", w)
    assert magnitude.dtype == gradient.dtype == wide
    assert torch.equal(magnitude, w.detach().to(wide).abs())
    assert torch.equal(gradient, (w.detach().to(wide) * w.grad.to(wide)).abs())
    assert not magnitude.requires_grad
    assert (bits(w), bits(w.grad)) == before


def test_without_a_gradient_there_is_no_gradient_score():
    with pytest.raises(RuntimeError, match=r"'fc' has no gradient.*loss.backward\(\), or sparsedd.scores.accumulate_"):
        scores.gradient("fc", nn.Parameter(torch.ones(2, 2)))


# ---------------------------------------------------------------- random


def draws(seed, name="w", n=4000, **options):
    return scores.random(seed)(name, nn.Parameter(torch.zeros(n, **options)))


def test_random_scores_are_the_same_on_every_platform():
    assert draws(0)[:3].tolist() == [0.8763431099397273, 0.5125979469103523, 0.5974609295386557]
    assert draws(12345, "layer3.0.conv1.weight")[:2].tolist() == [0.718616459798638, 0.1794755330342912]


def test_random_scores_are_uniform():
    x = draws(1).sort().values
    assert 0.0 <= x[0] <= x[-1] < 1.0
    assert (x - (torch.arange(4000) + 0.5) / 4000).abs().max() < 1.63 / 4000**0.5  # Kolmogorov-Smirnov at 1 %
    assert x.unique().numel() == 4000


def test_random_scores_are_keyed_by_seed_and_name_and_by_nothing_else():
    with no_global_draws():
        first = draws(0)
    torch.manual_seed(7)
    assert torch.equal(draws(0), first)
    assert torch.equal(draws(np.int64(0)), first)
    assert torch.equal(draws(0, dtype=torch.bfloat16), first)
    assert torch.equal(scores.random(0)("w", nn.Parameter(torch.ones(40, 100))).flatten(), first)
    others = [draws(1), draws(0, "v"), draws(10, ""), draws(1, "0")]
    for other in others:
        assert abs(torch.corrcoef(torch.stack([first, other]))[0, 1].item()) < 4 / 4000**0.5


@pytest.mark.parametrize(("seed", "error"), [(-1, ValueError), (0.0, TypeError), ("0", TypeError), (None, TypeError)])
def test_a_seed_is_a_whole_number(seed, error):
    with pytest.raises(error, match=f"seed must be .*got {seed!r}"):
        scores.random(seed)


def test_random_levels_go_on_where_the_last_one_stopped():
    model, pruner = net(), Pruner("random", fraction=0.5)
    twice = pruner.prune(model, pruner.prune(model))
    assert twice == pruner.prune_to(model, 1 - twice.density)
    assert repr(scores.random(3)) == "random(seed=3)"


# ---------------------------------------------------------------- accumulate_


class Counting(nn.Module):
    """Has a buffer that a forward pass replaces, one that it changes, BatchNorm and Dropout."""

    def __init__(self):
        super().__init__()
        self.inner, self.norm, self.drop = net(), nn.BatchNorm1d(3), nn.Dropout(0.5)
        self.register_buffer("replaced", torch.zeros(()))
        self.register_buffer("changed", torch.zeros(2))
        self.register_buffer("none", None)

    def forward(self, x):
        assert self.training
        self.replaced = self.replaced + 1
        self.changed += 1
        return self.drop(self.norm(self.inner(x)))


def test_accumulate_is_the_mean_of_the_gradients_and_replaces_older_ones():
    model, batches = net(), [batch(k) for k in range(3)]
    expected = [torch.zeros_like(p) for p in model.parameters()]
    for x, y in batches:
        for total, grad in zip(
            expected, torch.autograd.grad(cross_entropy(model(x), y), list(model.parameters())), strict=True
        ):
            total += grad
    model.fc.weight.grad = torch.full_like(model.fc.weight, 99.0)
    values = [bits(p) for p in model.parameters()]
    assert scores.accumulate_(model, iter(batches), cross_entropy) is model
    for p, total in zip(model.parameters(), expected, strict=True):
        assert torch.equal(p.grad, total / 3)
    assert [bits(p) for p in model.parameters()] == values


def test_accumulate_works_without_gradient_mode_and_with_frozen_parameters():
    model = net()
    model.conv.weight.requires_grad_(False)
    with torch.no_grad():
        scores.accumulate_(model, [batch(0)], cross_entropy)
    assert model.conv.weight.grad is None
    assert model.fc.weight.grad.any()


def test_accumulate_gives_back_modes_buffers_and_generators():
    model = Counting().eval()
    model.inner.fc.train()
    before = {key: bits(value) for key, value in model.state_dict().items()}
    identities = [id(b) for b in model.buffers()]
    modes = [m.training for m in model.modules()]
    shuffled = torch.utils.data.DataLoader([(x, y) for x, y in zip(*batch(0, 8), strict=True)], batch_size=4, shuffle=True)
    with no_global_draws():
        scores.accumulate_(model, shuffled, cross_entropy)
    assert {key: bits(value) for key, value in model.state_dict().items()} == before
    assert [id(b) for b in model.buffers()] == identities
    assert [m.training for m in model.modules()] == modes
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("fails_at", [0, 1])
def test_after_an_error_all_is_as_it_was(fails_at):
    model = Counting().eval()
    model.inner.fc.weight.grad = torch.ones_like(model.inner.fc.weight)
    before, error = everything(model), ZeroDivisionError("mine")

    def batches():
        for k in range(fails_at):
            yield batch(k)
        raise error

    with no_global_draws(), pytest.raises(ZeroDivisionError) as caught:
        scores.accumulate_(model, batches(), cross_entropy)
    assert caught.value is error
    assert everything(model) == before


def test_no_batches_is_an_error():
    model = net()
    before = everything(model)
    with pytest.raises(ValueError, match="at least one batch, got none"):
        scores.accumulate_(model, [], mse_loss)
    assert everything(model) == before
    with pytest.raises(TypeError, match=r"must be a torch.nn.Module, got .* type int"):
        scores.accumulate_(3, [batch(0)], mse_loss)


def test_a_buffer_that_expand_repeats_is_given_back():
    class Table(nn.Linear):
        def __init__(self):
            super().__init__(2, 2)
            self.register_buffer("row", torch.zeros(2))
            self.register_buffer("table", self.row.expand(3, 2))

        def forward(self, x):
            self.row += 1
            return super().forward(x) + self.table.sum(0)

    model = Table()
    before = everything(model)
    scores.accumulate_(model, [(torch.ones(1, 2), torch.zeros(1, dtype=torch.int64))], cross_entropy)
    model.zero_grad()
    assert everything(model) == before
