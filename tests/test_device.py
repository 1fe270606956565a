"""What runs on a device gives, bit for bit, what it gives on the CPU, mixes no devices, and never waits inside a step.

The device is a pretended one; with ``SPARSEDD_DEVICE=cuda`` a real one, whose kernels round otherwise: numbers are then near.
"""

import os
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import fields, is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from devices import REAL, devices
from safetensors.torch import load_file
from torch import Tensor, distributed, nn, optim
from torch.distributed.tensor import DeviceMesh, DTensor, Shard
from torch.nn.functional import cross_entropy
from torch.nn.utils import prune

from sparsedd import Mask, Pruner, Rewinder, _checks, convert, data, landscape, metrics, models, noise, scores, sparse
from sparsedd.cli import main
from sparsedd.experiments import (
    FIGURES,
    PRESETS,
    directions,
    interpolation,
    redense,
    reinit,
    reproduce,
    run,
    run_all,
    run_fleet,
)
from sparsedd.fleet import Fleet
from sparsedd.sweeps._workers import spread

DEVICE = REAL or "cuda"
pretended = pytest.mark.skipif(REAL is not None, reason="a real device counts no launches, and has no twin")
LENET = replace(PRESETS["lenet-mnist"].scaled("smoke"), sparse_below=0.0, levels=2, train_size=100)


@pytest.fixture(autouse=True)
def _alike(monkeypatch):
    """Convolve on the CPU as the devices do, and evaluate all samples at once: elsewhere batches are larger."""
    monkeypatch.setattr("sparsedd.experiments._train.EVALUATION_BATCH", 10_000)
    before = torch.backends.mkldnn.enabled
    torch._C._set_mkldnn_enabled(False)
    yield
    torch._C._set_mkldnn_enabled(before)


def net(seed: int = 0) -> nn.Sequential:
    """Images (b, 3, 6, 6) to ten logits."""
    layers = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 20), nn.ReLU()
    return models.initialize_(nn.Sequential(*layers, nn.Linear(20, 10)), seed=seed)


def own_net(seed: int = 0) -> nn.Module:
    """Images (b, 3, 32, 32) to ten logits, with what is kept channels last on a device."""
    layers = nn.Conv2d(3, 8, 3, stride=4), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(512, 10)
    return models.initialize_(nn.Sequential(*layers), seed=seed)


def batch(device: Any) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    return torch.randn(32, 3, 6, 6, generator=g).to(device), torch.randint(10, (32,), generator=g).to(device)


def train(model: nn.Module, optimizer: optim.Optimizer, steps: int, device: Any) -> None:
    x, y = batch(device)
    for _ in range(steps):
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()


def host(tree: Any) -> Any:
    """A tree of tensors, numbers and records on the CPU; a record's seconds left out."""
    if isinstance(tree, dict):
        return {name: host(part) for name, part in tree.items()}
    if isinstance(tree, list | tuple):
        return [host(part) for part in tree]
    if is_dataclass(tree) and not isinstance(tree, type):
        return {f.name: host(getattr(tree, f.name)) for f in fields(tree) if f.name != "seconds"}
    return tree.detach().cpu() if isinstance(tree, Tensor) else tree


def same(a: Any, b: Any) -> bool:
    """Whether two trees are equal, every bit; on a real device, whether their numbers are near."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[name], b[name]) for name in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if REAL and isinstance(a, Tensor | float):
        return torch.allclose(torch.as_tensor(a).double(), torch.as_tensor(b).double(), rtol=0.05, atol=0.05)
    return torch.equal(a, b) if isinstance(a, Tensor) else a == b


def both(work: Callable[[str], Any]) -> bool:
    """Whether ``work(device)`` gives the same on the CPU and on the device, which does all of it."""
    here = host(work("cpu"))
    with devices() as events:
        there = host(work(DEVICE))
    assert not events.beside, events.beside
    return same(here, there)


def kinds(tensors: Any) -> set[str]:
    return {tensor.device.type for tensor in tensors}


def tensors_of(optimizer: optim.Optimizer, *, but: str = "") -> list[Tensor]:
    return [t for state in optimizer.state.values() for name, t in state.items() if name != but and isinstance(t, Tensor)]


OPTIMIZERS: dict[str, Callable[..., optim.Optimizer]] = {
    "SGD": lambda p, **flags: optim.SGD(p, 0.1, momentum=0.9, weight_decay=1e-3, **flags),
    "Adam": lambda p, **flags: optim.Adam(p, 1e-2, **flags),
    "RMSprop": lambda p, **flags: optim.RMSprop(p, 1e-3, **{k: v for k, v in flags.items() if k != "fused"}),
}


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("score", ["magnitude", "gradient", "random"])
def test_pruning(score, scope, tmp_path):
    def work(device):
        model = net().to(device)
        scores.accumulate_(model, [batch("cpu")], cross_entropy)
        own = scores.magnitude, scores.gradient, scores.random(0)
        assert kinds(each(name, p) for name, p in model.named_parameters() for each in own) == {device}
        pruner, masks = Pruner(score, 0.3, scope), [None]
        for _ in range(3):
            masks.append(pruner.prune(model, masks[-1]))
        masks.append(pruner.prune_to(model, 0.9, masks[-1]))
        for mask in masks[1:]:
            assert kinds(mask.values()) == {device}
            mask.save(tmp_path / "mask")
            loaded = Mask.load(tmp_path / "mask")
            assert loaded == mask == loaded and mask <= loaded <= mask and loaded.digest() == mask.digest()
            assert mask.apply_(model) is model and loaded.holds(model) and (loaded & mask | ~loaded).density == 1
        assert Mask.nonzero(model) == masks[-1]
        digests = [mask.digest() for mask in masks[1:]]
        return {"digests": [] if REAL and score == "gradient" else digests, "sizes": [m.remaining for m in masks[1:]]}

    assert both(work)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("score", ["magnitude", "random", lambda name, p: p.detach().cpu().float().sin()])
def test_large_layers(score, dtype, monkeypatch):
    """Samples, brackets and slices, with ties; and a score that is made elsewhere."""
    monkeypatch.setattr("sparsedd._bits.LARGE_SLICE", 5000)
    monkeypatch.setattr("sparsedd._selection.FEW", 1000)

    def work(device):
        model = nn.Sequential(nn.Linear(300, 200), nn.Conv2d(20, 30, 5).to(memory_format=torch.channels_last))
        model = models.initialize_(model).to(device, dtype)
        mask = Pruner(score, 0.6).prune(model)
        with torch.no_grad():
            model[0].weight.mul_(400).round_()
        mask = Pruner(score, 0.6).prune(model, mask & Mask.nonzero(model))
        assert kinds((*mask.values(), *Mask.dense(model).values())) == {device}
        assert kinds(mask.to("cpu").values()) == {"cpu"}
        return {"digest": mask.digest()}

    assert both(work)


@pytest.mark.parametrize("flags", [{"foreach": False}, {"foreach": True}, {"fused": True}], ids=["plain", "foreach", "fused"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_from_files(name, flags, tmp_path):
    """The mask on the CPU, the model on the device, and whatever is read from a file."""

    def work(device):
        model, make = net().to(device), lambda model: OPTIMIZERS[name](model.parameters(), **flags)
        optimizer, mask = make(model), Pruner(fraction=0.5).prune(net())
        with mask.enforce(model, optimizer) as enforced:
            train(model, optimizer, 3, device)
            enforced.update(Pruner(fraction=0.5).prune(model, mask))
            train(model, optimizer, 2, device)
        Rewinder(step=5, model=model, optimizer=optimizer).save(tmp_path / "point")
        enforced.mask.save(tmp_path / "mask")
        again = net(1).to(device)
        optimizer = make(again)
        assert Rewinder.load(tmp_path / "point").rewind(model=again, optimizer=optimizer) == 5
        with Mask.load(tmp_path / "mask").enforce(again, optimizer):
            train(again, optimizer, 2, device)
        assert kinds(tensors_of(optimizer, but="step")) == {device} == kinds(again.parameters())
        distances = metrics.learning_distance(net(), again), metrics.learning_distance(again, net().state_dict())
        return again.state_dict() | {"distances": distances, "loss": metrics.evaluate(again, [batch("cpu")])}

    assert both(work)


def test_closures():
    def work(device):
        model, mask = net().to(device), Pruner(fraction=0.5).prune(net())
        optimizer = optim.LBFGS(model.parameters(), 0.1, max_iter=3)
        x, y = batch(device)

        def closure():
            optimizer.zero_grad()
            loss = cross_entropy(model(x), y)
            loss.backward()
            return loss

        with mask.enforce(model, optimizer):
            for _ in range(2):
                optimizer.step(closure)
        return model.state_dict()

    assert both(work)


@pytest.mark.parametrize("clipped", [False, True])
@pytest.mark.parametrize("mask_on", ["cpu", DEVICE])
def test_steps_never_wait(mask_on, clipped):
    """A device works through a queue. Whoever reads from it, or writes to it from ordinary memory, empties it first."""
    with devices() as events:
        model = net().to(DEVICE)
        optimizer, mask = optim.SGD(model.parameters(), 0.1, momentum=0.9), Pruner(fraction=0.5).prune(model).to(mask_on)
        x, y = batch(DEVICE)
        with mask.enforce(model, optimizer):
            for step in range(4):
                optimizer.zero_grad()
                cross_entropy(model(x), y).backward()
                if clipped:
                    mask.apply_to_grads_(model)
                    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                if step == 1:
                    events.clear()
            assert not +events.waits and not +events.uploads, (+events.waits, events.uploads)


@pretended
def test_launches_of_a_step():
    """One for all masks, beside those of the step."""
    with devices() as events:

        def count(masked: bool) -> int:
            model = models.lenet_300_100(width=0.1).to(DEVICE)
            optimizer = optim.SGD(model.parameters(), 0.1, momentum=0.9)
            x, y = torch.randn(4, 1, 28, 28).to(DEVICE), torch.randint(10, (4,)).to(DEVICE)
            enforced = Pruner(fraction=0.5).prune(model).enforce(model, optimizer) if masked else None
            for _ in range(3):
                events.clear()
                optimizer.zero_grad()
                cross_entropy(model(x), y).backward()
                optimizer.step()
            found = sum(events.launches.values())
            if enforced is not None:
                enforced.remove()
            return found

        assert 15 < count(False) == count(True) - 1


@pytest.mark.parametrize("lr", [1e-2, torch.tensor(1e-2)], ids=["a number", "a tensor"])
def test_counts_on_the_device_and_scaled_losses(lr, tmp_path):
    """Capturable steps and mixed precision with a scaler, which waits once a step itself."""
    with devices() as events:

        def make(model):
            rate = lr if isinstance(lr, float) else lr.to(DEVICE)
            return optim.Adam(model.parameters(), rate, capturable=True, foreach=isinstance(lr, float))

        model, mask = net().to(DEVICE), Pruner(fraction=0.5).prune(net()).to(DEVICE)
        optimizer, scaler = make(model), torch.amp.GradScaler(DEVICE, init_scale=2.0**10)
        x, y = batch(DEVICE)
        with mask.enforce(model, optimizer):
            for step in range(3):
                optimizer.zero_grad()
                with torch.autocast(DEVICE, torch.bfloat16):
                    loss = cross_entropy(model(x), y)
                scaler.scale(loss).backward()
                events.clear()
                scaler.step(optimizer)
                assert step == 0 or sum((+events.waits).values()) == 1, +events.waits
                scaler.update()
        Rewinder(model=model, optimizer=optimizer, scaler=scaler).save(tmp_path / "point")
        again = net(1).to(DEVICE)
        optimizer = make(again)
        Rewinder.load(tmp_path / "point").rewind(model=again, optimizer=optimizer, scaler=scaler)
        assert kinds(tensors_of(optimizer)) == {DEVICE}
        assert {state["step"].dtype for state in optimizer.state.values()} == {torch.float32}
        mask.save(tmp_path / "mask")
        with Mask.load(tmp_path / "mask").enforce(again, optimizer):
            train(again, optimizer, 1, DEVICE)


def test_landscape_and_measures():
    def work(device):
        model, other = net().to(device), net(1)  # the other end lies elsewhere
        x, y = batch(device)

        def loss(model):
            return metrics.evaluate(model, [(x, y)]).loss

        direction = landscape.filter_normalized(landscape.random_direction(model, seed=0), model)
        assert kinds(direction.values()) == {device}
        lines = landscape.line(model, model, direction, [-0.5, 0, 0.5], loss)
        lines += landscape.interpolate(model, model, other.state_dict(), loss, [0, 0.5, 1], lambda m: m.train()(x))
        with landscape.at(model, other):
            lines.append(loss(model))
        measured = {"sparsity": metrics.sparsity(model), "accuracy": metrics.accuracy(model(x), y)}
        return model.state_dict() | measured | {"lines": lines}

    assert both(work)


def test_fleet():
    def work(device):
        nets = [net(seed).to(device) for seed in range(3)]
        masks = [Pruner(fraction=0.5).prune(net(seed)) for seed in range(3)]
        fleet, (x, y) = Fleet(nets), batch(device)
        optimizer = optim.SGD(fleet.parameters(), 0.1, momentum=0.9, foreach=True)
        with fleet.enforce(masks, optimizer):
            for _ in range(3):
                fleet.backward(x.expand(3, *x.shape), y.expand(3, -1))
                optimizer.step()
        fleet.copy_to_(nets)
        assert kinds(t for member in fleet.members() for t in member.state_dict().values()) == {device}
        return {"evaluations": fleet.evaluate([batch("cpu")])} | nets[1].state_dict()

    assert both(work)


def test_data_and_noise():
    def work(device):
        source = data.blobs(shape=(3, 8, 8), train=60, test=10).to(device)
        augmentation = data.Flip(), data.Shift(2), data.RandomResizedCrop(8)
        batches = data.Batches(source, size=25, augmentation=augmentation, seed=3)
        labels = [n(source.train.tensors[1], 10, 0) for n in (noise.Symmetric(0.4), noise.Asymmetric(0.4, "mnist"))]
        labels += [n(source.train.tensors[1], 10, 0) for n in (noise.Pairflip(0.4), noise.Given(torch.arange(60) % 10))]
        assert kinds(labels) == {device}
        first = list(batches.epoch(1))
        assert kinds(t for pair in first for t in pair) == {device}
        narrow = next(data.Batches(source, size=25).narrowed(torch.arange(3).to(device)).epoch(0))
        return [first, batches.sample(torch.arange(5), 2), narrow, labels]

    assert both(work)


class Wide(optim.SGD):
    """It remembers the weights in another precision than theirs."""

    def step(self, closure=None):
        for p in (p for group in self.param_groups for p in group["params"]):
            self.state[p]["master"] = p.detach().double()
        return super().step(closure)


def test_wide_state_of_files_comes_to_the_device(tmp_path):
    def work(device):
        model = net().to(device)
        optimizer = Wide(model.parameters(), 0.1)
        train(model, optimizer, 1, device)
        Rewinder(model=model, optimizer=optimizer).save(tmp_path / "point")
        Rewinder.load(tmp_path / "point").rewind(model=model, optimizer=optimizer)
        masters = tensors_of(optimizer)
        assert kinds(masters) == {device} and {master.dtype for master in masters} == {torch.float64}
        return masters

    assert both(work)


def test_batches_never_wait():
    with devices() as events:
        source = data.blobs(shape=(3, 8, 8), train=60, test=10)
        source = replace(source, uncropped=torch.zeros(60, 3, 16, 16, dtype=torch.uint8)).to(DEVICE)
        labels = torch.zeros(60, dtype=torch.int64)
        for augmentation in ((data.Flip(), data.Shift(2)), (data.RandomResizedCrop(8),)):
            batches = data.Batches(source, labels, size=25, augmentation=augmentation).epoch(0)
            next(batches)
            events.clear()
            assert len([t for pair in batches for t in pair]) == 4
            assert not +events.waits and not +events.uploads, (+events.waits, events.uploads)
        inputs, draws = source.train.tensors[0], torch.full((60, 4), 0.9).to(DEVICE)
        events.clear()
        data.Shift(2)(inputs, draws, source.mean)
        assert not +events.waits and not +events.uploads, (+events.waits, events.uploads)


def test_sparse_layers_and_conversions():
    def work(device):
        model = nn.Sequential(nn.Flatten(), nn.Linear(108, 40), nn.ReLU(), nn.Linear(40, 10))
        model = models.initialize_(model).to(device)
        mask = Pruner().prune_to(model, 0.9)
        fast, rest = sparse.compact(model, mask.to("cpu"), below=1.0)
        assert rest is None
        assert kinds(fast.state_dict().values()) == {device}
        train(fast, optim.SGD(fast.parameters(), 0.1), 2, device)
        dense, rest = sparse.compact(sparse.expand_(model, fast, mask.to("cpu")), mask, below=0.0)
        assert rest == mask
        sparse.expand_(model, dense.to("cpu"), mask.to("cpu"))
        pruned = convert.to_torch_prune_(deepcopy(model), mask.to("cpu"))
        assert convert.from_torch_prune_(pruned) == mask
        return model.state_dict() | {"digest": mask.digest()}

    assert both(work)


@pretended
def test_a_net_on_two_devices():
    def work(first, second):
        model, mask = net(), Pruner(fraction=0.5).prune(net())
        model[:4].to(first), model[4:].to(second)
        optimizer = optim.SGD(model.parameters(), 0.1, momentum=0.9, foreach=True)
        x, y = batch(first)[0], batch(second)[1]
        with mask.enforce(model, optimizer):
            for _ in range(2):
                optimizer.zero_grad()
                cross_entropy(model[4:](model[:4](x).to(second)), y).backward()
                mask.apply_to_grads_(model)
                optimizer.step()
        smaller = Pruner().prune(model, Mask.nonzero(model))
        assert smaller <= mask and smaller.holds(smaller.apply_(model))
        return host({"digest": smaller.digest(), "distance": metrics.learning_distance(net(), model)} | model.state_dict())

    here = work("cpu", "cpu")
    with devices(count=2):
        assert same(here, work("cuda:0", "cuda:1"))
        assert same(here, work("cpu", "cuda"))


@pytest.fixture
def process_group(tmp_path):
    distributed.init_process_group("gloo", store=distributed.FileStore(str(tmp_path / "store"), 1), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pretended
def test_sharded_models(process_group):
    """DTensors whose parts lie on the device: what is sent between processes is on the CPU."""

    def work(device):
        model = net().to(device)
        names = [name for name, p in model.named_parameters() if p.dim() > 1]
        for name in names:
            path, _, leaf = name.rpartition(".")
            whole = model.get_parameter(name).detach().cpu()
            part = DTensor.from_local(whole, DeviceMesh("cpu", [0]), [Shard(0)], run_check=False)
            setattr(model.get_submodule(path), leaf, nn.Parameter(part.to(device)))
        mask = Pruner(fraction=0.4).prune(model)
        optimizer = optim.SGD([model.get_parameter(name) for name in names], 0.1, momentum=0.9, foreach=False)
        with mask.enforce(model, optimizer):
            for name in names:
                p = model.get_parameter(name)
                p.grad = torch.ones_like(p)
            mask.apply_to_grads_(model)
            optimizer.step()
        assert kinds(model.get_parameter(name).to_local() for name in names) == {device}
        found = {name: model.get_parameter(name).to_local() for name in names}
        return found | {
            "digest": mask.digest(),
            "again": Pruner().prune(model, mask).digest(),
            "start": Mask.nonzero(model).digest(),
        }

    assert both(work)


def own_data() -> data.Data:
    return data.blobs(shape=(1, 8, 8), train=60, test=20)


EXPERIMENTS = {
    "lenet": LENET,
    "momentum": replace(LENET, precision="bfloat16", momentum=0.9, rewind_step=2),
    "gradient": replace(LENET, pruner=Pruner("gradient", scope="layer")),
    "own data": replace(LENET, dataset=own_data, train_size=60, batch_size=30),
    "random, at once": replace(LENET, pruner=Pruner("random"), one_shot=True),
    "colour": replace(PRESETS["vgg16-cifar10"].scaled("smoke"), model=own_net, width=1.0, exclude=(), levels=2, milestones=()),
}


def files(folder: Path) -> dict[Path, Any]:
    """What the files hold, by their paths; of those that say how long it took, the tensors alone."""
    found = {path.relative_to(folder): path for path in folder.rglob("*.safetensors")}
    return {name: load_file(path) if "redense" in name.name else path.read_bytes() for name, path in found.items()}


def stored_alike(first: Path, second: Path) -> bool:
    """Whether two folders hold the same nets, masks and lines, byte for byte; of a real device's, the same files."""
    here, there = files(first), files(second)
    return bool(here) and (here.keys() == there.keys() if REAL else same(here, there))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiments(name, tmp_path):
    experiment = EXPERIMENTS[name]

    def work(device):
        return list(run(experiment, tmp_path / device, device=device))

    assert both(work)
    assert stored_alike(tmp_path / "cpu", tmp_path / DEVICE)


def test_tickets(tmp_path):
    assert both(lambda device: list(reinit(LENET, tmp_path / device, device=device)))
    assert stored_alike(tmp_path / "cpu", tmp_path / DEVICE)


@pytest.mark.parametrize("name", ["momentum", "colour"])
def test_after_sparse_training(name, tmp_path):
    """Re-dense training, with kept momentum, and lines."""

    def work(device):
        at = EXPERIMENTS[name], 1, tmp_path / device
        return [f(*at, device=device) for f in (redense, interpolation, directions)]

    assert both(work)
    assert stored_alike(tmp_path / "cpu", tmp_path / DEVICE)


@pytest.mark.parametrize("tickets", [False, True])
def test_fleets_of_experiments(tickets, tmp_path):
    base = replace(LENET, rewind_step=2, momentum=0.9)
    members = [base, replace(base, seed=1), replace(base, pruner=Pruner("random"))]
    members = [member.reinitialized() for member in members] if tickets else members

    def work(device):
        return [list(levels.values()) for levels in run_fleet(members, tmp_path / device, device=device)]

    assert both(work)
    assert stored_alike(tmp_path / "cpu", tmp_path / DEVICE)


@pytest.mark.parametrize("fleet", [False, True])
def test_figures_reproduced(fleet, tmp_path):
    """Sweeps, tickets with new weights, and lines, by an executor."""
    base = replace(LENET, scale="paper")

    def work(device):
        made = []
        for number in ("10", "40"):
            figure = FIGURES[number].on(base).scaled("smoke")
            out = tmp_path / device / number
            made.append(reproduce(figure, out, seeds=1, device=device, fleet=fleet, executor=Here()))
        return [[claim.verdict for claim in claims] for claims in made]

    assert both(work)
    assert stored_alike(tmp_path / "cpu", tmp_path / DEVICE)


def test_a_resnet_channels_last(tmp_path):
    """Colour images lie in another order on a device, and so are summed otherwise: counts are equal, and the rest runs."""
    with devices():
        small = replace(PRESETS["resnet18-cifar10"].scaled("smoke"), levels=2, epochs=1, train_size=50, rewind_step=0)
        assert [level.remaining for level in run(replace(small, milestones=()), tmp_path, device=DEVICE)] == [44012, 35209]


@pytest.mark.parametrize("way", ["run", "colour", "fleet", "redense"])
def test_twice_as_many_steps_wait_no_more(way, tmp_path):
    """Whatever waits for the device does it once a level or a measurement: no step does."""
    base = EXPERIMENTS["colour"] if way == "colour" else replace(LENET, momentum=0.9)
    work = {
        "run": lambda e, out: list(run(e, out, device=DEVICE)),
        "colour": lambda e, out: list(run(e, out, device=DEVICE)),
        "fleet": lambda e, out: list(run_fleet([e, replace(e, seed=1)], out, device=DEVICE)),
        "redense": lambda e, out: redense(e, 0, out, device=DEVICE),
    }[way]
    found = []
    with devices() as events:
        for size in (50, 25, 13):
            experiment = replace(base, train_size=100, batch_size=size, levels=1)
            work(experiment, tmp_path / "first")
            events.clear()
            work(experiment, tmp_path / str(size))
            found.append([sum((+counter).values()) for counter in (events.waits, events.uploads, events.launches)])
    waits, uploads, launches = zip(*found, strict=True)
    assert len(set(waits)) == len(set(uploads)) == 1, (waits, uploads)
    assert REAL or launches[0] < launches[1] < launches[2]


class Here(Executor):
    """Tasks done at once, in this process."""

    def submit(self, call, /, *args, **kwargs):
        future: Future[Any] = Future()
        future.set_result(call(*args, **kwargs))
        return future


def test_values_that_lie_elsewhere():
    """A start, a direction and a state on the CPU, and a model on the device."""

    def work(device):
        there = net(1).to(memory_format=torch.channels_last)
        model, (x, y) = net().to(device), batch(device)
        direction = {name: p.detach() for name, p in there.named_parameters()}
        losses = landscape.line(model, model, direction, [0.0, 0.5], lambda m: metrics.evaluate(m, [(x, y)]).loss)
        part = prune.l1_unstructured(models.initialize_(nn.Linear(4, 4), seed=0), "weight", amount=4).to(device)
        state = part.state_dict() | {"weight_mask": part.weight_mask.cpu()}
        return metrics.learning_distance(there, model), losses, convert.plain_state_dict(state)["weight"]

    assert both(work)


@pytest.mark.parametrize("executor", [None, Here()])
def test_run_all(executor, tmp_path):
    wanted = [replace(LENET, seed=seed) for seed in range(2)]
    assert both(lambda device: list(run_all(wanted, tmp_path / device, executor, device=device).values()))
    assert stored_alike(tmp_path / "cpu", tmp_path / DEVICE)


@pytest.mark.parametrize("command", [("run", "lenet-mnist"), ("run", "lenet-mnist", "--fleet"), ("figure", "5")])
def test_commands_in_this_process(command, tmp_path, monkeypatch):
    for name in ("_run", "_figure"):
        monkeypatch.setattr(f"sparsedd.cli.{name}.workers", lambda count: nullcontext(Here()))

    def work(device):
        options = ["--scale", "smoke", "--seeds", "1", "--device", device]
        main([*command, *options, "--out", str(tmp_path / device)])

    assert both(work)
    assert stored_alike(tmp_path / "cpu" / "runs", tmp_path / DEVICE / "runs")


def test_repair(tmp_path):
    def work(device):
        list(run(LENET, tmp_path / device, device=device))
        next((tmp_path / device).rglob("01.weights.safetensors")).write_bytes(b"")
        main(["verify", str(tmp_path / device), "--repair", "--device", device])

    assert both(work)
    assert stored_alike(tmp_path / "cpu", tmp_path / DEVICE)


WORKER = """
import sys
if not any("resource_tracker" in argument for argument in sys.orig_argv):
    sys.path.insert(0, {tests!r})
    from devices import devices
    block = devices(count=2)
    block.__enter__()
"""


def test_the_command_with_workers(tmp_path, monkeypatch):
    """Processes of their own, each of which finds the devices."""
    (tmp_path / "sitecustomize.py").write_text(WORKER.format(tests=str(Path(__file__).parent)))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    with devices(count=2):
        shared = ["--device", DEVICE, "--seeds", "2", "--processes", "2"]
        main(["run", "lenet-mnist", "--scale", "smoke", *shared, "--out", str(tmp_path / "there")])
    run_all([replace(PRESETS["lenet-mnist"].scaled("smoke"), seed=seed) for seed in range(2)], tmp_path / "here" / "runs")
    assert stored_alike(tmp_path / "here", tmp_path / "there")


def test_a_dry_run_touches_no_device(tmp_path, capsys):
    with devices() as events:
        main(["run", "lenet-mnist", "--scale", "smoke", "--device", DEVICE, "--dry-run", "--out", str(tmp_path / "out")])
    assert "Nothing is run" in capsys.readouterr().out
    assert not events.launches and not events.uploads and not +events.waits and not (tmp_path / "out").exists()


@pretended
def test_devices_are_checked_asleep(tmp_path):
    """CUDA that was woken is of no use to processes that are forked, and the driver's list says what there is."""
    woken, model, lost = AssertionError("CUDA was woken"), net(), RuntimeError("the executor is asked")
    with (
        mock.patch.object(torch._C, "_cuda_getDeviceCount", side_effect=woken, create=True),
        mock.patch.object(torch.cuda, "_lazy_init", side_effect=woken),
        mock.patch.object(torch.cuda, "device_count", return_value=2),
        mock.patch.object(Here, "submit", side_effect=lost),
    ):
        assert _checks.device("device", "cuda:1") == torch.device("cuda", 1)
        with pytest.raises(RuntimeError, match=r"one of 2 CUDA devices, from 0 on, got 'cuda:2'"):
            _checks.device("device", "cuda:2")
        Pruner("gradient").prune(scores.accumulate_(model, [batch("cpu")], cross_entropy))
        metrics.evaluate(model, [batch("cpu")])
        with pytest.raises(RuntimeError, match="is asked"):  # and not the device
            reproduce(FIGURES["1"].scaled("smoke"), tmp_path, seeds=1, device="cuda:7", executor=Here())
        with pytest.raises(RuntimeError, match="is asked"):
            run_all([LENET], tmp_path, Here(), device="cuda:7")


BACKENDS: Any = (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn)
SEEN: list[tuple[Any, ...]] = []


class Watched(nn.Sequential):
    """A net that keeps with what arithmetic it was called."""

    def forward(self, x: Tensor) -> Tensor:
        SEEN.append((*(backend.fp32_precision for backend in BACKENDS), torch.is_autocast_enabled(x.device.type)))
        return super().forward(x)


def watched_net(seed: int = 0) -> nn.Module:
    return models.initialize_(Watched(nn.Flatten(), nn.Linear(64, 10), nn.BatchNorm1d(10)), seed=seed)


@pytest.fixture(params=["ieee", "tf32"])
def ambient(request):
    """What the caller has set."""
    before = [backend.fp32_precision for backend in BACKENDS]
    for backend in BACKENDS:
        backend.fp32_precision = request.param
    yield request.param
    for backend, was in zip(BACKENDS, before, strict=True):
        backend.fp32_precision = was


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
def test_a_record_has_one_precision(precision, ambient, tmp_path):
    """Training, accuracies, scores and lines are computed alike."""
    changes = {"model": watched_net, "width": 1.0, "exclude": (), "levels": 1, "pruner": Pruner("gradient")}
    experiment = replace(LENET, **changes, precision=precision, noise=noise.Symmetric(0.4))
    SEEN.clear()
    with devices():
        list(run(replace(experiment, levels=2), tmp_path, device=DEVICE))
        list(run_fleet([experiment], tmp_path / "fleet", device=DEVICE))
        interpolation(experiment, 0, tmp_path, device=DEVICE)
        directions(experiment, 0, tmp_path, device=DEVICE)
    wanted = "tf32" if precision == "tf32" else "ieee"
    assert len(SEEN) > 50 and set(SEEN) == {(wanted, wanted, wanted, precision == "bfloat16")}
    assert {backend.fp32_precision for backend in BACKENDS} == {ambient}


@pretended
@pytest.mark.parametrize("kind", ["mps", "xpu"])
def test_devices_without_float64(kind, tmp_path):
    """What is exact on others is computed on the CPU for them: the same bits."""

    def work(device):
        model, (x, y) = net().to(device), batch(device)
        mask = Pruner("random").prune(model, Pruner(scores.random(3)).prune(model))
        mask &= Pruner(lambda name, p: scores.random(1)(name, p) * 2).prune(model)
        mask &= Pruner(lambda name, p: (p.detach() * 100).long()).prune(model)
        assert kinds(mask.values()) == {torch.device(device).type}
        with mask.enforce(model, optimizer := optim.SGD(model.parameters(), 0.1)):
            train(model, optimizer, 2, device)
        source = data.blobs(shape=(3, 8, 8), train=60, test=10).to(device)
        cropped = list(data.Batches(source, size=25, augmentation=(data.RandomResizedCrop(8),)).epoch(1))
        measured = [metrics.evaluate(model, [(x, y), (x[:3], y[:3])]), metrics.accuracy(model(x), y), metrics.sparsity(model)]
        measured.append(metrics.learning_distance(net(), model))
        direction = landscape.filter_normalized(landscape.random_direction(model, seed=0), model)
        at = EXPERIMENTS["gradient"], 0, tmp_path / device
        records = [redense(*at, device=device), interpolation(*at, device=device)]
        return model.state_dict(), mask.digest(), cropped, measured, direction, records

    here = host(work("cpu"))
    with devices(kind, float64=False):
        there = host(work(kind))
    assert same(here, there)
    assert stored_alike(tmp_path / "cpu", tmp_path / kind)


@pretended
@pytest.mark.parametrize("kind", ["mps", "xpu"])
def test_dense_layers_everywhere_but_on_a_cpu(kind, tmp_path):
    """Sparse layers are for processors."""
    with devices(kind), mock.patch.object(sparse.SparseLinear, "__init__", side_effect=AssertionError):
        assert len(list(run(replace(LENET, sparse_below=1.0), tmp_path, device=kind))) == 2


@pretended
def test_tasks_take_devices_in_turns():
    with devices(count=2):
        tasks = [partial(lambda *, device: str(device), device=name) for name in ("cuda", "cuda", "cuda", "cuda:0", "cpu")]
        assert [task() for task in spread(tasks)] == ["cuda:0", "cuda:1", "cuda:0", "cuda:0", "cpu"]


@pretended
def test_several_devices_share_the_seeds(tmp_path):
    wanted = [replace(LENET, seed=seed, levels=1) for seed in range(2)]
    with devices(count=2) as events:
        run_all(wanted, tmp_path, Here(), device="cuda")
    assert {key.split()[1] for key in events.uploads if key.startswith("to ")} == {"cuda:0", "cuda:1"}
