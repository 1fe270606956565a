"""Unstructured pruning for PyTorch, and sparse double descent (He et al., ICML 2022)."""

from sparsedd import distributed, metrics, noise, phases, scores
from sparsedd._enforcement import Enforcement
from sparsedd._mask import Mask
from sparsedd._noisy_labels import NoisyLabels
from sparsedd._parameters import prunable
from sparsedd._pruner import Pruner
from sparsedd._rewinder import Rewinder

__version__ = "0.1.0"
__all__ = [
    "Enforcement",
    "Mask",
    "NoisyLabels",
    "Pruner",
    "Rewinder",
    "distributed",
    "metrics",
    "noise",
    "phases",
    "prunable",
    "scores",
]
