"""StepGraph: a training step that a GPU records once, and then repeats in one launch."""

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.optim import Optimizer

Inputs: TypeAlias = tuple[Tensor, ...]


class StepGraph:
    """A training step as CUDA graphs: one for each shape of a batch, and each learning rate, which kernels take as a number.

    The first step of a kind runs as it is, while optimizer and libraries make what they need; the second is recorded; then,
    and from there on, it is repeated. Batches are copied to where the recording has read its own. Without CUDA the same
    code runs, and nothing is recorded.

    The numbers are those of the step as it is. It must not wait for the device, nor decide anything by what tensors hold.

    Parameters
    ----------
    step
        Trains on the tensors of a batch.
    optimizer
        Whose learning rates it reads.
    """

    def __init__(self, step: Callable[..., None], optimizer: Optimizer) -> None:
        self._step, self._optimizer = step, optimizer
        self._batches: dict[Any, Inputs] = {}
        self._graphs: dict[Any, torch.cuda.CUDAGraph | None] = {}
        self._stream: torch.cuda.Stream | None = None

    def __call__(self, *batch: Tensor) -> None:
        """Take a step."""
        shapes = tuple(tensor.shape for tensor in batch)
        if shapes not in self._batches:
            self._batches[shapes] = tuple(torch.empty_like(tensor, memory_format=torch.contiguous_format) for tensor in batch)
        held = self._batches[shapes]
        for own, given in zip(held, batch, strict=True):
            own.copy_(given)
        if held[0].device.type != "cuda":
            self._step(*held)
            return
        kind = shapes, *(group["lr"] for group in self._optimizer.param_groups)
        if kind not in self._graphs:
            self._graphs[kind] = None
            self._warm_up(held)
            return
        graph = self._graphs[kind] = self._graphs[kind] or self._record(held)
        graph.replay()

    def _warm_up(self, held: Inputs) -> None:
        """Take a step where it will be recorded: autograd keeps to the stream that it has seen first."""
        with torch.cuda.device(held[0].device):
            now = torch.cuda.current_stream()
            self._stream = self._stream or torch.cuda.Stream()
            self._stream.wait_stream(now)
            with torch.cuda.stream(self._stream):
                self._step(*held)
            now.wait_stream(self._stream)

    def _record(self, held: Inputs) -> torch.cuda.CUDAGraph:
        """Record a step, which takes none."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(held[0].device), torch.cuda.graph(graph, stream=self._stream):
            self._step(*held)
        return graph
