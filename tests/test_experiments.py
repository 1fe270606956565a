"""Experiments: what a level starts from, what is stored, and that a killed run goes on bit for bit."""

import csv
import json
import os
import signal
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from multiprocessing import get_context

import numpy as np
import pytest
import torch
from helpers import bits, no_global_draws

from sparsedd import Mask, Pruner, data, experiments, models, noise, prunable
from sparsedd.experiments import (
    FINETUNING,
    LR_REWINDING,
    LTR,
    PRESETS,
    SCRATCH,
    Experiment,
    Retraining,
    Store,
    _experiment,
    _task,
    run,
    run_all,
    write_levels,
)

SMOKE = Experiment().scaled("smoke")
TINY = replace(SMOKE, dataset="blobs", train_size=60, batch_size=25, width=0.04, levels=4, noise=noise.Symmetric(0.4))


def results(levels):
    """Levels without the time they took."""
    return [replace(level, seconds=0.0) for level in levels]


def table(path, runs):
    """The rows of levels.csv, without the time they took."""
    write_levels(path, runs)
    return [{**row, "seconds": ""} for row in csv.DictReader(path.read_text().splitlines())]


# ---------------------------------------------------------------- Experiment, a value


def test_equal_experiments_have_equal_keys_and_other_fields_other_keys():
    assert Experiment().key == Experiment().key
    others = [
        replace(SMOKE, seed=1),
        replace(SMOKE, noise=noise.Pairflip(0.2)),
        replace(SMOKE, noise=None),
        replace(SMOKE, pruner=Pruner(scope="layer")),
        replace(SMOKE, retraining=SCRATCH),
        replace(SMOKE, learning_rate=0.2),
        SMOKE,
    ]
    assert len({e.key for e in others}) == len(others)


def test_seeds_of_a_family_share_a_folder():
    (a, b), c = (replace(SMOKE, seed=s).folder.split("/") for s in (0, 1)), replace(SMOKE, levels=9).folder.split("/")
    assert a[0] == b[0] != c[0]
    assert a[1] != b[1]


@pytest.mark.parametrize(
    "experiment",
    [
        Experiment(),
        *PRESETS.values(),
        Experiment(noise=noise.Asymmetric(0.2, "mnist"), milestones=(80, 120), retraining=FINETUNING),
        Experiment(noise=noise.Asymmetric(0.2, {1: 2}), pruner=Pruner("gradient", 0.3, "layer")),
        Experiment(noise=None),
    ],
)
def test_a_configuration_is_json_and_comes_back(experiment):
    assert Experiment.from_config(json.loads(json.dumps(experiment.config()))) == experiment


def test_the_papers_row_for_mnist():
    e = PRESETS["lenet-mnist"]
    assert (e.dataset, e.model, e.epochs, e.batch_size, e.learning_rate, e.momentum) == (
        "mnist",
        "lenet_300_100",
        200,
        128,
        0.1,
        0,
    )
    assert (e.levels, e.rewind_step, e.pruner, e.retraining) == (32, 0, Pruner("magnitude", 0.2, "global"), LTR)
    mask = Mask.dense(models.lenet_300_100(), prunable(models.lenet_300_100(), exclude=e.exclude))
    for _ in range(31):
        mask = e.pruner.prune(models.lenet_300_100(), mask)
    assert mask.remaining == 261


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"dataset": "svhn"}, ValueError),
        ({"levels": 0}, ValueError),
        ({"epochs": 1.5}, TypeError),
        ({"noise": lambda labels, n, seed: labels}, ValueError),
        ({"pruner": Pruner(score=lambda name, w: w)}, ValueError),
        ({"retraining": "ltr"}, TypeError),
        ({"learning_rate": 0.0}, ValueError),
        ({"momentum": -0.1}, ValueError),
        ({"scale": "huge"}, ValueError),
        ({"seed": -1}, ValueError),
        ({"drop": -1.0}, ValueError),
        ({"learning_rate": float("inf")}, ValueError),
        ({"learning_rate": "a"}, TypeError),
        ({"momentum": None}, TypeError),
        ({"milestones": 5}, TypeError),
        ({"milestones": ("a",)}, TypeError),
    ],
)
def test_wrong_fields_are_refused(wrong, error):
    with pytest.raises(error, match="got"):
        Experiment(**wrong)


# ---------------------------------------------------------------- what a run does


def test_levels_are_exact_nested_and_measured_as_they_say(tmp_path):
    levels = list(run(TINY, tmp_path))
    store = Store(tmp_path, TINY)
    masks = [store.mask(k) for k in range(TINY.levels)]
    source = data.blobs()
    labels = noise.Symmetric(0.4)(source.train.tensors[1][:60], 10, TINY.seed)
    flipped = labels != source.train.tensors[1][:60]
    for k, (level, mask) in enumerate(zip(levels, masks, strict=True)):
        assert (level.level, level.remaining, level.sparsity) == (k, mask.remaining, mask.sparsity)
        assert k == 0 or (mask <= masks[k - 1] and mask.remaining == masks[k - 1].remaining * 4 // 5)
        model = models.lenet_300_100(in_features=16, width=TINY.width)
        original = {n: p.detach().clone() for n, p in model.named_parameters()}
        model.load_state_dict(store.weights(k))
        assert mask.holds(model)
        with torch.no_grad():
            right = model(source.train.tensors[0][:60]).argmax(1) == labels
            test_right = model(source.test.tensors[0]).argmax(1) == source.test.tensors[1]
        assert level.train_accuracy == pytest.approx(right.double().mean().item())
        assert level.test_accuracy == pytest.approx(test_right.double().mean().item())
        assert level.clean_accuracy == pytest.approx(right[~flipped].double().mean().item())
        assert level.flipped_accuracy == pytest.approx(right[flipped].double().mean().item())
        squares = sum(((p - original[n]).double() ** 2).sum().item() for n, p in model.named_parameters() if p.dim() > 1)
        assert level.learning_distance == pytest.approx(squares**0.5)
        assert level.epochs.epoch == (1, 2)
        assert level.best_test_accuracy == max(level.epochs.test_accuracy)
        assert level.epochs.test_accuracy[level.best_epoch - 1] == level.best_test_accuracy


def begin(monkeypatch, tmp_path, experiment, number):
    """The weights, the step and the learning rates that a level's training starts with, and the store."""
    seen = {}
    original = _task.train

    def spy(execution, optimizer, *args, start, rate, **kwargs):
        seen[len(seen)] = (
            {n: p.detach().clone() for n, p in execution.model.named_parameters()},
            start,
            [rate(start + i) for i in range(9)],
        )
        assert not optimizer.state, "the optimizer is fresh"
        return original(execution, optimizer, *args, start=start, rate=rate, **kwargs)

    monkeypatch.setattr(_task, "train", spy)
    for _ in zip(range(number + 1), run(experiment, tmp_path), strict=False):
        pass
    return *seen[number], Store(tmp_path, experiment)


DROPPING = replace(
    TINY, sparse_below=0.0, milestones=(1,), epochs=3, rewind_step=2
)  # 3 steps an epoch: the rate drops at step 3


@pytest.mark.parametrize(
    ("method", "source", "start", "rates"),
    [
        (LTR, "start", 2, [0.1] + [0.01] * 8),
        (LR_REWINDING, "trained", 2, [0.1] + [0.01] * 8),
        (FINETUNING, "trained", 0, [0.01] * 9),
        (SCRATCH, "new", 0, [0.1] * 3 + [0.01] * 6),
        (Retraining("rewind", "restart"), "start", 0, [0.1] * 3 + [0.01] * 6),
    ],
)
def test_what_a_level_starts_from(monkeypatch, tmp_path, method, source, start, rates):
    experiment = replace(DROPPING, retraining=method)
    weights, step, learning_rates, store = begin(monkeypatch, tmp_path, experiment, 2)
    assert step == start
    assert learning_rates == pytest.approx(rates)
    mask = store.mask(2)
    expected = {"start": store.start(), "trained": store.weights(1)}.get(source)
    for name, weight in weights.items():
        if expected is not None:
            kept = expected[name] * mask[name] if name in mask else expected[name]
            assert torch.equal(weight, kept), name
    if source == "new":
        others = [
            store.weights(0),
            store.weights(1),
            store.start(),
            dict(models.lenet_300_100(in_features=16, width=0.04).named_parameters()),
        ]
        assert all(not torch.equal(weights["fc3.weight"], other["fc3.weight"]) for other in others)
        assert not weights["fc3.bias"].any()


def test_the_rewind_point_is_the_state_of_level_0_at_that_step(tmp_path):
    at = {}
    for step in (0, 2, 3):
        experiment = replace(DROPPING, rewind_step=step, levels=1)
        list(run(experiment, tmp_path))
        at[step] = Store(tmp_path, experiment).start()["fc1.weight"]
    assert torch.equal(at[0], models.lenet_300_100(in_features=16, width=0.04).fc1.weight)
    assert not torch.equal(at[2], at[3])


def test_retrained_levels_last_from_the_rewind_step_to_the_end(tmp_path):
    levels = list(run(replace(DROPPING, rewind_step=4), tmp_path))
    assert [level.epochs.epoch for level in levels] == [(1, 2, 3), (2, 3), (2, 3), (2, 3)]


def test_a_rewind_step_after_the_end_is_refused(tmp_path):
    with pytest.raises(ValueError, match="rewind_step must be below the 9 steps"):
        next(run(replace(DROPPING, rewind_step=9), tmp_path))


def test_more_training_images_than_there_are_are_refused(tmp_path):
    with pytest.raises(ValueError, match="train_size"):
        next(run(replace(TINY, train_size=501), tmp_path))


def test_scratch_draws_new_weights_at_every_level_also_after_a_resume(tmp_path):
    experiment = replace(TINY, retraining=SCRATCH, epochs=1, learning_rate=1e-12)
    next(iter(run(experiment, tmp_path)))
    list(run(experiment, tmp_path))  # goes on in a new generator
    last = [Store(tmp_path, experiment).weights(k)["fc3.weight"] for k in range(4)]
    assert all(not torch.allclose(last[i], last[j]) for i in range(4) for j in range(i))


def test_without_noise_there_is_no_flipped_accuracy(tmp_path):
    experiment = replace(TINY, noise=None, levels=1)
    (level,) = run(experiment, tmp_path)
    assert level.flipped_accuracy is None
    assert table(tmp_path / "levels.csv", {experiment: [level]})[0]["flipped_accuracy"] == ""


def test_evaluation_can_be_rarer_but_never_misses_the_end(tmp_path):
    often, seldom = (next(run(replace(TINY, epochs=5, evaluate_every=k), tmp_path)) for k in (1, 3))
    assert seldom.epochs.epoch == (3, 5)
    assert seldom.test_accuracy == often.test_accuracy


@pytest.mark.parametrize("score", ["magnitude", "gradient", "random"])
@pytest.mark.parametrize("sparse_below", [0.0, 0.9])
def test_nothing_touches_a_global_generator_and_two_runs_are_equal(tmp_path, score, sparse_below):
    experiment = replace(TINY, pruner=Pruner(score), sparse_below=sparse_below)
    with no_global_draws():
        first = list(run(experiment, tmp_path / "a"))
    torch.manual_seed(5)
    second = list(run(experiment, tmp_path / "b"))
    assert results(first) == results(second)
    for ours, theirs in zip(*(sorted((tmp_path / d).rglob("*.safetensors")) for d in "ab"), strict=True):
        assert ours.read_bytes() == theirs.read_bytes()


def test_sparse_execution_follows_the_dense_path(tmp_path):
    dense, fast = (list(run(replace(TINY, sparse_below=b), tmp_path)) for b in (0.0, 1.0))
    for a, b in zip(dense, fast, strict=True):
        assert a.remaining == b.remaining
        assert b.train_loss == pytest.approx(a.train_loss, rel=1e-3)


# ---------------------------------------------------------------- the store


@pytest.mark.parametrize("score", ["magnitude", "gradient", "random"])
@pytest.mark.parametrize("stop", [1, 3])
def test_a_stopped_run_goes_on_bit_for_bit(tmp_path, score, stop):
    experiment = replace(TINY, pruner=Pruner(score))
    whole = list(run(experiment, tmp_path / "whole"))
    for _ in zip(range(stop), run(experiment, tmp_path / "parts"), strict=False):
        pass
    assert results(run(experiment, tmp_path / "parts")) == results(whole)


def test_a_run_killed_at_any_write_goes_on_bit_for_bit(tmp_path):
    experiment = replace(TINY, levels=3, epochs=1)
    whole = table(tmp_path / "whole.csv", {experiment: list(run(experiment, tmp_path / "whole"))})
    for victim in ("replace", "fsync"):
        for count in range(1, 12):
            out = tmp_path / f"{victim}{count}"
            child = os.fork()
            if child == 0:  # dies by SIGKILL at its count-th replace or fsync
                calls, original = iter(range(1, 1000)), getattr(os, victim)
                setattr(os, victim, lambda *a: os.kill(os.getpid(), signal.SIGKILL) if next(calls) == count else original(*a))
                list(run(experiment, out))
                os._exit(0)
            _, status = os.waitpid(child, 0)
            assert os.WIFSIGNALED(status) or count == 11, "there are fewer writes than this test thinks"
            assert table(tmp_path / "resumed.csv", {experiment: list(run(experiment, out))}) == whole
            assert not [p for p in out.rglob(".*") if p.is_file()], "no torn file stays"


@pytest.mark.parametrize(
    "name", ["config.json", "levels.jsonl", "01.weights.safetensors", "01.mask.safetensors", "start.safetensors"]
)
def test_an_altered_file_is_found_and_named(tmp_path, name):
    for _ in zip(range(2), run(TINY, tmp_path), strict=False):
        pass
    path = Store(tmp_path, TINY).path / name
    whole = path.read_bytes()
    for place, change in ((0, 1), (len(whole) // 2, 1), (len(whole) - 2, 1), (len(whole) // 2, 128)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ change]) + whole[place + 1 :])
        with pytest.raises(ValueError, match=name):
            list(run(TINY, tmp_path))
    path.write_bytes(whole)
    assert len(list(run(TINY, tmp_path))) == TINY.levels


def test_a_torn_last_line_is_found_and_named(tmp_path):
    list(run(TINY, tmp_path))
    path = Store(tmp_path, TINY).path / "levels.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"levels\.jsonl, line 4 is torn"):
        list(run(TINY, tmp_path))


def test_two_runs_side_by_side_compute_each_level_once(tmp_path, monkeypatch):
    computed = []
    original = _task.Task.retrain

    def retrain(self, level, model):
        computed.append(level.number)
        return original(self, level, model)

    monkeypatch.setattr(_task.Task, "retrain", retrain)
    first, second = run(TINY, tmp_path), run(TINY, tmp_path)
    for _ in range(TINY.levels):
        assert next(first) == next(second)
    assert computed == [0, 1, 2, 3]


def test_two_processes_share_a_run(tmp_path):
    whole = results(run(TINY, tmp_path / "whole"))
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(experiments.work, [TINY, TINY.reinitialized()], tmp_path / "shared") for _ in range(2)]
        for future in futures:
            assert results(future.result()[TINY]) == whole
    assert len(Store(tmp_path / "shared", TINY.reinitialized()).levels()) == TINY.levels


@pytest.mark.parametrize("count", [1, 3])
def test_an_executor_of_threads_leaves_the_threads_as_they_were(tmp_path, count):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with ThreadPoolExecutor(count) as pool:
            run_all([replace(TINY, seed=seed, levels=2) for seed in range(4)], tmp_path, pool)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_the_first_images_have_the_exact_number_of_wrong_labels():
    for seed in range(3):
        task = _task.Task(replace(TINY, noise=noise.Symmetric(0.4, "other"), seed=seed), "cpu")
        assert int(task.flipped.sum()) == 24


def test_images_of_another_size_than_those_tested_are_refused():
    with pytest.raises(ValueError, match=r"images of \(1, 4, 4\), as tested on, got \(1, 2, 2\)"):
        _task.Task(replace(TINY, augmentation=(data.RandomResizedCrop(2),)), "cpu")


@pytest.mark.parametrize("name", ["lenet-mnist", "resnet18-cifar10"])
def test_only_the_original_is_scaled(name):
    original = PRESETS[name]
    for scale in _experiment.SCALES:
        assert original.scaled(scale).scaled(scale) == original.scaled(scale)
    for scale, other in (("small", "paper"), ("small", "smoke"), ("smoke", "paper"), ("smoke", "small"), ("mini", "small")):
        with pytest.raises(ValueError, match=f"the {scale} form of an experiment.*got scale='{other}'"):
            original.scaled(scale).scaled(other)


def test_a_name_says_what_is_not_as_usual():
    names = [
        Experiment(**changed).name
        for changed in (
            {},
            {"pruner": Pruner(scope="layer")},
            {"pruner": Pruner(fraction=0.36)},
            {"noise": noise.Asymmetric(0.2, "cifar100")},
            {"noise": noise.Asymmetric(0.2, "cifar100-index")},
            {"noise": noise.Asymmetric(0.2, {1: 2})},
            {"one_shot": True},
        )
    ]
    assert len(set(names)) == len(names)
    assert names[1] == "mnist-lenet_300_100-symmetric20-magnitude-layer-ltr"


def test_equal_rates_give_equal_keys():
    assert Experiment(noise=noise.Symmetric(1)).key == Experiment(noise=noise.Symmetric(1.0)).key
    assert Experiment(pruner=Pruner(fraction=0)).key == Experiment(pruner=Pruner(fraction=0.0)).key


def test_a_store_in_a_folder_of_another_name_is_refused(tmp_path, monkeypatch):
    next(run(TINY, tmp_path))
    folder = Store(tmp_path, TINY).path
    monkeypatch.chdir(folder)
    assert len(Store.open(".").levels()) == 1
    folder.parent.rename(tmp_path / "renamed")
    with pytest.raises(ValueError, match="is not where its experiment belongs"):
        Store.open(tmp_path / "renamed" / folder.name)


def test_what_a_store_does_not_hold_is_said(tmp_path):
    next(run(TINY, tmp_path))
    store = Store(tmp_path, TINY)
    for call in (store.weights, store.mask, store.digest):
        with pytest.raises(ValueError, match="has 1 levels, and no level 9"):
            call(9)
    with pytest.raises(TypeError, match="experiment must be an Experiment, got 'x'"):
        next(run("x", tmp_path))


@pytest.mark.parametrize("change", ["missing", "of another seed"])
def test_another_rewind_point_is_not_taken(tmp_path, change):
    next(run(TINY, tmp_path))
    start = Store(tmp_path, TINY).path / "start.safetensors"
    start.unlink()
    if change != "missing":
        other = replace(TINY, seed=1)
        next(run(other, tmp_path))
        start.write_bytes((Store(tmp_path, other).path / start.name).read_bytes())
    with pytest.raises(ValueError, match=r"start\.safetensors is missing, damaged or altered: remove line 1"):
        list(run(TINY, tmp_path))


def test_lines_removed_as_told_without_the_last_newline_are_no_harm(tmp_path):
    whole = results(run(TINY, tmp_path))
    path = Store(tmp_path, TINY).path / "levels.jsonl"
    path.write_text("\n".join(path.read_text().splitlines()[:2]))
    assert results(run(TINY, tmp_path)) == whole


def test_a_second_run_goes_on_from_what_the_first_has_stored_meanwhile(tmp_path):
    first, second = run(TINY, tmp_path), run(TINY, tmp_path)
    next(first)
    next(second)
    assert len(list(first)) == TINY.levels - 1
    assert [level.level for level in second] == [1, 2, 3]
    assert len(Store(tmp_path, TINY).levels()) == TINY.levels


def test_other_peoples_hidden_files_are_left_alone(tmp_path):
    next(run(TINY, tmp_path))
    folder = Store(tmp_path, TINY).path
    (folder / ".ipynb_checkpoints").mkdir()
    (folder / ".notes").touch()
    assert len(list(run(TINY, tmp_path))) == TINY.levels
    assert (folder / ".notes").exists()


def test_a_run_that_can_not_start_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="exclude"):
        next(run(replace(TINY, exclude=("fc9",)), tmp_path))
    assert not list(tmp_path.iterdir())


def test_numpys_numbers_and_lists_are_as_good():
    ours = Experiment(seed=np.int64(1), learning_rate=np.float32(0.1), exclude=["fc3"], milestones=[80], epochs=np.int64(9))
    theirs = Experiment(seed=1, learning_rate=0.1, exclude=("fc3",), milestones=(80,), epochs=9)
    assert ours == theirs
    assert ours.key == theirs.key
    assert hash(ours) == hash(theirs)
    assert Experiment(noise=noise.Symmetric(np.float32(0.1))).key == Experiment(noise=noise.Symmetric(0.1)).key


def test_a_ratio_is_not_its_nearest_double():
    exact, near = (Experiment(pruner=Pruner(fraction=f)) for f in (Fraction(5, 6), float(Fraction(5, 6))))
    assert exact.key != near.key
    assert Experiment.from_config(json.loads(json.dumps(exact.config()))) == exact


def test_a_store_can_be_opened_from_its_folder(tmp_path):
    levels = list(run(TINY, tmp_path))
    store = Store.open(Store(tmp_path, TINY).path)
    assert store.experiment == TINY
    assert store.levels() == levels


def test_run_all_in_processes_gives_what_one_process_gives(tmp_path):
    wanted = [replace(TINY, seed=seed) for seed in range(3)]
    here = run_all(wanted, tmp_path / "here")
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        there = run_all(wanted, tmp_path / "there", pool)
    assert list(here) == list(there) == wanted
    assert [results(v) for v in here.values()] == [results(v) for v in there.values()]
    for ours, theirs in zip(*(sorted((tmp_path / d).rglob("*.safetensors")) for d in ("here", "there")), strict=True):
        assert ours.read_bytes() == theirs.read_bytes()


def test_levels_csv_is_tidy(tmp_path):
    levels = list(run(TINY, tmp_path))
    write_levels(tmp_path / "levels.csv", {TINY: levels})
    rows = list(csv.DictReader((tmp_path / "levels.csv").read_text().splitlines()))
    assert list(rows[0]) == (
        "experiment,scale,seed,level,sparsity,remaining,train_accuracy,test_accuracy,best_test_accuracy,"
        "clean_accuracy,flipped_accuracy,learning_distance,train_loss,test_loss,seconds,diverged"
    ).split(",")
    assert [(r["experiment"], r["scale"], r["seed"], r["level"]) for r in rows] == [
        ("blobs-lenet_300_100-symmetric40-magnitude-ltr", "smoke", "0", str(k)) for k in range(4)
    ]
    assert [float(r["test_accuracy"]) for r in rows] == [level.test_accuracy for level in levels]


def test_every_public_name_is_there():
    assert all(hasattr(experiments, name) for name in experiments.__all__)


def test_bits_of_a_first_level(tmp_path):
    """Initialisation, noise and data order are the same on every machine; one step of SGD would not be."""
    experiment = replace(TINY, epochs=1, levels=1)
    list(run(experiment, tmp_path))
    start = Store(tmp_path, experiment).start()
    assert bits(start["fc1.weight"]) == bits(models.lenet_300_100(in_features=16, width=0.04, seed=0).fc1.weight)
