"""The products of a linear layer of 784 × 300 at a batch of 128, dense and in sparse form, by density.

python benchmarks/sparse.py            takes about a minute

A step is what a first layer trains with: its output and its weights' gradient. ``torch.sparse`` is the product of a CSR
tensor, which the sparse form does without.
"""

import statistics

import torch
from bench import in_turns, ratios, report
from torch import nn

from sparsedd.sparse import SparseLinear

OUT, IN, BATCH = 300, 784, 128


@torch.no_grad()
def row(density: float) -> dict[str, float]:
    generator = torch.Generator().manual_seed(0)
    linear = nn.Linear(IN, OUT)
    x, g = torch.randn(IN, BATCH, generator=generator), torch.randn(OUT, BATCH, generator=generator)
    layer = SparseLinear(linear, torch.rand(OUT, IN, generator=generator) < density)
    csr = torch.sparse_csr_tensor(layer.row_starts, layer.columns, layer.values, layer.shape, check_invariants=False)
    candidates = {
        "dense W x": lambda: linear.weight @ x,
        "dense g xᵀ": lambda: g @ x.t(),
        "W x": lambda: layer.product(x, layer.values),
        "Wᵀ g": lambda: layer.adjoint(g, layer.values),
        "g xᵀ, sampled": lambda: layer.sampled(g, x),
        "torch.sparse W x": lambda: csr @ x,
        "dense step": lambda: (linear.weight @ x, g @ x.t()),
        "step": lambda: (layer.product(x, layer.values), layer.sampled(g, x)),
    }
    seconds = in_turns(candidates, rounds=15, times=20)
    found = {name: round(1e6 * statistics.median(t), 1) for name, t in seconds.items() if "step" not in name}
    return {"density": density} | found | {"step over dense": round(ratios(seconds, "dense step")["step"], 3)}


if __name__ == "__main__":
    torch.set_num_threads(1)
    report("sparse", "python benchmarks/sparse.py", [row(d) for d in (0.5, 0.35, 0.2, 0.1, 0.05, 0.02, 0.01, 0.002)])
