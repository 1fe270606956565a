"""Can sparsity clean labels? Wrong labels told by a sweep, and by what others use, against the trainings that each takes.

python benchmarks/clean_labels.py OUT          takes about an hour on one core; pip install 'sparsedd[benchmarks]'

Every way gives each training label a number that is low where the label looks wrong. As many labels are flagged as are wrong,
the lowest first; the false-negative rate is the share of the wrong ones that is not among them. No way sees a clean label: what
stops early stops where accuracy on held-out *noisy* labels is best. All nets are LeNet-300-100, trained as the sweep's dense
one. Where nets are trained on a part of the samples, each is counted as a training.

sweep: levels that know     the levels at which the label's logit is the highest; ties by the mean margin
sweep: margins              the mean margin over the levels
cleanlab                    its label quality of 5-fold out-of-sample probabilities (Northcutt et al. 2021)
AUM                         the mean margin over the epochs of nets that train on the label (Pleiss et al. 2020)
mean probability            the mean probability of the label over these epochs
noisy hold-out              the probability of the label where accuracy on a fifth of the noisy labels is best
second split                when it is forgotten while the other half is learned; ties by the mean margin (Maini et al. 2022)

With more trainings, each of these is an ensemble: a mean over other folds, splits and initial weights.
"""

import argparse
import csv
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim import SGD

from sparsedd import NoisyLabels, Pruner
from sparsedd.data import DATASETS
from sparsedd.experiments import PRESETS, Experiment, Store, run
from sparsedd.fleet import Fleet
from sparsedd.metrics import margins
from sparsedd.models import lenet_300_100
from sparsedd.noise import Asymmetric, Noise, Symmetric

NOISES: dict[str, Noise] = {
    "symmetric 40 %": Symmetric(0.4),
    "symmetric 20 %": Symmetric(0.2),
    "asymmetric 40 %": Asymmetric(0.4, "mnist"),
}
# The scale small with a fifth of its images, three quarters of its epochs, and two levels in one.
CUT = {"train_size": 2000, "epochs": 60, "evaluate_every": 60, "levels": 18, "pruner": Pruner(fraction=0.36)}
FOLDS = 5
COLUMNS = ("noise", "seed", "way", "trainings", "false_negative_rate")

Tensors = dict[str, Tensor]


def load(experiment: Experiment) -> tuple[Tensor, NoisyLabels]:
    """Return the flattened training inputs (n, features), and their labels."""
    source = DATASETS[experiment.dataset]().first(experiment.train_size)
    labels = NoisyLabels(source.train, experiment.noise, num_classes=source.num_classes, seed=experiment.seed)
    return source.train.tensors[0].flatten(1), labels


def make_model(experiment: Experiment, inputs: Tensor, seed: int) -> torch.nn.Module:
    return lenet_300_100(in_features=inputs.shape[1], width=experiment.width, seed=seed)


def make_fleet(experiment: Experiment, inputs: Tensor, seed: int, nets: int) -> Fleet:
    """Draw as many nets; the seeds of an experiment and of its repeats are far apart."""
    return Fleet(make_model(experiment, inputs, 1000 * experiment.seed + 10 * seed + k) for k in range(nets))


def train(experiment: Experiment, fleet: Fleet, inputs: Tensor, labels: Tensor, parts: Tensor) -> Iterator[Tensor]:
    """Train each net on its part of the samples, (nets, m) indices; yield all nets' logits (nets, n, C) after each epoch."""
    optimizer = SGD(fleet.parameters(), experiment.learning_rate)
    draw = torch.Generator().manual_seed(int(parts[0, 0]))
    for _ in range(experiment.epochs):
        orders = torch.stack([part[torch.randperm(len(part), generator=draw)] for part in parts])
        for batch in orders.split(experiment.batch_size, dim=1):
            fleet.backward(inputs[batch], labels[batch])
            optimizer.step()
        with torch.no_grad():
            yield fleet(inputs.expand(len(fleet), *inputs.shape))


def measure(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the margin and the probability of each label, (..., n)."""
    index = labels.expand(logits.shape[:-1])[..., None]
    others = logits.scatter(-1, index, -torch.inf).amax(-1)
    return logits.gather(-1, index)[..., 0] - others, logits.softmax(-1).gather(-1, index)[..., 0]


def whole(experiment: Experiment, inputs: Tensor, labels: Tensor, repeat: int) -> Tensors:
    """Train one net on all samples."""
    fleet = make_fleet(experiment, inputs, 900 + repeat, 1)
    everything = torch.arange(len(labels))[None]
    measured = [measure(logits[0], labels) for logits in train(experiment, fleet, inputs, labels, everything)]
    aum, probability = (torch.stack(each).mean(0) for each in zip(*measured, strict=True))
    return {"AUM": aum, "mean probability": probability}


def folds(experiment: Experiment, inputs: Tensor, labels: Tensor, repeat: int) -> Tensors:
    """Train five nets, each without another fifth of the samples."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(1000 * experiment.seed + repeat))
    inside = torch.ones(FOLDS, len(labels), dtype=torch.bool).scatter_(1, order.view(FOLDS, -1), False)
    parts = torch.stack([row.nonzero()[:, 0] for row in inside])
    fleet = make_fleet(experiment, inputs, repeat, FOLDS)
    sums, best, early = torch.zeros(2, len(labels)), torch.full((FOLDS,), -1.0), torch.empty(())
    for logits in train(experiment, fleet, inputs, labels, parts):
        last = logits.softmax(-1)
        sums += torch.stack([(each * inside).sum(0) for each in measure(logits, labels)])
        right = (logits.argmax(-1) == labels).float().masked_fill(inside, 0).sum(1)
        early = torch.where((right > best)[:, None, None], last, early)
        best = torch.maximum(right, best)
    aum, probability = sums / inside.sum(0) / experiment.epochs
    out = {name: (p * ~inside[..., None]).sum(0) for name, p in (("last", last), ("early", early))}
    own = early.gather(-1, labels.expand(FOLDS, -1)[..., None])[..., 0]
    return {"AUM": aum, "mean probability": probability, "noisy hold-out": own.mean(0), "one": own[0].clone(), **out}


def splits(experiment: Experiment, inputs: Tensor, labels: Tensor, repeat: int) -> Tensors:
    """Train two nets, each on one half of the samples and then on the other, and see when the first is forgotten."""
    draw = torch.Generator().manual_seed(1000 * experiment.seed + 500 + repeat)
    halves = torch.randperm(len(labels) // 2 * 2, generator=draw).view(2, -1)
    fleet = make_fleet(experiment, inputs, 500 + repeat, 2)
    for _ in train(experiment, fleet, inputs, labels, halves):
        pass
    measured = torch.stack([measure(logits, labels)[0] for logits in train(experiment, fleet, inputs, labels, halves.flip(0))])
    epochs = torch.arange(1, len(measured) + 1)[:, None, None]
    known = ((measured > 0) * epochs).amax(0) + measured.mean(0).sigmoid()  # the last epoch at which each label is known
    return {"second split": torch.zeros(len(labels)).scatter_(0, halves.flatten(), known.gather(1, halves).flatten())}


def sweep(experiment: Experiment, inputs: Tensor, labels: Tensor, out: Path) -> Tensors:
    """Run the sweep, and return the margins of each level, (levels, n)."""
    found = []
    for record in run(experiment, out):
        model = make_model(experiment, inputs, 0)
        model.load_state_dict(Store(out, experiment).weights(record.level))
        found.append(margins(model, zip(inputs.split(500), labels.split(500), strict=True)))
    return {"margins": torch.stack(found)}


def kept(path: Path, make: Callable[[], Tensors]) -> Tensors:
    """Return what was made before, or make it and keep it."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: t.contiguous() for name, t in make().items()}, path.with_suffix(".part"))
        path.with_suffix(".part").rename(path)
    return load_file(path)


def score(experiment: Experiment, out: Path, repeats: int, pairs: int) -> Iterator[tuple[str, int, Tensor]]:
    """Yield each way, the trainings that it took, and its number for each label."""
    from cleanlab.rank import get_label_quality_scores

    inputs, noisy = load(experiment)
    labels = noisy.targets
    place = out / "scores" / experiment.folder
    found = kept(place / "sweep.safetensors", lambda: sweep(experiment, inputs, labels, out))["margins"]
    yield "sweep: levels that know", len(found), (found > 0).sum(0) + found.mean(0).sigmoid()
    yield "sweep: margins", len(found), found.mean(0)
    for way, each in kept(place / "whole.safetensors", lambda: whole(experiment, inputs, labels, 0)).items():
        yield way, 1, each
    known = [kept(place / f"splits-{r}.safetensors", lambda r=r: splits(experiment, inputs, labels, r)) for r in range(pairs)]
    for count in sorted({1, pairs}):
        yield "second split", 2 * count, torch.stack([each["second split"] for each in known[:count]]).mean(0)
    every: list[Tensors] = []
    for repeat in range(repeats):
        every.append(kept(place / f"folds-{repeat}.safetensors", lambda r=repeat: folds(experiment, inputs, labels, r)))
        mean = {name: torch.stack([each[name] for each in every]).mean(0) for name in every[0]}
        if not repeat:
            yield "noisy hold-out", 1, mean["one"]
        for way in ("AUM", "mean probability", "noisy hold-out"):
            yield way, FOLDS * len(every), mean[way]
        for way, name in (("cleanlab", "last"), ("cleanlab stopped early", "early")):
            p = mean[name] / mean[name].sum(1, keepdim=True)
            quality = get_label_quality_scores(labels.numpy(), p.double().numpy())
            yield way, FOLDS * len(every), torch.from_numpy(quality)


def miss(scores: Tensor, flipped: Tensor) -> float:
    """Return the share of the wrong labels that are not among as many labels of the lowest scores."""
    flagged = scores.argsort(stable=True)[: int(flipped.sum())]
    return 1 - float(flipped[flagged].double().mean())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--scale", default="small", choices=("smoke", "small"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3, help="of the five folds")
    parser.add_argument("--pairs", type=int, default=5, help="of nets that learn one half after the other")
    options = parser.parse_args()
    torch.set_num_threads(1)
    base = PRESETS["lenet-mnist"].scaled(options.scale)
    base = base if options.scale == "smoke" else replace(base, **CUT)
    plan = [(name, replace(base, noise=noise, seed=seed)) for seed in range(options.seeds) for name, noise in NOISES.items()]
    options.out.mkdir(parents=True, exist_ok=True)
    with open(options.out / "clean_labels.csv", "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for noise, experiment in plan:
            flipped = load(experiment)[1].flipped
            for way, trainings, scores in score(experiment, options.out, options.repeats, options.pairs):
                row = noise, experiment.seed, way, trainings, round(miss(scores, flipped), 4)
                writer.writerow(row)
                file.flush()
                print(*row, sep=", ", flush=True)
