"""Experiments: the prune-retrain sweep of the paper as a value, a generator of finished levels, and a folder that resumes."""

from sparsedd.experiments._experiment import Experiment
from sparsedd.experiments._level import Curves, Level
from sparsedd.experiments._lines import Line, directions, interpolation
from sparsedd.experiments._presets import PRESETS
from sparsedd.experiments._redense import Redense, redense, redense_weights
from sparsedd.experiments._retraining import (
    FINETUNING,
    LR_REWINDING,
    LTR,
    METHODS,
    SCRATCH,
    Retraining,
    Schedule,
    multistep,
)
from sparsedd.experiments._run import reinit, run
from sparsedd.experiments._run_all import run_all, work
from sparsedd.experiments._store import Store
from sparsedd.experiments._tables import write_levels

__all__ = [
    "FINETUNING",
    "LR_REWINDING",
    "LTR",
    "METHODS",
    "PRESETS",
    "SCRATCH",
    "Curves",
    "Experiment",
    "Level",
    "Line",
    "Redense",
    "Retraining",
    "Schedule",
    "Store",
    "directions",
    "interpolation",
    "multistep",
    "redense",
    "redense_weights",
    "reinit",
    "run",
    "run_all",
    "work",
    "write_levels",
]
