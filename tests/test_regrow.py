"""Masks that let weights come back, in the middle of training."""

import copy
from pathlib import Path

import pytest
import torch
from helpers import batch, bits, blocks, everything, net
from hypothesis import given, settings
from hypothesis import strategies as st
from test_enforcement import every_optimizer, gradients, half
from torch.nn.functional import cross_entropy
from torch.optim import LBFGS, SGD, Adagrad, Adam, Rprop

from sparsedd import Mask, Pruner, Rewinder, prunable

PAGE = Path(__file__).parent.parent / "docs" / "how-to" / "sparse-training.md"
seeds = st.integers(0, 10**6)


def states(optimizer):
    """All that an optimizer remembers, bit for bit."""
    return [
        (key, bits(value) if isinstance(value, torch.Tensor) else value)
        for p in optimizer.param_groups[0]["params"]
        for key, value in sorted(optimizer.state[p].items())
    ]


def whole(model):
    return [bits(p) for p in model.parameters()]


def train(model, optimizer, steps):
    for step in steps:
        if isinstance(optimizer, LBFGS):
            optimizer.step(lambda step=step: gradients(model, optimizer, step))
        else:
            gradients(model, optimizer, step)
            optimizer.step()


def masks(model, *chosen):
    return [half(model, seed) for seed in chosen]


@pytest.mark.filterwarnings("ignore:.*weights that the mask keeps are zero:UserWarning")  # as they are after entering again
@every_optimizer
@settings(max_examples=4)
@given(st.lists(seeds, min_size=2, max_size=4))
def test_it_is_leaving_and_entering_again_to_the_last_bit(kind, settings, chosen):
    ours, theirs = net(), net()
    one, two = kind(ours.parameters(), **settings), kind(theirs.parameters(), **copy.deepcopy(settings))
    first, *others = masks(ours, *chosen)
    train(ours, one, range(2)), train(theirs, two, range(2))  # there is something to forget
    enforcement, block = first.enforce(ours, one), first.enforce(theirs, two)
    for k, mask in enumerate(others):
        train(ours, one, (2 * k, 2 * k + 1)), train(theirs, two, (2 * k, 2 * k + 1))
        held = states(two)
        enforcement.update(mask, regrow=True)
        block.remove()
        block = mask.enforce(theirs, two)
        assert enforcement.mask is mask
        assert whole(ours) == whole(theirs)
        assert states(one) == states(two)
        assert settings.get("momentum") is None or held != states(two)
    train(ours, one, range(3)), train(theirs, two, range(3))
    assert whole(ours) == whole(theirs)
    assert states(one) == states(two)
    enforcement.remove(), block.remove()
    assert states(one) == states(two)


@every_optimizer
def test_what_comes_back_is_zero_with_the_state_of_a_fresh_optimizer(kind, settings):
    model = net()
    optimizer = kind(model.parameters(), **settings)
    first, second = masks(model, 1, 2)
    train(model, optimizer, range(3))
    with first.enforce(model, optimizer) as enforcement:
        train(model, optimizer, range(3))
        kept = {n: model.get_parameter(n).detach().clone() for n in first}
        enforcement.update(second, regrow=True)
        for name, p in ((n, model.get_parameter(n)) for n in first):
            back = second[name] & ~first[name]
            assert back.any()
            assert bits(p.detach()[back]) == bits(torch.zeros(int(back.sum())))
            assert bits(p.detach()[first[name] & second[name]]) == bits(kept[name][first[name] & second[name]])
            for key, value in optimizer.state[p].items():
                if isinstance(value, torch.Tensor) and value.shape == p.shape:
                    fresh = settings.get("initial_accumulator_value", 0) if (kind, key) == (Adagrad, "sum") else 0
                    fresh = settings["lr"] if (kind, key) == (Rprop, "step_size") else fresh
                    assert (value[back] == fresh).all(), key
        train(model, optimizer, range(2))
        moved = torch.cat([model.get_parameter(n)[second[n] & ~first[n]] for n in first])
        assert moved.any()


@every_optimizer
@pytest.mark.parametrize("score", ["RigL", "SET"])
def test_the_how_to_moves_as_many_weights_as_it_says(kind, settings, score):
    model, names = net(), {}
    exec("\n".join(block.partition("\n\ndigits")[0] for block in blocks(PAGE, "python")[:1]), names)
    exec(blocks(PAGE, "python")[1].partition("\n\ndef train")[0], names)
    generator = torch.Generator().manual_seed(0)
    rank = {"RigL": lambda name, w: w.grad.abs(), "SET": lambda name, w: torch.rand(w.shape, generator=generator)}[score]
    optimizer, mask = kind(model.parameters(), **settings), Pruner("random", 0.6, "layer").prune(net())
    with mask.enforce(model, optimizer) as held:
        for step in range(12):
            gradients(model, optimizer, step)
            if step % 3 == 2:
                before = held.mask
                new = names["move"](model, before, 0.3, rank)
                held.update(new, regrow=True)
                counts = {n: int(keep.sum()) for n, keep in held.mask.items()}
                assert counts == {n: int(keep.sum()) for n, keep in mask.items()} == {"conv.weight": 10, "fc.weight": 57}
                assert all(int((before[n] & ~new[n]).sum()) <= int(0.3 * counts[n]) for n in counts)
                assert new != before
            else:
                optimizer.step()
            assert held.mask.holds(model)


@settings(max_examples=30)
@given(st.sampled_from([SGD, Adam, LBFGS]), st.lists(st.tuples(seeds, st.booleans()), min_size=1, max_size=6))
def test_counts_are_exact_and_pruned_weights_zero_after_every_update(kind, chosen):
    model = net()
    optimizer = kind(model.parameters(), lr=0.05)
    with half(model).enforce(model, optimizer) as enforcement:
        for step, (seed, regrow) in enumerate(chosen):
            mask = half(model, seed) if regrow else enforcement.mask & half(model, seed)
            if mask.remaining == 0:
                continue
            enforcement.update(mask, regrow=regrow)
            assert enforcement.mask == mask
            assert mask.holds(model)
            train(model, optimizer, [step])
            assert mask.holds(model)
            alive = sum(int((model.get_parameter(n) != 0).sum()) for n in mask)
            assert alive <= mask.remaining
            last = mask
    assert last.holds(model)


@pytest.mark.parametrize("kind", [SGD, Adam])
def test_gradients_of_pruned_weights_are_those_of_the_masked_function(kind):
    model = net()
    optimizer = kind(model.parameters(), lr=0.05)
    with half(model).enforce(model, optimizer) as enforcement:
        train(model, optimizer, range(2))
        gradients(model, optimizer, 2)
        x, y = batch(2)
        free = copy.deepcopy(model)
        free.zero_grad()
        cross_entropy(free(x), y).backward()
        for name, keep in enforcement.mask.items():
            grad = model.get_parameter(name).grad
            assert grad[~keep].any()
            assert torch.equal(grad, free.get_parameter(name).grad)


def test_a_mask_of_other_parameters_frees_those_that_it_does_not_name():
    model = net()
    optimizer = SGD(model.parameters(), lr=0.05, momentum=0.9)
    mask = half(model)
    with mask.enforce(model, optimizer) as enforcement:
        train(model, optimizer, range(2))
        alone = Mask({"fc.weight": ~mask["fc.weight"]})
        enforcement.update(alone, regrow=True)
        assert bits(model.conv.weight.detach()[~mask["conv.weight"]]) == bits(torch.zeros(int((~mask["conv.weight"]).sum())))
        train(model, optimizer, range(2))
        assert (model.conv.weight != 0).all()
        assert alone.holds(model)


def test_regrowing_is_asked_for_and_a_mask_that_does_not_fit_changes_nothing():
    model = net()
    optimizer = SGD(model.parameters(), lr=0.05, momentum=0.9)
    mask, larger = Pruner(fraction=0.5).prune(model), Mask.dense(model, prunable(model))
    with mask.enforce(model, optimizer) as enforcement:
        train(model, optimizer, range(2))
        before, held = everything(model), states(optimizer)
        with pytest.raises(ValueError, match=r"keeps weights that Mask\(.*\) prunes: pass regrow=True to let them come back"):
            enforcement.update(larger)
        for wrong in (Mask({"fc.weight": torch.ones(2, 2) > 0}), Mask({"fc": torch.ones(2, 2) > 0})):
            with pytest.raises(ValueError, match="'fc"):
                enforcement.update(wrong, regrow=True)
        assert everything(model) == before
        assert states(optimizer) == held
        assert enforcement.mask is mask
        enforcement.update(larger, regrow=True)
    assert enforcement.mask is larger


@pytest.mark.parametrize("regrow", [True, False])
@pytest.mark.parametrize(
    "load",
    [
        lambda m, w: m.load_state_dict(w.state_dict()),
        lambda m, w: Rewinder(m=w).rewind(m=m),
        lambda m, w: [p.data.copy_(q) for p, q in zip(m.parameters(), w.parameters(), strict=True)],
    ],
    ids=["load_state_dict", "rewind", "data"],
)
def test_weights_loaded_before_the_mask_are_not_lost(load, regrow):
    model = net()
    mask, optimizer = half(model), SGD(model.parameters(), lr=0.05, momentum=0.9)
    theirs = (~mask).apply_(net())
    with mask.enforce(model, optimizer) as enforcement:
        train(model, optimizer, range(2))
        load(model, theirs)
        before, held = everything(model), states(optimizer)
        with pytest.raises(RuntimeError, match="update the mask first and load weights then"):
            enforcement.update(~mask if regrow else mask, regrow=regrow)
        assert (everything(model), states(optimizer), enforcement.mask) == (before, held, mask)
        enforcement.mask.apply_(model)
        enforcement.update(~mask, regrow=True)
        load(model, theirs)
        assert whole(model) == whole(theirs)
    assert whole(model) == whole(theirs)


def test_weights_that_another_optimizer_moved_are_not_lost():
    model = net()
    other, enforcement = SGD(model.parameters(), lr=0.05), half(model).enforce(model, SGD(model.parameters(), lr=0.05))
    train(model, other, [0])
    with pytest.raises(RuntimeError, match=r"than the enforced optimizers \(another SGD\), and"):
        enforcement.update(half(model, 1), regrow=True)


@every_optimizer
def test_a_run_of_moving_masks_resumes_to_the_last_bit(kind, settings):
    def move(enforcement, model, optimizer, seeds):
        for seed in seeds:
            enforcement.update(half(model, seed), regrow=True)
            train(model, optimizer, (seed, seed + 1))

    model, again = net(), net(1)
    optimizer, new = (kind(m.parameters(), **copy.deepcopy(settings)) for m in (model, again))
    with half(model).enforce(model, optimizer) as enforcement:
        move(enforcement, model, optimizer, (1, 2))
        saved, point = enforcement.mask, Rewinder(model=model, optimizer=optimizer)
        move(enforcement, model, optimizer, (3, 4))
        with saved.enforce(again, new) as resumed:  # without a warning of zeros
            point.rewind(model=again, optimizer=new)
            move(resumed, again, new, (3, 4))
            assert whole(again) == whole(model)
            assert states(new) == states(optimizer)


def test_the_first_move_of_a_weight_that_came_back_to_adam():
    model = net()
    optimizer = Adam(model.parameters(), lr=1e-3, eps=0)
    mask = half(model)
    with mask.enforce(model, optimizer) as enforcement:
        train(model, optimizer, [0])
        for state in optimizer.state.values():
            state["step"].fill_(10**5)
        enforcement.update(~mask, regrow=True)
        train(model, optimizer, [1])
        moved = model.fc.weight.detach()[~mask["fc.weight"]].abs()
        torch.testing.assert_close(moved, torch.full_like(moved, 1e-3 * 0.1 / 0.001**0.5), rtol=1e-4, atol=0)


@pytest.mark.parametrize("regrow", [True, False])
def test_masks_may_have_the_names_of_a_wrapper(regrow):
    model = net()
    mask = half(model)
    smaller = mask & half(model, 1)
    wrapped = [Mask({"module." * n + name: keep for name, keep in m.items()}) for m, n in ((mask, 1), (smaller, 2))]
    with wrapped[0].enforce(model, SGD(model.parameters(), lr=0.05)) as enforcement:
        enforcement.update(wrapped[1], regrow=regrow)
        assert enforcement.mask is wrapped[1]
        assert smaller.holds(model)
        enforcement.update(smaller, regrow=regrow)
        with pytest.raises(ValueError, match="only ever prunes more"):
            enforcement.update(wrapped[0])
