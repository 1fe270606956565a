import copy
import io
import os
from collections import Counter, OrderedDict
from typing import Any

import pytest
import torch
from helpers import batch, bits, everything, net, no_global_draws, risen
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DataParallel
from torch.optim import LBFGS, SGD, Adam, AdamW, Optimizer, lr_scheduler

from sparsedd import Mask, Pruner, Rewinder, metrics


class Part:
    """Anything with a state; it refuses to load the word "bad"."""

    def __init__(self, state: Any) -> None:
        self.state = state

    def state_dict(self) -> Any:
        return self.state

    def load_state_dict(self, state: Any) -> None:
        if state == "bad":
            raise KeyError("bad state")
        self.state = state


def train(model: nn.Module, optimizer: Optimizer, steps: range, scheduler: Any = None) -> list[float]:
    """Train as many steps; the learning rates that were used."""
    rates = []
    for step in steps:
        optimizer.zero_grad()
        x, y = batch(step)
        cross_entropy(model(x), y).backward()
        rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau):
            scheduler.step(1.0)
        elif scheduler is not None:
            scheduler.step()
    return rates


def same(a: Any, b: Any) -> bool:
    """Equal values of equal types, tensors bit for bit."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and bits(a) == bits(b)
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(v, b[k]) for k, v in a.items())
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b or (a != a and b != b)


def weights(model: nn.Module) -> list[Any]:
    return [bits(value) for value in model.state_dict().values()]


# ---------------------------------------------------------------- capturing


def test_what_was_captured_stays():
    model = net()
    optimizer = SGD(model.parameters(), 0.1, momentum=0.9)
    train(model, optimizer, range(2))
    state = copy.deepcopy((dict(model.state_dict()), optimizer.state_dict()))
    with no_global_draws():
        start = Rewinder(step=2, model=model, optimizer=optimizer)
    train(model, optimizer, range(2, 4))
    start["model"]["fc.weight"].zero_()
    start["optimizer"]["param_groups"].clear()
    start.state_dict()["parts"]["model"]["fc.weight"].zero_()
    assert start.step == 2
    assert same(dict(start["model"]), state[0])
    assert same(start["optimizer"], state[1])
    start.rewind(model=model)
    with torch.no_grad():
        model.fc.weight.zero_()  # the model does not hold the captured tensors either
    assert same(dict(start["model"]), state[0])


def test_a_rewinder_reads_like_a_sentence_and_names_what_it_lacks():
    start = Rewinder(step=1000, model=net(), sgd=SGD(net().parameters(), 0.1))
    assert repr(start) == "Rewinder(step 1,000 of model, sgd)"
    assert ("model" in start, "adam" in start) == (True, False)
    with pytest.raises(KeyError, match="'adam' was not captured. There is model, sgd"):
        start["adam"]
    with pytest.raises(AttributeError):
        start.step = 3


@pytest.mark.parametrize(
    ("parts", "error", "message"),
    [
        ({"model": 3}, TypeError, "'model' must have state_dict and load_state_dict, got int"),
        ({"mask": Mask.dense(net())}, TypeError, "'mask' must have state_dict and load_state_dict, got Mask"),
        ({"step": -1}, ValueError, "step must be at least 0, got -1"),
        ({"step": 1.5}, TypeError, "step must be an integer, got 1.5"),
    ],
)
def test_what_has_no_state_is_refused(parts, error, message):
    with pytest.raises(error, match=message):
        Rewinder(**parts)


class Tied(nn.Module):
    """An embedding that is the head, too."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(4096, 512)
        self.layers = nn.ModuleList(nn.Linear(512, 1024, bias=False) for _ in range(8))
        self.head = nn.Linear(512, 4096, bias=False)
        self.head.weight = self.embedding.weight


def test_memory_is_one_copy_of_the_model_or_none(tmp_path):
    model = Tied()
    size = sum(4 * p.numel() for p in model.parameters())
    Rewinder(model=net()).save(tmp_path / "warm")
    start = []
    assert risen(lambda: start.append(Rewinder(model=model))) <= 1.1 * size
    assert risen(lambda: start[0].rewind(model=model)) <= 1.1 * size
    assert risen(lambda: start[0].save(tmp_path / "start")) <= 0.1 * size
    assert risen(lambda: start[0].state_dict()) <= 1.1 * size
    assert (tmp_path / "start").stat().st_size <= 1.01 * size


class Taking(nn.Linear):
    """A layer that takes the very tensor it is given."""

    def _load_from_state_dict(self, state_dict, prefix, *more):
        self.weight = nn.Parameter(state_dict[prefix + "weight"])


def double(module, state_dict, prefix, *more):
    for value in state_dict.values():
        value.mul_(2)


@pytest.mark.parametrize("hooked", [False, True])
def test_a_model_that_keeps_or_changes_what_it_is_given_changes_no_rewinder(hooked):
    model = nn.Sequential(nn.Linear(2, 3, bias=False) if hooked else Taking(2, 3, bias=False))
    if hooked:
        model[0].register_load_state_dict_pre_hook(double)
    start = Rewinder(model=model)
    before = bits(start["model"]["0.weight"])
    start.rewind(model=model)
    with torch.no_grad():
        model[0].weight.zero_()
    assert bits(start["model"]["0.weight"]) == before


# ---------------------------------------------------------------- rewinding


def test_only_what_is_passed_is_rewound():
    model, other = net(), net(1)
    optimizer = Adam(model.parameters(), 0.01)
    start = Rewinder(step=7, model=model, optimizer=optimizer, other=other)
    train(model, optimizer, range(3))
    kept, state = weights(model), copy.deepcopy(optimizer.state_dict())
    assert start.rewind() == start.rewind(other=other) == 7
    assert weights(model) == kept
    assert start.rewind(optimizer=optimizer) == 7
    assert weights(model) == kept
    assert optimizer.state_dict()["state"] == {}
    optimizer.load_state_dict(state)
    assert start.rewind(model=model) == 7
    assert weights(model) == weights(net())
    assert same(optimizer.state_dict(), state)


def test_the_model_is_rewound_in_place_without_draws():
    model = net()
    start = Rewinder(model=model)
    model.fc.weight.data.zero_()
    model.fc.weight.grad = torch.ones_like(model.fc.weight)
    before = [id(p) for p in model.parameters()]
    with no_global_draws():
        start.rewind(model=model)
    assert [id(p) for p in model.parameters()] == before
    assert weights(model) == weights(net())
    assert model.fc.weight.grad.all()


@pytest.mark.parametrize("through_a_file", [False, True])
def test_training_from_a_rewound_point_repeats_bit_for_bit(tmp_path, through_a_file):
    model = net()
    optimizer = Adam(model.parameters(), 0.01, amsgrad=True)
    scheduler = lr_scheduler.MultiStepLR(optimizer, [2, 4, 6])
    train(model, optimizer, range(3), scheduler)
    start = Rewinder(step=3, model=model, optimizer=optimizer, scheduler=scheduler)
    rates = train(model, optimizer, range(3, 9), scheduler)
    end = weights(model)
    if through_a_file:  # into another process, as it were
        start.save(tmp_path / "start")
        start = Rewinder.load(tmp_path / "start")
        model = net(99)
        optimizer = Adam(model.parameters(), 0.5, amsgrad=True)
        scheduler = lr_scheduler.MultiStepLR(optimizer, [1])
    for _ in range(2):
        step = start.rewind(model=model, optimizer=optimizer, scheduler=scheduler)
        assert train(model, optimizer, range(step, 9), scheduler) == rates
        assert weights(model) == end


def test_lottery_ticket_rewinding_then_enforcing():
    """Rewound weights are those of the beginning where the mask keeps them, and zero where it prunes."""
    model = net()
    start = Rewinder(model=model)
    optimizer = SGD(model.parameters(), 0.1, momentum=0.9)
    train(model, optimizer, range(5))
    mask = Pruner(fraction=0.5).prune(model)
    start.rewind(model=model)
    with mask.enforce(model, SGD(model.parameters(), 0.1)):
        for name, keep in mask.items():
            assert torch.equal(model.get_parameter(name), torch.where(keep, net().get_parameter(name), 0.0))


SCHEDULERS = {
    "StepLR": lambda o: lr_scheduler.StepLR(o, 2, 0.5),
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, [2, 4, 4, 7], 0.5),
    "ConstantLR": lambda o: lr_scheduler.ConstantLR(o, 0.5, 6),
    "LinearLR": lambda o: lr_scheduler.LinearLR(o, 0.1, total_iters=8),
    "ExponentialLR": lambda o: lr_scheduler.ExponentialLR(o, 0.7),
    "PolynomialLR": lambda o: lr_scheduler.PolynomialLR(o, 10, 2.0),
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, 6),
    "CosineAnnealingWarmRestarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 3),
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, 0.01, 0.1, 3),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, 0.2, total_steps=20),
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, lambda epoch: 0.9**epoch),
    "MultiplicativeLR": lambda o: lr_scheduler.MultiplicativeLR(o, lambda epoch: 0.9),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.ConstantLR(o, 0.1, 4), lr_scheduler.ExponentialLR(o, 0.5)], [4]
    ),
    "ChainedScheduler": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(o, 0.1, 4), lr_scheduler.ExponentialLR(o, 0.5)], optimizer=o
    ),
    "ReduceLROnPlateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, factor=0.5, patience=1),
}


@pytest.mark.parametrize("make", SCHEDULERS.values(), ids=SCHEDULERS)
@pytest.mark.parametrize("at", [0, 1, 5])
@pytest.mark.parametrize("through_a_file", [False, True])
def test_a_scheduler_brings_the_learning_rates_along(tmp_path, make, at, through_a_file):
    model = net()
    optimizer = SGD(model.parameters(), 0.1)
    scheduler = make(optimizer)
    train(model, optimizer, range(at), scheduler)
    start = Rewinder(step=at, scheduler=scheduler)
    rates = train(model, optimizer, range(at, 12), scheduler)
    assert len(set(rates)) > 1
    if through_a_file:  # as for a fresh optimizer at each level
        start.save(tmp_path / "start")
        start = Rewinder.load(tmp_path / "start")
        optimizer = SGD(model.parameters(), 0.1)
        scheduler = make(optimizer)
    for _ in range(2):
        step = start.rewind(scheduler=scheduler)
        assert train(model, optimizer, range(step, 12), scheduler) == rates


def test_a_learning_rate_that_is_a_tensor_stays_that_tensor():
    model = net()
    rate = torch.tensor(0.1)
    optimizer = SGD(model.parameters(), rate)
    scheduler = lr_scheduler.ExponentialLR(optimizer, 0.5)
    start = Rewinder(scheduler=scheduler)
    rates = train(model, optimizer, range(4), scheduler)
    start.rewind(scheduler=scheduler)
    assert optimizer.param_groups[0]["lr"] is rate
    assert train(model, optimizer, range(4), scheduler) == rates == pytest.approx([0.1, 0.05, 0.025, 0.0125])


WRAPPERS = {
    "plain": lambda m: m,
    "compiled": lambda m: torch.compile(m, backend="eager"),
    "DataParallel": DataParallel,
    "both": lambda m: DataParallel(torch.compile(m, backend="eager")),
}


@pytest.mark.parametrize("before", WRAPPERS.values(), ids=WRAPPERS)
@pytest.mark.parametrize("after", WRAPPERS.values(), ids=WRAPPERS)
def test_a_model_may_be_wrapped_before_or_after(before, after):
    start = Rewinder(model=before(net()))
    assert list(start["model"]) == list(net().state_dict())
    model = net(5)
    start.rewind(model=after(model))
    assert weights(model) == weights(net())
    model.fc = torch.compile(model.fc, backend="eager")
    model.fc.weight.data.zero_()
    start.rewind(model=model)
    assert weights(model) == weights(net())


def test_a_state_that_does_not_fit_leaves_every_part_as_it_was():
    model, optimizer, part = net(), SGD(net().parameters(), 0.1), Part("good")
    start = Rewinder(model=model, optimizer=optimizer, part=Part("bad"), small=nn.Linear(48, 3))
    train(model, SGD(model.parameters(), 0.1), range(2))
    optimizer.param_groups[0]["lr"] = 0.5
    before, groups = everything(model), copy.deepcopy(optimizer.state_dict())
    with pytest.raises(ValueError, match="the state captured of 'part' does not fit what was passed: 'bad state'"):
        start.rewind(model=model, optimizer=optimizer, part=part)
    with pytest.raises(ValueError, match="the state captured of 'small' does not fit"):
        start.rewind(model=model, small=net())
    with pytest.raises(ValueError, match="'optimizer' does not fit"):
        start.rewind(model=model, optimizer=SGD([{"params": [w]} for w in net().parameters()], 0.1))
    with pytest.raises(ValueError, match="'scheduler' was not captured. There is model, optimizer, part, small"):
        start.rewind(model=model, scheduler=Part({}))
    with pytest.raises(TypeError, match="'optimizer' must have state_dict and load_state_dict, got float"):
        start.rewind(model=model, optimizer=0.1)
    assert everything(model) == before
    assert same(optimizer.state_dict(), groups)
    assert part.state == "good"


# ---------------------------------------------------------------- keeping

leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=4),
    st.sampled_from(
        [
            torch.ones(()),
            torch.zeros(0, 3),
            torch.arange(3),
            torch.tensor([True]),
            torch.ones(2, 2).bfloat16(),
            torch.eye(3)[:, 1],
        ]
    ),
)
keys = st.one_of(st.sampled_from(["a", "b", "a.b", "tensor", "tuple", "dict", "0", "__metadata__", ""]), st.integers(-2, 2))
states = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(keys, inner, max_size=4),
        st.dictionaries(keys, inner, max_size=4).map(OrderedDict),
        st.dictionaries(keys, st.integers(0, 9), max_size=3).map(Counter),
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["model", "a", "a.b", "__metadata__", "é"]), states, max_size=3), st.integers(0, 2**40))
def test_whatever_json_and_tensors_can_say_is_kept(tmp_path_factory, parts, step):
    start = Rewinder(step=step, **{name: Part(state) for name, state in parts.items()})
    path = tmp_path_factory.getbasetemp() / "rewinder"
    start.save(path)
    buffer = io.BytesIO()
    torch.save(start.state_dict(), buffer)
    buffer.seek(0)
    for other in (
        Rewinder.load(path),
        Rewinder.from_state_dict(start.state_dict()),
        Rewinder.from_state_dict(torch.load(buffer, weights_only=True)),
        copy.deepcopy(start),
    ):
        assert other.step == step
        assert same(other.state_dict()["parts"], parts)
    written = path.read_bytes()
    Rewinder.load(path).save(path)
    assert path.read_bytes() == written


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"a": [1, {2}]}, r"part.a\[1\] is a set: only tensors, numbers, strings and their containers"),
        ({"a": {"b": b"x"}}, "part.a.b is a bytes"),
        ({"a": (1, lambda: 1)}, r"part.a\[1\] is a function"),
        ({"a": {(1, 2): 3}}, r"part.a has the key \(1, 2\): only strings and integers"),
        ({"a": torch.eye(2).to_sparse()}, "part.a is torch.float32, torch.sparse_coo, on cpu: a .safetensors file has no such"),
        ({"a": torch.ones(2, dtype=torch.complex128)}, "part.a is torch.complex128"),
    ],
)
def test_what_a_file_can_not_hold_is_an_error_that_names_its_path(tmp_path, state, message):
    start = Rewinder(part=Part(state))
    for keep in (start.state_dict, lambda: start.save(tmp_path / "file")):
        with pytest.raises(TypeError, match=message):
            keep()
    assert os.listdir(tmp_path) == []
    part = Part(None)
    start.rewind(part=part)  # in memory it is fine
    assert list(part.state) == ["a"]


@pytest.mark.parametrize(
    "state", [{}, {"step": 1}, {"step": 1, "parts": 3}, {"step": 1, "parts": {}, "more": 1}, [1, {}], None]
)
def test_another_state_is_refused(state):
    with pytest.raises(ValueError, match="has the keys 'step' and 'parts'"):
        Rewinder.from_state_dict(state)


def test_a_changed_shortened_or_other_file_is_refused(tmp_path):
    Rewinder(step=3, model=nn.Linear(2, 1)).save(tmp_path / "start")
    good = (tmp_path / "start").read_bytes()
    changed = [bytes([*good[:k], good[k] ^ 1, *good[k + 1 :]]) for k in range(len(good))]
    for bad in (*changed, good[:-1], good + b"\0", b""):
        (tmp_path / "bad").write_bytes(bad)
        with pytest.raises(ValueError, match="bad"):
            Rewinder.load(tmp_path / "bad")
    Mask.dense(net()).save(tmp_path / "mask")
    with pytest.raises(ValueError, match="mask holds a mask, not a rewinder"):
        Rewinder.load(tmp_path / "mask")
    assert Rewinder.load(tmp_path / "start").step == 3


class Versioned(nn.Linear):
    """A module that would upgrade a state of an older version."""

    _version = 2

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, *rest):
        assert local_metadata.get("version") == 2
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)


def test_a_state_keeps_the_version_of_its_module(tmp_path):
    model = nn.Sequential(Versioned(2, 2))
    start = Rewinder(model=model)
    start.rewind(model=model)
    start.save(tmp_path / "start.safetensors")
    Rewinder.load(tmp_path / "start.safetensors").rewind(model=model)


def test_a_wrapped_part_of_a_model_has_the_names_of_the_model():
    model = nn.Sequential(nn.DataParallel(nn.Linear(2, 2)), nn.Linear(2, 1))
    start = Rewinder(model=model)
    assert list(start["model"]) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    before = model[0].module.weight.detach().clone()
    nn.init.zeros_(model[0].module.weight)
    assert metrics.learning_distance(start["model"], model) == pytest.approx(before.norm().item())
    start.rewind(model=model)
    assert torch.equal(model[0].module.weight, before)


def test_a_rewind_that_fails_gives_the_learning_rate_back():
    optimizer = SGD(net().parameters(), 0.5)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    start = Rewinder(scheduler=scheduler, small=nn.Linear(1, 1))
    optimizer.param_groups[0]["lr"] = 0.123
    with pytest.raises(ValueError, match="'small' does not fit"):
        start.rewind(scheduler=scheduler, small=nn.Linear(2, 2))
    assert optimizer.param_groups[0]["lr"] == 0.123


def test_paths_that_coincide_are_kept_apart(tmp_path):
    names = ["a.b", "a.b'", "__metadata__", "__metadata__'"]
    parts = {"a": Part({"b": torch.tensor([0.0])})} | {name: Part(torch.tensor([i + 1.0])) for i, name in enumerate(names)}
    start = Rewinder(**parts)
    start.save(tmp_path / "start")
    for again in (Rewinder.load(tmp_path / "start"), Rewinder.from_state_dict(start.state_dict())):
        assert again["a"]["b"] == 0
        assert [float(again[name]) for name in names] == [1, 2, 3, 4]


def test_a_model_without_what_was_captured_is_told_its_name():
    start = Rewinder(model=nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))
    with pytest.raises(ValueError, match=r'Unexpected key.*"1\.running_mean"'):
        start.rewind(model=nn.Sequential(nn.Linear(2, 2), nn.Identity()))


def momentum(params, kind=SGD, **settings):
    """An optimizer that remembers something of each of its parameters."""
    optimizer = kind(params, lr=0.1, **settings)
    for group in optimizer.param_groups:
        for p in group["params"]:
            p.grad = torch.ones_like(p)
    optimizer.step()
    return optimizer


@pytest.mark.parametrize(
    ("kind", "settings"), [(SGD, {"momentum": 0.9}), (AdamW, {}), (type("Mine", (SGD,), {}), {"momentum": 0.9})]
)
def test_an_optimizer_with_its_parameters_in_another_order_is_refused(kind, settings):
    model, scheduled = nn.Linear(8, 8), nn.Linear(8, 8)
    start = Rewinder(model=model, optimizer=momentum(model.parameters(), kind, **settings))
    nn.init.zeros_(model.weight)
    for other in (momentum([model.bias, model.weight], kind, **settings), kind([model.bias, model.weight], 0.1, **settings)):
        before, weight = copy.deepcopy(other.state_dict()), bits(model.weight)
        with pytest.raises(
            ValueError,
            match="'optimizer' does not fit .* under another order of parameters.*in the order of then",
        ):
            start.rewind(model=model, optimizer=other)
        assert str(other.state_dict()) == str(before)
        assert bits(model.weight) == weight
    assert start.rewind(optimizer=kind(scheduled.parameters(), 0.1, **settings)) == 0


def test_names_tell_apart_what_shapes_do_not():
    a, b = (("a", nn.Linear(8, 8).weight), ("b", nn.Linear(8, 8).weight))
    start = Rewinder(optimizer=momentum([a, b]))
    with pytest.raises(ValueError, match="another order of parameters, or of others: a, b; now they are b, a"):
        start.rewind(optimizer=momentum([b, a]))
    assert start.rewind(optimizer=momentum([a, b])) == 0


@pytest.mark.parametrize("kind", [torch.optim.Adafactor, LBFGS])
def test_a_state_of_other_shapes_than_the_weights_is_no_other_order(kind):
    model = nn.Linear(8, 3)
    optimizer = kind(model.parameters(), lr=0.1)
    model(torch.ones(2, 8)).sum().backward()
    optimizer.step(lambda: model(torch.ones(2, 8)).sum())
    assert Rewinder(optimizer=optimizer).rewind(optimizer=kind(model.parameters(), lr=0.1)) == 0
