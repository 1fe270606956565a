"""Who may import whom, and that the core runs where nothing else is installed."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import sparsedd

SRC = Path(sparsedd.__file__).parent
CORE = [
    *("__init__", "_mask", "_enforcement", "_optimizers", "_parameters", "_prunable", "_pruner", "_selection", "_rewinder"),
    *("_noisy_labels", "_random", "_files", "_checks", "_restored", "_perceptron", "scores", "noise", "metrics", "phases"),
    *(
        "_state",
        "_match",
        "_shards",
        "_words",
        "_ambient",
        "_entropy",
        "sparse",
        "fleet",
        "distributed",
        "landscape",
        "convert",
    ),
]
ABOVE = {"sweeps", "models", "data", "experiments", "report", "plotting", "cli", "__main__"}
MODULES = {".".join(path.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__"): path for path in SRC.rglob("*.py")}


def imports(path: Path) -> set[str]:
    """The absolute names of all that a file imports, wherever in it: "sparsedd.noise.Symmetric", "torch.nn", ..."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def ours(path: Path) -> set[str]:
    """The parts of sparsedd that a file imports: "noise", "_mask", ..."""
    return {name.split(".")[1] for name in imports(path) if name.startswith("sparsedd.")}


def test_every_module_is_known():
    assert set(CORE) <= set(MODULES)
    assert {name.split(".")[0] for name in MODULES} - set(CORE) <= ABOVE


@pytest.mark.parametrize("name", [name for name in MODULES if name.split(".")[0] in CORE])
def test_the_core_imports_nothing_above_it(name):
    assert not ours(MODULES[name]) & ABOVE - ({"sweeps"} if name == "__init__" else set())  # whose Sweep is public there
    outside = {imported.split(".")[0] for imported in imports(MODULES[name])} - set(sys.stdlib_module_names)
    assert outside <= {"sparsedd", "torch", "numpy", "typing_extensions", "safetensors"}


@pytest.mark.parametrize("name", [name for name in MODULES if name.split(".")[0] == "sweeps"])
def test_the_engine_imports_the_core_alone(name):
    assert not ours(MODULES[name]) & ABOVE - {"sweeps"}
    outside = {imported.split(".")[0] for imported in imports(MODULES[name])} - set(sys.stdlib_module_names)
    assert outside <= {"sparsedd", "torch", "numpy", "typing_extensions", "safetensors"}


FLOORS = ("sweeps", "experiments", "report", "cli")  # each on those before it, and all on the core


@pytest.mark.parametrize("name", [name for name in MODULES if name.split(".")[0] in FLOORS])
def test_no_floor_imports_one_above_it(name):
    above = FLOORS[FLOORS.index(name.split(".")[0]) + 1 :]
    assert not ours(MODULES[name]) & {*above, "__main__"}


def test_rooms_are_small():
    lines = {name: len(path.read_text().splitlines()) for name, path in MODULES.items()}
    rooms: dict[Path, list[int]] = {}
    for name, path in MODULES.items():
        if path.parent != SRC:
            rooms.setdefault(path.parent, []).append(lines[name])
    assert max(lines.values()) <= 350
    assert max(map(len, rooms.values())) <= 20
    assert max(map(sum, rooms.values())) <= sum(lines.values()) / 5


def test_phases_and_plotting_take_plain_numbers():
    for name in MODULES:
        if name.split(".")[0] == "phases":
            assert ours(MODULES[name]) <= {"_random", "_checks", "phases"}
    assert ours(MODULES["plotting"]) <= {"_random", "_checks", "phases"}


@pytest.mark.parametrize("name", [name for name in MODULES if name.split(".")[0] in ("models", "data")])
def test_models_and_data_know_nothing_of_experiments(name):
    assert not ours(MODULES[name]) & {"experiments", "plotting"}


ALONE = """
import sys
import torch, torch._dynamo  # asks which of them exist, and imports none
from torch import nn

OPTIONAL = {"torchvision", "sklearn", "scipy", "matplotlib", "pandas"}
assert not OPTIONAL & set(sys.modules)

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in OPTIONAL:
            raise RuntimeError(f"{name} was imported")

sys.meta_path.insert(0, Absent())
import sparsedd
from sparsedd import Mask, NoisyLabels, Pruner, Rewinder, metrics, noise, phases, scores

dataset = torch.utils.data.TensorDataset(torch.eye(8), torch.arange(8) % 2)
noisy = NoisyLabels(dataset, noise.Symmetric(0.25))
batches = list(torch.utils.data.DataLoader(noisy, batch_size=4))
model = nn.Linear(8, 2)
start = Rewinder(model=model)
optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
scores.accumulate_(model, batches, nn.functional.cross_entropy)
mask = Pruner("gradient").prune(model)
start.rewind(model=model)
with mask.enforce(model, optimizer):
    for x, y in batches:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
mask.save(sys.argv[1] + "/mask")
start.save(sys.argv[1] + "/start")
assert Mask.load(sys.argv[1] + "/mask") == mask == Mask.nonzero(model)
assert Rewinder.load(sys.argv[1] + "/start").rewind(model=model) == 0
metrics.evaluate(model, batches), phases.double_descent([0, 0.5], [1, 0.5])
print(mask)
"""


def test_the_core_runs_where_nothing_else_is_installed(tmp_path):
    done = subprocess.run([sys.executable, "-W", "error", "-c", ALONE, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "Mask(12 of 16 weights, sparsity 25.00%)\n"
