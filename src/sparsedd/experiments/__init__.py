"""Experiments: the prune-retrain sweep of the paper as a value, a generator of finished levels, and a folder that resumes."""

from sparsedd.experiments._experiment import (
    FINETUNING,
    LR_REWINDING,
    LTR,
    PRESETS,
    SCRATCH,
    Experiment,
    Retraining,
)
from sparsedd.experiments._level import Curves, Level
from sparsedd.experiments._run import run
from sparsedd.experiments._run_all import run_all, work
from sparsedd.experiments._store import Store
from sparsedd.experiments._tables import write_levels

__all__ = [
    "FINETUNING",
    "LR_REWINDING",
    "LTR",
    "PRESETS",
    "SCRATCH",
    "Curves",
    "Experiment",
    "Level",
    "Retraining",
    "Store",
    "run",
    "run_all",
    "work",
    "write_levels",
]
