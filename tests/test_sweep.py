"""Sweep: the engine, in a loop of the user's own."""

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from copy import deepcopy
from functools import partial

import numpy as np
import pytest
import torch
from helpers import bits, filled
from torch import distributed as dist
from torch import nn
from torch.nn.functional import cross_entropy

import sparsedd
from sparsedd import Mask, Pruner, Rewinder, Sweep, metrics, phases, scores
from sparsedd.sweeps import FINETUNING, LR_REWINDING, LTR, SCRATCH, Record, StoredSweep
from sparsedd.sweeps._config import open_store
from sparsedd.sweeps._ranks import Ranks

STEPS = 4  # of an epoch


class Killed(BaseException):
    pass


def net(seed=0, width=6):
    return filled(nn.Sequential(nn.Linear(5, width), nn.BatchNorm1d(width), nn.Tanh(), nn.Linear(width, 3)), seed)


def batch(epoch, step):
    generator = torch.Generator().manual_seed(100 * epoch + step)
    return torch.randn(8, 5, generator=generator), torch.randint(3, (8,), generator=generator)


TEST = batch(99, 0)


def train(sweep, *, epochs=2, at=None, record=True, gradients=False):
    """The loop of a user's own; `at` is called with a word at each place where a run may be killed."""
    at = at or (lambda *where: None)
    for level in sweep:
        at("begin", level.number)
        optimizer = torch.optim.SGD(sweep.model.parameters(), lr=0.1, momentum=0.9)
        first = level.step // STEPS
        with level.enforce(optimizer):
            for epoch in level.epochs(epochs, first=first, optimizer=optimizer):
                at("epoch", level.number, epoch)
                sweep.model.train()
                for step in range(level.step % STEPS if epoch == first else 0, STEPS):
                    level.reached(STEPS * epoch + step)
                    at("step", level.number, epoch, step)
                    optimizer.zero_grad()
                    x, y = batch(epoch, step)
                    cross_entropy(sweep.model(x), y).backward()
                    optimizer.step()
        if gradients:
            scores.accumulate_(sweep.model, [TEST], cross_entropy)
        at("measure", level.number)
        if record:
            evaluation = metrics.evaluate(sweep.model, [TEST])
            level.record(train=evaluation, test=evaluation, norm=sweep.model[0].weight.norm().item())
        at("recorded", level.number)
    return sweep


def found(folder):
    """What is in a folder, but for the seconds."""
    content = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    for line in content.pop("levels.jsonl", b"").splitlines():
        plain = json.loads(line)
        plain["level"].pop("seconds"), plain.pop("sha256")
        content[f"line {plain['level']['level']}"] = json.dumps(plain).encode()
    return content


KINDS = {
    "plain": {},
    "rewind step": {"rewind_step": 3},
    "keep": {"retraining": FINETUNING},
    "learning rate rewinding": {"retraining": LR_REWINDING, "rewind_step": 5},
    "scratch": {"retraining": SCRATCH, "reinit": filled},
    "one shot": {"one_shot": True},
    "last": {"keep": "last"},
    "layer": {"pruner": Pruner(fraction=0.4, scope="layer")},
}


@pytest.mark.parametrize("kind", KINDS)
def test_killed_anywhere_it_leaves_the_same_files(kind, tmp_path):
    """Before the first step, after the rewind step, in an epoch, between epochs, before and after the record."""
    options = {"pruner": Pruner(fraction=0.4), "levels": 3} | KINDS[kind]
    places = []
    whole = train(Sweep(tmp_path / "whole", net(), **options), at=lambda *place: places.append(place))
    wanted = found(whole.path)
    for k, place in enumerate(places):
        folder = tmp_path / str(k)

        def at(*here):
            if here == place:
                raise Killed

        with pytest.raises(Killed):
            train(Sweep(folder, net(), **options), at=at)
        resumed = train(Sweep(folder, net(k + 1), **options))  # the script draws other weights, which does no harm
        assert found(folder) == wanted, place
        assert [r.measures for r in resumed.records] == [r.measures for r in whole.records]


def test_a_sweep_is_the_loop_that_one_would_write(tmp_path):
    model = net()
    sweep = train(Sweep(tmp_path, deepcopy(model), Pruner(fraction=0.4), levels=3))
    start, mask = Rewinder(model=model), Mask.dense(model)
    for record in sweep.records:
        start.rewind(model=model)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        with mask.enforce(model, optimizer):
            for epoch in range(2):
                model.train()
                for step in range(STEPS):
                    optimizer.zero_grad()
                    x, y = batch(epoch, step)
                    cross_entropy(model(x), y).backward()
                    optimizer.step()
        evaluation = metrics.evaluate(model, [TEST])
        assert (record.level, record.remaining, record.sparsity) == (record.level, mask.remaining, mask.sparsity)
        assert (record.test_accuracy, record.test_loss) == (evaluation.accuracy, evaluation.loss)
        assert record.learning_distance == metrics.learning_distance(start["model"], model)
        assert sweep.mask(record.level) == mask
        assert {name: bits(t) for name, t in sweep.weights(record.level).items()} == {
            name: bits(t) for name, t in model.state_dict().items()
        }
        mask = Pruner(fraction=0.4).prune(model, mask)
    advice = phases.advise(*sweep.curves())
    assert advice.seeds == 1
    for path in ("net.safetensors", "net.pt"):
        sweep.export(2, tmp_path / path)
    from safetensors.torch import load_file

    for state in (load_file(tmp_path / "net.safetensors"), torch.load(tmp_path / "net.pt", weights_only=True)):
        other = net(3)
        other.load_state_dict(state)
        assert sweep.mask(2).holds(other)
        assert metrics.evaluate(other, [TEST]).accuracy == sweep.records[2].test_accuracy


@pytest.mark.parametrize(("kind", "first"), [("keep", "kept"), ("scratch", "drawn"), ("plain", "rewound")])
def test_what_a_level_starts_from(kind, first, tmp_path):
    model, seen = net(), []
    beginning = model[0].weight.detach().clone()
    sweep = Sweep(tmp_path, model, Pruner(fraction=0.4), levels=3, **KINDS[kind])
    train(sweep, at=lambda *at: seen.append(model[0].weight.detach().clone()) if at[0] == "begin" else None)
    assert torch.equal(seen[0], beginning)
    for number in (1, 2):
        keep = sweep.mask(number)["0.weight"]
        expected = {"kept": lambda: sweep.weights(number - 1)["0.weight"], "rewound": lambda: beginning}
        if first == "drawn":
            assert not torch.equal(seen[number][keep], beginning[keep])
            assert not torch.equal(seen[1], seen[2])
        else:
            assert torch.equal(seen[number], expected[first]() * keep)


def test_tickets_of_another_sweep(tmp_path):
    source = train(Sweep(tmp_path / "source", net(), Pruner(fraction=0.4), levels=3))
    for k, tickets in enumerate((source, source.path)):
        sweep = Sweep(tmp_path / str(k), net(5), levels=3, tickets=tickets, retraining=SCRATCH, reinit=filled)
        train(sweep)
        assert [sweep.mask(k) for k in range(3)] == [source.mask(k) for k in range(3)]
    with pytest.raises(ValueError, match="has ended with 3 levels, which is fewer than levels=4: run that sweep further"):
        Sweep(tmp_path / "more", net(5), levels=4, tickets=source.path)
    longer = Sweep(source.path, net(), Pruner(fraction=0.4), levels=4)
    other = Sweep(tmp_path / "early", net(5), levels=4, tickets=longer)
    with pytest.raises(RuntimeError, match="whose masks are taken, has 3 of 4 levels: run that sweep first, or ask for"):
        train(other)
    assert not other.records, "before any training"


def test_tickets_of_another_model_are_refused_at_once(tmp_path):
    source = Sweep(tmp_path / "source", net(), Pruner(fraction=0.4), levels=2)
    with pytest.raises(FileNotFoundError, match="config.json: run that sweep first"):
        Sweep(tmp_path / "other", net(), levels=2, tickets=source)
    train(source)
    for options in ({"model": net(width=7)}, {"model": net(), "names": ["0.weight"]}):
        with pytest.raises(ValueError, match=r"of other weights: .*(0.weight is \[7, 5\]|3.weight is \"missing\").*same model"):
            Sweep(tmp_path / "other", **options, levels=2, tickets=source.path)
    assert not (tmp_path / "other").exists()


def test_a_folder_that_holds_other_sweeps_is_refused(tmp_path):
    for name in ("seed-0", "seed-2"):
        train(Sweep(tmp_path / name, net(), levels=1))
    with pytest.raises(ValueError, match=r"holds other sweeps, .*seed-0, .*seed-2: give this .* such as .*seed-3\.$"):
        Sweep(tmp_path, net(), levels=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["seed-0", "seed-2"]
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine" / "model" / "config.json").write_text("{}")  # of another program
    Sweep(tmp_path / "mine", net(), levels=1)


@pytest.mark.parametrize("name", ["config.json", "levels.jsonl", "lock"])
def test_a_folder_in_place_of_a_file_is_named(name, tmp_path):
    (tmp_path / name).mkdir()
    for begin in (lambda: Sweep(tmp_path, net(), levels=1), lambda: open_store(tmp_path)):
        with pytest.raises(IsADirectoryError, match=f"{name} is a folder, where a file of the sweep is to be: move it away"):
            begin()


def test_gradients_are_read_at_the_record(tmp_path):
    sweep = train(Sweep(tmp_path, net(), Pruner("gradient", fraction=0.4), levels=3), gradients=True)
    model = net()
    model.load_state_dict(sweep.weights(0))
    scores.accumulate_(model, [TEST], cross_entropy)
    assert Pruner("gradient", fraction=0.4).prune(model, sweep.mask(0)) == sweep.mask(1)


def test_more_levels_than_there_were(tmp_path):
    short = train(Sweep(tmp_path / "short", net(), Pruner(fraction=0.4), levels=2))
    train(Sweep(short.path, net(1), Pruner(fraction=0.4), levels=4))
    whole = train(Sweep(tmp_path / "whole", net(), Pruner(fraction=0.4), levels=4))
    assert found(short.path) == found(whole.path)
    assert not list(Sweep(short.path, net(1), Pruner(fraction=0.4), levels=2)), "fewer do no harm"
    assert len(short.records) == 4


def test_more_levels_in_the_middle_of_the_first_lose_nothing(tmp_path):
    def at(*place):
        if place == ("epoch", 0, 1):
            raise Killed

    whole = train(Sweep(tmp_path / "whole", net(), levels=2))
    with pytest.raises(Killed):
        train(Sweep(tmp_path / "out", net(), levels=1), at=at)
    assert found(train(Sweep(tmp_path / "out", net(7), levels=2)).path) == found(whole.path)
    with pytest.raises(Killed):
        train(Sweep(tmp_path / "other", net(7), levels=2, config={"lr": 1}), at=at)
    other = train(Sweep(tmp_path / "other", net(), levels=2))
    assert found(other.path) == found(whole.path), "what another sweep has begun is gone"


def test_files_of_others_stay(tmp_path):
    (tmp_path / "mine.safetensors").write_bytes(b"mine")
    train(Sweep(tmp_path, net(), levels=1))
    assert (tmp_path / "mine.safetensors").read_bytes() == b"mine"
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "config.json").write_text('{"architectures": ["GPT2"]}')
    with pytest.raises(ValueError, match=r"config.json is not the configuration of a sweep as sparsedd writes it"):
        Sweep(tmp_path / "foreign", net(), levels=1)


def test_reaching_a_sparsity(tmp_path):
    sweep = train(Sweep(tmp_path, net(width=40), Pruner.reaching(0.9, levels=4), levels=4))
    assert sweep.records[-1].sparsity == pytest.approx(0.9, abs=0.01)


def test_a_level_that_diverged_ends_the_sweep(tmp_path):
    sweep = Sweep(tmp_path, net(), Pruner(fraction=0.4), levels=3)
    for level in sweep:
        with torch.no_grad():
            sweep.model[0].weight.mul_(level.mask["0.weight"]).add_(torch.nan if level.number else 0.0)
            level.mask.apply_(sweep.model)
        with pytest.warns(match="level 1 has diverged.*take another folder") if level.number else nullcontext():
            level.record(train=metrics.evaluate(sweep.model, [TEST]), test_accuracy=0.5)
    assert [record.diverged for record in sweep.records] == [False, True]
    assert sweep.records[1].learning_distance is None
    assert not list(sweep)


def test_what_is_made_of_a_level_is_made_once(tmp_path):
    sweep, asked = train(Sweep(tmp_path, net(), Pruner(fraction=0.4), levels=2)), []

    def norms(model):
        asked.append(model)
        return {"norm": model[0].weight.norm().item(), "none": None}

    first = sweep.derive(1, "norms", norms)
    assert first == {"norm": sweep.weights(1)["0.weight"].norm().item(), "none": None}
    assert Sweep(tmp_path, net(1), Pruner(fraction=0.4), levels=2).derive(1, "norms", norms) == first
    assert sweep.derive(0, "norms", norms) != first
    assert len(asked) == 2
    lines = (tmp_path / "levels.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "levels.jsonl").write_text(lines[0])
    for level in sweep:
        level.record()  # without training: another level 1
    assert sweep.derive(1, "norms", norms) != first
    for name, make, error, message in (
        ("../x", norms, ValueError, "lower-case letters"),
        ("x", lambda model: model, TypeError, "x must be JSON"),
    ):
        with pytest.raises(error, match=message):
            sweep.derive(1, name, make)
    with pytest.raises(ValueError, match="has 2 levels, and no level 5"):
        sweep.derive(5, "norms", norms)


# ---------------------------------------------------------------- wrong use: one clear error, and nothing is lost


def levels_of(sweep):
    return [record.level for record in sweep.records]


@pytest.mark.parametrize(
    ("measures", "error", "message"),
    [
        (
            {"loss": torch.ones((), requires_grad=True) * 2},
            TypeError,
            r"'loss' must be a number.*got Tensor: use tensor.item\(\)",
        ),
        ({"norm": float("nan")}, ValueError, "the measure norm must be finite, got nan. Pass None for what is undefined"),
        ({"words": "good"}, TypeError, "'words' must be a number, an Evaluation or None, got str"),
        ({"flag": True}, TypeError, "'flag' must be a number"),
        ({"accuracy": 71.0}, ValueError, r"must be from 0 to 1, got 71.0. It is a share: did you mean 0.71\?"),
        ({"sparsity": 0.5}, ValueError, "a measure can't be called 'sparsity'"),
        ({"seconds": 1.0}, ValueError, "a measure can't be called 'seconds'"),
        ({"measures": 1.0}, ValueError, "a measure can't be called 'measures'"),
        ({"train": 0.9}, TypeError, "train must be an Evaluation, got 0.9: for a number, write train_accuracy="),
        ({"train_loss": None}, ValueError, "says that training has diverged"),
        ({"huge": 10**400}, ValueError, "must be a number that a float holds"),
    ],
)
def test_a_measure_that_is_none(measures, error, message, tmp_path):
    sweep = Sweep(tmp_path, net(), levels=1)
    for level in sweep:
        with pytest.raises(error, match=message):
            level.record(**measures)
        assert level.record(norm=1.0, many=torch.tensor(2.0)).many == 2.0
    assert levels_of(sweep) == [0]


def test_no_record_and_two_records(tmp_path):
    sweep = Sweep(tmp_path, net(), levels=2)
    with pytest.raises(RuntimeError, match=r"level 0 was not recorded: end the loop's body with level.record"):
        for _ in sweep:
            pass
    for level in sweep:
        level.record()
        with pytest.raises(RuntimeError, match="level 0 is recorded already"):
            level.record()
        break
    assert levels_of(sweep) == [0]
    with pytest.raises(ValueError, match="level 0 has no train_accuracy"):
        sweep.curves()


def test_a_mask_that_does_not_hold(tmp_path):
    sweep = Sweep(tmp_path, net(), Pruner(fraction=0.4), levels=2)
    for level in sweep:
        if level.number:
            sweep.model[0].weight.data.fill_(1.0)
            with pytest.raises(RuntimeError, match="pruned weights of level 1 are not zero: train within"):
                level.record()
            level.mask.apply_(sweep.model)
        level.record()
    assert levels_of(sweep) == [0, 1]


def test_a_rewind_step_that_is_never_reached(tmp_path):
    sweep = Sweep(tmp_path, net(), levels=2, rewind_step=100)
    with pytest.raises(RuntimeError, match=r"rewind_step=100 was never reached: call level.reached\(step\)"):
        train(sweep)
    assert levels_of(sweep) == []


OTHERS = {
    "config.lr is 0.2 and was 0.1": {"config": {"lr": 0.2}},
    "model.0.weight is .* and was": {"model": net(width=7)},
    'pruner.fraction is "0.3" and was "0.4"': {"pruner": Pruner(fraction=0.3)},
    "pruner.score is .*test_sweep:other.* and was": {"pruner": Pruner(lambda name, w: w.abs(), fraction=0.4)},
    "retraining.weights is": {"retraining": FINETUNING},
    "seed is 1 and was 0": {"seed": 1},
    "rewind_step is 2 and was 0": {"rewind_step": 2},
    "one_shot is true and was false": {"one_shot": True},
    "names is": {"names": ["0.weight"]},
}


@pytest.mark.parametrize("message", [m for m in OTHERS if "score" not in m])
def test_another_sweep_in_the_folder_is_refused_with_what_differs(message, tmp_path):
    options = {"model": net(), "pruner": Pruner(fraction=0.4), "levels": 2, "config": {"lr": 0.1}}
    sweep = train(Sweep(tmp_path, **options))
    before = found(tmp_path)
    with pytest.raises(ValueError, match=f"holds another sweep: .*{message}"):
        Sweep(tmp_path, **(options | OTHERS[message]))
    assert found(tmp_path) == before
    assert levels_of(sweep) == [0, 1]


def first_score(name, parameter):
    return parameter.detach().abs()


def test_a_score_is_remembered_by_its_name(tmp_path):
    train(Sweep(tmp_path / "a", net(), Pruner(first_score), levels=2))
    with pytest.raises(ValueError, match=r"pruner.score is \"magnitude\" and was \"test_sweep:first_score\""):
        Sweep(tmp_path / "a", net(), Pruner(), levels=2)
    train(Sweep(tmp_path / "b", net(), Pruner(scores.random(1)), levels=2))
    with pytest.raises(ValueError, match=r"seed=2.*and was.*seed=1"):
        Sweep(tmp_path / "b", net(), Pruner(scores.random(2)), levels=2)
    train(Sweep(tmp_path / "c", net(), Pruner(partial(first_score)), levels=2))
    assert "partial" not in (tmp_path / "c" / "config.json").read_text()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"levels": 0}, ValueError, "levels must be at least 1"),
        ({"model": 3}, TypeError, "model must be a torch.nn.Module"),
        ({"pruner": "magnitude"}, TypeError, "pruner must be a Pruner"),
        ({"retraining": "ltr"}, TypeError, "retraining must be a Retraining such as LTR"),
        ({"retraining": SCRATCH}, ValueError, "needs reinit=, which draws them"),
        ({"reinit": filled}, ValueError, "leave reinit= out, and for re-initialised tickets pass a newly"),
        ({"config": {"net": nn.Linear(1, 1)}}, TypeError, r"config\['net'\] must be JSON"),
        ({"config": {"lr": float("nan")}}, TypeError, r"config\['lr'\] must be JSON"),
        ({"keep": "none"}, ValueError, "keep must be one of 'all', 'last'"),
        ({"tickets": "nowhere"}, FileNotFoundError, "tickets must be a Sweep or its folder"),
        (
            {"retraining": SCRATCH, "reinit": lambda model: None},
            TypeError,
            r"reinit must take \(model, seed\), got .* too many",
        ),
        ({"model": nn.Linear(3, 2, device="meta")}, RuntimeError, "on the meta device"),
        ({"rewind_step": -1}, ValueError, "rewind_step must be at least 0"),
    ],
)
def test_what_a_sweep_can_not_be_made_of(options, error, message, tmp_path):
    with pytest.raises(error, match=message):
        Sweep(tmp_path, **({"model": net(), "levels": 2} | options))
    assert not list(tmp_path.iterdir())


def test_epochs_that_can_not_be(tmp_path):
    sweep = Sweep(tmp_path, net(), levels=1)
    for level in sweep:
        optimizer = torch.optim.SGD(sweep.model.parameters(), lr=0.1)
        for arguments, error, message in (
            ({"last": 1, "first": 2}, ValueError, "last must be at least first=2, got 1"),
            ({"last": 2, "every": 0}, ValueError, "every must be at least 1"),
            ({"last": 2, "model": sweep.model}, ValueError, "keeps its model by itself"),
            ({"last": 2, "optimizer": 3}, TypeError, "'optimizer' must have state_dict"),
        ):
            with pytest.raises(error, match=message):
                list(level.epochs(**arguments))
        for _ in level.epochs(2, optimizer=optimizer):
            pass
        with pytest.raises(ValueError, match=r"00.inside.safetensors does not fit: 'scheduler' was not captured.*Remove it"):
            list(level.epochs(2, scheduler=optimizer))
        level.record()


def test_two_loops_in_one_thread_do_not_wait_for_each_other(tmp_path):
    sweep = Sweep(tmp_path, net(), levels=2)
    left = iter(sweep)
    next(left)
    with pytest.raises(RuntimeError, match="in work in this thread already: end that loop"):
        next(iter(sweep))
    left.close()
    next(iter(sweep)).record()


def test_a_finished_sweep_in_a_folder_that_may_only_be_read(tmp_path, monkeypatch):
    sweep = train(Sweep(tmp_path, net(), levels=2))

    def refuse(*arguments, **options):
        raise PermissionError

    monkeypatch.setattr(os, "replace", refuse)
    monkeypatch.setattr("builtins.open", partial(reading, open))
    assert not list(sweep)
    assert levels_of(sweep) == [0, 1]


def reading(opened, file, mode="r", *arguments, **options):
    assert not set(mode) & set("wax+"), file
    return opened(file, mode, *arguments, **options)


def test_keep_last_keeps_the_masks_and_the_last_weights(tmp_path):
    sweep = train(Sweep(tmp_path, net(), levels=3, keep="last"))
    names = sorted(path.name for path in tmp_path.iterdir())
    masks = [f"{k:02d}.mask.safetensors" for k in range(3)]
    assert names == [*masks, "02.weights.safetensors", "config.json", "levels.jsonl", "lock", "start.safetensors"]
    with pytest.raises(ValueError, match="keep='last' has kept no weights of level 1"):
        sweep.export(1, tmp_path / "x.pt")
    sweep.export(2, tmp_path / "x.pt")


def test_weights_that_were_kept_are_never_removed_later(tmp_path):
    train(Sweep(tmp_path, net(), levels=2))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for levels in (2, 3):
        with pytest.raises(ValueError, match=r"kept the weights of all its levels.* Nothing was removed: leave keep='all'"):
            train(Sweep(tmp_path, net(), levels=levels, keep="last"))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_more_levels_of_one_shot_without_the_dense_weights_say_the_way_out(tmp_path):
    train(Sweep(tmp_path, net(), levels=2, keep="last", one_shot=True))
    with pytest.raises(ValueError, match=r"masks end at level 1. Begin anew in another folder, with levels=3 from the first"):
        train(Sweep(tmp_path, net(), levels=3, keep="last", one_shot=True))
    assert levels_of(Sweep(tmp_path, net(), levels=2, keep="last", one_shot=True)) == [0, 1]


@pytest.mark.parametrize("one_shot", [True, False])
def test_a_level_that_keeps_no_weight_is_named(one_shot, tmp_path):
    sweep = Sweep(tmp_path, net(), Pruner(fraction=0.95), levels=3, one_shot=one_shot)
    with pytest.raises(
        ValueError, match=r"level 2, of nominal sparsity 99.75%, can't be pruned: .*levels=2, .*Pruner.reaching"
    ):
        train(sweep)
    assert levels_of(sweep) == [0, 1]


def test_a_stored_sweep_is_read_without_its_model(tmp_path, monkeypatch):
    sweep = train(Sweep(tmp_path / "a", net(), levels=3, seed=4, config={"lr": 0.1}, rewind_step=2, keep="last"))
    before = found(sweep.path)
    stored = StoredSweep(sweep.path)
    assert (stored.seed, stored.levels, stored.config, stored.path) == (4, 3, {"lr": 0.1}, sweep.path)
    assert stored.records == sweep.records
    assert all(map(np.array_equal, stored.curves(), sweep.curves()))
    assert stored.mask(1) == sweep.mask(1)
    assert {name: bits(t) for name, t in stored.weights(2).items()} == {name: bits(t) for name, t in sweep.weights(2).items()}
    with pytest.raises(ValueError, match="keep='last' has kept no weights of level 1"):
        stored.weights(1)
    with pytest.raises(TypeError, match="has no model to train: make a Sweep"):
        list(stored)
    with pytest.raises(FileNotFoundError, match="no sweep has begun in .*pass the folder of one seed"):
        StoredSweep(tmp_path)
    assert found(sweep.path) == before


def test_a_buffer_that_grows_is_named_with_what_to_do(tmp_path):
    model = net()
    model.register_buffer("seen", torch.zeros(1))
    sweep = Sweep(tmp_path, model, levels=2)
    with pytest.raises(
        ValueError, match=r"'seen' is torch.float32 \(1,\) there and torch.float32 \(2,\) in the model.*persistent"
    ):
        for level in sweep:
            model.seen = torch.zeros(2)
            level.record()
    assert levels_of(sweep) == [0]


def test_records_are_values():
    record = Record(1, 0.2, 80, 1.5, 0.1, {"test_accuracy": 0.9, "norm": None})
    assert record.test_accuracy == record["test_accuracy"] == 0.9
    assert record.norm is None
    assert not record.diverged
    with pytest.raises(AttributeError, match="no measure 'loss'. It has test_accuracy, norm"):
        record.loss  # noqa: B018
    with pytest.raises(KeyError, match="no column 'to_json'. It has level, sparsity"):
        record["to_json"]
    with pytest.raises(TypeError):
        record.measures["norm"] = 1.0
    assert Record.from_json(json.loads(json.dumps(record.to_json()))) == deepcopy(record) == record
    assert repr(record) == "Record(level 1, sparsity 20.00%, test accuracy 90.00%)"


def test_public_names():
    assert sparsedd.Sweep is Sweep
    assert LTR.weights == "rewind"


# ---------------------------------------------------------------- what strangers did


def killed_in(sweep, last, epoch, **parts):
    """Begin a level, and be killed in an epoch."""
    with pytest.raises(Killed):
        for level in sweep:
            for now in level.epochs(last, **parts):
                if now == epoch:
                    raise Killed


def test_fewer_epochs_than_were_trained_are_refused(tmp_path):
    killed_in(Sweep(tmp_path, net(), levels=1), 6, 4)
    for level in Sweep(tmp_path, net(), levels=1):
        assert list(level.epochs(2)) == []
        with pytest.raises(RuntimeError, match=r"trained for 4 epochs before, and now ends at 2.*00.inside.safetensors"):
            level.record()
        assert list(level.epochs(5)) == [4]
        level.record()


def test_a_dict_or_a_list_is_a_part(tmp_path):
    best, seen = {"accuracy": 0.5}, [1]
    killed_in(Sweep(tmp_path, net(), levels=1), 6, 3, best=best, seen=seen)
    other, again = {"accuracy": 0.0}, []
    for level in Sweep(tmp_path, net(), levels=1):
        next(level.epochs(6, best=other, seen=again))
        assert (other, again) == (best, seen)
        list(level.epochs(6, best=other, seen=again))
        level.record()


def test_two_phases_of_a_level_with_parts_of_their_own(tmp_path):
    def go(folder, at=None):
        sweep = Sweep(folder, net(), levels=1)
        for level in sweep:
            for first, last, name in ((0, 2, "one"), (2, 4, "two")):
                own = torch.optim.SGD(sweep.model.parameters(), lr=0.1, momentum=0.9)
                for epoch in level.epochs(last, first=first, **{name: own}):
                    if epoch == at:
                        raise Killed
                    x, y = batch(epoch, 0)
                    own.zero_grad()
                    cross_entropy(sweep.model(x), y).backward()
                    own.step()
            level.record()
        return found(folder)

    whole = go(tmp_path / "whole")
    for at in range(4):
        with pytest.raises(Killed):
            go(tmp_path / str(at), at)
        assert go(tmp_path / str(at)) == whole


def test_an_optimizer_that_is_not_kept_is_said(tmp_path):
    sweep = Sweep(tmp_path, net(), levels=1)
    optimizer = torch.optim.Adam(sweep.model.parameters())
    for level in sweep:
        with level.enforce(optimizer):
            for epoch in range(2):
                sweep.model(batch(0, epoch)[0]).sum().backward()
                optimizer.step()
        with pytest.warns(UserWarning, match=r"without the state of its Adam: pass it, level.epochs\(..., optimizer=opt"):
            list(level.epochs(1))
        level.record()


@pytest.mark.parametrize("regrow", [True, False])
def test_an_enforced_level_keeps_its_mask(regrow, tmp_path):
    sweep = Sweep(tmp_path, net(), levels=2)
    for level in sweep:
        optimizer = torch.optim.SGD(sweep.model.parameters(), lr=0.1)
        with level.enforce(optimizer) as enforcement:
            enforcement.update(level.mask, regrow=regrow)
            for other in (~level.mask, Pruner().prune(sweep.model, level.mask)):
                with pytest.raises(ValueError, match=r"a level keeps its Mask\(.*a mask that shrinks or moves needs a loop"):
                    enforcement.update(other, regrow=regrow)
            with pytest.raises(TypeError, match="mask must be a Mask, got None"):
                enforcement.update(None)
            assert enforcement.mask is level.mask
        assert level.record().sparsity == level.mask.sparsity


@pytest.mark.parametrize("reinit", [lambda model, seed: None, lambda model, seed: net(5)])
def test_new_weights_must_be_new(reinit, tmp_path):
    sweep = Sweep(tmp_path, net(), levels=2, retraining=SCRATCH, reinit=reinit)
    with pytest.raises(RuntimeError, match="must draw new weights in place"):
        train(sweep)
    assert levels_of(sweep) == [0]


def test_a_bias_that_is_not_finite_has_diverged(tmp_path):
    sweep = Sweep(tmp_path, net(), levels=2)
    for level in sweep:
        sweep.model[0].bias.data.fill_(torch.nan)
        with pytest.warns(match="level 0 has diverged"):
            assert level.record().diverged
    assert levels_of(sweep) == [0]


def test_after_the_loop_the_model_is_the_last_level(tmp_path):
    first = train(Sweep(tmp_path, net(), levels=2))
    again = train(Sweep(tmp_path, net(4), levels=2))
    for name, tensor in again.model.state_dict().items():
        assert bits(tensor) == bits(first.model.state_dict()[name]) == bits(first.weights(1)[name])


@pytest.mark.filterwarnings("ignore:.*is computed, by a parametrization:UserWarning")
def test_weights_that_are_computed_from_others_can_be_swept(tmp_path):
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(5, 6)), nn.Linear(6, 3))
    sweep = Sweep(tmp_path, filled(model), levels=1, names=["1.weight"])
    for level in sweep:
        model[1].weight.data[0, 0] += 2.0
        assert level.record().learning_distance == pytest.approx(2.0)


def test_a_relative_folder_stays_where_it_was(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    sweep = Sweep("runs", net(), levels=2)
    for level in sweep:
        monkeypatch.chdir(tmp_path / "elsewhere")
        level.record()
    assert sweep.path == tmp_path / "runs"
    assert levels_of(sweep) == [0, 1]


def test_a_model_that_was_pruned_before_is_said(tmp_path):
    model = net(width=40)
    Pruner().prune_to(model, 0.9).apply_(model)
    with pytest.warns(UserWarning, match="weights that the mask keeps are zero"):
        next(iter(Sweep(tmp_path, model, levels=1))).record()


def test_a_file_of_the_sweep_is_not_exported_over(tmp_path):
    sweep = train(Sweep(tmp_path, net(), levels=1))
    with pytest.raises(ValueError, match="is a file of the sweep itself"):
        sweep.export(0, tmp_path / "00.weights.safetensors")
    with pytest.raises(IsADirectoryError, match="is a folder, and path must be a file to write"):
        sweep.export(0, tmp_path)


# ---------------------------------------------------------------- several processes

RANKS = """
import os, sys
import torch
sys.path[:0] = [sys.argv[2]]
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel
import test_sweep as t
from sparsedd import Pruner, Sweep
torch.set_num_threads(1)
dist.init_process_group("gloo")
model = t.net(dist.get_rank())  # each rank draws weights of its own: those of the first count
sweep = Sweep(sys.argv[1], model, Pruner(fraction=0.4), levels=3, rewind_step=3)

def at(*place):
    if sys.argv[3] == repr(place):
        os._exit(3)

t.train(sweep, at=at)
print([r.measures["norm"] for r in sweep.records], flush=True)
dist.barrier()
dist.destroy_process_group()
"""


def test_ranks_of_one_sweep(tmp_path):
    """Two processes, one writer; killed in the middle of a level, they go on; the files are those of one process."""
    whole = train(Sweep(tmp_path / "whole", net(), Pruner(fraction=0.4), levels=3, rewind_step=3))
    script = tmp_path / "ranks.py"
    script.write_text(RANKS)
    for place, code in (("('step', 1, 1, 2)", 1), ("", 0)):
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
        arguments = [str(tmp_path / "out"), os.path.dirname(__file__), place]
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, env=environment, timeout=300)
        assert (done.returncode != 0) == code, done.stderr
    assert found(tmp_path / "out") == found(whole.path)
    assert done.stdout.count(repr([record.norm for record in whole.records])) == 2


def test_the_first_rank_goes_on_when_all_have_heard_its_word(monkeypatch):
    """It may hold the store, and end next."""
    store, heard = dist.HashStore(), []
    for name, value in {"is_initialized": True, "get_world_size": 2, "get_rank": 0}.items():
        monkeypatch.setattr(dist, name, lambda value=value: value)
    monkeypatch.setattr(dist.distributed_c10d, "_get_default_store", lambda: store)
    first, other = Ranks(), Ranks()
    first._key, other._key, other.rank = "key", "key", 1
    hear = other._hear

    def hear_late():
        time.sleep(0.2)
        heard.append(hear())
        return heard[-1]

    monkeypatch.setattr(other, "_hear", hear_late)
    with ThreadPoolExecutor(1) as thread:
        word = thread.submit(other.first, lambda: "its own")
        assert first.first(lambda: "a word") == "a word"
        assert heard, "the first one has gone on"
        assert word.result() == "a word"
