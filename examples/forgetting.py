"""Forgetting
==========

The labels that go first, who pays for sparsity (Jin et al. 2022), and what only pruned nets get wrong (Hooker et al. 2020).
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from sparsedd import NoisyLabels, data, landscape, metrics, models, noise
from sparsedd.experiments import PRESETS, Store, run


def measure(e, out):
    """Return the margins of a sweep's levels on the training and on the test labels, (levels, n) each, and what is flipped."""
    source = data.DATASETS[e.dataset]()
    train = NoisyLabels(source.first(e.train_size).train, e.noise, num_classes=source.num_classes, seed=e.seed)
    inputs = source.train.tensors[0][: e.train_size]
    model, margins = models.lenet_300_100(in_features=inputs[0].numel(), width=e.width), []
    for level in run(e, out):
        with landscape.at(model, Store(out, e).weights(level.level)):
            margins.append([metrics.margins(model, [part]) for part in ((inputs, train.targets), source.test.tensors)])
    return *map(torch.stack, zip(*margins, strict=True)), train.flipped


def forgotten(margins):
    """Return the level from which on each label is known no more, (n,): as many as there are levels if it is to the end."""
    levels = torch.arange(1, len(margins) + 1)
    return ((margins > 0) * levels[:, None]).amax(dim=0)


def subgroups(margins, groups=4):
    """Return accuracy by seed, group and level: groups of test images from hard to easy, as the *other* seeds' margins say."""
    order = (margins.sum(0) - margins).mean(1).argsort(dim=1)
    known = (margins > 0).gather(2, order[:, None].expand_as(margins))
    return known.double().unflatten(2, (groups, -1)).mean(3).transpose(1, 2)


def only_pruned(margins):
    """Return for each level the share of images that most dense nets get right and most of its nets wrong, and the reverse."""
    right = (margins > 0).double().mean(0) > 0.5  # (levels, n)
    return (right[0] & ~right).double().mean(1), (~right[0] & right).double().mean(1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.rpartition("\n\n")[2])
    parser.add_argument("--scale", default="smoke", choices=("smoke", "small"))
    parser.add_argument("--out", type=Path, default=Path("out/forgetting"))
    options = parser.parse_args()
    e = replace(PRESETS["lenet-mnist"], noise=noise.Symmetric(0.4)).scaled(options.scale)
    train, test, flipped = zip(*(measure(replace(e, seed=seed), options.out) for seed in range(3)), strict=True)
    first, wrong = torch.cat([*map(forgotten, train)]), torch.cat(flipped)
    print(f"wrong labels are forgotten at level {first[wrong].median()}, right ones at level {first[~wrong].median()}")
    print("accuracy of quarters from hard to easy, by level:", subgroups(torch.stack(test)).mean(0))
    print("only pruned, and only dense nets get wrong:", *only_pruned(torch.stack(test)))
