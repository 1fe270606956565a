"""Unstructured pruning for PyTorch, and sparse double descent (He et al., ICML 2022)."""

from importlib import import_module
from types import ModuleType

from sparsedd import convert, distributed, fleet, landscape, metrics, noise, phases, scores, sparse, sweeps
from sparsedd._enforcement import Enforcement
from sparsedd._mask import Mask
from sparsedd._noisy_labels import NoisyLabels
from sparsedd._prunable import prunable
from sparsedd._pruner import Pruner
from sparsedd._rewinder import Rewinder
from sparsedd.sweeps import Sweep

_LAZY = ("data", "experiments", "models", "plotting")  # above the core: imported when first asked for

__version__ = "0.1.0"
__all__ = [
    "Enforcement",
    "Mask",
    "NoisyLabels",
    "Pruner",
    "Rewinder",
    "Sweep",
    "convert",
    "distributed",
    "fleet",
    "landscape",
    "metrics",
    "noise",
    "phases",
    "prunable",
    "scores",
    "sparse",
    "sweeps",
]


def __getattr__(name: str) -> ModuleType:
    if name in _LAZY:
        return import_module(f"sparsedd.{name}")
    raise AttributeError(f"module 'sparsedd' has no attribute {name!r}")
