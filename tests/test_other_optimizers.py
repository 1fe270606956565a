"""Optimizers that other packages have: exact, refused or warned about, and none silently wrong.

pip install --target others --no-deps pytorch_optimizer schedulefree torchao
PYTHONPATH=others pytest -m long -s tests/test_other_optimizers.py      takes a minute; its table is in docs/reliability.md
"""

import random
import warnings
from collections import defaultdict
from importlib import import_module
from inspect import isclass

import numpy as np
import pytest
import torch
from helpers import batch, bits, filled
from torch import nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from sparsedd import Mask

pytestmark = [pytest.mark.long, pytest.mark.filterwarnings("ignore")]
SEEDS = (torch.manual_seed, np.random.seed, random.seed)


def model() -> nn.Module:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 3))
    return filled(net)


def half(net, seed=0):
    drawn = torch.Generator().manual_seed(seed)
    return Mask({n: torch.rand(p.shape, generator=drawn) < 0.5 for n, p in net.named_parameters() if p.dim() > 1})


# ---------------------------------------------------------------- how each is made, where it is not kind(model.parameters())


def of_matrices(kind, net):
    return kind([p for p in net.parameters() if p.dim() == 2])


def in_groups(kind, net):
    matrices = [p for p in net.parameters() if p.dim() == 2]
    return kind([
        {"params": matrices, "use_muon": True},
        {"params": [p for p in net.parameters() if p.dim() != 2], "use_muon": False},
    ])  # fmt: skip


def around(kind, net):
    return kind(torch.optim.SGD(net.parameters(), 0.02, momentum=0.9))


def with_base(kind, net):
    return kind(net.parameters(), base_optimizer=torch.optim.SGD, lr=0.02)


def of_model(kind, net):
    return kind(net)  # a step of LOMO is a part of its fused_backward, and none of an optimizer


MADE = {
    **dict.fromkeys(("AdaGO", "AdaMuon", "DistributedMuon", "Muon", "MuonClip", "NorMuon"), in_groups),
    **dict.fromkeys(("Lookahead", "TRAC", "OrthoGrad", "PCGrad", "Magma", "SafeFP16Optimizer"), around),
    **dict.fromkeys(("ScheduleFreeWrapper", "ScheduleFreeWrapperReference"), around),
    **dict.fromkeys(("SAM", "LookSAM", "FriendlySAM"), with_base),
    "WSAM": lambda kind, net: kind(net, net.parameters(), torch.optim.SGD, lr=0.02),
    **dict.fromkeys(("AdamMini", "AdaLOMO", "LOMO"), of_model),
    "SpectralSphere": of_matrices,
    "BSAM": lambda kind, net: kind(net.parameters(), num_data=4),
    "Ranger21": lambda kind, net: kind(net.parameters(), num_iterations=20, lr=0.01),
}
WITH_CLOSURE = {"AliG", "BSAM", "LBFGS", "SAM", "WSAM", "LookSAM", "FriendlySAM"}
SECOND_ORDER = {"AdaHessian", "SophiaH"}


def found():
    """Every class of the three packages that is an optimizer, or calls itself one."""
    for package in ("pytorch_optimizer", "schedulefree", "torchao.optim"):
        try:
            module = import_module(package)
        except ImportError as error:
            pytest.skip(f"not installed: {error.name}")
        for name, kind in sorted(vars(module).items()):
            ours = isclass(kind) and kind.__module__.startswith(package.partition(".")[0])
            if ours and hasattr(kind, "step") and hasattr(kind, "zero_grad") and name not in ("BaseOptimizer", "_AdamW"):
                yield package.partition(".")[0], name, kind


class Run:
    """A net and its optimizer; steps are those of f(w * m), where there is an m."""

    def __init__(self, kind, name):
        self.net, self.name, self.m = model(), name, None
        self.optimizer = MADE.get(name, lambda kind, net: kind(net.parameters()))(kind, self.net)
        if hasattr(self.optimizer, "train"):
            self.optimizer.train()

    def weights(self):
        return {n: p if self.m is None or n not in self.m else p * self.m[n] for n, p in self.net.named_parameters()}

    def step(self, number):
        for seed in SEEDS:
            seed(number)
        x, y = batch(number)

        @torch.enable_grad()
        def closure():
            self.optimizer.zero_grad()
            loss = cross_entropy(functional_call(self.net, self.weights(), (x,)), y)
            loss.backward(create_graph=self.name in SECOND_ORDER)
            return loss

        if self.name in WITH_CLOSURE or "Closure" in self.name:
            self.optimizer.step(closure)
        else:
            closure()
            self.optimizer.step()

    @torch.no_grad()
    def by_hand(self, mask):
        self.m = {n: keep.float() for n, keep in mask.items()}
        for n, keep in mask.items():
            self.net.get_parameter(n).masked_fill_(~keep, 0.0)


def holds(net, mask):
    """Is every pruned weight +0.0, and every other one a number?"""
    zero = all(bits(net.get_parameter(n)[~k]) == bits(torch.zeros(int((~k).sum()))) for n, k in mask.items())
    return zero and all(bool(p.isfinite().all()) for p in net.parameters())


def swapped(optimizer, net, mask):
    """The same of the weights that it swaps in for evaluation."""
    if not hasattr(optimizer, "eval"):
        return True
    optimizer.eval()
    good = mask.holds(net)
    optimizer.train()
    return good and mask.holds(net)


def same(a, b, mask):
    return all(
        torch.equal(p[mask[n]] if n in mask else p, q[mask[n]] if n in mask else q)
        for (n, p), (_, q) in zip(a.named_parameters(), b.named_parameters(), strict=True)
    )


def tensors(value):
    if isinstance(value, torch.Tensor):
        yield value.dequantize() if hasattr(value, "qmap") or hasattr(value, "codes") else value
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors(item)
    elif isinstance(value, list | tuple) or type(value).__name__ == "deque":
        for item in value:
            yield from tensors(item)


def inner(optimizer):
    return [optimizer, *(o for v in vars(optimizer).values() if isinstance(v, torch.optim.Optimizer) for o in inner(v))]


def forgotten(optimizer, net, mask):
    """Is what is remembered of each pruned weight one number, though their pasts differ?"""
    for own in inner(optimizer):
        for name, keep in mask.items():
            for held in tensors(own.state.get(net.get_parameter(name), {})):
                if held.shape == keep.shape and len(set(keep.shape)) > 1 and len(held[~keep].unique()) > 1:
                    return False
    return True


def tried(kind, name):
    """What happens inside the block, and after it."""
    ours, twin = Run(kind, name), Run(kind, name)
    mask = half(ours.net)
    smaller = mask & half(ours.net, 1)
    twin.by_hand(mask)
    exact = True
    try:
        enforcement = mask.enforce(ours.net, ours.optimizer)
    except (TypeError, ValueError) as error:
        assert all(torch.equal(p, q) for p, q in zip(ours.net.parameters(), model().parameters(), strict=True))
        return f"refused: {type(error).__name__}", "", str(error)
    for number in range(8):
        ours.step(number)
        twin.step(number)
        twin.by_hand(mask)
        exact &= same(ours.net, twin.net, mask)
        assert holds(ours.net, mask), f"step {number}"
    assert swapped(ours.optimizer, ours.net, mask), "swapped"
    enforcement.update(smaller)
    for number in range(4):
        assert swapped(ours.optimizer, ours.net, smaller), f"swapped after an update, {number}"
        ours.step(number)
        assert holds(ours.net, smaller), f"after an update, step {number}"
    enforcement.remove()

    late = Run(kind, name)  # dense before, so that there is something to forget
    for number in range(3):
        late.step(number)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        with mask.enforce(late.net, late.optimizer):
            for number in range(3):
                assert swapped(late.optimizer, late.net, mask), f"swapped after dense steps, {number}"
                late.step(number)
                assert holds(late.net, mask), f"after dense steps, step {number}"
        said = [str(w.message) for w in warned if "may remember" in str(w.message)]
        assert swapped(late.optimizer, late.net, mask) or said, "swapped after leaving"
    assert said or forgotten(late.optimizer, late.net, mask), "remembered without a word"
    late.step(3)
    assert all(bool(p.isfinite().all()) for p in late.net.parameters()), "dense again"
    return "exact" if exact else "zero and finite", "warned" if said else "fresh", "; ".join(said)


def test_none_is_silently_wrong():
    rows, wrong = defaultdict(list), {}
    for package, name, kind in found():
        try:
            Run(kind, name).step(0)
        except Exception as error:
            rows["does not run here", "", package].append(name)
            print(f"{package}.{name}: {type(error).__name__}: {error}"[:150])
            continue
        try:
            inside, after, said = tried(kind, name)
            rows[inside, after, package].append(name)
            print(f"{package}.{name}: {inside}, {after} {said}"[:250])
        except (AssertionError, RuntimeError, ValueError) as error:
            wrong[f"{package}.{name}"] = f"{type(error).__name__}: {str(error).splitlines()[0]}"
            print(f"{package}.{name}: WRONG {wrong[f'{package}.{name}']}"[:250])
    print("\n| inside the block | after it | package | classes |\n| --- | --- | --- | --- |")
    for (inside, after, package), names in sorted(rows.items()):
        print(f"| {inside} | {after} | {package} | {len(names)}: {', '.join(names)} |")
    assert not wrong
