"""What trains in a model's place computes what the model computes."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from helpers import bits

from sparsedd import Mask, Pruner, data, metrics, models, sparse
from sparsedd.experiments import Experiment, run
from sparsedd.experiments._arithmetic import arithmetic
from sparsedd.experiments._task import Task
from sparsedd.experiments._train import Execution, sgd, train

LENET = replace(Experiment().scaled("smoke"), width=0.5)


def trained(experiment: Experiment, sparsity: float, epochs: int = 2) -> tuple[dict[str, torch.Tensor], Execution, object]:
    task = Task(experiment, "cpu")
    model = deepcopy(task.original)
    mask = Pruner().prune_to(model, sparsity, Mask.dense(model, task.names))
    execution = task.execution(model, mask)
    optimizer = sgd(execution.model, experiment)
    enforcement = execution.rest.enforce(execution.model, optimizer) if execution.rest is not None else None
    (curves,) = train(execution, optimizer, start=0, epochs=epochs, rate=task.rate)
    if enforcement is not None:
        enforcement.remove()
    execution.give_back_()
    assert mask.holds(model)
    return model.state_dict(), execution, curves


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9, 0.998])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sparse_and_dense_execution_train_the_same_net(sparsity, momentum):
    experiment = replace(LENET, momentum=momentum, weight_decay=1e-3)
    ours, execution, curves = trained(replace(experiment, sparse_below=1.1), sparsity)
    theirs, _, expected = trained(replace(experiment, sparse_below=0.0), sparsity)
    assert sparsity == 0 or execution.rest is None or not execution.rest.remaining, "all of it is in sparse form, or empty"
    for name, weight in ours.items():
        torch.testing.assert_close(weight, theirs[name], rtol=1e-3, atol=1e-5)
    assert curves.train_loss == pytest.approx(expected.train_loss, rel=1e-4)
    assert curves.test_accuracy == pytest.approx(expected.test_accuracy, abs=0.01)


def test_inputs_that_no_weight_looks_at_are_left_out():
    _, execution, _ = trained(LENET, 0.998)
    first = next(m for m in execution.model.modules() if isinstance(m, sparse.SparseLinear))
    assert first.shape[1] < 0.9 * 64
    inputs, _ = next(iter(execution.batches.epoch(0)))
    assert inputs.shape[1:] == (first.shape[1],)
    assert len(first.narrow_()) == first.shape[1]
    assert all(x.shape[1:] == (first.shape[1],) for part in execution.evaluated for x, _ in part)


def test_what_was_evaluated_is_all_the_samples():
    task = Task(LENET, "cpu")
    for sparsity in (0.0, 0.9, 0.998):
        model = deepcopy(task.original)
        mask = Pruner().prune_to(model, sparsity, Mask.dense(model, task.names))
        execution = task.execution(mask.apply_(model), mask)
        for part, samples in zip(execution.evaluated, (task.train, task.test), strict=True):
            ours, expected = metrics.evaluate(execution.net, part), metrics.evaluate(model, [samples])
            assert ours.n == expected.n
            assert ours.loss == pytest.approx(expected.loss, rel=1e-5)
            assert ours.accuracy == expected.accuracy


@pytest.mark.parametrize("sampled", [0.0, 1.0])  # both ways to the gradient of the weights
def test_narrowing_a_layer_changes_no_output(monkeypatch, sampled):
    monkeypatch.setattr(sparse, "SAMPLED", sampled)
    linear = torch.nn.Linear(40, 20)
    keep = torch.rand(20, 40, generator=torch.Generator().manual_seed(0)) < 0.05
    model, mask = torch.nn.Sequential(linear), Mask({"0.weight": keep})
    fast, _ = sparse.compact(model, mask)
    x = torch.randn(6, 40, generator=torch.Generator().manual_seed(1))
    narrow = deepcopy(fast)
    live = narrow[0].narrow_()
    assert torch.equal(live, keep.any(dim=0).nonzero().flatten())
    y, z = fast(x), narrow(x[:, live])
    assert bits(z) == bits(y)
    for output in (y, z):
        output.square().sum().backward()
    torch.testing.assert_close(narrow[0].values.grad, fast[0].values.grad)
    restored = sparse.expand_(deepcopy(model), narrow, mask)
    assert torch.equal(restored[0].weight, linear.weight * keep)
    with pytest.raises(ValueError, match=rf"a layer of {len(live)} inputs got 40: its inputs have shape \(6, 40\)"):
        narrow(x)


def test_batches_with_only_some_features():
    batches = data.Batches(data.blobs(train=50), size=20)
    features = torch.tensor([1, 3, 8])
    for (whole, labels), (part, same) in zip(batches.epoch(3), batches.narrowed(features).epoch(3), strict=True):
        assert torch.equal(part, whole.flatten(1)[:, features])
        assert torch.equal(labels, same)
    flipped = data.Batches(data.blobs(train=50), augmentation=(data.Flip(),))
    with pytest.raises(ValueError, match=r"augmentation needs whole images, and here is \(Flip"):
        flipped.narrowed(features)


@pytest.mark.parametrize("model", ["lenet_300_100", "resnet18"])
def test_bfloat16_is_near_and_not_the_same(tmp_path, model):
    tiny = {"model": "resnet18", "dataset": "blobs-cifar10", "exclude": (), "width": 1 / 16, "train_size": 60}
    experiment = LENET if model == "lenet_300_100" else replace(LENET, **tiny)
    exact, rounded = (next(run(replace(experiment, levels=1, precision=p), tmp_path)) for p in ("float32", "bfloat16"))
    assert exact.train_loss != rounded.train_loss
    assert exact.train_loss == pytest.approx(rounded.train_loss, rel=0.2)


@pytest.mark.parametrize(("precision", "inside"), [("tf32", "tf32"), ("float32", "ieee"), ("bfloat16", "ieee")])
def test_tensor_cores_are_used_as_the_precision_says_and_only_inside(precision, inside):
    backends = torch.backends.cuda.matmul, torch.backends.cudnn.conv
    before = [backend.fp32_precision for backend in backends]
    with pytest.raises(ZeroDivisionError), arithmetic(precision, torch.device("cuda")):
        assert [backend.fp32_precision for backend in backends] == [inside] * 2
        raise ZeroDivisionError
    assert [backend.fp32_precision for backend in backends] == before
    with arithmetic(precision, torch.device("cpu")):
        assert [backend.fp32_precision for backend in backends] == before


def test_compiled_nets_are_called_compiled(monkeypatch):
    experiment = replace(LENET, model="resnet18", dataset="blobs-cifar10", exclude=(), width=1 / 16, train_size=60)
    seen = []
    monkeypatch.setattr(torch, "compile", lambda model: seen.append(model) or models.resnet18(width=1 / 16, seed=1))
    task = Task(replace(experiment, compiled=True), "cpu")
    execution = task.execution(task.original, Mask.dense(task.original, task.names))
    assert seen == [execution.model]
    assert execution.net is not execution.model


def test_the_model_it_is_made_of_does_not_change_until_it_gets_its_weights_back():
    task = Task(LENET, "cpu")
    mask = Mask.dense(task.original, task.names)
    before = [bits(p) for p in task.original.parameters()]
    execution = task.execution(task.original, mask)
    optimizer = sgd(execution.model, LENET)
    train(execution, optimizer, start=0, epochs=1, rate=task.rate)
    assert [bits(p) for p in task.original.parameters()] == before
    execution.give_back_()
    assert [bits(p) for p in task.original.parameters()] == [bits(p) for p in execution.model.parameters()]
