"""What is set around a call: autocast, gradient mode, default dtype and device. It changes no result."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from copy import deepcopy
from dataclasses import is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import batch, bits, net
from torch import Tensor, nn
from torch.optim import SGD
from torch.utils.data import Subset, TensorDataset

from sparsedd import Mask, NoisyLabels, Pruner, Rewinder, data, landscape, metrics, models, noise, scores, sparse
from sparsedd.experiments import (
    PRESETS,
    Experiment,
    Store,
    directions,
    interpolation,
    redense,
    redense_weights,
    reinit,
    repair,
    run,
    run_all,
    run_fleet,
    verify,
)
from sparsedd.experiments._task import _load_source
from sparsedd.fleet import Fleet


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def default_device(device: str) -> Iterator[None]:
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_device(None)


STATES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "autocast": partial(torch.autocast, "cpu", torch.bfloat16),
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "float64": partial(default_dtype, torch.float64),
    "meta": partial(default_device, "meta"),
    "a device block": partial(torch.device, "meta"),
    "warnings": partial(warnings.catch_warnings, action="error"),
}


def told(value: Any) -> Any:
    """A value as one that is equal only where every bit is, but for how long it took."""
    if isinstance(value, Tensor):
        return bits(value)
    if isinstance(value, nn.Module):
        return told(value.state_dict()), [bits(p.grad) for p in value.parameters()]
    if isinstance(value, dict):
        return {name: told(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [told(part) for part in value]
    return repr(vars(value) | {"seconds": 0}) if is_dataclass(value) else repr(value)


# ---------------------------------------------------------------- experiments

LENET = replace(Experiment().scaled("smoke"), levels=2, momentum=0.9)
RESNET = replace(PRESETS["resnet18-cifar10"].scaled("smoke"), levels=2, train_size=20, batch_size=10)
CROPPED = replace(RESNET, augmentation=PRESETS["resnet101-tiny-imagenet"].augmentation, levels=1)


def seeds(experiment: Experiment, out: Path) -> list[Any]:
    return [list(levels.values()) for levels in run_fleet([experiment, replace(experiment, seed=1)], out)]


def stored(out: Path) -> list[Any]:
    store = Store(out, LENET)
    levels = list(run(LENET, out))
    return [levels, store.weights(1), store.mask(1).digest(), store.momentum(1), store.start(), [f.ok for f in verify(out)]]


def repaired(out: Path) -> list[Any]:
    levels = list(run(LENET, out))
    Store(out, LENET).weights_path(1).unlink()
    return [levels, [finding.ok for finding in repair(out)]]


RUNS: dict[str, Callable[[Path], Any]] = {
    "run": stored,
    "run of convolutions": lambda out: list(run(RESNET, out)),
    "run with augmentation": lambda out: list(run(CROPPED, out)),
    "run in bfloat16": lambda out: list(run(replace(LENET, precision="bfloat16"), out)),
    "run of convolutions in bfloat16": lambda out: list(run(replace(RESNET, precision="bfloat16"), out)),
    "run by gradient": lambda out: list(run(replace(LENET, pruner=Pruner("gradient")), out)),
    "run in sparse form": lambda out: list(run(replace(LENET, pruner=Pruner(fraction=0.98), sparse_below=0.5), out)),
    "reinit": lambda out: list(reinit(LENET, out)),
    "run_all": lambda out: list(run_all([LENET], out).values()),
    "run_fleet": partial(seeds, LENET),
    "run_fleet of convolutions": partial(seeds, RESNET),
    "redense": lambda out: [redense(LENET, 1, out), redense_weights(LENET, 1, out)],
    "interpolation": lambda out: interpolation(RESNET, 1, out),
    "directions": lambda out: directions(LENET, 1, out),
    "repair": repaired,
}


@pytest.mark.parametrize("name", RUNS)
def test_no_state_changes_a_run(tmp_path, name):
    plain = told(RUNS[name](tmp_path / "plain"))
    for what, state in STATES.items():
        _load_source.cache_clear()
        with state():
            found = RUNS[name](tmp_path / what)
        assert told(found) == plain, what


@pytest.mark.parametrize("state", STATES.values(), ids=STATES)
def test_between_levels_the_state_is_the_callers(tmp_path, state):
    def seen() -> tuple[Any, ...]:
        grad, inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        cast = torch.is_autocast_enabled("cpu"), torch.is_autocast_cache_enabled()
        return grad, inference, *cast, torch.get_default_dtype(), torch.get_default_device()

    with state():
        before = seen()
        for _ in run(LENET, tmp_path):
            assert seen() == before
        assert [seen() == before for _ in run_fleet([LENET], tmp_path / "fleet")] == [True, True]
    assert seen() == (True, False, False, True, torch.float32, torch.device("cpu"))


# ---------------------------------------------------------------- the core

MASK = Pruner(fraction=0.5).prune(net())
BATCHES = [batch(0), batch(1)]
STACKED = [torch.stack(part) for part in zip(*BATCHES, strict=True)]
LABELS = torch.arange(20) % 3
DATASET = TensorDataset(torch.arange(20.0)[:, None], LABELS)


def graded() -> nn.Module:
    return scores.accumulate_(net(), BATCHES, nn.functional.cross_entropy)


def fleet(members: Any) -> Fleet:
    return Fleet(members)


def backward(fleet: Fleet) -> Fleet:
    fleet.backward(*STACKED)
    return fleet


def steps(model: nn.Module) -> nn.Module:
    optimizer = SGD(model.parameters(), 0.1, momentum=0.9)
    with MASK.enforce(model, optimizer) as enforcement:
        for inputs, targets in BATCHES:
            with torch.inference_mode(False), torch.enable_grad(), torch.autocast("cpu", enabled=False):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(inputs), targets).backward()
            optimizer.step()
            enforcement.update(Pruner(fraction=0.2).prune(model, enforcement.mask))
    return model


def rewound(model: nn.Module) -> nn.Module:
    Rewinder(model=net_1).rewind(model=model)
    return model


net_1 = net(1)
CHAINS = [models.lenet_300_100(in_features=36, num_classes=3, width=0.05, seed=k) for k in range(2)]
NETS = [net(), net(1)]
SPARSE = sparse.compact(net(), MASK, below=1.0)[0]

# What is made before, outside of the state; the call.
CALLS: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "Mask.dense": (net, lambda m: Mask.dense(m).digest()),
    "Mask.nonzero": (lambda: MASK.apply_(net()), lambda m: Mask.nonzero(m).digest()),
    "Mask": (lambda: None, lambda _: (Mask({"w": MASK["fc.weight"]}) & ~Mask({"w": ~MASK["fc.weight"]})).digest()),
    "apply_": (net, MASK.apply_),
    "apply_to_grads_": (graded, MASK.apply_to_grads_),
    "holds": (net, lambda m: (MASK.holds(m), MASK.holds(MASK.apply_(m)))),
    "by_layer": (lambda: None, lambda _: MASK.by_layer()),
    "enforce": (net, steps),
    "prune": (net, lambda m: Pruner(fraction=0.3).prune(m, MASK).digest()),
    "prune without mask": (net, lambda m: Pruner(fraction=0.3, scope="layer").prune(m).digest()),
    "prune_to": (net, lambda m: Pruner().prune_to(m, 0.9, MASK).digest()),
    "prune by gradient": (graded, lambda m: Pruner("gradient").prune(m, MASK).digest()),
    "prune at random": (net, lambda m: Pruner("random").prune(m, MASK).digest()),
    "scores": (graded, lambda m: [score("w", m.fc.weight) for score in (scores.magnitude, scores.gradient, scores.random(0))]),
    "Fleet.backward": (lambda: fleet(NETS), backward),
    "Fleet.backward of chains": (lambda: fleet(CHAINS), backward),
    "Fleet.evaluate": (lambda: fleet(NETS), lambda f: f.evaluate(BATCHES)),
    "Fleet": (lambda: None, lambda _: [fleet(NETS).members(), fleet(NETS).copy_to_([deepcopy(m) for m in NETS])]),
    "Fleet.mask": (lambda: fleet(NETS), lambda f: f.mask([MASK, MASK]).digest()),
    "accumulate_": (net, lambda m: scores.accumulate_(m, BATCHES, nn.functional.cross_entropy)),
    "random_direction": (net, lambda m: landscape.filter_normalized(landscape.random_direction(m), m)),
    "line": (net, lambda m: landscape.line(m, m, landscape.random_direction(m), [0, 0.5], lambda m: m.fc.weight.tolist())),
    "interpolate": (net, lambda m: landscape.interpolate(m, m, net_1, lambda m: m.fc.weight.tolist(), [0, 0.3, 1])),
    "learning_distance": (net, lambda m: metrics.learning_distance(m, net_1)),
    "evaluate": (net, lambda m: metrics.evaluate(m, BATCHES)),
    "margins": (net, lambda m: metrics.margins(m, BATCHES)),
    "activation_entropy": (lambda: nn.Sequential(net(), nn.ReLU()), lambda m: metrics.activation_entropy(m, BATCHES)),
    "sparsity": (lambda: MASK.apply_(net()), metrics.sparsity),
    "compact": (net, lambda m: list(sparse.compact(m, MASK, below=1.0)[0].state_dict().values())),
    "expand_": (net, lambda m: sparse.expand_(m, SPARSE, MASK)),
    "Rewinder": (net, rewound),
    "NoisyLabels": (lambda: None, lambda _: NoisyLabels(Subset(DATASET, range(9)), noise.Symmetric(0.4)).targets),
    "noise": (
        lambda: None,
        lambda _: [f(LABELS, 3, 0) for f in (noise.Symmetric(0.4), noise.Pairflip(0.3), noise.Given(LABELS))],
    ),
    "digits": (lambda: None, lambda _: data.digits().train.tensors),
    "blobs": (lambda: None, lambda _: data.blobs().test.tensors),
}
ROUNDED = {
    "Fleet.backward",
    "Fleet.backward of chains",
    "Fleet.evaluate",
    "accumulate_",
    "evaluate",
    "margins",
}  # as the caller's AMP wants


@pytest.mark.parametrize("name", CALLS)
def test_no_state_changes_a_call(name):
    prepare, call = CALLS[name]
    plain = told(call(prepare()))
    for what, state in STATES.items():
        prepared = prepare()
        with state():
            found = call(prepared)
        assert told(found) == plain or (what == "autocast" and name in ROUNDED), what
