"""What enforcing a mask costs a training step: ours, and how the others do it.

python benchmarks/step.py            takes about three minutes

Each way trains the same net with plain SGD and 80 % of its weights pruned; its time is a ratio to the same loop without
pruning. ResNet-18's step takes seconds, and enforcement does not depend on the batch, so what it adds is measured at a batch of
2 and put over the step at 128.
"""

import statistics
from collections.abc import Callable

import torch
from bench import extra_memory, in_turns, ratios, report
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import parametrize, prune

from sparsedd import Mask, Pruner, models


def lenet() -> nn.Module:
    return models.lenet_300_100()


def mlp() -> nn.Module:
    layers = [nn.Linear(2048, 2048) for _ in range(3)]
    return nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])


def resnet() -> nn.Module:
    return models.resnet18()


SHAPES = {lenet: (1, 28, 28), mlp: (2048,), resnet: (3, 32, 32)}

Step = Callable[[], object]


def training(net: Callable[[], nn.Module], batch: int, way: str) -> Step:
    """One step of the net, pruned the way it is called."""
    model = net()
    mask = Pruner().prune_to(model, 0.8)
    model = WAYS[way](model, mask)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    if way == "sparsedd":
        mask.enforce(model, optimizer)
    inputs = torch.randn(batch, *SHAPES[net], generator=torch.Generator().manual_seed(0))
    targets = torch.arange(batch) % 10

    def step() -> None:
        optimizer.zero_grad()
        cross_entropy(model(inputs), targets).backward()
        optimizer.step()

    return step


def with_torch_prune(model: nn.Module, mask: Mask) -> nn.Module:
    for name, keep in mask.items():
        prune.custom_from_mask(model.get_submodule(name.removesuffix(".weight")), "weight", keep)
    return model


class Times(nn.Module):
    def __init__(self, keep: Tensor) -> None:
        super().__init__()
        self.register_buffer("keep", keep.float())

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.keep  # type: ignore[no-any-return]


def with_parametrize(model: nn.Module, mask: Mask) -> nn.Module:
    for name, keep in mask.items():
        parametrize.register_parametrization(model.get_submodule(name.removesuffix(".weight")), "weight", Times(keep))
    return model


class BeforeEachForward(nn.Module):
    """The way of OpenLTH and of the paper's authors: a wrapper multiplies the weights by the mask before each forward pass."""

    def __init__(self, model: nn.Module, mask: Mask) -> None:
        super().__init__()
        self.model = model
        self.pairs = [(model.get_parameter(name), keep.float()) for name, keep in mask.items()]

    def forward(self, inputs: Tensor) -> Tensor:
        for weight, keep in self.pairs:
            weight.data *= keep
        return self.model(inputs)  # type: ignore[no-any-return]


WAYS: dict[str, Callable[[nn.Module, Mask], nn.Module]] = {
    "no pruning": lambda model, mask: model,
    "sparsedd": lambda model, mask: model,
    "torch.nn.utils.prune": with_torch_prune,
    "parametrize": with_parametrize,
    "wrapper (OpenLTH)": BeforeEachForward,
}


def over_dense(net: Callable[[], nn.Module], batch: int, rounds: int, times: int) -> dict[str, float]:
    """The step's time over that of the net without pruning."""
    return ratios(in_turns({way: training(net, batch, way) for way in WAYS}, rounds=rounds, times=times), "no pruning")


def over_dense_resnet() -> dict[str, float]:
    seconds = in_turns({way: training(resnet, 2, way) for way in WAYS}, rounds=25)
    whole = statistics.median(in_turns({"": training(resnet, 128, "no pruning")}, rounds=2)[""])
    plain = seconds["no pruning"]
    return {way: 1 + statistics.median(a - b for a, b in zip(t, plain, strict=True)) / whole for way, t in seconds.items()}


def two_steps(way: str) -> Step:
    """Building the three layers of 2048 and training them, but for the net itself."""

    def operation() -> None:
        step = training(mlp, 128, way)
        step()
        step()

    return operation


if __name__ == "__main__":
    torch.set_num_threads(1)
    columns = {
        "LeNet-300-100": over_dense(lenet, 128, rounds=60, times=20),
        "3 × 2048": over_dense(mlp, 128, rounds=40, times=1),
        "ResNet-18": over_dense_resnet(),
    }
    memory = {way: extra_memory(two_steps, way) for way in WAYS}
    rows = [
        {"way": way}
        | {net: round(column[way], 4) for net, column in columns.items()}
        | {"MB more than no pruning, 3 × 2048": round((memory[way] - memory["no pruning"]) / 1e6)}
        for way in WAYS
    ]
    report("step", "python benchmarks/step.py", rows)
