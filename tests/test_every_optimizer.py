"""Optimizers and loops of every kind: pruned weights stay +0.0, kept ones train f(w * m), or there is an error."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from functools import partial
from time import sleep

import pytest
import torch
from helpers import batch, bits, net, no_global_draws
from test_enforcement import Reference, gradients, half, same_where_kept
from torch import distributed as dist
from torch import nn
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.nn.functional import cross_entropy, embedding
from torch.optim import LBFGS, SGD, Adafactor, Adagrad, Adam, AdamW, Muon, Optimizer, SparseAdam
from torch.optim.optimizer import register_optimizer_step_post_hook
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


# ---------------------------------------------------------------- other people's optimizers


class Stranger(Optimizer):
    """Descends along gradient / state, where ``born(p)`` makes the state."""

    def __init__(self, params, lr=0.05, born=torch.ones_like):
        super().__init__(params, {"lr": lr})
        self.born = born

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if not (state := self.state[p]):
                    state["v"] = self.born(p)
                v = state["v"][0] if isinstance(state["v"], list) else state["v"]
                if v.dtype != torch.bool:
                    v.add_(p.grad.view_as(v) ** 2)
                p.sub_(group["lr"] * p.grad / v.float().view_as(p).add(0.01).sqrt())


class Packed(torch.Tensor):
    """Knows no operator that masks."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func is torch.Tensor.masked_fill_:
            raise NotImplementedError
        return super().__torch_function__(func, types, args, kwargs or {})

    def dequantize(self):
        return self.as_subclass(torch.Tensor)


BORN = {
    "ones": torch.ones_like,
    "zeros": torch.zeros_like,
    "flags": lambda p: torch.ones_like(p, dtype=torch.bool),
    "flat": lambda p: torch.ones_like(p).flatten(),
    "in a list": lambda p: [torch.ones_like(p)],
    "a class of tensors": lambda p: torch.zeros_like(p).as_subclass(Packed),
}


@pytest.mark.parametrize("born", BORN.values(), ids=BORN)
@pytest.mark.parametrize("dense", [0, 2])
def test_a_stranger_leaves_with_the_state_that_a_fresh_one_of_its_kind_holds(born, dense):
    model, mask, _, ours, _ = pair(Stranger, {"born": born})
    run(model, ours, range(dense))
    with no_global_draws(), mask.enforce(model, ours):
        run(model, ours, range(3))
    for name, keep in mask.items():
        p = model.get_parameter(name)
        (held,) = [value for value in (ours.state[p]["v"], *ours.state[p]["v"]) if isinstance(value, torch.Tensor)][:1]
        (fresh,) = [value for value in (born(p), *born(p)) if isinstance(value, torch.Tensor)][:1]
        held, fresh = held.view_as(p), fresh.view_as(p)
        assert torch.equal(held[~keep], fresh[~keep])
        assert torch.equal(held[keep], fresh[keep]) == (held.dtype == torch.bool)
    run(model, ours, [5])
    assert all(p.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("born", [lambda p: torch.rand_like(p), lambda p: torch.zeros_like(p, dtype=torch.int8)])
def test_a_state_that_could_be_anything_is_left_alone_with_a_warning(born):
    model, mask, _, ours, _ = pair(Stranger, {"born": born})
    enforcement = mask.enforce(model, ours)
    for p in model.parameters():
        ours.state[p]["v"] = born(p)
    before = {p: bits(state["v"]) for p, state in ours.state.items()}
    with pytest.warns(UserWarning, match="'v' of Stranger may remember") as warned:
        enforcement.remove()
    assert len(warned) == 1
    assert warned[0].filename == __file__
    assert before == {p: bits(state["v"]) for p, state in ours.state.items()}
    assert not ours._optimizer_step_post_hooks


class Averaging(Optimizer):
    """Schedule-free: the weights swap with an average that the optimizer remembers."""

    def __init__(self, params, lr=0.05):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        for p in self.param_groups[0]["params"]:
            z = self.state[p].setdefault("z", p.clone())
            p.lerp_(z.sub_(p.grad - p.grad.mean(), alpha=self.param_groups[0]["lr"]), 0.5)  # centred: moves pruned ones too

    @torch.no_grad()
    def eval(self):
        for p in self.param_groups[0]["params"]:
            p.lerp_(self.state[p]["z"], -1.0)


@pytest.mark.parametrize("when", ["on entry", "on update"])
def test_weights_that_live_in_an_optimizer_are_pruned_there(when):
    model, mask, _, ours, _ = pair(Averaging, {})
    run(model, ours, range(3))
    with (mask if when == "on entry" else Mask.dense(model, list(mask))).enforce(model, ours) as enforcement:
        if when == "on update":
            run(model, ours, range(3))
            enforcement.update(mask)
        ours.eval()
        assert mask.holds(model)
        run(model, ours, range(3))
        ours.eval()
        assert mask.holds(model)


class Clipping(SGD):
    def step(self, closure=None):
        nn.utils.clip_grad_norm_([p for group in self.param_groups for p in group["params"]], 0.1)
        return super().step(closure)


def test_a_subclass_may_look_at_the_whole_gradient():
    model, mask, reference, ours, theirs = pair(Clipping, {"momentum": 0.9})
    with mask.enforce(model, ours):
        for step in range(6):
            run(model, ours, [step])
            run(reference, theirs, [step])
            assert same_where_kept(model, reference)


# ---------------------------------------------------------------- wrapped optimizers


class Hookless(Optimizer):
    def __init__(self, inner):
        self.inner = inner

    @property
    def param_groups(self):
        return self.inner.param_groups

    def step(self, closure=None):
        return self.inner.step(closure)

    def zero_grad(self, set_to_none=True):
        self.inner.zero_grad()


def accelerated(optimizer):
    from accelerate import Accelerator

    return Accelerator(cpu=True).prepare(optimizer)


def lightning(optimizer):
    from lightning.pytorch.core.optimizer import LightningOptimizer

    wrapper = LightningOptimizer(optimizer)
    wrapper.step = optimizer.step  # what a strategy calls in the end
    return wrapper


WRAPPERS = [accelerated, lightning, Hookless, lambda o: Hookless(Hookless(o)), lambda o: Hookless(accelerated(o))]


@pytest.mark.parametrize("wrap", WRAPPERS)
def test_a_wrapped_optimizer_is_the_one_inside(wrap):
    model, mask, reference, ours, theirs = pair(SGD, {"momentum": 0.9})
    wrapper = wrap(ours)
    run(model, wrapper, [9])
    with mask.enforce(model, wrapper):
        run(model, wrapper, range(3))
        assert mask.holds(model)
        assert len(ours._optimizer_step_post_hooks) == 1
    assert not ours.state[model.fc.weight]["momentum_buffer"][~mask["fc.weight"]].any()
    assert not ours._optimizer_step_post_hooks
    run(model, wrapper, [5])
    assert not mask.holds(model)


def without_hooks(model):
    optimizer = SGD(model.parameters(), 0.05)
    del optimizer._optimizer_step_pre_hooks, optimizer._optimizer_step_post_hooks
    return Hookless(optimizer)


def without_order(model):
    optimizer = SGD(model.parameters(), 0.05)
    optimizer._optimizer_step_post_hooks = dict(optimizer._optimizer_step_post_hooks)
    return optimizer


@pytest.mark.parametrize("other", [without_hooks, without_order])
def test_an_optimizer_that_can_not_be_enforced_changes_nothing(other):
    model, mask = net(), half(net())
    optimizer, before = other(model), [bits(p) for p in model.parameters()]
    good = SGD(model.parameters(), 0.05)
    with pytest.raises(TypeError, match="calls no step hooks|holds no parameter"):
        mask.enforce(model, good, optimizer)
    assert before == [bits(p) for p in model.parameters()]
    assert not good._optimizer_step_post_hooks
    assert not good._optimizer_step_pre_hooks


# ---------------------------------------------------------------- steps that raise, and threads


def test_a_weight_that_is_one_number_does_not_take_the_count_of_steps_for_its_state():
    model = nn.ParameterDict({"a": nn.Parameter(torch.ones(())), "b": nn.Parameter(torch.ones(()))})
    mask, optimizer = Mask({"a": torch.tensor(False), "b": torch.tensor(True)}), Adam(model.parameters(), 0.05)
    with mask.enforce(model, optimizer):
        (model["a"] + model["b"]).backward()
        optimizer.step()
    assert [float(optimizer.state[model["a"]][key]) for key in ("step", "exp_avg")] == [1.0, 0.0]


def test_a_stranger_after_a_step_that_raised_is_noticed():
    model, mask, _, ours, _ = pair(SGD, {})

    def failing():
        raise ZeroDivisionError

    with pytest.raises(RuntimeError, match=r"\(another Adam\)"), mask.enforce(model, ours):
        with suppress(ZeroDivisionError):
            ours.step(failing)
        run(model, Adam(model.parameters()), [0])
        run(model, ours, [1])


def test_what_steps_within_a_step_is_forgiven():
    model, mask, _, ours, _ = pair(SGD, {})
    inner = Adam(model.parameters())
    with mask.enforce(model, ours):
        ours.zero_grad()
        ours.step(lambda: run(model, inner, [0]))


def test_the_optimizer_of_another_model_is_not_blamed():
    model, mask, _, ours, _ = pair(SGD, {})
    other = net(3)
    with mask.enforce(model, ours):
        model.load_state_dict(net(1).state_dict())
        run(other, Adam(other.parameters()), [0])
        mask.apply_(model)
        run(model, ours, [0])


def test_two_models_in_two_threads_know_nothing_of_each_other():
    def train(seed):
        for turn in range(40):
            model, mask = net(seed), half(net(), seed=turn)
            optimizer = Adam(model.parameters(), 0.01)
            with mask.enforce(model, optimizer):
                for step in range(3):
                    run(model, optimizer, [step])
                    assert mask.holds(model)

    other = register_optimizer_step_post_hook(lambda *_: sleep(1e-4))  # the other thread goes on among torch's hooks
    try:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(train, range(2)))
    finally:
        other.remove()
