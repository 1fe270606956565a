"""A sweep of 32 levels, LeNet-300-100 on data of MNIST's size: each level's epoch over the dense one.

python benchmarks/sweep.py            takes about six minutes; on MNIST itself where SPARSEDD_DATA names it

The masks are those of magnitude pruning with lottery ticket rewinding, after two epochs a level. A level's training epoch with
its evaluation is timed in turns with the dense level's. The sum over the levels is what a sweep costs, in dense levels; all
peers pay one for each level.
"""

import os
import statistics
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import replace

import torch
from bench import in_turns, report
from epoch import like_mnist
from torch import Tensor, nn

from sparsedd import Mask
from sparsedd.experiments import Experiment
from sparsedd.experiments._task import Task
from sparsedd.experiments._train import Execution, sgd, train

EXPERIMENT = replace(Experiment(), epochs=1)


def epochs(task: Task, weights: Mapping[str, Tensor], mask: Mask, times: int) -> tuple[Callable[[], nn.Module], Execution]:
    """What trains a level for some epochs, and trains on when called again."""
    model = deepcopy(task.original)
    model.load_state_dict(weights)
    execution = task.execution(model, mask)
    optimizer = sgd(execution.model, task.experiment)
    if execution.rest is not None:
        execution.rest.enforce(execution.model, optimizer)

    def run() -> nn.Module:
        train(execution, optimizer, start=0, epochs=times, rate=task.rate)
        execution.give_back_()
        return model

    return run, execution


if __name__ == "__main__":
    torch.set_num_threads(1)
    task = Task(EXPERIMENT, "cpu", None if "SPARSEDD_DATA" in os.environ else like_mnist())
    start = task.original.state_dict()
    mask = Mask.dense(task.original, task.names)
    dense, _ = epochs(task, start, mask, 1)
    rows = []
    for level in range(EXPERIMENT.levels):
        trained = epochs(task, start, mask, 2)[0]()
        ours, execution = epochs(task, start, mask, 1)
        seconds = in_turns({"dense": dense, "ours": ours}, rounds=3)
        ratio = statistics.median(a / b for a, b in zip(seconds["ours"], seconds["dense"], strict=True)) if level else 1.0
        rows.append(
            {
                "level": level,
                "density": round(mask.density, 4),
                "inputs": execution.evaluated[0][0][0].flatten(1).shape[1],
                "CPU s an epoch": round(statistics.median(seconds["ours"]), 3),
                "over dense": round(ratio, 3),
                "sum": round(ratio + (rows[-1]["sum"] if rows else 0.0), 2),
            }
        )
        print(rows[-1], flush=True)
        mask = EXPERIMENT.pruner.prune(trained, mask)
    report("sweep", "python benchmarks/sweep.py", rows)
