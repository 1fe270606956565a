"""Every how-to runs as it stands and prints what it says."""

import re
import shlex
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers import blocks
from sphinx.errors import ExtensionError
from torch import Tensor

from sparsedd import Mask

HOW_TO = Path(__file__).parent.parent / "docs" / "how-to"
PAGES = sorted(page for page in HOW_TO.glob("*.md") if page.stem not in ("index", "many-machines"))
WARNED = {  # what other libraries warn of their own doing, by page
    "lightning": ("ignore:`isinstance(treespec:FutureWarning", "ignore:Checkpoint directory:UserWarning"),
}
TRAINERS = re.compile(r"^\{'train_runtime'.*\n", flags=re.M)  # what a Trainer prints: seconds
ACCURACY = re.compile(r"accuracy +([\d.]+)%")


def files(page: Path) -> dict[str, str]:
    """The scripts of a page by name. A block that begins with "# name.py" begins one, and others go on with the last one."""
    found: dict[str, list[str]] = {}
    name = "page.py"
    for block in blocks(page, "python"):
        if title := re.match(r"# (\w+\.py)\b", block):
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


# ---------------------------------------------------------------- the tutorial, whose blocks run while the pages are built


def executed(source: str, folder: Path, *, gallery: str = "True") -> str:
    """A page as it is shown."""
    spec = spec_from_file_location("executed", HOW_TO.parent / "_ext" / "executed.py")
    assert spec and spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    page, app = [source], SimpleNamespace(srcdir=folder, config=SimpleNamespace(plot_gallery=gallery))
    module.execute(app, "tutorial", page)
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
    (picture,) = re.findall(r"^!\[loss against sparsity \(%\)\]\((.+)\)$", page, flags=re.M)
    assert (tmp_path / picture).read_text().startswith("<?xml")
    assert page.index(first) < page.index(picture) < page.index("print(ax")


def test_a_page_is_left_alone_where_nothing_is_to_be_run(tmp_path):
    assert executed(DRAWS, tmp_path, gallery="0") == DRAWS


def test_a_block_that_fails_fails_the_build(tmp_path):
    with pytest.raises(ExtensionError, match=r"tutorial\.md: this block\s+1 / 0\s+failed:(.|\s)+ZeroDivisionError"):
        executed("```python\n1 / 0\n```\n", tmp_path)
