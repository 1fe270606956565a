"""A fleet's step as a CUDA graph: the same bits as the step as it is, whatever the batch and the rate, and a launch a step."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from devices import REAL, devices
from graphs import recorded
from test_device import DEVICE, LENET, host, net, same
from torch import nn, optim

from sparsedd import Pruner, models
from sparsedd.experiments import run_fleet
from sparsedd.experiments._step_graph import StepGraph
from sparsedd.fleet import Fleet

E = replace(LENET, momentum=0.9, batch_size=30, epochs=4, milestones=(2,), rewind_step=2)  # 4 batches, the last of 10
MEMBERS = [E, replace(E, seed=1), replace(E, pruner=Pruner("random"), seed=2)]
pretended = pytest.mark.skipif(REAL is not None, reason="a real device records its graphs itself")


def perceptron(seed):
    layers = nn.Flatten(), nn.Linear(108, 10), nn.ReLU(), nn.Linear(10, 10)
    return models.initialize_(nn.Sequential(*layers), seed=seed)


def run_levels(folder, device, **options):
    return host([list(levels.values()) for levels in run_fleet(MEMBERS, folder, device=device, **options)])


def test_without_a_gpu_it_changes_nothing(tmp_path):
    assert run_levels(tmp_path / "a", "cpu", cuda_graph=True) == run_levels(tmp_path / "b", "cpu")


def test_a_gpu_repeats_the_same_bits(tmp_path):
    with devices():
        plain = run_levels(tmp_path / "plain", DEVICE)
    with devices(), nullcontext([]) if REAL else recorded() as graphs:
        assert same(run_levels(tmp_path / "graph", DEVICE, cuda_graph=True), plain)
    if REAL:
        return  # its graphs are not counted
    kinds = 2 * 2  # shapes of a batch, and learning rates
    steps = 16 + 16 - E.rewind_step
    assert len(graphs) == kinds * E.levels
    assert sum(graph.replays for graph in graphs) == steps - kinds * E.levels  # the first of a kind runs as it is


@pretended
@pytest.mark.parametrize("make", [net, perceptron], ids=["convolutions", "perceptron"])
def test_a_step_is_one_launch_and_no_wait(make):
    """With a mask in force, and one put in its place between two steps."""

    def work(graphed):
        fleet = Fleet([make(seed).to(DEVICE) for seed in range(3)])
        optimizer = optim.SGD(fleet.parameters(), 0.1, momentum=0.9, foreach=True)
        masks = [[Pruner(fraction=f).prune(make(seed)) for seed in range(3)] for f in (0.2, 0.5)]

        def step(x, y):
            fleet.backward(x, y)
            optimizer.step()

        taken = StepGraph(step, optimizer) if graphed else step
        batches = [(torch.randn(3, 8, 3, 6, 6), torch.randint(10, (3, 8))) for _ in range(6)]
        with fleet.enforce(masks[0], optimizer) as enforcement:
            for number, (x, y) in enumerate(batches):
                x, y = x.to(DEVICE), y.to(DEVICE)
                events.clear()
                taken(x, y)
                assert not events.waits
                if graphed and number > 1:
                    assert events.launches.total() == 2, events.launches  # copies of the batch
                if number == 3:
                    enforcement.update(fleet.mask(masks[1]))
        return host(fleet.state_dict())

    torch.manual_seed(0)
    with devices() as events:
        plain = work(False)
    torch.manual_seed(0)
    with devices() as events, recorded():
        assert same(work(True), plain)


def test_flag_is_checked():
    with pytest.raises(TypeError, match="cuda_graph"):
        next(run_fleet(MEMBERS, "nowhere", cuda_graph="cuda"))
