"""Everything that can be done to a model, in any order, beside a twin of plain tensors that knows nothing of sparsedd."""

import copy
import math
import shutil
import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import batch, bits, net
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from torch.func import functional_call
from torch.nn.functional import cross_entropy
from torch.optim import SGD

from sparsedd import Mask, Pruner, Rewinder, metrics

pytestmark = pytest.mark.filterwarnings("ignore:.*weights that the mask keeps are zero:UserWarning")  # after regrowing
RATE = 0.05
FRACTIONS = st.sampled_from([0.0, 0.07, 0.2, 0.5, Fraction(1, 3)])


class Life(RuleBasedStateMachine):
    """``model``, ``mask`` and ``start`` are ours; ``w``, ``m`` and ``w0`` the twin's weights, kept flags and starting point."""

    @initialize(seed=st.integers(0, 3))
    def begin(self, seed):
        self.folder = Path(tempfile.mkdtemp())
        self.model, self.steps, self.block = net(seed), 0, None
        self.mask, self.start = Mask.dense(self.model), Rewinder(model=self.model)
        self.optimizer = SGD(self.model.parameters(), RATE)
        self.w = {n: p.detach().clone() for n, p in self.model.named_parameters()}
        self.m = {n: np.ones(self.w[n].shape, dtype=bool) for n in ("conv.weight", "fc.weight")}
        self.w0, self.dtype = copy.deepcopy(self.w), torch.float32

    def teardown(self):
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)

    def masked(self):
        return {n: w.masked_fill(~torch.from_numpy(self.m[n]), 0.0) if n in self.m else w for n, w in self.w.items()}

    # ---------------------------------------------------------------- what the caller does

    @rule(fraction=FRACTIONS)
    def prune(self, fraction):
        kept = [(abs(w), n, i) for n in self.m for i, w in enumerate(self.w[n].flatten().tolist()) if self.m[n].flat[i]]
        lost = sorted(kept, key=lambda entry: entry[0])[: math.ceil(Fraction(str(fraction)) * len(kept))]  # stable: by position
        self.remove([(name, i) for _, name, i in lost], Pruner(fraction=fraction))

    @rule(fraction=FRACTIONS)
    def prune_each_layer(self, fraction):
        lost = []
        for name, keep in self.m.items():
            kept = np.flatnonzero(keep)
            order = np.argsort(self.w[name].abs().numpy().ravel()[kept], kind="stable")
            lost += [(name, i) for i in kept[order[: math.ceil(Fraction(str(fraction)) * len(kept))]]]
        self.remove(lost, Pruner(fraction=fraction, scope="layer"))

    def remove(self, lost, pruner):
        if len(lost) == self.mask.remaining:
            with pytest.raises(ValueError, match="nothing would be kept"):
                pruner.prune(self.model, self.mask)
            return
        for name, i in lost:
            self.m[name].flat[i] = False
        self.mask = pruner.prune(self.model, self.mask)
        if self.block:
            self.block.update(self.mask)
            self.w = self.masked()

    @rule()
    def step(self):
        x, y = batch(self.steps)
        x = x.to(self.dtype)
        self.steps += 1
        self.optimizer.zero_grad()
        cross_entropy(self.model(x), y).backward()
        self.optimizer.step()
        leaves = {n: w.clone().requires_grad_() for n, w in self.w.items()}
        cross_entropy(functional_call(net(), leaves, (x,)), y).backward()
        self.w = {n: torch.add(w, leaves[n].grad, alpha=-RATE) for n, w in self.w.items()}
        if self.block:
            self.w = self.masked()

    @precondition(lambda self: not self.block)
    @rule()
    def enforce(self):
        self.block = self.mask.enforce(self.model, self.optimizer)
        self.w = self.masked()

    @precondition(lambda self: self.block)
    @rule()
    def release(self):
        self.block.remove()
        self.block = None

    @precondition(lambda self: self.block)
    @rule(seed=st.integers(0, 3))
    def regrow(self, seed):
        generator = np.random.default_rng(seed)
        self.m = {n: generator.random(m.shape) < 0.5 for n, m in self.m.items()}
        self.mask = Mask({n: torch.from_numpy(m) for n, m in self.m.items()})
        self.block.update(self.mask, regrow=True)
        self.w = self.masked()

    @rule()
    def apply(self):
        self.mask.apply_(self.model)
        self.w = self.masked()

    @rule()
    def keep_point(self):
        self.start = Rewinder(step=self.steps, model=self.model)
        self.w0 = copy.deepcopy(self.w)

    @precondition(lambda self: not self.block and next(iter(self.w0.values())).dtype == self.dtype)
    @rule()
    def rewind(self):
        assert self.start.rewind(model=self.model) == self.start.step
        self.w = copy.deepcopy(self.w0)

    @rule()
    def save_and_load(self):
        self.mask.save(self.folder / "mask")
        self.start.save(self.folder / "start")
        self.mask, self.start = Mask.load(self.folder / "mask"), Rewinder.load(self.folder / "start")
        assert Mask.from_state_dict(self.mask.state_dict()) == self.mask

    @precondition(lambda self: not self.block)
    @rule()
    def copy(self):
        self.model, self.mask, self.optimizer = copy.deepcopy((self.model, self.mask, self.optimizer))

    @rule(dtype=st.sampled_from([torch.float32, torch.float64]))
    def move(self, dtype):
        self.model.to(dtype)
        self.mask = self.mask.to("cpu")
        self.w, self.dtype = {n: w.to(dtype) for n, w in self.w.items()}, dtype

    # ---------------------------------------------------------------- what is then true

    @invariant()
    def the_mask_is_the_twins(self):
        assert {name: keep.tolist() for name, keep in self.mask.items()} == {n: m.tolist() for n, m in self.m.items()}
        size, remaining = (sum(int(f(m)) for m in self.m.values()) for f in (np.size, np.count_nonzero))
        assert (self.mask.size, self.mask.remaining, self.mask.sparsity) == (size, remaining, (size - remaining) / size)

    @invariant()
    def every_weight_has_the_twins_bits(self):
        assert {n: bits(p) for n, p in self.model.named_parameters()} == {n: bits(w) for n, w in self.w.items()}
        pruned = [self.w[n][torch.from_numpy(~m)] for n, m in self.m.items()]
        assert self.mask.holds(self.model) == (not any(bool(w.any()) for w in pruned))
        assert not self.block or self.mask.holds(self.model)

    @invariant()
    def the_distance_is_the_twins(self):
        moves = [(self.w[n].double() - self.w0[n].double()).square().sum() for n in self.m]
        assert math.isclose(metrics.learning_distance(self.start["model"], self.model), math.sqrt(sum(moves)), abs_tol=1e-12)


TestLife = Life.TestCase
TestLife.settings = settings(
    settings.default, max_examples=max(20, settings.default.max_examples // 10), stateful_step_count=25
)
