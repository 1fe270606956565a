"""Scales: the same experiment, smaller."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, Literal, TypeAlias

Scale: TypeAlias = Literal["smoke", "mini", "small", "paper"]
SCALES = ("smoke", "mini", "small", "paper")

# By data set: the share of the epochs, and what else becomes smaller.
SMALL: dict[str, tuple[float, dict[str, Any]]] = {
    "mnist": (2 / 5, {"train_size": 10_000, "levels": 36, "evaluate_every": 4}),
    "cifar10": (3 / 4, {"train_size": 10_000, "width": 0.5}),
    "cifar100": (3 / 4, {"train_size": 10_000, "width": 0.5}),
    "tiny_imagenet": (1 / 2, {"train_size": 20_000, "width": 0.5}),
}
_MINI = (3 / 8, {"train_size": 2_000, "width": 1 / 8, "augmentation": (), "evaluate_every": 15})
MINI = SMALL | dict.fromkeys(("cifar10", "cifar100", "tiny_imagenet"), _MINI)
# What needs neither files nor network in the place of a data set.
SMOKE: dict[str, dict[str, Any]] = {
    "mnist": {"dataset": "digits", "train_size": 200, "width": 0.2},
    "digits": {"train_size": 200, "width": 0.2},
    "cifar10": {"dataset": "blobs-cifar10", "normalization": "dataset"},
    "cifar100": {"dataset": "blobs-cifar100", "normalization": "dataset"},
    "tiny_imagenet": {"dataset": "blobs-tiny_imagenet", "normalization": "dataset"},
}


def changes(fields: dict[str, Any], scale: Scale) -> dict[str, Any]:
    """Those of an experiment's fields that are different in another scale."""
    experiment = SimpleNamespace(**fields)
    if scale == experiment.scale:
        return {}
    if experiment.scale == "smoke" or (experiment.scale != "paper" and experiment.dataset in SMALL):
        raise ValueError(f"this is the {experiment.scale} form of an experiment: scale the original, got scale={scale!r}.")
    if scale == "smoke":
        tiny = {"train_size": 100, "width": 1 / 16} | SMOKE.get(experiment.dataset, {})
        return tiny | {
            "scale": scale,
            "epochs": 2,
            "batch_size": min(50, experiment.batch_size),
            "levels": min(3, experiment.levels),
            "milestones": tuple(1 for _ in experiment.milestones[:1]),
            "rewind_step": min(1, experiment.rewind_step),
            "warmup_epochs": min(1, experiment.warmup_epochs),
            "evaluate_every": 1,
        }
    if scale == "paper" or experiment.dataset not in SMALL:
        return {"scale": scale}
    share, fewer = (SMALL if scale == "small" else MINI)[experiment.dataset]
    steps = share * fewer["train_size"] / {"mnist": 60_000, "tiny_imagenet": 100_000}.get(experiment.dataset, 50_000)
    smaller = {
        "scale": scale,
        "epochs": max(1, round(share * experiment.epochs)),
        "milestones": tuple(round(share * epoch) for epoch in experiment.milestones),
        "rewind_step": round(steps * experiment.rewind_step),
        "warmup_epochs": round(share * experiment.warmup_epochs),
    }
    if "levels" not in fewer:  # two of the paper's levels in one
        smaller["pruner"] = replace(experiment.pruner, fraction=experiment.pruner.sparsity(2))
        smaller["levels"] = 1 + -(-(experiment.levels - 1) // 2)
    return smaller | fewer
