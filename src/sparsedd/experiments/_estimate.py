"""Estimate: how long experiments would take on this machine, by what a few of their steps take."""

import heapq
import time
from collections.abc import Iterable, Sequence
from contextlib import nullcontext, suppress
from copy import deepcopy
from dataclasses import dataclass, fields, replace
from functools import partial

import numpy as np
import torch

from sparsedd import scores
from sparsedd._mask import Mask
from sparsedd._perceptron import Perceptron
from sparsedd.data import blobs
from sparsedd.experiments._execution import Execution
from sparsedd.experiments._experiment import Experiment
from sparsedd.experiments._lines import RESOLUTION
from sparsedd.experiments._problem import Problem
from sparsedd.experiments._train import sgd, train
from sparsedd.metrics import evaluate
from sparsedd.sweeps._workers import pinned, submit_all, workers

BUDGET = 1.5  # seconds of steps and evaluations, for each kind of net and data
STEPS = 2000  # at most, so that a GPU's queue stays short
NEVER = 10**9
# What makes no difference to how long a step takes.
IDLE = {
    *("noise", "retraining", "tickets_of", "one_shot", "epochs", "learning_rate", "milestones", "drop", "warmup_epochs"),
    *("rewind_step", "evaluate_every", "scale", "seed"),
}
# Shape, classes, training and test images. Random images of that shape take as long, and need no files.
IMAGES = {
    "mnist": ((1, 28, 28), 10, 60_000, 10_000),
    "cifar10": ((3, 32, 32), 10, 50_000, 10_000),
    "cifar100": ((3, 32, 32), 100, 50_000, 10_000),
    "tiny_imagenet": ((3, 32, 32), 200, 100_000, 10_000),
}
STAND_IN = 2000  # of them


@dataclass(frozen=True)
class Pace:
    """How fast experiments of one kind are in one process while all others work.

    Attributes
    ----------
    levels
        Those that were timed.
    steps, images
        Seconds of a training step, and of an image in an evaluation, at each of them.
    train_size, test_size
        Images of the data set.
    ready
        When the process had the data and the net, see :func:`time.time`.
    """

    levels: tuple[int, ...]
    steps: tuple[float, ...]
    images: tuple[float, ...]
    train_size: int
    test_size: int
    ready: float = 0.0

    def seconds(self, experiment: Experiment) -> list[float]:
        """Those of each level: steps × what one takes, and evaluations."""
        e, levels = experiment, np.arange(experiment.levels)
        step, image = (np.interp(levels, self.levels, values) for values in (self.steps, self.images))
        rewound = e.rewind_step if e.retraining.schedule == "rewind" else 0
        steps = e.epochs * -(-self.train_size // e.batch_size) - rewound * ((levels > 0) | (e.tickets_of is not None))
        evaluated = -(-e.epochs // e.evaluate_every) * (self.train_size + self.test_size)
        seconds: list[float] = (steps * step + evaluated * image + self.train_size * self.images[0]).tolist()
        return seconds

    def redense(self, experiment: Experiment, needs: str) -> float:
        """Those of a net that is trained on without its mask, and of the lines that are drawn through it."""
        points, around, directions = RESOLUTION[experiment.scale]
        passes = {"interpolation": points * (2 * self.train_size + self.test_size)}
        passes["directions"] = directions * around * self.train_size
        return self.seconds(experiment)[0] + passes.get(needs, 0) * self.images[0]


def paces(experiments: Iterable[Experiment], processes: int, device: str) -> tuple[dict[Experiment, Pace], float]:
    """The pace of each experiment, and how long it takes until the processes are ready. Nothing is written.

    Experiments that differ in nothing that matters are timed once. As many processes as would work are at work meanwhile,
    since they share the machine.
    """
    kinds: dict[tuple[object, ...], Experiment] = {}
    of = {e: kinds.setdefault(tuple(getattr(e, f.name) for f in fields(e) if f.name not in IDLE), e) for e in experiments}
    timed = list(kinds.values())
    timed += [timed[k % len(timed)] for k in range(processes - len(timed))]
    began = time.time()
    with workers(processes) as pool:
        found = [future.result() for future in submit_all(pool, [partial(pinned, pace, e, device) for e in timed])]
    mean = {kind: _mean([p for e, p in zip(timed, found, strict=True) if e == kind]) for kind in kinds.values()}
    return {experiment: mean[kind] for experiment, kind in of.items()}, max(p.ready for p in found[:processes]) - began


def pace(experiment: Experiment, device: str, budget: float = BUDGET) -> Pace:
    """Time a few training steps, with masks as sparse as those of some levels, and a part of an evaluation."""
    problem, train_size, test_size = _problem(experiment, device)
    ready = time.time()
    last, pruner = experiment.levels - 1, replace(experiment.pruner, score=scores.random(0))
    execution = problem.execution(deepcopy(problem.original), Mask.dense(problem.original, problem.names))
    varies = isinstance(execution.net, Perceptron) and not problem.flipped.is_cuda  # sparse layers are faster
    levels = sorted({round(share * last) for share in (0, 0.25, 0.5, 0.75, 1)}) if varies else [0]
    steps, images = [], []
    for level in levels:
        if level:
            dense = Mask.dense(problem.original, problem.names)
            mask = pruner.prune_to(problem.original, pruner.sparsity(level), dense)
            execution = problem.execution(deepcopy(problem.original), mask)
        steps.append(_step(execution, problem, 0.8 * budget / len(levels)))
        images.append(_image(execution, 0.2 * budget / len(levels)))
    return Pace(tuple(levels), tuple(steps), tuple(images), train_size, test_size, ready)


def makespan(durations: Iterable[float], processes: int) -> float:
    """When the last of some tasks is done, if each process takes the next one whenever it is free."""
    free = [0.0] * processes
    for duration in durations:
        heapq.heapreplace(free, free[0] + duration)
    return max(free)


def _problem(experiment: Experiment, device: str) -> tuple[Problem, int, int]:
    """The experiment's problem, on random images where the real ones are files, and how many there really are of each part."""
    if experiment.dataset not in IMAGES:
        problem = Problem(experiment, device)
        return problem, len(problem.train[1]), len(problem.test[1])
    shape, classes, train_size, test_size = IMAGES[experiment.dataset]
    train_size = min(experiment.train_size or train_size, train_size)
    count = min(max(STAND_IN, experiment.batch_size), train_size)
    source = blobs(shape=shape, num_classes=classes, train=count, test=count)
    if experiment.dataset == "tiny_imagenet":  # crops are taken of whole images
        source = replace(source, uncropped=torch.zeros(count, 3, 64, 64, dtype=torch.uint8, device="cpu"))
    problem = Problem(replace(experiment, train_size=None, rewind_step=0, noise=None), device, source.to(device))
    return problem, train_size, test_size


class _Enough(Exception):
    """Raised in the training loop to leave it."""


def _step(execution: Execution, problem: Problem, budget: float) -> float:
    """Seconds of a training step, data and augmentation included: the first one, in which memory is found, left out."""
    rest, optimizer = execution.rest, sgd(execution.model, problem.experiment)
    marks: list[float] = []

    def reached(step: int) -> None:
        if step == 1:
            _settle(problem)
        marks.append(time.perf_counter())
        if step > 1 and (marks[-1] - marks[1] > budget or step > STEPS):
            raise _Enough

    with suppress(_Enough), rest.enforce(execution.model, optimizer) if rest is not None else nullcontext():
        endless = replace(problem.experiment, evaluate_every=NEVER)
        train(execution, optimizer, endless, start=0, epochs=NEVER, rate=problem.rate, reached=reached)
    _settle(problem)
    return (time.perf_counter() - marks[1]) / (len(marks) - 2)


def _image(execution: Execution, budget: float) -> float:
    """Seconds that an image takes in an evaluation."""
    seen, began = 0, time.perf_counter()
    with execution.autocast():
        for batch in execution.evaluated[0]:
            evaluate(execution.net, [batch], loss=execution.loss)  # it reads the result, and so waits for a GPU
            seen += len(batch[1])
            if time.perf_counter() - began > budget:
                break
    return (time.perf_counter() - began) / seen


def _settle(problem: Problem) -> None:
    """Wait for a GPU to have done what it was told."""
    if problem.flipped.is_cuda:
        torch.cuda.synchronize(problem.flipped.device)


def _mean(found: Sequence[Pace]) -> Pace:
    """Of a kind that several processes have timed."""
    steps, images = (tuple(np.mean([getattr(p, name) for p in found], axis=0).tolist()) for name in ("steps", "images"))
    return replace(found[0], steps=steps, images=images)
