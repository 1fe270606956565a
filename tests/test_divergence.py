"""A seed whose training diverges ends there, is marked, and the rest goes on."""

import json
from dataclasses import replace

import matplotlib as mpl
import pytest
import torch
from matplotlib import pyplot

from sparsedd.experiments import FIGURES, Experiment, Store, Tables, redense, reinit, reproduce, run, run_fleet
from sparsedd.experiments._task import Task

mpl.use("agg")
SMOKE = Experiment().scaled("smoke")


@pytest.fixture
def diverging(monkeypatch):
    """Level 1 of seed 1 diverges, wherever it is trained."""
    original = Task.measure

    def measure(task, model, curves):
        if task.experiment.seed == 1 and not model.fc2.weight.all():
            model.fc1.bias.data[:2] = torch.tensor([float("inf"), float("nan")])
        return original(task, model, curves)

    monkeypatch.setattr(Task, "measure", measure)


def test_a_run_ends_with_the_level_that_diverged_also_when_it_is_resumed(diverging, tmp_path):
    experiment = replace(SMOKE, seed=1)
    levels = list(run(experiment, tmp_path))
    assert [level.diverged for level in levels] == [False, True]
    assert levels[1].learning_distance is None
    assert list(run(experiment, tmp_path)) == levels
    assert "NaN" not in (Store(tmp_path, experiment).path / "levels.jsonl").read_text()
    assert len(list(run(SMOKE, tmp_path))) == SMOKE.levels


def test_a_loss_that_is_not_finite_is_no_number(tmp_path):
    (level,) = run(replace(SMOKE, learning_rate=1e30), tmp_path)
    assert level.diverged
    assert None in level.epochs.train_loss
    json.dumps(level.to_json(), allow_nan=False)


@pytest.mark.parametrize("how", ["run", "fleet"])
def test_new_weights_go_as_far_as_the_tickets(diverging, tmp_path, how):
    experiments = [replace(SMOKE, seed=seed).reinitialized() for seed in range(2)]
    if how == "fleet":
        found = list(run_fleet(experiments, tmp_path))
        lengths = [sum(e in levels for levels in found) for e in experiments]
    else:
        lengths = [len(list(reinit(replace(SMOKE, seed=seed), tmp_path))) for seed in range(2)]
    assert lengths == [3, 2]


@pytest.mark.parametrize("fleet", [False, True])
def test_the_figure_goes_on_without_the_seed_and_says_so(diverging, monkeypatch, tmp_path, fleet):
    drawn = []
    monkeypatch.setattr(pyplot, "close", drawn.append)
    figure = FIGURES["5"].scaled("smoke")
    reproduce(figure, tmp_path, seeds=3, fleet=fleet)
    rows = Tables.read(tmp_path).levels
    assert [(row["seed"], row["level"]) for row in rows] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2)]
    assert [row["diverged"] for row in rows] == [0, 0, 0, 0, 1, 0, 0, 0]
    assert rows[4]["learning_distance"] is None
    assert "ltr: seed 1 diverged at level 1, left out of the means." in (tmp_path / "claims.md").read_text()
    (ax,) = drawn[-1].axes
    assert "seed 1 diverged at level 1" in [text.get_text() for text in ax.texts]
    assert ax.get_legend().get_title().get_text().endswith("n = 2")
    mpl.pyplot.close("all")


def test_landmarks_are_those_of_the_seeds_that_are_left(diverging, tmp_path):
    figure = FIGURES["37"].scaled("smoke")
    reproduce(figure, tmp_path, seeds=2)
    assert {row["seed"] for row in Tables.read(tmp_path).epochs} == {0}


def test_where_every_seed_diverged_what_came_before_is_shown(diverging, tmp_path):
    reproduce(FIGURES["9"].scaled("smoke"), tmp_path, seeds=1, seed=1)
    assert "seed 1 diverged at level 1" in (tmp_path / "claims.md").read_text()


def test_where_nothing_came_before_the_message_says_so(tmp_path):
    figure = FIGURES["9"].scaled("smoke")
    (panel,) = figure.panels
    wild = replace(panel, sweeps=tuple(replace(e, learning_rate=1e30) for e in panel.sweeps))
    with pytest.raises(ValueError, match="or has diverged in it"):
        reproduce(replace(figure, panels=(wild,)), tmp_path, seeds=1)


def test_re_dense_training_of_what_was_never_reached_is_refused(diverging, tmp_path):
    with pytest.raises(ValueError, match="seed 1 .* diverged at level 1"):
        redense(replace(SMOKE, seed=1), 2, tmp_path)


def test_tables_from_before_there_was_that_column_can_be_read(tmp_path):
    reproduce(FIGURES["9"].scaled("smoke"), tmp_path, seeds=1)
    now, path = Tables.read(tmp_path), tmp_path / "levels.csv"
    path.write_text("".join(line.rpartition(",")[0] + "\n" for line in path.read_text().splitlines()))
    assert Tables.read(tmp_path) == now
