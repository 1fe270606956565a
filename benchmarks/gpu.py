"""On a GPU: the tests of devices, launches and waits, the time of steps, pruning and fleets, images a second.

SPARSEDD_DEVICE=cuda python benchmarks/gpu.py       four minutes of one GPU; tables in results/gpu, each as soon as it is there
python benchmarks/gpu.py --smoke OUT                the same, small, on a pretended device: does it run from end to end?
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import bench
import cifar
import launches
import torch
from bench import report
from devices import REAL, devices
from graphs import recorded
from torch import nn, optim
from torch.nn.functional import cross_entropy
from torch.nn.utils.prune import L1Unstructured, global_unstructured

from sparsedd import Mask, Pruner, models
from sparsedd.experiments._arithmetic import arithmetic
from sparsedd.experiments._step_graph import StepGraph
from sparsedd.fleet import Fleet

HERE = Path(__file__).parent
FILES = "tests/test_device.py", "tests/test_step_graph.py"
NETS: dict[str, tuple[Callable[..., nn.Module], tuple[int, ...], float]] = {  # input shape, width of a smoke test
    "LeNet-300-100": (models.lenet_300_100, (1, 28, 28), 0.1),
    "ResNet-18": (models.resnet18, (3, 32, 32), 1 / 16),
}


def tests(smoke: bool) -> None:
    """Run the tests of devices on this one."""
    chosen = ["-k", "dry_run or launches or closures"] if smoke else []
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *FILES, *chosen]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, cwd=HERE.parent)
    lines = done.stdout.strip().splitlines() or done.stderr.strip().splitlines()
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    rows = [{"tests of devices": line.strip("= ")} for line in (*failed, lines[-1])]
    report("gpu/tests", "SPARSEDD_DEVICE=cuda pytest " + " ".join(FILES), rows)
    if done.returncode:
        raise RuntimeError(done.stdout[-2000:])


def count(smoke: bool) -> None:
    """Count launches and waits inside steps, by torch's profiler."""
    chosen = [name for name in launches.WAYS if not smoke or "loop" in name]
    report("gpu/launches", "python benchmarks/gpu.py", [launches.row(name) for name in chosen])


def steps(smoke: bool) -> None:
    """Time steps: plain, enforced, and with gradients masked and clipped, by a mask that comes from a file."""
    rows = []
    for name, (make, shape, width) in NETS.items():
        for way in ("plain", "enforced", "masked and clipped"):
            model = (make(width=width) if smoke else make()).to("cuda")
            batch = 4 if smoke else 128
            x, y = torch.randn(batch, *shape).to("cuda"), torch.randint(10, (batch,)).to("cuda")
            optimizer = optim.SGD(model.parameters(), 0.1, momentum=0.9)
            with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
                Pruner(fraction=0.5).prune(model).save(Path(folder) / "mask")
                mask = Mask.load(Path(folder) / "mask")
                if way != "plain":
                    stack.enter_context(mask.enforce(model, optimizer))
                stack.enter_context(arithmetic("float32", torch.device("cuda")))

                def step(model=model, optimizer=optimizer, x=x, y=y, mask=mask, way=way) -> None:  # type: ignore[no-untyped-def]
                    optimizer.zero_grad()
                    cross_entropy(model(x), y).backward()
                    if way == "masked and clipped":
                        mask.apply_to_grads_(model)
                        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                    optimizer.step()

                rows.append({"net": name, "step": way, "ms": milliseconds(step, 3 if smoke else 200)})
    report("gpu/steps", "python benchmarks/gpu.py", rows)


def prune(smoke: bool) -> None:
    """Prune nets of many weights here and on the CPU: the time, and whether the masks are one; torch's own beside it."""
    rows = []
    for millions in (0.01, 0.02) if smoke else (11, 42, 300):
        side = round((millions * 1e6 / 4) ** 0.5)
        model = nn.Sequential(*(nn.Linear(side, side, bias=False) for _ in range(4)))
        expected = Pruner(fraction=0.2).prune(model) if millions < 100 else None  # a minute on the CPU
        model = model.to("cuda")
        found = Pruner(fraction=0.2).prune(model)
        size = 4 * side**2
        assert found.remaining == size - -(-size // 5)
        if expected is not None:
            assert found.digest() == expected.digest(), "another mask than the CPU's"
        again = Pruner(fraction=0.2).prune(model, found)
        assert again <= found
        weights: Any = [(layer, "weight") for layer in model]
        ours = partial(Pruner(fraction=0.2).prune, model)
        theirs = partial(global_unstructured, weights, L1Unstructured, amount=0.2)
        rows.append(
            {
                "weights": f"{size:,}",
                "kept": f"{found.remaining:,}",
                "as on the CPU": "not compared" if expected is None else "yes",
                "prune, ms": milliseconds(ours, 3),
                "torch.nn.utils.prune, ms": milliseconds(theirs, 1),
            }
        )
        del model, weights, ours, theirs, found, again
    report("gpu/prune", "python benchmarks/gpu.py", rows)


def images(smoke: bool) -> None:
    """Count images a second in each precision."""
    if smoke:
        cifar.IMAGES, cifar.WIDTH, cifar.BATCH = 100, 1 / 16, 50
    cifar.ROUNDS = 1
    rows = cifar.measure([way for way in cifar.WAYS if "loop" not in way and not (smoke and "compiled" in way)])
    report("gpu/images", "python benchmarks/gpu.py", rows)
    ieee, tf32 = (row["images a second"] for row in rows[:2])
    print(f"TF32 {'makes a difference' if tf32 > 1.05 * ieee else 'MAKES NO DIFFERENCE: is the precision entered?'}")  # type: ignore[operator]


def fleet(smoke: bool) -> None:
    """Time the step of a fleet, as it is and as a CUDA graph, with masks in force."""
    rows = []
    for members in (1, 2) if smoke else (1, 10, 50):
        nets = [models.lenet_300_100(seed=seed, width=0.1 if smoke else 1.0) for seed in range(members)]
        masks = [Pruner(fraction=0.5).prune(net) for net in nets]
        x, y = torch.randn(members, 128, 784).to("cuda"), (torch.arange(128) % 10).expand(members, -1).to("cuda")
        found = {}
        for way in ("as it is", "CUDA graph"):
            together = Fleet(nets).to("cuda")
            optimizer = optim.SGD(together.parameters(), 0.1, momentum=0.9, foreach=True)

            def step(x, y, together=together, optimizer=optimizer) -> None:  # type: ignore[no-untyped-def]
                together.backward(x, y)
                optimizer.step()

            taken = StepGraph(step, optimizer) if way == "CUDA graph" else step
            with together.enforce(masks, optimizer), ExitStack() if REAL else recorded():
                found[way] = milliseconds(partial(taken, x, y), 3 if smoke else 200)
        rows.append({"members": members} | {f"{way}, ms": ms for way, ms in found.items()})
    report("gpu/fleet", "python benchmarks/gpu.py", rows)


def milliseconds(step: Callable[[], object], times: int) -> float:
    """Time of a call, as the device's own clock has it: the median of a few runs of several, after one that warms up."""
    found = []
    for _ in range(4 if times > 1 else 1):
        if REAL:
            begins, ends = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begins.record()
        began = time.perf_counter()
        for _ in range(times):
            step()
        if REAL:
            ends.record()
            torch.cuda.synchronize()
        found.append((begins.elapsed_time(ends) if REAL else 1e3 * (time.perf_counter() - began)) / times)
    return statistics.median(found[1:] or found)


PARTS: dict[str, Callable[[bool], None]] = {f.__name__: f for f in (count, steps, prune, images, fleet, tests)}
BLOCKS = ("steps", "prune", "fleet")  # which don't see to the device themselves


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", metavar="OUT", type=Path, help="small, on a pretended device; tables go to OUT")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas: " + ", ".join(PARTS))
    options = parser.parse_args()
    if options.smoke:
        bench.RESULTS = options.smoke
    elif not REAL:
        parser.error("set SPARSEDD_DEVICE=cuda where there is a GPU, or pass --smoke OUT")
    (bench.RESULTS / "gpu").mkdir(parents=True, exist_ok=True)
    print(bench.machine(), flush=True)
    if REAL:
        subprocess.run(["nvidia-smi", "-L"], check=False)
    failed = []
    for name in options.only.split(","):
        began = time.perf_counter()
        try:
            with devices() if name in BLOCKS and not REAL else ExitStack():
                PARTS[name](bool(options.smoke))
        except Exception as error:  # the other parts are worth their seconds
            failed.append(name)
            print(f"{name} failed: {type(error).__name__}: {error}")
        print(f"{name}: {time.perf_counter() - began:.0f} s\n", flush=True)
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
