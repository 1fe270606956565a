"""The paper's models, initialised from a seed alone: Kaiming-normal weights and zero biases (He et al. 2022, Appendix B)."""

from sparsedd.models._initialize import initialize_
from sparsedd.models._lenet import lenet_300_100

__all__ = ["initialize_", "lenet_300_100"]
