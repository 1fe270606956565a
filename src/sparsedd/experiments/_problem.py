"""Problem: what all levels of an experiment share, and how one level is made."""

import os
import time
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from sparsedd import _checks, _random, models, scores
from sparsedd._mask import Mask
from sparsedd._noisy_labels import NoisyLabels
from sparsedd._prunable import prunable
from sparsedd.data import DATASETS, Batches, Data
from sparsedd.experiments._execution import Execution, autocast, in_order, undisturbed
from sparsedd.experiments._experiment import Experiment
from sparsedd.experiments._level import Curves, Level, finite
from sparsedd.experiments._retraining import Schedule
from sparsedd.experiments._store import Store, fitting
from sparsedd.experiments._train import momentum_of, sgd, train
from sparsedd.metrics import evaluate, learning_distance


@lru_cache(maxsize=1)  # a worker process makes many problems of one data set
def _source(dataset: str, normalization: str, folder: str | None, device: torch.device) -> Data:
    return DATASETS[dataset](**({} if normalization == "dataset" else {"normalization": normalization})).to(device)


class Problem:
    """The data on the device, the original initialisation and the schedule of an experiment.

    ``source`` stands in for its data set.
    """

    @undisturbed()
    def __init__(self, experiment: Experiment, device: str | torch.device, source: Data | None = None) -> None:
        device = _checks.device("device", device)
        self.experiment = experiment
        if source is None:
            source = _source(experiment.dataset, experiment.normalization, os.environ.get("SPARSEDD_DATA"), device)
        if (experiment.train_size or 0) > len(source.train):
            raise ValueError(
                f"train_size must be at most {len(source.train):,} for {experiment.dataset}, got {experiment.train_size:,}."
            )
        source = source.first(experiment.train_size)
        noise = experiment.noise or (lambda labels, num_classes, seed: labels)
        noisy = NoisyLabels(source.train, noise, num_classes=source.num_classes, seed=experiment.seed)
        targets, self.flipped = noisy.targets.to(device), noisy.flipped.to(device)
        self.train = source.train.tensors[0], targets
        self.test = source.test.tensors[0], source.test.tensors[1]
        self.batches = Batches(
            source, targets, size=experiment.batch_size, augmentation=experiment.augmentation, seed=experiment.seed
        )
        seen = self.batches.sample(torch.arange(1), 0)[0].shape[1:]
        if seen != self.train[0].shape[1:]:
            raise ValueError(
                f"augmentation must give images of {tuple(self.train[0].shape[1:])}, as tested on, got {tuple(seen)}."
            )
        self.original = self.model(experiment.seed).to(device)
        self.names = prunable(self.original, exclude=experiment.exclude)
        self.steps = experiment.epochs * len(self.batches)
        self.rate = experiment.schedule(len(self.batches))
        if experiment.rewind_step >= self.steps:
            raise ValueError(f"rewind_step must be below the {self.steps:,} steps of level 0, got {experiment.rewind_step:,}.")

    def model(self, seed: int) -> nn.Module:
        """The experiment's model with initial weights of a seed."""
        e, inputs = self.experiment, self.train[0]
        size = {"in_features": inputs[0].numel()} if e.model == "lenet_300_100" else {"in_channels": inputs.shape[1]}
        make: Any = getattr(models, e.model)
        made: nn.Module = make(
            num_classes=self.batches.source.num_classes, width=e.width, seed=seed, initialization=e.initialization, **size
        )
        return made.float()  # drawn alike, whatever torch's default type is

    @undisturbed()
    def level(self, number: int, store: Store, tickets: Store | None = None) -> Level:
        """Prune, rewind and retrain as the experiment says, and store what came of it."""
        began = time.perf_counter()
        model = deepcopy(self.original)
        mask = self.mask(model, number, store, tickets)
        start, rate = self.begin(model, number, store)

        def reached(step: int) -> None:
            if number == 0 and step == self.experiment.rewind_step:
                execution.give_back_(model)
                store.save_start(model.state_dict())

        execution = self.execution(model, mask)
        fast, rest = execution.model, execution.rest
        optimizer = sgd(fast, self.experiment)
        with rest.enforce(fast, optimizer) if rest is not None else nullcontext():
            epochs = self.experiment.epochs
            curves = train(execution, optimizer, self.experiment, start=start, epochs=epochs, rate=rate, reached=reached)
            momentum = momentum_of(optimizer, model, fast, mask) if self.experiment.momentum else None
        execution.give_back_(model)
        record = replace(self.measured(number, model, mask, curves), seconds=time.perf_counter() - began)
        store.add(record, model.state_dict(), mask, momentum)
        return record

    def execution(self, model: nn.Module, mask: Mask) -> Execution:
        """The model as it is trained on this problem, with a mask."""
        return Execution(model, mask, self.experiment, self.batches, self.train, self.test)

    def mask(self, model: nn.Module, number: int, store: Store, tickets: Store | None) -> Mask:
        """The mask of a level; the model gets the trained weights that it is pruned from."""
        if number == 0:
            return Mask.dense(model, self.names)
        experiment = self.experiment
        source = 0 if experiment.one_shot else number - 1
        if tickets is None or experiment.retraining.weights == "keep":
            model.load_state_dict(fitting(store.weights_path(source), store.weights(source), model.state_dict()))
        dense = Mask.dense(model, self.names)
        if tickets is not None:
            return fitting(tickets.mask_path(number), tickets.mask(number), dense)
        pruner = experiment.pruner
        if pruner.score == "random":
            pruner = replace(pruner, score=scores.random(experiment.seed))
        if pruner.score == "gradient":
            key = ("gradient batch", experiment.seed, source + 1)  # one batch for a net: one-shot levels are nested
            samples = torch.from_numpy(_random.permutation(key, len(self.flipped))[: experiment.batch_size])
            scores.accumulate_(model, [self.batches.sample(samples, -source - 1)], cross_entropy)
        before = fitting(store.mask_path(source), store.mask(source), dense)
        if experiment.one_shot:
            return pruner._prune_to(model, pruner.sparsity(number), before)
        return pruner._prune(model, before)  # the report says which layers have become empty

    def begin(self, model: nn.Module, number: int, store: Store) -> tuple[int, Schedule]:
        """Give the model the weights that a level starts from; return the step and the learning rate's schedule."""
        experiment = self.experiment
        if experiment.retraining.weights == "reinit" and (number or experiment.tickets_of):
            seed = int(_random.integers(("reinit", experiment.seed, number), 1, 2**31)[0])
            models.initialize_(model, seed, experiment.initialization)
        elif experiment.retraining.weights == "rewind" and number:
            model.load_state_dict(fitting(store.start_path, store.start(), model.state_dict()))
        model.zero_grad()
        if number == 0 and experiment.tickets_of is None:
            return 0, self.rate
        return experiment.retraining.steps(self.rate, rewind_step=experiment.rewind_step, total=self.steps)

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
            learning_distance=finite(learning_distance(self.original, model)),
            train_loss=curves.train_loss[-1],
            test_loss=curves.test_loss[-1],
            seconds=0.0,
            epochs=curves,
        )

    def accuracy_where(self, model: nn.Module, where: Tensor) -> float | None:
        """Training accuracy on a part of the samples."""
        if not where.any():
            return None
        with autocast(self.experiment.precision, where.device):
            return evaluate(model, in_order((self.train[0][where], self.train[1][where]))).accuracy
