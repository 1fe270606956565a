"""One epoch of LeNet-300-100 on data of MNIST's size, with its evaluation on all training and test images.

python benchmarks/epoch.py            takes about three minutes

The peers load single images through torchvision's transforms, as the paper's authors and OpenLTH do; with no worker processes
here, so that all processor time is counted. The limit is the arithmetic alone: the matrix products of an epoch.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

import torch
from bench import in_turns, ratios, report
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from sparsedd import Mask, data, metrics, models
from sparsedd.data import Data
from sparsedd.experiments import Experiment
from sparsedd.experiments._task import Task
from sparsedd.experiments._train import sgd, train

TRAIN, TEST = 60_000, 10_000


def images(n: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(n)
    return (
        torch.randint(0, 256, (n, 28, 28), generator=generator, dtype=torch.uint8),
        torch.randint(0, 10, (n,), generator=generator),
    )


class Images(Dataset[tuple[Tensor, int]]):
    """As torchvision's MNIST: each item is made into a picture, and that into a tensor."""

    def __init__(self, n: int) -> None:
        self.images, self.labels = images(n)
        self.transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index].numpy())), int(self.labels[index])


def with_loader() -> Callable[[], object]:
    train, test = Images(TRAIN), Images(TEST)
    model = models.lenet_300_100()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    shuffled = DataLoader(train, 128, shuffle=True, generator=torch.Generator().manual_seed(0))

    def epoch() -> None:
        steps(model, optimizer, shuffled)
        for part in (train, test):
            metrics.evaluate(model, DataLoader(part, 128))

    return epoch


def in_memory() -> Callable[[], object]:
    """The plain loop over tensors that are indexed by batch."""
    (x, y), test = ((images[:, None] / 255, labels) for images, labels in (images(TRAIN), images(TEST)))
    model = models.lenet_300_100()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    def epoch() -> None:
        order = torch.randperm(TRAIN, generator=torch.Generator().manual_seed(0)).split(128)
        steps(model, optimizer, ((x[batch], y[batch]) for batch in order))
        for inputs, labels in ((x, y), test):
            metrics.evaluate(model, zip(inputs.split(500), labels.split(500), strict=True))

    return epoch


def steps(model: nn.Module, optimizer: torch.optim.Optimizer, batches: object) -> None:
    model.train()
    for inputs, labels in batches:  # type: ignore[attr-defined]
        optimizer.zero_grad()
        cross_entropy(model(inputs), labels).backward()
        optimizer.step()


def like_mnist() -> Data:
    """Random images of MNIST's shape and number."""
    return data._data.normalize(*(t[:, None] if t.dim() == 3 else t for n in (TRAIN, TEST) for t in images(n)), 10, unit=255.0)


def ours(precision: str) -> Callable[[], object]:
    task = Task(replace(Experiment(), epochs=1, precision=precision), "cpu", like_mnist())
    model = deepcopy(task.original)
    execution = task.execution(model, Mask.dense(model, task.names))
    optimizer = sgd(execution.model, task.experiment)
    return lambda: train(execution, optimizer, start=0, epochs=1, rate=task.rate)


def products(dtype: torch.dtype) -> Callable[[], object]:
    """Only the matrix products: forward, both backward, and forward again for the evaluation."""
    sizes, b = [(784, 300), (300, 100), (100, 10)], 128
    layers = [tuple(torch.randn(shape).to(dtype) for shape in ((o, i), (i, b), (o, b))) for i, o in sizes]

    def epoch() -> None:
        for _ in range(TRAIN // b):
            for k, (w, x, g) in enumerate(layers):
                torch.mm(w, x)
                torch.mm(g, x.t())
                if k:
                    torch.mm(w.t(), g)
        for _ in range((TRAIN + TEST) // b):
            for w, x, _ in layers:
                torch.mm(w, x)

    return epoch


if __name__ == "__main__":
    torch.set_num_threads(1)
    candidates = {
        "DataLoader of images": with_loader(),
        "tensors, the plain loop": in_memory(),
        "sparsedd": ours("float32"),
        "sparsedd, bfloat16": ours("bfloat16"),
        "products alone": products(torch.float32),
        "products alone, bfloat16": products(torch.bfloat16),
    }
    seconds = in_turns(candidates, rounds=5)
    over = ratios(seconds, "sparsedd")
    rows = [
        {"way": way, "CPU seconds": round(sorted(t)[len(t) // 2], 2), "over sparsedd": round(over[way], 2)}
        for way, t in seconds.items()
    ]
    report("epoch", "python benchmarks/epoch.py", rows)
