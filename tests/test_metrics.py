import math
from collections import namedtuple

import pytest
import torch
from helpers import batch, everything, filled, net, no_global_draws, risen
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss

from sparsedd import Mask, Pruner, Sweep, landscape, metrics, scores
from sparsedd.metrics import Evaluation, learning_distance
from sparsedd.sweeps import FINETUNING, StoredSweep

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


@pytest.mark.parametrize("size", [1, 7, 4099, 65_536, 65_537, 235_200, 1_000_003])
@pytest.mark.parametrize(
    "dtypes", [(torch.float32, torch.float32), (torch.bfloat16, torch.float64), (torch.float16, torch.float32)]
)
def test_the_distance_is_the_sum_over_whole_tensors_to_the_last_bit(size, dtypes):
    generator = torch.Generator().manual_seed(size)
    start, end = (
        {"a": torch.randn(1, size, generator=generator).to(d), "b": torch.randn(3, 5, generator=generator).to(d)}
        for d in dtypes
    )
    whole = [float((start[name].double() - end[name].double()).square().sum()) for name in start]
    assert learning_distance(start, end) == math.sqrt(whole[0] + whole[1])


@pytest.mark.parametrize("other", [torch.contiguous_format, torch.channels_last])
def test_the_distance_of_weights_in_another_order_in_memory(other):
    start, end = filled(nn.Conv2d(64, 32, 3)), filled(nn.Conv2d(64, 32, 3), 1).to(memory_format=torch.channels_last)
    start.to(memory_format=other)
    expected = float((start.weight.detach().double() - end.weight.detach().double()).square().sum())
    assert learning_distance(start, end) == math.sqrt(expected)


def test_a_distance_takes_eight_bytes_for_each_weight_of_the_largest_tensor():
    start, end = ({str(k): torch.full((1024, 2048), float(v)) for k in range(4)} for v in (1, 3))
    learning_distance({"w": torch.ones(2, 2)}, {"w": torch.ones(2, 2)})
    assert risen(lambda: learning_distance(start, end)) <= 10 * (1 << 21)
    assert learning_distance(start, end) == 2 * math.sqrt(4 * (1 << 21))


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
        (net(), nn.Linear(2, 2), None, ValueError, "not of the same model: only one has 'conv.weight'"),
        (nn.Linear(2, 2), nn.Linear(3, 2), None, ValueError, r"'weight' has shape \(2, 2\) in one and \(2, 3\) in the"),
        (net(), net(), ["fc"], ValueError, "no parameter 'fc'. It has conv.weight"),
        (net().state_dict(), net(), ["fc"], ValueError, "no parameter 'fc'. It has conv.weight"),
        (net().state_dict(), net().state_dict(), ["fc"], ValueError, "no parameter 'fc'. It has conv.weight"),
        (net(), net(), "fc.weight", TypeError, r"write \['fc.weight'\]"),
        (net(), 3, None, TypeError, "weights must be a model or a mapping of names to tensors, got .* type int"),
        ([torch.ones(2, 2)], net(), None, TypeError, "type list"),
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


class Merging(nn.Linear):
    """As a layer of LoRA: its product is part of its weight in evaluation, and it has a gradient in training alone."""

    def __init__(self):
        super().__init__(4, 3, bias=False)
        self.lora, self.merged = nn.Parameter(torch.linspace(0.1, 0.7, 12).view(3, 4)), False

    def train(self, mode=True):
        super().train(mode)
        if self.merged == mode:
            self.weight.data += -self.lora.data if mode else self.lora.data
            self.merged = not mode
        return self

    def forward(self, x):
        return nn.functional.linear(x, self.weight if self.merged else self.weight + self.lora)


class Frozen(nn.Sequential):
    """The statistics of its norms stay as they are in training; its ``train`` gives nothing back, as that of LeViT."""

    def train(self, mode=True):
        super().train(mode)
        for module in self:
            if isinstance(module, nn.BatchNorm1d):
                module.eval()


class Switching(nn.Module):
    """What runs depends on the last switch, as in the feature extractors of torchvision."""

    def __init__(self):
        super().__init__()
        self.runs = "training"

    def train(self, mode=True):
        self.runs = "training" if mode else "evaluation"
        return super().train(mode)

    def forward(self, x):
        return x


def switched(model):
    """What a mode is made of: the flags, and what the modules have made of them."""
    return [(m.training, getattr(m, "merged", None), getattr(m, "runs", None)) for m in model.modules()]


def evaluated(model, batches):
    metrics.evaluate(model, batches)


def scored(model, batches):
    scores.accumulate_(model, batches, cross_entropy)


def moved(model, batches):
    with landscape.at(model, {}):
        for x, _ in batches:
            model.train(not model.training)
            model(x)


@pytest.mark.parametrize("use", [evaluated, scored, moved])
@pytest.mark.parametrize("wrap", [nn.Sequential, lambda m: torch.compile(m, backend="eager"), nn.DataParallel])
@pytest.mark.parametrize("start", ["train", "eval", "partly", "by hand"])
@pytest.mark.parametrize("fails", [False, True])
def test_modes_are_switched_back_as_their_modules_do(use, wrap, start, fails):
    inner = Frozen(Switching(), nn.BatchNorm1d(4), Merging())
    inner.add_module("inner", Frozen(Switching(), nn.BatchNorm1d(3)))
    model = wrap(inner) if wrap is not nn.Sequential else inner
    if start == "eval":
        model.eval()
    if start == "partly":
        inner[2].eval()
        inner.inner[0].eval()
    if start == "by hand":
        inner[1].train()
    inner.register_forward_hook(lambda *_: torch.ones(1).view(2) if fails else None)
    before, modes = [p.detach().clone() for p in (*model.parameters(), *model.buffers())], switched(model)
    with pytest.raises(RuntimeError, match="shape") if fails else no_global_draws():
        use(model, [(torch.randn(5, 4, generator=torch.Generator().manual_seed(0)), torch.zeros(5, dtype=torch.int64))])
    assert switched(model) == modes
    assert all(torch.equal(a, b) for a, b in zip(before, (*model.parameters(), *model.buffers()), strict=True))


def test_after_evaluate_every_weight_gets_a_gradient_again():
    model = nn.Sequential(Merging())
    metrics.evaluate(model, [(torch.ones(1, 4), torch.tensor([0]))])
    model(torch.ones(1, 4)).sum().backward()
    assert model[0].lora.grad is not None


def test_a_mode_that_no_switch_leads_to_is_given_back_too():
    class Never(nn.Linear):
        def train(self, mode=True):
            return super().train(False)

    model = Never(2, 2)
    model.training = True
    metrics.evaluate(model, [(torch.ones(1, 2), torch.tensor([0]))])
    assert model.training


Output = namedtuple("Output", "loss logits")


@pytest.mark.parametrize(
    ("wrap", "says", "part"),
    [
        (lambda logits: Output(None, logits), r"Output: .*inputs\)\.logits", lambda found: found.logits),
        (lambda logits: (logits, 0), r"tuple: pass a torch.nn.Module whose .*\(inputs\)\[0\]", lambda found: found[0]),
        (lambda logits: {"out": logits}, r"dict: .*model\(inputs\)\['out'\]", lambda found: found["out"]),
    ],
)
def test_a_model_that_returns_no_logits_is_an_error_that_says_what_to_pass(wrap, says, part):
    model, batches = nn.Linear(3, 3), [(torch.eye(3), torch.arange(3))]
    model.register_forward_hook(lambda module, args, found: wrap(found))
    before = everything(model)
    for use in (evaluated, scored):
        with pytest.raises(TypeError, match=f"the model must return a tensor of logits, got {says}\\.$"):
            use(model, batches)
        assert everything(model) == before
    scores.accumulate_(model, batches, lambda found, targets: cross_entropy(part(found), targets))


def test_a_model_of_hugging_face_is_evaluated_through_its_logits():
    transformers = pytest.importorskip("transformers")
    sizes = {"vocab_size": 9, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    with torch.random.fork_rng([]):
        bert = transformers.BertForSequenceClassification(transformers.BertConfig(**sizes))
    batches = [(torch.tensor([[1, 2], [3, 4]]), torch.tensor([0, 1]))]
    with pytest.raises(TypeError, match=r"got SequenceClassifierOutput: .* forward returns model\(inputs\)\.logits\."):
        metrics.evaluate(bert, batches)

    class Logits(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = bert

        def forward(self, tokens):
            return self.model(tokens).logits

    assert metrics.evaluate(Logits(), batches).n == 2


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
    with pytest.raises(TypeError, match="type int"):
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


# ---------------------------------------------------------------- margins and entropy


@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), seeds)
def test_margins_are_those_of_a_loop_over_samples_whatever_the_batches(sizes, seed):
    model, every = net(seed), [batch(k, n) for k, n in enumerate(sizes)]
    found, expected = metrics.margins(model, iter(every)), []
    for x, y in ((x, y) for xs, ys in every for x, y in zip(xs, ys, strict=True)):
        logits = model(x[None])[0].tolist()
        expected.append(logits.pop(y) - max(logits))
    assert found.dtype == torch.float32
    assert found.tolist() == pytest.approx(expected, rel=1e-5, abs=1e-5)
    assert (found > 0).float().mean().item() == pytest.approx(metrics.evaluate(model, every).accuracy)


def test_margins_are_exact_and_as_wide_as_the_logits():
    logits, y = torch.tensor([[3.0, 1.0, 1.0], [3.0, 1.0, 3.0], [-math.inf, 2.0, 0.0]]), torch.tensor([0, 2, 1])
    for dtype, wide in ((torch.float16, torch.float32), (torch.float64, torch.float64)):
        found = metrics.margins(nn.Identity(), [(logits[:1].to(dtype), y[:1]), (logits[1:].to(dtype), y[1:].to(torch.uint8))])
        assert found.dtype == wide
        assert found.tolist() == [2, 0, 2]


class Counting(nn.Module):
    """Its buffer changes, and is another, after each pass."""

    def __init__(self):
        super().__init__()
        self.inner, self.relu = Noisy(), nn.ReLU()
        self.register_buffer("passes", torch.zeros(2))

    def forward(self, x):
        self.passes = self.passes.add_(1) + 1
        return self.relu(self.inner(x))


@pytest.mark.parametrize("measure", [metrics.margins, metrics.activation_entropy, metrics.evaluate])
@pytest.mark.parametrize("fails", [False, True])
def test_a_measure_gives_back_modes_buffers_and_hooks(measure, fails):
    model = Counting().train()
    model.inner.net.fc.eval()
    before = everything(model)

    def batches():
        yield batch(0)
        yield batch(1)
        if fails:
            raise ZeroDivisionError

    with no_global_draws():
        if fails:
            with pytest.raises(ZeroDivisionError):
                measure(model, batches())
        else:
            measure(model, batches())
    assert everything(model) == before


@pytest.mark.parametrize("measure", [metrics.margins, metrics.activation_entropy, metrics.evaluate])
def test_a_measure_between_a_forward_and_a_backward_pass(measure):
    model = nn.Sequential(net(), nn.BatchNorm1d(3), nn.ReLU())
    loss = model(batch(0)[0]).sum()
    measure(model, [batch(1)])
    loss.backward()
    assert model[0].conv.weight.grad is not None


def test_margins_of_every_level_of_a_sweep(tmp_path):
    model, batches, at_once = net(), [batch(0), batch(1)], []
    for level in Sweep(tmp_path, model, Pruner(fraction=0.5), levels=3, retraining=FINETUNING):
        with torch.no_grad():
            model.fc.bias += level.number
        at_once.append(metrics.margins(model, batches))
        level.record()
    stored, later = StoredSweep(tmp_path), []
    for level in range(3):
        with landscape.at(model, stored.weights(level)):
            later.append(metrics.margins(model, batches))
    assert torch.equal(torch.stack(later), torch.stack(at_once))
    assert not torch.equal(later[0], later[1])


def coins(k, n, units=1):
    """n samples of which the first k are above zero, in every unit."""
    return (torch.arange(n) < k).float().mul(2).sub(1)[:, None].expand(n, units).contiguous()


@given(st.integers(1, 40), st.data(), st.lists(st.integers(1, 39), max_size=4))
def test_the_entropy_of_a_unit_is_that_of_a_coin_whatever_the_batches(n, data, cuts):
    k = data.draw(st.integers(0, n))
    x = coins(k, n)[torch.randperm(n, generator=torch.Generator().manual_seed(n))]
    bounds = sorted({0, n, *(cut for cut in cuts if cut < n)})
    batches = [(x[a:b], torch.zeros(b - a)) for a, b in zip(bounds, bounds[1:], strict=False)]
    (bits,) = metrics.activation_entropy(nn.Sequential(nn.ReLU()), batches).values()
    p = k / n
    assert bits == (0 if k in (0, n) else pytest.approx(-p * math.log2(p) - (1 - p) * math.log2(1 - p), rel=1e-12))
    assert (bits == 1) == (2 * k == n)


def test_entropy_is_a_mean_over_channels_and_positions_by_the_name_of_each_layer():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.unused, self.relu, self.again = nn.ReLU(), nn.ReLU(inplace=True), None
            self.again, self.gelu = self.relu, nn.Sequential(nn.GELU())

        def forward(self, x):
            self.relu(x[:, 0].clone())  # (b, 2): one unit of two undecided
            self.relu(x.clone())  # (b, 3, 2): one of six
            return self.gelu(x)

    x = torch.ones(4, 3, 2)
    x[:2, 0, 1] = -1
    found = metrics.activation_entropy(Twice(), [(x[:3], torch.zeros(3)), (x[3:], torch.zeros(1))])
    assert found == {"relu": pytest.approx(2 / 8), "gelu.0": pytest.approx(1 / 6)}
    assert list(found) == ["relu", "gelu.0"]


class Unheard(nn.Module):
    """A module that has a rectifier, and does not call it."""

    def __init__(self):
        super().__init__()
        self.relu = nn.ReLU()

    def forward(self, x):
        return torch.relu(x)


def test_the_entropy_of_nan_and_of_no_units_is_nan():
    x, y = torch.tensor([[1.0, 1.0], [-1.0, math.nan]]), torch.zeros(2)
    for inputs in (x, x[:, :0], x.fill_(math.nan)):
        (bits,) = metrics.activation_entropy(nn.Sequential(nn.ReLU()), [(inputs, y)]).values()
        assert math.isnan(bits)


def test_the_entropy_of_a_replica_is_that_of_the_model():
    class Replicated(nn.Module):
        def __init__(self, parts):
            super().__init__()
            self.relu, self.parts = nn.ReLU(), parts

        def forward(self, x):
            replica = self.relu._replicate_for_data_parallel()
            return torch.cat([replica(part) for part in x.chunk(self.parts)])

    batches = [(coins(1, 4), torch.zeros(4))]
    plain = metrics.activation_entropy(nn.Sequential(nn.ReLU()), batches)
    assert metrics.activation_entropy(Replicated(1), batches) == {"relu": plain["0"]}
    with pytest.raises(ValueError, match=r"'relu' has 2 rows .* 4 targets: .*of nn.DataParallel, pass the .module"):
        metrics.activation_entropy(Replicated(2), batches)


def test_entropy_of_a_compiled_model_is_that_of_the_model():
    model, batches = nn.Sequential(net(), nn.ReLU()), [batch(k, 9) for k in range(3)]
    plain = metrics.activation_entropy(model, batches)
    compiled = torch.compile(model, backend="eager")
    compiled(batches[0][0])
    assert metrics.activation_entropy(compiled, batches) == plain
    model.compile(backend="eager")
    model(batches[0][0])
    assert metrics.activation_entropy(model, batches) == plain


def test_what_has_no_margins_or_entropy():
    x, y = torch.zeros(3, 2), torch.zeros(3, dtype=torch.int64)
    for batches, error, message in (
        ([(x[:, :1], y)], ValueError, r"margins needs the logits of two classes or more, got \(3, 1\)"),
        ([(x, y + 2)], ValueError, r"targets must be in 0 ... 1, got 2 ... 2"),
        ([(x, y - 1)], ValueError, r"targets must be in 0 ... 1, got -1"),
        ([(x, y.float())], TypeError, r"classes of type torch.int64, got torch.float32: use targets.long"),
        ([(x, y[:2])], ValueError, r"margins takes \(b, C\) logits and \(b,\) targets"),
        ([(x[:0], y[:0])], ValueError, "at least one sample, got none"),
        ([(x, y.to(torch.uint16))], TypeError, r"classes of type torch.int64, got torch.uint16: use targets.long"),
        ([(x.to_sparse(), y)], TypeError, "dense, real logits, got torch.float32 of layout torch.sparse_coo"),
        ([(x + 0j, y)], TypeError, "dense, real logits, got torch.complex64"),
    ):
        with pytest.raises(error, match=message):
            metrics.margins(nn.Identity(), batches)
    for model, batches, message in (
        (net(), [batch(0)], r"Sequential has no rectified layer .*functional.relu are not seen: write nn.ReLU\(\)"),
        (nn.Sequential(nn.ReLU()), [], "at least one sample, got none"),
        (nn.Sequential(nn.ReLU()), [(x, y), (torch.zeros(3, 4), y)], "other units in one batch than in another"),
        (
            nn.Sequential(nn.ReLU()),
            [(x.T, y)],
            r"'0' has 2 rows of shape \(3,\), and the batch 3 targets: .*batch_first",
        ),
        (nn.Sequential(nn.ReLU()), [(x[:0], y)], "output of '0' has 0 rows"),
        (nn.Sequential(nn.ReLU()), [(x, y), (x.repeat(2, 1), y)], "output of '0' has 6 rows .*time not be merged"),
        (Unheard(), [(x, y)], r"no rectified layer was called, of 'relu': call the module itself"),
    ):
        with pytest.raises(ValueError, match=message):
            metrics.activation_entropy(model, batches)
