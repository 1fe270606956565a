"""Experiments: the prune-retrain sweep of the paper as a value, a generator of finished levels, and a folder that resumes."""

from sparsedd.experiments._experiment import Experiment
from sparsedd.experiments._figures._claim import Claim, Effect, judge
from sparsedd.experiments._figures._figure import Figure, reproduce
from sparsedd.experiments._figures._measures import Measures
from sparsedd.experiments._figures._panel import Drawing, Panel
from sparsedd.experiments._figures._paper import FIGURES, PRESETS
from sparsedd.experiments._redense import Line, Redense, directions, interpolation, redense, redense_weights
from sparsedd.experiments._repair import repair
from sparsedd.experiments._run import reinit, run
from sparsedd.experiments._run_all import run_all, work
from sparsedd.experiments._run_fleet import run_fleet
from sparsedd.experiments._store import Store
from sparsedd.experiments._tables import Tables, write_levels
from sparsedd.experiments._verify import verify

# What sweeps of any model have, too, under the names that it has there.
from sparsedd.sweeps import FINETUNING as FINETUNING
from sparsedd.sweeps import LR_REWINDING as LR_REWINDING
from sparsedd.sweeps import LTR as LTR
from sparsedd.sweeps import METHODS as METHODS
from sparsedd.sweeps import SCRATCH as SCRATCH
from sparsedd.sweeps import Curves as Curves
from sparsedd.sweeps import Record as Record
from sparsedd.sweeps import Retraining as Retraining
from sparsedd.sweeps import Schedule as Schedule
from sparsedd.sweeps import multistep as multistep
from sparsedd.sweeps._verify import Finding

__all__ = [
    "FIGURES",
    "PRESETS",
    "Claim",
    "Drawing",
    "Effect",
    "Experiment",
    "Figure",
    "Finding",
    "Line",
    "Measures",
    "Panel",
    "Redense",
    "Store",
    "Tables",
    "directions",
    "interpolation",
    "judge",
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
