"""run: an experiment, level by level."""

import os
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from sparsedd import _random, data, models, scores, sparse
from sparsedd._mask import Mask
from sparsedd._noisy_labels import NoisyLabels
from sparsedd._parameters import prunable
from sparsedd.experiments._experiment import Experiment
from sparsedd.experiments._level import Curves, Level
from sparsedd.experiments._store import Store
from sparsedd.experiments._train import batches, schedule, train
from sparsedd.metrics import evaluate, learning_distance


def run(experiment: Experiment, out: str | os.PathLike[str], *, device: str | torch.device = "cpu") -> Iterator[Level]:
    """Run an experiment, yielding each level when it has finished and is stored.

    Levels that the folder ``out`` already holds are yielded from there. A run that was stopped at any moment goes on with the
    level it was in, and gives the same results, bit for bit, on one machine with one number of threads.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as out:
    ...     levels = list(run(Experiment().scaled("smoke"), out))
    >>> [level.remaining for level in levels]
    [5040, 4032, 3225]
    """
    device = torch.device(device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise RuntimeError(f"device must be one that torch finds, got {str(device)!r} on a machine without CUDA: use 'cpu'.")
    store = Store(out, experiment)
    finished = store.levels()
    yield from finished
    if len(finished) == experiment.levels:
        return
    problem = _Problem(experiment, device)
    with store.locked():
        seen = len(finished)
        finished = store.levels()  # somebody else may have had the lock
        yield from finished[seen:]
        for number in range(len(finished), experiment.levels):
            yield problem.level(number, store)


class _Problem:
    """What all levels of an experiment share: the data on the device, the original initialisation and the schedule."""

    def __init__(self, experiment: Experiment, device: torch.device) -> None:
        self.experiment = experiment
        source = getattr(data, experiment.dataset)()
        noisy = NoisyLabels(
            source.train,
            experiment.noise or (lambda labels, num_classes, seed: labels),
            num_classes=source.num_classes,
            seed=experiment.seed,
        )
        if (experiment.train_size or 0) > len(noisy):
            raise ValueError(
                f"train_size must be at most {len(noisy):,} for {experiment.dataset}, got {experiment.train_size:,}."
            )
        taken = slice(experiment.train_size)
        inputs = source.train.tensors[0][taken]
        self.flipped = noisy.flipped[taken].to(device)
        self.train = inputs.to(device), noisy.targets[taken].to(device)
        self.test = source.test.tensors[0].to(device), source.test.tensors[1].to(device)
        make: Any = getattr(models, experiment.model)
        self.original: nn.Module = make(
            in_features=inputs[0].numel(), num_classes=source.num_classes, width=experiment.width, seed=experiment.seed
        ).to(device)
        self.names = prunable(self.original, exclude=experiment.exclude)
        self.steps_per_epoch = -(-len(inputs) // experiment.batch_size)
        self.rate = schedule(experiment, self.steps_per_epoch)
        if experiment.rewind_step >= experiment.epochs * self.steps_per_epoch:
            raise ValueError(
                f"rewind_step must be below the {experiment.epochs * self.steps_per_epoch:,} steps of level 0, "
                f"got {experiment.rewind_step:,}."
            )

    def level(self, number: int, store: Store) -> Level:
        """Prune, rewind and retrain as the experiment says, and store what came of it."""
        began = time.perf_counter()
        experiment = self.experiment
        model = deepcopy(self.original)
        if number == 0:
            mask = Mask.dense(model, self.names)
            start, rate = 0, self.rate
        else:
            model.load_state_dict(store.weights(number - 1))
            mask = self.pruned(model, store.mask(number - 1), number)
            start, rate = self.start(model, number, store)

        def reached(step: int) -> None:
            if number == 0 and step == experiment.rewind_step:
                store.save_start(model.state_dict())

        fast, rest = sparse.compact(model, mask, below=experiment.sparse_below) if number else (model, None)
        curves = train(fast, rest, experiment, (self.train, self.test), start=start, rate=rate, reached=reached)
        if fast is not model:
            sparse.expand_(model, fast, mask)
        record = self.measured(number, model, mask, curves)
        record = replace(record, seconds=time.perf_counter() - began)
        store.add(record, model.state_dict(), mask)
        return record

    def pruned(self, model: nn.Module, mask: Mask, number: int) -> Mask:
        """The mask of a level, from the trained weights and the mask of the one before."""
        experiment = self.experiment
        pruner = experiment.pruner
        if pruner.score == "random":
            pruner = replace(pruner, score=scores.random(experiment.seed))
        if pruner.score == "gradient":
            inputs, labels = self.train
            key = ("gradient batch", experiment.seed, number)
            batch = torch.from_numpy(_random.permutation(key, len(labels))[: experiment.batch_size]).to(labels.device)
            scores.accumulate_(model, [(inputs[batch], labels[batch])], cross_entropy)
        return pruner.prune(model, mask)

    def start(self, model: nn.Module, number: int, store: Store) -> tuple[int, Callable[[int], float]]:
        """Give the model the weights that the level starts from; return the step and the learning rate's schedule."""
        experiment = self.experiment
        if experiment.retraining.weights == "rewind":
            model.load_state_dict(store.start())
        elif experiment.retraining.weights == "reinit":
            models.initialize_(model, int(_random.integers(("reinit", experiment.seed, number), 1, 2**31)[0]))
        model.zero_grad()
        if experiment.retraining.schedule == "rewind":
            return experiment.rewind_step, self.rate
        if experiment.retraining.schedule == "restart":
            return 0, self.rate
        return 0, lambda step: self.rate(self.steps_per_epoch * experiment.epochs - 1)

    def measured(self, number: int, model: nn.Module, mask: Mask, curves: Curves) -> Level:
        """The record of a level, but for the time it took."""
        best = max(curves.test_accuracy)
        return Level(
            level=number,
            sparsity=mask.sparsity,
            remaining=mask.remaining,
            train_accuracy=curves.train_accuracy[-1],
            test_accuracy=curves.test_accuracy[-1],
            best_test_accuracy=best,
            best_epoch=curves.epoch[curves.test_accuracy.index(best)],
            clean_accuracy=self.accuracy_where(model, ~self.flipped),
            flipped_accuracy=self.accuracy_where(model, self.flipped),
            learning_distance=learning_distance(self.original, model),
            train_loss=curves.train_loss[-1],
            test_loss=curves.test_loss[-1],
            seconds=0.0,
            epochs=curves,
        )

    def accuracy_where(self, model: nn.Module, where: Tensor) -> float | None:
        """Training accuracy on a part of the samples."""
        if not where.any():
            return None
        return evaluate(model, batches(self.train[0][where], self.train[1][where])).accuracy
