"""Remedies
========

Does the dip vanish with weight decay (Quétu and Milovanović 2023) or a sparse teacher (Quétu and Tartaglione 2024)?
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from sparsedd import NoisyLabels, Sweep, data, metrics, models, noise, phases, prunable
from sparsedd.experiments import PRESETS, Store, run


def distil(e, out, alpha=0.8, t=4.0):
    """Return the levels of a sweep whose nets learn from the net of ``e``'s level that does best on held-out, noisy labels."""
    source, n = data.DATASETS[e.dataset](), e.train_size
    x, y = source.train.tensors[0], NoisyLabels(source.train, e.noise, num_classes=source.num_classes, seed=e.seed).targets
    model, teacher = (models.lenet_300_100(in_features=x[0].numel(), width=e.width, seed=e.seed) for _ in range(2))
    validation = []
    for level in range(e.levels):
        teacher.load_state_dict(Store(out, e).weights(level))
        validation.append(metrics.evaluate(teacher, [(x[n : 2 * n], y[n : 2 * n])]).accuracy)
    teacher.load_state_dict(Store(out, e).weights(validation.index(max(validation))))
    place, names = out / "distilled" / f"seed-{e.seed}", prunable(model, exclude="fc3")
    sweep = Sweep(place, model, e.pruner, levels=e.levels, names=names, seed=e.seed, config={"alpha": alpha, "t": t})
    batches = data.Batches(source.first(n), y[:n], size=e.batch_size, seed=e.seed)
    for level in sweep:
        optimizer = torch.optim.SGD(model.parameters(), e.learning_rate)
        with level.enforce(optimizer):
            for inputs, targets in (batch for epoch in range(e.epochs) for batch in batches.epoch(epoch)):
                with torch.no_grad():
                    soft = log_softmax(teacher(inputs) / t, dim=1)
                logits = model(inputs)
                close = kl_div(log_softmax(logits / t, dim=1), soft, reduction="batchmean", log_target=True)
                optimizer.zero_grad()
                ((1 - alpha) * cross_entropy(logits, targets) + alpha * t**2 * close).backward()
                optimizer.step()
        level.record(train=metrics.evaluate(model, [(x[:n], y[:n])]), test=metrics.evaluate(model, [source.test.tensors]))
    return sweep.records


def remedies(e, out, decays):
    """Yield the name of each remedy and the levels that it gives, those of no remedy first."""
    for decay in (0.0, *decays):
        yield f"weight decay {decay:g}" if decay else "none", list(run(replace(e, weight_decay=decay), out))
    yield "distillation", list(distil(e, out))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.rpartition("\n\n")[2])
    parser.add_argument("--scale", default="smoke", choices=("smoke", "small"))
    parser.add_argument("--out", type=Path, default=Path("out/remedies"))
    options = parser.parse_args()
    e = replace(PRESETS["lenet-mnist"], noise=noise.Symmetric(0.4)).scaled(options.scale)
    for name, levels in remedies(e, options.out, (0.01,)):
        print(f"{name}: {phases.double_descent([r.sparsity for r in levels], [r.test_accuracy for r in levels])}")
