"""Every retraining method, score, noise and scope of the paper's appendix A, in every combination, on the digits."""

from dataclasses import replace
from itertools import product
from math import ceil

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from sparsedd import Pruner, _random, models, noise, scores
from sparsedd.experiments import METHODS, Experiment, Retraining, Store, _task, multistep, reinit, run
from sparsedd.experiments._task import Task

BASE = replace(
    Experiment().scaled("smoke"), train_size=100, batch_size=40, epochs=3, milestones=(2,), rewind_step=2, sparse_below=0.0
)
NOISES = (noise.Symmetric(0.2), noise.Asymmetric(0.2, "mnist"), noise.Pairflip(0.2))
STEPS, EPOCHS = 3, 3  # an epoch has 100 / 40 steps, the last of them smaller


def results(levels):
    return [replace(level, seconds=0.0) for level in levels]


def begun(monkeypatch, experiment, out):
    """What each level of a run begins with: weights, step, and the learning rates from there to the end."""
    seen, original = [], _task.train

    def spy(execution, optimizer, *, start, epochs, rate, **more):
        assert not optimizer.state
        rates = [rate(step) for step in range(start, epochs * len(execution.batches))]
        seen.append(({n: p.detach().clone() for n, p in execution.model.named_parameters()}, start, rates))
        return original(execution, optimizer, start=start, epochs=epochs, rate=rate, **more)

    with monkeypatch.context() as patch:
        patch.setattr(_task, "train", spy)
        levels = list(run(experiment, out))
    return levels, seen


def pruned(mask, score, fraction, scope):
    """A mask without the lowest scores, by sorting: another way to the same thing."""
    keep = {name: m.numpy().copy() for name, m in mask.items()}
    for names in [list(keep)] if scope == "global" else [[name] for name in keep]:
        values = np.concatenate([score[name].double().numpy()[keep[name]] for name in names])
        stay = np.ones(len(values), dtype=bool)
        stay[np.argsort(values, kind="stable")[: ceil(fraction * len(values))]] = False
        for name in names:
            count = keep[name].sum()
            keep[name][keep[name]] = stay[:count]
            stay = stay[count:]
    return keep


def score_of(experiment, weights, mask, level):
    """The scores of a level's weights, from the definitions in A.1."""
    if experiment.pruner.score == "magnitude":
        return {name: weights[name].abs() for name in mask}
    if experiment.pruner.score == "random":
        return {name: scores.random(experiment.seed)(name, weights[name]) for name in mask}
    task = Task(experiment, "cpu")
    inputs, labels = task.train
    order = _random.permutation(("gradient batch", experiment.seed, level), len(labels))
    chosen = torch.from_numpy(order[: experiment.batch_size])
    task.original.load_state_dict(weights)
    cross_entropy(task.original(inputs[chosen]), labels[chosen]).backward()
    return {name: (p * p.grad).abs().detach() for name, p in task.original.named_parameters() if name in mask}


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("kind", NOISES, ids=lambda kind: type(kind).__name__)
@pytest.mark.parametrize("score", ["magnitude", "gradient", "random"])
@pytest.mark.parametrize("method", METHODS)
def test_a_combination_does_what_the_appendix_says_and_resumes(monkeypatch, tmp_path, method, score, kind, scope):
    experiment = replace(BASE, retraining=METHODS[method], pruner=Pruner(score, 0.2, scope), noise=kind)
    levels, begins = begun(monkeypatch, experiment, tmp_path / "whole")
    store, task = Store(tmp_path / "whole", experiment), Task(experiment, "cpu")
    clean = task.batches.source.train.tensors[1]
    assert torch.equal(task.flipped, task.train[1] != clean)
    assert 0 < int(task.flipped.sum()) <= 40

    assert begins[0][1] == 0
    for name, p in task.original.named_parameters():
        assert torch.equal(begins[0][0][name], p), "the dense net starts from the initialisation"
    dense_rates = [0.1] * 2 * STEPS + [0.01] * STEPS
    assert begins[0][2] == pytest.approx(dense_rates)

    for k in (1, 2):
        before, old, new = store.weights(k - 1), store.mask(k - 1), store.mask(k)
        expected = pruned(old, score_of(experiment, before, old, k), 0.2, scope)
        assert all(np.array_equal(new[name].numpy(), expected[name]) for name in new)
        weights, start, rates = begins[k]
        assert start == {"ltr": 2, "lr-rewinding": 2, "finetuning": 0, "scratch": 0}[method]
        assert rates == pytest.approx([0.01] * EPOCHS * STEPS if method == "finetuning" else dense_rates[start:])
        if method == "scratch":
            others = [task.original.state_dict(), store.start(), before, begins[k - 1][0]]
            assert all(not torch.equal(weights["fc3.weight"], other["fc3.weight"]) for other in others)
            std = (2 / weights["fc3.weight"].shape[1]) ** 0.5
            assert weights["fc3.weight"].std().item() == pytest.approx(std, rel=0.2)
        else:
            source = store.start() if method == "ltr" else before
            for name, weight in weights.items():
                assert torch.equal(weight, source[name] * new[name] if name in new else source[name])
        assert all(not weights[name][~keep].any() for name, keep in new.items())

    next(run(experiment, tmp_path / "parts"))
    again = list(run(experiment, tmp_path / "parts"))
    assert results(again) == results(levels)
    for ours, theirs in zip(*(sorted((tmp_path / d).rglob("*.safetensors")) for d in ("whole", "parts")), strict=True):
        assert ours.read_bytes() == theirs.read_bytes()


def test_there_are_72_combinations():
    assert len(list(product(METHODS, ("magnitude", "gradient", "random"), NOISES, ("global", "layer")))) == 72


# ---------------------------------------------------------------- tickets with other weights


def test_reinitialised_tickets_have_the_masks_of_the_lottery_and_new_weights(monkeypatch, tmp_path):
    experiment = BASE.reinitialized()
    assert (experiment.retraining, experiment.tickets_of) == (Retraining("reinit", "rewind"), METHODS["ltr"])
    _, begins = begun(monkeypatch, experiment, tmp_path)  # runs the lottery, too: its levels come first
    tickets, others = Store(tmp_path, BASE), Store(tmp_path, experiment)
    assert len(tickets.levels()) == len(others.levels()) == 3
    own = begins[1::2]
    for k in range(3):
        assert tickets.mask(k) == others.mask(k)
        weights, start, rates = own[k]
        assert start == 2
        assert rates == pytest.approx([0.1] * 4 + [0.01] * 3)
        elsewhere = [other["fc3.weight"] for other, _, _ in begins if other is not weights]
        assert all(not torch.equal(weights["fc3.weight"], other) for other in elsewhere)
    assert list(reinit(BASE, tmp_path)) == others.levels()


def test_reinitialised_tickets_resume(tmp_path):
    whole = list(reinit(BASE, tmp_path / "whole"))
    next(reinit(BASE, tmp_path / "parts"))
    list(run(BASE, tmp_path / "parts"))
    assert results(reinit(BASE, tmp_path / "parts")) == results(whole)


# ---------------------------------------------------------------- one shot


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("score", ["magnitude", "gradient", "random"])
def test_one_shot_levels_are_pruned_from_the_dense_net_at_once(tmp_path, score, method):
    experiment = replace(BASE, one_shot=True, levels=4, pruner=Pruner(score), retraining=METHODS[method])
    levels = list(run(experiment, tmp_path))
    store = Store(tmp_path, experiment)
    dense = store.mask(0)
    for k in (1, 2, 3):
        assert levels[k].remaining == int(0.8**k * dense.size + 1e-9)
        expected = score_of(experiment, store.weights(0), dense, 1)
        kept, gone = (torch.cat([expected[n][store.mask(k)[n] == keep] for n in dense]) for keep in (True, False))
        assert gone.max() <= kept.min()
        assert store.mask(k) <= store.mask(k - 1)
    assert "-oneshot-" in experiment.name


# ---------------------------------------------------------------- schedules


def test_a_schedule_is_a_function_of_the_step():
    rate = multistep(0.2, [100, 150], warmup=5)
    assert [rate(step) for step in (0, 4, 5, 99, 100, 149, 150, 10**6)] == pytest.approx(
        [0.04, 0.2, 0.2, 0.2, 0.02, 0.02, 0.002, 0.002]
    )


def test_a_warm_up_and_milestones_are_counted_in_epochs():
    experiment = replace(BASE, warmup_epochs=1, milestones=(2,))
    rates = [experiment.schedule(4)(step) for step in range(12)]
    assert rates == pytest.approx([0.025, 0.05, 0.075, 0.1] + [0.1] * 4 + [0.01] * 4)


@pytest.mark.parametrize(("schedule", "start", "rates"), [
    ("rewind", 3, [0.1, 0.01, 0.01]), ("restart", 0, [0.1] * 3), ("final", 0, [0.01] * 3)])  # fmt: skip
def test_a_method_says_where_the_schedule_begins(schedule, start, rates):
    first, rate = Retraining("keep", schedule).steps(multistep(0.1, [4]), rewind_step=3, total=9)
    assert first == start
    assert [rate(first + k) for k in range(3)] == pytest.approx(rates)


@pytest.mark.parametrize("wrong", [("forget", "rewind"), ("rewind", "later")])
def test_a_method_that_is_none_is_refused(wrong):
    with pytest.raises(ValueError, match="must be one of"):
        Retraining(*wrong)


# ---------------------------------------------------------------- the authors' variants


def test_the_authors_initialisation_is_a_field(tmp_path):
    paper, authors = (Task(replace(BASE, initialization=scheme), "cpu").original for scheme in ("paper", "authors"))
    assert torch.equal(paper.fc1.weight, authors.fc1.weight)
    assert not paper.fc1.bias.any()
    assert authors.fc1.bias.any()
    assert torch.equal(authors.fc2.bias, models.initialize_(authors, 0, "authors").fc2.bias)
