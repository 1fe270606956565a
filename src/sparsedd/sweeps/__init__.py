"""Sweeps: train, prune, rewind and retrain any model in a loop of one's own, in a folder that resumes."""

from sparsedd.sweeps._level import Level
from sparsedd.sweeps._record import Curves, Record
from sparsedd.sweeps._retraining import FINETUNING, LR_REWINDING, LTR, METHODS, SCRATCH, Retraining, Schedule, multistep
from sparsedd.sweeps._stored import StoredSweep
from sparsedd.sweeps._sweep import Sweep
from sparsedd.sweeps._workers import workers

__all__ = [
    "FINETUNING",
    "LR_REWINDING",
    "LTR",
    "METHODS",
    "SCRATCH",
    "Curves",
    "Level",
    "Record",
    "Retraining",
    "Schedule",
    "StoredSweep",
    "Sweep",
    "multistep",
    "workers",
]
