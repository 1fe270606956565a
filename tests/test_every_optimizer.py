"""Optimizers and loops of every kind: pruned weights stay +0.0, kept ones train f(w * m), or there is an error."""

import copy
import pickle
from contextlib import nullcontext, suppress
from functools import partial

import pytest
import torch
from helpers import batch, bits, net
from test_enforcement import Reference, gradients, half, same_where_kept
from torch import distributed as dist
from torch import nn
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.nn.functional import cross_entropy, embedding
from torch.optim import LBFGS, SGD, Adafactor, Adagrad, Adam, AdamW, Muon, Optimizer, SparseAdam
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from sparsedd import Mask, Pruner, Rewinder

an_error_is_as_good = partial(suppress, RuntimeError, ValueError)

# Those that look at a whole gradient, and need apply_to_grads_ before each step. Muon takes matrices only.
WHOLE = [
    (Muon, {"weight_decay": 0.1}),
    (Muon, {"nesterov": False, "adjust_lr_fn": "match_rms_adamw"}),
    (Adafactor, {"foreach": False}),
    (Adafactor, {"foreach": True, "maximize": True, "weight_decay": 0.1}),
    (LBFGS, {}),
    (LBFGS, {"line_search_fn": "strong_wolfe"}),
]
ELEMENTWISE = [
    (kind, form)
    for kind in (SGD, Adam, AdamW, Adagrad)
    for form in ({"fused": True}, {"lr": torch.tensor(0.05)}, {"fused": True, "lr": torch.tensor(0.05), "weight_decay": 0.1})
]
EVERY = [k for k in vars(torch.optim).values() if isinstance(k, type) and issubclass(k, Optimizer) and k is not Optimizer]


def trained(kind, weights):
    return [w for w in weights if w.dim() == 2] if kind is Muon else list(weights)


def run(f, optimizer, steps, masked=lambda: None):
    """Steps of any optimizer, each on a batch of its own."""
    for step in steps:

        def closure(step=step):
            loss = gradients(f, optimizer, step)
            masked()
            return loss

        if isinstance(optimizer, LBFGS):
            optimizer.step(closure) if step % 2 else optimizer.step(closure=closure)
        else:
            closure()
            optimizer.step()


def pair(kind, settings):
    model, mask = net(), half(net())
    reference = Reference(model, mask)
    settings = {"lr": 0.05, **settings}
    ours, theirs = (kind(trained(kind, f.parameters()), **copy.deepcopy(settings)) for f in (model, reference))
    return model, mask, reference, ours, theirs


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize(("kind", "settings"), WHOLE)
def test_what_looks_at_a_whole_gradient_is_exact_after_apply_to_grads(kind, settings, masked):
    model, mask, reference, ours, theirs = pair(kind, settings)
    with nullcontext() if masked else an_error_is_as_good(), mask.enforce(model, ours):
        for step in range(6):
            run(model, ours, [step], lambda: mask.apply_to_grads_(model) if masked else None)
            run(reference, theirs, [step])
            assert same_where_kept(model, reference)


def test_lbfgs_evaluates_the_masked_function_after_dense_training():
    model, mask, _, ours, _ = pair(LBFGS, {})
    run(model, ours, range(2))
    with an_error_is_as_good(), mask.enforce(model, ours):
        run(model, ours, [2], lambda: mask.holds(mask.apply_to_grads_(model)) or pytest.fail("a dense function"))


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize(("kind", "settings"), ELEMENTWISE)
def test_fused_and_tensor_rates_with_and_without_skipped_steps(kind, settings, scaled):
    model, mask, reference, ours, theirs = pair(kind, settings)
    scalers = [torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=4, enabled=scaled) for _ in range(2)]
    with mask.enforce(model, ours):
        for step in range(8):
            before = bits(model.fc.weight)
            for f, optimizer, scaler in ((model, ours, scalers[0]), (reference, theirs, scalers[1])):
                optimizer.zero_grad()
                x, y = batch(step)
                scaler.scale(cross_entropy(f(x), y) * (float("inf") if scaled and step == 3 else 1.0)).backward()
                scaler.step(optimizer)
                scaler.update()
            assert same_where_kept(model, reference)
            assert (bits(model.fc.weight) == before) == (scaled and step == 3)


@pytest.mark.filterwarnings("ignore:Sparse invariant checks are implicitly disabled:UserWarning")
@pytest.mark.parametrize(("kind", "settings"), [(SparseAdam, {}), (SGD, {}), (Adagrad, {}), (SGD, {"momentum": 0.9})])
def test_sparse_gradients(kind, settings):
    model = nn.Embedding(9, 4, sparse=True)
    mask = Pruner("random", fraction=0.5).prune(model, Mask.dense(model, ["weight"]))
    m, w = mask["weight"].float(), (model.weight.detach() * mask["weight"]).requires_grad_()
    ours, theirs = kind(model.parameters(), lr=0.05, **settings), kind([w], lr=0.05, **settings)
    with mask.enforce(model, ours):
        for step in range(6):
            at = torch.tensor([step, 2 * step % 9, 3])
            for optimizer, f in ((ours, model), (theirs, lambda at: embedding(at, w, sparse=True) * m[at])):
                optimizer.zero_grad()
                (f(at) + 1).square().sum().backward()
                optimizer.step()
            assert bits(model.weight.detach()) == bits(torch.where(mask["weight"], w.detach(), 0.0))


@pytest.mark.parametrize("settings", [{"capturable": True}, {"differentiable": True}])
def test_what_torch_refuses_passes_through(settings):
    model, mask, _, ours, _ = pair(Adam, settings)
    with pytest.raises((AssertionError, RuntimeError), match="capturable=True|a leaf Variable"), mask.enforce(model, ours):
        run(model, ours, [0])
    assert mask.holds(model)


def test_two_optimizers_of_the_same_weights():
    model, mask, reference, *first = pair(SGD, {"momentum": 0.9})
    second = [Adam(f.parameters(), 0.01) for f in (model, reference)]
    with mask.enforce(model, first[0], second[0]):
        for step in range(6):
            for f, optimizer in zip((model, reference), (first, second)[step % 2], strict=True):
                run(f, optimizer, [step])
            assert same_where_kept(model, reference)


@pytest.mark.parametrize("average", [None, get_ema_multi_avg_fn(0.9)], ids=["SWA", "EMA"])
@pytest.mark.parametrize("how", ["loop", "hook"])
def test_an_average_of_masked_weights_is_masked(average, how):
    model, mask, _, ours, _ = pair(Adam, {})
    averaged = AveragedModel(mask.apply_(model), multi_avg_fn=average)
    if how == "hook":
        ours.register_step_post_hook(lambda *_: averaged.update_parameters(model))
    with mask.enforce(model, ours):
        for step in range(4):
            run(model, ours, [step])
            if how == "loop":
                averaged.update_parameters(model)
    assert mask.holds(averaged.module)


# ---------------------------------------------------------------- what trains the weights is not what is enforced


def shallow(model, ours):
    for optimizer in (copy.copy(ours), ours):  # its hooks are not copied
        run(model, optimizer, [0])
        yield


def second(model, ours):
    for optimizer in (SGD(model.parameters(), 0.05), ours):
        run(model, optimizer, [0])
        yield


def between(model, ours):
    for optimizer in (ours, SGD(model.parameters(), 0.05), ours):
        run(model, optimizer, [0])
        yield


def loaded(model, ours):
    model.load_state_dict(net(1).state_dict())
    yield
    run(model, ours, [0])


def rewound(model, ours):
    Rewinder(model=net(1)).rewind(model=model)
    yield
    run(model, ours, [0])


@pytest.mark.parametrize("loop", [shallow, second, between])
def test_an_optimizer_that_was_not_passed_is_noticed_though_a_step_zeroes_what_it_moved(loop):
    model, mask, _, ours, _ = pair(SGD, {})
    with (
        pytest.raises(RuntimeError, match=r"pruned weights were moved by something else.*\(another SGD\)"),
        mask.enforce(model, ours),
    ):
        held = [mask.holds(model) for _ in loop(model, ours)]  # what the next forward pass meets
        assert not all(held)


@pytest.mark.parametrize("loop", [loaded, rewound])
def test_weights_that_were_loaded_between_the_steps_are_zeroed_with_a_warning(loop):
    model, mask, _, ours, _ = pair(SGD, {})
    with mask.enforce(model, ours):
        for _ in loop(model, ours):
            mask.apply_(model)  # as they should
    with pytest.warns(UserWarning, match="pruned weights were moved between two steps"), mask.enforce(model, ours):
        assert [mask.holds(model) for _ in loop(model, ours)] == [False]


def deep_copied(model, ours):
    return copy.deepcopy(ours)


def unpickled(model, ours):
    return pickle.loads(pickle.dumps(ours))


def of_master_weights(model, ours):
    return SGD([p.detach().clone().requires_grad_() for p in model.parameters()], 0.05)


def left_behind(model, ours):
    model.load_state_dict(copy.deepcopy(model.state_dict()), assign=True)
    return ours


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("other", [deep_copied, unpickled, of_master_weights, left_behind])
def test_an_optimizer_that_holds_no_weight_of_the_model_is_noticed(other, late):
    model, mask, _, ours, _ = pair(SGD, {})
    with pytest.raises((RuntimeError, ValueError, UserWarning), match="optimizer"):
        ours = ours if late else other(model, ours)
        with mask.enforce(model, ours):
            run(model, other(model, ours) if late else ours, [0])


@pytest.mark.parametrize("how", ["between", "in backward"])
def test_a_step_leaves_weights_of_other_optimizers_alone(how):
    model, mask = net(), half(net())
    ours = {p: SGD([p], 0.05) for p in model.parameters()}
    with mask.enforce(model, *ours.values()):
        if how == "between":
            loss = model.fc(torch.ones(2, 48, requires_grad=True)).sum()
            model.conv.weight.grad = torch.ones_like(model.conv.weight)
            ours[model.conv.weight].step()
            loss.backward()
        else:
            for p in model.parameters():
                p.register_post_accumulate_grad_hook(lambda p: ours[p].step())
            gradients(model, ours[model.fc.weight], 0)


def test_leaving_a_sharded_optimizer_forgets_the_momentum_of_pruned_weights(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    try:
        model, mask = net(), half(net())
        ours = ZeroRedundancyOptimizer(model.parameters(), SGD, lr=0.05, momentum=0.9)
        with an_error_is_as_good(), mask.enforce(model, ours):
            run(model, ours, range(3))
            assert mask.holds(model)
        momentum = ours.optim.state[model.fc.weight]["momentum_buffer"]
    finally:
        dist.destroy_process_group()
    assert not momentum[~mask["fc.weight"]].any()


# ---------------------------------------------------------------- going back


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", [kind for kind in EVERY if kind is not SparseAdam])
def test_every_optimizer_goes_on_from_where_it_was(kind, dtype, tmp_path):
    def go(model, optimizer):
        for step in range(3, 6):
            gradient = partial(gradients, model, optimizer, step, dtype)
            gradient()
            optimizer.step(gradient if kind is LBFGS else None)
        return [bits(p) for p in model.parameters()]

    model = net().to(dtype)
    optimizer = kind(trained(kind, model.parameters()), lr=0.02)
    go(model, optimizer)
    start = Rewinder(model=model, optimizer=optimizer)
    start.save(tmp_path / "start")
    end = go(model, optimizer)
    for point, seed in ((start, 0), (Rewinder.load(tmp_path / "start"), 7)):
        other = net(seed).to(dtype)
        twin = kind(trained(kind, other.parameters()), lr=0.02)
        point.rewind(model=other, optimizer=twin)
        for p, q in zip(optimizer.state_dict()["state"].values(), twin.state_dict()["state"].values(), strict=True):
            assert [getattr(v, "dtype", None) for v in p.values()] == [getattr(v, "dtype", None) for v in q.values()]
        assert go(other, twin) == end
