"""``{results}``: a card for each figure in a folder of results/: its picture, its claims, and the command that makes it."""

import csv
import re
from collections import Counter
from pathlib import Path

from sphinx.util.docutils import SphinxDirective

RESULTS = Path(__file__).parents[2] / "results"
VERDICTS = {"agrees": "agree", "disagrees": "disagree", "cannot be told": "cannot be told"}


def card(folder: Path) -> str:
    """A card, in Markdown."""
    first, *claims = (folder / "claims.md").read_text().splitlines()
    title, _, caption = re.fullmatch(r"(Figure \d+( on [^,]+)?), \w+ scale\. (.*)", first).groups()
    verdicts = Counter(re.findall(r"^- .*: (agrees|disagrees|cannot be told)\. Measured: ", "\n".join(claims), flags=re.M))
    said = ", ".join(
        f"[{n} {verdict if n == 1 else plural}]{{.{plural.split()[-1]}}}"
        for verdict, plural in VERDICTS.items()
        if (n := verdicts[verdict])
    )
    with open(folder / "levels.csv", newline="") as file:
        seeds = len({row["seed"] for row in csv.DictReader(file)})
    readme = (folder.parent / "README.md").read_text()
    command = re.search(r"sparsedd figure N --on \S+ --scale \S+ --seeds \S+", readme).group()
    command = re.sub(r"--seeds \S+", f"--seeds {seeds}", command.replace(" N ", f" {folder.name} "))
    command = command.replace(" --scale", " \\\n  --scale")
    name = f"{folder.parent.name}/{folder.name}"
    where = f"results/{folder.parent.name}.md#{name.replace('/', '-')}"
    picture = f"```{{drawn}} {name}\n:alt: {title}\n:thumbnail:\n:target: {where.replace('.md', '.html')}\n```"
    lines = f"[{title}]({where})", picture, caption, f"Claims: {said}", f"```sh\n{command}\n```"
    return "\n\n".join(["::::{container} card", *lines, "::::"])


class Results(SphinxDirective):
    """The cards of a folder of results."""

    required_arguments = 1

    def run(self):
        folders = [path.parent for path in (RESULTS / self.arguments[0]).glob("*/claims.md")]
        figures = sorted(folders, key=lambda path: int(path.name))
        for path in [Path(__file__), *(folder / name for folder in figures for name in ("claims.md", "levels.csv"))]:
            self.env.note_dependency(str(path))
        text = "\n\n".join([":::::{container} cards gallery", *map(card, figures), ":::::"])
        return self.parse_text_to_nodes(text)


def setup(app):
    """Add the directive."""
    app.add_directive("results", Results)
    return {"parallel_read_safe": True}
