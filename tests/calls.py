"""A small call of everything that is public: of each name the functions, of each class what it can do."""

import copy
import inspect
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import helpers
import numpy as np
import torch
from helpers import batch, filled
from test_data import official, write_npz
from torch import nn
from torch.nn.functional import cross_entropy as loss
from torch.nn.utils import prune
from torch.utils.data import DataLoader, TensorDataset

import sparsedd
from sparsedd import (
    Enforcement,
    Mask,
    NoisyLabels,
    Pruner,
    Rewinder,
    convert,
    data,
    experiments,
    models,
    plotting,
    sweeps,
)
from sparsedd.distributed import agree
from sparsedd.experiments import Experiment, Store
from sparsedd.fleet import Fleet, cross_entropy
from sparsedd.landscape import at, filter_normalized, interpolate, line, random_direction, sharpness
from sparsedd.metrics import (
    Evaluation,
    accuracy,
    activation_entropy,
    evaluate,
    generalization_gap,
    learning_distance,
    margins,
)
from sparsedd.noise import Asymmetric, Given, Pairflip, Symmetric
from sparsedd.phases import Advice, DoubleDescent, Interval, Landmarks, Phase, Phases, advise, double_descent, phases
from sparsedd.scores import accumulate_, gradient, magnitude, random
from sparsedd.sparse import SparseLinear, compact, expand_

# The modules that are public, and every public class and function by its name, but for names of types.
MODULES = [name for name in (*sparsedd.__all__, *sparsedd._LAZY) if inspect.ismodule(getattr(sparsedd, name))]
HOMES = {"": sparsedd} | {f"{name}.": getattr(sparsedd, name) for name in MODULES}
ALIASES = {"scores.Score", "noise.Noise", "data.Augmentation", "sweeps.Schedule"}
PUBLIC = {prefix + name: getattr(home, name) for prefix, home in HOMES.items() for name in home.__all__}
PUBLIC = {name: thing for name, thing in PUBLIC.items() if callable(thing) and name not in ALIASES}
CALLS: dict[str, Callable[[Path], object]] = {}
SMOKE = replace(Experiment().scaled("smoke"), levels=2, epochs=1)
S, TRAIN, TEST = [0, 0.5, 0.9], [1.0, 1.0, 0.5], [0.8, 0.7, 0.85]


def of(*names: str) -> Callable[[Any], Any]:
    def entered(call: Callable[[Path], object]) -> Callable[[Path], object]:
        CALLS.update(dict.fromkeys(names, call))
        return call

    return entered


def net(seed: int = 0) -> nn.Module:
    with sparsedd._random.untouched():  # torch's own initialisation
        return helpers.net(seed)


def dropping() -> nn.Module:
    """A model that draws from a global generator while it trains."""
    return filled(nn.Sequential(nn.Flatten(), nn.Dropout(), nn.utils.skip_init(nn.Linear, 36, 3, bias=False)))


def perceptron() -> nn.Module:
    with sparsedd._random.untouched():
        return nn.Sequential(nn.Flatten(), nn.Linear(36, 40), nn.ReLU(), nn.Linear(40, 3))


def loader() -> DataLoader[Any]:
    """Batches that a global generator shuffles."""
    return DataLoader(TensorDataset(*batch(0, 12)), 4, shuffle=True)


@of("Mask", "Enforcement", "distributed.agree", "prunable")
def a_mask(out: Path) -> None:
    model = net()
    assert len(sparsedd.prunable(model)) == 2
    mask = Mask.dense(model)
    small = Pruner().prune(model, mask)
    assert small in {small & mask, small | small, ~~small, mask - ~small}
    assert (small <= mask, small == mask, "fc.weight" in small) == (True, False, True)
    assert len(small) == len(list(small)) == len(small.by_layer())
    assert small.sparsity + small.density == 1
    assert small.remaining < small.size
    small.save(out / "mask")
    assert Mask.load(out / "mask") == Mask.from_state_dict(small.to("cpu").state_dict()) == Mask(dict(small))
    agree(small)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with mask.enforce(model, optimizer) as enforcement:
        assert isinstance(enforcement, Enforcement)
        loss(model(batch(0)[0]), batch(0)[1]).backward()
        optimizer.step()
        enforcement.update(small)
        enforcement.update(mask, regrow=True)
        enforcement.update(small)
        mask.apply_to_grads_(model)
        repr((enforcement, small))
    enforcement.remove()
    assert Mask.nonzero(small.apply_(model)) == small
    assert small.holds(model)


@of("Pruner", "scores.magnitude", "scores.gradient", "scores.random", "scores.accumulate_", "metrics.sparsity")
def a_prune(out: Path) -> None:
    model = dropping()
    accumulate_(model, loader(), loss)
    gradient("2.weight", model[2].weight)
    magnitude("2.weight", model[2].weight)
    for score in ("magnitude", "gradient", "random", magnitude, gradient, random(1)):
        for scope in ("global", "layer"):
            pruner = Pruner(score, 0.3, scope)
            repr((pruner, score))
            mask = pruner.prune_to(model, 0.8, pruner.prune(model))
            assert pruner.sparsity(1) == 0.3
    assert sparsedd.metrics.sparsity(mask.apply_(model)) == mask.sparsity


@of(*(f"convert.{name}" for name in convert.__all__))
def conversions(out: Path) -> None:
    model = net()
    prune.l1_unstructured(model.fc, "weight", amount=0.5)
    mask, state = convert.from_torch_prune(model), model.state_dict()
    assert mask == convert.from_torch_prune_(model) == convert.from_state_dict(state)
    model.load_state_dict(convert.plain_state_dict(state))
    convert.to_torch_prune_(model, mask)


@of("Rewinder")
def a_rewinder(out: Path) -> None:
    model = dropping()
    optimizer = torch.optim.AdamW(model.parameters())
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2)
    start = Rewinder(step=3, model=model, optimizer=optimizer, schedule=schedule)
    start.save(out / "start")
    assert Rewinder.load(out / "start").rewind(model=model, optimizer=optimizer, schedule=schedule) == start.step
    assert "model" in Rewinder.from_state_dict(start.state_dict())
    assert "2.weight" in start["model"]
    repr(start)


class Loud(torch.utils.data.Dataset[Any]):
    """A dataset whose items draw from the global generator."""

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> Any:
        return torch.rand(3), index % 4


@of("NoisyLabels", "noise.Symmetric", "noise.Asymmetric", "noise.Pairflip", "noise.Given")
def noisy_labels(out: Path) -> None:
    labels = torch.arange(40) % 10
    kinds = [Symmetric(0.4, draw) for draw in ("uniform", "other", "permute")]
    for noise in (*kinds, Asymmetric(0.4, "cifar10"), Asymmetric(0.4, {0: 1}), Pairflip(0.4), Given(labels, labels)):
        noise(labels, 10, 0)
        repr((noise, NoisyLabels(TensorDataset(labels, labels), noise)))
    noisy = NoisyLabels(Loud(), Pairflip(0.5))
    assert noisy.rate == noisy.flipped.float().mean() == (noisy.targets != noisy.clean).float().mean() > 0
    with sparsedd._random.untouched():  # the item's own draws
        assert len(noisy) == len([noisy[k] for k in range(20)])


@of("fleet.Fleet", "fleet.cross_entropy")
def a_fleet(out: Path) -> None:
    for make in (net, perceptron):
        fleet = Fleet(members := [make(), make()])
        masks = [Pruner().prune(member) for member in members]
        optimizer = torch.optim.SGD(fleet.parameters(), 0.1)
        inputs, targets = (torch.stack([t, t]) for t in batch(0))
        with fleet.enforce(masks, optimizer):
            cross_entropy(fleet(inputs), targets).sum().backward()
            optimizer.step()
            fleet.backward(inputs, targets)
            optimizer.step()
        assert fleet.mask(masks).size == 2 * masks[0].size
        fleet.evaluate(loader())
        fleet.copy_to_(fleet.members())
        repr((fleet, len(fleet)))


@of(*(f"landscape.{name}" for name in ("at", "line", "interpolate", "random_direction", "filter_normalized", "sharpness")))
def a_landscape(out: Path) -> None:
    model = net()
    step = filter_normalized(random_direction(model, 1), model)
    losses = line(model, model, step, [-0.5, 0, 0.5], lambda model: evaluate(model, loader()).loss)
    sharpness([-0.5, 0, 0.5], losses)
    interpolate(model, net(1), net(2), lambda model: evaluate(model, loader()).loss, [0, 0.5, 1], lambda model: None)
    with at(model, net(1)):
        pass


@of("metrics.Evaluation", "metrics.evaluate", "metrics.accuracy", "metrics.generalization_gap", "metrics.learning_distance")
@of("metrics.margins", "metrics.activation_entropy")
def measures(out: Path) -> None:
    found = evaluate(dropping(), loader())
    assert isinstance(found, Evaluation)
    generalization_gap(found, found)
    accuracy(torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64))
    learning_distance(net(), net(1))
    assert len(margins(dropping(), loader())) == 12
    activation_entropy(perceptron(), loader())


@of(*(f"phases.{name}" for name in ("phases", "double_descent", "Phase", "Phases", "Landmarks", "Interval", "DoubleDescent")))
def the_phases(out: Path) -> None:
    found = phases(S, TRAIN, TEST)
    assert isinstance(found, Phases)
    assert isinstance(found[0.5], Phase)
    assert isinstance(found.landmarks(), Landmarks)
    repr(found)
    descent = double_descent(S, [TEST, TEST[::-1]], seed=1)
    assert isinstance(descent, DoubleDescent)
    assert isinstance(descent.dip_interval, Interval)
    repr(descent)


@of("phases.advise", "phases.Advice", "phases.boundaries", "phases.Boundary")
def an_advice(out: Path) -> None:
    repr(sparsedd.phases.boundaries(S, TRAIN, [TEST, TEST[::-1]], seed=1)[0])
    advice = advise(S, TRAIN, [TEST, TEST[::-1]], seed=1)
    assert isinstance(advice, Advice)
    assert advice.phase in Phase
    assert str(advice) and repr(advice)


@of("sparse.SparseLinear", "sparse.compact", "sparse.expand_")
def sparse_execution(out: Path) -> None:
    model = perceptron()
    mask = Pruner().prune_to(model, 0.95)
    fast, _ = compact(model, mask, below=1.0)
    assert isinstance(fast[1], SparseLinear)
    assert fast[1].weight.shape == (fast[1].out_features, fast[1].in_features)
    assert fast[1].density < 0.1
    loss(fast(batch(0)[0]), batch(0)[1]).backward()
    layer = copy.deepcopy(fast[1])
    layer.narrow_()
    repr(layer)
    expand_(model, fast, mask)


@of("plotting.double_descent", "plotting.learning_distance", "plotting.against_sparsity", "plotting.against_epoch")
def plots_of_sweeps(out: Path) -> None:
    plotting.double_descent(S, TRAIN, TEST, phases=phases(S, TRAIN, TEST))
    plotting.learning_distance(S, TEST, TEST)
    plotting.against_sparsity(S, {"a": TEST}, ylabel="a")
    plotting.against_epoch({"a": ([1, 2, 3], TEST)}, mark=2.0)
    plotting._get_axes(None).figure.clear()


@of("plotting.interpolation", "plotting.loss_along")
def plots_of_lines(out: Path) -> None:
    curves = ("train_loss", "test_loss", "train_accuracy", "test_accuracy")
    plotting.interpolation([0, 0.5, 1], **dict.fromkeys(curves, TEST))
    plotting.loss_along([0, 0.5, 1], {"a": TEST})


@of(*(f"models.{name}" for name in ("initialize_", "lenet_300_100", "resnet18", "resnet101", "vgg16")))
def the_models(out: Path) -> None:
    for scheme in ("paper", "authors"):
        for make in (models.lenet_300_100, models.resnet18, models.resnet101, models.vgg16):
            model = make(width=1 / 64, seed=3, initialization=scheme)
            models.initialize_(model, 1, scheme)
            inputs = torch.zeros(2, 784) if make is models.lenet_300_100 else torch.zeros(2, 3, 32, 32)
            assert len(model(inputs)) == 2


@of("data.Data", "data.Batches", "data.Flip", "data.Shift", "data.RandomResizedCrop", "data.blobs", "data.digits")
def the_data(out: Path) -> None:
    source = data.blobs(shape=(3, 8, 8), train=40, test=10, seed=1).to("cpu").first(30)
    augmentation = (data.Flip(), data.Shift(2), data.RandomResizedCrop(8))
    batches = data.Batches(source, size=8, augmentation=augmentation, seed=1)
    assert len(list(batches.epoch(1))) == len(batches)
    batches.sample(torch.arange(3), 0)
    data.Batches(source).narrowed(torch.arange(3))
    repr((source, batches, data.digits()))


@of("data.mnist", "data.cifar10", "data.cifar100", "data.tiny_imagenet", "data.arrange_tiny_imagenet", "data.cifar10n")
def the_files(out: Path) -> None:
    for name, classes in (("cifar10", 10), ("cifar100", 100)):
        write_npz(out / f"{name}.npz", classes)
        getattr(data, name)()
    labels = np.arange(9) % 10
    np.savez(out / "cifar10n.npz", clean=labels, worse=labels)
    assert len({data.cifar10n("worse"), data.cifar10n("worse")}) == 1
    with suppress(FileNotFoundError):  # whose search and whose attempt at a download are the call
        data.mnist()
    with sparsedd._random.untouched():
        official(out / "official")
    data.arrange_tiny_imagenet(out / "official", out)
    data.tiny_imagenet()


@of("experiments.Experiment", "sweeps.Retraining", "sweeps.multistep", "experiments.Store", "sweeps.Record")
def an_experiment(out: Path) -> None:
    experiment = Experiment.from_config(SMOKE.config())
    repr((experiment, experiment.key, experiment.name, experiment.folder))
    experiment.schedule(10)(3)
    experiments.multistep(0.1, (2, 4), warmup=1)(3)
    experiment.retraining.steps(experiment.schedule(10), rewind_step=2, total=10)
    levels = list(experiments.run(experiment, out))
    store = Store.open(Store(out, experiment).path)
    with store.locked():
        assert store.levels() == levels
    assert {*store.weights(1)} == {*store.start()}
    store.save_start(store.start()), store.configure()
    store.mask(1), store.digest(1), store.momentum(1)
    assert experiments.Record.from_json(levels[0].to_json()) == levels[0]
    assert not levels[0].diverged
    repr((store, levels[0], levels[0].epochs))


@of("sweeps.workers")
def pool(out: Path) -> None:
    with sweeps.workers(1) as executor:
        executor.submit(abs, -1).result()


@of("Sweep", "sweeps.Sweep", "sweeps.Level", "sweeps.StoredSweep")
def a_sweep(out: Path) -> None:
    model = filled(nn.utils.skip_init(nn.Linear, 5, 3))
    sweep = sparsedd.Sweep(out, model, Pruner.reaching(0.7, 3), levels=3, rewind_step=1)
    for level in sweep:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with level.enforce(optimizer):
            for epoch in level.epochs(2, optimizer=optimizer):
                level.reached(epoch)
                optimizer.zero_grad()
                model(torch.ones(2, 5)).sum().backward()
                optimizer.step()
        evaluation = evaluate(model, [(torch.ones(2, 5), torch.tensor([0, 1]))])
        repr((level, level.sparsity, level.record(train=evaluation, test=evaluation)))
    dir(copy.copy(sweep.records[1])), hash(sweep.records[1]), sweep.records[1]["seconds"], sweep.records[1].diverged
    repr((sweep, sweep.records, sweep.records[1].test_accuracy, sweep.curves(), sweep.mask(1), sweep.weights(1)))
    stored = sweeps.StoredSweep(out)
    assert stored.records == sweep.records
    with suppress(TypeError):
        iter(stored)
    sweep.export(2, out / "net.pt")
    sweep.derive(1, "norm", lambda model: model.weight.norm().item())


@of("experiments.run", "experiments.reinit", "experiments.run_all", "experiments.work", "experiments.run_fleet")
def all_ways_to_run(out: Path) -> None:
    for score in ("magnitude", "gradient", "random"):
        experiment = replace(SMOKE, pruner=Pruner(score), noise=Symmetric(0.2), augmentation=(data.Shift(1),), momentum=0.9)
        list(experiments.run(experiment, out))
        list(experiments.reinit(experiment, out))
    with ThreadPoolExecutor(1) as pool:
        experiments.run_all([replace(SMOKE, seed=3)], out, pool)
    experiments.work([replace(SMOKE, seed=4)], out)
    list(experiments.run_fleet([replace(SMOKE, seed=seed) for seed in (5, 6)], out))


@of("experiments.Redense", "experiments.redense", "experiments.redense_weights", "sweeps.Curves", "experiments.Line")
@of("experiments.interpolation", "experiments.directions", "experiments.Tables", "experiments.write_levels")
def what_is_made_of_a_level(out: Path) -> None:
    record = experiments.redense(SMOKE, 1, out)
    assert isinstance(record, experiments.Redense)
    assert isinstance(record.dense, experiments.Curves)
    experiments.redense_weights(SMOKE, 1, out)
    found = experiments.interpolation(SMOKE, 1, out)
    assert isinstance(found, experiments.Line)
    experiments.directions(SMOKE, 1, out)
    levels = Store(out, SMOKE).levels()
    tables = experiments.Tables()
    tables.add_levels(SMOKE, levels)
    tables.add_curves(SMOKE, 1, "sparse", record.sparse)
    tables.add_line(SMOKE, 1, found)
    tables.write(out / "tables")
    assert experiments.Tables.read(out / "tables").scale == "smoke"
    assert len(tables.frame("levels")) == len(levels)
    repr((tables, record, found))
    experiments.write_levels(out / "levels.csv", {SMOKE: levels})


@of("experiments.verify", "experiments.repair", "experiments.Finding")
def what_is_damaged(out: Path) -> None:
    list(experiments.run(SMOKE, out))
    Store(out, SMOKE).mask_path(1).unlink()
    (finding,) = experiments.verify(out)
    assert isinstance(finding, experiments.Finding)
    assert "is missing" in str(finding)
    repr(finding)
    assert all(finding.ok for finding in experiments.repair(out))


@of("experiments.Figure", "experiments.Panel", "experiments.Claim", "experiments.reproduce", "experiments.Drawing")
@of("experiments.Measures", "experiments.Effect", "experiments.judge")
def a_figure(out: Path) -> None:
    for number in ("8", "35"):
        experiments.reproduce(experiments.FIGURES[number].on(experiments.PRESETS["lenet-mnist"]).scaled("smoke"), out, seeds=1)
    figure = experiments.FIGURES["7"].on(experiments.PRESETS["lenet-mnist"]).scaled("smoke")
    repr((figure.drawing, experiments.Measures(experiments.Tables(), ()), experiments.Effect("", np.ones(3))))
    repr((figure, figure.panels, len(figure.experiments), figure.members()))
    claims = experiments.reproduce(figure, out, seeds=1)
    assert all(isinstance(claim, experiments.Claim) and str(claim) and repr(claim) for claim in claims)
    assert isinstance(figure.panels[0], experiments.Panel)
    assert figure.is_of(figure.tables(out / "runs", 1))
