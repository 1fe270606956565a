"""Launches and waits: what a training step asks of a GPU, whose host does little else for small nets.

python benchmarks/launches.py            three minutes; no GPU is needed

A launch is an operation that torch dispatches and that is no view; a wait is the host's for the device; an upload comes from
ordinary memory, which waits, too. They are counted on the device that the tests pretend, or, with SPARSEDD_DEVICE=cuda, by
torch's profiler on a real one. The nets are narrow, which changes no count.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import NamedTuple

import torch
from bench import report
from devices import REAL, devices
from torch import nn, optim
from torch.nn.functional import cross_entropy
from torch.profiler import ProfilerActivity, profile
from torch.utils.data import TensorDataset

from sparsedd import Mask, Pruner, models
from sparsedd.data import Data
from sparsedd.experiments import PRESETS, Experiment
from sparsedd.experiments._run_fleet import FleetExecution
from sparsedd.experiments._task import Task
from sparsedd.experiments._train import Execution, sgd

DEVICE = REAL or "cuda"
BATCHES, STEPS = 20, 10  # of an epoch; that are counted
LAUNCHES = ("cudaLaunchKernel", "cuLaunchKernel", "cudaMemcpyAsync", "cudaMemsetAsync")  # as a profiler calls them
SHAPES = {"lenet_300_100": (1, 28, 28), "resnet18": (3, 32, 32)}
NARROW = {"lenet_300_100": 0.1, "resnet18": 1 / 16}


class Count(NamedTuple):
    launches: float
    waits: float
    uploads: float


def plain(name: str, masked: bool = False, clipped: bool = False) -> Iterator[None]:
    """A loop of one's own, a step at a time."""
    net: nn.Module = getattr(models, name)(width=NARROW[name]).to(DEVICE)
    optimizer = optim.SGD(net.parameters(), 0.1, momentum=0.9)
    x, y = torch.randn(4, *SHAPES[name]).to(DEVICE), torch.randint(10, (4,)).to(DEVICE)
    mask = Pruner(fraction=0.5).prune(net).to("cpu")  # as one from a file
    with ExitStack() as stack:
        if masked:
            stack.enter_context(mask.enforce(net, optimizer))
        while True:
            optimizer.zero_grad()
            cross_entropy(net(x), y).backward()
            if clipped:
                mask.apply_to_grads_(net)
                nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            yield


def experiment(name: str, members: int = 0) -> Iterator[None]:
    """The loop of experiments, a step at a time: of one, or of so many as a fleet."""
    preset = {"lenet_300_100": "lenet-mnist", "resnet18": "resnet18-cifar10"}[name]
    e = replace(PRESETS[preset], width=NARROW[name], batch_size=4, train_size=4 * BATCHES)
    tasks = [Task(replace(e, seed=seed), DEVICE, _images(e)) for seed in range(members or 1)]
    nets = [task.original for task in tasks]
    masks = [Pruner(fraction=0.5).prune(net, Mask.dense(net, task.names)) for net, task in zip(nets, tasks, strict=True)]
    execution: Execution = FleetExecution(tasks, nets, masks) if members else tasks[0].execution(nets[0], masks[0])
    optimizer = sgd(execution.model, e)
    assert execution.rest is not None
    step_on = execution.stepper(optimizer)
    with tasks[0].arithmetic(), execution.rest.enforce(execution.model, optimizer):
        for number in range(3):
            execution.model.train()
            for inputs, labels in execution.epoch(number, 0):
                step_on(inputs, labels)
                yield


def _images(e: Experiment) -> Data:
    inputs, labels = torch.randn(e.train_size or 1, *SHAPES[str(e.model)]), torch.arange(e.train_size or 1) % 10
    return Data(TensorDataset(inputs, labels), TensorDataset(inputs[:4], labels[:4]), 10).to(DEVICE)


def count(steps: Iterator[None]) -> tuple[Count, Count]:
    """What a step asks for, and the first step of an epoch."""
    with devices() as events:
        for _ in range(BATCHES):
            next(steps)

        def measure(times: int) -> Count:
            events.clear()
            if REAL:
                with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
                    for _ in range(times):
                        next(steps)
                called = Counter({event.key: event.count for event in profiled.key_averages()})
                launched = sum(n for name, n in called.items() if name.startswith(LAUNCHES))
            else:
                for _ in range(times):
                    next(steps)
                launched = sum(events.launches.values())
            return Count(launched / times, sum((+events.waits).values()) / times, sum(events.uploads.values()) / times)

        first = measure(1)
        found = measure(STEPS)
        steps.close()  # type: ignore[attr-defined]
        return found, first


WAYS: dict[str, Callable[[], Iterator[None]]] = {
    "LeNet-300-100, a plain loop": lambda: plain("lenet_300_100"),
    "LeNet-300-100, enforced": lambda: plain("lenet_300_100", masked=True),
    "LeNet-300-100, enforced, gradients masked and clipped": lambda: plain("lenet_300_100", masked=True, clipped=True),
    "LeNet-300-100, an experiment": lambda: experiment("lenet_300_100"),
    "LeNet-300-100, a fleet of 1": lambda: experiment("lenet_300_100", 1),
    "LeNet-300-100, a fleet of 10": lambda: experiment("lenet_300_100", 10),
    "LeNet-300-100, a fleet of 50": lambda: experiment("lenet_300_100", 50),
    "ResNet-18, a plain loop": lambda: plain("resnet18"),
    "ResNet-18, enforced": lambda: plain("resnet18", masked=True),
    "ResNet-18, enforced, gradients masked and clipped": lambda: plain("resnet18", masked=True, clipped=True),
    "ResNet-18, an experiment": lambda: experiment("resnet18"),
}


def row(name: str) -> dict[str, object]:
    """A row of the table."""
    step, first = count(WAYS[name]())
    shown = {what: round(value, 1) for what, value in step._asdict().items()}
    return {"step": name} | shown | {"launches of an epoch's first": round(first.launches)}


if __name__ == "__main__":
    torch.set_num_threads(1)
    report("launches", "python benchmarks/launches.py", [row(name) for name in WAYS])
