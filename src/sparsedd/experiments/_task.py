"""Task: what all levels of an experiment share, and how one level is trained."""

import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from sparsedd import _checks, _random, models, scores
from sparsedd._ambient import undisturbed
from sparsedd._mask import Mask
from sparsedd._noisy_labels import NoisyLabels
from sparsedd._prunable import prunable
from sparsedd._pruner import Pruner
from sparsedd.data import DATASETS, Batches, Data
from sparsedd.experiments._arithmetic import arithmetic, autocast
from sparsedd.experiments._experiment import Experiment
from sparsedd.experiments._own import Own, OwnData, call_with, calm, has_default, seeded, takes
from sparsedd.experiments._train import Execution, Samples, in_order, sgd, train
from sparsedd.metrics import Evaluation, evaluate
from sparsedd.noise import Given
from sparsedd.sweeps import Curves, Level, Record, Schedule


@lru_cache(maxsize=1)  # a worker process makes many tasks of one data set
def _load_source(dataset: Any, normalization: str, folder: str | None, device: torch.device) -> Data:
    if isinstance(dataset, OwnData):
        return dataset.load().to(device)
    return DATASETS[dataset](**({} if normalization == "dataset" else {"normalization": normalization})).to(device)


class Task:
    """The data on the device, the original initialisation and the schedule of an experiment.

    ``source`` stands in for its data set.
    """

    @undisturbed()
    def __init__(self, experiment: Experiment, device: str | torch.device, source: Data | None = None) -> None:
        device = _checks.device("device", device)
        self.experiment = experiment
        if source is None:
            source = _load_source(experiment.dataset, experiment.normalization, os.environ.get("SPARSEDD_DATA"), device)
        if (experiment.train_size or 0) > len(source.train):
            raise ValueError(
                f"train_size must be at most {len(source.train):,} for {experiment.dataset}, got {experiment.train_size:,}."
            )
        whole, source = source, source.first(experiment.train_size)
        noise = experiment.noise or (lambda labels, num_classes, seed: labels)
        given = noise.function if isinstance(noise, Own) and isinstance(noise.function, Given) else None
        train = whole.train if given and len(given.labels) == len(whole.train) else source.train  # given for all, compared so
        noisy = NoisyLabels(train, noise, num_classes=source.num_classes, seed=experiment.seed)
        targets, self.flipped = (found[: len(source.train)].to(device) for found in (noisy.targets, noisy.flipped))
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
        self.names = self._choose_names()
        self.steps = experiment.epochs * len(self.batches)
        self.rate = experiment.schedule(len(self.batches))
        if experiment.rewind_step >= self.steps:
            raise ValueError(f"rewind_step must be below the {self.steps:,} steps of level 0, got {experiment.rewind_step:,}.")

    def _choose_names(self) -> tuple[str, ...]:
        e = self.experiment
        try:
            return prunable(self.original, exclude=e.exclude)
        except ValueError as error:
            if isinstance(e.model, Own) and str(error).startswith("exclude"):
                raise ValueError(f"{error} exclude={e.exclude!r} is of a preset's net: pass exclude=().") from None
            raise

    def model(self, seed: int) -> nn.Module:
        """Make the experiment's model with initial weights of a seed."""
        e, inputs = self.experiment, self.train[0]
        sizes = {"in_features": inputs[0].numel(), "in_channels": inputs.shape[1]}
        given: dict[str, Any] = {"num_classes": self.batches.source.num_classes, "width": e.width, "seed": seed}
        given["initialization"] = e.initialization
        if isinstance(e.model, Own):
            return self._own_model(e.model, **given, **sizes)
        size = "in_features" if e.model == "lenet_300_100" else "in_channels"
        made: nn.Module = getattr(models, e.model)(**given, **{size: sizes[size]})  # type: ignore[arg-type]
        return made.float()  # drawn alike, whatever torch's default type is

    def _own_model(self, function: Own, **given: Any) -> nn.Module:
        """Draw a model of the user's own, twice, so that one whose weights don't depend on the seed alone is noticed."""
        e, device = self.experiment, self.train[0].device
        for name, default in (("width", 1.0), ("initialization", "paper")):
            if getattr(e, name) == default and has_default(function, name):
                del given[name]  # the function's own, which may count otherwise
            elif getattr(e, name) != default and name not in takes(function):
                raise ValueError(f"{function!r} takes no {name}, and the experiment has {name}={getattr(e, name)!r}.")
        if e.retraining.weights == "reinit" and "seed" not in takes(function):
            raise ValueError(f"{e.retraining!r} draws new weights, and {function!r} takes no seed to draw them by.")
        with calm():  # around both: where the first leaves the global generators, the second goes on
            made, again = (call_with(function, **given) for _ in range(2))
        _checks.kind(f"what {function!r} returns", made, nn.Module, "a torch.nn.Module")
        first, second = made.state_dict(), again.state_dict()
        if first.keys() != second.keys() or not all(map(torch.equal, first.values(), second.values())):
            raise ValueError(
                f"{function!r} must return the same weights each time that it is called with the same seed: let it take seed, "
                "and end with sparsedd.models.initialize_(model, seed), or draw from a generator of its own."
            )
        with torch.no_grad(), self.arithmetic(), self.autocast():
            logits = _checks.output(deepcopy(made).float().to(device).eval()(self.train[0][:2]))
        if logits.dim() != 2 or logits.shape[1] < given["num_classes"]:
            wanted = f"logits (b, {given['num_classes']}) of inputs (b, ...)"
            raise ValueError(f"the model of {function!r} must return {wanted}, got {tuple(logits.shape)} for two.")
        model: nn.Module = made.float()
        return model

    def retrain(self, level: Level, model: nn.Module) -> Record:
        """Retrain a level's net as the experiment says, and record what came of it."""
        return retrain(self.execution(model, level.mask), [self], [level])[0]

    def execution(self, model: nn.Module, mask: Mask) -> Execution:
        """Return the model as it is trained on this task, with a mask."""
        return Execution(model, mask, self.experiment, self.batches, self.train, self.test)

    def rate_of(self, level: Level) -> Schedule:
        """Return the learning rate of a level as a function of the step."""
        e = self.experiment
        if level.number == 0 and e.tickets_of is None:
            return self.rate
        return e.retraining.steps(self.rate, rewind_step=e.rewind_step, total=self.steps)[1]

    def stays_at_last_rate(self, level: Level) -> bool:
        """Return whether a level has one learning rate, where the schedule has several: all else about its rate is shared."""
        e = self.experiment
        several = e.warmup_epochs > 0 or any(0 < epoch < e.epochs for epoch in e.milestones)
        return several and e.retraining.schedule == "final" and not (level.number == 0 and e.tickets_of is None)

    def prune(self, model: nn.Module, source: int, prune: Callable[[Pruner], Mask]) -> Mask:
        """Prune the net of a level by the experiment's score: ``prune`` gets the pruner that scores it."""
        e = self.experiment
        if e.pruner.score == "random":
            return prune(replace(e.pruner, score=scores.random(e.seed)))
        if e.pruner.score == "gradient" or isinstance(e.pruner.score, Own):
            key = ("gradient batch", e.seed, source + 1)  # one batch for a net: one-shot levels are nested
            samples = torch.from_numpy(_random.permutation(key, len(self.flipped))[: e.batch_size])
            with seeded(e.model, "score", e.seed, source), self.autocast():
                scores.accumulate_(model, [self.batches.sample(samples, -source - 1)], cross_entropy)
        return prune(e.pruner)

    def check(self) -> None:
        """Prune the original net once: what is wrong with a score of the user's own is an error before any training."""
        dense = Mask.dense(self.original, self.names)
        with self.arithmetic():
            self.prune(self.original, 0, lambda pruner: pruner._prune(self.original, dense))

    def measure(self, model: nn.Module, curves: Curves) -> dict[str, float | None]:
        """Return the measures of a level."""
        best = max(curves.test_accuracy)
        return {
            "train_accuracy": curves.train_accuracy[-1],
            "test_accuracy": curves.test_accuracy[-1],
            "best_test_accuracy": best,
            "best_epoch": curves.epoch[curves.test_accuracy.index(best)],
            "clean_accuracy": self.measure_where(model, ~self.flipped),
            "flipped_accuracy": self.measure_where(model, self.flipped),
            "train_loss": curves.train_loss[-1],
            "test_loss": curves.test_loss[-1],
        }

    def measure_where(self, model: nn.Module, where: Tensor) -> float | None:
        """Measure training accuracy on a part of the samples."""
        if not where.any():
            return None
        return self.evaluate(model, (self.train[0][where], self.train[1][where])).accuracy

    def evaluate(self, model: nn.Module, samples: Samples) -> Evaluation:
        """Measure a net on samples, as training does."""
        with self.autocast():
            return evaluate(model, in_order(samples))

    def arithmetic(self) -> AbstractContextManager[None]:
        """Return the block in which everything of a level is computed."""
        return arithmetic(self.experiment.precision, self.flipped.device)

    def autocast(self) -> torch.autocast:
        """Return the block in which a net is called."""
        return autocast(self.experiment.precision, self.flipped.device)


def retrain(execution: Execution, tasks: Sequence[Task], levels: Sequence[Level]) -> list[Record]:
    """Train the nets of one level, in place, and record what came of it: one net, or as many as the execution is of."""
    e, level = execution.experiment, levels[0]

    def reached(step: int) -> None:
        for task, level in zip(tasks, levels, strict=True):
            if level.number == 0 and step == task.experiment.rewind_step > 0:
                execution.give_back_()
                level.reached(step)

    optimizer, rest, rate = sgd(execution.model, e), execution.rest, tasks[0].rate_of(level)
    with rest.enforce(execution.model, optimizer) if rest is not None else nullcontext():
        curves = train(execution, optimizer, start=level.step, epochs=e.epochs, rate=rate, reached=reached)
    momenta = execution.momentum(optimizer) if e.momentum else [None] * len(levels)
    execution.give_back_()
    measures = [task.measure(model, curve) for task, model, curve in zip(tasks, execution.models, curves, strict=True)]
    seconds = (time.perf_counter() - execution.began) / len(levels)
    every = zip(levels, measures, curves, momenta, strict=True)
    return [level._finish(measured, curve, momentum, seconds) for level, measured, curve, momentum in every]
