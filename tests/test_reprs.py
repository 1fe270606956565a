"""In a notebook: the repr of every public value is one short sentence, and every plot gives its Axes."""

import inspect
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from helpers import net
from matplotlib import pyplot
from matplotlib.axes import Axes
from test_docs import public
from torch import nn
from torch.utils.data import TensorDataset

from sparsedd import Mask, NoisyLabels, Pruner, Rewinder, Sweep, data, experiments, metrics, noise, plotting, scores
from sparsedd.experiments import (
    FIGURES,
    PRESETS,
    Claim,
    Curves,
    Effect,
    Experiment,
    Finding,
    Line,
    Measures,
    Record,
    Redense,
    Store,
    Tables,
)
from sparsedd.fleet import Fleet
from sparsedd.phases import Phase, advise, boundaries, double_descent, phases
from sparsedd.sparse import SparseLinear
from sparsedd.sweeps import Level, StoredSweep

matplotlib.use("agg")
S, TRAIN, TEST = [0, 0.5, 0.9], [1.0, 1.0, 0.5], [0.8, 0.7, 0.85]
SWEEP = (
    "cifar100-resnet101-asymmetric40",
    Experiment(dataset="cifar100", model="resnet101", noise=noise.Asymmetric(0.4, "cifar100"), seed=123456),
)
CURVES = Curves.of((k, 1.0, 0.123456789, 0.1, 0.2) for k in range(1, 201))
MEASURES = {"train_accuracy": 1.0, "test_accuracy": 0.98765, "best_test_accuracy": 0.99, "best_epoch": 12}
MEASURES |= {"clean_accuracy": None, "flipped_accuracy": 0.5, "train_loss": 0.1, "test_loss": 0.2}
LEVEL = Record(31, 0.99902, 261, 123.456, 1234.5, MEASURES, CURVES)
MEASURES = dict.fromkeys(("train_loss", "train_accuracy", "test_loss", "test_accuracy"), tuple(np.linspace(0, 1, 101)))


def enforced() -> Any:
    model = net()
    return Mask.dense(model).enforce(model, torch.optim.SGD(model.parameters(), 0.1))


def rewinder() -> Rewinder:
    model = net()
    return Rewinder(step=1000, model=model, optimizer=torch.optim.SGD(model.parameters(), 0.1))


def stored() -> StoredSweep:
    with TemporaryDirectory() as out:
        next(iter(Sweep(out, net(), levels=1))).record()
        return StoredSweep(out)


def filled() -> Tables:
    tables = Tables()
    tables.add_levels(Experiment(), [LEVEL] * 2000)
    return tables


VALUES: dict[str, Callable[[], Any]] = {
    "sparsedd.Enforcement": enforced,
    "sparsedd.Mask": lambda: Mask.dense(net()),
    "sparsedd.NoisyLabels": lambda: NoisyLabels(
        TensorDataset(torch.arange(60_000) % 100, torch.arange(60_000) % 100), noise.Asymmetric(0.4, "cifar100")
    ),
    "sparsedd.Pruner": lambda: Pruner(scores.random(3), 1 / 3, "layer"),
    "sparsedd.Rewinder": rewinder,
    "sparsedd.data.Batches": lambda: data.Batches(
        data.blobs(shape=(3, 8, 8), train=2000, test=100), size=128, augmentation=(data.Flip(), data.Shift(4))
    ),
    "sparsedd.data.Data": lambda: data.blobs(shape=(3, 32, 32), train=2000, test=100),
    "sparsedd.data.Flip": data.Flip,
    "sparsedd.data.RandomResizedCrop": lambda: data.RandomResizedCrop(64),
    "sparsedd.data.Shift": lambda: data.Shift(4),
    "sparsedd.experiments.Claim": lambda: Claim("what the paper says of it, " * 9, "0.1 ± 0.2, " * 20, "cannot be told"),
    "sparsedd.sweeps.Curves": lambda: CURVES,
    "sparsedd.experiments.Drawing": lambda: FIGURES["5"].drawing,
    "sparsedd.experiments.Effect": lambda: Effect("fall of test accuracy", np.array([0.1, 0.2, 0.3])),
    "sparsedd.experiments.Measures": lambda: Measures(filled(), [SWEEP[1]]),
    "sparsedd.experiments.Experiment": lambda: SWEEP[1],
    "sparsedd.experiments.Figure": lambda: FIGURES["48"],
    "sparsedd.experiments.Finding": lambda: Finding(Path("runs") / SWEEP[1].folder, "a sentence " * 20),
    "sparsedd.Sweep": lambda: Sweep("runs", net(), Pruner(scores.random(3), 1 / 3, "layer"), levels=32),
    "sparsedd.sweeps.StoredSweep": stored,
    "sparsedd.sweeps.Level": lambda: Level(SimpleNamespace(levels=32), 3, Mask.dense(net()), 0, print),
    "sparsedd.sweeps.Record": lambda: replace(LEVEL, learning_distance=None),
    "sparsedd.experiments.Line": lambda: Line("direction 4", tuple(np.linspace(-1, 1, 101).tolist()), **MEASURES),
    "sparsedd.experiments.Panel": lambda: FIGURES["10"].panels[0],
    "sparsedd.experiments.Redense": lambda: Redense(31, 0.99902, 0.1, CURVES, CURVES, 12.3),
    "sparsedd.sweeps.Retraining": lambda: experiments.LR_REWINDING,
    "sparsedd.experiments.Store": lambda: Store("runs", SWEEP[1]),
    "sparsedd.experiments.Tables": filled,
    "sparsedd.fleet.Fleet": lambda: Fleet([net(), net(1)]),
    "sparsedd.metrics.Evaluation": lambda: metrics.Evaluation(1 / 3, 2 / 3, 10_000),
    "sparsedd.noise.Asymmetric": lambda: noise.Asymmetric(1 / 3, "cifar100-index"),
    "sparsedd.noise.Given": lambda: noise.Given(torch.arange(50_000) % 10, (torch.arange(50_000) ** 2) % 10),
    "sparsedd.noise.Pairflip": lambda: noise.Pairflip(1 / 3),
    "sparsedd.noise.Symmetric": lambda: noise.Symmetric(1 / 3, "permute"),
    "sparsedd.phases.Advice": lambda: advise(S, TRAIN, [TEST, TEST[::-1]]),
    "sparsedd.phases.Boundary": lambda: boundaries(S, TRAIN, [TEST, TEST[::-1]])[0],
    "sparsedd.phases.DoubleDescent": lambda: double_descent(S, [TEST, TEST[::-1]]),
    "sparsedd.phases.Interval": lambda: double_descent(S, [TEST, TEST[::-1]]).dip_interval,
    "sparsedd.phases.Landmarks": lambda: phases(S, TRAIN, TEST).landmarks(),
    "sparsedd.phases.Phase": lambda: Phase.CRITICAL,
    "sparsedd.phases.Phases": lambda: phases(S, TRAIN, TEST),
    "sparsedd.sparse.SparseLinear": lambda: SparseLinear(nn.Linear(784, 300), torch.rand(300, 784) < 0.1),
}
CONTAINERS = [name for name, value in public().items() if isinstance(value, dict | tuple) and not inspect.isclass(value)]


def test_every_public_class_has_a_value_here():
    assert {name for name, value in public().items() if inspect.isclass(value)} == set(VALUES)


@pytest.mark.parametrize("name", VALUES)
def test_the_repr_of_every_value_is_one_short_sentence(name):
    value = VALUES[name]()
    text = repr(value)
    assert "\n" not in text
    assert len(text) < 120, text
    assert type(value).__name__ in text
    assert not re.search(r" at 0x|object|np\.|tensor\(|nan", text), text
    assert not hasattr(value, "_repr_html_")


def test_so_is_that_of_every_figure_and_preset():
    values = [*FIGURES.values(), *PRESETS.values(), *(panel for figure in FIGURES.values() for panel in figure.panels)]
    assert max(map(len, map(repr, values))) < 120
    assert len(values) > 100


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_container_says_what_is_in_it(name):
    text = repr(public()[name])
    assert "\n" not in text
    assert " at 0x" not in text
    assert not hasattr(public()[name], "_repr_html_")


def test_the_containers_by_name_list_the_names():
    assert repr(experiments.METHODS) == "4 methods by name: 'ltr', 'lr-rewinding', 'finetuning', 'scratch'"
    for things in (FIGURES, PRESETS, data.DATASETS, noise.FLIPS):
        assert all(repr(name) in repr(things) for name in things)


def test_what_the_reprs_say():
    assert repr(LEVEL) == "Record(level 31, sparsity 99.90%, train accuracy 100.00%, test accuracy 98.77%)"
    assert repr(replace(LEVEL, learning_distance=None)).endswith("test accuracy 98.77%, diverged)")
    assert repr(CURVES) == "Curves(200 points to epoch 200, test accuracy 12.35%)"
    assert repr(filled()) == "Tables(2,000 rows of levels, 0 rows of epochs, 0 rows of lines)"
    assert repr(Line("interpolation", (), (), (), (), ())) == "Line(interpolation, 0 points)"
    found = double_descent([0, 0.8, 0.99], [[0.80, 0.70, 0.90], [0.82, 0.74, 0.92]])
    assert repr(found) == "DoubleDescent(dip 9.0 points at 80.00%, gain 10.0 points at 99.00%, 2 seeds)"
    assert repr(SparseLinear(nn.Linear(4, 2), torch.eye(2, 4) > 0)) == "SparseLinear(4 to 2 features, 25.00% of the weights)"
    assert repr(Finding(Path("runs"), "all is well", ok=True)) == "Finding(well: runs)"


# ---------------------------------------------------------------- plots

ALONG = dict.fromkeys(("train_loss", "test_loss", "train_accuracy", "test_accuracy"), TEST)
PLOTS: dict[str, Callable[..., Any]] = {
    "double_descent": lambda **ax: plotting.double_descent(S, TRAIN, TEST, phases=phases(S, TRAIN, TEST), **ax),
    "learning_distance": lambda **ax: plotting.learning_distance(S, [1.0, 2.0, 3.0], TEST, **ax),
    "against_sparsity": lambda **ax: plotting.against_sparsity(S, {"a": TEST}, ylabel="a", **ax),
    "against_epoch": lambda **ax: plotting.against_epoch({"a": ([1, 2, 3], TEST)}, mark=2, **ax),
    "interpolation": lambda **ax: plotting.interpolation([0, 0.5, 1], **ALONG, **ax),
    "loss_along": lambda **ax: plotting.loss_along([0, 0.5, 1], {"a": TEST}, **ax),
}


def test_every_plot_is_here_and_takes_ax():
    assert set(PLOTS) == set(plotting.__all__)
    for name in PLOTS:
        ax = inspect.signature(getattr(plotting, name)).parameters["ax"]
        assert ax.default is None
        assert ax.kind is ax.KEYWORD_ONLY


@pytest.mark.parametrize("name", PLOTS)
def test_every_plot_gives_the_axes_that_it_drew_on(name):
    before = pyplot.get_fignums()
    figure, (left, right) = pyplot.subplots(1, 2)
    try:
        assert PLOTS[name](ax=right) is right
        assert right.lines
        assert not left.has_data()
        assert pyplot.get_fignums() == [*before, figure.number]  # no other figure was opened
    finally:
        pyplot.close(figure)
    made = PLOTS[name]()
    try:
        assert isinstance(made, Axes)
        assert made.lines
        assert made.figure is not figure
    finally:
        pyplot.close(made.figure)
    assert math.isfinite(sum(made.get_xlim()))
