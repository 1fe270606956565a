"""Execution: a net, its data and its backward pass as they run fastest."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TypeAlias

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
WORTHWHILE = 0.9  # the share of live inputs below which they are copied out

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
        self._bfloat16 = experiment.precision == "bfloat16"
        perceptron = Perceptron.of(self.model, torch.bfloat16 if self._bfloat16 else None)
        if perceptron is not None:
            self.net, self.backward, self.loss = perceptron, perceptron.backward, perceptron.loss
        else:
            if on_gpu:
                self.model.to(memory_format=torch.channels_last)
            self.net = torch.compile(self.model) if experiment.compiled else self.model  # type: ignore[assignment]
            self.backward, self.loss = self._autograd, cross_entropy
        first = next((m for m in self.model.modules() if isinstance(m, nn.Linear | sparse.SparseLinear)), None)
        if perceptron is not None and isinstance(first, sparse.SparseLinear):
            live = first.live()
            if not batches.augmentation and len(live) < WORTHWHILE * first.shape[1]:
                first.narrow_(live)
                self.batches = batches.narrowed(live)
                train, test = ((inputs.flatten(1).index_select(1, live), labels) for inputs, labels in (train, test))
            size = EVALUATION_BATCH if first.density > SPARSE else 5 * EVALUATION_BATCH
            self.evaluated = [[(_feature_major(x), y) for x, y in in_order(part, size)] for part in (train, test)]
        else:
            self.evaluated = [list(in_order(part)) for part in (train, test)]

    def autocast(self) -> AbstractContextManager[object]:
        """The block in which the model is called."""
        return torch.autocast(self.batches.targets.device.type, torch.bfloat16) if self._bfloat16 else nullcontext()

    def give_back_(self, model: nn.Module) -> None:
        """Copy the weights as they are now to the model that this was made of."""
        sparse.expand_(model, self.model, self.mask)

    def _autograd(self, inputs: Tensor, labels: Tensor) -> None:
        self.model.zero_grad()
        with self.autocast():
            loss = cross_entropy(self.net(inputs), labels)
        loss.backward()


@contextmanager
def tensor_cores(precision: str) -> Iterator[None]:
    """A block in which CUDA may round the factors of float32 products to TF32, where the precision says so."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    if precision == "tf32":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def _feature_major(inputs: Tensor) -> Tensor:
    """The same inputs (b, features), each feature's together in memory."""
    return inputs.flatten(1).t().contiguous().t()
