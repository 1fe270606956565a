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


@pytest.mark.parametrize(
    ("name", "num_classes", "exclude", "prunable_weights"),
    [
        ("lenet_300_100", 10, "fc3", 265_200),
        ("resnet18", 10, (), 11_164_352),
        ("resnet18", 100, (), 11_210_432),
        ("vgg16", 10, "fc", 14_710_464),
        ("vgg16", 100, "fc", 14_710_464),
    ],
)
def test_the_papers_prunable_weights(name, num_classes, exclude, prunable_weights):
    model = getattr(models, name)(num_classes=num_classes)
    assert Mask.dense(model, prunable(model, exclude=exclude)).size == prunable_weights


@pytest.mark.parametrize("name", ["resnet18", "resnet101"])
def test_residual_nets_are_torchvisions_but_for_the_stem_and_the_classes(name):
    torchvision = pytest.importorskip("torchvision")
    with torch.device("meta"):
        theirs = {n: t.shape for n, t in getattr(torchvision.models, name)().state_dict().items()}
    ours = {n: t.shape for n, t in getattr(models, name)(num_classes=1000).state_dict().items()}
    assert theirs.pop("conv1.weight") == (64, 3, 7, 7)
    assert ours.pop("conv1.weight") == (64, 3, 3, 3)
    assert ours == theirs


@pytest.mark.parametrize("name", ["resnet18", "resnet101", "vgg16"])
@pytest.mark.parametrize("channels", [1, 3])
def test_convolutional_nets_take_small_images_and_train(name, channels):
    with no_global_draws():
        model = getattr(models, name)(num_classes=7, in_channels=channels, width=1 / 16)
    logits = model(torch.linspace(-1, 1, 2 * channels * 1024).reshape(2, channels, 32, 32))
    assert logits.shape == (2, 7)
    logits.square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for n, p in model.named_parameters() if "conv" in n or "fc" in n)


def test_a_stem_keeps_the_size_of_the_image():
    seen = []
    model = models.resnet18(width=1 / 16)
    model.layer1.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape))
    model.layer4.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    model(torch.zeros(1, 3, 32, 32))
    assert seen == [(1, 4, 32, 32), (1, 32, 4, 4)]


def test_the_authors_initialisation_draws_biases_and_norms():
    paper, authors = (models.vgg16(width=0.25, initialization=scheme) for scheme in ("paper", "authors"))
    for ours, theirs in zip(paper.modules(), authors.modules(), strict=True):
        if isinstance(ours, nn.Conv2d | nn.Linear | nn.BatchNorm2d):
            drawn = "weight" if isinstance(ours, nn.BatchNorm2d) else "bias"
            for name, parameter in ours.named_parameters():
                assert torch.equal(parameter, getattr(theirs, name)) == (name != drawn)
    conv, norm = authors.features[0], authors.features[1]
    assert 0.7 * 27**-0.5 < conv.bias.abs().max() < 27**-0.5
    assert conv.bias.min() < 0 < conv.bias.max()
    assert 0 <= norm.weight.min() < 0.3
    assert 0.7 < norm.weight.max() < 1
    assert not norm.bias.any()


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


@pytest.mark.parametrize("name", ["lenet_300_100", "resnet18", "resnet101", "vgg16"])
@pytest.mark.parametrize(
    "wrong", [{"width": 0.0}, {"in": 0}, {"num_classes": -1}, {"seed": -1}, {"initialization": "theirs"}], ids=str
)
def test_wrong_arguments_are_refused(name, wrong):
    wrong = {("in_features" if "lenet" in name else "in_channels") if k == "in" else k: v for k, v in wrong.items()}
    with pytest.raises(ValueError, match="got"):
        getattr(models, name)(**({"width": 1 / 16} | wrong))
