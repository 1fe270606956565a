"""What each process of test_sharded does: ``shards.py OUT RANK RANKS SIZE:SCENE ...`` leaves OUT/SCENE.SIZE.RANK.json.

A scene is played by the first SIZE ranks. It gives what was found wrong, by name, and what must be equal on all ranks and for
all numbers of them.
"""

import gc
import json
import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from helpers import bits, filled, risen
from torch import distributed as dist
from torch import nn
from torch.distributed import checkpoint as dcp
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import Shard
from torch.distributed.tensor.debug import CommDebugMode
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.nn.functional import cross_entropy

from sparsedd import Mask, Pruner, Rewinder, Sweep, _files, _selection, convert, landscape, metrics, prunable, scores, sparse
from sparsedd._shards import local, take_part

SCORES = {"magnitude": "magnitude", "gradient": "gradient", "random": scores.random(3)}


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.fc, self.out = nn.Embedding(20, 8), nn.Linear(8, 8), nn.Linear(8, 20, bias=False)
        self.out.weight = self.embedding.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(torch.relu(self.fc(self.embedding(x))))


def make(kind: str) -> nn.Module:
    if kind == "tied":
        return filled(Tied())
    if kind == "conv":
        return filled(nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(180, 4)))
    model = filled(nn.Sequential(nn.Linear(13, 12), nn.ReLU(), nn.Linear(12, 10), nn.ReLU(), nn.Linear(10, 2)))
    with torch.no_grad():
        for p in model.parameters():
            if kind == "few values":
                p.copy_((p * 2).round() / 2 + 0.25)
            elif kind == "one value":
                p.fill_(0.5)
            elif kind == "infinite":
                p.view(-1)[::3] = float("inf")
    return model


def batch(kind: str, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(2, (6,), generator=g)
    if kind == "tied":
        return torch.randint(20, (6,), generator=g), y
    return torch.randn((6, 3, 8, 8) if kind == "conv" else (6, 13), generator=g), y


def layers(model: nn.Module, mesh: Any, **more: Any) -> nn.Module:
    for part in list(model.modules()):
        if isinstance(part, nn.Linear | nn.Conv2d):
            fully_shard(part, mesh=mesh, **more)
    return fully_shard(model, mesh=mesh, **more)


def tensors(model: nn.Module, mesh: Any) -> nn.Module:
    return parallelize_module(model, mesh, {"0": ColwiseParallel(), "2": RowwiseParallel()})


def wrapped(model: nn.Module, mesh: Any) -> nn.Module:
    for i in (0, 2):
        model[i] = checkpoint_wrapper(model[i])  # type: ignore[index,operator]
    return layers(model, mesh)


BF16 = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
WAYS: dict[str, Callable[[nn.Module, Any], nn.Module]] = {
    "layers": layers,
    "one group": lambda m, mesh: fully_shard(m, mesh=mesh),
    "no reshard": lambda m, mesh: layers(m, mesh, reshard_after_forward=False),
    "columns": lambda m, mesh: layers(m, mesh, shard_placement_fn=lambda p: Shard(1) if list(p.shape) == [10, 12] else None),
    "bfloat16": lambda m, mesh: layers(m, mesh, mp_policy=BF16),
    "offload": lambda m, mesh: layers(m, mesh, offload_policy=CPUOffloadPolicy(pin_memory=False)),
    "checkpoints": wrapped,
    "tensors": tensors,
}
FOUR: dict[str, Callable[[nn.Module, Any], nn.Module]] = {
    "compiled": lambda m, mesh: torch.compile(layers(m, mesh["a"]), backend="eager"),  # type: ignore[dict-item,return-value]
    "replicas": layers,
    "fsdp and tensors": lambda m, mesh: layers(tensors(m, mesh["b"]), mesh["a"]),
    "whole number": lambda m, mesh: layers(m, mesh._flatten("all"), reshard_after_forward=2),
}


class Scene:
    """What went wrong, and what must be the same everywhere."""

    def __init__(self, rank: int, mesh: DeviceMesh, out: Path) -> None:
        self.rank, self.size, self.out, self.mesh = rank, mesh.size(), out, mesh
        self.wrong: list[str] = []
        self.same: dict[str, Any] = {}

    def check(self, what: str, right: bool) -> None:
        if not right:
            self.wrong.append(what)

    def tell(self, function: Callable[..., object], *arguments: Any) -> str:
        """What it raises, or returns, in words."""
        try:
            return f"returned {function(*arguments)!r}"
        except Exception as error:
            return f"{type(error).__name__}: {error}"


def full(p: Any) -> torch.Tensor:
    return (p.full_tensor() if hasattr(p, "placements") else p).detach()


def whole(model: nn.Module, kind: str) -> nn.Module:
    """The same model, not sharded, with its gradients."""
    twin = make(kind)
    prunable(model)  # puts shards back
    own = {
        name.replace("_checkpoint_wrapped_module.", "").removeprefix("_orig_mod."): p for name, p in model.named_parameters()
    }
    for name, q in twin.named_parameters():
        q.data, q.grad = full(own[name]).clone(), None if own[name].grad is None else full(own[name].grad).clone()
    return twin


def zeros(model: nn.Module, mask: Mask) -> bool:
    """Whether each pruned weight of this process is +0.0."""
    own = {
        name.replace("_checkpoint_wrapped_module.", "").removeprefix("_orig_mod."): p for name, p in model.named_parameters()
    }
    found = [local(own[n].data)[~take_part(keep, own[n])].view(torch.int32) for n, keep in mask.items() if own[n].numel()]
    return not any(bool(w.any()) for w in found)


def lap(scene: Scene, kind: str, way: str, mesh: Any, shard: Callable[[nn.Module, Any], nn.Module]) -> None:
    at = f"{kind}, {way}: "
    model = shard(make(kind), mesh)
    names = ["embedding.weight", "fc.weight"] if kind == "tied" else None
    mask = Mask.dense(model, names)
    scene.check(at + "dense", mask == Mask.dense(make(kind), names))
    x, y = batch(kind, 0 if "tensors" in way else scene.rank)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)
    plain = kind in ("mlp", "conv", "tied")

    def gradients() -> None:
        optimizer.zero_grad()
        cross_entropy(model(x).float(), y).backward()

    for scope in ("global", "layer"):  # of weights that are equal for all numbers of ranks
        first = Pruner(SCORES["random"], 0.4, scope).prune(model, mask)
        scene.same[at + scope] = first.digest(), Pruner(fraction=0.3, scope=scope).prune_to(model, 0.8, first).digest()
        expected = Pruner(SCORES["random"], 0.4, scope).prune(make(kind), mask)
        scene.check(at + f"random, {scope}", first == expected)
        lower = Pruner(fraction=0.3, scope=scope).prune_to(make(kind), 0.8, first)
        scene.check(at + f"to, {scope}", scene.same[at + scope][1] == lower.digest())
    if not plain:
        return
    gradients()
    twin = whole(model, kind)
    for name, score in SCORES.items():
        for scope in ("global", "layer"):
            pruner = Pruner(score, 0.3, scope)
            scene.check(at + f"{name}, {scope}", pruner.prune(model, mask) == pruner.prune(twin, mask))
    with torch.no_grad():
        model(x)  # may leave whole copies in the place of shards
    mask = Pruner(fraction=0.5).prune(model, mask)
    scene.check(at + "after a forward pass", mask == Pruner(fraction=0.5).prune(twin, Mask.dense(twin, names)))
    with mask.enforce(model, optimizer) as enforcement:
        for step in range(4):
            if step == 2:
                mask = Pruner(fraction=0.2).prune(model, mask)
                enforcement.update(mask)
            gradients()
            optimizer.step()
            scene.check(at + f"zeros after step {step}", zeros(model, mask))
        metrics.evaluate(model, [(x, y)]) if kind == "mlp" else None
        scene.check(at + "holds", mask.holds(model))
    scene.check(at + "kept", not all(bool((local(p) == 0).all()) for p in model.parameters() if local(p).numel()))
    twin = whole(model, kind)
    scene.check(at + "nonzero", Mask.nonzero(model, names) == Mask.nonzero(twin, names) <= mask)
    scene.check(at + "sparsity", metrics.sparsity(model, names) == metrics.sparsity(twin, names))
    distance = metrics.learning_distance(make(kind), twin)
    for end in (model, {} | model.state_dict()):
        scene.check(at + "distance", abs(metrics.learning_distance(make(kind), end) - distance) < 1e-12 * distance)
    start = Rewinder(model=make(kind))
    here = Rewinder(model=model)
    with landscape.at(model, start["model"]):
        scene.check(at + "borrowed", metrics.learning_distance(make(kind), model) == 0)
    if at == "mlp, layers: ":
        lines = []
        for net in (model, twin):
            direction = landscape.filter_normalized(landscape.random_direction(net), net)
            lines.append(landscape.line(net, net, direction, [0, 0.5], lambda net: full(next(net.parameters())).norm().item()))
            lines[-1] += landscape.interpolate(net, start["model"], net, lambda net: full(next(net.parameters())).sum().item())
        scene.check(f"lines {lines}", torch.allclose(*map(torch.tensor, lines)))
        for use in (convert.to_torch_prune_, lambda net, mask: sparse.compact(net, mask)):
            scene.check(at + "refused", "is a DTensor" in scene.tell(use, model, mask))
    start.rewind(model=model)
    scene.check(at + "rewound", all(map(torch.equal, whole(model, kind).parameters(), make(kind).parameters())))
    here.rewind(model=model)
    scene.check(at + "returned", all(map(torch.equal, whole(model, kind).parameters(), twin.parameters())))
    metrics.evaluate(model, [(x, y)]) if kind == "mlp" else None
    mask.apply_(start.rewind(model=model) or model)
    gradients()
    mask.apply_to_grads_(model)
    scene.check(at + "applied", mask.holds(model))
    scene.check(at + "gradients", metrics.sparsity(whole(model, kind), names) >= mask.sparsity)
    grads = {n: p.grad for n, p in whole(model, kind).named_parameters()}
    scene.check(at + "masked gradients", not any(bool(grads[n][~keep].any()) for n, keep in mask.items()))


def matrix(scene: Scene) -> None:
    for way, shard in WAYS.items():
        lap(scene, "mlp", way, scene.mesh, shard)
    lap(scene, "conv", "layers", scene.mesh, layers)
    lap(scene, "tied", "one group", scene.mesh, WAYS["one group"])
    for kind in ("few values", "one value", "infinite"):
        for way in ("layers", "columns", "tensors"):
            lap(scene, kind, way, scene.mesh, WAYS[way])


def uneven(scene: Scene) -> None:
    """Some of the same, on three ranks: the last has nothing of the last layer."""
    for way in ("layers", "tensors"):
        lap(scene, "mlp", way, scene.mesh, WAYS[way])
    for kind in ("few values", "one value", "infinite"):
        for way in ("layers", "columns"):
            lap(scene, kind, way, scene.mesh, WAYS[way])


def four(scene: Scene) -> None:
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("a", "b"))
    for kind in ("mlp", "few values", "infinite"):
        for way, shard in FOUR.items():
            lap(scene, kind, way, mesh, shard)


OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "SGD": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=1e-2),
    "foreach": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True, foreach=True),
    "AdamW": lambda p: torch.optim.AdamW(p, 1e-2),
    "fused": lambda p: torch.optim.AdamW(p, 1e-2, fused=True),
    "Adagrad": lambda p: torch.optim.Adagrad(p, 1e-2, initial_accumulator_value=0.1),
    "RMSprop": lambda p: torch.optim.RMSprop(p, 1e-3, momentum=0.9),
    "Adadelta": torch.optim.Adadelta,
    "NAdam": lambda p: torch.optim.NAdam(p, 1e-2),
    "RAdam": lambda p: torch.optim.RAdam(p, 1e-2),
    "ASGD": lambda p: torch.optim.ASGD(p, 1e-2),
    "Adamax": lambda p: torch.optim.Adamax(p, 1e-2),
    "Muon": lambda p: torch.optim.Muon([w for w in p if w.dim() == 2], 1e-2),
}


def optimizers(scene: Scene) -> None:
    """Each optimizer beside a twin, sharded alike, that is masked by hand; and what it remembers when the mask has gone."""
    x, y = batch("mlp", scene.rank)
    for name, kind in OPTIMIZERS.items():
        model, twin = (layers(make("mlp"), scene.mesh) for _ in range(2))
        mask = Pruner(fraction=0.6).prune(model)
        ours, theirs = kind(list(model.parameters())), kind(list(twin.parameters()))
        mask.apply_(twin)
        equal = zero = True
        with mask.enforce(model, ours):
            for _ in range(5):
                for net, optimizer in ((model, ours), (twin, theirs)):
                    optimizer.zero_grad()
                    cross_entropy(net(x), y).backward()
                    if net is twin and name == "Muon":
                        mask.apply_to_grads_(twin)
                    optimizer.step()
                mask.apply_(twin)
                zero &= zeros(model, mask)
                equal &= [bits(local(p)) for p in model.parameters()] == [bits(local(p)) for p in twin.parameters()]
        scene.check(f"{name}: +0.0", zero)
        scene.check(f"{name}: equal", equal)
        fresh = {"sum": 0.1} if name == "Adagrad" else {}
        for n, p in model.named_parameters():
            for key, state in ours.state.get(p, {}).items() if n in mask else ():
                if state.shape == p.shape:
                    left = local(state)[~take_part(mask[n], p)]
                    scene.check(f"{name}: fresh {key}", bool((left == fresh.get(key, 0)).all()))


def own_scores(scene: Scene) -> None:
    """A score may give a DTensor, split in any way, this process' part alone, or the whole."""
    model, plain = layers(make("mlp"), scene.mesh), make("mlp")

    def rows(name: str, w: nn.Parameter) -> torch.Tensor:
        return w.detach() ** 2 / w.detach().square().sum(1, keepdim=True)

    def columns(name: str, w: Any) -> torch.Tensor:
        v: torch.Tensor = w.detach().abs()
        return v.redistribute(placements=[Shard(1)]) if hasattr(v, "placements") else v  # type: ignore[attr-defined]

    def part(name: str, w: nn.Parameter) -> torch.Tensor:
        return local(w.detach()).double().square()

    def everything(name: str, w: nn.Parameter) -> torch.Tensor:
        return full(w).abs()

    for score in (rows, columns, part, everything):
        scene.check(score.__name__, Pruner(score, 0.4).prune(model) == Pruner(score, 0.4).prune(plain))
    told = scene.tell(Pruner(lambda name, w: local(w)[:0, :1]).prune, model)
    scene.check("shape", told.startswith("ValueError: the score of '0.weight' must have shape (12, 13)"))
    x, y = batch("mlp", scene.rank)
    scores.accumulate_(model, [(x, y)], cross_entropy)
    scene.check("accumulated", Pruner("gradient").prune(model) == Pruner("gradient").prune(whole(model, "mlp")))


def together(scene: Scene) -> None:
    """What one rank does or has alone."""
    x, y = batch("mlp", scene.rank)
    model = layers(make("mlp"), scene.mesh)
    mask = Pruner(fraction=0.5).prune(model)
    if scene.rank == 0:  # nothing here waits for the others
        path = scene.out / f"mask.{scene.size}"
        mask.save(path)
        scene.check("file", Mask.load(path) == mask == Mask.from_state_dict(mask.state_dict()) == mask.to("cpu"))
        words = repr(mask), hash(mask), mask.by_layer(), mask.size, mask.remaining, mask.density, mask.sparsity, list(mask)
        scene.check("words", all(words) and len(mask) == 3 and "0.weight" in mask and mask["0.weight"].dim() == 2)
        scene.check("algebra", (mask & mask) == (mask | mask) == mask <= mask | ~mask and (mask - mask).remaining == 0)
        mask.apply_(model)
        mask.apply_to_grads_(model)
        Mask.dense(model)
        repr(mask.enforce)
    dist.barrier(scene.mesh.get_group())
    scene.same["bytes"] = (scene.out / f"mask.{scene.size}").read_bytes().hex()
    scene.same["half applied"] = mask.holds(model)
    mask.apply_(model)
    scene.check("applied", mask.holds(model))
    scene.same["sparse"] = scene.tell(Pruner().prune, model)
    scene.check("sparse", scene.same["sparse"].startswith("RuntimeError: mask=None means that nothing is pruned yet"))
    scene.same["too much"] = scene.tell(Pruner().prune_to, model, 0.99999, mask)
    scene.same["too little"] = scene.tell(Pruner().prune_to, model, 0.1, mask)
    scene.check("too little", "prune_to never regrows" in scene.same["too little"])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Pruner().prune(model, Mask.dense(model))
        scene.same["warning"] = [str(w.message) for w in caught]
    scene.check("warning", len(scene.same["warning"]) == 1)

    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for rank in range(scene.size):  # also one whose part of the last layer is empty
        mask.apply_(model)
        enforcement = mask.enforce(model, optimizer)
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()
        if scene.rank == rank:
            torch.optim.SGD([model[0].weight], 0.1).step()  # only here  # type: ignore[index,list-item]
            local(model[0].weight.data).fill_(1.0)  # type: ignore[index,arg-type,union-attr]
        scene.same[f"stranger {rank}"] = scene.tell(enforcement.remove)
        scene.check(
            f"stranger {rank}", "RuntimeError: pruned weights were moved by something else" in scene.same[f"stranger {rank}"]
        )

    model = layers(make("mlp"), scene.mesh)
    if scene.rank == scene.size - 1:
        local(model[0].weight.data)[0, 0] = float("nan")  # type: ignore[index,arg-type,union-attr]
    scene.same["nan"] = scene.tell(Pruner().prune, model)
    scene.check("nan", scene.same["nan"].startswith("ValueError: the score of '0.weight' is NaN for 1 kept weights"))
    told = scene.tell(Mask, {"w": model[0].weight.detach() != 0})  # type: ignore[index,union-attr,operator,dict-item]
    scene.check("a mask of a DTensor", told.startswith("RuntimeError: 'w' is a DTensor"))


def files(scene: Scene) -> None:
    """A point in training is one whole file, which whole models and shards of any kind go on from."""
    x, y = batch("mlp", 0)

    def go(model: nn.Module, optimizer: torch.optim.Optimizer) -> nn.Module:
        for _ in range(2):
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
            optimizer.step()
        return model

    def new(kind: Callable[..., nn.Module] | None = None) -> tuple[nn.Module, torch.optim.Optimizer]:
        model = kind(make("mlp"), scene.mesh) if kind else make("mlp")
        return model, torch.optim.AdamW(model.parameters(), 1e-2)

    def close(model: nn.Module, other: nn.Module) -> bool:
        pairs = zip(whole(model, "mlp").parameters(), whole(other, "mlp").parameters(), strict=True)
        return all(torch.allclose(p, q, atol=1e-5) for p, q in pairs)

    model, optimizer = new(layers)
    go(model, optimizer)
    start = Rewinder(step=2, model=model, optimizer=optimizer)
    path = scene.out / f"start.{scene.size}"
    start.save(path)
    scene.check("no other file", [p.name for p in scene.out.glob(f"*start.{scene.size}*")] == [path.name])
    at = whole(model, "mlp")
    go(model, optimizer)
    plain = Rewinder.load(path)
    scene.check("whole", not any(hasattr(t, "placements") for t in plain["model"].values()))
    for name, kind in {"whole": None, "layers": layers, "tensors": tensors}.items():
        for point in (start, plain) if kind is not tensors else (plain,):
            other, others = new(kind)
            go(other, others)
            scene.check(f"{name}: step", point.rewind(model=other, optimizer=others) == 2)
            scene.check(f"{name}: weights", close(other, at))
            scene.check(f"{name}: goes on", close(go(other, others), model))
    checkpoint, mask = scene.out / "checkpoint", Pruner().prune(make("mlp"))
    state = {"model": start["model"], "mask": mask.state_dict()}
    if scene.size == 2:
        dcp.save(state, checkpoint_id=checkpoint, process_group=scene.mesh.get_group())
    else:  # of two ranks on three
        later = Rewinder(model=new(layers)[0])["model"]
        back = {"model": later, "mask": Mask.dense(make("mlp")).state_dict()}
        dcp.load(back, checkpoint_id=checkpoint, process_group=scene.mesh.get_group())
        scene.check("checkpoint: mask", Mask.from_state_dict(back["mask"]) == mask)
        found = [torch.allclose(full(back["model"][name]), p, atol=1e-5) for name, p in at.named_parameters()]
        scene.check("checkpoint: weights", all(found))
    complete = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True))
    scene.check("full state", convert.from_state_dict(complete) == Mask.nonzero(model))
    scene.check("distance of full state", metrics.learning_distance(complete, model) == 0)
    writing(scene)
    told = scene.tell(start.save, "/proc/no/such/place")
    scene.check(
        f"no place: {told}",
        told.startswith("RuntimeError: the first of" if scene.rank else ("OSError", "FileNotFoundError", "PermissionError")),
    )


def writing(scene: Scene) -> None:
    """Few of 16 whole tensors are in memory at a time. What goes wrong on the first rank raises on all; the old file stays."""

    def failing(count: int) -> Callable[..., Any]:
        calls = iter(range(count))
        return lambda tensor: read(tensor) if next(calls, None) is not None else (_ for _ in ()).throw(OSError(28, "full"))

    def replacing(*paths: Any) -> None:
        os.replace = replace
        raise FileNotFoundError  # as when another writer has cleared the temporary file away

    big = filled(nn.Sequential(*(nn.Linear(640, 640, bias=False) for _ in range(16))))
    size = 4 * 640 * 640
    path, plain = scene.out / f"big.{scene.size}", scene.out / f"big.{scene.size}.plain.{scene.rank}"
    Rewinder(step=2, model=big).save(plain)
    start = Rewinder(step=2, model=layers(big, scene.mesh))
    start.save(path)
    scene.check("bytes", path.read_bytes() == plain.read_bytes())
    rose = risen(lambda: start.save(path))
    scene.check(f"memory rises by {rose / size:.1f} tensors", rose < 8 * size)
    read, replace = _files._read_bytes, os.replace
    for count in (0, 3, 7):
        _files._read_bytes = failing(count) if scene.rank == 0 else read
        told = scene.tell(start.save, path)
        _files._read_bytes = read
        scene.check(
            f"full: {told}", told.startswith("RuntimeError: the first of" if scene.rank else "OSError: [Errno 28] full")
        )
        scene.check("the old file", path.read_bytes() == plain.read_bytes())
    if scene.rank == 0:
        path.unlink()
        os.replace = replacing  # type: ignore[assignment]
    start.save(path)
    scene.check("written again", path.read_bytes() == plain.read_bytes())
    dist.barrier(scene.mesh.get_group())
    scene.check("no other file", len(list(scene.out.glob(f"*big.{scene.size}*"))) == 1 + scene.size)


def sweep(scene: Scene) -> None:
    """A sweep of a sharded model, killed twice: one process then goes on with a whole one."""
    import test_sweep

    path = scene.out / "sweep"

    def killed(*place: Any) -> None:
        if place == end:
            raise test_sweep.Killed

    for end in (("step", 0, 1, 1), ("step", 1, 1, 2), ("recorded", 1), ("epoch", 2, 1)):
        model = layers(test_sweep.net(), scene.mesh)
        made = Sweep(path, model, Pruner(fraction=0.4), levels=3, rewind_step=3)
        try:
            test_sweep.train(made, at=killed)
            scene.check(f"{end} is not reached", False)
        except test_sweep.Killed:
            pass
        del made  # with its lock
        gc.collect()
        dist.barrier()
    scene.same["records"] = [
        level.to_json() for level in Sweep(path, model, Pruner(fraction=0.4), levels=3, rewind_step=3).records
    ]
    scene.check("records", len(scene.same["records"]) == 2)


def silent(scene: Scene) -> None:
    """A step says nothing to the other processes that it does not say without a mask."""
    x, y = batch("mlp", scene.rank)
    model = layers(make("mlp"), scene.mesh)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    mask = Pruner(fraction=0.5).prune(model)
    reduce = dist.all_reduce
    sizes: list[int] = []
    dist.all_reduce = lambda tensor, **more: (sizes.append(tensor.numel()), reduce(tensor, **more))[1]  # type: ignore[assignment,func-returns-value]
    try:
        Pruner(fraction=0.5).prune(model, mask)
        pruning, sizes[:] = list(sizes), []
        with mask.enforce(model, optimizer):
            entered, sizes[:] = list(sizes), []
            for _ in range(2):
                optimizer.zero_grad()
                cross_entropy(model(x), y).backward()
                if scene.rank == 0:
                    local(model[0].weight.data).fill_(1.0)  # type: ignore[index,arg-type,union-attr]
                with warnings.catch_warnings(), CommDebugMode() as said:
                    warnings.simplefilter("ignore")
                    optimizer.step()
                scene.check(f"a step says {said.get_comm_counts()}", not said.get_total_counts())
            sizes[:] = []
        left = list(sizes)
    finally:
        dist.all_reduce = reduce
    scene.check(f"pruning sends {pruning}", sum(pruning) < 10_000)
    scene.check(f"entering {entered}", 0 < len(entered) <= 3)
    scene.check(f"leaving {left}", len(left) == 1)


def stages(scene: Scene) -> None:
    mesh = init_device_mesh("cpu", (scene.size, 1), mesh_dim_names=("pp", "dp"))
    model = layers(make("mlp"), mesh["dp"])
    scene.same["stages"] = scene.tell(Pruner().prune, model)
    scene.check("stages", "is one of a pipeline stage" in scene.same["stages"])


def main() -> None:
    out, (rank, ranks), scenes = Path(sys.argv[1]), map(int, sys.argv[2:4]), [word.split(":") for word in sys.argv[4:]]
    _selection.FEW = 40  # so that a sample is taken of small models, too
    file = f"file://{out}/group.{ranks}"
    dist.init_process_group("gloo", init_method=file, rank=rank, world_size=ranks, timeout=timedelta(seconds=60))
    meshes = {size: DeviceMesh("cpu", list(range(size))) for size in sorted({int(size) for size, _ in scenes})}
    for size, name in scenes:
        if rank >= int(size):
            continue
        scene, began = Scene(rank, meshes[int(size)], out), time.perf_counter()
        try:
            globals()[name](scene)
        except Exception:
            scene.wrong.append(traceback.format_exc())
        (out / f"{name}.{size}.{rank}.json").write_text(
            json.dumps({"wrong": scene.wrong, "same": scene.same, "seconds": time.perf_counter() - began})
        )
        if any("Traceback" in wrong for wrong in scene.wrong):
            break
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
