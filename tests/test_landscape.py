"""Landscape: other weights, borrowed and given back."""

import pytest
import torch
from helpers import batch, bits, everything, filled, net, no_global_draws
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim.swa_utils import update_bn

from sparsedd import Mask, Pruner, landscape, metrics
from sparsedd.landscape import at, filter_normalized, interpolate, line, random_direction, sharpness

seeds = st.integers(0, 10**6)


def normed(seed=0):
    """net() with a BatchNorm that has seen some batches."""
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Tanh(), nn.Flatten(), nn.Linear(48, 3))
    filled(model, seed)
    for step in range(3):
        model(batch(10 * seed + step)[0])
    return model.eval()


def loss(model):
    return metrics.evaluate(model, [batch(0, 16)]).loss


def boom(model):
    model.train()(batch(3)[0]).sum().backward()  # moves statistics, and fills gradients
    model[1].running_mean = torch.zeros(3)
    raise ZeroDivisionError


# ---------------------------------------------------------------- at


def test_at_borrows_and_gives_back_every_bit_also_after_an_error():
    model, other = normed(0).train(), normed(1)
    model[0].eval()
    model(batch(1)[0]).sum().backward()
    before = everything(model)
    with no_global_draws(), at(model, other):
        assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True))
        assert all(p.grad is None for p in model.parameters())
        model.train()(batch(2)[0]).sum().backward()
    assert everything(model) == before
    with pytest.raises(ZeroDivisionError), at(model, other):
        boom(model)
    assert everything(model) == before


def test_at_takes_some_of_the_weights():
    model = normed()
    conv = bits(model[0].weight)
    with at(model, {"4.bias": torch.ones(3)}):
        assert model[4].bias.eq(1).all()
        assert bits(model[0].weight) == conv


def test_at_may_exchange_a_models_own_tensors():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    first, second = (layer.weight.clone() for layer in model)
    with at(model, {"0.weight": model[1].weight, "1.weight": model[0].weight}):
        assert torch.equal(model[0].weight, second)
        assert torch.equal(model[1].weight, first)


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        ({"0.weights": torch.zeros(1)}, ValueError, "no parameter or buffer '0.weights'. It has 0.weight"),
        ({"4.bias": torch.zeros(4)}, ValueError, r"'4.bias' has shape \(3,\) in the model, got \(4,\)"),
        ({"0.weight": torch.zeros(3, 1, 3, 3), "4.bias": torch.zeros(4)}, ValueError, "4.bias"),
        ([1], TypeError, "weights must be a model or a mapping"),
        ({"4.bias": [0, 0, 0]}, TypeError, "weights must be"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_changes(weights, error, message):
    model = normed()
    before = everything(model)
    with pytest.raises(error, match=message), at(model, weights):
        pass
    assert everything(model) == before


def test_wrapped_models_have_the_names_of_what_they_wrap():
    model, other = normed(0), normed(1)
    parallel = nn.DataParallel(model)
    for weights in (other, other.state_dict(), nn.DataParallel(other).state_dict()):
        with at(parallel, weights):
            assert torch.equal(model[0].weight, other[0].weight)


# ---------------------------------------------------------------- line


@given(seeds, st.lists(st.floats(-2, 2), min_size=1, max_size=4))
def test_a_line_is_origin_plus_alpha_direction(seed, alphas):
    model, origin = net(7), net(seed)
    direction = random_direction(origin, seed)
    before = everything(model)
    found = line(model, origin, direction, alphas, lambda m: {n: p.detach().clone() for n, p in m.named_parameters()})
    for alpha, weights in zip(alphas, found, strict=True):
        for name, p in origin.named_parameters():
            expected = p + alpha * direction[name] if name in direction else p
            assert torch.allclose(weights[name], expected, rtol=1e-6, atol=1e-7)
    assert everything(model) == before


def test_a_line_through_the_model_itself_starts_at_its_weights():
    model = normed()
    values = line(model, model, random_direction(model), [0.0, 1.0, 0.0], loss)
    assert values[0] == values[2] == loss(model) != values[1]


def test_a_direction_that_is_another_models_is_refused():
    with pytest.raises(ValueError, match=r"'fc.weight' of shape \(2, 48\)"):
        line(net(), net(), {"fc.weight": torch.zeros(2, 48)}, [0.0], loss)
    with pytest.raises(ValueError, match="'other'"):
        line(net(), net(), {"other": torch.zeros(2)}, [0.0], loss)
    with pytest.raises(ValueError, match="alpha must be finite"):
        line(net(), net(), {}, [float("nan")], loss)


# ---------------------------------------------------------------- interpolate


def test_both_ends_are_exact_and_the_model_is_untouched_even_when_the_measure_raises():
    model, start, end = normed(5).train(), normed(0), normed(1)
    before = everything(model)
    values = interpolate(model, start, end, loss)
    assert len(values) == len(landscape.ALPHAS) == 101
    assert (values[0], values[-1]) == (loss(start), loss(end))
    assert everything(model) == before
    with pytest.raises(ZeroDivisionError):
        interpolate(model, start, end, boom)
    with pytest.raises(ZeroDivisionError):
        interpolate(model, start, end, loss, recalibrate=boom)
    assert everything(model) == before


@given(seeds, seeds)
def test_the_ends_are_exact_for_any_numbers(a, b):
    generator = torch.Generator().manual_seed(a)
    ends = [{"weight": torch.randn(4, 4, generator=generator) * 10.0 ** (k % 30)} for k in (a, b)]
    found = interpolate(nn.Linear(4, 4, bias=False), *ends, lambda model: model.weight.detach().clone(), alphas=[0, 1, 0.5])
    assert torch.equal(found[0], ends[0]["weight"])
    assert torch.equal(found[1], ends[1]["weight"])
    middle, largest = (ends[0]["weight"].double() + ends[1]["weight"]) / 2, max(end["weight"].abs().max() for end in ends)
    assert torch.allclose(found[2].double(), middle, atol=1e-6 * float(largest))


def test_floating_buffers_are_interpolated_and_whole_numbers_are_not():
    start, end = normed(0), normed(1)
    end[1].num_batches_tracked.fill_(8)
    seen = interpolate(
        normed(2), start, end, lambda m: (m[1].running_mean.clone(), int(m[1].num_batches_tracked)), [0.25, 0.75]
    )
    assert torch.allclose(seen[0][0], 0.75 * start[1].running_mean + 0.25 * end[1].running_mean)
    assert [tracked for _, tracked in seen] == [3, 8]


def test_recalibrated_statistics_are_those_of_the_batches():
    start, end, batches = normed(0), normed(1), [batch(k, 8) for k in range(4)]
    seen = interpolate(
        normed(2), start, end, lambda m: m[1].running_mean.clone(), [0, 0.5], recalibrate=lambda m: update_bn(batches, m)
    )
    for alpha, mean in zip((0, 0.5), seen, strict=True):
        with torch.no_grad():
            maps = [torch.lerp(start[0].weight, end[0].weight, alpha)], [torch.lerp(start[0].bias, end[0].bias, alpha)]
            means = [nn.functional.conv2d(x, *maps[0], *maps[1]).mean((0, 2, 3)) for x, _ in batches]
        assert torch.allclose(mean, torch.stack(means).mean(0), atol=1e-5)
    assert not torch.allclose(seen[0], start[1].running_mean)


def test_ends_of_different_models_are_refused():
    with pytest.raises(ValueError, match="only one has"):
        interpolate(net(), net(), normed(), loss)
    with pytest.raises(ValueError, match="has shape .* in one and"):
        interpolate(nn.Linear(2, 1), nn.Linear(2, 1), nn.Linear(3, 1), loss)


def test_from_a_sparse_net_to_a_dense_one():
    dense = net()
    mask = Pruner(fraction=0.5).prune(dense)
    sparse = mask.apply_(net())
    held = interpolate(net(3), sparse, dense, mask.holds, [0, 0.01, 1])
    assert held == [True, False, False]
    assert Mask.nonzero(dense).sparsity == 0.0


# ---------------------------------------------------------------- directions


def test_random_directions_leave_biases_and_norms_alone_and_depend_on_the_seed_alone():
    model, other = normed(), normed(4)
    with no_global_draws():
        a, b, c = random_direction(model, 1), random_direction(other, 1), random_direction(model, 2)
    assert list(a) == ["0.weight", "4.weight"]
    assert all(torch.equal(a[n], b[n]) and not torch.equal(a[n], c[n]) for n in a)
    assert abs(a["4.weight"].mean().item()) < 0.35
    assert abs(a["4.weight"].std().item() - 1) < 0.25
    assert list(random_direction(model, 0, ["4.bias"])) == ["4.bias"]


@given(seeds)
def test_filters_of_a_normalised_direction_are_as_long_as_the_models(seed):
    model = nn.Sequential(
        filled(nn.Conv2d(2, 3, 3), seed), filled(nn.ConvTranspose2d(3, 4, 2), seed), filled(nn.Linear(5, 6), seed)
    )
    raw = random_direction(model, seed, [n for n, _ in model.named_parameters()])
    scaled = filter_normalized(raw, model)
    for name, w in model.named_parameters():
        axis = 1 if name == "1.weight" else 0
        for k in range(w.shape[axis]):
            d, f, r = (t.select(axis, k).flatten() for t in (scaled[name], w.detach(), raw[name]))
            assert torch.allclose(d.norm(), f.norm(), rtol=1e-5)
            assert torch.allclose(d * r.norm(), r * f.norm(), rtol=1e-4, atol=1e-5)


def test_a_filter_without_direction_stays():
    model = filled(nn.Linear(3, 2))
    scaled = filter_normalized({"weight": torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])}, model)
    assert scaled["weight"][0].eq(0).all()
    assert torch.allclose(scaled["weight"][1, 0], model.weight[1].norm())


def test_a_wider_valley_is_less_sharp():
    alphas = [k / 25 - 1 for k in range(51)]
    wide, narrow = ([0.1 + c * a * a for a in alphas] for c in (1, 4))
    assert sharpness(alphas, narrow) == pytest.approx(4 * sharpness(alphas, wide))
    assert sharpness(alphas, [wide, narrow]) == pytest.approx(2.5 * sharpness(alphas, wide))
    assert sharpness(alphas, wide, radius=0.04) == pytest.approx(0.04**2)


@pytest.mark.parametrize(
    ("alphas", "losses", "radius"),
    [
        ([0, 1], [1, 2, 3], 1),
        ([0.1, 0.2], [1, 2], 1),
        ([0, 1], [1, 2], 0.5),
        ([0, 1], [1, float("inf")], 1),
        ([0, 1], [1, 2], 0),
    ],
)
def test_curves_without_a_sharpness_are_refused(alphas, losses, radius):
    with pytest.raises(ValueError, match=r"must|got"):
        sharpness(alphas, losses, radius=radius)
