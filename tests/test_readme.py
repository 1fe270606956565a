"""What the README says is so."""

import copy
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from sparsedd import Pruner
from sparsedd.cli import _make_parser, main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def block(language: str, number: int = 0) -> str:
    code: list[str] = re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.M | re.S)
    return code[number]


def test_the_quickstart_runs_as_it_stands(tmp_path):
    script = tmp_path / "quickstart.py"
    script.write_text(block("python"))
    done = subprocess.run([sys.executable, "-W", "error", script], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    line = re.compile(r"level +(\d+)  sparsity +([\d.]+)%  test ([\d.]+)%  distance +([\d.]+)")
    lines = [line.fullmatch(text) for text in done.stdout.splitlines()]
    assert all(lines), done.stdout
    level, sparsity, test, distance = zip(*(map(float, found.groups()) for found in lines if found), strict=True)
    assert level == tuple(range(12))
    assert sparsity[0] == 0
    assert sparsity == tuple(sorted(sparsity))
    dip = test.index(min(test[:8]))  # what the text below it says happens
    assert test[dip] < test[0] - 1
    assert max(test[dip:]) > test[0] + 1
    assert max(distance) == max(distance[dip - 1 : dip + 2])
    assert main(["report", str(tmp_path / "runs")]) == 0
    assert (tmp_path / "runs" / "report.html").exists()


def test_the_set_up_commands_are_the_makefiles():
    commands = re.findall(r"^(.+?) +#", block("sh"), flags=re.M)
    assert commands == ["make demo", "make test"]
    makefile = (ROOT / "Makefile").read_text()
    for command in commands:
        assert f"\n{command.removeprefix('make ')}:" in makefile


def test_the_commands_for_a_figure_are_commands(tmp_path):
    lines = [re.sub(r" +#.*", "", line) for line in block("sh", 1).splitlines()]
    commands = [re.sub(r"^SPARSEDD_DATA=DIR ", "", line).removeprefix(".venv/bin/sparsedd ").split() for line in lines]
    assert [command[0] for command in commands] == ["figure", "figure"]
    for command in commands:
        _make_parser().parse_args(command)
    assert main([*commands[0], "--out", str(tmp_path), "--processes", "1"]) == 0
    assert (tmp_path / "figure.png").exists()


def test_the_files_it_links_to_exist():
    for target in re.findall(r"(?<!!)\[[^\]]+\]\(([^)#]+)", README):
        assert (ROOT / target).exists(), target


def net() -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(10, 10), nn.Linear(10, 2))
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator))
    return model


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 3) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.ones(1, 10)).sum().backward()
        optimizer.step()


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)


def test_what_it_says_of_torch_prune():
    model = net()
    before = model[0].weight
    layers = [(model[0], "weight"), (model[1], "weight")]
    prune.global_unstructured(layers, pruning_method=prune.L1Unstructured, amount=0.21)
    assert not isinstance(model[0].weight, nn.Parameter)
    assert model[0].weight_orig is before
    assert {"0.weight_orig", "0.weight_mask"} < set(model.state_dict())
    assert "0.weight" not in model.state_dict()
    with pytest.raises(RuntimeError, match="Missing key"):
        net().load_state_dict(model.state_dict())
    with pytest.raises(RuntimeError, match="deepcopy"):
        copy.deepcopy(model)
    pruned = [layer.weight_mask == 0 for layer in model]
    assert sum(int(p.sum()) for p in pruned) == round(0.21 * 120) == 25
    train(model, sgd(model))
    assert all((layer.weight_orig[p] != 0).all() for layer, p in zip(model, pruned, strict=True))

    one, other = nn.Linear(4, 4), nn.Linear(4, 4)
    other.weight = one.weight
    prune.l1_unstructured(one, "weight", 0.5)
    one(torch.ones(1, 4))
    assert int((one.weight == 0).sum()) == 8
    assert int((other.weight == 0).sum()) == 0


def test_what_it_says_of_sparsedd_beside_it():
    model = net()
    parameters, keys = list(model.parameters()), list(model.state_dict())
    mask = Pruner(fraction=0.21).prune(model)
    assert mask.size - mask.remaining == 26  # ⌈25.2⌉
    optimizer = sgd(model)
    with mask.enforce(model, optimizer):
        copied = copy.deepcopy(model)
        train(model, optimizer)
        weights = [model[0].weight, model[1].weight]
        for w, keep in zip(weights, mask.values(), strict=True):
            assert (w[~keep] == 0).all()
            assert not torch.signbit(w[~keep]).any()
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
    assert list(model.state_dict()) == keys
    net().load_state_dict(model.state_dict())
    assert mask.holds(copied)

    tied = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    tied[1].weight = tied[0].weight
    half = Pruner(fraction=0.5).prune(tied)
    assert half.size == 16
    half.apply_(tied)
    assert int((tied[1].weight == 0).sum()) == 8
