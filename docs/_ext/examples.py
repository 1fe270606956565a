"""A page for each script in examples/: what it shows, the picture that it makes of committed results, and its code."""

import ast
import shutil
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((ROOT / "examples").glob("*.py"))
FIGURES = {  # the picture beside a script: that of the figure it is about, where it has been computed
    "compare_with_the_paper": "mnist-paper/comparison",
    "fewer_trainings": "after-the-paper/fewer_trainings",
    "figure": "mnist-small/13",
    "forgetting": "after-the-paper/forgetting",
    "interpolation": "mnist-small/40",
    "label_noise": "mnist-paper/label_noise",
    "learning_distance": "mnist-small/44",
    "lottery_tickets": "mnist-small/33",
    "memorisation": "mnist-paper/memorisation",
    "pruning_scores": "mnist-small/14",
    "redense": "mnist-small/37",
    "remedies": "after-the-paper/remedies",
    "retraining_methods": "mnist-small/15",
    "sharpness": "mnist-small/8",
}
INDEX = """# Examples

One idea each, in 15 to 60 lines. Without arguments a script takes seconds, needs no data file, and shows that everything is
there: `smoke` scale. `--scale small` shows the phenomenon, and `--out` says where to. The pictures are of the results that are
kept in `results/`.

:::::{{container}} cards gallery
{cards}
:::::

```{{toctree}}
:hidden:

{names}
```
"""


def title_and_text(script: Path) -> tuple[str, str, int]:
    """Return the title of a script, the sentence under it, and the line at which its code begins."""
    tree = ast.parse(script.read_text())
    title, _, text = ast.get_docstring(tree).partition("\n")
    return title, text.partition("\n\n")[2], tree.body[0].end_lineno + 2


def page(script: Path) -> str:
    """The page of a script, in Markdown."""
    title, text, first = title_and_text(script)
    seen = f"```{{drawn}} {FIGURES[script.stem]}\n:alt: {title}\n```\n" if script.stem in FIGURES else ""
    code = f"```{{literalinclude}} ../../examples/{script.name}\n:language: python\n:lines: {first}-\n```\n"
    option = "" if script.stem.startswith("compare") else " --scale small"
    return f"# {title}\n\n{text}\n\n{seen}\n```sh\npython examples/{script.name}{option}\n```\n\n{code}"


def card(script: Path) -> str:
    """What leads to the page of a script."""
    title, text, _ = title_and_text(script)
    where = FIGURES.get(script.stem)
    seen = f"```{{drawn}} {where}\n:alt: {title}\n:thumbnail:\n:target: {script.stem}\n```" if where else ""
    return f"::::{{container}} card\n[{title}]({script.stem}.md)\n\n{seen}\n\n{text}\n::::"


def write(app):
    """Write the pages, those that have changed."""
    folder = Path(app.srcdir) / "examples"
    folder.mkdir(exist_ok=True)
    names = "\n".join(script.stem for script in SCRIPTS)
    pages = {folder / "index.md": INDEX.format(cards="\n".join(map(card, SCRIPTS)), names=names)}
    pages |= {folder / f"{script.stem}.md": page(script) for script in SCRIPTS}
    for file, text in pages.items():
        if not file.exists() or file.read_text() != text:
            file.write_text(text)
    for old in {*folder.iterdir()} - {*pages}:
        shutil.rmtree(old) if old.is_dir() else old.unlink()


def setup(app):
    """Write the pages before any is read."""
    app.connect("builder-inited", write)
    return {"parallel_read_safe": True}
