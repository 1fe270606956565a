"""Fewer trainings
===============

One-shot levels do not need each other: a search finds the best sparsity without training them all.
"""

import argparse
from functools import cache, partial
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy

from sparsedd import Mask, NoisyLabels, data, metrics, models, prunable
from sparsedd.experiments import PRESETS


def search(measure, levels, every=4):
    """Measure every so many-th level, then those around the best, closer and closer; return the best, and all by level."""
    found, wanted = {}, range(0, levels, every)
    while every:
        found |= {level: measure(level) for level in wanted if level not in found and 0 <= level < levels}
        best, every = max(found, key=found.get), every // 2
        wanted = (best - every, best + every)
    return best, found


def one_shot(e):
    """Return a function of the level that trains it, and returns its accuracy on validation and on test data."""
    source, n = data.DATASETS[e.dataset](), e.train_size
    labels = NoisyLabels(source.train, e.noise, num_classes=source.num_classes, seed=e.seed).targets
    held = source.train.tensors[0][n : 2 * n], labels[n : 2 * n]  # not trained on, and as noisy
    batches = data.Batches(source.first(n), labels[:n], size=e.batch_size, seed=e.seed)
    start = partial(models.lenet_300_100, in_features=held[0][0].numel(), width=e.width, seed=e.seed)
    dense = Mask.dense(start(), prunable(start(), exclude="fc3"))

    @cache
    def train(level):
        mask = e.pruner.prune_to(train(0), e.pruner.sparsity(level), dense) if level else dense
        optimizer = torch.optim.SGD((model := start()).parameters(), e.learning_rate)
        with mask.enforce(model, optimizer):
            for inputs, targets in (batch for epoch in range(e.epochs) for batch in batches.epoch(epoch)):
                optimizer.zero_grad()
                cross_entropy(model(inputs), targets).backward()
                optimizer.step()
        return model

    return lambda level: [metrics.evaluate(train(level), [part]).accuracy for part in (held, source.test.tensors)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.rpartition("\n\n")[2])
    parser.add_argument("--scale", default="smoke", choices=("smoke", "small"))
    parser.add_argument("--out", type=Path, default=Path("out/fewer_trainings"))
    options = parser.parse_args()
    measure, levels = one_shot(PRESETS["lenet-mnist"].scaled(options.scale)), 32
    best, found = search(lambda level: measure(level)[0], levels)
    print(f"{len(found)} of {levels} trainings: level {best} is best, {measure(best)[1]:.1%} of the test labels")
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "search.txt").write_text("".join(f"level {level}: {found[level]:.1%}\n" for level in sorted(found)))
