"""Training: a net, its data and its backward pass as they run fastest, and the loop that trains it."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD

from sparsedd import sparse
from sparsedd._mask import Mask
from sparsedd._parameters import parameters
from sparsedd._perceptron import Perceptron
from sparsedd.data import Batches
from sparsedd.experiments._arithmetic import autocast
from sparsedd.experiments._experiment import Experiment
from sparsedd.experiments._own import seeded
from sparsedd.metrics import Evaluation, evaluate
from sparsedd.sweeps import Curves, Schedule

EVALUATION_BATCH = 200  # a small net's activations stay in the processor's cache; elsewhere, launches count
SPARSE = 0.06  # the density below which larger batches are evaluated faster: an activation is hardly used twice

Samples: TypeAlias = tuple[Tensor, Tensor]


class Execution:
    """What trains in a model's place, and gives the same numbers up to float rounding.

    Linear layers of low density are executed in sparse form. A perceptron's gradients are written out; when its first layer is
    sparse, the inputs that no weight looks at are left out, and the others are laid out as it takes them.

    Attributes
    ----------
    models
        What it was made of: one, but for a fleet.
    model
        The net to train, a copy where anything about it is different.
    rest
        The mask of those of its weights that are dense still; None if there are none.
    net, loss
        What is called for its logits, and the mean cross-entropy of these with labels.
    batches
        What it trains on.
    evaluated
        Training and test samples in batches.
    began
        When it was made.
    """

    def __init__(
        self, model: nn.Module, mask: Mask, experiment: Experiment, batches: Batches, train: Samples, test: Samples
    ) -> None:
        self.began: float = time.perf_counter()
        self.models, self.mask, self.experiment, self.batches = [model], mask, experiment, batches
        on_gpu = batches.targets.device.type != "cpu"
        self.model, rest = sparse.compact(model, mask, below=0.0 if on_gpu else experiment.sparse_below)
        self.rest = None if rest is None or rest.density == 1 else rest
        self._perceptron = Perceptron.of(self.model, torch.bfloat16 if experiment.precision == "bfloat16" else None)
        if self._perceptron is not None:
            self.net, self.loss = self._perceptron, self._perceptron.loss
        else:
            if on_gpu:
                self.model.to(memory_format=torch.channels_last)
            self.net = torch.compile(self.model) if experiment.compiled else self.model  # type: ignore[assignment]
            self.loss = cross_entropy  # type: ignore[assignment]
        first = next((m for m in self.model.modules() if isinstance(m, nn.Linear | sparse.SparseLinear)), None)
        self.evaluated: list[list[Samples]]
        if self._perceptron is not None and isinstance(first, sparse.SparseLinear):
            size = EVALUATION_BATCH if first.density > SPARSE else 5 * EVALUATION_BATCH
            if not batches.augmentation and len(live := first.narrow_()) < train[0][0].numel():
                self.batches = batches.narrowed(live)
                train, test = ((inputs.flatten(1).index_select(1, live), labels) for inputs, labels in (train, test))
            self.evaluated = [[(_feature_major(x), y) for x, y in in_order(part, size)] for part in (train, test)]
        else:
            self.evaluated = [list(in_order(part)) for part in (train, test)]

    def epoch(self, number: int, first: int) -> Iterable[Samples]:
        """Return the batches of an epoch, from the ``first`` on."""
        return self.batches.epoch(number, first)

    def backward(self, inputs: Tensor, labels: Tensor) -> None:
        """Set the gradients of the mean cross-entropy of a batch."""
        if self._perceptron is not None:
            self._perceptron.backward(inputs, labels)
            return
        self.model.zero_grad()
        with self.autocast():
            loss = cross_entropy(self.net(inputs), labels)
        loss.backward()

    def stepper(self, optimizer: SGD) -> Callable[[Tensor, Tensor], None]:
        """Return what takes a step on a batch of inputs and labels."""

        def step_on(inputs: Tensor, labels: Tensor) -> None:
            self.backward(inputs, labels)
            optimizer.step()

        return step_on

    def evaluate(self) -> list[tuple[Evaluation, Evaluation]]:
        """Measure each net on the training and on the test samples."""
        with self.autocast():
            on_train, on_test = (evaluate(self.net, part, loss=self.loss) for part in self.evaluated)
        return [(on_train, on_test)]

    def autocast(self) -> torch.autocast:
        """Return the block in which the net is called."""
        return autocast(self.experiment.precision, self.batches.targets.device)

    def give_back_(self) -> None:
        """Copy the weights as they are now to the models that this was made of."""
        sparse.expand_(self.models[0], self.model, self.mask)

    @torch.no_grad()
    def momentum(self, optimizer: SGD) -> list[dict[str, Tensor]]:
        """Return each net's momentum under its own names, zero for pruned weights."""
        ours, theirs = deepcopy(self.models[0]), deepcopy(self.model)
        for (_, buffer), p in zip(parameters(theirs).items(), parameters(self.model).values(), strict=True):
            buffer.copy_(optimizer.state[p]["momentum_buffer"])
        sparse.expand_(ours, theirs, self.mask)
        return [{name: p.detach() for name, p in self.mask.apply_(ours).named_parameters()}]


def train(
    execution: Execution,
    optimizer: SGD,
    *,
    start: int,
    epochs: int,
    rate: Schedule,
    reached: Callable[[int], None] = lambda step: None,
) -> list[Curves]:
    """Train from step ``start`` to the end of epoch ``epochs``, in place, and return each net's curves.

    ``reached(step)`` is called before every step. Accuracy and loss on the training and test samples are measured after
    epochs, see :attr:`.Experiment.evaluate_every`.
    """
    e, n = execution.experiment, len(execution.batches)
    measured: list[tuple[int, list[tuple[Evaluation, Evaluation]]]] = []
    step_on = execution.stepper(optimizer)
    with seeded(e.model, "train", e.seed, start, epochs):
        for epoch in range(start // n, epochs):
            execution.model.train()
            first = max(start, epoch * n)
            for step, (inputs, labels) in enumerate(execution.epoch(epoch, first % n), first):
                reached(step)
                for group in optimizer.param_groups:
                    group["lr"] = rate(step)
                step_on(inputs, labels)
            done = epoch + 1
            if done % e.evaluate_every == 0 or done == epochs:
                measured.append((done, execution.evaluate()))
    nets = zip(*([(done, a.accuracy, b.accuracy, a.loss, b.loss) for a, b in every] for done, every in measured), strict=True)
    return [Curves.of(curve) for curve in nets]


def sgd(model: nn.Module, experiment: Experiment, momentum: Mapping[str, Tensor] | None = None) -> SGD:
    """Make the experiment's optimizer: fresh, or with the momentum of one that has run before."""
    optimizer = SGD(model.parameters(), experiment.learning_rate, experiment.momentum, weight_decay=experiment.weight_decay)
    for name, buffer in (momentum or {}).items():
        p = parameters(model)[name]
        optimizer.state[p]["momentum_buffer"] = buffer.to(p.device, copy=True)
    return optimizer


def in_order(samples: Samples, size: int | None = None) -> Iterator[Samples]:
    """Split inputs (n, ...) and labels (..., n) into batches, in order, as large as their device evaluates best."""
    inputs, labels = samples
    if size is None:
        size = EVALUATION_BATCH if inputs.device.type == "cpu" else 10 * EVALUATION_BATCH
    return zip(inputs.split(size), labels.split(size, dim=-1), strict=True)


def _feature_major(inputs: Tensor) -> Tensor:
    """Return the same inputs (b, features), each feature's together in memory."""
    return inputs.flatten(1).t().contiguous().t()
