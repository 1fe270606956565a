"""What is written by name is the model's own memory, once; what is read by name is found under any wrapper's names."""

from copy import deepcopy

import lightning
import pytest
import torch
from helpers import bits, everything, filled, net
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.optim.swa_utils import AveragedModel

from sparsedd import Mask, Pruner, Rewinder, convert, landscape, metrics, prunable, sparse
from sparsedd.fleet import Fleet


def tied():
    """Words to logits: the head's weight is the embedding's."""
    model = nn.ModuleDict({"e": nn.Embedding(9, 4), "d": nn.Linear(4, 9, bias=False)})
    model["d"].weight = model["e"].weight
    return filled(model)


def twice():
    """One layer under two names."""
    layer = nn.Linear(3, 3)
    return filled(nn.ModuleDict({"e": layer, "d": layer}))


def by_data():
    """Two Parameters in one memory."""
    model = tied()
    model["d"].weight = nn.Parameter(model["e"].weight.data)
    return model


def gpt2():
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=11, n_positions=5))


def names_of(model):
    """The two names of the tied weight."""
    return ("transformer.wte.weight", "lm_head.weight") if hasattr(model, "lm_head") else ("e.weight", "d.weight")


TIED = {"weight": tied, "module": twice, "data": by_data, "GPT-2": gpt2}


@pytest.mark.parametrize("make", TIED.values(), ids=TIED)
def test_a_tied_weight_moves_along_a_line_once_under_either_name(make):
    model = make()
    first, second = names_of(model)
    weight, before = model.get_parameter(first), everything(model)
    start, step = weight.detach().clone(), torch.ones_like(weight)
    for direction in ({first: step}, {second: step}, {first: step, second: step}, landscape.random_direction(model)):
        step = direction.get(first, direction.get(second))
        for origin in (model, model.state_dict(), deepcopy(model.state_dict())):
            found = landscape.line(model, origin, direction, [0, 1], lambda m: m.get_parameter(second).detach().clone())
            assert bits(found[0]) == bits(start)
            torch.testing.assert_close(found[1], start + step)
    assert everything(model) == before


@pytest.mark.parametrize("make", TIED.values(), ids=TIED)
def test_two_values_for_one_memory_are_refused(make):
    model = make()
    first, second = names_of(model)
    state = deepcopy({name: t.clone() for name, t in model.state_dict().items()})
    state[second] += 1
    before = everything(model)
    uses = {
        "at": lambda: landscape.at(model, state).__enter__(),
        "line": lambda: landscape.line(model, state, {}, [0], lambda m: 0),
        "interpolate": lambda: landscape.interpolate(model, model, state, lambda m: 0, [0]),
        "distance": lambda: metrics.learning_distance(state, model),
        "rewind": lambda: Rewinder.from_state_dict({"step": 0, "parts": {"model": state}}).rewind(model=model),
    }
    for use in uses.values():
        with pytest.raises(ValueError, match=f"'{first}' and '{second}' are one tied weight of the model, but got different"):
            use()
    assert everything(model) == before


def test_a_transposed_tie_is_refused_where_its_two_values_differ():
    model = nn.ModuleDict({"a": nn.Linear(3, 4, bias=False), "b": nn.Linear(4, 3, bias=False)})
    model["b"].weight = nn.Parameter(model["a"].weight.data.t())
    before = everything(model)
    with landscape.at(model, {"a.weight": torch.ones(4, 3), "b.weight": torch.ones(3, 4)}):
        assert model["b"].weight.eq(1).all()
    with pytest.raises(ValueError, match=r"'a.weight' shares memory with other weights"):
        landscape.line(model, model, {"b.weight": torch.ones(3, 4)}, [0, 1], lambda m: 0)
    assert everything(model) == before


def test_a_distance_counts_a_tied_weight_once_in_every_form():
    model, moved = tied(), tied()
    start = Rewinder(model=model)["model"]
    with torch.no_grad():
        moved["e"].weight += 1
    for a in (model, model.state_dict(), start):
        for b in (moved, moved.state_dict()):
            assert metrics.learning_distance(a, b) == pytest.approx(6.0)
    assert metrics.learning_distance(start, moved, ["d.weight"]) == pytest.approx(6.0)


def test_a_rewinder_keeps_a_tied_weight_once(tmp_path):
    model = tied()
    start = Rewinder(model=model)
    start.save(tmp_path / "start")
    loaded = Rewinder.load(tmp_path / "start")
    for state in (start["model"], loaded["model"]):
        assert list(state) == ["e.weight", "d.weight"]
        assert state["e.weight"].data_ptr() == state["d.weight"].data_ptr()
    alone = Rewinder(model=nn.ModuleDict({"e": nn.Embedding(9, 4)}))
    alone.save(tmp_path / "alone")
    assert (tmp_path / "start").stat().st_size - (tmp_path / "alone").stat().st_size < 9 * 4 * 4
    expected = bits(model["e"].weight)
    nn.init.zeros_(model["e"].weight)
    loaded.rewind(model=model)
    assert bits(model["d"].weight) == expected


def test_copies_that_would_untie_are_refused():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = nn.Parameter(model[0].weight.data)
    mask = Mask({"0.weight": torch.eye(4, dtype=torch.bool)})
    with pytest.raises(ValueError, match="two Parameters of the model share memory"):
        sparse.compact(model, mask)
    with pytest.raises(ValueError, match="are one tensor"):
        Fleet([model])


# ---------------------------------------------------------------- what state_dict returns is not the model's memory


class Cloning(nn.Linear):
    def state_dict(self, *args, **kwargs):
        return {name: tensor.clone() for name, tensor in super().state_dict(*args, **kwargs).items()}


def test_a_state_dict_that_clones_is_not_taken_for_the_memory():
    model, other = filled(Cloning(6, 4)), filled(Cloning(6, 4), seed=1)
    zeros = {"weight": torch.zeros(4, 6), "bias": torch.zeros(4)}
    with landscape.at(model, zeros):
        assert not model.weight.any()
    assert landscape.interpolate(model, model, zeros, lambda m: m.weight.abs().sum().item(), [1]) == [0.0]
    assert landscape.line(model, zeros, {"bias": torch.ones(4)}, [2], lambda m: m.bias.sum().item()) == [8.0]
    mask = Pruner().prune_to(model, 0.9)
    fast, _ = sparse.compact(filled(nn.Linear(6, 4), seed=1), mask)
    sparse.expand_(model, fast, mask)
    assert bits(model.weight) == bits(mask.apply_(other).weight)
    Rewinder(model=other).rewind(model=model)
    assert metrics.learning_distance(model, other) == 0.0


# ---------------------------------------------------------------- belonging


def test_a_sparse_copy_belongs_to_one_mask():
    model = filled(nn.Linear(30, 40))
    a, b = (Pruner(fraction=0.8, scope="layer", score=score).prune(model) for score in ("magnitude", "random"))
    assert a.remaining == b.remaining
    (fast, _), (other, _) = (sparse.compact(model, mask) for mask in (a, b))
    before = everything(model), everything(other)
    with pytest.raises(ValueError, match="keeps other weights of 'weight' than the mask"):
        sparse.expand_(model, fast, b)
    with pytest.raises(RuntimeError, match="values are of a layer that keeps other weights"):
        other.load_state_dict(fast.state_dict())
    assert (everything(model), everything(other)) == before
    twin, _ = sparse.compact(filled(nn.Linear(30, 40), seed=1), a)
    twin.load_state_dict(fast.state_dict())
    assert a.holds(sparse.expand_(model, twin, a))
    fast.narrow_()
    assert a.holds(sparse.expand_(model, fast, a))


def test_parents_that_read_a_layers_weights_find_them():
    model = nn.TransformerEncoderLayer(16, 2, 64, dropout=0.0, batch_first=True)
    mask, x = Pruner().prune_to(model, 0.9), torch.linspace(-1, 1, 240).reshape(3, 5, 16)
    fast, _ = sparse.compact(model, mask)
    assert isinstance(fast.linear1, sparse.SparseLinear)
    mask.apply_(model)
    with torch.no_grad():
        for mode in (False, True):
            torch.testing.assert_close(fast.train(mode)(x), model.train(mode)(x), rtol=1e-4, atol=1e-4)
    layer = fast.linear1
    assert (layer.in_features, layer.out_features) == (16, 64)
    assert bits(layer.weight) == bits(model.linear1.weight)
    layer.weight.square().sum().backward()
    torch.testing.assert_close(layer.values.grad, 2 * layer.values.detach())


# ---------------------------------------------------------------- names

WRAPPED = {
    "plain": lambda m: m,
    "DataParallel": nn.DataParallel,
    "compile": lambda m: torch.compile(m, backend="eager"),
    "AveragedModel": AveragedModel,
    "checkpointed": checkpoint_wrapper,
    "Fabric": lambda m: lightning.Fabric(accelerator="cpu", devices=1).setup_module(m),
}


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_every_argument_takes_a_wrappers_names(wrap):
    model, other = net(), net(1)
    wrapped = wrap(net(1))
    distance = metrics.learning_distance(model, other)
    mask = Pruner(fraction=0.5).prune(other)
    assert Mask.dense(wrapped) == Mask.dense(model)
    assert Pruner(fraction=0.5).prune(wrapped) == mask
    assert convert.from_state_dict(mask.apply_(wrapped).state_dict()) == mask
    if wrap is not AveragedModel:  # it counts what it has averaged
        Rewinder(model=other).rewind(model=wrapped)
    assert metrics.learning_distance(Rewinder(model=wrapped)["model"], wrapped) == 0.0
    wrapped = wrap(net(1))
    names = [name for name, p in wrapped.named_parameters() if p.dim() > 1]
    for weights in (wrapped, wrapped.state_dict(), dict(wrapped.named_parameters())):
        for start in (model, model.state_dict(), nn.DataParallel(model).state_dict()):
            assert metrics.learning_distance(start, weights) == metrics.learning_distance(weights, start) == distance
            assert metrics.learning_distance(start, weights, names) == distance
            found = landscape.interpolate(model, start, weights, lambda m: metrics.learning_distance(m, other), [0, 1])
            assert found == [distance, 0.0]
        with landscape.at(model, weights):
            assert bits(model.fc.weight) == bits(other.fc.weight)
        assert landscape.line(model, weights, {}, [0], lambda m: metrics.learning_distance(m, other)) == [0.0]
        steps = {name: torch.ones_like(t) for name, t in weights.items() if t.dim() > 1} if isinstance(weights, dict) else {}
        (moved,) = landscape.line(wrapped, model, steps, [1], lambda m: metrics.learning_distance(model, m))
        assert moved == pytest.approx(len(steps) and (27 + 144) ** 0.5)
    assert list(convert.plain_state_dict(wrapped.state_dict())) == list(model.state_dict())


def test_a_module_called_module_is_no_wrapper():
    model = nn.Sequential()
    model.add_module("module", net())
    state = model.state_dict()
    with landscape.at(model, {name: torch.zeros_like(t) for name, t in state.items()}):
        assert not model.module.fc.weight.any()
    assert metrics.learning_distance(model, state) == metrics.learning_distance(state, state) == 0.0
    assert prunable(model) == ("module.conv.weight", "module.fc.weight")
    with landscape.at(nn.DataParallel(model), nn.DataParallel(model).state_dict()):
        pass


# ---------------------------------------------------------------- what others hand over


@pytest.mark.parametrize(
    "use",
    [
        convert.plain_state_dict,
        convert.from_state_dict,
        lambda state: landscape.interpolate(net(), state, net(), lambda m: 0),
        lambda state: metrics.learning_distance(net(), state),
        lambda state: landscape.at(net(), state).__enter__(),
    ],
)
def test_a_checkpoint_says_where_its_state_dict_is(use):
    checkpoint = {"epoch": 3, "state_dict": net().state_dict(), "optimizer": {"state": {0: {"m": torch.ones(1)}}}}
    with pytest.raises(ValueError, match=r"holds a state dict inside, at \['state_dict'\]: pass that") as raised:
        use(checkpoint)
    assert len(str(raised.value)) < 200
    with pytest.raises(ValueError, match=r"inside, at \['a'\]\['model'\], \['a'\]\['ema'\]: pass that"):
        use({"a": {"model": net().state_dict(), "ema": net().state_dict()}})


def test_values_that_are_no_tensors_are_named_and_not_printed():
    with pytest.raises(TypeError, match=r"'weight' must be a tensor, got one of type list\.$"):
        landscape.at(nn.Linear(2, 1), {"weight": [[0.0] * 1000]}).__enter__()


@pytest.mark.parametrize(
    ("keep", "way"),
    [
        (torch.ones(2), r"got torch.float32: use tensor.bool\(\) of zeros and ones"),
        (torch.ones(2).int(), r"got torch.int32: use tensor.bool\(\)"),
        (torch.ones(2).numpy(), r"got ndarray: use torch.as_tensor\(values\).bool\(\)"),
        ([1, 0], r"got list: use torch.as_tensor\(values\).bool\(\)"),
    ],
)
def test_masks_of_zeros_and_ones_say_how_to_make_them_bool(keep, way):
    for make in (Mask, Mask.from_state_dict):
        with pytest.raises(TypeError, match=way):
            make({"w": keep})


def test_whole_numbers_stay_at_the_origin_of_a_line():
    a, b = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    b(torch.linspace(0, 1, 8).reshape(4, 2))
    direction = {name: b.state_dict()[name] - tensor for name, tensor in a.state_dict().items()}
    found = landscape.line(a, a, direction, [0, 0.5, 1], lambda m: (m.num_batches_tracked.item(), m.running_var[0].item()))
    assert [count for count, _ in found] == [0, 0, 0]
    assert found[2][1] == pytest.approx(b.running_var[0].item())


def test_expanded_buffers_are_written_once():
    model = nn.Linear(2, 2)
    model.register_buffer("scale", torch.ones(1, 3).expand(4, 3))
    before = everything(model)
    with landscape.at(model, {"scale": torch.arange(3.0).expand(4, 3)}):
        assert torch.equal(model.scale, torch.arange(3.0).expand(4, 3))
    with pytest.raises(ValueError, match="'scale' is expanded"), landscape.at(model, {"scale": torch.rand(4, 3)}):
        pass
    with landscape.at(model, {"weight": torch.zeros(2, 2)}):
        pass
    assert everything(model) == before


def test_a_model_without_values_is_refused():
    with (
        pytest.raises(RuntimeError, match="'weight' is on the meta device"),
        landscape.at(nn.Linear(2, 1, device="meta"), {"weight": torch.ones(1, 2)}),
    ):
        pass
