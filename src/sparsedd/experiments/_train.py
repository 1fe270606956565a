"""The training loop of one level."""

from collections.abc import Callable, Mapping
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.optim import SGD

from sparsedd import sparse
from sparsedd._mask import Mask
from sparsedd._parameters import parameters
from sparsedd.experiments._execution import Execution, tensor_cores
from sparsedd.experiments._experiment import Experiment
from sparsedd.experiments._own import seeded
from sparsedd.metrics import evaluate
from sparsedd.sweeps._record import Curves
from sparsedd.sweeps._retraining import Schedule


def sgd(model: nn.Module, experiment: Experiment, momentum: Mapping[str, Tensor] | None = None) -> SGD:
    """The experiment's optimizer: fresh, or with the momentum of one that has run before."""
    optimizer = SGD(model.parameters(), experiment.learning_rate, experiment.momentum, weight_decay=experiment.weight_decay)
    for name, buffer in (momentum or {}).items():
        p = parameters(model)[name]
        optimizer.state[p]["momentum_buffer"] = buffer.to(p.device, copy=True)
    return optimizer


@torch.no_grad()
def momentum_of(optimizer: SGD, model: nn.Module, fast: nn.Module, mask: Mask) -> dict[str, Tensor]:
    """The optimizer's momentum under the model's names, when it has trained ``fast``: zero for pruned weights."""
    ours, theirs = deepcopy(model), deepcopy(fast)
    for (_, buffer), p in zip(parameters(theirs).items(), parameters(fast).values(), strict=True):
        buffer.copy_(optimizer.state[p]["momentum_buffer"])
    sparse.expand_(ours, theirs, mask)
    return {name: p.detach() for name, p in mask.apply_(ours).named_parameters()}


def train(
    execution: Execution,
    optimizer: SGD,
    experiment: Experiment,
    *,
    start: int,
    epochs: int,
    rate: Schedule,
    reached: Callable[[int], None] = lambda step: None,
) -> Curves:
    """SGD from step ``start`` to the end of epoch ``epochs``, in place; ``reached(step)`` is called before every step.

    Accuracy and loss on the training and test samples are measured after epochs, see :attr:`.Experiment.evaluate_every`.
    """
    model, batches = execution.model, execution.batches
    curves: list[tuple[int, float, float, float, float]] = []
    drawn = seeded(experiment.model, "train", experiment.seed, start, epochs)
    with drawn, tensor_cores(experiment.precision, batches.targets.device):
        for epoch in range(start // len(batches), epochs):
            model.train()
            first = max(start, epoch * len(batches))
            for step, (inputs, labels) in enumerate(batches.epoch(epoch, first % len(batches)), first):
                reached(step)
                for group in optimizer.param_groups:
                    group["lr"] = rate(step)
                execution.backward(inputs, labels)
                optimizer.step()
            done = epoch + 1
            if done % experiment.evaluate_every == 0 or done == epochs:
                with execution.autocast():
                    on_train, on_test = (evaluate(execution.net, part, loss=execution.loss) for part in execution.evaluated)
                curves.append((done, on_train.accuracy, on_test.accuracy, on_train.loss, on_test.loss))
    return Curves.of(curves)
