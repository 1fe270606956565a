"""Training steps of five seeds of ``sparsedd demo``, its net on the digits: one by one, and as a fleet.

python benchmarks/fleet.py            takes about two minutes

One by one, the nets are trained by autograd, as in anybody's loop; in sparse form they are as ``experiments.run`` trains them.
"""

import itertools
import shlex
import statistics
import sys
from collections.abc import Callable

import torch
from bench import in_turns, ratios, report
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import SGD

from sparsedd import Mask, Pruner, data, models, sparse
from sparsedd._perceptron import Perceptron
from sparsedd.experiments import PRESETS
from sparsedd.fleet import Fleet, cross_entropy

DEMO = PRESETS["lenet-digits"]
MEMBERS = 5


def nets() -> list[nn.Module]:
    return [models.lenet_300_100(in_features=64, seed=seed) for seed in range(MEMBERS)]


def batches() -> Callable[[], tuple[Tensor, Tensor]]:
    """Each seed's next batch, stacked, again and again."""
    source = data.digits().first(DEMO.train_size)
    each = [list(data.Batches(source, size=DEMO.batch_size, seed=seed).epoch(0)) for seed in range(MEMBERS)]
    stacked = [tuple(torch.stack(part) for part in zip(*batch, strict=True)) for batch in zip(*each, strict=True)]
    turn = itertools.cycle(stacked)
    return lambda: next(turn)  # type: ignore[return-value]


def one_by_one(masks: list[Mask] | None) -> Callable[[], object]:
    every, batch = nets(), batches()
    optimizers = [SGD(model.parameters(), DEMO.learning_rate) for model in every]
    enforced = [mask.enforce(m, o) for mask, m, o in zip(masks or (), every, optimizers, strict=bool(masks))]

    def step() -> object:
        for model, optimizer, inputs, targets in zip(every, optimizers, *batch(), strict=True):
            optimizer.zero_grad()
            functional.cross_entropy(model(inputs), targets).backward()
            optimizer.step()
        return enforced

    return step


def in_sparse_form(masks: list[Mask]) -> Callable[[], object]:
    every = [sparse.compact(model, mask) for mask, model in zip(masks, nets(), strict=True)]
    optimizers = [SGD(fast.parameters(), DEMO.learning_rate) for fast, _ in every]
    enforced = [rest.enforce(fast, o) for (fast, rest), o in zip(every, optimizers, strict=True) if rest is not None]
    perceptrons, batch = [Perceptron.of(fast) for fast, _ in every], batches()

    def step() -> object:
        for perceptron, optimizer, inputs, targets in zip(perceptrons, optimizers, *batch(), strict=True):
            perceptron.backward(inputs, targets)
            optimizer.step()
        return enforced

    return step


def together(masks: list[Mask] | None, written_out: bool) -> Callable[[], object]:
    fleet, batch = Fleet(nets()), batches()
    optimizer = SGD(fleet.parameters(), DEMO.learning_rate)
    enforced = fleet.enforce(masks, optimizer) if masks else None

    def step() -> object:
        inputs, targets = batch()
        if written_out:
            fleet.backward(inputs, targets)
        else:
            optimizer.zero_grad()
            cross_entropy(fleet(inputs), targets).sum().backward()
        optimizer.step()
        return enforced

    return step


def main() -> None:
    rows = []
    for sparsity in (0.0, 0.5, 0.9, 0.98):
        masks = (
            [Pruner().prune_to(m, sparsity, Mask.dense(m, ("fc1.weight", "fc2.weight"))) for m in nets()] if sparsity else None
        )
        candidates = {
            "one by one": one_by_one(masks),
            "fleet(inputs), autograd": together(masks, False),
            "fleet.backward": together(masks, True),
        }
        if masks:
            candidates["one by one, sparse form"] = in_sparse_form(masks)
        what = f"{sparsity:.0%} pruned" if masks else "dense"
        seconds = in_turns(candidates, rounds=9, times=100)
        relative = ratios(seconds, "one by one")
        for name in candidates:
            milliseconds = 1000 * statistics.median(seconds[name])
            rows.append({"step": what, "method": name, "CPU ms": milliseconds, "of one by one": relative[name]})
            rows[-1]["as many single steps"] = MEMBERS * relative[name]
    report("fleet", shlex.join(["python", "benchmarks/fleet.py", *sys.argv[1:]]), rows)


if __name__ == "__main__":
    main()
