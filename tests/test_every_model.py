"""Models of every kind: what sparsedd says of them is true, or there is one clear error."""

import copy
import math
import re
import subprocess
import sys
from contextlib import contextmanager
from functools import partial

import pytest
import torch
from helpers import bits, everything, filled
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.func import functional_call
from torch.nn.functional import mse_loss
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.nn.utils import parametrizations, prune
from torch.optim import SGD, Adam

from sparsedd import Mask, Pruner, Rewinder, metrics, prunable, scores
from sparsedd._parameters import unwrap
from sparsedd._prunable import PRUNABLE

RECURRENT = (nn.LSTM, nn.GRU, nn.RNN)
IMAGE, WORDS = torch.linspace(-1, 1, 96).reshape(2, 3, 4, 4), torch.arange(4)


@contextmanager
def or_an_error(match):
    """It is as good to be refused, in words that name the cause."""
    try:
        yield
    except (ValueError, RuntimeError, TypeError) as error:
        if not re.search(match, str(error)):
            raise


class Attention(nn.MultiheadAttention):
    def forward(self, x):
        return super().forward(x, x, x)[0]


class First(nn.Sequential):
    def forward(self, x):
        return super().forward(x)[0]


class Adapted(nn.Linear):
    """A frozen layer with an adapter of low rank."""

    def __init__(self):
        super().__init__(6, 6)
        self.requires_grad_(False)
        self.down, self.up = nn.Linear(6, 2), nn.Linear(2, 6)

    def forward(self, x):
        return super().forward(x) + self.up(self.down(x))


def tied(*parts):
    parts[-1].weight = parts[0].weight
    return nn.Sequential(*parts)


def linear():
    return nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4))


KINDS = {
    "tied": (lambda: tied(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6)), None),
    "tied to an embedding": (lambda: tied(nn.Embedding(9, 6, padding_idx=0), nn.Linear(6, 9)), WORDS),
    "embedding": (lambda: nn.Sequential(nn.Embedding(9, 6, padding_idx=0), nn.Linear(6, 20)), WORDS),
    "frozen": (lambda: nn.Sequential(nn.Linear(6, 6).requires_grad_(False), nn.Linear(6, 4)), None),
    "adapter": (Adapted, None),
    "attention": (lambda: nn.Sequential(Attention(6, 2, add_bias_kv=True), nn.Linear(6, 2)), None),
    **{
        k.__name__: (lambda k=k: nn.Sequential(First(k(6, 5, 2, bidirectional=True)), nn.Linear(10, 2)), None)
        for k in RECURRENT
    },
    "transposed 1": (lambda: nn.ConvTranspose1d(3, 4, 3), IMAGE[..., 0]),
    "transposed 2": (lambda: nn.ConvTranspose2d(3, 4, 3), IMAGE),
    "transposed 3": (lambda: nn.ConvTranspose3d(3, 4, 2), IMAGE[..., None]),
    "conv 3": (lambda: nn.Conv3d(3, 6, (2, 2, 1), groups=3), IMAGE[..., None]),
    "channels last": (lambda: nn.Sequential(nn.Conv2d(3, 4, 2)).to(memory_format=torch.channels_last), IMAGE),
    **{str(d): (partial(linear().to, d), None) for d in (torch.float64, torch.bfloat16, torch.float16)},
    "complex": (lambda: nn.Linear(6, 5, dtype=torch.complex64), None),
    "spectral_norm": (lambda: nn.Sequential(parametrizations.spectral_norm(nn.Linear(6, 2)).eval(), nn.Linear(2, 9)), None),
    "DataParallel": (lambda: DataParallel(linear()), None),
    "DDP": (lambda: DistributedDataParallel(linear()), None),
    "compile": (lambda: torch.compile(linear(), backend="eager"), None),
}


def backward(f, x):
    out = f(x)
    (out.abs() if out.is_complex() else out).square().mean().backward()


@pytest.fixture(autouse=True)
def process_group(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # torch.compile looks at its inputs
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("make", [partial(SGD, lr=0.1, momentum=0.9), partial(Adam, lr=0.01, eps=1e-3)], ids=["SGD", "Adam"])
def test_every_kind_is_pruned_trained_rewound_and_measured(kind, make, tmp_path):
    model, x = KINDS[kind][0](), KINDS[kind][1]
    inner = filled(unwrap(model))
    x = torch.linspace(-2, 2, 48).reshape(2, 4, 6).to(next(inner.parameters()).dtype) if x is None else x
    spectral = kind == "spectral_norm"
    names = prunable(model, types=(*PRUNABLE, *RECURRENT, nn.Embedding), exclude="0" if spectral else ())
    names += ("0.parametrizations.weight.original",) * spectral  # what is zero here is zero in the weight
    size = sum(inner.get_parameter(n).numel() for n in names)
    backward(model, x)
    before = everything(model)
    for score in ("random", "gradient", "magnitude"):
        if score != "gradient" or all(inner.get_parameter(n).requires_grad for n in names):
            mask = Pruner(score, fraction=0.3).prune(model, Mask.dense(model, names))
            assert (mask.size, mask.remaining) == (size, size - math.ceil(3 * size / 10))
    assert everything(model) == before
    mask.save(tmp_path / "mask")
    assert Mask.load(tmp_path / "mask") == mask
    start, ours, twin = Rewinder(model=model), make(model.parameters()), copy.deepcopy(inner)
    dense = {n: p.detach().clone() for n, p in inner.named_parameters()}
    m = {n: mask[n].to(p.dtype) if n in mask else torch.ones_like(p) for n, p in dense.items()}
    w = {n: (dense[n] * m[n]).requires_grad_(p.requires_grad) for n, p in inner.named_parameters()}
    theirs = make(w.values())
    with mask.enforce(model, ours):
        for _ in range(3):
            for f, o in ((model, ours), (lambda x: functional_call(twin, {n: w[n] * m[n] for n in w}, x), theirs)):
                o.zero_grad()
                backward(f, x)
                o.step()
            for name, p in inner.named_parameters():
                keep = m[name] != 0
                assert bits(p[keep]) == bits(w[name][keep])
                assert bits(p[~keep]) == bits(torch.zeros_like(p[~keep]))
    assert metrics.sparsity(model, names) == mask.sparsity
    weights = {n: p.detach() for n, p in inner.named_parameters() if p.dim() > 1 and "bias" not in n}
    true = math.hypot(*(float((w.to(torch.complex128) - dense[n].to(torch.complex128)).norm()) for n, w in weights.items()))
    distance = metrics.learning_distance(start["model"], model, names=weights if spectral else None)
    assert distance == pytest.approx(true, rel=1e-9)
    start.save(tmp_path / "start")
    Rewinder.load(tmp_path / "start").rewind(model=model)
    assert all(bits(p) == bits(dense[n]) for n, p in inner.named_parameters())


# ---------------------------------------------------------------- weights that are not where, or what, their name says


@pytest.mark.parametrize("how", ["view", "data"])
def test_weights_that_share_memory_are_counted_once(how):
    a, b = model = filled(nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6)))
    if how == "view":
        b.weight = nn.Parameter(a.weight.detach().t())
    else:
        b.weight.data = a.weight.data
    with or_an_error("share"):
        mask = Pruner("random", fraction=0.5).prune(model)
        assert mask.sparsity == metrics.sparsity(mask.apply_(model))


COMPUTED = {
    "weight_norm": (parametrizations.weight_norm, "parametrizations.weight.original1"),
    "orthogonal": (parametrizations.orthogonal, "parametrizations.weight.original"),
    "spectral_norm": (parametrizations.spectral_norm, "parametrizations.weight.original"),
    "old weight_norm": (nn.utils.weight_norm, "weight_v"),
    "old spectral_norm": (nn.utils.spectral_norm, "weight_orig"),
    "torch's prune": (lambda layer: prune.l1_unstructured(layer, "weight", 0.5), "weight_orig"),
}


computed = pytest.mark.parametrize(("change", "name"), COMPUTED.values(), ids=COMPUTED)
old_weight_norm = pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")


@computed
@old_weight_norm
def test_prunable_says_that_a_weight_is_computed(change, name):
    model = nn.Sequential(change(nn.Linear(6, 6)), nn.Linear(6, 9))  # more than half of the weights are covered: no word today
    with pytest.raises((UserWarning, ValueError, RuntimeError), match="computed|parametri"):
        prunable(model)


@computed
@old_weight_norm
def test_what_is_pruned_of_a_computed_weight_is_zero_in_the_weight(change, name):
    layer = change(filled(nn.Linear(6, 6))).eval()
    with or_an_error("computed|parametri"):
        mask = Pruner("random", fraction=0.95).prune(layer, Mask.dense(layer, [name]))
        mask.apply_(layer)
        assert not layer(torch.ones(1, 6)).isnan().any()  # a norm of nothing divides by zero
        assert float((layer.weight == 0).float().mean()) == pytest.approx(mask.sparsity)


@computed
@old_weight_norm
def test_the_distance_is_that_of_the_weights(change, name):
    layer = change(filled(nn.Linear(6, 6))).eval()
    layer(torch.ones(1, 6))
    start, weight = Rewinder(layer=layer), layer.weight.detach().clone()
    layer.get_parameter(name).data *= 2.0
    layer(torch.ones(1, 6))
    true = float((layer.weight.detach() - weight).norm())
    with or_an_error("computed|parametri"):
        assert metrics.learning_distance(start["layer"], layer) == pytest.approx(true, abs=1e-5)


@pytest.mark.parametrize("name", ["1.weight", "bias_k"])
def test_the_distance_counts_neither_norm_layers_nor_biases(name):
    norm = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm((3, 3)))
    start = norm if name == "1.weight" else nn.MultiheadAttention(4, 2, add_bias_kv=True)
    end = copy.deepcopy(start)
    end.get_parameter(name).data += 1.0
    assert metrics.learning_distance(start, end) == 0.0


def test_the_gradient_score_of_a_complex_weight_is_its_part_of_the_loss():
    w = nn.Parameter(torch.tensor([1 + 0j, 2 + 0j]))
    (5 * w[0].imag + w[1].real).backward()
    assert torch.equal(scores.gradient("w", w), torch.tensor([0.0, 2.0]))


# ---------------------------------------------------------------- weights that are not here, or not all of them

USES = {
    "holds": lambda m: Mask.dense(m).holds(m),
    "nonzero": lambda m: repr(Mask.nonzero(m)),
    "enforce": lambda m: Mask.dense(m).enforce(m, SGD(m.parameters(), 0.1)).remove(),
    "prune": lambda m: Pruner().prune(m),
    "distance": lambda m: metrics.learning_distance(filled(linear(), 1), m),
    "sparsity": metrics.sparsity,
    "rewind": lambda m: Rewinder(m=linear()).rewind(m=m),
}


uses = pytest.mark.parametrize("use", USES.values(), ids=USES)


@uses
@pytest.mark.filterwarnings("ignore:for .* copying from a non-meta parameter:UserWarning")
def test_a_model_on_the_meta_device_is_refused(use):
    with pytest.raises((RuntimeError, ValueError), match="on the meta device"):
        use(linear().to("meta"))


@uses
@pytest.mark.parametrize("reshard", [True, False])
def test_a_sharded_model_is_as_good(use, reshard):
    model = filled(linear())
    for part in (*model, model):
        fully_shard(part, mesh=init_device_mesh("cpu", (1,)), reshard_after_forward=reshard)
    with torch.no_grad():
        model(torch.ones(2, 6))  # leaves whole copies in the place of the shards
    assert use(model) == use(filled(linear()))
    assert all(hasattr(p, "placements") for p in model.parameters())


@uses
def test_a_model_in_fsdp1_is_refused_by_name(use):
    model = nn.Module()
    model._fsdp_wrapped_module = linear()  # as FullyShardedDataParallel keeps it
    with pytest.raises((RuntimeError, ValueError), match=r"FullyShardedDataParallel \(FSDP1\)"):
        use(model)


SHARDED = """
import os, sys
import torch
from torch import distributed as dist, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from sparsedd import metrics
dist.init_process_group("gloo", init_method=f"file://{sys.argv[2]}", rank=int(sys.argv[1]), world_size=2)
model = nn.Linear(6, 4)
model.weight.data[:2] = 0.0
fully_shard(model, mesh=init_device_mesh("cpu", (2,)))
print(metrics.sparsity(model), flush=True)
dist.barrier()
os._exit(0)
"""


def test_a_rank_does_not_take_its_part_for_the_whole(tmp_path):
    commands = [[sys.executable, "-W", "ignore", "-c", SHARDED, str(rank), str(tmp_path / "two")] for rank in range(2)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
    assert [float(process.communicate(timeout=120)[0]) for process in running] == [0.5, 0.5]


def test_saving_a_lazy_model_names_the_parameter(tmp_path):
    with pytest.raises((TypeError, ValueError, RuntimeError), match="0.weight"):
        Rewinder(model=nn.Sequential(nn.LazyLinear(3))).save(tmp_path / "start")


def test_rewinding_gives_back_what_was_captured():
    start = Rewinder(model=(model := filled(linear())))
    with or_an_error("bfloat16"):
        start.rewind(model=model.bfloat16())
        assert metrics.learning_distance(start["model"], model) == 0.0


# ---------------------------------------------------------------- gradients that are not there, or sparse


def test_the_gradient_score_of_a_frozen_weight_says_that_it_is_frozen():
    model = scores.accumulate_(KINDS["frozen"][0](), [(torch.ones(2, 6), torch.ones(2, 4))], mse_loss)
    with pytest.raises(RuntimeError, match="requires_grad|frozen"):
        Pruner("gradient").prune(model)


@pytest.mark.parametrize("use", [Pruner("gradient").prune, lambda m, k: k.apply_to_grads_(m)], ids=["score", "apply"])
def test_sparse_gradients(use):
    model = nn.Embedding(9, 4, sparse=True)
    model(torch.tensor([1, 2])).sum().backward()
    use(model, Mask.dense(model, ["weight"]))
