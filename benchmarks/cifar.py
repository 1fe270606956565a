"""Images a second: ResNet-18 trained on images of CIFAR-10's shape, flipped and shifted, by sparsedd and by a plain loop.

python benchmarks/cifar.py            on a GPU, where there is one: about three minutes; else a net of a quarter of the width

The plain loop loads single images with torchvision's transforms in worker processes, as many as there are cores. Here the data
set lies on the device and a batch is flipped and shifted at once; the other rows add one thing each. Wall-clock time, since
workers and a GPU work beside the process.
"""

import os
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

import torch
from bench import report
from PIL import Image
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from sparsedd import Mask, data, models
from sparsedd.data import Data
from sparsedd.experiments import PRESETS
from sparsedd.experiments._arithmetic import arithmetic
from sparsedd.experiments._task import Task
from sparsedd.experiments._train import sgd

GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if GPU else "cpu")
IMAGES, WIDTH, ROUNDS = (50_000, 1.0, 3) if GPU else (1_000, 0.25, 3)
BATCH = 128


class Images(Dataset[tuple[Tensor, int]]):
    """As torchvision's CIFAR-10: each item is made into a picture, transformed, and made into a tensor."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.images = torch.randint(0, 256, (IMAGES, 32, 32, 3), generator=generator, dtype=torch.uint8).numpy()
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize((0.491, 0.482, 0.447), (0.247, 0.243, 0.262)),
            ]
        )

    def __len__(self) -> int:
        return IMAGES

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), index % 10


def plain() -> Callable[[], None]:
    model = models.resnet18(width=WIDTH).to(DEVICE)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, 0.9, weight_decay=1e-4)
    loader = DataLoader(Images(), BATCH, shuffle=True, num_workers=os.cpu_count() or 1, pin_memory=GPU, persistent_workers=True)

    def epoch() -> None:
        with arithmetic("float32", DEVICE):
            for inputs, labels in loader:
                optimizer.zero_grad()
                cross_entropy(model(inputs.to(DEVICE, non_blocking=True)), labels.to(DEVICE, non_blocking=True)).backward()
                optimizer.step()

    return epoch


def ours(**changes: object) -> Callable[[], None]:
    experiment = replace(PRESETS["resnet18-cifar10"], width=WIDTH, epochs=1, rewind_step=0, **changes)  # type: ignore[arg-type]
    task = Task(experiment, DEVICE, like_cifar().to(DEVICE))
    execution = task.execution(task.original, Mask.dense(task.original, task.names))
    optimizer = sgd(execution.model, experiment)
    execution.model.train()

    def epoch() -> None:
        with task.arithmetic():
            for inputs, labels in execution.epoch(0, 0):
                execution.backward(inputs, labels)
                optimizer.step()

    return epoch


def like_cifar() -> Data:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(IMAGES, 3, 32, 32, generator=generator)
    labels = torch.arange(IMAGES) % 10
    samples = torch.utils.data.TensorDataset(inputs, labels)
    return data.Data(samples, torch.utils.data.TensorDataset(inputs[:100], labels[:100]), 10)


def rate(epoch: Callable[[], None]) -> float:
    """Images a second, the median of a few epochs after one that warms up."""
    found = []
    for _ in range(1 + ROUNDS):
        began = time.perf_counter()
        epoch()
        if GPU:
            torch.cuda.synchronize()
        found.append(IMAGES / (time.perf_counter() - began))
    return statistics.median(found[1:])


WAYS: dict[str, Callable[[], Callable[[], None]]] = {
    "plain loop, DataLoader": plain,
    "sparsedd": ours,
    "sparsedd, tf32": lambda: ours(precision="tf32"),
    "sparsedd, bfloat16": lambda: ours(precision="bfloat16"),
    "sparsedd, bfloat16, compiled": lambda: ours(precision="bfloat16", compiled=True),
}
ON_CPU = ("plain loop, DataLoader", "sparsedd", "sparsedd, bfloat16")


def measure(ways: Iterable[str]) -> list[dict[str, object]]:
    """The table, a row for each way; the first is what the others are compared with."""
    rates = {way: rate(WAYS[way]()) for way in ways}
    first = next(iter(rates.values()))
    return [{"way": way, "images a second": round(r), "over the first": round(r / first, 2)} for way, r in rates.items()]


if __name__ == "__main__":
    report("cifar", "python benchmarks/cifar.py", measure(WAYS if GPU else ON_CPU))
