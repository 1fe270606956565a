"""A fleet trains its members as they would be trained alone."""

import io
import pickle
from copy import deepcopy
from dataclasses import replace
from itertools import product
from types import SimpleNamespace

import pytest
import torch
from helpers import bits, everything, filled, no_global_draws
from torch import nn
from torch.nn import functional

from sparsedd import Mask, Pruner, metrics, models, noise, prunable, sparse
from sparsedd.experiments import FINETUNING, METHODS, PRESETS, SCRATCH, Experiment, Retraining, Store, redense, run, run_fleet
from sparsedd.experiments._task import Task
from sparsedd.fleet import Fleet, cross_entropy

SMOKE = Experiment().scaled("smoke")
TINY = replace(SMOKE, dataset="blobs", train_size=60, batch_size=25, width=0.04, levels=3, noise=noise.Symmetric(0.4))


def perceptron(seed, dtype=torch.float32):
    return models.lenet_300_100(in_features=16, width=0.1, seed=seed).to(dtype)


def resnet(seed):
    return models.resnet18(width=1 / 16, seed=seed).double()


def conv(seed):
    """Images (b, 1, 6, 6) to three logits, by a convolution and a BatchNorm."""
    layers = nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(48, 3)
    return filled(nn.Sequential(*layers), seed)


def batches(steps, members, *shape, n=20, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        inputs = torch.randn(members, n, *shape, generator=generator).to(dtype)
        yield inputs, torch.randint(3, (members, n), generator=generator)


def sgd(model):
    return torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, weight_decay=1e-3)


def train(fleet, data, make=sgd, masks=None):
    optimizer = make(fleet)
    enforcement = fleet.enforce(masks, optimizer) if masks is not None else None
    for inputs, targets in data:
        optimizer.zero_grad()
        cross_entropy(fleet(inputs), targets).sum().backward()
        optimizer.step()
        assert masks is None or fleet.mask(masks).holds(fleet)
    if enforcement is not None:
        enforcement.remove()
    return fleet.members()


def train_alone(every, data, make=sgd, masks=None):
    optimizers = [make(model) for model in every]
    enforcements = [mask.enforce(m, o) for m, o, mask in zip(every, optimizers, masks, strict=True)] if masks else []
    for inputs, targets in data:
        for model, optimizer, x, y in zip(every, optimizers, inputs, targets, strict=True):
            optimizer.zero_grad()
            functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    for enforcement in enforcements:
        enforcement.remove()
    return every


def difference(ours, theirs):
    """The largest between parameters and buffers of the models."""
    pairs = [(a.state_dict(), b.state_dict()) for a, b in zip(ours, theirs, strict=True)]
    assert all(list(a) == list(b) for a, b in pairs)
    return max(float((a[name].double() - b[name].double()).abs().max()) for a, b in pairs for name in a)


# ---------------------------------------------------------------- what training gives


@pytest.mark.parametrize("make", [sgd, lambda m: torch.optim.Adam(m.parameters(), 1e-3)], ids=["SGD", "Adam"])
@pytest.mark.parametrize("masked", [False, True])
def test_twenty_steps_give_what_each_gives_alone(make, masked):
    every = [perceptron(seed) for seed in range(4)]
    masks = [Pruner("random").prune_to(m, s) for m, s in zip(every, (0.1, 0.5, 0.9, 0.99), strict=True)] if masked else None
    data = list(batches(20, 4, 1, 4, 4))
    ours = train(Fleet(every), data, make, masks)
    theirs = train_alone([deepcopy(model) for model in every], data, make, masks)
    assert difference(ours, theirs) < 1e-5
    if masked:
        for mask, model in zip(masks, ours, strict=True):
            assert mask.holds(model)
            assert Mask.nonzero(model) <= mask


def test_a_resnet_too():
    """In float64: batch normalisation and ReLU make of one rounding in float32 another net, and so do two machines."""
    every = [resnet(seed) for seed in range(2)]
    data = list(batches(20, 2, 3, 8, 8, n=8, dtype=torch.float64))
    assert difference(train(Fleet(every), data), train_alone(deepcopy(every), data)) < 1e-8


def test_convolutions_and_statistics_in_float32():
    every = [conv(seed) for seed in range(3)]
    masks = [Mask.dense(model) if k else Pruner(fraction=0.5).prune(model) for k, model in enumerate(every)]
    data = list(batches(20, 3, 1, 6, 6))
    ours, theirs = train(Fleet(every), data, masks=masks), train_alone(deepcopy(every), data, masks=masks)
    assert difference(ours, theirs) < 1e-5
    assert int(ours[0][1].num_batches_tracked) == 20


@pytest.mark.parametrize("make", [perceptron, conv])
def test_a_member_does_not_depend_on_its_neighbours(make):
    """Bit for bit among as many others, whichever they are; up to rounding among more or fewer."""
    shape = (1, 4, 4) if make is perceptron else (1, 6, 6)
    data = list(batches(20, 3, *shape))
    others = [(torch.cat([2 * x[:1], x[1:2], -x[2:]]), torch.cat([y[:1], y[1:2], 2 - y[2:]])) for x, y in data]
    alone = [(x[1:2], y[1:2]) for x, y in data]
    first = train(Fleet([make(0), make(1), make(2)]), data)[1]
    second = train(Fleet([make(7), make(1), make(9)]), others)[1]
    third = train(Fleet([make(1)]), alone)[0]
    assert [bits(t) for t in first.state_dict().values()] == [bits(t) for t in second.state_dict().values()]
    assert difference([first], [third]) < 1e-6


def test_the_layers_of_a_chain_are_one_batched_product_each():
    fleet, (inputs, targets) = Fleet([perceptron(seed) for seed in range(3)]), next(batches(1, 3, 1, 4, 4))
    with torch.profiler.profile() as profile:
        cross_entropy(fleet(inputs), targets).sum().backward()
    calls = {event.key: event.count for event in profile.key_averages()}
    assert calls["aten::baddbmm"] == 3
    assert calls["aten::bmm"] == 5, "two products for each layer's gradients, but one for the first's"
    assert not {"aten::mm", "aten::addmm"} & set(calls)


@pytest.mark.parametrize(("make", "shape"), [(perceptron, (1, 4, 4)), (conv, (1, 6, 6))])
@pytest.mark.parametrize("autocast", [False, True])
def test_backward_gives_the_gradients_of_autograd(make, shape, autocast):
    ours, theirs = (Fleet([make(seed) for seed in range(3)]) for _ in range(2))
    for inputs, targets in batches(2, 3, *shape):
        theirs.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            ours.backward(inputs, targets)
            loss = cross_entropy(theirs(inputs), targets).sum()
        loss.backward()
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            rounding = {"rtol": 0.02, "atol": 1e-3} if autocast else {"rtol": 1e-5, "atol": 1e-6}  # bfloat16 has 8 bits
            torch.testing.assert_close(a.grad, b.grad, **rounding)
            assert a.grad.is_contiguous()


@pytest.mark.parametrize("change", ["frozen", "no bias", "hooked", "ends in ReLU"])
def test_only_perceptrons_are_written_out(change):
    every = [nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3, bias=change != "no bias")) for _ in range(2)]
    for model in every:
        model[0].weight.requires_grad_(change != "frozen")
        if change == "ends in ReLU":
            model.append(nn.ReLU())
    fleet, seen = Fleet(every), []
    if change == "hooked":
        fleet.get_submodule("0").register_forward_hook(lambda *call: seen.append(call))
    inputs, targets = next(batches(1, 2, 4))
    fleet.backward(inputs, targets)
    assert bool(seen) == (change == "hooked")
    assert (fleet.get_parameter("0.weight").grad is None) == (change == "frozen")
    trained = [p for p in fleet.parameters() if p.requires_grad]
    for p, grad in zip(trained, torch.autograd.grad(cross_entropy(fleet(inputs), targets).sum(), trained), strict=True):
        torch.testing.assert_close(p.grad, grad)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(3, 5), (3, 2, 5), (3, 2, 6, 5)])
def test_chains_are_what_vmap_gives(bias, shape):
    every = [nn.Sequential(nn.Linear(5, 4, bias), nn.Tanh(), nn.Sequential(nn.Linear(4, 3, bias), nn.ReLU())) for _ in range(3)]
    for seed, model in enumerate(every):
        filled(model, seed)
    chain, hooked, seen = Fleet(every), Fleet(every), []
    hooked.get_submodule("0").register_forward_hook(lambda *call: seen.append(call))
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(chain(inputs), hooked(inputs))
    assert len(seen) == 1, "a chain with hooks is not run as one"
    with torch.autocast("cpu", torch.bfloat16):
        assert chain(inputs).dtype == torch.bfloat16


# ---------------------------------------------------------------- a fleet is a module


def test_names_are_those_of_one_model_and_the_models_stay_as_they_were():
    every = [conv(seed) for seed in range(3)]
    before = [everything(model) for model in every]
    with no_global_draws():
        fleet = Fleet(every)
        train(fleet, batches(2, 3, 1, 6, 6))
    assert [everything(model) for model in every] == before
    assert list(fleet.state_dict()) == list(every[0].state_dict())
    assert fleet.get_parameter("0.weight").shape == (3, 3, 1, 3, 3)
    assert prunable(fleet) == prunable(every[0])
    assert len(fleet) == 3
    assert repr(fleet) == "Fleet(3 members of Sequential, 183 parameters each)"


def test_members_are_models_of_their_own():
    every = [conv(seed).eval() for seed in range(2)]
    fleet = Fleet(every)
    ours = fleet.members()
    for a, b in zip(ours, every, strict=True):
        assert [bits(t) for t in a.state_dict().values()] == [bits(t) for t in b.state_dict().values()]
        assert [type(m) for m in a.modules()] == [type(m) for m in b.modules()]
        assert not any(m.training for m in a.modules())
    with torch.no_grad():
        ours[0][0].weight.fill_(9)
    assert difference(fleet.members(), every) == 0
    fleet.train()
    assert all(m.training for m in fleet.members()[0].modules())


def test_copy_to_fills_models():
    fleet = Fleet([conv(seed) for seed in range(2)])
    others = [conv(7), nn.DataParallel(conv(8))]
    assert fleet.copy_to_(others) is others
    assert difference([others[0], others[1].module], fleet.members()) == 0


@pytest.mark.parametrize("how", ["state_dict", "assign", "deepcopy", "pickle"])
def test_a_fleet_can_be_kept_and_goes_on(how):
    data = list(batches(4, 2, 1, 6, 6))
    fleet = Fleet([conv(seed) for seed in range(2)])
    train(fleet, data[:2])
    if how in ("state_dict", "assign"):
        file = io.BytesIO()
        torch.save(fleet.state_dict(), file)
        file.seek(0)
        other = Fleet([conv(seed) for seed in (8, 9)])
        other.load_state_dict(torch.load(file, weights_only=True), assign=how == "assign")
    else:
        other = deepcopy(fleet) if how == "deepcopy" else pickle.loads(pickle.dumps(fleet))
    assert difference(train(other, data[2:]), train(fleet, data[2:])) == 0


def test_moving_a_fleet_moves_all_of_it():
    fleet = Fleet([conv(seed) for seed in range(2)]).double()
    inputs, _ = next(batches(1, 2, 1, 6, 6))
    assert fleet(inputs.double()).dtype == torch.float64
    assert {t.device.type for t in fleet.to("meta").state_dict().values()} == {"meta"}


class Counting(nn.Module):
    """Puts another tensor in a buffer's place, and changes one in place."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 3)
        self.register_buffer("replaced", torch.zeros(()))
        self.register_buffer("changed", torch.zeros(2), persistent=False)

    def forward(self, x):
        self.replaced = self.replaced + x.mean()
        self.changed += 1
        return self.fc(x)


def test_buffers_of_all_kinds_are_each_members_own():
    fleet, (inputs, _) = Fleet([Counting() for _ in range(3)]), next(batches(1, 3, 4))
    for _ in range(2):
        fleet(inputs)
    torch.testing.assert_close(fleet.replaced, 2 * inputs.mean(dim=(1, 2)))
    assert torch.equal(fleet.changed, torch.full((3, 2), 2.0))


def test_evaluate_measures_each_as_metrics_does():
    every = [conv(seed) for seed in range(3)]
    fleet, data = Fleet(every), list(batches(3, 3, 1, 6, 6))
    modes = [m.training for m in fleet.modules()]
    for i, ours in enumerate(fleet.evaluate(data)):
        theirs = metrics.evaluate(every[i], [(x[i], y[i]) for x, y in data])
        assert (ours.accuracy, ours.n) == (theirs.accuracy, theirs.n)
        assert ours.loss == pytest.approx(theirs.loss, rel=1e-5)
    shared = [(x[0], y[0]) for x, y in data]
    assert fleet.evaluate(shared)[2].accuracy == metrics.evaluate(every[2], shared).accuracy
    assert [m.training for m in fleet.modules()] == modes


# ---------------------------------------------------------------- errors


def tied():
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    second.weight = first.weight
    return nn.Sequential(first, second)


def shared():
    model = nn.Linear(2, 2)
    return [model, model]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nn.Sequential(nn.Linear(2, 2)), TypeError, r"must be a list of models, got Sequential: write Fleet\(\["),
        (lambda: 5, TypeError, "must be a list of models, got int"),
        (list, ValueError, "at least one model, got none"),
        (lambda: [nn.Linear(2, 2), "x"], TypeError, "torch.nn.Modules, got str"),
        (lambda: [nn.Linear(2, 2), nn.Linear(2, 3)], ValueError, "the model is Linear.*out_features=3.* in model 1"),
        (lambda: [nn.Sequential(nn.ReLU()), nn.Sequential(nn.Tanh())], ValueError, r"module '0' is ReLU\(\).* Tanh\(\)"),
        (lambda: [nn.Sequential(nn.ReLU()), nn.Sequential()], ValueError, "module '0' is ReLU.*missing in model 1"),
        (lambda: [nn.Linear(2, 2), nn.Linear(2, 2).eval()], ValueError, "in training mode .* in evaluation mode in model 1"),
        (lambda: [nn.Linear(2, 2), nn.Linear(2, 2).double()], ValueError, "'weight' is .*float32.*float64.* in model 1"),
        (lambda: [nn.Linear(2, 2), nn.Linear(2, 2).requires_grad_(False)], ValueError, "'weight' is trained.*frozen"),
        (lambda: [tied()], ValueError, "'0.weight' of model 0 and '1.weight' of model 0 are one tensor"),
        (shared, ValueError, "'weight' of model 0 and 'weight' of model 1 are one tensor"),
        (lambda: [nn.LazyLinear(2)], RuntimeError, "'weight' has no shape yet"),
    ],
)
def test_models_that_are_no_fleet_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        Fleet(make())


def test_inputs_without_members_are_refused():
    fleet = Fleet([nn.Linear(4, 2) for _ in range(3)])
    for wrong, got in ((torch.ones(5, 4), r"shape \(5, 4\)"), (torch.ones(3), r"shape \(3,\)")):
        with pytest.raises(ValueError, match=rf"\(members, batch, ...\) with 3 members, got {got}"):
            fleet(wrong)
    with pytest.raises(ValueError, match="a layer of 4 inputs got 7"):
        fleet(torch.ones(3, 5, 7))
    with pytest.raises(ValueError, match="a layer of 4 inputs got 7"):
        fleet.backward(torch.ones(3, 5, 7), torch.zeros(3, 5, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"targets must be classes, int64 of shape \(3, 5\), got torch.int64, \(5,\)"):
        fleet.backward(torch.ones(3, 5, 4), torch.zeros(5, dtype=torch.int64))
    with pytest.raises(ValueError, match="at least one sample"):
        fleet.evaluate([])
    with pytest.raises(ValueError, match=r"got \(3, 2\) and \(3, 4\)"):
        fleet.evaluate([(torch.ones(3, 4), torch.ones(3, 4))])


@pytest.mark.parametrize("layer", [nn.Dropout(), nn.LSTM(4, 4)], ids=["Dropout", "LSTM"])
def test_what_vmap_does_not_support_is_refused(layer):
    fleet = Fleet([nn.Sequential(nn.Linear(4, 4), deepcopy(layer)) for _ in range(2)])
    with (
        no_global_draws(),
        pytest.raises(RuntimeError, match="a Sequential can't be run as a fleet: train its models one by one"),
    ):
        fleet(torch.ones(2, 3, 4))


def test_dropout_is_no_harm_in_evaluation():
    fleet = Fleet([nn.Sequential(nn.Linear(4, 4), nn.Dropout()) for _ in range(2)]).eval()
    assert fleet(torch.ones(2, 3, 4)).shape == (2, 3, 4)


def test_wrong_masks_are_refused():
    every = [perceptron(seed) for seed in range(2)]
    fleet, mask = Fleet(every), Mask.dense(every[0])
    optimizer = sgd(fleet)
    for wrong, error, message in (
        (mask, TypeError, "a list of Masks, got Mask"),
        ([mask], ValueError, "2 masks, one for each member, got 1"),
        ([mask, 1], TypeError, "must be Masks, got 1"),
        ([mask, Mask.dense(every[1], ["fc1.weight"])], ValueError, "only one has 'fc2.weight'"),
        ([Mask.dense(conv(0))] * 2, ValueError, "no parameter '0.weight'"),
    ):
        with pytest.raises(error, match=message):
            fleet.enforce(wrong, optimizer)


def test_models_of_another_shape_are_not_copied_to():
    fleet, others = Fleet([nn.Linear(4, 2) for _ in range(2)]), [nn.Linear(4, 2), nn.Linear(4, 3)]
    before = [everything(model) for model in others]
    with pytest.raises(ValueError, match=r"'weight' has shape \(2, 4\) in the fleet and \(3, 4\) in model 1"):
        fleet.copy_to_(others)
    with pytest.raises(ValueError, match="copied to 2 models, got 1"):
        fleet.copy_to_(others[:1])
    assert [everything(model) for model in others] == before


# ---------------------------------------------------------------- experiments as a fleet


def files(out):
    """What was stored: bytes by path, and the levels without the time they took."""
    kept = {path.relative_to(out): path.read_bytes() for path in out.rglob("*.safetensors")}
    levels = {path.relative_to(out): results(Store.open(path.parent).levels()) for path in out.rglob("levels.jsonl")}
    return kept, levels


def results(levels):
    return [replace(level, seconds=0.0) for level in levels]


MIXED = [
    TINY,
    replace(TINY, seed=1, noise=noise.Pairflip(0.2)),
    replace(TINY, seed=2, noise=None, pruner=Pruner("random", 0.5, "layer")),
    replace(TINY, seed=3, pruner=Pruner("gradient")),
]


def test_a_fleet_of_experiments_gives_what_run_gives(tmp_path):
    with no_global_draws():
        found = list(run_fleet(MIXED, tmp_path / "fleet"))
    assert [list(levels) for levels in found] == [MIXED] * TINY.levels
    for experiment in MIXED:
        theirs = list(run(experiment, tmp_path / "alone"))
        ours = [levels[experiment] for levels in found]
        a, b = Store(tmp_path / "fleet", experiment), Store(tmp_path / "alone", experiment)
        assert a.start().keys() == b.start().keys()
        for name, weight in a.weights(0).items():
            torch.testing.assert_close(weight, b.weights(0)[name], rtol=0, atol=1e-4)
            assert bits(a.start()[name]) == bits(b.start()[name])
        assert [(x.level, x.remaining, x.epochs.epoch) for x in ours] == [
            (x.level, x.remaining, x.epochs.epoch) for x in theirs
        ]
        assert ours[0].train_loss == pytest.approx(theirs[0].train_loss, rel=1e-4)
        assert ours[0].learning_distance == pytest.approx(theirs[0].learning_distance, rel=1e-4)
        assert (ours[0].flipped_accuracy is None) == (theirs[0].flipped_accuracy is None)
        assert all(a.mask(k + 1) <= a.mask(k) and a.mask(k).remaining == x.remaining for k, x in enumerate(ours[:-1]))


def test_run_reads_what_a_fleet_stores_and_a_fleet_what_run_stores(tmp_path, monkeypatch):
    first = replace(TINY, seed=1)
    next(run(first, tmp_path))
    ours = list(run_fleet([TINY, first], tmp_path))
    monkeypatch.setattr(Task, "__init__", None)  # nothing is computed any more
    assert [list(run(e, tmp_path)) for e in (TINY, first)] == [[levels[e] for levels in ours] for e in (TINY, first)]
    assert list(run_fleet([first, TINY], tmp_path)) == ours


@pytest.mark.parametrize("lost", ["last level", "last member"])
def test_a_stopped_fleet_goes_on(tmp_path, lost):
    """With the same bytes; where it was stopped between its members' records, up to rounding."""
    experiments = [replace(TINY, seed=seed, momentum=0.9) for seed in range(3)]
    list(run_fleet(experiments, tmp_path))
    kept, levels = files(tmp_path)
    for experiment in experiments if lost == "last level" else experiments[2:]:
        path = Store(tmp_path, experiment).path
        path.joinpath("levels.jsonl").write_text("".join(path.joinpath("levels.jsonl").read_text().splitlines(True)[:-1]))
        for file in path.glob("02.*"):
            file.unlink()
    list(run_fleet(experiments, tmp_path))
    again, levels_again = files(tmp_path)
    if lost == "last level":
        assert (again, levels_again) == (kept, levels)
    assert again.keys() == kept.keys()
    assert {n: [x.remaining for x in v] for n, v in levels.items()} == {
        n: [x.remaining for x in v] for n, v in levels_again.items()
    }


def test_momentum_is_kept_for_redense(tmp_path):
    experiments = [replace(TINY, seed=seed, momentum=0.9, levels=2) for seed in range(2)]
    list(run_fleet(experiments, tmp_path))
    for experiment in experiments:
        store, model = Store(tmp_path, experiment), models.lenet_300_100(in_features=16, width=0.04)
        model.load_state_dict(store.momentum(1))
        assert store.mask(1).holds(model)
        assert any(bool(m.any()) for m in store.momentum(1).values())
        assert redense(experiment, 1, tmp_path).level == 1


def test_other_starts_and_schedules_become_fleets_of_their_own(tmp_path, monkeypatch):
    base = replace(TINY, epochs=3, milestones=(1,), levels=2, rewind_step=2)
    experiments = [base, replace(base, seed=1), replace(base, retraining=FINETUNING), replace(base, rewind_step=4)]
    sizes = []
    original = Fleet.__init__
    monkeypatch.setattr(Fleet, "__init__", lambda self, models: sizes.append(len(models)) or original(self, models))
    found = list(run_fleet(experiments, tmp_path / "fleet"))
    assert sorted(sizes) == [1, 1, 2, 4]
    for experiment in experiments:
        assert [levels[experiment].epochs.epoch for levels in found] == [
            level.epochs.epoch for level in run(experiment, tmp_path / "alone")
        ]
        ours, theirs = (Store(tmp_path / out, experiment).start() for out in ("fleet", "alone"))
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("changes", [{}, {"warmup_epochs": 2}, {"milestones": (0, 5)}, {"milestones": (1, 2)}])
def test_those_that_learn_alike_are_found_without_their_rates(changes):
    base = replace(TINY, epochs=4, **changes)
    methods = [replace(base, retraining=method) for method in (*METHODS.values(), Retraining("rewind", "final"))]
    tasks = [Task(e, "cpu") for e in (*methods, methods[2].reinitialized(), replace(methods[2], tickets_of=SCRATCH))]
    levels = [(task, SimpleNamespace(number=number)) for task in tasks for number in (0, 1)]
    rates = [tuple(map(task.rate_of(level), range(task.steps))) for task, level in levels]
    alike = [task.stays_at_last_rate(level) for task, level in levels]
    pairs = list(product(range(len(levels)), repeat=2))
    assert all((rates[i] == rates[j]) == (alike[i] == alike[j]) for i, j in pairs)
    assert any(alike) == (len({base.schedule(3)(step) for step in range(12)}) > 1)


def test_tickets_of_another_are_found_first(tmp_path):
    experiments = [replace(TINY, seed=seed).reinitialized() for seed in range(2)]
    for levels in run_fleet(experiments, tmp_path):
        for experiment, level in levels.items():
            original = replace(experiment, retraining=experiment.tickets_of, tickets_of=None)
            assert len(Store(tmp_path, original).levels()) == level.level + 1
            assert Store(tmp_path, experiment).mask(level.level) == Store(tmp_path, original).mask(level.level)


def test_a_convolutional_net_in_bfloat16_augmented(tmp_path):
    experiment = replace(PRESETS["resnet18-cifar10"].scaled("smoke"), precision="bfloat16", levels=2)
    found = list(run_fleet([experiment, replace(experiment, seed=1)], tmp_path))
    assert all(level.remaining == found[1][experiment].remaining for level in found[1].values())


def test_experiments_that_are_no_fleet_are_refused(tmp_path):
    for wrong, error, message in (
        ([], ValueError, "at least one experiment, got none"),
        ([TINY, "x"], TypeError, "must be Experiments, got 'x'"),
        ([TINY, replace(TINY, epochs=3)], ValueError, "share their epochs, got 2 and 3"),
        ([TINY, replace(TINY, width=0.1)], ValueError, "share their width, got 0.04 and 0.1"),
    ):
        with pytest.raises(error, match=message):
            next(run_fleet(wrong, tmp_path))
    assert not list(tmp_path.iterdir())


def test_targets_losses_and_sparse_members_are_checked():
    models = [nn.Sequential(nn.Linear(6, 4)) for _ in range(2)]
    fleet, inputs = Fleet(models), torch.ones(2, 3, 6)
    with pytest.raises(ValueError, match=r"targets must be classes, int64 of shape \(2, 3\), got torch.float32"):
        fleet.backward(inputs, torch.zeros(2, 3))
    with pytest.raises(ValueError, match="a fleet's loss gives a tensor of 2 means, one for each member, got 1.0"):
        fleet.evaluate([(inputs, torch.zeros(2, 3, dtype=torch.int64))], loss=lambda logits, targets: 1.0)
    mask = Mask({"0.weight": torch.eye(4, 6).bool()})
    with pytest.raises(ValueError, match="the members of a fleet are dense: bring the weights back with sparse.expand_"):
        Fleet([sparse.compact(model, mask)[0] for model in models])


def test_fleets_are_not_compiled(tmp_path):
    with pytest.raises(ValueError, match="a fleet is not compiled"):
        next(run_fleet([replace(Experiment().scaled("smoke"), compiled=True)], tmp_path))


class Frozen(nn.Module):
    """Its norm is in evaluation mode in training, too."""

    def __init__(self):
        super().__init__()
        self.norm, self.fc = nn.BatchNorm1d(4), nn.Linear(4, 3)

    def forward(self, x):
        return self.fc(self.norm(x))

    def train(self, mode=True):
        super().train(mode)
        self.norm.eval()
        return self


def test_modes_are_switched_by_the_models_own_train():
    fleet = Fleet([Frozen().train() for _ in range(2)])
    modes = [m.training for m in fleet.modules()]
    x, y = torch.randn(5, 4, generator=torch.Generator().manual_seed(0)), torch.zeros(5, dtype=torch.int64)
    fleet.evaluate([(x, y)])
    fleet.train()
    assert [m.training for m in fleet.modules()] == modes
    fleet.backward(x.expand(2, 5, 4), y.expand(2, 5))
    assert not fleet.norm.running_mean.any()
    assert [m.norm.training for m in fleet.members()] == [False, False]
    assert [m.training for m in fleet.eval().members()] == [False, False]


def test_a_fleet_that_returns_no_logits_is_an_error_that_says_what_to_make_it_of():
    class Both(nn.Linear):
        def forward(self, x):
            return super().forward(x), x

    fleet, x, y = Fleet([Both(3, 3)]), torch.eye(3)[None], torch.arange(3)[None]
    for use in (lambda: fleet.evaluate([(x, y)]), lambda: fleet.backward(x, y)):
        with pytest.raises(TypeError, match=r"must return a tensor of logits, got tuple"):
            use()
