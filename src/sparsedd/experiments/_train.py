"""The training loop of one level."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from sparsedd import _random
from sparsedd._mask import Mask
from sparsedd.experiments._experiment import Experiment
from sparsedd.experiments._level import Curves
from sparsedd.metrics import evaluate

EVALUATION_BATCH = 500


def schedule(experiment: Experiment, steps_per_epoch: int) -> Callable[[int], float]:
    """The learning rate as a function of the step."""
    milestones = [epoch * steps_per_epoch for epoch in experiment.milestones]
    return lambda step: experiment.learning_rate * experiment.drop ** sum(step >= m for m in milestones)


def batches(inputs: Tensor, labels: Tensor, size: int = EVALUATION_BATCH) -> Iterator[tuple[Tensor, Tensor]]:
    """The data set in order, in batches."""
    return zip(inputs.split(size), labels.split(size), strict=True)


def order(seed: int, epoch: int, n: int, device: torch.device) -> Tensor:
    """The order of the samples in an epoch: the same at every level, as in the lottery ticket experiments."""
    return torch.from_numpy(_random.permutation(("data order", seed, epoch), n)).to(device)


def train(
    model: nn.Module,
    mask: Mask | None,
    experiment: Experiment,
    data: tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]],
    *,
    start: int,
    rate: Callable[[int], float],
    reached: Callable[[int], None] = lambda step: None,
) -> Curves:
    """SGD from step ``start`` to the end of the last epoch, in place; ``reached(step)`` is called before every step.

    The last, smaller batch of an epoch is kept. The optimizer is fresh.
    """
    inputs, labels = data[0]
    steps_per_epoch = -(-len(inputs) // experiment.batch_size)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=rate(start), momentum=experiment.momentum, weight_decay=experiment.weight_decay
    )
    enforcement = mask.enforce(model, optimizer) if mask is not None else None
    curves: list[tuple[int, float, float, float, float]] = []
    for epoch in range(start // steps_per_epoch, experiment.epochs):
        model.train()
        chosen = order(experiment.seed, epoch, len(inputs), inputs.device).split(experiment.batch_size)
        for step in range(max(start, epoch * steps_per_epoch), (epoch + 1) * steps_per_epoch):
            reached(step)
            batch = chosen[step % steps_per_epoch]
            for group in optimizer.param_groups:
                group["lr"] = rate(step)
            optimizer.zero_grad()
            cross_entropy(model(inputs.index_select(0, batch)), labels[batch]).backward()
            optimizer.step()
        done = epoch + 1
        if done % experiment.evaluate_every == 0 or done == experiment.epochs:
            on_train, on_test = (evaluate(model, batches(*part)) for part in data)
            curves.append((done, on_train.accuracy, on_test.accuracy, on_train.loss, on_test.loss))
    if enforcement is not None:
        enforcement.remove()
    return Curves(*zip(*curves, strict=True))
