"""Models: the paper's shapes, and initial weights from a seed alone."""

import pytest
import torch
from helpers import no_global_draws
from torch import nn

from sparsedd import Mask, models, prunable


def test_lenet_has_the_papers_prunable_weights():
    model = models.lenet_300_100()
    assert Mask.dense(model).size == 266_200
    assert Mask.dense(model, prunable(model, exclude="fc3")).size == 265_200
    assert model(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


def test_initial_weights_are_kaiming_normal_and_biases_zero():
    model = models.lenet_300_100(seed=7)
    for layer in (model.fc1, model.fc2, model.fc3):
        assert not layer.bias.any()
        deviation = (2 / layer.in_features) ** 0.5
        n = layer.weight.numel()
        assert abs(layer.weight.std().item() / deviation - 1) < 4 / (2 * n) ** 0.5
        assert abs(layer.weight.mean().item()) < 4 * deviation / n**0.5
        within = (layer.weight.abs() < deviation).float().mean().item()
        assert abs(within - 0.6827) < 4 * (0.6827 * 0.3173 / n) ** 0.5


def test_the_seed_decides_and_no_global_generator_is_touched():
    with no_global_draws():
        a, b, c = (models.lenet_300_100(seed=seed) for seed in (0, 0, 1))
    assert torch.equal(a.fc1.weight, b.fc1.weight)
    correlation = torch.corrcoef(torch.stack([a.fc1.weight.flatten(), c.fc1.weight.flatten()]))[0, 1]
    assert abs(correlation.item()) < 4 / a.fc1.weight.numel() ** 0.5


def test_norm_layers_become_the_identity():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    model[1].running_mean.fill_(3.0)
    models.initialize_(model, seed=1)
    assert model[1].weight.eq(1).all()
    assert model[1].bias.eq(0).all()
    assert model[1].running_mean.eq(0).all()


@pytest.mark.parametrize("wrong", [{"width": 0.0}, {"in_features": 0}, {"num_classes": -1}, {"seed": -1}])
def test_wrong_arguments_are_refused(wrong):
    with pytest.raises(ValueError, match="got"):
        models.lenet_300_100(**wrong)
