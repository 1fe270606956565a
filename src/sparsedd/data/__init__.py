"""Data sets that fit in memory: training and test images with clean labels, as tensors."""

from sparsedd.data._blobs import blobs
from sparsedd.data._data import Data
from sparsedd.data._digits import digits
from sparsedd.data._mnist import mnist

__all__ = ["Data", "blobs", "digits", "mnist"]
