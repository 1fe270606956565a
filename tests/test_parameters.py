import copy
import pickle
import warnings

import numpy as np
import pytest
import torch
from helpers import everything, filled, net
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

import sparsedd
from sparsedd import Mask, Pruner, metrics, prunable, scores
from sparsedd._parameters import abridge, drop_tied, select


class Tied(nn.Module):
    """Two Linears of one weight."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
        self.b.weight = self.a.weight

    def forward(self, x):
        return self.b(self.a(x))


class Language(nn.Module):
    """An embedding tied to the last Linear, in either order."""

    def __init__(self, decoder_first):
        super().__init__()
        if decoder_first:
            self.decoder = nn.Linear(4, 9)
        self.embedding, self.middle = nn.Embedding(9, 4), nn.Linear(4, 20)
        if not decoder_first:
            self.decoder = nn.Linear(4, 9)
        self.decoder.weight = self.embedding.weight


# ---------------------------------------------------------------- which weights


@pytest.mark.parametrize(
    ("model", "names"),
    [
        (nn.Linear(2, 3), ["weight"]),
        (nn.Conv1d(1, 2, 3), ["weight"]),
        (nn.Conv2d(1, 2, 3), ["weight"]),
        (nn.Conv3d(1, 2, 3), ["weight"]),
        (nn.ConvTranspose1d(1, 2, 3), ["weight"]),
        (nn.ConvTranspose2d(1, 2, 3), ["weight"]),
        (nn.ConvTranspose3d(1, 2, 3), ["weight"]),
        (net(), ["conv.weight", "fc.weight"]),
        (nn.Sequential(nn.Linear(4, 9), nn.LayerNorm((9, 1)), nn.BatchNorm1d(9)), ["0.weight"]),
        (nn.MultiheadAttention(8, 2), ["in_proj_weight", "out_proj.weight"]),
        (nn.MultiheadAttention(8, 2, add_bias_kv=True), ["in_proj_weight", "out_proj.weight"]),
        (
            nn.MultiheadAttention(8, 2, kdim=4, vdim=4),
            ["q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj.weight"],
        ),
        (Tied(), ["a.weight"]),
        (Language(True), ["middle.weight"]),
        (Language(False), ["middle.weight"]),
        (nn.ModuleList([nn.Linear(2, 2)] * 2), ["0.weight"]),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_prunable_are_the_weights_of_linear_conv_and_attention(model, names):
    before = everything(model)
    assert prunable(model) == tuple(names)
    assert list(Mask.dense(model)) == names
    assert everything(model) == before


def test_types_choose_other_modules():
    model = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 9))
    assert prunable(model, types=nn.Embedding) == ("0.weight",)
    assert prunable(model, types=(nn.Embedding, nn.Linear)) == ("0.weight", "1.weight")
    with pytest.raises(ValueError, match=r"nothing to prune: Sequential has no weights.*\(Conv2d\)"):
        prunable(model, types=nn.Conv2d)
    for wrong in ("Linear", (nn.Linear, 3), [nn.Linear]):
        with pytest.raises(TypeError, match="types must be a class or a tuple of classes"):
            prunable(model, types=wrong)


@pytest.mark.parametrize(
    ("exclude", "left"),
    [
        ("fc.weight", ("conv.weight",)),
        ("fc", ("conv.weight",)),
        ("f*", ("conv.weight",)),
        (["conv.*"], ("fc.weight",)),
        (("c?nv",), ("fc.weight",)),
        ((), ("conv.weight", "fc.weight")),
        (iter(["[a-d]*.weight"]), ("fc.weight",)),
    ],
)
def test_exclude_takes_names_modules_and_patterns(exclude, left):
    assert prunable(net(), exclude=exclude) == left


def test_exclude_is_about_whole_segments_of_nested_names():
    model = nn.ModuleDict({"fc": nn.Linear(2, 2), "fc1": nn.Linear(2, 2), "deep": nn.ModuleDict({"fc": nn.Linear(2, 2)})})
    assert prunable(model, exclude="fc") == ("fc1.weight", "deep.fc.weight")
    assert prunable(model, exclude="deep") == ("fc.weight", "fc1.weight")
    assert prunable(model, exclude="*.fc") == ("fc.weight", "fc1.weight")


@pytest.mark.parametrize(
    ("exclude", "error", "message"),
    [
        ("fc3", ValueError, "exclude: 'fc3' matches no prunable parameter. They are conv.weight, fc.weight"),
        (["fc", "fc.bias"], ValueError, "'fc.bias' matches no"),
        ("*", ValueError, "nothing to prune.*besides the excluded ones"),
        ([0], TypeError, r"exclude must be a collection of strings, got \[0\]"),
        (0, TypeError, "exclude must be a collection of strings, got 0"),
    ],
)
def test_exclude_that_can_not_be_meant(exclude, error, message):
    with pytest.raises(error, match=message):
        prunable(net(), exclude=exclude)


@pytest.mark.parametrize("model", [nn.ReLU(), nn.BatchNorm1d(3), nn.Embedding(3, 2)])
def test_nothing_to_prune_is_an_error(model):
    with pytest.raises(ValueError, match=f"nothing to prune: {type(model).__name__} has no weights"):
        prunable(model)


@pytest.mark.parametrize("model", [None, 3, nn.Linear, {"weight": torch.ones(2, 2)}])
def test_what_is_no_module_is_refused(model):
    for function in (prunable, Mask.dense, Mask.nonzero, Pruner().prune, metrics.sparsity):
        with pytest.raises(TypeError, match=r"model must be a torch.nn.Module, got "):
            function(model)


def test_below_half_of_the_weights_it_says_so():
    model = nn.Sequential(nn.Embedding(10, 10), nn.Linear(10, 10))  # half: fine
    assert prunable(model) == ("1.weight",)
    model = nn.Sequential(nn.Embedding(11, 10), nn.Linear(10, 10))
    with pytest.warns(UserWarning, match=r"covers 100 of the model's 210 weights \(48%\): pass types=") as caught:
        assert prunable(model) == ("1.weight",)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():  # what the caller left out does not count, nor do vectors, nor tied weights twice
        warnings.simplefilter("error")
        assert prunable(net(), exclude="fc") == ("conv.weight",)
        prunable(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(1000), nn.Linear(1, 1)))
        prunable(Tied())


def test_a_lazy_module_asks_for_a_batch():
    model = nn.Sequential(nn.LazyLinear(3), nn.LazyBatchNorm1d(), nn.Linear(3, 2))
    for function in (prunable, Mask.dense, Pruner().prune, lambda m: Mask.dense(m, ["0.weight"])):
        with pytest.raises(RuntimeError, match="'0.weight' has no shape yet: run a batch through its lazy module"):
            function(model)
    with pytest.raises(RuntimeError, match="'0.weight' has no shape yet"):
        metrics.learning_distance(model, model)
    assert prunable(nn.Sequential(nn.Linear(3, 2), nn.LazyBatchNorm1d())) == ("0.weight",)
    model(torch.ones(2, 5))
    assert prunable(model) == ("0.weight", "2.weight")


# ---------------------------------------------------------------- tied weights


def test_tied_weights_count_once_and_answer_to_each_name():
    model = filled(Tied())
    mask = Pruner(fraction=0.5).prune(model)
    assert (list(mask), mask.size, mask.remaining) == (["a.weight"], 16, 8)
    other = Mask({"b.weight": mask["a.weight"]})
    assert list(Mask.dense(model, ["b.weight", "a.weight"])) == ["a.weight"]
    other.apply_(model)
    assert mask.holds(model)
    assert Mask.nonzero(model) == mask
    with other.enforce(model, optimizer := torch.optim.SGD(model.parameters(), lr=0.1)):
        model(torch.ones(1, 4)).sum().backward()
        optimizer.step()
        assert mask.holds(model)


@pytest.mark.parametrize("decoder_first", [True, False])
def test_a_linear_tied_to_an_embedding_is_pruned_only_when_named(decoder_first):
    model = filled(Language(decoder_first))
    assert list(Mask.dense(model)) == ["middle.weight"]
    mask = Mask.dense(model, ["decoder.weight"])
    assert mask.size == 36
    (~mask).apply_(model)
    assert not model.embedding.weight.any()
    assert prunable(model, types=(nn.Embedding, nn.Linear)) == ("embedding.weight", "middle.weight")


# ---------------------------------------------------------------- wrappers


@pytest.fixture
def process_group(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def compiled(model):
    return torch.compile(model, backend="eager")


def compiled_within(model):
    model.fc = torch.compile(model.fc, backend="eager")
    return model


def compiled_in_place(model):
    model.compile(backend="eager")
    return model


WRAPPERS = {
    "compile": compiled,
    "compile nested": compiled_within,
    "compile in place": compiled_in_place,
    "compile both": lambda m: compiled(compiled_within(m)),
    "DataParallel": DataParallel,
    "compile DataParallel": lambda m: compiled(DataParallel(m)),
    "DDP": DistributedDataParallel,
    "compile DDP": lambda m: compiled(DistributedDataParallel(m)),
    "DDP compile": lambda m: DistributedDataParallel(compiled(compiled_within(m))),
    "within another": lambda m: DataParallel(m),
}


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # torch.compile looks at its inputs
@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_names_and_masks_are_those_of_the_model_inside(wrap, process_group):
    plain, model = net(), wrap(net())
    assert prunable(model) == ("conv.weight", "fc.weight")
    assert prunable(model, exclude="fc") == ("conv.weight",)
    assert Mask.dense(model) == Mask.dense(plain)
    for pruner in (Pruner(), Pruner("random"), Pruner(scores.random(3), scope="layer")):
        assert pruner.prune(model) == pruner.prune(plain)
    mask = Pruner(fraction=0.5).prune(plain)
    assert metrics.learning_distance(plain, model) == 0.0
    wrapped_names = [name.replace("module.", "") for name, p in model.named_parameters() if p.dim() > 1]
    assert Mask(dict(zip(wrapped_names, mask.values(), strict=True))) == mask
    assert Mask.dense(model, wrapped_names) == Mask.dense(plain)

    before = everything(model)
    mask.holds(model)
    assert everything(model) == before
    assert mask.apply_(model) is model
    assert mask.holds(model)
    assert Mask.nonzero(model) == mask
    assert metrics.sparsity(model) == mask.sparsity
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with mask.enforce(model, optimizer):
        model(torch.ones(2, 1, 6, 6)).sum().backward()
        mask.apply_to_grads_(model)
        assert not model.get_parameter(next(n for n, _ in model.named_parameters())).grad[~mask["conv.weight"]].any()
        optimizer.step()
        assert mask.holds(model)
    assert mask.holds(model)


def test_wrappers_deep_inside_are_ignored_and_a_module_called_module_is_not(process_group):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = net()
            self.parts = nn.ModuleList([compiled(net()), DistributedDataParallel(net()), DataParallel(net())])

    names = [f"{part}.{name}.weight" for part in ("module", "parts.0", "parts.1", "parts.2") for name in ("conv", "fc")]
    assert list(prunable(Net())) == names


# ---------------------------------------------------------------- the model stays what it is


def test_the_model_is_never_wrapped_renamed_or_changed_in_class():
    model = net()
    fresh = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    mask = Pruner("random", fraction=0.5).prune(model)
    scores.accumulate_(model, [(torch.ones(2, 1, 6, 6), torch.tensor([0, 1]))], nn.functional.cross_entropy)
    Pruner("gradient").prune(model, mask)
    with mask.enforce(model, optimizer):
        optimizer.step()
        inside = pickle.loads(pickle.dumps(model))
    start = sparsedd.Rewinder(model=model)
    start.rewind(model=model)
    metrics.evaluate(model, [(torch.ones(2, 1, 6, 6), torch.tensor([0, 1]))])
    metrics.learning_distance(fresh, model)

    def shape(m):
        return [(n, type(s), sorted(vars(s))) for n, s in m.named_modules()], list(m.state_dict()), m.training

    for other in (model, inside, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert shape(other) == shape(fresh)
        hooks = [v for m in other.modules() for k, v in vars(m).items() if "hook" in k and hasattr(v, "__len__")]
        assert not any(len(h) for h in hooks)
        assert all(type(p) is nn.Parameter for p in other.parameters())


def test_names_that_a_wrapper_gives_are_as_good():
    model = net()
    for wrapped in (nn.DataParallel(model), torch.compile(model, backend="eager"), nn.DataParallel(torch.compile(model))):
        names = [name for name, p in wrapped.named_parameters() if p.dim() > 1]
        assert Mask.dense(wrapped, names) == Mask.dense(model)
    assert torch.equal(Mask.dense(model)["_orig_mod.fc.weight"], Mask.dense(model)["fc.weight"])


VIEWS = st.tuples(st.integers(0, 20), st.integers(1, 3), st.integers(1, 3), st.integers(1, 6), st.integers(1, 6))


@given(st.tuples(VIEWS, VIEWS))
def test_views_of_one_memory_are_tied_apart_or_refused(views):
    """As NumPy sees it, which solves for the addresses."""
    store, named = torch.arange(64.0), []
    for offset, rows, columns, row, column in views:
        named.append(nn.Parameter(store.as_strided((rows, columns), (row, column), offset)))
    model = nn.ParameterDict(zip("ab", named, strict=True))
    a, b = (p.detach().numpy() for p in named)
    if a.shape == b.shape and a.strides == b.strides and a.ctypes.data == b.ctypes.data:
        assert list(drop_tied(select(model, ["a", "b"]))) == ["a"]
    elif np.shares_memory(a, b):
        with pytest.raises(ValueError, match="share memory in another shape or order"):
            select(model, ["a", "b"])
    else:
        assert list(drop_tied(select(model, ["a", "b"]))) == ["a", "b"]


def test_one_memory_in_two_dtypes_is_refused():
    model = nn.ParameterDict({"real": torch.ones(3, 2)})
    model["complex"] = nn.Parameter(torch.view_as_complex(model["real"].data).unsqueeze(0))
    with pytest.raises(ValueError, match=r"real.*complex|complex.*real"):
        Mask.dense(model, ["real", "complex"])


def test_many_names_are_cut_short():
    assert abridge([]) == "none"
    assert abridge(range(8)) == "0, 1, 2, 3, 4, 5, 6, 7"
    assert abridge(range(10)) == "0, 1, 2, 3, 4, 5, 6, 7 and 2 more"
    assert abridge("abc", 2) == "a, b and 1 more"
