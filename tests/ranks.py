"""What each process of test_distributed does: ``torchrun ranks.py OUT SCENE ...`` leaves OUT/SCENE.RANK.json."""

import copy
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from helpers import batch, bits, net
from torch import distributed as dist
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from sparsedd import Mask, Pruner, Rewinder, metrics, scores
from sparsedd.distributed import agree
from sparsedd.experiments import Experiment, Store, run
from sparsedd.experiments._task import Task

SCORES = ("magnitude", "gradient", "random")
SWEEP = replace(Experiment().scaled("smoke"), levels=3, epochs=2)


def digest(value: Any) -> str:
    """Of anything that prints all that it is."""
    if isinstance(value, nn.Module):
        value = [(name, bits(tensor)) for name, tensor in value.state_dict().items()]
    return hashlib.sha256(repr(value).encode()).hexdigest()


def refusal(function: Callable[..., object], *arguments: Any, **named: Any) -> str:
    """What it raises, or what it returns, in words."""
    try:
        return f"returned {function(*arguments, **named)!r}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def a_mask(odd: bool = False) -> Mask:
    return Mask({"w": torch.tensor([True, not odd])})


def scored(rank: int, size: int, out: Path) -> Any:
    """Scores and masks by each score, of gradients that DDP averages over the ranks' own batches."""
    seen = {}
    local, model = net(), DistributedDataParallel(net())
    scores.accumulate_(local, [batch(10 * rank + k) for k in range(2)], cross_entropy)
    scores.accumulate_(model, [batch(10 * rank + k) for k in range(2)], cross_entropy)
    whole = scores.accumulate_(net(), [batch(10 * other + k) for other in range(size) for k in range(2)], cross_entropy)
    near = [torch.allclose(p.grad, q.grad, atol=1e-6) for p, q in zip(model.parameters(), whole.parameters(), strict=True)]
    for name in SCORES:
        score = scores.random(7) if name == "random" else getattr(scores, name)
        for scope in ("global", "layer"):
            mask = Pruner(score, 0.3, scope).prune(model)
            agree(mask)
            agree(smaller := Pruner(score, 0.3, scope).prune_to(model, 0.8, mask))
            values = [bits(score(key, p)) for key, p in model.module.named_parameters()]
            seen[f"{name} {scope}"] = mask.digest(), smaller.digest(), digest(values)
    own = Pruner("gradient", 0.3).prune(local)
    return {"seen": seen, "mean": all(near), "local": refusal(agree, own), "own": own.digest()}


def loop(rank: int, size: int, out: Path) -> Any:
    """A user's own training under DDP: three levels by each score, rewound to step 2, written by rank 0."""
    seen = {}
    for name in SCORES:
        model = DistributedDataParallel(net(), gradient_as_bucket_view=rank % 2 == 0)
        mask, start, pruner = Mask.dense(model), None, Pruner(name, 0.4)
        original, records = copy.deepcopy(model.module), []
        for level in range(3):
            optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
            schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2)
            first = start.rewind(model=model, schedule=schedule) if start else 0
            rewound = digest(model.module)
            with mask.enforce(model, optimizer):
                for step in range(first, 5):
                    if step == 2 and start is None:
                        start = Rewinder(step=2, model=model, schedule=schedule)
                    optimizer.zero_grad()
                    inputs, labels = batch(step + (100 * rank if size > 2 else 0))  # two ranks see the same
                    cross_entropy(model(inputs), labels).backward()
                    optimizer.step()
                    schedule.step()
            distance = metrics.learning_distance(original, model)
            records.append((mask.digest(), rewound, digest(model.module), mask.holds(model), distance))
            if rank == 0:
                mask.save(out / f"{name}.{level}.safetensors")
            if level < 2:
                mask = pruner.prune(model, mask)  # by the gradients of the last step
                agree(mask)
        if rank == 0:
            start.save(out / f"{name}.start.safetensors")
        dist.barrier()
        loaded = Mask.load(out / f"{name}.2.safetensors") == mask
        other = Rewinder.load(out / f"{name}.start.safetensors")
        other.rewind(model=model)
        seen[name] = {"records": records, "loaded": loaded, "again": digest(model.module) == rewound}
    return seen


def sweep(rank: int, size: int, out: Path) -> Any:
    """Every rank runs one experiment into one folder."""
    made, retrain = [], Task.retrain

    def counted(task: Task, level: Any, model: Any) -> Any:
        made.append(level.number)
        return retrain(task, level, model)

    Task.retrain = counted  # type: ignore[method-assign]
    levels = [record.to_json() for record in run(SWEEP, out / "runs")]
    Task.retrain = retrain  # type: ignore[method-assign]
    file = Store(out / "runs", SWEEP).path / "levels.jsonl"
    for k in range(len(levels)):
        agree(Store(out / "runs", SWEEP).mask(k))
    return {"made": made, "levels": levels, "file": hashlib.sha256(file.read_bytes()).hexdigest()}


def disagree(rank: int, size: int, out: Path) -> Any:
    """Each rank in turn has another mask; then one sends its own to all."""
    seen = []
    for odd in range(size):
        began = time.monotonic()
        seen.append((refusal(agree, a_mask(rank == odd)), time.monotonic() - began))
    sent = [a_mask(rank == 1)]
    dist.broadcast_object_list(sent, src=1)
    return {"seen": seen, "sent": refusal(agree, sent[0]), "same": sent[0] == a_mask(True)}


def absent(rank: int, size: int, out: Path) -> Any:
    """The last rank comes late; then on time; then it has gone on to another collective, and the others follow it there."""
    last = rank == size - 1
    began = time.monotonic()
    time.sleep(3 if last else 0)
    seen = [refusal(agree, a_mask(), timeout=30 if last else 1)]
    seconds = time.monotonic() - began
    dist.barrier()
    seen.append(refusal(agree, a_mask()))
    total = torch.ones(3)
    if last:
        dist.all_reduce(total)
    seen.append(refusal(agree, a_mask(), timeout=1))
    if not last:
        dist.all_reduce(total)
    return {"seen": seen, "seconds": seconds, "total": total.tolist()}


def dead_first(rank: int, size: int, out: Path) -> Any:
    """The rank that holds the store dies."""
    return _dead(rank, 0)


def dead_last(rank: int, size: int, out: Path) -> Any:
    """Another one does."""
    return _dead(rank, size - 1)


def _dead(rank: int, dies: int) -> Any:
    agree(a_mask())
    if rank == dies:
        os._exit(7)
    began = time.monotonic()
    return {"seen": refusal(agree, a_mask(), timeout=3), "seconds": time.monotonic() - began}


def main() -> None:
    out, scenes = Path(sys.argv[1]), sys.argv[2:]
    dist.init_process_group("gloo")
    rank, size = dist.get_rank(), dist.get_world_size()
    for scene in scenes:
        result = globals()[scene](rank, size, out)
        (out / f"{scene}.{rank}.json").write_text(json.dumps(result))
    dist.destroy_process_group()
    os._exit(0)  # torch 2.10 may abort while it unloads what fully_shard has loaded


if __name__ == "__main__":
    main()
