"""Execution: a net, its data and its backward pass as they run fastest."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from sparsedd import sparse
from sparsedd._mask import Mask
from sparsedd._perceptron import Perceptron
from sparsedd.data import Batches
from sparsedd.experiments._experiment import Experiment

EVALUATION_BATCH = 200  # a small net's activations stay in the processor's cache
SPARSE = 0.06  # the density below which larger batches are evaluated faster: an activation is hardly used twice

Samples: TypeAlias = tuple[Tensor, Tensor]


def in_order(samples: Samples, size: int = EVALUATION_BATCH) -> Iterator[Samples]:
    """The samples in order, in batches."""
    return zip(*(tensor.split(size) for tensor in samples), strict=True)


class Execution:
    """What trains in a model's place, and gives the same numbers up to float rounding.

    Linear layers of low density are executed in sparse form. A perceptron's gradients are written out; when its first layer is
    sparse, the inputs that no weight looks at are left out, and the others are laid out as it takes them.

    Attributes
    ----------
    model
        The net to train, a copy where anything about it is different.
    rest
        The mask of those of its weights that are dense still; None if there are none.
    net
        What is called for its logits.
    backward
        Sets the gradients of the mean cross-entropy of a batch (inputs, labels).
    loss
        The mean cross-entropy of logits with labels.
    batches
        What it trains on.
    evaluated
        Training and test samples in batches.
    """

    net: nn.Module
    backward: Callable[[Tensor, Tensor], None]
    loss: Callable[[Tensor, Tensor], Tensor]

    def __init__(
        self, model: nn.Module, mask: Mask, experiment: Experiment, batches: Batches, train: Samples, test: Samples
    ) -> None:
        self.mask, self.batches = mask, batches
        on_gpu = batches.targets.is_cuda
        self.model, rest = sparse.compact(model, mask, below=0.0 if on_gpu else experiment.sparse_below)
        self.rest = None if rest is None or rest.density == 1 else rest
        self._precision = experiment.precision
        perceptron = Perceptron.of(self.model, torch.bfloat16 if self._precision == "bfloat16" else None)
        if perceptron is not None:
            self.net, self.backward, self.loss = perceptron, perceptron.backward, perceptron.loss
        else:
            if on_gpu:
                self.model.to(memory_format=torch.channels_last)
            self.net = torch.compile(self.model) if experiment.compiled else self.model  # type: ignore[assignment]
            self.backward, self.loss = self._autograd, cross_entropy
        first = next((m for m in self.model.modules() if isinstance(m, nn.Linear | sparse.SparseLinear)), None)
        if perceptron is not None and isinstance(first, sparse.SparseLinear):
            size = EVALUATION_BATCH if first.density > SPARSE else 5 * EVALUATION_BATCH
            if not batches.augmentation and len(live := first.narrow_()) < train[0][0].numel():
                self.batches = batches.narrowed(live)
                train, test = ((inputs.flatten(1).index_select(1, live), labels) for inputs, labels in (train, test))
            self.evaluated = [[(_feature_major(x), y) for x, y in in_order(part, size)] for part in (train, test)]
        else:
            self.evaluated = [list(in_order(part)) for part in (train, test)]

    def autocast(self) -> torch.autocast:
        """The block in which the model is called."""
        return autocast(self._precision, self.batches.targets.device)

    def give_back_(self, model: nn.Module) -> None:
        """Copy the weights as they are now to the model that this was made of."""
        sparse.expand_(model, self.model, self.mask)

    def _autograd(self, inputs: Tensor, labels: Tensor) -> None:
        self.model.zero_grad()
        with self.autocast():
            loss = cross_entropy(self.net(inputs), labels)
        loss.backward()


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """A block in which products are in bfloat16, where the precision says so."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


@contextmanager
def tensor_cores(precision: str, device: torch.device) -> Iterator[None]:
    """A block in which CUDA rounds the factors of float32 products to TF32, or does not, as the precision says."""
    cudnn: Any = torch.backends.cudnn
    backends = (torch.backends.cuda.matmul, cudnn.conv) if device.type == "cuda" else ()
    before = [backend.fp32_precision for backend in backends]
    for backend in backends:
        backend.fp32_precision = "tf32" if precision == "tf32" else "ieee"
    try:
        yield
    finally:
        for backend, was in zip(backends, before, strict=True):
            backend.fp32_precision = was


def _feature_major(inputs: Tensor) -> Tensor:
    """The same inputs (b, features), each feature's together in memory."""
    return inputs.flatten(1).t().contiguous().t()
