"""The paper's 49 figures: as data, and each computed at smoke scale."""

import csv
from collections import Counter
from dataclasses import replace

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot

from sparsedd import Pruner, noise
from sparsedd.experiments import (
    FIGURES,
    LR_REWINDING,
    PRESETS,
    Panel,
    Tables,
    reproduce,
)
from sparsedd.experiments._figures import _figure
from sparsedd.experiments._figures._measures import Levels

matplotlib.use("agg")


@pytest.fixture(autouse=True)
def _closed():
    yield
    pyplot.close("all")


# ---------------------------------------------------------------- as data


def sweeps(number, *panels):
    """The experiments of a figure's panels."""
    figure = FIGURES[str(number)]
    return [panel.sweeps[0] for k, panel in enumerate(figure.panels) if not panels or k in panels]


def test_there_are_all_49():
    assert list(FIGURES) == [str(number) for number in range(1, 50)]
    assert [figure.number for figure in FIGURES.values()] == list(range(1, 50))
    assert len({figure.caption for figure in FIGURES.values()}) >= 45


def test_the_unique_sweeps_are_those_of_the_paper():
    every = {experiment for figure in FIGURES.values() for experiment in figure.experiments}
    assert Counter((e.dataset, e.model) for e in every) == {
        ("mnist", "lenet_300_100"): 10,
        ("cifar10", "resnet18"): 22,
        ("cifar10", "vgg16"): 3,
        ("cifar100", "resnet18"): 22,
        ("cifar100", "vgg16"): 3,
        ("tiny_imagenet", "resnet101"): 1,
    }
    assert {e.scale for e in every} == {"paper"}
    assert {e.seed for e in every} == {0}
    names = {replace(e, seed=0).name for e in every}
    assert len(names) == len(every), "a name says which sweep it is"
    assert len({e.scaled("smoke").name for e in every}) == len(every)
    for e in every:
        preset = next(p for p in PRESETS.values() if (p.dataset, p.model, p.scale) == (e.dataset, e.model, "paper"))
        same = {"noise": e.noise, "pruner": e.pruner, "retraining": e.retraining, "tickets_of": e.tickets_of}
        assert replace(preset, **same) == e, "the protocol is the table's row"
        assert e.pruner.fraction == 0.2


def test_figures_that_share_runs_have_the_same_experiments():
    assert sweeps(1) == sweeps(32) == sweeps(13, 0) + sweeps(16, 0) + sweeps(23, 0)
    assert sweeps(2) == sweeps(24) == sweeps(11)
    assert sweeps(3) == sweeps(26) == sweeps(49)
    assert sweeps(4) == sweeps(16, 0) + sweeps(17, 0) + sweeps(18, 0) == sweeps(46)
    assert sweeps(5) == sweeps(9) == sweeps(13, 0) == sweeps(44, 0) == sweeps(35, 0)
    assert set(sweeps(6)) == set(sweeps(39)) == set(sweeps(42)) == set(sweeps(7)) == set(sweeps(8)) == set(sweeps(43, 1))
    assert sweeps(12) == sweeps(48, 0)
    assert FIGURES["10"].panels == FIGURES["33"].panels[:1]
    assert FIGURES["6"].panels[1].factor == 1.0
    assert [p.factor for p in FIGURES["38"].panels] == [p.factor for p in FIGURES["39"].panels] == [1.0] * 4 + [0.1] * 4
    assert [p.at for p in FIGURES["40"].panels] == [0, 1, 2, 3]
    assert FIGURES["7"].panels[0].at == 2


def test_noises_and_methods_are_those_of_the_captions():
    assert [e.noise for e in sweeps(21)] == [noise.Asymmetric(0.2, "cifar10")] * 3
    assert [e.noise for e in sweeps(22)] == [noise.Pairflip(0.2)] * 3
    assert [e.noise for e in sweeps(28)] == [noise.Asymmetric(0.4, "cifar100")] * 3
    assert [e.noise for e in sweeps(29)] == [noise.Pairflip(0.4)] * 3
    assert [e.noise for e in sweeps(31)] == [None, None]
    assert [e.noise.rate for e in sweeps(44)] == [0.2, 0.4, 0.8]
    assert [e.pruner.score for e in sweeps(13)] == ["magnitude", "gradient", "random"]
    assert sweeps(45)[0].retraining == LR_REWINDING
    assert all(panel.sweeps[1] == panel.sweeps[0].reinitialized() for panel in FIGURES["34"].panels)


@pytest.mark.parametrize(("number", "scale", "count"), [("1", "paper", 5 + 3 + 3), ("13", "small", 9), ("13", "smoke", 6)])
def test_seeds_are_as_many_as_the_paper_has(number, scale, count):
    members = FIGURES[number].scaled(scale).members()
    assert len(members) == len({(e.name, e.seed) for e in members}) == count
    assert [e.seed for e in FIGURES["5"].members(seeds=2, seed=7)] == [7, 8]


# ---------------------------------------------------------------- on another preset


def test_a_figure_on_another_preset_varies_what_it_varied():
    figure = FIGURES["33"].on(PRESETS["lenet-mnist"])
    assert [panel.title for panel in figure.panels] == [f"MNIST, ε = {rate} %" for rate in (20, 40, 80)]
    mnist = [replace(PRESETS["lenet-mnist"], noise=noise.Symmetric(rate)) for rate in (0.2, 0.4, 0.8)]
    assert [panel.sweeps for panel in figure.panels] == [(e, e.reinitialized()) for e in mnist]
    assert figure.label == "Figure 33 on MNIST"
    methods = FIGURES["3"].on(PRESETS["lenet-mnist"]).experiments
    assert [e.retraining for e in methods] == [e.retraining for e in sweeps(3)]
    assert {e.dataset for e in methods} == {"mnist"}
    one_shot = replace(PRESETS["lenet-mnist"], one_shot=True)
    assert FIGURES["5"].on(one_shot) == FIGURES["5"], "what a figure varies is its own"


def test_how_much_is_pruned_is_the_presets_unless_the_figure_compares_it():
    preset = replace(PRESETS["lenet-mnist"], pruner=Pruner("random", 0.5, "layer"))
    strategies = FIGURES["13"].on(preset).experiments
    assert [e.pruner for e in strategies] == [Pruner(score, 0.5, "layer") for score in ("magnitude", "gradient", "random")]
    panels = tuple(Panel(scope, (replace(preset, pruner=Pruner(scope=scope)),)) for scope in ("global", "layer"))
    compared = replace(FIGURES["13"], panels=panels).on(preset).experiments
    assert [e.pruner for e in compared] == [Pruner(fraction=0.5), Pruner(fraction=0.5, scope="layer")]


def test_panels_that_have_become_the_same_are_shown_once():
    assert FIGURES["31"].on(PRESETS["lenet-mnist"]).panels[0].sweeps == (replace(PRESETS["lenet-mnist"], noise=None),)
    figure = FIGURES["1"].on(PRESETS["lenet-mnist"])
    assert (len(figure.panels), figure.columns) == (1, 1)
    assert FIGURES["38"].on(PRESETS["lenet-mnist"]).columns == 4


def test_a_figure_of_a_preset_only_stays():
    for number, figure in FIGURES.items():
        same = {(e.dataset, e.model) for e in figure.experiments} == {("mnist", "lenet_300_100")}
        assert (figure.on(PRESETS["lenet-mnist"]) == figure) == same, number


def test_asymmetric_noise_goes_where_it_is_defined():
    assert FIGURES["28"].on(PRESETS["resnet18-cifar10"]).experiments[0].noise == noise.Asymmetric(0.4, "cifar10")
    with pytest.raises(ValueError, match="not defined for tiny_imagenet, only for mnist"):
        FIGURES["28"].on(PRESETS["resnet101-tiny-imagenet"])


# ---------------------------------------------------------------- at smoke scale

LINES = {"accuracy": 2, "phases": 2, "distance": 2, "best": 3, "gap": 1, "tickets": 2, "dynamics": 8, "redense": 3}
LINES |= {"interpolation": 4, "directions": 4}  # of these a re-dense panel has one for the epoch of the change


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Where all figures keep their runs."""
    return tmp_path_factory.mktemp("runs")


@pytest.mark.parametrize("number", FIGURES)
def test_a_figure_at_smoke_scale(tmp_path, runs, number):
    figure = FIGURES[number].scaled("smoke")
    seeds = 2 if figure.experiments[0].dataset == "digits" else 1
    claims = reproduce(figure, tmp_path, runs=runs, seeds=seeds)
    assert (tmp_path / "figure.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert claims
    assert {claim.verdict for claim in claims} == {"cannot be told"}, "one or two seeds tell nothing"

    rows = list(csv.DictReader((tmp_path / "levels.csv").read_text().splitlines()))
    keys = {(row["experiment"], int(row["seed"]), int(row["level"])) for row in rows}
    assert len(keys) == len(rows)
    assert keys == {(e.name, e.seed, level) for e in figure.members(seeds) for level in range(3)}
    assert {row["scale"] for row in rows} == {"smoke"}

    tables = Tables.read(tmp_path)
    picture = figure.draw(tables)
    assert f"Figure {number}, smoke scale, {seeds} seed" in picture.get_suptitle()
    titled = [ax for ax in picture.axes if ax.get_title()]
    assert [ax.get_title().split("\n")[0] for ax in titled] == [panel.title for panel in figure.panels]
    for ax in titled:
        twins = [other for other in picture.axes if other.bbox.bounds == ax.bbox.bounds]
        lines = [line for other in twins for line in other.get_lines()]
        assert len(lines) == LINES[figure.drawing.draw.__name__.removeprefix("draw_")]
        assert all(np.isfinite(line.get_ydata()).all() for line in lines)
        assert ax.get_xlabel()
        assert all(other.get_ylabel() for other in twins)
    again = _figure.finish(figure, tmp_path / "again", tables)
    assert again == claims
    for name in ("levels.csv", "epochs.csv", "lines.csv", "figure.png", "claims.md"):
        assert (tmp_path / name).exists() == (tmp_path / "again" / name).exists()
        if (tmp_path / name).exists():
            assert (tmp_path / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    needed = {"redense": {"epochs.csv"}, "epochs": {"epochs.csv"}, None: set()}.get(figure.drawing.needs, {"lines.csv"})
    assert {path.name for path in tmp_path.glob("*.csv")} == {"levels.csv"} | needed


def test_the_landmarks_of_a_figure_are_those_that_phases_finds(tmp_path, runs):
    figure = FIGURES["37"].scaled("smoke")
    reproduce(figure, tmp_path, runs=runs, seeds=2)
    rows = Tables.read(tmp_path)
    sweep = Levels.of(rows.levels, figure.experiments[0].name)
    assert {row["level"] for row in rows.epochs} == {mark.level for mark in sweep.landmarks}
    trainings = {row["training"] for row in rows.epochs}
    assert trainings == {"sparse", "re-dense × 1"}


def test_experiments_that_differ_in_anything_stand_in_one_figure(tmp_path, runs):
    figure = FIGURES["5"].scaled("smoke")
    (panel,) = figure.panels
    narrow = replace(panel, title="narrow", sweeps=(replace(panel.sweeps[0], width=0.1),))
    short = replace(panel, title="short", sweeps=(replace(panel.sweeps[0], epochs=1),))
    figure = replace(figure, panels=(panel, narrow, short), columns=3)
    reproduce(figure, tmp_path, runs=runs, seeds=1)
    tables = Tables.read(tmp_path)
    assert figure.is_of(tables)
    assert not FIGURES["5"].is_of(tables)
    assert {row["experiment"].removeprefix(panel.sweeps[0].name) for row in tables.levels} == {
        " width=0.2 epochs=2",
        " width=0.1 epochs=2",
        " width=0.2 epochs=1",
    }
    titles = [ax.get_title() for ax in figure.draw(tables).axes if ax.get_title()]
    assert titles == [panel.title, "narrow", "short"]


def test_tables_of_something_else_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no levels\.csv"):
        Tables.read(tmp_path)
    (tmp_path / "levels.csv").write_text("experiment,scale\na,smoke\n")
    with pytest.raises(ValueError, match=r"levels\.csv has no column level, seed, sparsity, test_accuracy, train_accuracy"):
        Tables.read(tmp_path)
    with pytest.raises(ValueError, match="no rows of"):
        FIGURES["5"].draw(Tables())
    with pytest.raises(ValueError, match="one scale"):
        _ = Tables().scale
