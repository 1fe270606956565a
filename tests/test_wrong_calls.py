"""Wrong calls: what is wrong is said, with what was received and what to do, and nothing has changed."""

import copy
import inspect
import operator
import pickle
import re
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from shutil import copytree
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from calls import PUBLIC
from helpers import batch, bits, everything, generators, net
from matplotlib import pyplot
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.parameter import is_lazy
from torch.optim import SGD, Optimizer
from torch.utils.data import IterableDataset, Subset, TensorDataset

import sparsedd
from sparsedd import (
    Enforcement,
    Mask,
    NoisyLabels,
    Pruner,
    Rewinder,
    convert,
    data,
    distributed,
    experiments,
    landscape,
    metrics,
    models,
    noise,
    phases,
    plotting,
    prunable,
    scores,
    sparse,
    sweeps,
)
from sparsedd._checks import Missing
from sparsedd.cli import main
from sparsedd.data import Batches, Data, Flip, RandomResizedCrop, Shift
from sparsedd.experiments import FIGURES, LTR, METHODS, PRESETS, Experiment, Figure, Record, Redense, Retraining, Store, Tables
from sparsedd.fleet import Fleet
from sparsedd.fleet import cross_entropy as fleet_cross_entropy
from sparsedd.noise import Asymmetric, Pairflip, Symmetric
from sparsedd.sparse import SparseLinear

matplotlib.use("agg")
NAN, INF = float("nan"), float("inf")
TINY = replace(Experiment().scaled("smoke"), train_size=60, levels=2)


class Stream(IterableDataset):
    def __iter__(self) -> Iterator[int]:
        return iter(range(3))


class Odd:
    """What has a state that no file can hold."""

    def state_dict(self) -> dict[str, Any]:
        return {"hook": print}

    def load_state_dict(self, state: Any) -> None: ...


class World:
    """What the wrong calls are given, all of it to be found as it was."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.runs = folder, folder / "runs"
        self.model, self.other = net(0), nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        self.optimizer = SGD(self.model.parameters(), lr=0.1, momentum=0.9)
        self.stranger = SGD(self.other.parameters(), lr=0.1)
        x, y = batch(0)
        cross_entropy(self.model(x), y).backward()
        self.optimizer.step()
        self.x, self.y, self.batches = x, y, [batch(0), batch(1)]
        self.mask = Pruner(fraction=0.5).prune(self.model)
        self.foreign = Mask.dense(self.other)
        self.reshaped = Mask({name: torch.ones(2, 2, dtype=torch.bool) for name in self.mask})
        self.start = Rewinder(step=3, model=self.model, optimizer=self.optimizer)
        self.labels = torch.arange(20) % 10
        self.dataset = TensorDataset(torch.eye(20), self.labels)
        self.noisy = NoisyLabels(self.dataset, Symmetric(0.2))
        self.data = data.blobs(shape=(1, 2, 2), train=20, test=10)
        self.sampled = Batches(self.data, size=5)
        self.fleet = Fleet([nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)) for _ in range(2)])
        self.many = torch.ones(2, 5, 4), torch.zeros(2, 5, dtype=torch.int64)
        self.line = nn.Linear(4, 3)
        self.sparse = SparseLinear(self.line, torch.ones(3, 4, dtype=torch.bool))
        self.weights = {name: p.detach().clone() for name, p in self.model.named_parameters()}
        self.nan = net(1)
        nn.init.constant_(self.nan.fc.weight, NAN)
        self.zeros = self.mask.apply_(net(2))
        self.meta, self.lazy = nn.Linear(4, 3, device="meta"), nn.LazyLinear(3)
        self.fresh, self.double, self.still = net(3), net(0).double(), net(1).eval()
        self.over = self.mask.enforce(self.fresh, SGD(self.fresh.parameters(), 1))
        self.over.remove()
        self.fresh = net(3)
        self.axes = {"sparsity": [0, 0.5, 0.9], "train": [1, 1, 0.8], "test": [0.8, 0.7, 0.9]}
        for name, content in (("text", "not a mask"), ("empty", "")):
            (folder / name).write_text(content)
        self.mask.save(folder / "mask")
        self.start.save(folder / "start")
        (folder / "cifar10.npz").write_text("not an archive")
        (folder / "there").mkdir()
        (folder / "odd").mkdir()
        (folder / "odd" / "levels.csv").write_text("a,b\n1,2")
        (folder / "odd" / "config.json").write_text('{"key": "", "dataset": "minst"}')
        copytree(self.store.path, folder / "moved" / "by" / "hand")

    @property
    def store(self) -> Store:
        return Store(self.runs, TINY)


def inside(enforced: Enforcement, act: Callable[[Enforcement], object]) -> None:
    with enforced:
        act(enforced)


def seen(value: Any) -> Any:
    """All that can change of a value, as plain values."""
    if isinstance(value, nn.Module):
        empty = any(is_lazy(p) or p.is_meta for p in value.parameters())
        return repr(value) if empty else everything(value)
    if isinstance(value, Optimizer):
        hooks = len(value._optimizer_step_pre_hooks), len(value._optimizer_step_post_hooks)
        return hooks, seen(value.state_dict()), [id(p) for group in value.param_groups for p in group["params"]]
    if isinstance(value, Tensor):
        return bits(value)
    if isinstance(value, Mask):
        return value.digest()
    if isinstance(value, Path):
        return {str(path): path.is_file() and path.read_bytes() for path in value.rglob("*")}
    if isinstance(value, dict):
        return {key: seen(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [seen(item) for item in value]
    if isinstance(value, TensorDataset):
        return seen(value.tensors)
    return {k: seen(v) for k, v in vars(value).items()} if hasattr(value, "__dict__") and not callable(value) else repr(value)


def state(world: World) -> Any:
    return seen(vars(world)), generators(), pyplot.get_fignums(), torch.get_num_threads()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> World:
    """One world for all: whoever changes it is found out at once."""
    folder = tmp_path_factory.mktemp("world")
    list(experiments.run(TINY, folder / "runs"))
    return World(folder)


@pytest.fixture
def world(shared: World, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.chdir(shared.folder)
    monkeypatch.setenv("SPARSEDD_DATA", str(shared.folder))
    return shared


# ---------------------------------------------------------------- the catalogue: (what, call, error, message)

Wrong = tuple[str, Callable[[World], object], type[Exception], str]
TRUE = torch.ones(2, dtype=torch.bool)
SHAPES = r"\(3, 48\) in the model and \(2, 2\) in the mask"

CORE: list[Wrong] = [
    ("Mask: a list", lambda w: Mask([TRUE]), TypeError, "parameter names and bool tensors, got .* type list"),
    ("Mask: empty", lambda w: Mask({}), ValueError, "needs at least one parameter, got none"),
    ("Mask: a number as name", lambda w: Mask({1: TRUE}), TypeError, "a name must be a string, got 1"),
    ("Mask: floats", lambda w: Mask({"w": torch.ones(2)}), TypeError, "bool tensor, True = kept, got torch.float32: use"),
    ("Mask: a list of bools", lambda w: Mask({"w": [True]}), TypeError, "bool tensor, True = kept, got list"),
    ("Mask: an array", lambda w: Mask({"w": np.ones(2, bool)}), TypeError, "bool tensor, True = kept, got ndarray"),
    ("Mask: meta", lambda w: Mask({"w": TRUE.to("meta")}), ValueError, "holds its bits, got .* on meta"),
    ("Mask: sparse", lambda w: Mask({"w": TRUE.to_sparse()}), ValueError, "dense tensor .* got torch.sparse_coo.*to_dense"),
    ("Mask: one name twice", lambda w: Mask({"a": TRUE, "_orig_mod.a": TRUE}), ValueError, "differ only by '_orig_mod.': a"),
    ("Mask: a name that is not there", lambda w: w.mask["fc"], Missing, "no parameter 'fc'. It has conv.weight, fc.weight"),
    ("Mask: an index", lambda w: w.mask[0], Missing, "no parameter 0. It has conv.weight"),
    ("Mask: & of another model", lambda w: w.mask & w.foreign, ValueError, "not of the same model: only one has 'conv.weight'"),
    ("Mask: | of other shapes", lambda w: w.mask | w.reshaped, ValueError, r"'conv.weight' has shape .* and \(2, 2\)"),
    ("Mask: - of another model", lambda w: w.foreign - w.mask, ValueError, "only one has '0.weight'"),
    ("Mask: <= of another model", lambda w: w.mask <= w.foreign, ValueError, "only one has 'conv.weight'"),
    ("Mask.dense: a string", lambda w: Mask.dense("model"), TypeError, "torch.nn.Module, got .* type str"),
    ("Mask.dense: one name", lambda w: Mask.dense(w.model, "fc.weight"), TypeError, r"got the string .*write \['fc.weight'\]"),
    ("Mask.dense: unknown name", lambda w: Mask.dense(w.model, ["fc"]), ValueError, "no parameter 'fc'. It has conv.weight"),
    ("Mask.dense: numbers", lambda w: Mask.dense(w.model, [1]), TypeError, r"collection of strings, got \[1\]"),
    ("Mask.dense: a number", lambda w: Mask.dense(w.model, 3), TypeError, "collection of strings, got 3"),
    ("Mask.dense: no names", lambda w: Mask.dense(w.model, []), ValueError, "at least one parameter, got none"),
    ("Mask.dense: used up names", lambda w: Mask.dense(w.model, iter(())), ValueError, "at least one parameter, got none"),
    ("Mask.dense: no weights", lambda w: Mask.dense(nn.Tanh()), ValueError, "nothing to prune: Tanh has no weights"),
    ("Mask.dense: lazy", lambda w: Mask.dense(w.lazy), RuntimeError, "'weight' has no shape yet: run a batch"),
    ("Mask.nonzero: None", lambda w: Mask.nonzero(None), TypeError, "torch.nn.Module, got .* type NoneType"),
    ("Mask.nonzero: meta", lambda w: Mask.nonzero(w.meta), RuntimeError, "'weight' is on the meta device .*load them first"),
    ("Mask.apply_: another model", lambda w: w.mask.apply_(w.other), ValueError, "no parameter 'conv.weight'. It has 0.weight"),
    ("Mask.apply_: other shapes", lambda w: w.reshaped.apply_(w.model), ValueError, "belongs to another model"),
    ("Mask.apply_: a state dict", lambda w: w.mask.apply_(w.weights), TypeError, "torch.nn.Module, got .* type dict"),
    ("Mask.apply_: the optimizer", lambda w: w.mask.apply_(w.optimizer), TypeError, "torch.nn.Module, got .* type SGD"),
    ("Mask.apply_to_grads_: another model", lambda w: w.mask.apply_to_grads_(w.other), ValueError, "parameter 'conv.weight'"),
    ("Mask.holds: another model", lambda w: w.foreign.holds(w.model), ValueError, "no parameter '0.weight'"),
    ("Mask.holds: meta", lambda w: Mask.dense(w.meta).holds(w.meta), RuntimeError, "'weight' is on the meta device"),
    ("Mask.enforce: no optimizer", lambda w: w.mask.enforce(w.model), TypeError, r"the optimizers .* mask.enforce\(model"),
    ("Mask.enforce: a list", lambda w: w.mask.enforce(w.model, [w.optimizer]), TypeError, "got list: pass them one by one"),
    ("Mask.enforce: a model", lambda w: w.mask.enforce(w.model, w.model), TypeError, "of torch.optim, got Sequential"),
    ("Mask.enforce: a class", lambda w: w.mask.enforce(w.model, SGD), TypeError, "optimizers of torch.optim, got type"),
    ("Mask.enforce: swapped", lambda w: w.mask.enforce(w.optimizer, w.model), TypeError, "torch.optim, got Sequential"),
    ("Mask.enforce: another's", lambda w: w.mask.enforce(w.model, w.stranger), ValueError, "holds no parameter of the model"),
    ("Mask.enforce: foreign", lambda w: w.foreign.enforce(w.model, w.optimizer), ValueError, "no parameter '0.weight'"),
    ("Mask.to: unknown", lambda w: w.mask.to("gpu"), ValueError, "device must be one that torch .*'cpu' or 'cuda', got 'gpu'"),
    ("Mask.to: a float", lambda w: w.mask.to(0.5), TypeError, "device must be a torch.device or its name, .*got 0.5"),
    ("Mask.to: absent", lambda w: w.mask.to("cuda:99"), RuntimeError, "device must be .*got 'cuda:99'.*use .*'cpu'"),
    ("Mask.to: meta", lambda w: w.mask.to("meta"), ValueError, "torch computes on, .* got 'meta'"),
    ("Mask.from_state_dict: floats", lambda w: Mask.from_state_dict(w.weights), TypeError, "got torch.float32: use"),
    ("Mask.from_state_dict: None", lambda w: Mask.from_state_dict(None), TypeError, "bool tensors, got None of type NoneType"),
    ("Mask.save: a number", lambda w: w.mask.save(3), TypeError, "path must be a string or a path, got 3 of type int"),
    ("Mask.save: a folder", lambda w: w.mask.save(w.folder / "there"), IsADirectoryError, "there"),
    ("Mask.save: under a file", lambda w: w.mask.save(w.folder / "text" / "mask"), FileExistsError, "text"),
    ("Mask.load: None", lambda w: Mask.load(None), TypeError, "path must be a string or a path, got None"),
    ("Mask.load: not there", lambda w: Mask.load(w.folder / "nope"), FileNotFoundError, "nope"),
    ("Mask.load: a folder", lambda w: Mask.load(w.folder), IsADirectoryError, "folder|directory"),
    ("Mask.load: a text", lambda w: Mask.load(w.folder / "text"), ValueError, "text is not a mask saved by sparsedd"),
    ("Mask.load: an empty file", lambda w: Mask.load(w.folder / "empty"), ValueError, "empty is not a mask"),
    ("Mask.load: a rewinder", lambda w: Mask.load(w.folder / "start"), ValueError, "start holds a rewinder, not a mask"),
    ("Enforcement: no optimizers", lambda w: Enforcement(w.mask, w.model, ()), TypeError, r"mask.enforce\(model, optimizer\)"),
    ("Enforcement: after its end", lambda w: w.over.__enter__(), RuntimeError, r"has ended: call mask.enforce"),
    ("Enforcement.update: after its end", lambda w: w.over.update(w.mask), RuntimeError, "has ended: call mask.enforce"),
    (
        "Enforcement.update: None",
        lambda w: inside(w.mask.enforce(w.zeros, SGD(w.zeros.parameters(), 1)), lambda e: e.update(None)),
        TypeError,
        "mask must be a Mask, got None",
    ),
    (
        "Enforcement.update: regrowing",
        lambda w: inside(w.mask.enforce(w.zeros, SGD(w.zeros.parameters(), 1)), lambda e: e.update(w.mask | ~w.mask)),
        ValueError,
        "only ever prunes more, but Mask.* keeps weights that Mask.* prunes",
    ),
    (
        "Enforcement.update: regrowing by a word",
        lambda w: inside(w.mask.enforce(w.zeros, SGD(w.zeros.parameters(), 1)), lambda e: e.update(~w.mask, regrow="yes")),
        TypeError,
        "regrow must be True or False, got 'yes'",
    ),
    (
        "Enforcement.update: regrowing foreign",
        lambda w: inside(w.mask.enforce(w.zeros, SGD(w.zeros.parameters(), 1)), lambda e: e.update(w.foreign, regrow=True)),
        ValueError,
        "",
    ),
    (
        "Enforcement.update: foreign",
        lambda w: inside(w.mask.enforce(w.zeros, SGD(w.zeros.parameters(), 1)), lambda e: e.update(w.foreign)),
        ValueError,
        "not of the same model",
    ),
    ("prunable: a string", lambda w: prunable("model"), TypeError, "torch.nn.Module, got .* type str"),
    ("prunable: types by name", lambda w: prunable(w.model, types="Linear"), TypeError, r"classes, .*got \('Linear',\)"),
    ("prunable: an instance", lambda w: prunable(w.model, types=(w.line,)), TypeError, "classes, .*got .*Linear"),
    ("prunable: no types", lambda w: prunable(w.model, types=()), ValueError, r"nothing to prune: Sequential .*\(none\)"),
    ("prunable: unmatched", lambda w: prunable(w.model, exclude="fc9"), ValueError, "'fc9' matches no .* They are conv.weight"),
    ("prunable: exclude a number", lambda w: prunable(w.model, exclude=3), TypeError, "collection of strings, got 3"),
    ("prunable: all excluded", lambda w: prunable(w.model, exclude="*"), ValueError, "to prune: .*besides the excluded"),
    ("prunable: lazy", lambda w: prunable(w.lazy), RuntimeError, "'weight' has no shape yet: run a batch"),
    *(
        (f"Pruner: fraction {got!r}", lambda w, got=got: Pruner(fraction=got), error, f"fraction must be .*{says}")
        for got, error, says in (
            (20, ValueError, r"in \[0, 1\), got 20. It is a share, not a percentage: did you mean 0.2\?"),
            (1.0, ValueError, "got 1.0"),
            (-0.1, ValueError, "got -0.1"),
            (NAN, ValueError, "got nan"),
            (-INF, ValueError, "got -inf"),
            (Fraction(3, 2), ValueError, "got 3/2"),
            ("0.2", TypeError, "got '0.2' of type str"),
            (None, TypeError, "got None"),
            (True, TypeError, "got True of type bool"),
            (torch.tensor(0.2), TypeError, "of type Tensor"),
        )
    ),
    ("Pruner: unknown score", lambda w: Pruner("l1"), ValueError, "one of 'magnitude', 'gradient', 'random' .* got 'l1'"),
    ("Pruner: a number as score", lambda w: Pruner(3), TypeError, "score must be .* got 3"),
    ("Pruner: no score", lambda w: Pruner(None), TypeError, "score must be .* got None"),
    ("Pruner: no seed", lambda w: Pruner(scores.random), TypeError, r"scores.random\(seed\), got scores.random itself"),
    ("Pruner: unknown scope", lambda w: Pruner(scope="local"), ValueError, "'global', 'layer', got 'local'"),
    ("Pruner: no scope", lambda w: Pruner(scope=None), TypeError, "'global', 'layer', got None"),
    ("Pruner.prune: a string", lambda w: Pruner().prune("model"), TypeError, "torch.nn.Module, got .* type str"),
    ("Pruner.prune: swapped", lambda w: Pruner().prune(w.mask, w.model), TypeError, "a Mask or None, got .* type Sequential"),
    ("Pruner.prune: a dict", lambda w: Pruner().prune(w.model, dict(w.mask)), TypeError, "Mask or None, got .* type dict"),
    ("Pruner.prune: foreign", lambda w: Pruner().prune(w.model, w.foreign), ValueError, "no parameter '0.weight'"),
    ("Pruner.prune: other shapes", lambda w: Pruner().prune(w.model, w.reshaped), ValueError, "belongs to another model"),
    ("Pruner.prune: sparse already", lambda w: Pruner().prune(w.zeros), RuntimeError, r"Pass the mask; .*nonzero\(model\)"),
    ("Pruner.prune: NaN", lambda w: Pruner().prune(w.nan), ValueError, "'fc.weight' is NaN for 144 kept weights"),
    ("Pruner.prune: nothing left", lambda w: Pruner(fraction=0.999).prune(w.fresh), ValueError, "nothing would be kept"),
    ("Pruner.prune: no weights", lambda w: Pruner().prune(nn.ReLU()), ValueError, "nothing to prune: ReLU has no weights"),
    ("Pruner.prune: meta", lambda w: Pruner().prune(w.meta), RuntimeError, "'weight' is on the meta device"),
    ("Pruner.prune: no gradient", lambda w: Pruner("gradient").prune(w.fresh), RuntimeError, r"call loss.backward\(\)"),
    (
        "Pruner.prune: score of arrays",
        lambda w: Pruner(lambda n, p: p.detach().numpy()).prune(w.model),
        TypeError,
        "must be a tensor, got .* type ndarray",
    ),
    (
        "Pruner.prune: score of means",
        lambda w: Pruner(lambda n, p: p.mean()).prune(w.model),
        ValueError,
        r"\(3, 1, 3, 3\), got",
    ),
    ("Pruner.prune: bool score", lambda w: Pruner(lambda n, p: p > 0).prune(w.model), TypeError, "numbers, got torch.bool"),
    ("Pruner.reaching: a percentage", lambda w: Pruner.reaching(90, 8), ValueError, "got 90.*did you mean 0.9"),
    ("Pruner.reaching: one level", lambda w: Pruner.reaching(0.9, 1), ValueError, "levels must be at least 2, got 1"),
    ("sweeps.workers: none", lambda w: sweeps.workers(0).__enter__(), ValueError, "count must be at least 1, got 0"),
    ("sweeps.workers: a string", lambda w: sweeps.workers("2").__enter__(), TypeError, "count must be an integer"),
    ("Pruner.prune_to: a percentage", lambda w: Pruner().prune_to(w.model, 90), ValueError, "got 90.*did you mean 0.9"),
    ("Pruner.prune_to: all", lambda w: Pruner().prune_to(w.model, 1), ValueError, r"sparsity must be in \[0, 1\), got 1"),
    ("Pruner.prune_to: a string", lambda w: Pruner().prune_to(w.model, "0.9"), TypeError, "got '0.9'"),
    ("Pruner.prune_to: NaN", lambda w: Pruner().prune_to(w.model, NAN), ValueError, "got nan"),
    ("Pruner.prune_to: denser", lambda w: Pruner().prune_to(w.model, 0.1, w.mask), ValueError, "keeps 85 .*never regrows"),
    ("Pruner.prune_to: nothing left", lambda w: Pruner().prune_to(w.model, 0.9999), ValueError, "nothing would be kept"),
    ("Pruner.sparsity: negative", lambda w: Pruner().sparsity(-1), ValueError, "level must be at least 0, got -1"),
    ("Pruner.sparsity: a float", lambda w: Pruner().sparsity(1.0), TypeError, "level must be an integer, got 1.0"),
    ("Pruner.sparsity: a bool", lambda w: Pruner().sparsity(True), TypeError, "level must be an integer, got True"),
    ("Rewinder: negative step", lambda w: Rewinder(step=-1), ValueError, "step must be at least 0, got -1"),
    ("Rewinder: a float step", lambda w: Rewinder(step=1.5), TypeError, "step must be an integer, got 1.5"),
    ("Rewinder: no state", lambda w: Rewinder(model=3), TypeError, "'model' must have state_dict .*got int"),
    ("Rewinder: a list", lambda w: Rewinder(optimizers=[w.optimizer]), TypeError, "'optimizers' must have .*got list"),
    ("Rewinder: a part that is not there", lambda w: w.start["adam"], Missing, "'adam' was not captured. There is model, opt"),
    ("Rewinder.rewind: unknown", lambda w: w.start.rewind(ema=w.model), ValueError, "'ema' was not captured. There is model"),
    ("Rewinder.rewind: no state", lambda w: w.start.rewind(model=None), TypeError, "'model' must have .*got NoneType"),
    ("Rewinder.rewind: another model", lambda w: w.start.rewind(model=w.other), ValueError, "of 'model' does not fit"),
    ("Rewinder.rewind: swapped", lambda w: w.start.rewind(model=w.optimizer), ValueError, "of 'model' does not fit"),
    (
        "Rewinder.rewind: another optimizer",
        lambda w: w.start.rewind(model=w.model, optimizer=SGD([w.line.weight], 1)),
        ValueError,
        "of 'optimizer' does not fit",
    ),
    ("Rewinder.rewind: meta", lambda w: Rewinder(m=w.line).rewind(m=w.meta), ValueError, "call model.to_empty"),
    ("Rewinder.rewind: another type", lambda w: w.start.rewind(model=w.double), ValueError, r"model.to\(torch.float32\)"),
    ("Rewinder.state_dict: a function", lambda w: Rewinder(p=Odd()).state_dict(), TypeError, "p.hook is a builtin_function"),
    ("Rewinder.from_state_dict: empty", lambda w: Rewinder.from_state_dict({}), ValueError, "and 'parts', .*got a dict of"),
    ("Rewinder.from_state_dict: a list", lambda w: Rewinder.from_state_dict([1]), ValueError, r"and 'parts', .*got \[1\]"),
    (
        "Rewinder.from_state_dict: negative step",
        lambda w: Rewinder.from_state_dict({"step": -1, "parts": {}}),
        ValueError,
        "step must be at least 0, got -1",
    ),
    ("Rewinder.save: a function", lambda w: Rewinder(p=Odd()).save(w.folder / "new"), TypeError, "is a builtin_function"),
    ("Rewinder.save: a number", lambda w: w.start.save(1.5), TypeError, "a string or a path, got 1.5"),
    ("Rewinder.load: not there", lambda w: Rewinder.load(w.folder / "nope"), FileNotFoundError, "nope"),
    ("Rewinder.load: a mask", lambda w: Rewinder.load(w.folder / "mask"), ValueError, "mask holds a mask, not a rewinder"),
    ("NoisyLabels: a stream", lambda w: NoisyLabels(Stream(), Pairflip(0.2)), TypeError, "length and be indexable, got Stream"),
    ("NoisyLabels: a generator", lambda w: NoisyLabels(iter(()), Pairflip(0.2)), TypeError, "indexable, got tuple_iterator"),
    ("NoisyLabels: a class", lambda w: NoisyLabels(w.dataset, Symmetric), TypeError, r"Symmetric\(0.2\), got <class"),
    ("NoisyLabels: a rate", lambda w: NoisyLabels(w.dataset, 0.2), TypeError, r"such as .*Symmetric\(0.2\), got 0.2"),
    ("NoisyLabels: a name", lambda w: NoisyLabels(w.dataset, "symmetric"), TypeError, "got 'symmetric'"),
    *(
        (f"NoisyLabels: {what}", lambda w, given=given: NoisyLabels(w.dataset, Pairflip(0.2), **given), error, says)
        for what, given, error, says in (
            ("a label out of range", {"label": 7}, ValueError, "label=7, but the dataset has 2 tensors"),
            ("a key of tuples", {"label": "y"}, ValueError, "label='y' is not where .* item of type tuple"),
            ("a float label", {"label": 1.5}, TypeError, "index or the key of a dict item, got 1.5"),
            ("a bool label", {"label": True}, TypeError, "index or the key of a dict item, got True"),
            ("no classes", {"num_classes": 0}, ValueError, "num_classes must be at least 1, got 0"),
            ("too few classes", {"num_classes": 5}, ValueError, r"labels must be in 0 ... 4, got 0 ... 9"),
            ("a float of classes", {"num_classes": 10.0}, TypeError, "num_classes must be an integer, got 10.0"),
            ("a negative seed", {"seed": -1}, ValueError, "seed must be at least 0, got -1"),
            ("a bool seed", {"seed": True}, TypeError, "seed must be an integer, got True"),
            ("inputs as labels", {"label": 0}, TypeError, r"one integer a sample, got float32 values of shape \(20,\)"),
        )
    ),
    *(
        (f"NoisyLabels: {what}", lambda w, y=y: NoisyLabels(list(zip("abc", y, strict=False)), Pairflip(1)), error, says)
        for what, y, error, says in (
            ("float labels", [0.0, 1.0], TypeError, "one integer a sample, got float64"),
            ("negative labels", [0, -1], ValueError, r"must be in 0 ... 0, got -1 ... 0"),
            ("labels in words", ["cat", "dog"], TypeError, "one integer a sample, got <U3"),
            ("one-hot labels", [[0, 1], [1, 0]], TypeError, r"one integer a sample, got int64 values of shape \(2,\)"),
            ("labels of many lengths", [[0, 1], [1]], TypeError, r"one integer a sample, got \[0, 1\] and \[1\]"),
            ("no labels", [None, None], TypeError, "one integer a sample, got object"),
            ("bool labels", [True, False], TypeError, "one integer a sample, got bool"),
        )
    ),
    *(
        (f"NoisyLabels: noise of {what}", lambda w, f=f: NoisyLabels(w.dataset, f), ValueError, says)
        for what, f, says in (
            ("nothing", lambda y, c, s: None, "integer labels of shape .*got NoneType"),
            ("floats", lambda y, c, s: y + 0.5, "integer labels of shape .*got torch.float32"),
            ("fewer labels", lambda y, c, s: y[:3], r"shape \(20,\), got torch.int64 of \(3,\)"),
            ("too many classes", lambda y, c, s: y + 1, r"noise returns must be in 0 ... 9, got 1 ... 10"),
        )
    ),
    (
        "NoisyLabels: a subset out of range",
        lambda w: NoisyLabels(Subset(w.dataset, [0, 99]), Pairflip(0.2)),
        ValueError,
        "indices must be below 20, got 0 ... 99",
    ),
    ("NoisyLabels: a slice", lambda w: w.noisy[:2], TypeError, r"index must be an integer, got slice\(None, 2, None\).*Subset"),
]

MODULES: list[Wrong] = [
    # ---------------------------------------------------------------- sparsedd.scores
    ("scores.magnitude: a list", lambda w: scores.magnitude("w", [1.0]), TypeError, r"'w' must be a tensor, got \[1.0\]"),
    ("scores.gradient: none", lambda w: scores.gradient("w", w.line.weight), RuntimeError, r"has no gradient.*backward\(\)"),
    ("scores.gradient: a list", lambda w: scores.gradient("w", [1.0]), TypeError, r"'w' must be a tensor, got \[1.0\]"),
    (
        "scores.gradient: frozen",
        lambda w: scores.gradient("w", nn.Parameter(torch.ones(2), False)),
        RuntimeError,
        "'w' has no gradient .*frozen, so leave it out",
    ),
    ("scores.random: negative", lambda w: scores.random(-1), ValueError, "seed must be at least 0, got -1"),
    ("scores.random: a float", lambda w: scores.random(0.5), TypeError, "seed must be an integer, got 0.5"),
    ("scores.random: a string", lambda w: scores.random("0"), TypeError, "seed must be an integer, got '0'"),
    ("scores.random: of a list", lambda w: scores.random(0)("w", [1.0]), TypeError, r"'w' must be a tensor, got \[1.0\]"),
    *(
        (f"scores.accumulate_: {what}", lambda w, f=f: scores.accumulate_(*f(w)), error, says)
        for what, f, error, says in (
            ("no model", lambda w: (None, w.batches, cross_entropy), TypeError, "torch.nn.Module, got .* type NoneType"),
            ("no batches", lambda w: (w.model, [], cross_entropy), ValueError, "at least one batch, got none"),
            ("used up batches", lambda w: (w.model, iter(()), cross_entropy), ValueError, "got none: is the iterator used up"),
            ("one batch", lambda w: (w.model, (w.x, w.y), cross_entropy), TypeError, r"pair of tensors, .*\[\(x, y\)\]"),
            ("a tensor", lambda w: (w.model, w.x, cross_entropy), TypeError, "iterable of .*got Tensor"),
            ("a number", lambda w: (w.model, 3, cross_entropy), TypeError, "iterable of .*got int"),
            ("inputs alone", lambda w: (w.model, [w.x], cross_entropy), TypeError, r"\(inputs, targets\), got \(Tensor\)"),
            ("arrays", lambda w: (w.model, [(w.x, w.y.numpy())], cross_entropy), TypeError, r"got \(Tensor, ndarray\)"),
            ("an empty batch", lambda w: (w.model, [(w.x[:0], w.y[:0])], cross_entropy), ValueError, "at least one batch"),
            ("a loss by name", lambda w: (w.model, w.batches, "cross_entropy"), TypeError, "callable, .*got 'cross_entropy'"),
            ("a loss's class", lambda w: (w.model, w.batches, nn.CrossEntropyLoss), TypeError, "callable, .*got <class"),
            ("losses", lambda w: (w.model, w.batches, lambda a, b: a), ValueError, r"one number with a gradient, got tensor"),
            ("a loss in Python", lambda w: (w.model, w.batches, lambda a, b: 1.0), ValueError, "one number .*got 1.0"),
            ("classes too many", lambda w: (w.model, [(w.x, w.y + 3)], cross_entropy), ValueError, r"classes .*got 3 ... [45]"),
            ("float classes", lambda w: (w.model, [(w.x, w.y / 2)], cross_entropy), TypeError, "use targets.long"),
        )
    ),
    # ---------------------------------------------------------------- sparsedd.noise
    *(
        (
            f"noise.{kind.__name__}: rate {got!r}",
            lambda w, kind=kind, got=got, more=more: kind(got, *more),
            error,
            f"rate must be .*{says}",
        )
        for kind, more in ((Symmetric, ()), (Pairflip, ()), (Asymmetric, ("mnist",)))
        for got, error, says in (
            (20, ValueError, "got 20. It is a share, not a percentage: did you mean 0.2"),
            (-0.1, ValueError, "got -0.1"),
            (NAN, ValueError, "got nan"),
            ("0.2", TypeError, "got '0.2' of type str"),
            (True, TypeError, "got True of type bool"),
        )
    ),
    ("noise.Symmetric: unknown draw", lambda w: Symmetric(0.2, "all"), ValueError, "'uniform', 'other', 'permute', got 'all'"),
    ("noise.Symmetric: one class", lambda w: Symmetric(1, "other")(w.labels * 0, 1, 0), ValueError, "two classes, got 1"),
    ("noise.Asymmetric: unknown flips", lambda w: Asymmetric(0.2, "svhn"), ValueError, "one of 'mnist', .*got 'svhn'"),
    ("noise.Asymmetric: pairs", lambda w: Asymmetric(0.2, [(0, 1)]), TypeError, "or a mapping from class to class, got .*0, 1"),
    ("noise.Asymmetric: words", lambda w: Asymmetric(0.2, {"cat": "dog"}), TypeError, "flips must be an integer, got 'cat'"),
    ("noise.Asymmetric: negative", lambda w: Asymmetric(0.2, {0: -1}), ValueError, "flips must be at least 0, got -1"),
    ("noise.Asymmetric: beyond", lambda w: Asymmetric(1, {0: 10})(w.labels, 10, 0), ValueError, "class 10, but .* only 10"),
    ("noise.Asymmetric: other data", lambda w: Asymmetric(1, "cifar100")(w.labels, 10, 0), ValueError, "is for 100 .*=10"),
    *(
        (f"noise.Pairflip: labels {what}", lambda w, f=f: Pairflip(0.2)(*f(w)), error, says)
        for what, f, error, says in (
            ("in a list", lambda w: ([0, 1], 2, 0), TypeError, r"integer tensor of shape \(n,\), got list"),
            ("of floats", lambda w: (w.labels / 2, 10, 0), TypeError, "integer tensor .*got torch.float32"),
            ("of two dimensions", lambda w: (w.labels[None], 10, 0), TypeError, r"got torch.int64 of shape \(1, 20\)"),
            ("negative", lambda w: (w.labels - 1, 10, 0), ValueError, r"in 0 ... 9, got -1 ... 8"),
            ("out of range", lambda w: (w.labels, 5, 0), ValueError, r"in 0 ... 4, got 0 ... 9"),
            ("of no class", lambda w: (w.labels, 0, 0), ValueError, "num_classes must be at least 1, got 0"),
            ("with a negative seed", lambda w: (w.labels, 10, -1), ValueError, "seed must be at least 0, got -1"),
        )
    ),
    ("noise.Given: a list", lambda w: noise.Given(["cat"]), TypeError, "labels must be integers .*or a list, got list of <U3"),
    ("noise.Given: no classes", lambda w: noise.Given(w.labels - 1), ValueError, "labels must be classes, from 0 on, got -1"),
    ("noise.Given: fewer clean", lambda w: noise.Given(w.labels, w.labels[:3]), ValueError, "equally many, got 20 and 3"),
    ("noise.Given: of more", lambda w: noise.Given(w.labels)(w.labels[:3], 10, 0), ValueError, "20 labels .* has 3: pick out"),
    (
        "noise.Given: of another order",
        lambda w: NoisyLabels(w.dataset, noise.Given(w.labels, w.labels.flip(0))),
        ValueError,
        "20 of 20 labels of the data set are not .*another order, as CIFAR-10 is in TensorFlow Datasets.* Put the given",
    ),
    ("noise.Given: beyond", lambda w: noise.Given(w.labels)(w.labels % 3, 3, 0), ValueError, "in 0 ... 2, .*num_classes=10"),
    ("noise.FLIPS: unknown", lambda w: noise.FLIPS["svhn"], Missing, "no flips 'svhn'. There are 'mnist', 'cifar10'"),
    # ---------------------------------------------------------------- sparsedd.metrics
    *(
        (f"metrics.learning_distance: {what}", lambda w, f=f: metrics.learning_distance(*f(w)), error, says)
        for what, f, error, says in (
            ("a number", lambda w: (w.model, 3), TypeError, "model or a mapping of names to tensors, got .* type int"),
            ("another model", lambda w: (w.model, w.other), ValueError, "only one has 'conv.weight'"),
            ("one name", lambda w: (w.weights, w.weights, "fc.weight"), TypeError, r"got the string .*write \['fc.weight'\]"),
            ("unknown name", lambda w: (w.weights, w.weights, ["fc"]), ValueError, "no parameter 'fc'. It has conv"),
            ("numbers as names", lambda w: (w.weights, w.weights, [0]), TypeError, r"collection of strings, got \[0\]"),
            ("keys that are numbers", lambda w: ({0: w.x}, {0: w.x}), TypeError, "a name must be a string, got 0"),
            ("lists", lambda w: ({"w": [1.0]}, {"w": [1.0]}, ["w"]), TypeError, "'w' must be a tensor, got .* type list"),
            ("nothing", lambda w: ({}, {}), ValueError, "no weights to measure, got no tensor of two .*pass names="),
            ("no weights", lambda w: (nn.ReLU(), nn.ReLU()), ValueError, "no weights to measure"),
        )
    ),
    *(
        (f"metrics.evaluate: {what}", lambda w, f=f, more=more: metrics.evaluate(*f(w), **more), error, says)
        for what, f, more, error, says in (
            ("no model", lambda w: ("model", w.batches), {}, TypeError, "torch.nn.Module, got .* type str"),
            ("no batches", lambda w: (w.model, []), {}, ValueError, "at least one sample, got none"),
            ("used up batches", lambda w: (w.model, iter(())), {}, ValueError, "is the iterator used up"),
            ("an empty batch", lambda w: (w.model, [(w.x[:0], w.y[:0])]), {}, ValueError, "at least one sample, got none"),
            ("one batch", lambda w: (w.model, (w.x, w.y)), {}, TypeError, r"is it \[\(x, y\)\] that you mean"),
            ("a mapping", lambda w: (w.model, {"x": w.x}), {}, TypeError, "iterable of .*got dict"),
            ("fewer targets", lambda w: (w.model, [(w.x, w.y[:2])]), {}, ValueError, r"got \(4, 3\) and \(2,\)"),
            ("one target", lambda w: (w.model, [(w.x, w.y[0])]), {}, ValueError, r"got \(4, 3\) and \(\)"),
            ("classes too many", lambda w: (w.model, [(w.x, w.y + 3)]), {}, ValueError, r"classes .*got 3 ... [45]"),
            ("negative classes", lambda w: (w.model, [(w.x, w.y - 9)]), {}, ValueError, r"classes .*got -9"),
            ("float classes", lambda w: (w.model, [(w.x, w.y.float())]), {}, TypeError, r"got torch.float32: use targets.long"),
            (
                "loss by name",
                lambda w: (w.model, w.batches),
                {"loss": "mse"},
                TypeError,
                "loss must be a callable, .*got 'mse'",
            ),
            ("losses", lambda w: (w.model, w.batches), {"loss": lambda a, b: a}, ValueError, r"mean .*shape \(4, 3\)"),
        )
    ),
    *(
        (f"metrics.margins: {what}", lambda w, f=f: metrics.margins(*f(w)), error, says)
        for what, f, error, says in (
            ("no model", lambda w: ("model", w.batches), TypeError, "torch.nn.Module, got .* type str"),
            ("no batches", lambda w: (w.model, []), ValueError, "at least one sample, got none"),
            ("one batch", lambda w: (w.model, (w.x, w.y)), TypeError, r"is it \[\(x, y\)\] that you mean"),
            ("fewer targets", lambda w: (w.model, [(w.x, w.y[:2])]), ValueError, r"margins takes .*got \(4, 3\) and \(2,\)"),
            ("classes too many", lambda w: (w.model, [(w.x, w.y + 3)]), ValueError, "targets must be in 0 ... 2, got 3"),
            ("float classes", lambda w: (w.model, [(w.x, w.y.float())]), TypeError, "got torch.float32: use targets.long"),
            ("one class", lambda w: (nn.Identity(), [(w.x[:, 0, 0, :1], w.y)]), ValueError, "of two classes or more"),
        )
    ),
    *(
        (f"metrics.activation_entropy: {what}", lambda w, f=f: metrics.activation_entropy(*f(w)), error, says)
        for what, f, error, says in (
            ("no model", lambda w: ("model", w.batches), TypeError, "torch.nn.Module, got .* type str"),
            ("no batches", lambda w: (w.other, []), ValueError, "at least one sample, got none"),
            ("one batch", lambda w: (w.other, (w.x, w.y)), TypeError, r"is it \[\(x, y\)\] that you mean"),
            ("no layer", lambda w: (w.model, w.batches), ValueError, r"no rectified layer .*write nn.ReLU\(\)"),
            ("two shapes", lambda w: (nn.ReLU(), [(w.x, w.y), (w.x[..., 0], w.y)]), ValueError, "use samples of one shape"),
        )
    ),
    ("metrics.accuracy: lists", lambda w: metrics.accuracy([[0, 1]], [1]), TypeError, "logits must be a tensor, got"),
    ("metrics.accuracy: classes", lambda w: metrics.accuracy(w.y, w.y), ValueError, r"\(n, C\) logits .*got \(4,\), \(4,\)"),
    ("metrics.accuracy: empty", lambda w: metrics.accuracy(w.x[:0, 0, 0], w.y[:0]), ValueError, r"got \(0, 6\), \(0,\)"),
    (
        "metrics.generalization_gap: percent",
        lambda w: metrics.generalization_gap(100, 98),
        ValueError,
        "train .*got 100.*share",
    ),
    ("metrics.generalization_gap: NaN", lambda w: metrics.generalization_gap(1.0, NAN), ValueError, "test must be .*got nan"),
    ("metrics.generalization_gap: words", lambda w: metrics.generalization_gap("1", 0.5), TypeError, "train .*got '1'"),
    ("metrics.sparsity: a number", lambda w: metrics.sparsity(3), TypeError, "torch.nn.Module, got .* type int"),
    ("metrics.sparsity: unknown", lambda w: metrics.sparsity(w.model, ["fc"]), ValueError, "no parameter 'fc'"),
    ("metrics.sparsity: one name", lambda w: metrics.sparsity(w.model, "fc"), TypeError, r"write \['fc'\]"),
    # ---------------------------------------------------------------- sparsedd.phases
    *(
        (f"phases.phases: {what}", lambda w, given=given, more=more: phases.phases(*given, **more), error, says)
        for what, given, more, error, says in (
            ("no levels", ([], [], []), {}, ValueError, r"one number for each point .* shape \(0,\)"),
            ("None", (None, [1], [1]), {}, ValueError, r"one number for each point .* shape \(\)"),
            ("a matrix", ([[0, 0.5]], [1, 1], [1, 1]), {}, ValueError, r"array of shape \(1, 2\)"),
            ("falling", ([0.5, 0], [1, 1], [1, 1]), {}, ValueError, r"rise from level to level .*got 0.5, 0"),
            ("percent", ([0, 50], [1, 1], [1, 1]), {}, ValueError, "got 0, 50. It is a share, not a percentage"),
            ("NaN sparsity", ([0, NAN], [1, 1], [1, 1]), {}, ValueError, "got 0, nan"),
            ("words", (["dense"], [1], [1]), {}, TypeError, r"sparsity must be numbers .*got \['dense'\]"),
            ("ragged", ([0, 0.5], [[1, 1], [1]], [1, 1]), {}, TypeError, r"train_accuracy must be numbers .*equal length, got"),
            ("lengths", ([0, 0.5], [1, 1, 1], [1, 1]), {}, ValueError, r"train_accuracy must have .*got \(3,\)"),
            ("rank", ([0], [[[1]]], [1]), {}, ValueError, r"train_accuracy must have .*got \(1, 1, 1\)"),
            ("no seeds", ([0], [1], np.zeros((0, 1))), {}, ValueError, r"test_accuracy must have .*got \(0, 1\)"),
            ("NaN", ([0, 0.5], [1, 1], [1, NAN]), {}, ValueError, "test_accuracy must be finite, got nan"),
            ("percents", ([0, 0.5], [100, 99], [1, 1]), {}, ValueError, r"train_accuracy must be in \[0, 1\], got 100, 99"),
            ("negative tolerance", ([0], [1], [1]), {"tolerance": -1}, ValueError, "not be negative, got -1"),
            ("tolerance in percent", ([0], [1], [1]), {"tolerance": 2}, ValueError, "got 2. It is a share.*0.02"),
            ("tolerance in words", ([0], [1], [1]), {"tolerance": "2 %"}, TypeError, "tolerance .*got '2 %'"),
        )
    ),
    (
        "phases.boundaries: other seeds",
        lambda w: phases.boundaries([0, 0.5], np.ones((2, 2)), np.ones((3, 2))),
        ValueError,
        "of the same seeds, got 2 and 3",
    ),
    ("phases.Phases: percent", lambda w: phases.phases([0], [1], [1])[50], ValueError, r"sparsity .*got 50. It is a share"),
    ("phases.Phases: a word", lambda w: phases.phases([0], [1], [1])["Sweet"], TypeError, "sparsity .*got 'Sweet'"),
    *(
        (f"phases.double_descent: {what}", lambda w, given=given: phases.double_descent([0, 0.5], **given), error, says)
        for what, given, error, says in (
            ("NaN", {"test_accuracy": [1, NAN]}, ValueError, "test_accuracy must be finite, got nan"),
            ("lengths", {"test_accuracy": [1]}, ValueError, r"shape \(seeds, 2\) or \(2,\), .*got \(1,\)"),
            ("percent", {"test_accuracy": [1, 1], "confidence": 95}, ValueError, r"\(0, 1\), got 95. .*did you mean 0.95"),
            ("certainty", {"test_accuracy": [1, 1], "confidence": 1}, ValueError, r"confidence must be in \(0, 1\), got 1"),
            ("a word", {"test_accuracy": [1, 1], "confidence": "high"}, TypeError, "confidence .*got 'high'"),
            ("a negative seed", {"test_accuracy": [1, 1], "seed": -1}, ValueError, "seed must be at least 0, got -1"),
            ("no resamples", {"test_accuracy": [1, 1], "resamples": 0}, ValueError, "resamples must be at least 1, got 0"),
        )
    ),
    *(
        (f"phases.advise: {what}", lambda w, given=given, more=more: phases.advise(*given, **more), error, says)
        for what, given, more, error, says in (
            ("percent", ([0, 50], [1, 1], [1, 1]), {}, ValueError, "got 0, 50. It is a share, not a percentage"),
            (
                "training data in percent",
                ([0], [99], [1]),
                {},
                ValueError,
                r"train_accuracy must be in \[0, 1\], got 99. It is",
            ),
            ("lengths", ([0, 0.5], [1, 1], [1]), {}, ValueError, r"test_accuracy .*\(seeds, 2\) or \(2,\), .*got \(1,\)"),
            ("NaN", ([0, 0.5], [1, 1], [1, NAN]), {}, ValueError, "test_accuracy must be finite, got nan"),
            ("None", ([0, 0.5], None, [1, 1]), {}, ValueError, r"train_accuracy must have shape .*got \(\)"),
            ("tolerance in percent", ([0], [1], [1]), {"tolerance": 2}, ValueError, "got 2. It is a share.*0.02"),
            ("confidence in percent", ([0], [1], [1]), {"confidence": 95}, ValueError, "got 95. .*did you mean 0.95"),
            ("a seed that is none", ([0], [1], [1]), {"seed": None}, TypeError, "seed must be an integer, got None"),
            ("no resamples", ([0], [1], [1]), {"resamples": 0}, ValueError, "resamples must be at least 1, got 0"),
        )
    ),
    # ---------------------------------------------------------------- sparsedd.landscape
    *(
        (f"landscape.at: {what}", lambda w, f=f: landscape.at(*f(w)).__enter__(), error, says)
        for what, f, error, says in (
            ("no model", lambda w: (3, w.weights), TypeError, "torch.nn.Module, got .* type int"),
            ("no weights", lambda w: (w.model, None), TypeError, "or a mapping of names to tensors, got .* type NoneType"),
            ("lists", lambda w: (w.model, {"fc.bias": [1, 2, 3]}), TypeError, "'fc.bias' must be a tensor, got .* type list"),
            ("another model", lambda w: (w.model, w.other), ValueError, "parameter or buffer '0.weight'. It has conv.weight"),
            ("other shapes", lambda w: (w.model, {"fc.bias": w.y}), ValueError, r"shape \(3,\) in the model, got \(4,\)"),
            ("keys that are numbers", lambda w: (w.model, {0: w.x}), TypeError, "a name must be a string, got 0"),
        )
    ),
    *(
        (f"landscape.line: {what}", lambda w, f=f: landscape.line(w.model, *f(w)), error, says)
        for what, f, error, says in (
            ("alphas in words", lambda w: (w.model, w.weights, "01", len), TypeError, "alpha must be a number, got '0'"),
            ("one alpha", lambda w: (w.model, w.weights, 0.5, len), TypeError, "alphas must be a list of numbers, got 0.5"),
            ("NaN", lambda w: (w.model, w.weights, [0, NAN], len), ValueError, "alpha must be finite, got nan"),
            ("no measure", lambda w: (w.model, w.weights, [0], "loss"), TypeError, r"measure must be a callable, .*got 'loss'"),
            ("foreign", lambda w: (w.model, {"w": w.x}, [0], len), ValueError, "names 'w' .*the origin has conv.weight"),
            ("no origin", lambda w: (0, w.weights, [0], len), TypeError, "mapping of names to tensors, got .* type int"),
        )
    ),
    *(
        (f"landscape.interpolate: {what}", lambda w, f=f: landscape.interpolate(w.model, *f(w)), error, says)
        for what, f, error, says in (
            ("two models", lambda w: (w.model, w.other, len), ValueError, "not of the same model: only one has 'conv.weight'"),
            ("no measure", lambda w: (w.model, w.model, None), TypeError, "measure must be a callable, .*got None"),
            ("no end", lambda w: (w.model, 1, len), TypeError, "mapping of names to tensors, got .* type int"),
            ("infinity", lambda w: (w.model, w.model, len, [INF]), ValueError, "alpha must be finite, got inf"),
            ("recalibrate by name", lambda w: (w.model, w.model, len, [0], "bn"), TypeError, "recalibrate .*got 'bn'"),
        )
    ),
    ("landscape.random_direction: seed", lambda w: landscape.random_direction(w.model, -1), ValueError, "seed .*got -1"),
    ("landscape.random_direction: no model", lambda w: landscape.random_direction(w.weights), TypeError, "got .* type dict"),
    (
        "landscape.random_direction: a name",
        lambda w: landscape.random_direction(w.model, 0, "fc"),
        TypeError,
        r"write \['fc'\]",
    ),
    ("landscape.filter_normalized: swapped", lambda w: landscape.filter_normalized(w.model, w.weights), TypeError, "type dict"),
    (
        "landscape.filter_normalized: foreign",
        lambda w: landscape.filter_normalized({"w": w.x}, w.model),
        ValueError,
        "no .* 'w'",
    ),
    (
        "landscape.filter_normalized: shapes",
        lambda w: landscape.filter_normalized({"fc.bias": w.y}, w.model),
        ValueError,
        r"shape \(4,\) for 'fc.bias', the model \(3,\)",
    ),
    *(
        (f"landscape.sharpness: {what}", lambda w, given=given, r=r: landscape.sharpness(*given, radius=r), error, says)
        for what, given, r, error, says in (
            ("lengths", ([0, 1], [1, 2, 3]), 1, ValueError, r"shape \(directions, 2\) .*got \(1, 3\)"),
            ("no centre", ([1, 2], [1, 2]), 1, ValueError, "alphas must hold 0 and others within 1 of it, got 1.0, 2.0"),
            ("no neighbour", ([0, 1], [1, 2]), 0.5, ValueError, "within 0.5 of it, got 0.0, 1.0"),
            ("NaN", ([0, 1], [1, NAN]), 1, ValueError, "losses must be finite, got nan: take a smaller"),
            ("no radius", ([0, 1], [1, 2]), 0, ValueError, "radius must be finite and above 0, got 0"),
            ("a word", ([0, 1], [1, 2]), "1", TypeError, "radius must be a number, got '1'"),
            ("words", (["a"], [1]), 1, TypeError, r"alphas must be numbers .*got \['a'\]"),
        )
    ),
    # ---------------------------------------------------------------- sparsedd.sparse
    ("sparse.compact: no mask", lambda w: sparse.compact(w.model, None), TypeError, "must be a Mask, got .* type NoneType"),
    ("sparse.compact: no model", lambda w: sparse.compact("model", w.mask), TypeError, "torch.nn.Module, got .* type str"),
    ("sparse.compact: foreign", lambda w: sparse.compact(w.model, w.foreign), ValueError, "no parameter '0.weight'"),
    ("sparse.compact: NaN", lambda w: sparse.compact(w.model, w.mask, below=NAN), ValueError, "below .*at least 0, got nan"),
    ("sparse.compact: a word", lambda w: sparse.compact(w.model, w.mask, below="all"), TypeError, "below .*got 'all'"),
    ("sparse.expand_: no copy", lambda w: sparse.expand_(w.model, None, w.mask), TypeError, "fast must be .*Module, got None"),
    ("sparse.expand_: no mask", lambda w: sparse.expand_(w.model, w.model, None), TypeError, "mask must be a Mask, got None"),
    ("sparse.expand_: foreign", lambda w: sparse.expand_(w.model, w.other, w.mask), ValueError, "no weights for 'conv.weight'"),
    ("sparse.SparseLinear: a convolution", lambda w: SparseLinear(w.model.conv, TRUE), TypeError, "Linear, got Conv2d"),
    ("sparse.SparseLinear: a list", lambda w: SparseLinear(w.line, [True]), TypeError, r"must be a bool tensor, got \[True"),
    ("sparse.SparseLinear: floats", lambda w: SparseLinear(w.line, torch.ones(3, 4)), ValueError, "be bool, .*torch.float32"),
    ("sparse.SparseLinear: shape", lambda w: SparseLinear(w.line, TRUE), ValueError, r"shape \(3, 4\), got torch.bool, \(2,\)"),
    ("sparse.SparseLinear.forward: width", lambda w: w.sparse(w.x), ValueError, r"4 inputs got 6: .*shape \(4, 1, 6, 6\)"),
    ("sparse.SparseLinear.forward: a list", lambda w: w.sparse([1.0] * 4), TypeError, "inputs must be a tensor, got"),
    # ---------------------------------------------------------------- sparsedd.fleet
    ("fleet.Fleet: one model", lambda w: Fleet(w.model), TypeError, r"list of models, got Sequential: write Fleet\(\[model"),
    ("fleet.Fleet: none", lambda w: Fleet([]), ValueError, "at least one model, got none"),
    ("fleet.Fleet: used up", lambda w: Fleet(iter(())), ValueError, "at least one model, got none"),
    ("fleet.Fleet: numbers", lambda w: Fleet([1, 2]), TypeError, "torch.nn.Modules, got int"),
    ("fleet.Fleet: two kinds", lambda w: Fleet([w.model, w.other]), ValueError, "alike, but .* in the first and .* in model 1"),
    ("fleet.Fleet: one twice", lambda w: Fleet([w.other, w.other]), ValueError, "'0.weight' of model 1 are one tensor"),
    ("fleet.Fleet: modes", lambda w: Fleet([w.fresh, w.still]), ValueError, "training mode in the first and .*evaluation"),
    ("fleet.Fleet: lazy", lambda w: Fleet([w.lazy]), RuntimeError, "'weight' has no shape yet: run a batch"),
    ("fleet.Fleet: sparse", lambda w: Fleet([w.sparse]), ValueError, "members of a fleet are dense: .*sparse.expand_"),
    ("fleet.Fleet.forward: one batch", lambda w: w.fleet(torch.ones(5, 4)), ValueError, r"with 2 members, got shape \(5, 4\)"),
    ("fleet.Fleet.forward: a list", lambda w: w.fleet([w.x, w.x]), TypeError, "inputs must be a tensor, got"),
    ("fleet.Fleet.forward: width", lambda w: w.fleet(torch.ones(2, 5, 3)), ValueError, r"layer of 4 inputs got 3"),
    *(
        (f"fleet.Fleet.backward: {what}", lambda w, f=f: w.fleet.backward(*f(*w.many)), error, says)
        for what, f, error, says in (
            ("targets of one", lambda x, y: (x, y[0]), ValueError, r"int64 of shape \(2, 5\), got torch.int64, \(5,\)"),
            ("floats", lambda x, y: (x, y.float()), ValueError, "int64 of shape .*got torch.float32"),
            ("a list", lambda x, y: (x, [0]), TypeError, r"targets must be a tensor, got \[0\]"),
            ("classes too many", lambda x, y: (x, y + 3), ValueError, r"classes that the logits have.*got 3 ... 3"),
            ("width", lambda x, y: (x[..., :3], y), ValueError, "layer of 4 inputs got 3"),
        )
    ),
    ("fleet.Fleet.mask: one mask", lambda w: w.fleet.mask(w.foreign), TypeError, r"a list of Masks, got Mask\("),
    ("fleet.Fleet.mask: three", lambda w: w.fleet.mask([w.foreign] * 3), ValueError, "takes 2 masks, .*got 3"),
    ("fleet.Fleet.mask: numbers", lambda w: w.fleet.mask([1, 2]), TypeError, "masks must be Masks, got 1"),
    ("fleet.Fleet.mask: two models'", lambda w: w.fleet.mask([w.foreign, w.mask]), ValueError, "only one has '0.weight'"),
    ("fleet.Fleet.mask: None", lambda w: w.fleet.mask(None), TypeError, "masks must be a list of Masks, got None"),
    ("fleet.Fleet.enforce: no optimizer", lambda w: w.fleet.enforce([w.foreign] * 2), TypeError, "needs the optimizers"),
    (
        "fleet.Fleet.enforce: another's",
        lambda w: w.fleet.enforce([w.foreign] * 2, w.optimizer),
        ValueError,
        "SGD holds no parameter of the model",
    ),
    ("fleet.Fleet.copy_to_: one", lambda w: w.fleet.copy_to_([w.other]), ValueError, "copied to 2 models, got 1"),
    ("fleet.Fleet.copy_to_: others", lambda w: w.fleet.copy_to_([w.other, w.model]), ValueError, "None in model 1"),
    ("fleet.Fleet.copy_to_: numbers", lambda w: w.fleet.copy_to_([1, 2]), TypeError, "models must be torch.nn.Modules, got 1"),
    ("fleet.Fleet.evaluate: none", lambda w: w.fleet.evaluate([]), ValueError, "at least one sample, got none"),
    ("fleet.Fleet.evaluate: shapes", lambda w: w.fleet.evaluate([(w.many[0], w.many[1][:, :2])]), ValueError, r"and \(2, 2\)"),
    ("fleet.Fleet.evaluate: classes", lambda w: w.fleet.evaluate([(w.many[0], w.many[1] + 3)]), ValueError, r"got 3 ... 3"),
    ("fleet.Fleet.evaluate: loss", lambda w: w.fleet.evaluate([w.many], loss=cross_entropy), ValueError, "loss|targets|means"),
    ("fleet.cross_entropy: one model's", lambda w: fleet_cross_entropy(w.x, w.y), ValueError, r"got \(4, 1, 6, 6\) and \(4,\)"),
    ("fleet.cross_entropy: lists", lambda w: fleet_cross_entropy([1], [1]), TypeError, r"logits must be a tensor, got \[1\]"),
    # ---------------------------------------------------------------- sparsedd.convert
    ("convert.from_torch_prune: a string", lambda w: convert.from_torch_prune("model"), TypeError, "got .* type str"),
    ("convert.from_torch_prune: not pruned", lambda w: convert.from_torch_prune(w.model), ValueError, r"Mask.nonzero\(model\)"),
    (
        "convert.from_torch_prune_: not pruned",
        lambda w: convert.from_torch_prune_(w.model),
        ValueError,
        r"carries no mask of torch.nn.utils.prune: Mask.nonzero\(model\)",
    ),
    (
        "convert.to_torch_prune_: a dict",
        lambda w: convert.to_torch_prune_(w.model, dict(w.mask)),
        TypeError,
        "mask must be a Mask, got .*of type dict",
    ),
    (
        "convert.to_torch_prune_: foreign",
        lambda w: convert.to_torch_prune_(w.model, w.foreign),
        ValueError,
        "no parameter '0.weight'",
    ),
    ("convert.to_torch_prune_: shapes", lambda w: convert.to_torch_prune_(w.model, w.reshaped), ValueError, "to another model"),
    ("convert.from_state_dict: a model", lambda w: convert.from_state_dict(w.model), TypeError, "state must be a state dict"),
    ("convert.from_state_dict: empty", lambda w: convert.from_state_dict({}), ValueError, "no weights to read, got no float"),
    (
        "convert.from_state_dict: one name",
        lambda w: convert.from_state_dict(w.weights, "fc.weight"),
        TypeError,
        r"the string 'fc.weight': write",
    ),
    ("convert.from_state_dict: unknown", lambda w: convert.from_state_dict(w.weights, ["fc"]), ValueError, "It has conv"),
    ("convert.plain_state_dict: None", lambda w: convert.plain_state_dict(None), TypeError, "state must be .*got None"),
    ("convert.plain_state_dict: numbers", lambda w: convert.plain_state_dict({1: w.x}), TypeError, "must be a string, got 1"),
    (
        "convert.plain_state_dict: no mask",
        lambda w: convert.plain_state_dict({"w_orig": w.x, "w_mask": 3}),
        ValueError,
        "'w_orig' and 'w_mask' are not as torch.nn.utils.prune leaves them",
    ),
    # ---------------------------------------------------------------- sparsedd.distributed
    ("distributed.agree: a digest", lambda w: distributed.agree("a0f3"), TypeError, "mask must be a Mask, got .* type str"),
    ("distributed.agree: no time", lambda w: distributed.agree(w.mask, 0), ValueError, "timeout .*above 0, got 0"),
    ("distributed.agree: a word", lambda w: distributed.agree(w.mask, "long"), TypeError, "timeout .*got 'long'"),
]

NETS = {
    "lenet_300_100": (models.lenet_300_100, "in_features"),
    "resnet18": (models.resnet18, "in_channels"),
    "resnet101": (models.resnet101, "in_channels"),
    "vgg16": (models.vgg16, "in_channels"),
}
AXES = {"sparsity": [0, 0.5], "train_accuracy": [1, 1], "test_accuracy": [1, 0.5]}
ALONG = {"train_loss": [1, 1], "test_loss": [1, 1], "train_accuracy": [1, 1], "test_accuracy": [1, 1]}

ABOVE: list[Wrong] = [
    # ---------------------------------------------------------------- sparsedd.models
    *(
        (f"models.{name}: {what}", lambda w, make=make, given=given: make(**given), error, says)
        for name, (make, size) in NETS.items()
        for what, given, error, says in (
            ("no classes", {"num_classes": 0}, ValueError, "num_classes must be at least 1, got 0"),
            ("a float of classes", {"num_classes": 10.0}, TypeError, "num_classes must be an integer, got 10.0"),
            ("no input", {size: 0}, ValueError, f"{size} must be at least 1, got 0"),
            ("no width", {"width": 0}, ValueError, "width must be finite and above 0, got 0"),
            ("NaN", {"width": NAN}, ValueError, "width must be finite .*got nan"),
            ("a negative seed", {"width": 0.02, "seed": -1}, ValueError, "seed must be at least 0, got -1"),
            (
                "unknown",
                {"width": 0.02, "initialization": "he"},
                ValueError,
                "initialization must be one of 'paper', .*got 'he'",
            ),
        )
    ),
    ("models.initialize_: a string", lambda w: models.initialize_("model"), TypeError, "torch.nn.Module, got .* type str"),
    ("models.initialize_: seed", lambda w: models.initialize_(w.model, 0.5), TypeError, "seed must be an integer, got 0.5"),
    ("models.initialize_: scheme", lambda w: models.initialize_(w.model, 0, "he"), ValueError, "scheme must be .* got 'he'"),
    ("models.initialize_: meta", lambda w: models.initialize_(w.meta), RuntimeError, "'weight' is on the meta device"),
    ("models.initialize_: lazy", lambda w: models.initialize_(w.lazy), RuntimeError, "'weight' has no shape yet"),
    # ---------------------------------------------------------------- sparsedd.data
    ("data.DATASETS: unknown", lambda w: data.DATASETS["minst"], Missing, "no data set 'minst'. There are 'mnist', 'cifar10'"),
    ("data.blobs: shape", lambda w: data.blobs(shape=(4, 4)), ValueError, r"\(channels, height, width\), got \(4, 4\)"),
    ("data.blobs: size", lambda w: data.blobs(shape=4), TypeError, r"\(channels, height, width\), got 4"),
    ("data.blobs: no pixels", lambda w: data.blobs(shape=(1, 0, 4)), ValueError, "shape must be at least 1, got 0"),
    ("data.blobs: no samples", lambda w: data.blobs(train=0), ValueError, "train must be at least 1, got 0"),
    ("data.blobs: a float", lambda w: data.blobs(test=1e3), TypeError, "test must be an integer, got 1000.0"),
    ("data.blobs: a negative seed", lambda w: data.blobs(seed=-1), ValueError, "seed must be at least 0, got -1"),
    ("data.cifar10: normalization", lambda w: data.cifar10(normalization="mnist"), ValueError, "'imagenet', got 'mnist'"),
    ("data.cifar10: not an archive", lambda w: data.cifar10(), ValueError, "cifar10.npz must hold the arrays x_train"),
    ("data.cifar10n: unknown", lambda w: data.cifar10n("human"), ValueError, "one of 'aggregate', .*'worse', got 'human'"),
    ("data.cifar10n: absent", lambda w: data.cifar10n("worse"), FileNotFoundError, "not in .*: get .*make cifar10n.npz"),
    ("data.cifar100: normalization", lambda w: data.cifar100(normalization=None), TypeError, "'imagenet', got None"),
    ("data.tiny_imagenet: normalization", lambda w: data.tiny_imagenet(normalization=1), TypeError, "'imagenet', got 1"),
    ("data.tiny_imagenet: not there", lambda w: data.tiny_imagenet(), FileNotFoundError, "sparsedd data tiny-imagenet PATH"),
    (
        "data.arrange_tiny_imagenet: not there",
        lambda w: data.arrange_tiny_imagenet("nope.zip"),
        FileNotFoundError,
        "nothing at nope.zip: pass tiny-imagenet-200.zip",
    ),
    ("data.arrange_tiny_imagenet: a text", lambda w: data.arrange_tiny_imagenet("text"), ValueError, "text is not a whole zip"),
    ("data.arrange_tiny_imagenet: a folder", lambda w: data.arrange_tiny_imagenet("there"), ValueError, "has no wnids.txt: is"),
    ("data.arrange_tiny_imagenet: None", lambda w: data.arrange_tiny_imagenet(None), TypeError, "path must be .* got None"),
    ("data.Data: a list", lambda w: Data([1], w.data.test, 10), TypeError, r"be a TensorDataset\(inputs, labels\), got \[1\]"),
    ("data.Data: one tensor", lambda w: Data(TensorDataset(w.x), w.data.test, 10), ValueError, "labels .*got torch.fl"),
    ("data.Data: floats", lambda w: Data(w.data.train, TensorDataset(w.x, w.y / 2), 10), ValueError, "test must be .*float32"),
    ("data.Data: too few classes", lambda w: Data(w.data.train, w.data.test, 5), ValueError, r"in 0 ... 4, got 0 ... 9"),
    ("data.Data: no classes", lambda w: Data(w.data.train, w.data.test, 0), ValueError, "num_classes .*at least 1, got 0"),
    ("data.Data.first: none", lambda w: w.data.first(0), ValueError, "n must be at least 1, got 0"),
    ("data.Data.first: too many", lambda w: w.data.first(21), ValueError, "at most the 20 training samples .*got 21"),
    ("data.Data.first: a share", lambda w: w.data.first(0.5), TypeError, "n must be an integer, got 0.5"),
    ("data.Data.to: unknown", lambda w: w.data.to("gpu"), ValueError, "device must be .* got 'gpu'"),
    ("data.Data.to: absent", lambda w: w.data.to("cuda:99"), RuntimeError, "got 'cuda:99'.*use .*'cpu'"),
    *(
        (f"data.Batches: {what}", lambda w, f=f: Batches(*f(w)[0], **f(w)[1]), error, says)
        for what, f, error, says in (
            ("a dataset", lambda w: ([w.dataset], {}), TypeError, r"source must be a Data such as data.digits\(\), got"),
            ("a list of targets", lambda w: ([w.data, [0] * 20], {}), TypeError, "targets must be a tensor, got list"),
            ("float targets", lambda w: ([w.data, w.labels / 2], {}), TypeError, "torch.float32: use targets.long"),
            ("fewer targets", lambda w: ([w.data, w.labels[:5]], {}), ValueError, r"shape \(20,\), got \(5,\)"),
            ("other classes", lambda w: ([w.data, w.labels + 1], {}), ValueError, r"targets must be in 0 ... 9, got 1 ... 10"),
            ("no size", lambda w: ([w.data], {"size": 0}), ValueError, "size must be at least 1, got 0"),
            ("a bool", lambda w: ([w.data], {"size": True}), TypeError, "size must be an integer, got True"),
            ("a negative seed", lambda w: ([w.data], {"seed": -1}), ValueError, "seed must be at least 0, got -1"),
            ("one augmentation", lambda w: ([w.data], {"augmentation": Flip()}), TypeError, r"such as \(Flip\(\), Shift"),
            ("a name", lambda w: ([w.data], {"augmentation": "flip"}), TypeError, "augmentation must be .* got 'flip'"),
            ("a class", lambda w: ([w.data], {"augmentation": (Flip,)}), TypeError, r"Flip\(\) or Shift\(4\), got <class"),
        )
    ),
    ("data.Batches.epoch: a float", lambda w: next(w.sampled.epoch(0.5)), TypeError, "number must be an integer, got 0.5"),
    ("data.Batches.epoch: from before", lambda w: next(w.sampled.epoch(0, -1)), ValueError, "start .*at least 0, got -1"),
    ("data.Batches.sample: beyond", lambda w: w.sampled.sample(torch.tensor([99]), 0), ValueError, "below 20, got .* 99"),
    ("data.Batches.sample: a list", lambda w: w.sampled.sample([1], 0), TypeError, r"tensor of indices, got \[1\]"),
    ("data.Batches.narrowed: beyond", lambda w: w.sampled.narrowed(torch.tensor([4])), ValueError, r"in 0 ... 3, got 4 ... 4"),
    ("data.Shift: negative", lambda w: Shift(-1), ValueError, "pixels must be at least 0, got -1"),
    ("data.Shift: a share", lambda w: Shift(0.1), TypeError, "pixels must be an integer, got 0.1"),
    ("data.RandomResizedCrop: no size", lambda w: RandomResizedCrop(0), ValueError, "size must be at least 1, got 0"),
    ("data.RandomResizedCrop: falling", lambda w: RandomResizedCrop(8, (1, 0.1)), ValueError, r"rising bounds.*got \(1.0, 0.1"),
    ("data.RandomResizedCrop: beyond", lambda w: RandomResizedCrop(8, (0.1, 2)), ValueError, r"at most 1, got \(0.1, 2.0\)"),
    ("data.RandomResizedCrop: one bound", lambda w: RandomResizedCrop(8, 0.1), TypeError, "scale must be two .* got 0.1"),
    ("data.RandomResizedCrop: a word", lambda w: RandomResizedCrop(8, ratio="43"), TypeError, "ratio must be two .* got '43'"),
    # ---------------------------------------------------------------- sparsedd.experiments
    *(
        (f"experiments.Experiment: {name}={got!r}", lambda w, name=name, got=got: Experiment(**{name: got}), error, says)
        for name, got, error, says in (
            ("dataset", "minst", ValueError, "dataset must be one of 'mnist', .*got 'minst'"),
            ("dataset", 3, TypeError, "dataset must be one of .*got 3"),
            ("model", "lenet", ValueError, "model must be one of 'lenet_300_100', .*got 'lenet'"),
            ("scale", "tiny", ValueError, "scale must be one of 'smoke', .*got 'tiny'"),
            ("normalization", "imagenet", ValueError, "normalization='imagenet' is for cifar10, .*got 'mnist'"),
            ("initialization", "he", ValueError, "initialization must be .* got 'he'"),
            ("precision", "float16", ValueError, "precision must be one of 'float32', .*got 'float16'"),
            ("levels", 0, ValueError, "levels must be at least 1, got 0"),
            ("levels", True, TypeError, "levels must be an integer, got True"),
            ("epochs", 1.5, TypeError, "epochs must be an integer, got 1.5"),
            ("batch_size", 0, ValueError, "batch_size must be at least 1, got 0"),
            ("evaluate_every", "1", TypeError, "evaluate_every must be an integer, got '1'"),
            ("rewind_step", -1, ValueError, "rewind_step must be at least 0, got -1"),
            ("warmup_epochs", -1, ValueError, "warmup_epochs must be at least 0, got -1"),
            ("seed", -1, ValueError, "seed must be at least 0, got -1"),
            ("seed", None, TypeError, "seed must be an integer, got None"),
            ("train_size", 0, ValueError, "train_size must be at least 1, got 0"),
            ("learning_rate", 0, ValueError, "learning_rate must be finite and above 0, got 0"),
            ("learning_rate", "0.1", TypeError, "learning_rate must be a number, got '0.1'"),
            ("width", INF, ValueError, "width must be finite and above 0, got inf"),
            ("drop", NAN, ValueError, "drop must be finite and above 0, got nan"),
            ("momentum", -0.9, ValueError, "momentum must be .*at least 0, got -0.9"),
            ("weight_decay", -1, ValueError, "weight_decay must be .*at least 0, got -1"),
            ("sparse_below", -1, ValueError, "sparse_below must be .*at least 0, got -1"),
            ("exclude", "fc3", TypeError, "exclude must be a tuple, got 'fc3'"),
            ("exclude", (3,), TypeError, r"exclude must hold names, got \(3,\)"),
            ("milestones", 80, TypeError, "milestones must be a tuple, got 80"),
            ("milestones", (0.5,), TypeError, "milestones must be an integer, got 0.5"),
            ("augmentation", Flip(), TypeError, r"augmentation must be a tuple, got Flip\(\)"),
            ("augmentation", (Flip,), TypeError, r"Flip, Shift or RandomResizedCrop, got \(<class"),
            ("noise", 0.2, TypeError, "one of sparsedd.noise or None, got 0.2"),
            ("noise", Symmetric, TypeError, "one of sparsedd.noise or None, got <class"),
            ("pruner", "magnitude", TypeError, "pruner must be a Pruner, got 'magnitude'"),
            ("pruner", Pruner(lambda name, w: w), ValueError, "score of an experiment's pruner can't be a lambda"),
            ("retraining", "ltr", TypeError, "retraining must be a Retraining such as LTR, got 'ltr'"),
            ("tickets_of", "ltr", TypeError, "tickets_of must be a Retraining such as LTR, or None, got 'ltr'"),
            ("one_shot", 1, TypeError, "one_shot must be True or False, got 1"),
            ("compiled", "yes", TypeError, "compiled must be True or False, got 'yes'"),
        )
    ),
    ("experiments.Experiment.from_config: a list", lambda w: Experiment.from_config([]), TypeError, r"mapping .*got \[\]"),
    (
        "experiments.Experiment.from_config: field",
        lambda w: Experiment.from_config({"size": 3}),
        ValueError,
        "no field .*'size'",
    ),
    (
        "experiments.Experiment.from_config: a type",
        lambda w: Experiment.from_config({"noise": {"type": "Evil"}}),
        Missing,
        "no type of field 'Evil'. There are 'Symmetric'",
    ),
    ("experiments.Experiment.scaled: unknown", lambda w: Experiment().scaled("tiny"), ValueError, "one of 'smoke'.*got 'tiny'"),
    ("experiments.Experiment.scaled: None", lambda w: Experiment().scaled(None), TypeError, "one of 'smoke'.*got None"),
    ("experiments.Experiment.scaled: twice", lambda w: TINY.scaled("small"), ValueError, "smoke form .*got scale='small'"),
    ("experiments.Experiment.schedule: none", lambda w: TINY.schedule(0), ValueError, "steps_per_epoch .*at least 1, got 0"),
    ("sweeps.multistep: a word", lambda w: experiments.multistep("0.1"), TypeError, "rate must be a number, got '0.1'"),
    ("sweeps.multistep: NaN", lambda w: experiments.multistep(NAN), ValueError, "rate must be finite .*got nan"),
    ("sweeps.multistep: one", lambda w: experiments.multistep(0.1, 80), TypeError, "must be a list of steps, got 80"),
    ("sweeps.multistep: a float", lambda w: experiments.multistep(0.1, [0.5]), TypeError, "milestones .*integer, got 0.5"),
    ("sweeps.multistep: no drop", lambda w: experiments.multistep(1, [1], 0), ValueError, "drop must be .*above 0, got 0"),
    ("sweeps.multistep: before", lambda w: experiments.multistep(1, warmup=-1), ValueError, "warmup .*at least 0, got -1"),
    ("sweeps.Retraining: unknown", lambda w: Retraining("reset", "rewind"), ValueError, "weights must be .*got 'reset'"),
    ("sweeps.Retraining: swapped", lambda w: Retraining("keep", "keep"), ValueError, "schedule must be .*got 'keep'"),
    ("sweeps.Retraining: None", lambda w: Retraining(None, "final"), TypeError, "weights must be .*got None"),
    ("sweeps.Retraining.steps: a rate", lambda w: LTR.steps(0.1, rewind_step=0, total=9), TypeError, "schedule .*got 0.1"),
    ("sweeps.Retraining.steps: none", lambda w: LTR.steps(abs, rewind_step=0, total=0), ValueError, "total .*got 0"),
    ("sweeps.Retraining.steps: late", lambda w: LTR.steps(abs, rewind_step=9, total=9), ValueError, "below .* 9 .*got 9"),
    ("experiments.PRESETS: unknown", lambda w: PRESETS["lenet"], Missing, "no preset 'lenet'. There are 'lenet-mnist'"),
    ("experiments.METHODS: unknown", lambda w: METHODS["lth"], Missing, "no method 'lth'. There are 'ltr', 'lr-rewinding'"),
    ("experiments.FIGURES: unknown", lambda w: FIGURES["50"], Missing, "no figure '50'. There are '1', '2'"),
    ("experiments.FIGURES: a number", lambda w: FIGURES[13], Missing, "no figure 13. There are '1', '2'"),
    *(
        (f"experiments.{name}: {what}", lambda w, f=f, g=g: list(f(g(w)[0], w.folder / "new", **g(w)[1])), error, says)
        for name, f in (("run", experiments.run), ("reinit", experiments.reinit))
        for what, g, error, says in (
            ("a preset's name", lambda w: ("lenet-mnist", {}), TypeError, "must be an Experiment, got 'lenet-mnist'"),
            ("unknown device", lambda w: (TINY, {"device": "gpu"}), ValueError, "device must be .* got 'gpu'"),
            ("absent device", lambda w: (TINY, {"device": "cuda:99"}), RuntimeError, "device must be .* got 'cuda:99'"),
            ("too many images", lambda w: (replace(TINY, train_size=9999), {}), ValueError, "at most 1,297 .*got 9,999"),
            ("late rewinding", lambda w: (replace(TINY, rewind_step=99), {}), ValueError, "below the .* steps .*got 99"),
            ("nothing excluded", lambda w: (replace(TINY, exclude=("conv",)), {}), ValueError, "'conv' matches no prunable"),
            ("another's flips", lambda w: (replace(TINY, noise=Asymmetric(1, "cifar100")), {}), ValueError, "for 100 classes"),
        )
    ),
    ("experiments.run: into a file", lambda w: list(experiments.run(TINY, "text")), NotADirectoryError, "is a file, .*folder"),
    ("experiments.run: into a number", lambda w: list(experiments.run(TINY, 3)), TypeError, "out must be .* path, got 3"),
    *(
        (f"experiments.{f.__name__}: {what}", lambda w, f=f, g=g: f(*g(w)), error, says)
        for f in (experiments.redense, experiments.interpolation, experiments.directions)
        for what, g, error, says in (
            ("a name", lambda w: ("lenet-mnist", 1, w.runs), TypeError, "must be an Experiment, got 'lenet-mnist'"),
            ("level -1", lambda w: (TINY, -1, w.runs), ValueError, "level must be at least 0, got -1"),
            ("too high a level", lambda w: (TINY, 2, w.runs), ValueError, "level must be below the 2 levels .*got 2"),
            ("a float", lambda w: (TINY, 1.0, w.runs), TypeError, "level must be an integer, got 1.0"),
            ("no rate", lambda w: (TINY, 1, w.runs, 0), ValueError, "factor must be finite and above 0, got 0"),
            ("unknown device", lambda w: (TINY, 1, w.runs, 1.0, "gpu"), ValueError, "device must be .* got 'gpu'"),
        )
    ),
    (
        "experiments.redense_weights: not yet",
        lambda w: experiments.redense_weights(TINY, 1, w.runs),
        FileNotFoundError,
        "there is no .*redense.*: call redense first",
    ),
    ("experiments.redense_weights: a name", lambda w: experiments.redense_weights("x", 1, w.runs), TypeError, "got 'x'"),
    ("experiments.redense_weights: level", lambda w: experiments.redense_weights(TINY, 1.5, w.runs), TypeError, "got 1.5"),
    *(
        (f"experiments.{f.__name__}: {what}", lambda w, f=f, given=given: list(f(given, w.folder / "new")), TypeError, says)
        for f in (experiments.run_all, experiments.work, experiments.run_fleet)
        for what, given, says in (
            ("one", TINY, r"experiments must be a list of Experiments, got Experiment\("),
            ("names", ["lenet-mnist"], "experiments must be Experiments, got 'lenet-mnist'"),
            ("a number", 3, "experiments must be a list of Experiments, got 3"),
        )
    ),
    ("experiments.run_all: no executor", lambda w: experiments.run_all([TINY], "new", 4), TypeError, "executor .*got 4"),
    (
        "experiments.run_all: the class of an executor",
        lambda w: experiments.run_all([TINY], "new", ThreadPoolExecutor),
        TypeError,
        "executor .*got <class",
    ),
    ("experiments.run_all: device", lambda w: experiments.run_all([TINY], "new", device="gpu"), ValueError, "be .* got 'gpu'"),
    (
        "experiments.run_all: a file",
        lambda w: experiments.run_all([TINY], w.folder / "text"),
        NotADirectoryError,
        "text is a file, and out must be a folder",
    ),
    ("experiments.run_fleet: none", lambda w: next(experiments.run_fleet([], "new")), ValueError, "one experiment, got none"),
    (
        "experiments.run_fleet: two kinds",
        lambda w: next(experiments.run_fleet([TINY, replace(TINY, epochs=3)], "new")),
        ValueError,
        "share their epochs, got 2 and 3: run each alone",
    ),
    (
        "experiments.run_fleet: compiled",
        lambda w: next(experiments.run_fleet([replace(TINY, compiled=True)], "new")),
        ValueError,
        "a fleet is not compiled, got .*run it alone",
    ),
    ("experiments.Store: a name", lambda w: Store(w.runs, "lenet"), TypeError, "must be an Experiment, got 'lenet'"),
    ("experiments.Store: in a file", lambda w: Store("text", TINY), NotADirectoryError, "text is a file"),
    ("experiments.Store.open: not there", lambda w: Store.open("nope"), FileNotFoundError, "nope"),
    ("experiments.Store.open: elsewhere", lambda w: Store.open("moved/by/hand"), ValueError, "not where its experiment"),
    ("experiments.Store.open: another's", lambda w: Store.open("odd"), ValueError, "config.json is not the configuration"),
    ("experiments.Store.add: a level again", lambda w: added(w, 0), RuntimeError, "has 2 levels, so the next is not level 0"),
    ("experiments.Store.add: a gap", lambda w: added(w, 5), RuntimeError, "has 2 levels, so the next is not level 5"),
    *(
        (f"experiments.Store.{name}: {what}", lambda w, name=name, level=level: getattr(w.store, name)(level), error, says)
        for name in ("weights", "mask", "digest")
        for what, level, error, says in (
            ("beyond", 9, ValueError, "levels.jsonl has 2 levels, and no level 9: run the experiment further"),
            ("negative", -1, ValueError, "level must be at least 0, got -1|no level -1"),
            ("a word", "last", TypeError, "level must be an integer, got 'last'"),
        )
    ),
    ("experiments.Tables.read: not there", lambda w: Tables.read("there"), FileNotFoundError, "no levels.csv in there: pass a"),
    (
        "experiments.Tables.read: other columns",
        lambda w: Tables.read("odd"),
        ValueError,
        "has no column experiment, level, seed",
    ),
    ("experiments.Tables.frame: a name", lambda w: Tables().frame("runs"), ValueError, "'epochs', 'lines', got 'runs'"),
    ("experiments.Tables.write: a number", lambda w: Tables().write(3), TypeError, "out must be .* path, got 3"),
    ("experiments.Tables.add_levels: a name", lambda w: Tables().add_levels("x", []), TypeError, "an Experiment, got 'x'"),
    ("experiments.Tables.add_curves: a name", lambda w: Tables().add_curves("x", 0, "", 0), TypeError, "Experiment, got 'x'"),
    ("experiments.Tables.add_line: a name", lambda w: Tables().add_line("x", 0, None), TypeError, "an Experiment, got 'x'"),
    ("experiments.Tables.scale: no rows", lambda w: Tables().scale, ValueError, "must be of one scale, got no rows"),
    ("experiments.write_levels: a list", lambda w: experiments.write_levels("new.csv", [1]), TypeError, r"results .*got \[1\]"),
    ("experiments.write_levels: a folder", lambda w: experiments.write_levels("there", {}), IsADirectoryError, "there"),
    ("sweeps.Record.from_json: empty", lambda w: Record.from_json({}), ValueError, "record of a level .*got"),
    ("sweeps.Record.from_json: a list", lambda w: Record.from_json([1]), ValueError, r"record of a level .*got"),
    ("experiments.Redense.from_json: empty", lambda w: Redense.from_json({}), ValueError, "record of re-dense .*got"),
    ("experiments.Figure.on: a name", lambda w: FIGURES["4"].on("lenet-mnist"), TypeError, "PRESETS.*got 'lenet-mnist'"),
    ("experiments.Figure.on: undefined noise", lambda w: undefined_noise(), ValueError, "noise is not defined for blobs"),
    ("experiments.Figure.scaled: unknown", lambda w: FIGURES["1"].scaled("tiny"), ValueError, "one of 'smoke'.*got 'tiny'"),
    ("experiments.Figure.members: none", lambda w: FIGURES["1"].members(0), ValueError, "seeds must be at least 1, got 0"),
    ("experiments.Figure.members: before", lambda w: FIGURES["1"].members(1, -1), ValueError, "must be at least 0, got -1"),
    ("experiments.Figure.stages: a float", lambda w: next(FIGURES["1"].stages("new", 1.5)), TypeError, "seeds .*got 1.5"),
    ("experiments.Figure.tables: not run", lambda w: drawn(FIGURES["4"].tables("new", 1)), ValueError, "no rows"),
    ("experiments.Figure.tables: not run, closely", lambda w: FIGURES["6"].tables("new", 1), ValueError, "no rows of"),
    ("experiments.Figure.read: none", lambda w: FIGURES["1"].read(None), TypeError, "tables must be Tables, got None"),
    ("experiments.Figure.read: no rows", lambda w: FIGURES["1"].read(Tables()), ValueError, "the tables have no rows of mnist"),
    ("experiments.Figure.draw: none", lambda w: FIGURES["1"].draw(None), TypeError, "tables must be Tables, got None"),
    ("experiments.Figure.draw: no rows", lambda w: FIGURES["1"].draw(Tables()), ValueError, "the tables have no rows of mnist"),
    ("experiments.reproduce: a number", lambda w: experiments.reproduce(13, "new"), TypeError, "FIGURES.*got 13"),
    ("experiments.reproduce: no seeds", lambda w: experiments.reproduce(SMALL, "new", seeds=0), ValueError, "seeds .*got 0"),
    (
        "experiments.reproduce: device",
        lambda w: experiments.reproduce(SMALL, "new", device="gpu"),
        ValueError,
        "device .*'gpu'",
    ),
    (
        "experiments.reproduce: executor",
        lambda w: experiments.reproduce(SMALL, "new", executor=2),
        TypeError,
        "executor .*got 2",
    ),
    ("experiments.verify: a number", lambda w: experiments.verify(3), TypeError, "path must be a string or a path, got 3"),
    ("experiments.repair: a number", lambda w: experiments.repair(3), TypeError, "path must be a string or a path, got 3"),
    ("experiments.repair: device", lambda w: experiments.repair(w.runs, device="gpu"), ValueError, "device must .*got 'gpu'"),
    # ---------------------------------------------------------------- sparsedd.plotting
    *(
        (f"plotting.double_descent: {what}", lambda w, new=new: plotting.double_descent(**AXES | new), error, says)
        for what, new, error, says in (
            ("no levels", {"sparsity": []}, ValueError, r"sparsity must be one number .*shape \(0,\)"),
            ("a matrix", {"sparsity": [[0, 0.5]]}, ValueError, r"array of shape \(1, 2\)"),
            ("falling", {"sparsity": [0.5, 0]}, ValueError, "rise from level to level .*got 0.5, 0"),
            ("percent", {"sparsity": [0, 50]}, ValueError, "got 0, 50. It is a share"),
            ("all pruned", {"sparsity": [0, 1]}, ValueError, "sparsity must be below 1 to be drawn"),
            ("NaN", {"sparsity": [0, NAN]}, ValueError, "got 0, nan"),
            ("words", {"sparsity": ["a", "b"]}, TypeError, r"sparsity must be numbers .*got \['a', 'b'\]"),
            ("lengths", {"train_accuracy": [1]}, ValueError, r"train_accuracy must have .*got \(1,\)"),
            ("rank", {"test_accuracy": [[[1, 1]]]}, ValueError, r"test_accuracy must have .*got \(1, 1, 2\)"),
            ("no seeds", {"test_accuracy": np.zeros((0, 2))}, ValueError, r"test_accuracy must have .*got \(0, 2\)"),
            ("ragged", {"test_accuracy": [[1, 1], [1]]}, TypeError, "test_accuracy must be numbers .*equal length"),
            ("percents", {"test_accuracy": [98, 97]}, ValueError, r"in \[0, 1\], got 98, 97. It is a share"),
            ("no phases", {"phases": "Light"}, TypeError, "phases must be what sparsedd.phases.phases gives, got 'Light'"),
            ("no axes", {"ax": 3}, TypeError, r"ax must be a matplotlib Axes, .*got 3"),
        )
    ),
    ("plotting.learning_distance: lengths", lambda w: plotting.learning_distance([0], [1, 2], [1]), ValueError, r"got \(2,\)"),
    (
        "plotting.learning_distance: percent",
        lambda w: plotting.learning_distance([0], [1], [98]),
        ValueError,
        "got 98. .*share",
    ),
    (
        "plotting.against_sparsity: a list",
        lambda w: plotting.against_sparsity([0], [1], ylabel=""),
        TypeError,
        r"labels .*\[1\]",
    ),
    (
        "plotting.against_sparsity: none",
        lambda w: plotting.against_sparsity([0], {}, ylabel=""),
        ValueError,
        r"one curve, got {}",
    ),
    (
        "plotting.against_sparsity: lengths",
        lambda w: plotting.against_sparsity([0, 0.5], {"a": [1, 1], "b": [1]}, ylabel=""),
        ValueError,
        r"b must have shape .*got \(1,\)",
    ),
    ("plotting.against_epoch: values alone", lambda w: plotting.against_epoch({"a": 1}), TypeError, r"'a' must be .*got 1"),
    ("plotting.against_epoch: lengths", lambda w: plotting.against_epoch({"a": ([1], [1, 2])}), ValueError, r"got \(2,\)"),
    (
        "plotting.against_epoch: unknown",
        lambda w: plotting.against_epoch({"a": ([1], [1])}, dashed={"b": ([1], [1])}),
        ValueError,
        "labels of curves, got 'b': there are 'a'",
    ),
    (
        "plotting.against_epoch: mark",
        lambda w: plotting.against_epoch({"a": ([1], [1])}, mark="end"),
        TypeError,
        "mark must be a number, got 'end'",
    ),
    ("plotting.interpolation: lengths", lambda w: plotting.interpolation([0], **ALONG), ValueError, r"train loss .*got \(2,\)"),
    (
        "plotting.interpolation: percent",
        lambda w: plotting.interpolation([0, 1], **ALONG | {"test_accuracy": [98, 97]}),
        ValueError,
        "test accuracy must be .*got 98, 97. It is a share",
    ),
    ("plotting.interpolation: one", lambda w: plotting.interpolation(0, **ALONG), ValueError, r"alpha .*array of shape \(\)"),
    ("plotting.loss_along: a list", lambda w: plotting.loss_along([0], [1]), TypeError, r"must be a mapping .*got \[1\]"),
    ("plotting.loss_along: lengths", lambda w: plotting.loss_along([0], {"a": [1, 2]}), ValueError, r"a must have .*\(2,\)"),
]

SMALL = FIGURES["1"].scaled("smoke")


def added(w: World, number: int) -> None:
    level = replace(w.store.levels()[0], level=number)
    w.store.add(level, w.store.weights(1), w.store.mask(1))


def drawn(tables: Tables) -> object:
    return FIGURES["4"].draw(tables)


def undefined_noise() -> Figure:
    asymmetric = next(f for f in FIGURES.values() if any(isinstance(e.noise, Asymmetric) for e in f.experiments))
    return asymmetric.on(Experiment(dataset="blobs"))


COMMAND: list[tuple[str, int, str]] = [
    ("", 2, "the following arguments are required: COMMAND"),
    ("frobnicate", 2, "invalid choice: 'frobnicate'"),
    ("run", 2, "required: PRESET, --out"),
    ("run lenet --out new", 2, "invalid choice: 'lenet'"),
    ("run lenet-mnsit --out new", 2, r"MODULE:NAME of your own\)\. Did you mean lenet-mnist\?"),
    ("run sparsedd.experiments:run --out new", 1, "sparsedd.experiments:run is a function: call it in sparsedd.experiments"),
    ("run lenet-digits --out /proc/x --scale smoke", 1, r"/proc/x can't be read or written \(No such file or directory\)"),
    ("run lenet-digits", 2, "required: --out"),
    ("run lenet-digits --out new --scale tiny", 2, "invalid choice: 'tiny'"),
    ("run lenet-digits --out new --seeds 0", 2, "--seeds: must be at least 1, got 0"),
    ("run lenet-digits --out new --seed -1", 2, "--seed: must be at least 0, got -1"),
    ("run lenet-digits --out new --seeds two", 2, "--seeds: invalid integer value: 'two'"),
    ("run lenet-digits --out new --processes 0", 2, "--processes: must be at least 1, got 0"),
    ("run lenet-digits --out new --noise symmetric", 2, "with a rate, such as pairflip:0.2, got 'symmetric'"),
    ("run lenet-digits --out new --noise salt:0.2", 2, "must be none, or symmetric, .*got 'salt:0.2'"),
    ("run lenet-digits --out new --noise symmetric:much", 2, "rate must be a number, got 'symmetric:much'"),
    ("run lenet-digits --out new --noise symmetric:20", 1, r"rate must be in \[0, 1\], got 20.*did you mean 0.2"),
    ("run resnet101-tiny-imagenet --out new --noise asymmetric:0.2", 1, "not defined for tiny_imagenet, only for mnist"),
    ("run lenet-digits --out new --scale smoke --device gpu", 1, "device must be .*got 'gpu'"),
    ("run lenet-digits --out new --scale smoke --device cuda:99", 1, "device must be .*got 'cuda:99'.*use .*'cpu'"),
    ("run lenet-digits --out text --scale smoke", 1, "text is a file, and out must be a folder"),
    ("demo --seeds 1.5", 2, "--seeds: invalid integer value: '1.5'"),
    ("demo --out text", 1, "text is a file, and out must be a folder"),
    ("figure", 2, "required: N"),
    ("figure 50", 2, r"invalid choice: '50' \(choose from 1 to 49, or list"),
    ("figure 4 --on lenet", 2, "--on: invalid choice: 'lenet'"),
    ("figure 4 --from nope", 1, "no levels.csv in nope: pass a folder"),
    ("figure 4 --from there --seeds 2 --scale smoke", 1, "--from computes nothing: leave out --seeds, --scale"),
    ("figure 4 --scale smoke --out text", 1, "text is a file, and out must be a folder"),
    ("report", 2, "required: DIR"),
    ("report text", 1, "text is a file, and DIR must be a folder"),
    ("report nope", 1, "there is no folder nope: pass the --out"),
    ("verify nope", 2, "nope does not exist: pass the --out"),
    ("verify text", 2, "text is no file of sparsedd's: pass the --out"),
    ("verify --repair nope", 2, "nope does not exist: pass the --out"),
    ("verify there --repair --device gpu", 1, "device must be .*got 'gpu'"),
    ("data mnist there", 2, "invalid choice: 'mnist'"),
    ("data tiny-imagenet nope", 1, "there is nothing at nope: pass tiny-imagenet-200.zip"),
    ("data tiny-imagenet text", 1, "text is not a whole zip file"),
]


# ---------------------------------------------------------------- the tests

CATALOGUE = [*CORE, *MODULES, *ABOVE]
OURS = str(Path(sparsedd.__file__).parent)


@pytest.mark.parametrize(
    ("call", "error", "message"), [wrong[1:] for wrong in CATALOGUE], ids=[wrong[0] for wrong in CATALOGUE]
)
def test_a_wrong_call_says_what_is_wrong_and_changes_nothing(call, error, message, world):
    before = state(world)
    with pytest.raises(Exception) as caught:  # noqa: PT011
        call(world)
    assert type(caught.value) is error, "".join(traceback.format_exception(caught.value))
    assert re.search(message, str(caught.value), re.DOTALL), str(caught.value)
    if not isinstance(caught.value, OSError):
        assert traceback.extract_tb(caught.value.__traceback__)[-1].filename.startswith(OURS), "an error from inside torch"
    assert state(world) == before


@pytest.mark.parametrize(("command", "status", "message"), COMMAND, ids=[command for command, _, _ in COMMAND])
def test_a_wrong_command_says_what_is_wrong_and_changes_nothing(command, status, message, world, capsys):
    before, code = state(world), 0
    try:
        code = main(command.split())
    except SystemExit as stopped:
        code = stopped.code
    printed = capsys.readouterr().err
    assert code == status, printed
    assert re.search(message, printed, re.DOTALL), printed
    assert "Traceback" not in printed
    assert state(world) == before


def test_there_are_many():
    names = [wrong[0] for wrong in CATALOGUE]
    assert len(set(names)) == len(names)
    assert len(CATALOGUE) + len(COMMAND) >= 150


# What is a record that functions give back, takes nothing that could be wrong, or is called by the library alone.
EXEMPT = {
    *("metrics.Evaluation", "phases.Advice", "phases.Boundary", "phases.DoubleDescent", "phases.Interval"),
    *("phases.Landmarks", "phases.Phase"),
    *("experiments.Claim", "sweeps.Curves", "experiments.Line", "experiments.Panel"),
    *("experiments.Figure", "sweeps.Record", "experiments.Redense", "experiments.Tables", "experiments.Finding"),
    *("sweeps.Curves.of", "experiments.Figure.is_of"),
    *("scores.Score", "noise.Noise", "data.Augmentation", "data.Flip", "data.digits", "data.mnist"),
    # those of a sweep are in test_sweep.py
    *(f"{home}Sweep{name}" for home in ("", "sweeps.") for name in ("", ".derive", ".export")),
    *(f"sweeps.StoredSweep{name}" for name in ("", ".mask", ".weights")),
    *(f"sweeps.Level{name}" for name in ("", ".enforce", ".epochs", ".reached", ".record")),
    *(f"experiments.Measures{name}" for name in ("", ".curves", ".directions", ".landmark", ".line")),
    *("experiments.Drawing", "experiments.Effect", "experiments.judge", "fleet.Fleet.train"),
    *("sparse.SparseLinear.product", "sparse.SparseLinear.adjoint", "sparse.SparseLinear.sampled"),
    *(f"experiments.Store.{name}" for name in "save_start".split()),
}


def methods() -> Iterator[str]:
    """Every public method that takes arguments."""
    for name, thing in PUBLIC.items():
        for method, f in vars(thing).items() if inspect.isclass(thing) else ():
            f = getattr(f, "__func__", f)
            if inspect.isfunction(f) and not method.startswith("_") and len(inspect.signature(f).parameters) > 1:
                yield f"{name}.{method}"


def test_every_public_callable_is_covered():
    covered = {wrong[0].partition(":")[0] for wrong in CATALOGUE}
    assert {*PUBLIC, *methods()} - covered - EXEMPT == set()
    assert not EXEMPT & covered


@pytest.mark.parametrize("number", [np.float64, np.float32, np.float16])
def test_numpy_numbers_are_numbers(number):
    assert Pruner(fraction=number(0.25)).prune(nn.Linear(4, 4)).remaining == 12
    assert Symmetric(number(0.25))(torch.zeros(8, dtype=torch.int64), 2, np.int64(0)).shape == (8,)
    assert Experiment(seed=np.int32(3), learning_rate=number(0.25)) == Experiment(seed=3, learning_rate=0.25)
    with suppress(TypeError):
        assert Rewinder(step=np.uint8(3)).step == 3


@pytest.mark.parametrize(
    ("things", "instead"),
    [
        (data.DATASETS, "the data sets can't be written to: .* Write the loop for other data yourself"),
        (FIGURES, "the figures can't be written to: .* Make a Figure of your own"),
        (PRESETS, "the presets can't be written to: .* Make an Experiment of your own"),
        (METHODS, "the methods can't be written to: .* Pass one of your own: Retraining"),
        (noise.FLIPS, "the flips can't be written to: .* Pass others as a mapping"),
        (noise.FLIPS["mnist"][1], "the flips can't be written to: .* Make another Asymmetric"),
        (Asymmetric(0.2, {1: 7}).flips, "the flips can't be written to: .* Make another Asymmetric"),
    ],
)
def test_what_results_go_by_is_not_written_to(things, instead):
    name, before = next(iter(things)), dict(things)
    for write in (
        lambda: operator.setitem(things, name, None),
        lambda: operator.delitem(things, name),
        lambda: operator.ior(things, {name: None}),
        lambda: things.update(mine=None),
        lambda: things.setdefault("mine", None),
        lambda: things.pop(name),
        things.popitem,
        things.clear,
    ):
        with pytest.raises(TypeError, match=instead):
            write()
    assert things == before == things | {}
    for again in (copy.copy(things), copy.deepcopy(things), pickle.loads(pickle.dumps(things))):
        assert type(again) is type(things)
        assert repr(again) == repr(things)
