"""Re-dense training and lines through the landscape."""

from dataclasses import replace

import pytest
import torch
from helpers import no_global_draws
from torch import nn
from torch.nn.functional import cross_entropy

from sparsedd import Mask, metrics
from sparsedd.experiments import (
    PRESETS,
    Experiment,
    Store,
    _redense,
    directions,
    interpolation,
    redense,
    redense_weights,
    run,
)
from sparsedd.experiments._task import Task
from sparsedd.experiments._train import in_order, sgd

LENET = replace(Experiment().scaled("smoke"), train_size=100, batch_size=40, milestones=(1,))
MOMENTUM = replace(LENET, momentum=0.9, weight_decay=1e-3)
RESNET = PRESETS["resnet18-cifar10"].scaled("smoke")


def by_hand(experiment, level, out, factor):
    """The same with torch's own optimizer in one go: sparse training, then all weights at the last rate."""
    task, store = Task(experiment, "cpu"), Store(out, experiment)
    model, mask = task.original, store.mask(level)
    if level:
        model.load_state_dict(store.start())
    mask.apply_(model)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, experiment.momentum, weight_decay=experiment.weight_decay)
    for epoch in range(2 * experiment.epochs):
        sparse = epoch < experiment.epochs
        model.train()
        if epoch == experiment.epochs:
            for name, p in model.named_parameters():
                buffer = optimizer.state[p].get("momentum_buffer")
                if buffer is not None and name in mask:
                    buffer.mul_(mask[name])
        for inputs, labels in task.batches.epoch(epoch):
            rate = experiment.schedule(1)(epoch) if sparse else factor * experiment.schedule(1)(experiment.epochs - 1)
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.zero_grad()
            cross_entropy(model(inputs), labels).backward()
            optimizer.step()
            if sparse:
                mask.apply_(model)
        if sparse and epoch == experiment.epochs - 1:
            for name, weight in store.weights(level).items():
                torch.testing.assert_close(model.state_dict()[name], weight)
    return model


@pytest.mark.parametrize("factor", [1.0, 0.1])
@pytest.mark.parametrize(
    "experiment", [LENET, MOMENTUM, replace(MOMENTUM, sparse_below=0.9), RESNET], ids=["sgd", "momentum", "compact", "resnet"]
)
def test_all_weights_go_on_with_the_same_optimizer_at_the_last_rate(tmp_path, experiment, factor):
    experiment = replace(experiment, rewind_step=0)
    with no_global_draws():
        record = redense(experiment, 2, tmp_path, factor)
    model = by_hand(experiment, 2, tmp_path, factor)
    for name, weight in redense_weights(experiment, 2, tmp_path, factor).items():
        torch.testing.assert_close(weight, model.state_dict()[name], rtol=2e-3, atol=2e-4)
    store = Store(tmp_path, experiment)
    assert record.sparse == store.levels()[2].epochs
    assert record.dense.epoch == (3, 4)
    assert (record.level, record.sparsity, record.factor) == (2, store.levels()[2].sparsity, factor)
    task = Task(experiment, "cpu")
    task.original.load_state_dict(redense_weights(experiment, 2, tmp_path, factor))
    found = metrics.evaluate(task.original, in_order(task.test))
    assert (found.accuracy, found.loss) == pytest.approx((record.dense.test_accuracy[-1], record.dense.test_loss[-1]))
    assert store.mask(2).sparsity > 0.3
    assert Mask.nonzero(task.original, task.names).sparsity < 0.1, "pruned weights have come back"


def test_a_tenth_of_the_rate_goes_less_far(tmp_path):
    far, near = (
        metrics.learning_distance(Store(tmp_path, LENET).weights(2), redense_weights(LENET, 2, tmp_path, factor))
        for factor in (1.0, 0.1)
        if redense(LENET, 2, tmp_path, factor)
    )
    assert near < 0.5 * far


def test_what_is_there_is_not_computed_again_and_another_level_is_not_taken_for_it(tmp_path, monkeypatch):
    first = redense(LENET, 1, tmp_path)
    line = interpolation(LENET, 1, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(_redense, "train", None)
        assert redense(LENET, 1, tmp_path) == first
        assert interpolation(LENET, 1, tmp_path) == line
    path = next(tmp_path.rglob("01.redense-1.safetensors"))
    other = next(tmp_path.rglob("01.redense-1.interpolation.safetensors"))
    for file, call in ((path, redense), (other, interpolation)):
        whole = file.read_bytes()
        file.write_bytes(whole[:-3] + b"xyz")
        with pytest.raises(ValueError, match=file.name):
            call(LENET, 1, tmp_path)
        file.write_bytes(whole)
    path.write_bytes(Store(tmp_path, LENET).path.joinpath("00.mask.safetensors").read_bytes())
    with pytest.raises(ValueError, match="holds a mask"):
        redense(LENET, 1, tmp_path)


def test_a_result_of_another_net_is_made_anew(tmp_path):
    redense(LENET, 2, tmp_path / "a")
    list(run(replace(LENET, seed=5), tmp_path / "b"))
    here = Store(tmp_path / "b", replace(LENET, seed=5))
    strange = Store(tmp_path / "a", LENET).path / "02.redense-1.safetensors"
    (here.path / strange.name).write_bytes(strange.read_bytes())
    record = redense(replace(LENET, seed=5), 2, tmp_path / "b")
    assert record.sparse == here.levels()[2].epochs


def test_the_momentum_is_put_where_the_parameters_are():
    model = nn.Linear(3, 2, device="meta")
    optimizer = sgd(model, MOMENTUM, {"weight": torch.ones(2, 3), "bias": torch.ones(2)})
    assert all(optimizer.state[p]["momentum_buffer"].device == p.device for p in model.parameters())


def test_a_factor_that_is_nearly_another_is_another(tmp_path):
    factors = [redense(LENET, 1, tmp_path, factor).factor for factor in (0.123456, 0.1234561)]
    assert factors == [0.123456, 0.1234561]


def test_weights_of_another_level_are_refused(tmp_path):
    for level in (1, 2):
        redense(LENET, level, tmp_path)
    folder = Store(tmp_path, LENET).path
    (folder / "01.redense-1.safetensors").write_bytes((folder / "02.redense-1.safetensors").read_bytes())
    with pytest.raises(ValueError, match="made of another net"):
        redense_weights(LENET, 1, tmp_path)


@pytest.mark.parametrize(
    ("level", "factor", "error"), [(3, 1.0, ValueError), (-1, 1.0, ValueError), (1, 0.0, ValueError), (1.5, 1.0, TypeError)]
)
def test_wrong_arguments_are_refused(tmp_path, level, factor, error):
    with pytest.raises(error, match="got"):
        redense(LENET, level, tmp_path, factor)
    assert not list(tmp_path.iterdir())


def test_weights_of_what_has_not_run_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="call redense first"):
        redense_weights(LENET, 1, tmp_path)


# ---------------------------------------------------------------- lines


@pytest.mark.parametrize("experiment", [LENET, RESNET], ids=["lenet", "resnet"])
def test_a_line_leads_from_the_sparse_net_to_the_re_dense_one(tmp_path, experiment):
    record = redense(experiment, 2, tmp_path)
    with no_global_draws():
        line = interpolation(experiment, 2, tmp_path)
    assert line.alpha == (0.0, 0.25, 0.5, 0.75, 1.0)
    assert all(len(getattr(line, name)) == 5 for name in ("train_loss", "test_loss", "train_accuracy", "test_accuracy"))
    if experiment is LENET:  # no statistics to estimate anew
        for k, curve in ((0, record.sparse), (-1, record.dense)):
            assert line.train_loss[k] == pytest.approx(curve.train_loss[-1], rel=1e-5)
            assert line.test_accuracy[k] == curve.test_accuracy[-1]


@pytest.mark.parametrize("experiment", [LENET, RESNET], ids=["lenet", "resnet"])
def test_directions_pass_through_the_re_dense_net(tmp_path, experiment):
    record = redense(experiment, 1, tmp_path)
    with no_global_draws():
        lines = directions(experiment, 1, tmp_path)
    assert [line.name for line in lines] == ["direction 0", "direction 1"]
    for line in lines:
        assert line.alpha == (-1.0, -0.5, 0.0, 0.5, 1.0)
        assert line.train_loss[2] == pytest.approx(record.dense.train_loss[-1], rel=1e-6)
        assert line.test_loss == (None,) * 5
    assert lines[0].train_loss != lines[1].train_loss
    assert directions(experiment, 1, tmp_path) == lines
