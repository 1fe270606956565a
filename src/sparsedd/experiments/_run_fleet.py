"""run_fleet: experiments of one shape, level by level, trained as one."""

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import fields, replace

import torch
from torch import Tensor
from torch.optim import SGD

from sparsedd import _checks
from sparsedd.experiments._ambient import undisturbed
from sparsedd.experiments._execution import EVALUATION_BATCH, autocast, tensor_cores
from sparsedd.experiments._experiment import Experiment
from sparsedd.experiments._problem import Problem
from sparsedd.experiments._run import Run
from sparsedd.experiments._store import Store
from sparsedd.experiments._train import sgd
from sparsedd.fleet import Fleet
from sparsedd.sweeps import Curves, Level, Record, Schedule
from sparsedd.sweeps._workers import pinned

# What the experiments of a fleet may differ in. They share all else: data set, net, batch size, optimizer, levels.
OWN = {
    *("noise", "pruner", "retraining", "one_shot", "tickets_of", "rewind_step"),
    *("initialization", "sparse_below", "scale", "seed"),
}


def run_fleet(
    experiments: Iterable[Experiment], out: str | os.PathLike[str], *, device: str | torch.device = "cpu"
) -> Iterator[dict[Experiment, Record]]:
    """Run experiments of one shape together, yielding a level of each when all of them have finished it.

    One that has diverged has no further levels.

    It stores what :func:`run` stores, and each of the two goes on where the other has stopped. Initial weights, labels, data
    orders and scores are those of :func:`run`. What is trained is equal up to the rounding of batched products, which training
    amplifies as it does any other: in the end, the two differ as two machines would.

    The level is the unit: what the folder ``out`` holds is yielded from there, and a run that was stopped at any moment goes on
    with the level it was in. Those that start a level at other steps or learning rates than the rest, as fine-tuning does, are
    a fleet of their own; so are the experiments that others take their masks of. A level's ``seconds`` are a member's share.

    All layers are dense, whatever their ``sparse_below``. So on a CPU a fleet is the faster one for small nets
    that are not very sparse, and :func:`run` beyond that.

    Parameters
    ----------
    experiments
        They may differ in seed, noise, pruner, retraining method, rewind step, and in whose masks they take.

    Raises
    ------
    ValueError
        When they differ in anything else; the message names it.

    Examples
    --------
    >>> import tempfile
    >>> experiments = [replace(Experiment().scaled("smoke"), seed=seed) for seed in range(3)]
    >>> with tempfile.TemporaryDirectory() as out:
    ...     [[level.remaining for level in levels.values()] for levels in run_fleet(experiments, out)]
    [[5040, 5040, 5040], [4032, 4032, 4032], [3225, 3225, 3225]]
    """
    members = _alike(experiments)
    stores = {e: Store(out, e) for e in members}
    finished = {e: store.levels() for e, store in stores.items()}
    originals = {e: replace(e, retraining=e.tickets_of, tickets_of=None) for e in members if e.tickets_of is not None}
    source = enumerate(run_fleet(originals.values(), out, device=device) if originals else ())
    sweeps: dict[Experiment, Run] = {}
    for number in range(members[0].levels):
        missing = [e for e in members if len(finished[e]) <= number and not _ended(finished[e])]
        if any(e in originals for e in missing):
            next((level for level, _ in source if level == number), None)
        sweeps |= {e: Run(Problem(e, device), stores[e], out, device) for e in missing if e not in sweeps}
        _finish(number, [sweeps[e] for e in sorted(missing, key=lambda e: e.folder)])
        finished |= {e: stores[e].levels() for e in missing}
        if not (reached := {e: finished[e][number] for e in members if number < len(finished[e])}):
            return
        yield reached


def _ended(records: Sequence[Record]) -> bool:
    return any(record.diverged for record in records)


def fleets(experiments: Iterable[Experiment]) -> list[list[Experiment]]:
    """The experiments in groups that :func:`run_fleet` takes."""
    groups: dict[tuple[object, ...], list[Experiment]] = {}
    for e in experiments:
        groups.setdefault(tuple(getattr(e, f.name) for f in fields(e) if f.name not in OWN), []).append(e)
    return list(groups.values())


def work_fleet(experiments: Iterable[Experiment], out: str | os.PathLike[str], device: str | torch.device) -> None:
    """The task of a worker process: run experiments as fleets, on one thread."""
    for group in fleets(experiments):
        pinned(deque, run_fleet(group, out, device=device), 0)


@undisturbed()
def _finish(number: int, sweeps: Sequence[Run]) -> None:
    """Retrain and record a level of each sweep that has not finished it, those as one that start and learn alike.

    The sweeps come in one order everywhere, so that nobody waits for folders in a circle.
    """
    groups: dict[tuple[int, tuple[float, ...]], list[tuple[Run, Level]]] = {}
    with ExitStack() as held:
        for sweep in sweeps:
            level = held.enter_context(sweep._turn())
            if level is not None and level.number == number:  # else somebody else has had the folder
                rate = sweep.problem.rate_of(level)
                key = (level.step, tuple(map(rate, range(level.step, sweep.problem.steps))))
                groups.setdefault(key, []).append((sweep, level))
        for group in groups.values():
            _together(*zip(*group, strict=True))


def _together(sweeps: Sequence[Run], levels: Sequence[Level]) -> None:
    """Train the nets of a level as a fleet, in place, and record what came of it."""
    began = time.perf_counter()
    problems, models = [sweep.problem for sweep in sweeps], [sweep.model for sweep in sweeps]
    fleet, number = Fleet(models), levels[0].number
    optimizer = sgd(fleet, problems[0].experiment)

    def reached(step: int) -> None:
        for i, level in enumerate(levels):
            if number == 0 and step == sweeps[i].rewind_step > 0:
                fleet.copy_to_(models)
                level.reached(step)

    precision, device = problems[0].experiment.precision, problems[0].flipped.device
    masks, rate = [level.mask for level in levels], problems[0].rate_of(levels[0])
    with tensor_cores(precision, device), fleet.enforce(masks, optimizer) if number else nullcontext():
        curves = _train(fleet, optimizer, problems, levels[0].step, rate, reached)
    fleet.copy_to_(models)
    measures = [problem.measure(model, curve) for problem, model, curve in zip(problems, models, curves, strict=True)]
    seconds = (time.perf_counter() - began) / len(levels)
    for i, level in enumerate(levels):
        momentum = None
        if problems[i].experiment.momentum:  # zero for pruned weights since the enforcement has ended
            momentum = {name: optimizer.state[p]["momentum_buffer"][i] for name, p in fleet.named_parameters()}
        level._finish(measures[i], curves[i], momentum, seconds)


def _train(
    fleet: Fleet,
    optimizer: SGD,
    problems: Sequence[Problem],
    start: int,
    rate: Schedule,
    reached: Callable[[int], None],
) -> list[Curves]:
    """SGD from a step to the end of the last epoch, in place: the curves of each member. See :func:`._train.train`."""
    e, each = problems[0].experiment, [problem.batches for problem in problems]
    (images, _), test = problems[0].train, problems[0].test  # the labels alone are each member's own
    train = images, torch.stack([problem.train[1] for problem in problems])
    rounded = autocast(e.precision, images.device)
    curves: list[list[tuple[int, float, float, float, float]]] = [[] for _ in problems]
    for epoch in range(start // len(each[0]), e.epochs):
        fleet.train()
        first = max(start, epoch * len(each[0]))
        epochs = (batches.epoch(epoch, first % len(batches)) for batches in each)
        for step, batch in enumerate(zip(*epochs, strict=True), first):
            reached(step)
            for group in optimizer.param_groups:
                group["lr"] = rate(step)
            inputs, labels = (torch.stack(part) for part in zip(*batch, strict=True))
            with rounded:
                fleet.backward(inputs, labels)
            optimizer.step()
        done = epoch + 1
        if done % e.evaluate_every == 0 or done == e.epochs:
            with rounded:
                measured = zip(*(fleet.evaluate(_in_order(*part)) for part in (train, test)), strict=True)
            for curve, (a, b) in zip(curves, measured, strict=True):
                curve.append((done, a.accuracy, b.accuracy, a.loss, b.loss))
    return [Curves.of(curve) for curve in curves]


def _in_order(inputs: Tensor, targets: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """All inputs (n, ...) in batches, with targets that all share (n,) or each member's own (members, n)."""
    for x, y in zip(inputs.split(EVALUATION_BATCH), targets.split(EVALUATION_BATCH, dim=-1), strict=True):
        yield (x if y.dim() == 1 else x.expand(len(y), *x.shape)), y


def _alike(experiments: Iterable[Experiment]) -> list[Experiment]:
    """The experiments, each once, that can be one fleet."""
    members = list(dict.fromkeys(_checks.every("experiments", experiments, Experiment, "Experiments")))
    if not members:
        raise ValueError("a fleet needs at least one experiment, got none.")
    for e in members:
        if e.compiled:
            raise ValueError(f"a fleet is not compiled, got {e!r} with compiled=True: run it alone.")
        for name in (f.name for f in fields(e) if f.name not in OWN):
            ours, theirs = getattr(members[0], name), getattr(e, name)
            if ours != theirs:
                raise ValueError(f"the experiments of a fleet share their {name}, got {ours!r} and {theirs!r}: run each alone.")
    return members
