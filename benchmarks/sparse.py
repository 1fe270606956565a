"""The products of a linear layer of 784 × 300 at a batch of 128, dense and in sparse form, by density.

python benchmarks/sparse.py            takes about a minute

A step is what a first layer trains with: its output and its weights' gradient. ``torch.sparse`` is the product of a CSR
tensor, which the sparse form does without. Where sparselab is installed (pip install sparselab), its kernels do the same step,
and its layer is called as ours is: forward, and backward with the gradient of the inputs.
"""

import statistics
from collections.abc import Callable

import torch
from bench import in_turns, ratios, report
from torch import nn

from sparsedd.sparse import SparseLinear

try:
    import sparselab
except ImportError:
    sparselab = None

OUT, IN, BATCH = 300, 784, 128


def row(density: float) -> dict[str, float]:
    generator = torch.Generator().manual_seed(0)
    linear = nn.Linear(IN, OUT)
    x, g = torch.randn(IN, BATCH, generator=generator), torch.randn(OUT, BATCH, generator=generator)
    layer = SparseLinear(linear, torch.rand(OUT, IN, generator=generator) < density)
    pattern = layer._pattern()
    csr = torch.sparse_csr_tensor(layer.row_starts, layer.columns, layer.values, layer.shape, check_invariants=False)
    candidates: dict[str, Callable[[], object]] = {
        "dense W x": lambda: linear.weight @ x,
        "dense g xᵀ": lambda: g @ x.t(),
        "W x": lambda: layer.product(x, layer.values),
        "Wᵀ g": lambda: layer.adjoint(g, layer.values),
        "g xᵀ, sampled": lambda: layer.sampled(g, x, pattern),
        "torch.sparse W x": lambda: csr @ x,
        "dense step": lambda: (linear.weight @ x, g @ x.t()),
        "step": lambda: (layer.product(x, layer.values), layer.sampled(g, x, pattern)),
    }
    if sparselab is not None:
        theirs = sparselab.PaddedCSR.from_torch_sparse_csr(csr.detach())
        w_x, g_x = sparselab._core.spmm_simd, sparselab._core.spmm_grad_w_simd
        candidates["sparselab's step"] = lambda: (w_x(theirs, x.numpy()), g_x(theirs, g.numpy(), x.numpy()))
    with torch.no_grad():
        seconds = in_turns(candidates, rounds=15, times=20)
    found = {name: round(1e6 * statistics.median(t), 1) for name, t in seconds.items() if "step" not in name}
    found = {"density": density} | found | {"step over dense": round(ratios(seconds, "dense step")["step"], 3)}
    if sparselab is None:
        return found
    whole = {"ours": trained(layer), "theirs": trained(sparselab.SparseLinear(IN, OUT, sparsity=1 - density))}
    layers = ratios(in_turns(whole, rounds=15, times=20), "ours")
    found["sparselab's step over ours"] = round(ratios(seconds, "step")["sparselab's step"], 2)
    return found | {"its layer over ours": round(layers["theirs"], 2)}


def trained(layer: nn.Module) -> Callable[[], object]:
    """What calls a layer in the middle of a net, forward and backward."""
    inputs, gradient = torch.randn(BATCH, IN, requires_grad=True), torch.randn(BATCH, OUT)
    return lambda: layer(inputs).backward(gradient)


if __name__ == "__main__":
    torch.set_num_threads(1)
    report("sparse", "python benchmarks/sparse.py", [row(d) for d in (0.5, 0.35, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002)])
