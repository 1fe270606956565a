"""A global magnitude prune of a model under ``fully_shard``, beside gathering the weights and pruning them, on each rank.

python benchmarks/sharded.py            # 33.6 million weights on two ranks; about a minute (Linux)
"""

import argparse
import ctypes
import multiprocessing
import tempfile
from collections.abc import Iterable
from pathlib import Path

import torch
from bench import in_turns, ratios, report, risen
from torch import Tensor, distributed, nn
from torch.distributed.fsdp import fully_shard

from sparsedd import Mask, Pruner


def network(weights: Iterable[Tensor]) -> nn.Module:
    model = nn.Sequential()
    for weight in weights:
        model.append(nn.Linear(1, 1, bias=False, device="meta"))
        model[-1].weight = nn.Parameter(weight)
    return model


def gathered(model: nn.Module) -> Mask:
    return Pruner().prune(network([p.full_tensor().detach() for p in model.parameters()]))


def measure(rank: int, ranks: int, layers: int, file: str) -> list[dict[str, object]]:
    distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=ranks)
    generator = torch.Generator().manual_seed(0)
    model = network(torch.empty(2048, 2048).normal_(0, 0.02, generator=generator) for _ in range(layers))
    for part in (*model, model):
        fully_shard(part)
    own = [p.to_local() for p in model.parameters()]
    methods = {
        "gather the weights, then prune them": lambda: gathered(model),
        "prune the shards": lambda: Pruner().prune(model),
    }
    for method in methods.values():
        method()  # the first imports, and connects
    size = sum(4 * p.numel() for p in model.parameters())
    extra = {name: risen(method) / size for name, method in methods.items()}
    ctypes.CDLL(None).mallopt(-3, 1 << 20)  # M_MMAP_THRESHOLD: tensors have pages of their own, whatever was there before
    seconds = in_turns({"": lambda: [w.abs() for w in own]} | methods, rounds=5)
    sent: list[int] = []
    reduce = distributed.all_reduce
    distributed.all_reduce = lambda tensor, **more: (sent.append(tensor.numel()), reduce(tensor, **more))[1]
    Pruner().prune(model)
    sums = [n for n in sent if n < 100_000]  # the others are the bits of the new mask
    passes = ratios(seconds, "")
    distributed.destroy_process_group()
    return [
        {
            "on each rank": name,
            "CPU time, in passes of `w.abs()` over its part": round(passes[name], 1),
            "memory beyond the weights, × all weights": round(extra[name], 2),
            "sums": len(sums) if name == "prune the shards" else None,
            "integers in them": sum(sums) if name == "prune the shards" else None,
        }
        for name in methods
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--layers", type=int, default=8, help="of 2048 × 2048 weights")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, multiprocessing.get_context("spawn").Pool(options.ranks) as pool:
        given = [(rank, options.ranks, options.layers, str(Path(folder) / "group")) for rank in range(options.ranks)]
        found = pool.starmap(measure, given, chunksize=1)
    report("sharded", "python benchmarks/sharded.py", max(found, key=lambda rows: str(rows)))
