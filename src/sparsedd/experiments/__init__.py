"""Experiments: the prune-retrain sweep of the paper as a value, a generator of finished levels, and a folder that resumes."""

from sparsedd.experiments._claim import Claim
from sparsedd.experiments._experiment import Experiment
from sparsedd.experiments._figure import Figure
from sparsedd.experiments._figures import FIGURES
from sparsedd.experiments._level import Curves, Level
from sparsedd.experiments._lines import Line, directions, interpolation
from sparsedd.experiments._panel import Panel
from sparsedd.experiments._presets import PRESETS
from sparsedd.experiments._redense import Redense, redense, redense_weights
from sparsedd.experiments._repair import repair
from sparsedd.experiments._reproduce import reproduce
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
from sparsedd.experiments._run_fleet import run_fleet
from sparsedd.experiments._store import Store
from sparsedd.experiments._tables import Tables, write_levels
from sparsedd.experiments._verify import Finding, verify

__all__ = [
    "FIGURES",
    "FINETUNING",
    "LR_REWINDING",
    "LTR",
    "METHODS",
    "PRESETS",
    "SCRATCH",
    "Claim",
    "Curves",
    "Experiment",
    "Figure",
    "Finding",
    "Level",
    "Line",
    "Panel",
    "Redense",
    "Retraining",
    "Schedule",
    "Store",
    "Tables",
    "directions",
    "interpolation",
    "multistep",
    "redense",
    "redense_weights",
    "reinit",
    "repair",
    "reproduce",
    "run",
    "run_all",
    "run_fleet",
    "verify",
    "work",
    "write_levels",
]
