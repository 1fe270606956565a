"""Every how-to runs as it stands and prints what it says."""

import ast
import csv
import re
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers import bits, blocks, filled
from sphinx.errors import ExtensionError
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor
from torch.nn.functional import cross_entropy

from sparsedd import Mask, Pruner, Rewinder, Sweep, metrics
from sparsedd.experiments import Tables
from sparsedd.sweeps import StoredSweep

HOW_TO = Path(__file__).parent.parent / "docs" / "how-to"
PAGES = sorted(page for page in HOW_TO.glob("*.md") if page.stem not in ("index", "many-machines", "own-experiment"))
WARNED = {  # what other libraries warn of their own doing, by page
    "lightning": ("ignore:`isinstance(treespec:FutureWarning", "ignore:Checkpoint directory:UserWarning"),
}
TRAINERS = re.compile(r"^\{'train_runtime'.*\n", flags=re.M)  # what a Trainer prints: seconds
ACCURACY = re.compile(r"accuracy +([\d.]+)%")


def files(page: Path) -> dict[str, str]:
    """The scripts of a page by name. A block that begins with "# name.py" begins one, and others go on with the last one."""
    found: dict[str, list[str]] = {}
    name = "page.py"
    for block in blocks(page, r"(?:python|\{code-block\} python)"):
        if title := re.match(r"\s*# (\w+\.py)\b", block):
            name = title[1]
        found.setdefault(name, []).append(block)
    return {name: "\n".join(parts) for name, parts in found.items()}


def run(page: Path, folder: Path) -> str:
    """What the page prints: the commands it gives are run, or else its scripts in their order."""
    for name, script in files(page).items():
        (folder / name).write_text(script)
    commands = [shlex.split(line) for block in blocks(page, "sh") for line in block.splitlines()]
    commands = commands or [["python", name] for name in files(page)]
    environment = {
        "PATH": str(Path(sys.executable).parent),
        "HOME": str(folder),
        "OMP_NUM_THREADS": "1",
        "PYTHONWARNINGS": ",".join(("error", *WARNED.get(page.stem, ()))),
        "HF_HUB_OFFLINE": "1",
    }
    printed = ""
    for command in commands:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-5000:]
        printed += done.stdout
    return TRAINERS.sub("", printed)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_it_runs_and_prints_what_it_says(page, tmp_path):
    printed, said = run(page, tmp_path), "".join(blocks(page, "text"))
    assert said
    assert ACCURACY.sub("accuracy", printed) == ACCURACY.sub("accuracy", said), printed
    for measured, written in zip(ACCURACY.findall(printed), ACCURACY.findall(said), strict=True):
        assert float(measured) == pytest.approx(float(written), abs=10), printed  # rounding differs between machines


def test_an_experiment_of_ones_own_runs_and_is_shown_in_a_figure(tmp_path):
    page = HOW_TO / "own-experiment.md"
    printed = run(page, tmp_path)
    assert printed.startswith("".join(blocks(page, "text")))
    assert "points-net-confused-saliency-f50-ltr, paper scale: 5 levels × 2 seeds, in mine" in printed
    assert "Figure 13 on points" in printed
    assert (tmp_path / "mine" / "report.html").exists() and (tmp_path / "strategies" / "figure.png").exists()


def rows(page: Path, title: str) -> list[tuple[str, str]]:
    """The code in the two columns of a table, under the title of its section."""
    section = re.search(rf"^## {title}$(.*?)^## ", page.read_text(), flags=re.M | re.S)
    assert section
    return re.findall(r"^\| `(.+)` \| `(.+)` \|$", section[1], flags=re.M)


def both(page: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Twice what the first block of the page makes: for the old code and for the new."""
    made: tuple[dict[str, Any], dict[str, Any]] = {}, {}
    state = torch.get_rng_state()
    for names in made:
        exec(blocks(page, "python")[0], names)
    torch.set_rng_state(state)
    return made


def ran(code: str, names: dict[str, Any]) -> Any:
    """The value of an expression, or None after statements."""
    try:
        return eval(code, names)
    except SyntaxError:
        exec(code, names)
        return None


def kept(names: dict[str, Any]) -> dict[str, Tensor]:
    """Which weights the model of torch.nn.utils.prune keeps, of those that it prunes."""
    return {name.removesuffix("_mask"): mask != 0 for name, mask in names["model"].named_buffers()}


TABLE = HOW_TO / "torch-prune.md"


@pytest.mark.parametrize(("before", "now"), rows(TABLE, "To make a mask"))
def test_both_ways_to_make_a_mask_keep_the_same(before, now):
    old, new = both(TABLE)
    ran(before, old)
    ran(now, new)
    if "random" in before:
        (left,) = kept(old).values()
        assert new["mask"].remaining == int(left.sum())
        assert list(new["mask"]) == list(kept(old))
    else:
        assert new["mask"] == Mask(kept(old))


def test_both_ways_to_use_a_mask_say_the_same():
    old, new = both(TABLE)
    answers = 0
    for before, now in rows(TABLE, "To use it"):
        was, is_now = ran(before, old), ran(now, new)
        if before.startswith("prune.global"):
            assert new["mask"] == Mask(kept(old))
        elif before.startswith("[prune.remove"):
            assert dict(old["model"].named_parameters()).keys() == dict(new["model"].named_parameters()).keys()
            for name, p in new["model"].named_parameters():
                assert torch.equal(old["model"].get_parameter(name), p)
        else:
            answers += 1
            assert torch.allclose(torch.as_tensor(was).float(), torch.as_tensor(is_now).float())
    assert answers == 4


def test_the_table_has_a_dozen_lines():
    assert len(rows(TABLE, "To make a mask")) + len(rows(TABLE, "To use it")) == 13


# ---------------------------------------------------------------- what was stopped goes on


KILLED = """
import os, signal

def status(work):
    if not (child := os.fork()):
        work()
        os._exit(0)
    return os.waitpid(child, 0)[1]

def killed(work):
    assert status(work) == signal.SIGKILL

def kill():
    os.kill(os.getpid(), signal.SIGKILL)
"""

LIGHTNING = """
class Watched(Digits):
    def validation_step(self, batch, index):
        if not self.trainer.sanity_checking:
            self.seen[self.current_epoch] = metrics.sparsity(self)

class Killer(lightning.Callback):
    def __init__(self, epoch):
        self.epoch = epoch

    def on_train_batch_end(self, trainer, module, outputs, batch, index):
        if (trainer.current_epoch, index) == (self.epoch, 6):
            kill()

def watched(folder, *callbacks, resume=None):
    module, gradual = Watched(), Gradual(mask)
    module.seen = {}
    saved = ModelCheckpoint(folder, filename="{epoch}", save_top_k=-1, save_last=True)
    trainer(gradual, saved, *callbacks).fit(module, batches, DataLoader(digits.test, 500), ckpt_path=resume)
    return gradual.mask, module

whole, module = watched("all")
assert module.seen.keys() == set(range(5))
for epoch, validated in module.seen.items():
    saved = torch.load(f"all/epoch={epoch}.ckpt", weights_only=True)
    kept = Mask.from_state_dict(saved["callbacks"]["Gradual"])
    zeros = sum(int((saved["state_dict"][name] == 0).sum()) for name in kept)
    assert zeros == kept.size - kept.remaining and validated == kept.sparsity and kept.remaining == int(5020 * 0.8**epoch)
for epoch in (1, 2, 4):
    killed(lambda: watched(f"killed-{epoch}", Killer(epoch)))
    ended, other = watched(f"killed-{epoch}", resume=f"killed-{epoch}/last.ckpt")
    assert other.seen.keys() == set(range(epoch, 5))  # it went on, and did not begin again
    assert ended == whole and metrics.sparsity(other) == metrics.sparsity(module) == whole.sparsity
    assert all(map(torch.equal, other.parameters(), module.parameters()))
"""

HUGGING_FACE = """
class Killer(TrainerCallback):
    def on_step_end(self, args, state, control, **rest):
        if state.global_step == step:
            kill()

class Counter(TrainerCallback):
    def on_step_end(self, args, state, control, **rest):
        steps.append(state.global_step)

for step in (20, 50):  # of 64, 16 an epoch
    killed(lambda: train(f"killed-{step}", copy.deepcopy(ticket), Killer()))
    steps = []
    resumed = train(f"killed-{step}", BertForSequenceClassification(config), Counter(), resume=True)
    assert steps == list(range(step // 16 * 16 + 1, 65))
    assert metrics.sparsity(resumed, mask) == metrics.sparsity(whole, mask) == mask.sparsity
    assert all(map(torch.equal, resumed.parameters(), whole.parameters()))
"""


@pytest.mark.parametrize(("page", "more"), [("lightning", LIGHTNING), ("hugging-face", HUGGING_FACE)])
def test_a_trainer_that_was_killed_ends_as_one_that_was_not(page, more, tmp_path):
    (tmp_path / "script.py").write_text(files(HOW_TO / f"{page}.md")["page.py"] + KILLED + more)
    environment = {
        "PATH": str(Path(sys.executable).parent),
        "HOME": str(tmp_path),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    command = [sys.executable, "-W", "ignore", "script.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-5000:]


def defined(page: str, until: str) -> dict[str, Any]:
    """What the first block of a page defines, up to a line."""
    names: dict[str, Any] = {}
    exec(blocks(HOW_TO / f"{page}.md")[0].partition(until)[0], names)
    return names


def test_the_level_that_is_shipped_is_one_for_all_seeds(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed, test in enumerate(([0.8, 0.9, 0.7], [0.8, 0.9, 0.7], [0.8, 0.7, 0.9])):
        sweep = Sweep(f"runs/seed-{seed}", filled(torch.nn.Linear(4, 2), seed), levels=3, seed=seed)
        for level in sweep:
            level.record(train_accuracy=1 - 0.1 * level.number, test_accuracy=test[level.number])
    exec(files(HOW_TO / "own-sweep.md")["ship.py"], {})
    for seed in range(3):
        stored, saved = StoredSweep(f"runs/seed-{seed}"), torch.load(f"seed-{seed}.pt", weights_only=True)
        assert {name: bits(t) for name, t in saved.items()} == {name: bits(t) for name, t in stored.weights(1).items()}
        filled(torch.nn.Linear(4, 2), 9).load_state_dict(saved)


RECIPES = {
    "own-sweep": "train.py",
    "transformer": "vit.py",
    "hugging-face": "sweep.py",
    "lightning": "sweep.py",
    "ddp": "ddp.py",
}


def ours(script: str) -> list[str]:
    """The lines that speak of sparsedd or of what it has made: all but the numbers that it gives."""
    tree, names = ast.parse(script), {"sparsedd"}

    def of_us(node: ast.expr) -> bool:
        while not isinstance(node, ast.Name):
            if not (inner := getattr(node, "func", getattr(node, "value", None))):
                return False
            if getattr(inner, "attr", "") == "epochs":
                return False
            node = inner
        return node.id in names

    for _ in range(3):  # a sweep is made by Sweep, a level by the sweep
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "sparsedd":
                names |= {alias.asname or alias.name for alias in node.names}
            elif isinstance(node, ast.Assign) and of_us(node.value):
                names |= {name.id for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name)}
            elif isinstance(node, ast.For) and of_us(node.iter) and isinstance(node.target, ast.Name):
                names.add(node.target.id)
    return [line for line in script.splitlines() if names & set(re.findall(r"\w+", line.partition("#")[0]))]


def test_what_is_logged_is_what_is_recorded(tmp_path):
    run(HOW_TO / "loggers.md", tmp_path)
    events = EventAccumulator(str(tmp_path / "events")).Reload()
    with open(tmp_path / "levels.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["level"] for row in rows] == ["0", "1", "2"]
    assert {row["experiment"] for row in Tables.read(tmp_path).levels} == {"mine"}, "sparsedd report reads it"
    for name in ("train_accuracy", "train_loss", "test_accuracy", "test_loss"):
        points = [(event.step, event.value) for event in events.Scalars(name)]
        assert points == [(int(row["level"]), pytest.approx(float(row[name]))) for row in rows]


@pytest.mark.parametrize("page", RECIPES)
def test_eight_lines_of_a_script_are_ours(page):
    lines = ours(files(HOW_TO / f"{page}.md")[RECIPES[page]])
    assert 4 < len(lines) <= 8, lines
    assert any("record(" in line for line in lines)


def test_the_marked_lines_are_ours():
    page = (HOW_TO / "own-sweep.md").read_text()
    ((numbers, code),) = re.findall(r"^:emphasize-lines: ([\d,]+)\n\n(.*?)^```$", page, flags=re.M | re.S)
    assert [code.splitlines()[int(number) - 1] for number in numbers.split(",")] == ours(code)


def test_gradual_pruning_goes_on_from_the_mask_that_was_kept(tmp_path):
    names = defined("gradual", "pruner, step, steps")
    cubic, batches, model, optimizer = (names[name] for name in ("cubic", "batches", "model", "optimizer"))
    start, pruner, ends = Rewinder(model=model, optimizer=optimizer), Pruner(), []
    for stops in ((), (5,), (10,), (37, 64)):
        step, mask = start.rewind(model=model, optimizer=optimizer), Mask.dense(model)
        for stop in (*stops, 80):
            with mask.enforce(model, optimizer) as enforcement:
                while step < stop:
                    if step % 10 == 0:
                        enforcement.update(pruner.prune_to(model, cubic(step, 60, final=0.95), enforcement.mask))
                    x, y = next(batches.epoch(step))
                    optimizer.zero_grad()
                    cross_entropy(model(x), y).backward()
                    optimizer.step()
                    step += 1
                enforcement.mask.save(tmp_path / "mask")
                Rewinder(step=step, model=model, optimizer=optimizer).save(tmp_path / "state")
            start.rewind(model=model)  # as after a kill: all that is left is in the files
            mask = Mask.load(tmp_path / "mask")
            step = Rewinder.load(tmp_path / "state").rewind(model=model, optimizer=optimizer)
        ends.append((mask, [bits(p) for p in model.parameters()]))
        assert metrics.sparsity(model) == mask.sparsity == 1 - 1110 / 22200
    assert all(end == ends[0] for end in ends)


def test_the_plain_files_of_a_model_with_tied_weights_come_back(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plain = files(HOW_TO / "export.md")["plain.py"]
    language = files(HOW_TO / "transformer.md")["page.py"].partition("\ntorch.manual_seed")[0]
    made = plain.replace("lenet_300_100(in_features=64, seed=1)", "Language()")
    made = re.sub(r"^model = (.|\n)*?^(?=save_model)", "model = filled(Language())\nmask = tied(model)\n", made, flags=re.M)
    assert made.count("Language()") == 2
    names: dict[str, Any] = {
        "filled": filled,
        "tied": lambda model: Pruner().prune_to(
            model, 0.5, Mask.dense(model, ["embedding.weight", "encoder.layers.0.linear1.weight"])
        ),
    }
    with torch.random.fork_rng([]):
        exec(language + made.replace("print(", "answer = ("), names)
    assert names["answer"]
    assert names["other"].out.weight is names["other"].embedding.weight
    assert names["mask"].holds(names["other"])
    assert torch.equal(names["other"].out.weight, names["model"].embedding.weight)


# ---------------------------------------------------------------- the tutorial, whose blocks run while the pages are built


def executed(source: str, folder: Path) -> str:
    """A page as it is shown."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(HOW_TO.parent / "_ext")
        page = [source]
        import_module("executed").execute(SimpleNamespace(srcdir=folder), "tutorial", page)
    return page[0]


DRAWS = """Text.

```python
from sparsedd import plotting

print("a " * 60)
ax = plotting.against_sparsity([0, 0.5], {"ticket": [1, 2]}, ylabel="loss")
```

```python
print(ax.get_ylabel())
```
"""


def test_below_a_block_stands_what_it_printed_and_drew(tmp_path, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "agg")
    page = executed(DRAWS, tmp_path)
    first, second = re.findall(r"^```text\n(.*?)^```$", page, flags=re.M | re.S)
    assert max(map(len, first.splitlines())) <= 80
    assert first.split() == ["a"] * 60
    assert second == "loss\n"
    (picture,) = re.findall(r"^```\{drawn\} (.+)\n:alt: loss against sparsity \(%\)$", page, flags=re.M)
    for style in ("light", "dark"):
        assert (tmp_path / "_generated" / f"{picture}-{style}.svg").read_text().startswith("<?xml")
    assert page.index(first) < page.index(picture) < page.index("print(ax")


def test_a_block_that_fails_fails_the_build(tmp_path):
    with pytest.raises(ExtensionError, match=r"tutorial\.md: this block\s+1 / 0\s+failed:(.|\s)+ZeroDivisionError"):
        executed("```python\n1 / 0\n```\n", tmp_path)
