"""How long experiments would take: what is counted, and that timing leaves everything as it is."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from sparsedd.data._folder import SIGNS, absent
from sparsedd.experiments import FINETUNING, PRESETS, SCRATCH, Experiment, run
from sparsedd.experiments import _task as problem_module
from sparsedd.experiments import _train as train_module
from sparsedd.experiments._estimate import IMAGES, Pace, makespan, pace, paces
from sparsedd.metrics import evaluate

SMOKE = replace(Experiment().scaled("smoke"), epochs=5, evaluate_every=2, rewind_step=3)


@pytest.mark.parametrize("retraining", [SMOKE.retraining, FINETUNING, SCRATCH], ids=repr)
def test_steps_and_images_are_counted_as_they_are_run(tmp_path, monkeypatch, retraining):
    experiment, steps, images = replace(SMOKE, retraining=retraining), [], []

    def train(*arguments, reached, **options):
        return train_module.train(*arguments, reached=lambda step: steps.append(step) or reached(step), **options)

    def counted(model, batches, **options):
        batches = list(batches)
        images.append(sum(len(labels) for _, labels in batches))
        return evaluate(model, batches, **options)

    monkeypatch.setattr(problem_module, "train", train)
    for module in (problem_module, train_module):
        monkeypatch.setattr(module, "evaluate", counted)
    list(run(experiment, tmp_path))
    of = {"levels": (0,), "train_size": images[0], "test_size": images[1]}
    assert sum(Pace(steps=(1.0,), images=(0.0,), **of).seconds(experiment)) == len(steps)
    assert sum(Pace(steps=(0.0,), images=(1.0,), **of).seconds(experiment)) == sum(images)


def test_levels_between_those_that_were_timed_are_interpolated():
    experiment = replace(SMOKE, rewind_step=0)  # 5 epochs of 4 steps
    found = Pace(levels=(0, 2), steps=(3.0, 1.0), images=(0.0, 0.0), train_size=200, test_size=100)
    assert found.seconds(experiment) == [60.0, 40.0, 20.0]
    assert found.redense(experiment, "redense") == 60.0


def test_lines_are_counted_by_the_images_that_they_take():
    found = Pace(levels=(0,), steps=(0.0,), images=(1.0,), train_size=200, test_size=100)
    dense = found.redense(SMOKE, "redense")
    assert found.redense(SMOKE, "interpolation") - dense == 5 * (200 + 200 + 100)
    assert found.redense(SMOKE, "directions") - dense == 2 * 5 * 200


@pytest.mark.parametrize(
    ("durations", "processes", "expected"),
    [([], 2, 0), ([3, 3, 3], 1, 9), ([3, 3, 3], 2, 6), ([1, 1, 4], 2, 5), ([5, 1, 1, 1], 2, 5), ([2], 4, 2)],
)
def test_the_last_task_ends_when_each_process_has_taken_the_next(durations, processes, expected):
    assert makespan(durations, processes) == expected


@pytest.mark.parametrize(
    "experiment",
    [
        SMOKE,
        replace(PRESETS["lenet-mnist"], levels=40, momentum=0.9),
        replace(PRESETS["resnet18-cifar10"].scaled("mini"), width=1 / 16, batch_size=16, precision="bfloat16"),
        replace(PRESETS["resnet101-tiny-imagenet"], width=1 / 16, batch_size=8),
    ],
    ids=repr,
)
def test_timing_needs_no_files_and_changes_no_generator(experiment, tmp_path, monkeypatch):
    monkeypatch.setenv("SPARSEDD_DATA", str(tmp_path / "none"))
    monkeypatch.setattr("sparsedd.experiments._estimate.STAND_IN", 40)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    found = pace(experiment, "cpu", budget=0.05)
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before
    assert found.levels == ((0,) if "resnet" in experiment.model else tuple(sorted({0, *found.levels, experiment.levels - 1})))
    assert min(found.steps) > 0
    assert min(found.images) > 0
    assert found.train_size == (experiment.train_size or IMAGES[experiment.dataset][2])
    assert len(found.seconds(experiment)) == experiment.levels
    assert list(tmp_path.iterdir()) == []


def test_what_makes_no_difference_is_timed_once():
    other = replace(SMOKE, seed=3, noise=None, retraining=FINETUNING)
    found, ready = paces([SMOKE, other], 2, "cpu")
    assert found[SMOKE] is found[other]
    assert ready > 0


def test_a_data_set_is_absent_until_its_files_are_there(tmp_path, monkeypatch):
    monkeypatch.setenv("SPARSEDD_DATA", str(tmp_path))
    assert set(SIGNS) == set(IMAGES)
    assert not absent("digits")
    for dataset, signs in SIGNS.items():
        assert absent(dataset)
        (tmp_path / signs[-1]).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / signs[-1]).write_bytes(b"")
        assert not absent(dataset)
