import copy
import gc
import pickle
import weakref
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from helpers import batch, bits, everything, filled, net, no_global_draws
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy
from torch.optim import SGD, Adadelta, Adagrad, Adam, Adamax, AdamW, Optimizer, RMSprop, Rprop
from torch.optim.lr_scheduler import OneCycleLR
from torch.optim.optimizer import _global_optimizer_post_hooks

from sparsedd import Mask, Pruner, _enforcement, _words

# ---------------------------------------------------------------- every elementwise optimizer, in every form it has

NOT_ELEMENTWISE = {torch.optim.Adafactor, torch.optim.Muon, torch.optim.LBFGS, torch.optim.SparseAdam}
FUSED = {SGD, Adam, AdamW, Adagrad}
PLAIN = [
    (kind, {})
    for kind in vars(torch.optim).values()
    if isinstance(kind, type) and issubclass(kind, Optimizer) and kind not in {Optimizer, *NOT_ELEMENTWISE}
]
SETTINGS = [
    (SGD, {"momentum": 0.9}),
    (SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    (SGD, {"momentum": 0.9, "dampening": 0.5, "maximize": True}),
    (Adam, {"amsgrad": True, "weight_decay": 0.1}),
    (AdamW, {"amsgrad": True, "maximize": True}),
    (torch.optim.NAdam, {"weight_decay": 0.1, "decoupled_weight_decay": True}),
    (torch.optim.RAdam, {"weight_decay": 0.1}),
    (Adamax, {"weight_decay": 0.1}),
    (Adagrad, {"initial_accumulator_value": 0.5, "lr_decay": 0.1, "weight_decay": 0.1}),
    (Adadelta, {"weight_decay": 0.1, "maximize": True}),
    (RMSprop, {"centered": True, "momentum": 0.9, "weight_decay": 0.1}),
    (Rprop, {"etas": (0.4, 1.3), "maximize": True}),
    (torch.optim.ASGD, {"t0": 5, "weight_decay": 0.1}),
]


def _cases() -> list[Any]:
    cases = []
    for (kind, settings), form in product(PLAIN + SETTINGS, ("single", "foreach", "fused")):
        if form == "fused" and (kind not in FUSED or settings.get("lr_decay")):
            continue
        how = {"single": {"foreach": False}, "foreach": {"foreach": True}, "fused": {"fused": True}}[form]
        name = "-".join([kind.__name__, *(k if v is True else f"{k}={v}" for k, v in settings.items()), form])
        cases.append(pytest.param(kind, {"lr": 0.05, **settings, **how}, id=name))
    return cases


every_optimizer = pytest.mark.parametrize(("kind", "settings"), _cases())


# ---------------------------------------------------------------- the same training of f(w * m), written independently


def half(model: nn.Module, seed: int = 0) -> Mask:
    """A mask that prunes about half of all weight tensors."""
    generator = torch.Generator().manual_seed(seed)
    return Mask({n: torch.rand(p.shape, generator=generator) < 0.5 for n, p in model.named_parameters() if p.dim() > 1})


class Reference:
    """Trains plain tensors w through f(w * m), m a tensor of zeros and ones: nothing of sparsedd but the mask's bits."""

    def __init__(self, model: nn.Module, mask: Mask) -> None:
        self.model = copy.deepcopy(model)
        self.m = {n: torch.ones_like(p).detach() for n, p in model.named_parameters()}
        self.prune(mask)
        self.w = {n: (p.detach() * self.m[n]).clone().requires_grad_() for n, p in model.named_parameters()}

    def prune(self, mask: Mask) -> None:
        for name, keep in mask.items():
            self.m[name][~keep] = 0.0

    def __call__(self, x: Tensor) -> Tensor:
        return functional_call(self.model, {n: w * self.m[n] for n, w in self.w.items()}, (x,))

    def parameters(self) -> list[Tensor]:
        return list(self.w.values())


def gradients(f: Callable[[Tensor], Tensor], optimizer: Optimizer, step: int, dtype: torch.dtype = torch.float32) -> Tensor:
    optimizer.zero_grad()
    x, y = batch(step)
    loss = cross_entropy(f(x.to(dtype)), y)
    loss.backward()
    return loss


def same_where_kept(model: nn.Module, reference: Reference) -> bool:
    """Bit for bit where m = 1, and +0.0, sign bit included, where m = 0."""
    for name, p in model.named_parameters():
        keep = reference.m[name] != 0
        pruned = p.detach()[~keep]
        if bits(p[keep]) != bits(reference.w[name][keep]) or bits(pruned) != bits(torch.zeros_like(pruned)):
            return False
    return True


def moved(model: nn.Module, start: nn.Module) -> bool:
    return not any(torch.equal(p, q) for p, q in zip(model.parameters(), start.parameters(), strict=True))


@every_optimizer
def test_fifty_steps_are_those_of_training_the_masked_function(kind, settings):
    model, start = net(), net()
    mask = half(model)
    reference = Reference(model, mask)
    ours, theirs = kind(model.parameters(), **settings), kind(reference.parameters(), **settings)
    with mask.enforce(model, ours):
        assert same_where_kept(model, reference)
        for step in range(50):
            gradients(model, ours, step)
            gradients(reference, theirs, step)
            assert step > 3 or model.fc.weight.grad[~mask["fc.weight"]].all()  # there is something to hold back
            ours.step()
            theirs.step()
            assert same_where_kept(model, reference), step
    assert moved(model, start)


@given(
    data=st.data(),
    case=st.sampled_from([(case.values[0], case.values[1]) for case in _cases()]),
    share=st.sampled_from([0.0, 0.02, 0.3, 0.9, 1.0]),
    seed=st.integers(0, 10**6),
    lr=st.sampled_from([1e-4, 0.05, 1.0, 30.0]),
)
def test_any_mask_any_optimizer_any_rate(data, case, share, seed, lr):
    kind, settings = case
    settings = {**settings, "lr": lr}
    model = net(seed)
    generator = torch.Generator().manual_seed(seed)
    names = data.draw(st.lists(st.sampled_from([n for n, _ in model.named_parameters()]), min_size=1, unique=True))
    shapes = {n: p.shape for n, p in model.named_parameters()}
    mask = Mask({n: torch.rand(shapes[n], generator=generator) < share for n in names})
    reference = Reference(model, mask)
    ours, theirs = kind(model.parameters(), **settings), kind(reference.parameters(), **settings)
    with mask.enforce(model, ours):
        for step in range(4):
            for f, optimizer in ((model, ours), (reference, theirs)):
                gradients(f, optimizer, step)
                optimizer.step()
            finite = all(bool(p.isfinite().all()) for p in reference.parameters())
            assert not finite or same_where_kept(model, reference)
            assert mask.holds(model)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("kind", "settings"), [(SGD, {"momentum": 0.9, "weight_decay": 0.1}), (Adam, {"eps": 1e-3})])
def test_every_dtype_and_memory_format(dtype, memory_format, kind, settings):
    model = nn.Sequential()
    model.add_module("channels", nn.PixelUnshuffle(2))
    model.add_module("conv", nn.Conv2d(4, 4, 2))
    model.add_module("deep", nn.Conv2d(4, 4, 2))
    model.add_module("flatten", nn.Flatten())
    model = filled(model).to(dtype=dtype, memory_format=memory_format)
    mask = half(model)
    reference = Reference(model, mask)
    ours, theirs = kind(model.parameters(), 0.02, **settings), kind(reference.parameters(), 0.02, **settings)
    strides = model.deep.weight.stride()
    with mask.enforce(model, ours):
        for step in range(10):
            for f, optimizer in ((model, ours), (reference, theirs)):
                gradients(f, optimizer, step, dtype)
                optimizer.step()
            assert same_where_kept(model, reference)
    assert model.deep.weight.stride() == strides
    assert model.deep.weight.dtype == dtype


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_complex_weights(dtype):
    model = filled(nn.Linear(3, 2, dtype=dtype))
    mask = half(model)
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
    with mask.enforce(model, optimizer):
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.ones(1, 3, dtype=dtype)).abs().sum().backward()
            optimizer.step()
            pruned = model.weight.detach()[~mask["weight"]]
            assert bits(pruned) == bits(torch.zeros_like(pruned))
    assert model.weight.detach()[mask["weight"]].count_nonzero() == mask.remaining


# ---------------------------------------------------------------- ways to train


def test_gradient_accumulation():
    model = net()
    mask = half(model)
    reference = Reference(model, mask)
    ours, theirs = Adam(model.parameters(), 0.01), Adam(reference.parameters(), 0.01)
    with mask.enforce(model, ours):
        for step in range(10):
            for f, optimizer in ((model, ours), (reference, theirs)):
                optimizer.zero_grad()
                for part in range(3):
                    x, y = batch(3 * step + part)
                    (cross_entropy(f(x), y) / 3).backward()
                optimizer.step()
            assert same_where_kept(model, reference)


def test_grad_scaler_and_a_step_that_it_skips():
    model = net()
    mask = half(model)
    reference = Reference(model, mask)
    ours, theirs = SGD(model.parameters(), 0.05, momentum=0.9), SGD(reference.parameters(), 0.05, momentum=0.9)
    scalers = [torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=4) for _ in range(2)]
    with mask.enforce(model, ours):
        for step in range(12):
            before = bits(model.fc.weight)
            for f, optimizer, scaler in ((model, ours, scalers[0]), (reference, theirs, scalers[1])):
                optimizer.zero_grad()
                x, y = batch(step)
                with torch.autocast("cpu", dtype=torch.bfloat16):
                    loss = cross_entropy(f(x), y)
                scaler.scale(loss * (float("inf") if step == 5 else 1.0)).backward()
                scaler.step(optimizer)
                scaler.update()
            assert same_where_kept(model, reference)
            assert (bits(model.fc.weight) == before) == (step == 5)
    assert scalers[0].get_scale() == scalers[1].get_scale() < 2.0**12


def test_closures():
    model = net()
    mask = half(model)
    reference = Reference(model, mask)
    ours, theirs = Adagrad(model.parameters(), 0.05), Adagrad(reference.parameters(), 0.05)
    with mask.enforce(model, ours):
        for step in range(10):
            losses = [o.step(lambda f=f, o=o, t=step: gradients(f, o, t)) for f, o in ((model, ours), (reference, theirs))]
            assert torch.equal(*losses)
            assert same_where_kept(model, reference)


def test_several_optimizers_groups_and_a_scheduler():
    model = net()
    mask = half(model)
    reference = Reference(model, mask)

    def several(conv_w, conv_b, fc_w, fc_b):
        first = SGD([{"params": [conv_w], "weight_decay": 0.1}, {"params": [conv_b]}], lr=0.05, momentum=0.9)
        return first, AdamW([fc_w, fc_b], lr=0.01), OneCycleLR(first, 0.2, total_steps=20)

    ours, theirs = several(*model.parameters()), several(*reference.parameters())
    with mask.enforce(model, *ours[:2]):
        for step in range(20):
            for f, (a, b, schedule) in ((model, ours), (reference, theirs)):
                b.zero_grad()
                gradients(f, a, step)
                a.step()
                b.step()
                schedule.step()
            assert same_where_kept(model, reference)


@pytest.mark.parametrize("masked_first", [True, False])
def test_clipping_by_norm_is_exact_after_apply_to_grads_and_needs_it(masked_first):
    model = net()
    mask = half(model)
    reference = Reference(model, mask)
    ours, theirs = SGD(model.parameters(), 0.05), SGD(reference.parameters(), 0.05)
    with mask.enforce(model, ours):
        for step in range(10):
            gradients(model, ours, step)
            gradients(reference, theirs, step)
            if masked_first:
                mask.apply_to_grads_(model)
            norms = [torch.nn.utils.clip_grad_norm_(f.parameters(), 0.1) for f in (model, reference)]
            assert torch.equal(*norms) == masked_first
            ours.step()
            theirs.step()
            assert same_where_kept(model, reference) == masked_first
            assert mask.holds(model)


@every_optimizer
def test_nan_gradients_of_pruned_weights_do_no_harm(kind, settings):
    model = net()
    mask = half(model)
    reference = Reference(model, mask)
    ours, theirs = kind(model.parameters(), **settings), kind(reference.parameters(), **settings)
    with mask.enforce(model, ours):
        for step in range(4):
            gradients(model, ours, step)
            gradients(reference, theirs, step)
            for name, keep in mask.items():
                model.get_parameter(name).grad[~keep] = [float("nan"), float("inf"), -1e38, -0.0][step]
            ours.step()
            theirs.step()
            assert same_where_kept(model, reference)
    for values in ours.state.values():
        assert all(bool(v.isfinite().all()) for v in values.values() if isinstance(v, Tensor))


def test_nothing_is_drawn_and_nothing_is_left_on_the_model():
    model = net()
    optimizer = SGD(model.parameters(), 0.05)
    gradients(model, optimizer, 0)
    Mask.dense(model).apply_(model)
    before = everything(model)
    with no_global_draws(), Mask.dense(model).enforce(model, optimizer):
        assert everything(model) == before
    assert everything(model) == before


# ---------------------------------------------------------------- torch.compile


@pytest.fixture
def compiler():
    torch._dynamo.reset()
    yield lambda f, **options: torch.compile(f, backend="aot_eager", **options)
    torch._dynamo.reset()


@pytest.mark.parametrize("given", ["compiled", "inner"])
def test_a_compiled_model_follows_the_same_trajectory(compiler, given):
    inner = net()
    model = compiler(inner, fullgraph=True)
    mask = half(inner)
    reference = Reference(inner, mask)
    ours, theirs = Adam(model.parameters(), 0.01), Adam(reference.parameters(), 0.01)
    with mask.enforce(model if given == "compiled" else inner, ours):
        for step in range(10):
            for f, optimizer in ((model, ours), (reference, theirs)):
                gradients(f, optimizer, step)
                optimizer.step()
            assert same_where_kept(inner, reference)


@pytest.mark.parametrize("warm", [False, True])
def test_a_compiled_training_step_is_enforced(compiler, warm):
    model = net()
    mask = half(model)
    optimizer = SGD(model.parameters(), torch.tensor(0.05), momentum=0.9)

    def train(x, y):
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()

    train = compiler(train)
    if warm:  # compiled before there was a mask
        train(*batch(0))
        train(*batch(1))
    smaller = mask & half(model, seed=1)
    with mask.enforce(model, optimizer) as enforcement:
        for step in range(3):
            train(*batch(step))
            assert mask.holds(model)
        enforcement.update(smaller)
        for step in range(3):
            train(*batch(step))
            assert smaller.holds(model)
    train(*batch(9))
    assert not mask.holds(model)


def test_the_hook_fires_for_optimizers_that_are_new_to_torch_compile(compiler):
    compiler(nn.Linear(2, 2))(torch.ones(1, 2))

    class Inherited(SGD):
        pass

    class Overridden(Adam):
        def step(self, closure=None):
            return super().step(closure)

    class Own(Optimizer):
        def __init__(self, params):
            super().__init__(params, {})

        @torch.no_grad()
        def step(self, closure=None):
            for p in self.param_groups[0]["params"]:
                p.add_(p.grad)

    for kind in (Inherited, Overridden, Own, *NOT_ELEMENTWISE - {torch.optim.SparseAdam}):
        model = net()
        mask = half(model)
        optimizer = kind([model.fc.weight])
        with mask.enforce(model, optimizer):
            gradients(model, optimizer, 0)
            optimizer.step(lambda o=optimizer, f=model: gradients(f, o, 0)) if kind is torch.optim.LBFGS else optimizer.step()
            assert mask.holds(model), kind
            assert not torch.equal(model.fc.weight, mask.apply_(net()).fc.weight)


# ---------------------------------------------------------------- leaving, and what re-dense training starts from


@every_optimizer
def test_pruned_weights_leave_with_the_state_of_a_fresh_optimizer(kind, settings):
    model = net()
    mask = half(model)
    optimizer = kind(model.parameters(), **settings)
    for step in range(3):  # dense training comes first, so that there is momentum to forget
        gradients(model, optimizer, step)
        optimizer.step()
    with mask.enforce(model, optimizer):
        for step in range(3):
            gradients(model, optimizer, step)
            optimizer.step()
        held = {name: copy.deepcopy(optimizer.state[model.get_parameter(name)]) for name in mask}

    # A step with no gradient leaves a fresh optimizer with what it holds at the beginning.
    blank = {n: torch.zeros_like(model.get_parameter(n)).requires_grad_() for n in mask}
    fresh = kind(blank.values(), **{**settings, **({"weight_decay": 0.0} if "weight_decay" in settings else {})})
    for w in blank.values():
        w.grad = torch.zeros_like(w)
    fresh.step()
    for name, keep in mask.items():
        state = optimizer.state[model.get_parameter(name)]
        for key, value in state.items():
            if isinstance(value, Tensor) and value.shape == keep.shape:
                expected = torch.zeros(()) if key == "exp_inf" else fresh.state[blank[name]][key]  # Adamax's step adds eps
                assert torch.equal(value[~keep], expected.expand_as(keep)[~keep]), key
                assert bits(value[keep]) == bits(held[name][key][keep]), key
            else:
                assert value is held[name][key] or torch.equal(torch.as_tensor(value), torch.as_tensor(held[name][key]))


def test_re_dense_training_starts_at_zero_and_moves():
    model = net()
    mask = half(model)
    optimizer = SGD(model.parameters(), 0.05, momentum=0.9)
    with mask.enforce(model, optimizer):
        for step in range(5):
            gradients(model, optimizer, step)
            optimizer.step()
    assert mask.holds(model)
    gradients(model, optimizer, 5)
    optimizer.step()
    for name, keep in mask.items():
        p = model.get_parameter(name)
        assert torch.equal(p[~keep], -0.05 * p.grad[~keep])  # no momentum of the time before
        assert not torch.equal(p[keep], -0.05 * p.grad[keep])
    assert not mask.holds(model)


@pytest.mark.parametrize("leave", ["with", "remove"])
def test_leaving_raises_where_another_optimizer_moved_pruned_weights(leave):
    model = net()
    mask = half(model)
    ours, other = SGD([model.conv.weight], 0.05), SGD([model.fc.weight], 0.05)
    enforcement = mask.enforce(model, ours)
    gradients(model, ours, 0)
    ours.step()
    other.step()
    with pytest.raises(RuntimeError, match=r"moved by something else.*pass every optimizer of the model to enforce"):
        enforcement.__exit__(None, None, None) if leave == "with" else enforcement.remove()
    enforcement.remove()  # it has ended all the same
    before = bits(model.fc.weight)
    ours.step()
    assert bits(model.fc.weight) == before
    assert repr(enforcement).endswith("ended)")


@pytest.mark.parametrize("spoil", [False, True])
def test_an_exception_from_inside_passes_unchanged_and_the_enforcement_ends(spoil):
    model = net()
    mask = half(model)
    optimizer = SGD(model.parameters(), 0.05, momentum=0.9)
    error = KeyError("mine")
    with pytest.raises(KeyError) as caught, mask.enforce(model, optimizer):
        gradients(model, optimizer, 0)
        optimizer.step()
        if spoil:
            model.fc.weight.data.fill_(1.0)
        raise error
    assert caught.value is error
    assert error.__context__ is None
    if not spoil:
        assert mask.holds(model)
        assert not optimizer.state[model.fc.weight]["momentum_buffer"][~mask["fc.weight"]].any()
    gradients(model, optimizer, 1)
    optimizer.step()
    assert not mask.holds(model)


def test_an_exception_passes_even_if_the_mask_no_longer_fits_the_model():
    model = net()
    with pytest.raises(ZeroDivisionError) as caught, half(model).enforce(model, SGD(model.parameters(), 0.05)):
        del model.fc
        raise ZeroDivisionError
    assert caught.value.__context__ is None


def test_an_enforcement_ends_once():
    model = net()
    mask = half(model)
    optimizer = SGD(model.parameters(), 0.05)
    with mask.enforce(model, optimizer) as enforcement:
        assert repr(enforcement) == f"Enforcement({mask!r}, in force)"
    assert repr(enforcement) == f"Enforcement({mask!r}, ended)"
    model.fc.weight.data.fill_(1.0)
    enforcement.remove()
    enforcement.remove()
    for again in (enforcement.__enter__, lambda: enforcement.update(mask)):
        with pytest.raises(RuntimeError, match=r"has ended: call mask.enforce\(model, optimizer\) again"):
            again()
    assert bool((model.fc.weight == 1.0).all())


def test_without_a_with_block():
    model = net()
    mask = half(model)
    optimizer = SGD(model.parameters(), 0.05)
    enforcement = mask.enforce(model, optimizer)
    assert mask.holds(model)
    gradients(model, optimizer, 0)
    optimizer.step()
    assert mask.holds(model)
    enforcement.remove()
    optimizer.step()
    assert not mask.holds(model)


def test_an_enforcement_that_nobody_holds_is_let_go():
    gc.collect()
    before = len(_global_optimizer_post_hooks)
    model = net()
    gone = weakref.ref(half(model).enforce(model, SGD(model.parameters(), 0.05)))
    gc.collect()
    assert gone() is None
    assert len(_global_optimizer_post_hooks) == before


def test_one_block_inside_another():
    model = net()
    outer, optimizer = half(model), SGD(model.parameters(), 0.05, momentum=0.9)
    inner = outer & half(model, seed=1)
    with outer.enforce(model, optimizer):
        with inner.enforce(model, optimizer):
            gradients(model, optimizer, 0)
            optimizer.step()
            assert inner.holds(model)
        optimizer.step()
        assert outer.holds(model)
        assert not inner.holds(model)


@pytest.mark.parametrize(
    ("optimizers", "message"),
    [
        ((), r"needs the optimizers.*mask.enforce\(model, optimizer\)"),
        ((nn.Linear(1, 1),), "got Linear"),
        ((0.1,), "got float"),
    ],
)
def test_enforce_without_an_optimizer_changes_nothing(optimizers, message):
    model = net()
    before = everything(model)
    with pytest.raises(TypeError, match=message):
        half(model).enforce(model, *optimizers)
    assert everything(model) == before


def test_enforce_with_a_mask_of_another_model_leaves_no_hook():
    model, optimizer = net(), None
    optimizer = SGD(model.parameters(), 0.05)
    before = everything(model)
    with pytest.raises(ValueError, match="'fc.weight' has shape"):
        Mask({"fc.weight": torch.zeros(2, 2).bool()}).enforce(model, optimizer)
    assert everything(model) == before
    gradients(model, optimizer, 0)
    optimizer.step()
    assert model.fc.weight.count_nonzero() == model.fc.weight.numel()


# ---------------------------------------------------------------- gradual pruning


def test_update_follows_the_smaller_mask_from_now_on():
    model = net()
    mask = half(model)
    smaller = mask & half(model, seed=1)
    reference = Reference(model, mask)
    ours, theirs = Adam(model.parameters(), 0.01), Adam(reference.parameters(), 0.01)
    with mask.enforce(model, ours) as enforcement:
        for step in range(6):
            if step == 3:
                enforcement.update(smaller)
                assert enforcement.mask is smaller
                reference.prune(smaller)
                assert smaller.holds(model)
            for f, optimizer in ((model, ours), (reference, theirs)):
                gradients(f, optimizer, step)
                optimizer.step()
            assert same_where_kept(model, reference)
        enforcement.update(smaller)  # the same one is fine
    for name, keep in smaller.items():
        assert not ours.state[model.get_parameter(name)]["exp_avg"][~keep].any()


def test_update_writes_where_a_captured_graph_reads():
    model = net()
    mask = Pruner(fraction=0.5).prune(model)
    with mask.enforce(model, SGD(model.parameters(), lr=0.1)) as enforcement:
        read = enforcement._words
        enforcement.update(smaller := mask & Mask({"conv.weight": mask["conv.weight"], "fc.weight": torch.eye(3, 48) > 0}))
        model.fc.weight.data.fill_(1.0)
        read.clear_pruned_()  # as a replay does
        assert smaller.holds(model)
        model.fc.weight = nn.Parameter(torch.ones(3, 48))
        smaller.apply_(model)
        enforcement.update(smaller)
        model.fc.weight.data.fill_(1.0)
        read.clear_pruned_()
        assert not smaller.holds(model)
        smaller.apply_(model)


def test_gradients_are_masked_where_the_enforcement_found_the_weights(monkeypatch):
    model, looked = net(), []
    mask = Pruner(fraction=0.5).prune(model)
    match = _enforcement.match
    monkeypatch.setattr(_enforcement, "match", lambda *given: looked.append(given) or match(*given))

    def check(holder, used):
        for p in model.parameters():
            p.grad = torch.full_like(p, float("nan"))
        looked.clear()
        holder.apply_to_grads_(model)
        assert len(looked) == used
        for name, keep in mask.items():
            assert torch.equal(model.get_parameter(name).grad.isnan(), keep)

    check(mask, 1)
    with mask.enforce(model, SGD(model.parameters(), lr=0.1)):
        check(mask, 0)
        check(Mask(mask), 1)
        model.fc.weight = nn.Parameter(model.fc.weight.detach().clone())
        check(mask, 1)
    check(mask, 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("wide", [0, 1 << 20])
def test_gradients_in_any_order_are_masked(dtype, order, wide, monkeypatch):
    monkeypatch.setattr(_words, "WIDE", wide)
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.Flatten(), nn.Linear(80, 7)).to(dtype=dtype, memory_format=order)
    mask = Pruner(fraction=0.6).prune(model)
    with mask.enforce(model, SGD(model.parameters(), lr=0.1)):
        mask.apply_to_grads_(model)  # there are none
        for make in (torch.randn_like, lambda p: torch.full(p.shape, float("inf"), dtype=dtype)):  # as the weight lies, or not
            for p in model.parameters():
                p.grad = make(p)
            before = {name: p.grad.clone() for name, p in model.named_parameters()}
            mask.apply_to_grads_(model)
            for name, p in model.named_parameters():
                assert torch.equal(p.grad, before[name].masked_fill(~mask[name], 0) if name in mask else before[name])


def test_a_device_that_tells_no_addresses(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "data_ptr", lambda tensor: 0)
    model = net()
    optimizer = SGD(model.parameters(), lr=0.1)
    mask = Pruner(fraction=0.5).prune(model)
    assert mask.size == 3 * 9 + 3 * 48
    with mask.enforce(model, optimizer) as enforcement:
        for _ in range(3):
            x, y = batch(0)
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
            optimizer.step()
            assert mask.holds(model)
        model.fc.weight = nn.Parameter(torch.ones(3, 48))
        mask.apply_(model)
        enforcement.update(mask)
        assert mask.holds(model)
    assert Mask.nonzero(model) == mask


def test_update_to_what_is_not_smaller_changes_nothing():
    model = net()
    mask = half(model)
    optimizer = SGD(model.parameters(), 0.05)
    with mask.enforce(model, optimizer) as enforcement:
        before = everything(model)
        with pytest.raises(ValueError, match=r"only ever prunes more, but Mask\(.*keeps weights that Mask\(.*prunes"):
            enforcement.update(mask | half(model, seed=1))
        with pytest.raises(ValueError, match="only one has 'conv.weight'"):
            enforcement.update(Mask({"fc.weight": mask["fc.weight"]}))
        with pytest.raises(TypeError, match="mask must be a Mask, got .* type dict"):
            enforcement.update(dict(mask))
        assert everything(model) == before
        assert enforcement.mask == mask
        gradients(model, optimizer, 0)
        optimizer.step()
        assert mask.holds(model)


# ---------------------------------------------------------------- the model may change under it


def test_to_another_dtype_inside_the_block():
    model = net()
    mask = half(model)
    optimizer = SGD(model.parameters(), 0.05)
    with mask.enforce(model, optimizer):
        for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
            model.to(dtype)
            gradients(model, optimizer, 0, dtype)
            optimizer.step()
            assert all(p.dtype == dtype for p in model.parameters())
            assert mask.holds(model)
            assert model.fc.weight[mask["fc.weight"]].count_nonzero() == mask["fc.weight"].sum()


@pytest.mark.parametrize("assign", [False, True])
def test_load_state_dict_inside_the_block(assign):
    model = net()
    mask = half(model)
    optimizer = SGD(model.parameters(), 0.05)

    def load_dense():
        model.load_state_dict(net(seed=1).state_dict(), assign=assign)
        assert not mask.holds(model)

    with mask.enforce(model, optimizer):
        load_dense()
        gradients(model, optimizer, 0)
        with pytest.warns(UserWarning, match="moved between two steps|trains nothing") as warned:
            optimizer.step()
        assert any("trains nothing" in str(w.message) for w in warned) == assign
        assert mask.holds(model)
        load_dense()
        mask.apply_(model)
    optimizer = SGD(model.parameters(), 0.05)
    with pytest.raises(RuntimeError, match=r"call mask.apply_\(model\) after loading"), mask.enforce(model, optimizer):
        load_dense()


def test_copies_made_inside_the_block_are_free():
    model = net()
    mask = half(model)
    optimizer = SGD(model.parameters(), 0.05, momentum=0.9)
    with mask.enforce(model, optimizer):
        gradients(model, optimizer, 0)
        optimizer.step()
        copies = [copy.deepcopy((model, optimizer)), pickle.loads(pickle.dumps((model, optimizer)))]
        for other, free in copies:
            assert type(other) is nn.Sequential
            assert list(other.state_dict()) == list(net().state_dict())
            before = bits(model.fc.weight)
            gradients(other, free, 1)
            free.step()
            assert not mask.holds(other)
            assert bits(model.fc.weight) == before
        assert mask.holds(model)


def test_a_parameter_that_is_replaced_is_found_by_its_name():
    model = net()
    mask = half(model)
    optimizer = SGD(model.parameters(), 0.05)
    with mask.enforce(model, optimizer):
        model.fc.weight = nn.Parameter(torch.ones(3, 48))
        optimizer.add_param_group({"params": [model.fc.weight]})
        gradients(model, optimizer, 0)
        with pytest.warns(UserWarning, match="moved between two steps"):
            optimizer.step()
        assert mask.holds(model)
        model.fc = filled(nn.Linear(48, 3), seed=5)
        with pytest.warns(UserWarning, match="moved between two steps"):
            optimizer.step()
        assert mask.holds(model)


@pytest.mark.parametrize("warm", [False, True])
def test_a_parameter_of_another_shape_is_an_error_that_names_it(warm):
    model = net()
    mask = half(model)
    optimizer = SGD(model.parameters(), 0.05)
    with pytest.raises(ValueError, match=r"'fc.weight' has shape \(3, 1\)"), mask.enforce(model, optimizer):
        if warm:
            gradients(model, optimizer, 0)
            optimizer.step()
        model.fc = nn.Linear(1, 3)
        optimizer.step()
