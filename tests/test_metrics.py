import math

import pytest
import torch
from helpers import batch, everything, filled, net, no_global_draws
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss

from sparsedd import Mask, Pruner, metrics
from sparsedd.metrics import Evaluation, learning_distance

seeds = st.integers(0, 10**6)

# ---------------------------------------------------------------- learning distance


@given(seeds, seeds)
def test_learning_distance_is_the_norm_over_the_weight_tensors_alone(a, b):
    start, end = net(a), net(b)
    squares = [(x.double() - y.double()).square().sum().item()
               for x, y in zip(start.parameters(), end.parameters(), strict=True) if x.dim() > 1]  # fmt: skip
    expected = math.fsum(squares) ** 0.5
    for s in (start, start.state_dict(), dict(start.named_parameters())):
        for e in (end, end.state_dict()):
            assert learning_distance(s, e) == pytest.approx(expected, rel=1e-14, abs=0)
    assert learning_distance(start, end, ["fc.weight"]) == pytest.approx(squares[1] ** 0.5, rel=1e-14, abs=0)
    assert learning_distance(end, start) == learning_distance(start, end)
    assert learning_distance(start, start) == 0.0
    assert learning_distance(start, net(5)) <= learning_distance(start, end) + learning_distance(end, net(5)) + 1e-9


def test_pruned_weights_count_as_zero():
    start, end = net(), net()
    mask = Pruner(fraction=0.5).prune(end)
    mask.apply_(end)
    pruned = torch.cat([start.get_parameter(n)[~keep] for n, keep in mask.items()])
    assert learning_distance(start, end) == pytest.approx(pruned.double().norm().item(), rel=1e-12)


def test_differences_are_taken_in_float64():
    start = {"w": torch.full((1000, 1000), 1.0)}
    end = {"w": torch.full((1000, 1000), 1.0 + 2**-23)}
    assert learning_distance(start, end) == 1000 * 2**-23
    assert learning_distance({"w": torch.full((1, 1), 300.0, dtype=torch.float16)}, {"w": torch.zeros(1, 1)}) == 300.0


def test_tied_weights_count_once_buffers_norms_and_biases_never():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.norm = nn.Linear(2, 2), nn.Linear(2, 2), nn.BatchNorm1d(2)
            self.b.weight = self.a.weight
            self.register_buffer("table", torch.zeros(5, 5))

    start, end = filled(Net()), filled(Net())
    nn.init.zeros_(start.a.weight)
    nn.init.zeros_(end.a.weight)
    with torch.no_grad():
        end.a.weight += 1
        end.a.bias += 100
        end.norm.weight += 100
        end.norm.running_mean += 100
        end.table += 100
    for s, e in ((start, end), (start.state_dict(), end), (start, end.state_dict())):
        assert learning_distance(s, e) == 2.0
    assert learning_distance(start, end, ["a.bias"]) == pytest.approx(100 * 2**0.5)
    assert learning_distance(start, end, ["b.weight", "a.weight"]) == 2.0


@pytest.mark.parametrize(
    ("start", "end", "names", "error", "message"),
    [
        (net(), nn.Linear(2, 2), None, ValueError, "not the same model: only one has 'conv.weight'"),
        (nn.Linear(2, 2), nn.Linear(3, 2), None, ValueError, r"'weight' has shape \(2, 2\) at the start and \(2, 3\) at the"),
        (net(), net(), ["fc"], ValueError, "no parameter 'fc'. It has conv.weight"),
        (net().state_dict(), net(), ["fc"], ValueError, "no parameter 'fc'. It has conv.weight"),
        (net().state_dict(), net().state_dict(), ["fc"], ValueError, "no weights named 'fc'. There are conv.weight"),
        (net(), net(), "fc.weight", TypeError, r"write \['fc.weight'\]"),
        (net(), 3, None, TypeError, "weights must be a model or a mapping of names to tensors, got int"),
        ([torch.ones(2, 2)], net(), None, TypeError, "got list"),
    ],
)
def test_distances_between_what_has_none(start, end, names, error, message):
    with pytest.raises(error, match=message):
        learning_distance(start, end, names)


# ---------------------------------------------------------------- evaluate


class Noisy(nn.Module):
    """Its mode and its buffers show how it was run."""

    def __init__(self):
        super().__init__()
        self.net, self.norm, self.drop = net(), nn.BatchNorm1d(3), nn.Dropout(0.5)

    def forward(self, x):
        assert not torch.is_grad_enabled()
        return self.drop(self.norm(self.net(x)))


@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), seeds)
def test_evaluate_counts_each_sample_once(sizes, seed):
    model = net(seed)
    batches = [batch(k, n) for k, n in enumerate(sizes)]
    x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
    with torch.no_grad():
        logits = model(x)
    found = metrics.evaluate(model, iter(batches))
    assert found.n == sum(sizes)
    assert found.accuracy == metrics.accuracy(logits, y) == (logits.argmax(1) == y).sum().item() / len(y)
    assert found.loss == pytest.approx(cross_entropy(logits, y).item(), rel=1e-5)
    assert metrics.evaluate(model, batches, loss=lambda out, target: target.double().mean()).loss == pytest.approx(
        y.double().mean().item()
    )


@pytest.mark.parametrize("fails", [False, True])
def test_evaluate_gives_back_every_mode_and_changes_nothing(fails):
    model = Noisy().train()
    model.net.fc.eval()
    model.net.conv.weight.grad = torch.ones_like(model.net.conv.weight)
    before = everything(model)

    def batches():
        yield batch(0)
        if fails:
            raise ZeroDivisionError

    with no_global_draws():
        if fails:
            with pytest.raises(ZeroDivisionError):
                metrics.evaluate(model, batches())
        else:
            assert metrics.evaluate(model, batches()) == metrics.evaluate(model, batches())
    assert everything(model) == before


def test_evaluate_works_without_parameters_and_shows_nan():
    logits = torch.tensor([[0.0, 9.0], [0.0, 9.0]])
    assert metrics.evaluate(nn.Identity(), [(logits, torch.tensor([1, 0]))]).accuracy == 0.5
    assert math.isnan(metrics.evaluate(nn.Identity(), [(logits * float("nan"), torch.tensor([1, 0]))]).loss)
    assert repr(Evaluation(0.5, 0.25, 4)) == "Evaluation(loss=0.5, accuracy=0.25, n=4)"


@pytest.mark.parametrize("batches", [[], iter([]), [(torch.zeros(0, 1, 6, 6), torch.zeros(0, dtype=torch.int64))]])
def test_no_samples_is_an_error(batches):
    model = net()
    before = everything(model)
    with pytest.raises(ValueError, match="at least one sample, got none"):
        metrics.evaluate(model, batches, loss=lambda out, target: out.sum())
    assert everything(model) == before
    with pytest.raises(TypeError, match="got int"):
        metrics.evaluate(3, [batch(0)])


# ---------------------------------------------------------------- the others


@pytest.mark.parametrize(("n", "targets"), [(2, 3), (0, 0)])
def test_accuracy_needs_as_many_targets_as_rows(n, targets):
    with pytest.raises(ValueError, match=rf"got \({n}, 4\), \({targets},\)"):
        metrics.accuracy(torch.zeros(n, 4), torch.zeros(targets, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"got \(3,\), \(3,\)"):
        metrics.accuracy(torch.zeros(3), torch.zeros(3))


def test_generalization_gap_is_train_minus_test_accuracy():
    train, test = Evaluation(0.1, 1.0, 10), Evaluation(2.0, 0.75, 4)
    assert metrics.generalization_gap(train, test) == metrics.generalization_gap(1, 0.75) == 0.25
    assert metrics.generalization_gap(0.75, train) == -0.25


@given(st.integers(0, 170), seeds)
def test_sparsity_of_a_model_is_that_of_its_mask(lose, seed):
    model = net(seed)
    mask = Pruner().prune_to(model, lose / 171 - 1e-9 if lose else 0)
    assert metrics.sparsity(mask.apply_(model)) == mask.sparsity == lose / 171
    assert metrics.sparsity(model, ["fc.weight"]) == mask.by_layer()["fc.weight"]
    assert metrics.sparsity(model, ["fc.bias"]) == 0.0


def test_a_loss_may_be_any_function():
    x, y = batch(0)
    found = metrics.evaluate(net(), [(x, y)], loss=lambda out, target: mse_loss(out, nn.functional.one_hot(target, 3).float()))
    assert found.loss > 0
    assert Mask.dense(net()).sparsity == metrics.sparsity(net()) == 0.0


def test_empty_batches_do_not_count_and_wrong_shapes_are_refused():
    model, x, y = nn.Identity(), torch.eye(3), torch.arange(3)
    assert metrics.evaluate(model, [(x, y), (x[:0], y[:0])]) == metrics.evaluate(model, [(x, y)])
    with pytest.raises(ValueError, match=r"got \(3, 3, 2\) and \(3, 2\)"):
        metrics.evaluate(model, [(torch.zeros(3, 3, 2), torch.zeros(3, 2, dtype=torch.int64))])


def test_the_distance_of_complex_weights_counts_both_parts():
    assert metrics.learning_distance({"w": torch.zeros(1, 1)}, {"w": torch.full((1, 1), 3 + 4j)}) == pytest.approx(5.0)


def test_a_state_dict_of_a_wrapper_is_one_of_the_model():
    model = nn.DataParallel(nn.Linear(2, 2))
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    nn.init.zeros_(model.module.weight)
    assert metrics.learning_distance(state, model) == pytest.approx(state["module.weight"].norm().item())


def test_a_loss_gives_a_number_or_an_error_that_says_so():
    batches = [(torch.eye(3), torch.arange(3))]
    assert metrics.evaluate(nn.Identity(), batches, loss=lambda logits, targets: 0.25).loss == 0.25
    with pytest.raises(ValueError, match=r"loss must give the mean over the batch, got a tensor of shape \(3,\)"):
        metrics.evaluate(nn.Identity(), batches, loss=lambda logits, targets: torch.ones(3))


def test_samples_are_counted_exactly():
    n = 2**24 + 3
    batch = torch.tensor([[0.0, 1.0]]).expand(n, 2), torch.ones(n, dtype=torch.int64)
    parts = zip(*(tensor.split(2**23) for tensor in batch), strict=True)
    assert metrics.evaluate(nn.Identity(), parts, loss=lambda logits, targets: 0.0).accuracy == 1.0
