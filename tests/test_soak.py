"""The same life over and over: each gives the same bits, and the process holds no more afterwards than before."""

import copy
import gc
import hashlib
import os
import threading
import time
from pathlib import Path

import pytest
import torch
from helpers import batch, net
from torch.nn.functional import cross_entropy
from torch.optim.optimizer import _global_optimizer_post_hooks
from torch.utils.data import TensorDataset

from sparsedd import Mask, NoisyLabels, Pruner, Rewinder, landscape, metrics, noise, scores
from sparsedd.experiments import Experiment, run, verify
from sparsedd.fleet import Fleet

PROC = Path("/proc/self")
WARM = 10  # lives after which caches are full
MEGABYTES = 8  # that the allocator may be off by


def life(folder: Path) -> str:
    """Prune, enforce, train, save, load, copy, rewind, measure, run an experiment: the digest of all that came out."""
    seen = hashlib.sha256()
    labels = NoisyLabels(TensorDataset(torch.eye(40), torch.arange(40) % 4), noise.Symmetric(0.3), seed=1)
    seen.update(labels.targets.numpy().tobytes())
    model = net()
    start, mask = Rewinder(model=model), Mask.dense(model)
    for level, score in enumerate(("magnitude", "gradient", scores.random(1))):
        start.rewind(model=model)
        scores.accumulate_(model, [batch(0)], cross_entropy)
        mask = Pruner(score, fraction=0.3).prune(model, mask)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        with mask.enforce(model, optimizer):
            for step in range(5):
                optimizer.zero_grad()
                x, y = batch(step)
                cross_entropy(copy.deepcopy(model)(x), y)
                cross_entropy(model(x), y).backward()
                optimizer.step()
        mask.save(folder / "mask.safetensors")
        start.save(folder / "start.safetensors")
        mask = Mask.load(folder / "mask.safetensors")
        start = Rewinder.load(folder / "start.safetensors")
        end = {name: p.detach().clone() for name, p in model.named_parameters()}
        measures = metrics.evaluate(model, [batch(9)]), metrics.learning_distance(start["model"], model)
        line = landscape.interpolate(model, start["model"], end, lambda m: metrics.evaluate(m, [batch(9)]).loss, [0.0, 0.5])
        seen.update(repr((level, mask.digest(), measures, line)).encode())
    Fleet([net(seed) for seed in range(3)])
    levels = list(run(Experiment().scaled("smoke"), folder / "runs"))
    assert all(finding.ok for finding in verify(folder / "runs"))
    seen.update(repr([(level.remaining, level.test_accuracy, level.learning_distance) for level in levels]).encode())
    return seen.hexdigest()


def held() -> dict[str, int]:
    """What a process may lose track of: open files, threads, hooks of all optimizers, tensors."""
    gc.collect()
    return {
        "open files": len(list((PROC / "fd").iterdir())),
        "threads": threading.active_count(),
        "hooks": len(_global_optimizer_post_hooks),
        "tensors": sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects()),
    }


def resident() -> float:
    """Memory of the process in megabytes."""
    return int((PROC / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.skipif(not PROC.exists(), reason="open files and memory are read from /proc")
@pytest.mark.parametrize("minutes", [0, pytest.param(120, marks=pytest.mark.long)])
def test_a_long_life_leaks_nothing_and_changes_nothing(minutes, tmp_path):
    (folder := tmp_path / "first").mkdir()
    first = life(folder)
    before, memory, lives, end = held(), 0.0, 1, time.monotonic() + 60 * minutes
    while lives < WARM + 5 or time.monotonic() < end:
        (folder := tmp_path / str(lives)).mkdir()
        assert life(folder) == first
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        folder.rmdir()
        lives += 1
        if lives == WARM:
            memory = resident()
    print(f"{lives} lives, {resident() - memory:+.1f} MB after the first {WARM}")
    assert held() == before
    assert resident() - memory < MEGABYTES
