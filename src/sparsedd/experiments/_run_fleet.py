"""run_fleet: experiments of one shape, level by level, trained as one."""

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import fields, replace

import torch
from torch import Tensor, nn
from torch.optim import SGD

from sparsedd import _checks
from sparsedd._ambient import undisturbed
from sparsedd._mask import Mask
from sparsedd.data._batches import side_by_side
from sparsedd.experiments._experiment import Experiment
from sparsedd.experiments._run import Run
from sparsedd.experiments._step_graph import StepGraph
from sparsedd.experiments._store import Store
from sparsedd.experiments._task import Task, retrain
from sparsedd.experiments._train import Execution, in_order
from sparsedd.fleet import Fleet
from sparsedd.metrics import Evaluation
from sparsedd.sweeps import Level, Record
from sparsedd.sweeps._workers import pinned

# What the experiments of a fleet may differ in. They share all else: data set, net, batch size, optimizer, levels.
OWN = {
    *("noise", "pruner", "retraining", "one_shot", "tickets_of", "rewind_step"),
    *("initialization", "sparse_below", "scale", "seed"),
}


def run_fleet(
    experiments: Iterable[Experiment],
    out: str | os.PathLike[str],
    *,
    device: str | torch.device = "cpu",
    cuda_graph: bool = False,
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
    cuda_graph
        On a CUDA GPU, record a step once, and repeat it in one launch from then on: for nets whose kernels are done before the
        next is launched. What is computed is the same. Elsewhere it changes nothing.

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
    members = _check_alike(experiments)
    _checks.kind("cuda_graph", cuda_graph, bool, "True or False")
    stores = {e: Store(out, e) for e in members}
    for store in stores.values():
        store._warn_of_changes()
    finished = {e: store.levels() for e, store in stores.items()}
    originals = {e: replace(e, retraining=e.tickets_of, tickets_of=None) for e in members if e.tickets_of is not None}
    source = enumerate(run_fleet(originals.values(), out, device=device, cuda_graph=cuda_graph) if originals else ())
    sweeps: dict[Experiment, Run] = {}
    for number in range(members[0].levels):
        missing = [e for e in members if len(finished[e]) <= number and not _has_diverged(finished[e])]
        if any(e in originals for e in missing):
            next((level for level, _ in source if level == number), None)
        sweeps |= {e: Run(Task(e, device), stores[e], out, device) for e in missing if e not in sweeps}
        _finish_level(number, [sweeps[e] for e in sorted(missing, key=lambda e: e.folder)], cuda_graph)
        finished |= {e: stores[e].levels() for e in missing}
        if not (reached := {e: finished[e][number] for e in members if number < len(finished[e])}):
            return
        yield reached


def _has_diverged(records: Sequence[Record]) -> bool:
    return any(record.diverged for record in records)


def group_fleets(experiments: Iterable[Experiment]) -> list[list[Experiment]]:
    """Group experiments as :func:`run_fleet` takes them."""
    groups: dict[tuple[object, ...], list[Experiment]] = {}
    for e in experiments:
        groups.setdefault(tuple(getattr(e, f.name) for f in fields(e) if f.name not in OWN), []).append(e)
    return list(groups.values())


def work_fleet(experiments: Iterable[Experiment], out: str | os.PathLike[str], *, device: str | torch.device) -> None:
    """Run experiments as fleets in a worker process, on one thread."""
    for group in group_fleets(experiments):
        pinned(deque, run_fleet(group, out, device=device), 0)


@undisturbed()
def _finish_level(number: int, sweeps: Sequence[Run], cuda_graph: bool) -> None:
    """Retrain and record a level of each sweep that has not finished it, those as one that start and learn alike.

    The sweeps come in one order everywhere, so that nobody waits for folders in a circle.
    """
    groups: dict[tuple[int, bool], list[tuple[Run, Level]]] = {}
    with ExitStack() as held:
        for sweep in sweeps:
            level = held.enter_context(sweep._turn())
            if level is not None and level.number == number:  # else somebody else has had the folder
                groups.setdefault((level.step, sweep.task.stays_at_last_rate(level)), []).append((sweep, level))
        for group in groups.values():
            sweeps, levels = zip(*group, strict=True)
            tasks, models = [sweep.task for sweep in sweeps], [sweep.model for sweep in sweeps]
            with tasks[0].arithmetic():
                retrain(FleetExecution(tasks, models, [level.mask for level in levels], cuda_graph), tasks, levels)


class FleetExecution(Execution):
    """The nets of several tasks, trained as one :class:`.Fleet`."""

    def __init__(
        self, tasks: Sequence[Task], models: Sequence[nn.Module], masks: Sequence[Mask], cuda_graph: bool = False
    ) -> None:
        self.began, self.cuda_graph = time.perf_counter(), cuda_graph
        self.experiment, self.models, self.fleet = tasks[0].experiment, list(models), Fleet(models)
        self.every, self.batches = [task.batches for task in tasks], tasks[0].batches
        rest = self.fleet.mask(masks)
        self.model, self.rest = self.fleet, None if rest.density == 1 else rest
        train = tasks[0].train[0], torch.stack([task.train[1] for task in tasks])  # the labels alone are each member's own
        shared = [(x.expand(len(y), *x.shape), y) for x, y in in_order(train)]
        self.evaluated = [shared, list(in_order(tasks[0].test))]

    def epoch(self, number: int, first: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of an epoch, each of all members side by side."""
        return side_by_side(self.every, number, first)

    def backward(self, inputs: Tensor, labels: Tensor) -> None:
        """Set the gradients of each member's mean cross-entropy."""
        with self.autocast():
            self.fleet.backward(inputs, labels)

    def stepper(self, optimizer: SGD) -> Callable[[Tensor, Tensor], None]:
        """Return what takes a step on a batch of all members."""
        step_on = super().stepper(optimizer)
        return StepGraph(step_on, optimizer) if self.cuda_graph else step_on

    def evaluate(self) -> list[tuple[Evaluation, Evaluation]]:
        """Measure each member on the training and on the test samples."""
        with self.autocast():
            return list(zip(*(self.fleet.evaluate(part) for part in self.evaluated), strict=True))

    def give_back_(self) -> None:
        """Copy the members' weights as they are now to the models that this was made of."""
        self.fleet.copy_to_(self.models)

    def momentum(self, optimizer: SGD) -> list[dict[str, Tensor]]:
        """Return each member's momentum, zero for pruned weights since the enforcement has ended."""
        buffers = {name: optimizer.state[p]["momentum_buffer"] for name, p in self.fleet.named_parameters()}
        return [{name: buffer[i] for name, buffer in buffers.items()} for i in range(len(self.models))]


def _check_alike(experiments: Iterable[Experiment]) -> list[Experiment]:
    """Return the experiments, each once, or an error if they can't be one fleet."""
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
