"""Everything random in sparsedd, drawn once: ``python draws.py [THREADS]`` prints the digest of each draw."""

import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from helpers import bits
from torch import Tensor, nn

from sparsedd import Pruner, data, landscape, models, noise, phases, scores
from sparsedd.experiments import Experiment, Store, reinit, run

SEED = 2022
NOISES = {
    "uniform": noise.Symmetric(0.4),
    "other": noise.Symmetric(0.4, "other"),
    "permute": noise.Symmetric(0.4, "permute"),
    "asymmetric": noise.Asymmetric(0.4, "cifar10"),
    "superclass": noise.Asymmetric(0.4, "cifar100"),
    "pairflip": noise.Pairflip(0.4),
}


def net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 200))


def labels(kind: str, seed: int = SEED, n: int = 1000) -> Tensor:
    classes = 100 if kind == "superclass" else 10
    return NOISES[kind](torch.arange(n) % classes, classes, seed)


def order(seed: int = SEED, epoch: int = 0, n: int = 1000) -> Tensor:
    """Which samples come when."""
    source = replace(data.blobs(shape=(1, 1, 1), train=n), num_classes=n)  # each sample is a class of its own
    batches = data.Batches(source, torch.arange(n), size=64, seed=seed)
    return torch.cat([labels for _, labels in batches.epoch(epoch)])


def augmentation(seed: int = SEED, transform: int = 0, epoch: int = 0, n: int = 1000) -> Tensor:
    """The draws that a transform gets for each sample."""
    seen = []

    def watch(inputs: Tensor, draws: Tensor, fill: Tensor) -> Tensor:
        seen.append(draws)
        return inputs

    others = (lambda inputs, draws, fill: inputs,) * transform
    batches = data.Batches(data.blobs(shape=(1, 1, 1), train=n), augmentation=(*others, watch), seed=seed)
    batches.sample(torch.arange(n), epoch)
    return seen[0]


def score(seed: int = SEED, name: str = "fc.weight", n: int = 1000) -> Tensor:
    return scores.random(seed)(name, nn.Parameter(torch.zeros(n)))


def initial(seed: int = SEED, name: str = "fc", n: int = 1000) -> Tensor:
    model = nn.Module()
    model.add_module(name, nn.Linear(10, n // 10))
    return next(models.initialize_(model, seed).parameters()).flatten()


def direction(seed: int = SEED, name: str = "fc", n: int = 1000) -> Tensor:
    model = nn.Module()
    model.add_module(name, nn.Linear(10, n // 10))
    return landscape.random_direction(model, seed)[f"{name}.weight"].flatten()


def every() -> Iterator[tuple[str, Any]]:
    """Each draw by name: tensors, or what prints alike everywhere."""
    for kind in NOISES:
        yield f"labels {kind}", labels(kind)
    yield "order", torch.stack([order(), order(epoch=1), order(SEED + 1)])
    yield "augmentation", torch.stack([augmentation(), augmentation(transform=1), augmentation(epoch=1)])
    yield "random score", score()
    yield "random score of a layer by another name", score(name="fc2.weight")
    for scheme in ("paper", "authors"):
        made = [models.initialize_(net(), SEED, scheme)]
        made += [make(width=1 / 16, seed=SEED, initialization=scheme) for make in (models.lenet_300_100, models.resnet18)]
        made += [models.vgg16(width=1 / 16, seed=SEED, initialization=scheme)]
        yield f"initialisation {scheme}", [bits(t) for model in made for t in model.state_dict().values()]
    yield "direction", direction()
    yield "labels of digits and blobs", [bits(source().train.tensors[1]) for source in (data.digits, data.blobs)]
    for scope in ("global", "layer"):
        mask = Pruner(scores.random(SEED), 0.3, scope).prune(net())
        yield f"random masks {scope}", [mask.digest(), Pruner("random", 0.3, scope).prune_to(net(), 0.9, mask).digest()]
    found = phases.double_descent([0, 0.5, 0.9], np.arange(12).reshape(4, 3) % 5 / 4, seed=SEED)
    yield "bootstrap", [round(x, 9) for interval in (found.dip_interval, found.gain_interval) for x in interval]
    yield from sweep()


def sweep() -> Iterator[tuple[str, Any]]:
    """What of an experiment is drawn: masks by random scores, and the weights that a level starts from."""
    experiment = replace(Experiment(pruner=Pruner("random", 0.3), seed=SEED).scaled("smoke"), epochs=1)
    experiment = replace(experiment, learning_rate=1e-30)  # the weights stay what they were drawn as
    with TemporaryDirectory() as out:
        store, fresh = Store(out, experiment), Store(out, experiment.reinitialized())
        yield "masks of a sweep", [store.mask(level.level).digest() for level in run(experiment, out)]
        yield "weights of its reinit", [bits(fresh.weights(level.level)["fc1.weight"]) for level in reinit(experiment, out)]


def digests() -> dict[str, str]:
    return {name: digest(value) for name, value in every()}


def digest(value: Any) -> str:
    return hashlib.sha256(repr(bits(value) if isinstance(value, Tensor) else value).encode()).hexdigest()[:16]


if __name__ == "__main__":
    if len(sys.argv) > 1:
        torch.set_num_threads(int(sys.argv[1]))
    print(json.dumps({"threads": torch.get_num_threads(), "digests": digests()}, indent=4))
