"""The same draws for every number of threads and workers, other draws for other seeds, and no global generator touched."""

import hashlib
import inspect
import itertools
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from fractions import Fraction
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from types import CodeType
from typing import Any
from unittest.mock import ANY

import draws
import matplotlib
import numpy as np
import pytest
import torch
from calls import CALLS, MODULES, PUBLIC
from helpers import generators

import sparsedd
from sparsedd import Pruner
from sparsedd.data import DATASETS
from sparsedd.experiments import PRESETS, Experiment, run, run_all
from sparsedd.noise import Asymmetric

matplotlib.use("agg")

# ---------------------------------------------------------------- the same everywhere

GOLDEN = {
    "labels uniform": "5078d83aef18a779",
    "labels other": "881aa1889c756a59",
    "labels permute": "2d434973fcc548ab",
    "labels asymmetric": "f1f733f326e50199",
    "labels superclass": "77ffb818420d4ff2",
    "labels pairflip": "0b5c019073aa94b9",
    "order": "d7c140c39c7098e5",
    "augmentation": "651d34a2598c3b2a",
    "random score": "bcc630a4c4de5628",
    "random score of a layer by another name": "1de0f98fac5d4aa9",
    "initialisation paper": "c8a1a9024b6be3da",
    "initialisation authors": "8a7566bbf3449d5b",
    "direction": "56a90dc27b86edb4",
    "labels of digits and blobs": "9607bc61e1f66ce6",
    "random masks global": "cc4c21f5e70a8e5a",
    "random masks layer": "ddf9cc30b00d1a46",
    "bootstrap": "b9214157569bc11b",
    "masks of a sweep": "64bbca979f0951a5",
    "weights of its reinit": "1ac01eae245cc857",
}


def test_golden_draws():
    assert draws.digests() == GOLDEN


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_golden_draws_on_any_number_of_threads(threads):
    own = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run([sys.executable, draws.__file__, str(threads)], env=own, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {"threads": threads, "digests": GOLDEN}


def files(out: Path) -> dict[str, Any]:
    """All that a folder of runs holds, but for how long it took."""
    found: dict[str, Any] = {}
    for path in sorted(out.rglob("*")):
        name = str(path.relative_to(out))
        if path.name == "levels.jsonl":
            records = [json.loads(line) for line in path.read_text().splitlines()]
            found[name] = [(record["files"], record["level"] | {"seconds": 0}) for record in records]
        elif path.is_file():
            found[name] = path.read_bytes()
    return found


def pool(workers: int) -> Any:
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"))


EXECUTORS = {
    "here": [nullcontext],
    "2 processes": [partial(pool, 2)],
    "2 threads": [partial(ThreadPoolExecutor, 2)],
    "more processes": [partial(pool, 1), partial(pool, 3)],
}


@pytest.mark.parametrize("kind", ["2 processes", "2 threads", pytest.param("more processes", marks=pytest.mark.long)])
def test_results_do_not_depend_on_the_number_of_workers(tmp_path, kind):
    base = replace(Experiment().scaled("smoke"), momentum=0.9)
    experiments = [replace(base, pruner=Pruner(score), seed=k) for k, score in enumerate(("magnitude", "gradient", "random"))]
    seen = []
    for make in EXECUTORS["here"] + EXECUTORS[kind]:
        out = tmp_path / str(len(seen))
        with make() as executor:
            assert executor is None or isinstance(executor, Executor)
            results = run_all(experiments, out, executor)
        seen.append(([replace(level, seconds=0.0) for levels in results.values() for level in levels], files(out)))
    assert all(found == seen[0] for found in seen[1:])
    assert len(seen[0][1]) >= 3 * 8


# ---------------------------------------------------------------- what is stored stays readable

CIFAR = PRESETS["resnet18-cifar10"]
KEYED = {
    "6f12d2c11efc966c mnist-lenet_300_100-symmetric20-magnitude-ltr-paper-91c05053/seed-0": Experiment(),
    "c74055389c976c1b cifar100-resnet18-symmetric40-magnitude-ltr-paper-14d2ee55/seed-0": PRESETS["resnet18-cifar100"],
    "b536b71c678f6222 cifar10-resnet18-asymmetric40-gradient-layer-f30-ltr-paper-513eda71/seed-7": replace(
        CIFAR, noise=Asymmetric(0.4, "cifar10"), pruner=Pruner("gradient", 0.3, "layer"), seed=7
    ),
    "ca41d1fff982a471 mnist-lenet_300_100-symmetric20-magnitude-f33.3333-oneshot-ltr-paper-45462339/seed-0": Experiment(
        pruner=Pruner(fraction=Fraction(1, 3)), one_shot=True
    ),
    "2a6a930235f802e8 mnist-lenet_300_100-asymmetric20-other-magnitude-reinit-of-ltr-paper-cc7e76a7/seed-0": Experiment(
        noise=Asymmetric(0.2, {1: 7, 7: 1}), exclude=()
    ).reinitialized(),
    "fa0ce6ce750bc18e blobs-tiny_imagenet-resnet101-symmetric20-magnitude-ltr-smoke-b621c969/seed-0": PRESETS[
        "resnet101-tiny-imagenet"
    ].scaled("smoke"),
    "66a5e2fc32b2fa5b cifar10-resnet18-symmetric20-magnitude-f36-bfloat16-ltr-quarter-0b2c23b7/seed-0": CIFAR.scaled("quarter"),
}


@pytest.mark.parametrize("known", KEYED)
def test_golden_keys_and_folders(known):
    assert f"{KEYED[known].key[:16]} {KEYED[known].folder}" == known


def test_golden_files(tmp_path):
    """Those of a folder that hold nothing that was trained: random scores, and weights before the first step."""
    experiment = Experiment(pruner=Pruner("random", 0.3), seed=5).scaled("smoke")
    levels = list(run(experiment, tmp_path))
    folder = tmp_path / experiment.folder
    assert {path.name: hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in folder.iterdir()} | {
        "levels.jsonl": [level.remaining for level in levels]
    } == {
        "config.json": "f6f688a5ec471e64",
        "00.mask.safetensors": "4bbac4470df41211",
        "01.mask.safetensors": "fdd313db1d784ef3",
        "02.mask.safetensors": "6af1233ccd067b6f",
        "start.safetensors": "9c819325b7eb30a8",
        "lock": hashlib.sha256().hexdigest()[:16],
        "levels.jsonl": [5040, 3528, 2469],
        **dict.fromkeys((f"{level:02d}.weights.safetensors" for level in range(3)), ANY),
    }


# ---------------------------------------------------------------- other seeds, other draws

N = 20_000


def per_seed(draw: Callable[..., torch.Tensor], *arguments: Any, **named: Any) -> Callable[[int], torch.Tensor]:
    return lambda seed: draw(*arguments, seed=seed, **named).detach()


def flips(kind: str, seed: int) -> torch.Tensor:
    """By how much labels that are drawn have moved, or else which have moved."""
    moved = (draws.labels(kind, seed, N) - torch.arange(N)) % 10
    return moved if kind == "uniform" else moved != 0


STREAMS = {
    **{f"labels, {kind}": lambda seed, kind=kind: flips(kind, seed) for kind in ("uniform", "pairflip", "asymmetric")},
    **{f"order of epoch {k}": lambda seed, k=k: draws.order(seed, k, N).argsort() for k in (0, 1)},
    **{
        f"augmentation {t} of epoch {e}": lambda seed, t=t, e=e: draws.augmentation(seed, t, e, N // 4).flatten()
        for t, e in ((0, 0), (0, 1), (1, 0))
    },
    **{f"score of {name}": per_seed(draws.score, name=name, n=N) for name in ("fc1.weight", "fc2.weight", "fc10.weight")},
    **{f"initial weights of {name}": per_seed(draws.initial, name=name, n=N) for name in ("fc1", "fc2")},
    **{f"direction of {name}": per_seed(draws.direction, name=name, n=N) for name in ("fc1", "fc2")},
}
SEEDS = (0, 1, 2, 10, 2**32, 2**64)


def centred(values: np.ndarray) -> np.ndarray:
    """Without the mean of each class: which class flips is no accident."""
    by_class = values.reshape(len(values), -1, 10)
    return (by_class - by_class.mean(axis=1, keepdims=True)).reshape(values.shape)


def most_correlated(streams: np.ndarray) -> tuple[float, int, int]:
    """The largest correlation of one stream, the sizes of one, or one a step later, with another; in standard errors."""
    streams = centred(streams)
    seen = np.concatenate([streams, centred(np.abs(streams)), np.roll(streams, 1, axis=1)])
    correlation = np.abs(np.corrcoef(seen)) * streams.shape[1] ** 0.5
    owner = np.arange(len(seen)) % len(streams)
    correlation[owner[:, None] == owner] = 0.0
    i, j = np.unravel_index(correlation.argmax(), correlation.shape)
    return float(correlation[i, j]), int(owner[i]), int(owner[j])


def test_draws_of_other_seeds_names_and_purposes_are_independent():
    """Of 31,000 pairs chance takes one beyond 5.5 standard errors in a thousand times."""
    named = {(what, seed): draw(seed).double().numpy() for (what, draw), seed in itertools.product(STREAMS.items(), SEEDS)}
    worst, i, j = most_correlated(np.stack(list(named.values())))
    assert worst < 5.5, (list(named)[i], list(named)[j])


def test_a_little_dependence_would_be_found():
    independent = np.stack([draws.initial(seed, n=N).detach().double().numpy() for seed in range(4)])
    assert most_correlated(independent)[0] < 5.5
    for dependent in (
        independent[0] + 0.1 * independent[1],
        independent[2] * (1 + 0.3 * np.abs(independent[1])),
        independent[3] + 0.1 * np.roll(independent[1], 1),
    ):
        assert most_correlated(np.stack([dependent, independent[1]]))[0] > 5.5


# ---------------------------------------------------------------- no global generator


def codes(value: Any) -> dict[str, CodeType]:
    """What can run of a class or function: its code, or that of everything that the class itself defines."""
    if inspect.isclass(value):
        members = {name: getattr(part, "__func__", getattr(part, "fget", part)) for name, part in vars(value).items()}
    else:
        members = {"": value}
    unwrapped = {name: inspect.unwrap(member) for name, member in members.items() if callable(member)}
    found = {name: member.__code__ for name, member in unwrapped.items() if inspect.isfunction(member)}
    own = {name: code for name, code in found.items() if "sparsedd" in code.co_filename}
    return {name: code for name, code in own.items() if not name.startswith("_") or name.endswith("__")}


def test_every_public_module_is_looked_at():
    there = {
        path.stem for path in Path(sparsedd.__file__).parent.iterdir() if path.suffix == ".py" or (path / "x").parent.is_dir()
    }
    assert {name for name in there if not name.startswith("_")} - {"py", "cli", "report"} == {*MODULES}


def test_every_public_callable_has_a_call():
    assert set(PUBLIC) == set(CALLS)


@pytest.fixture(scope="module")
def called(tmp_path_factory):
    """Which calls have changed a global generator, and all code that has run."""
    ran: set[CodeType] = set()
    changed = []
    with pytest.MonkeyPatch.context() as patch:
        for call in dict.fromkeys(CALLS.values()):
            out = tmp_path_factory.mktemp(call.__name__)
            patch.setenv("SPARSEDD_DATA", str(out))
            patch.setattr("torchvision.datasets.MNIST.download", lambda self: (_ for _ in ()).throw(OSError("no network")))
            random.seed(1), np.random.seed(2), torch.manual_seed(3)
            before = generators()
            sys.setprofile(lambda frame, event, value: ran.add(frame.f_code))
            try:
                call(out)
            finally:
                sys.setprofile(None)
            if generators() != before:
                changed.append(call.__name__)
    return changed, ran


@pytest.mark.filterwarnings("default")
def test_no_public_call_changes_a_global_generator(called):
    assert called[0] == []


def test_the_calls_leave_out_nothing_that_is_public(called):
    every = {f"{name}.{part}": code for name, value in PUBLIC.items() for part, code in codes(value).items()}
    assert {name for name, code in every.items() if code not in called[1]} == set()


def test_the_generators_are_watched(called):
    for draw in (random.random, np.random.rand, partial(torch.rand, 1)):
        before = generators()
        draw()
        assert generators() != before


def test_every_embedded_data_set_is_the_same_twice_whatever_the_global_seed():
    for name in (name for name in DATASETS if name == "digits" or name.startswith("blobs")):
        torch.manual_seed(1)
        first = DATASETS[name]().train.tensors
        torch.manual_seed(2)
        assert all(map(torch.equal, first, DATASETS[name]().train.tensors))
