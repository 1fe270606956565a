"""The paper's models, initialised from a seed alone: Kaiming-normal weights and zero biases (He et al. 2022, Appendix B)."""

from sparsedd.models._initialize import initialize_
from sparsedd.models._lenet import lenet_300_100
from sparsedd.models._resnet import resnet18, resnet101
from sparsedd.models._vgg import vgg16

__all__ = ["initialize_", "lenet_300_100", "resnet18", "resnet101", "vgg16"]
