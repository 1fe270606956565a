"""The figures of a folder of results/: a card for each, and on the page of the folder a section."""

import csv
import re
from collections import Counter
from pathlib import Path

import numpy as np
from drawn import RESULTS, load

from sparsedd import phases
from sparsedd.experiments import PRESETS, Measures

VERDICTS = {"agrees": "agree", "disagrees": "disagree", "cannot be told": "cannot be told"}


def find_figures(family: str) -> list[Path]:
    """Return the folders of the figures, by number."""
    return sorted((path.parent for path in (RESULTS / family).glob("*/claims.md")), key=lambda path: int(path.name))


def read_title(folder: Path) -> tuple[str, str, str]:
    """Return what the figure is called, its caption, and the caption's own words without data and noise."""
    first = (folder / "claims.md").read_text().splitlines()[0]
    title, _, caption = re.fullmatch(r"(Figure \d+( on [^,]+)?), \w+ scale\. (.*)", first).groups()
    words = caption.removesuffix(".").rpartition(": ")[2].partition(" on ")[0]
    return title, caption, words[0].lower() + words[1:]


def show_cards(family: str) -> str:
    """Return the cards of a folder, in Markdown."""
    return "\n\n".join([":::::{container} cards gallery", *map(card, find_figures(family)), ":::::"])


def card(folder: Path) -> str:
    """Return a card: picture, claims, and the command that makes it."""
    title, caption, _ = read_title(folder)
    said = (folder / "claims.md").read_text()
    verdicts = Counter(re.findall(r"^- .*: (agrees|disagrees|cannot be told)\. Measured: ", said, flags=re.M))
    counts = ", ".join(
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
    lines = f"[{title}]({where})", picture, caption, f"Claims: {counts}", f"```sh\n{command}\n```"
    return "\n\n".join(["::::{container} card", *lines, "::::"])


def show_sections(family: str) -> str:
    """Return the sections of a folder, in Markdown."""
    return "\n\n".join(map(section, find_figures(family)))


def section(folder: Path) -> str:
    """Return a section: picture, published numbers where there are any, and claims."""
    title, _, words = read_title(folder)
    name = f"{folder.parent.name}/{folder.name}"
    picture = f"```{{drawn}} {name}\n:alt: {title}: {words}\n```"
    claims = f"```{{include}} ../../results/{name}/claims.md\n```"
    parts = f"({name.replace('/', '-')})=", f"## {title}: {words}", picture, compare(folder), claims
    return "\n\n".join(filter(None, parts))


def compare(folder: Path) -> str:
    """Return the published curve beside ours in a few numbers, where the figure shows the sweep that it is of."""
    figure, tables = load(folder)
    published = [*RESULTS.glob(f"{folder.parent.name.partition('-')[0]}-*/published.csv")]
    shown = {preset.scaled(figure.scale) for preset in PRESETS.values()} & set(figure.experiments)
    if not (published and shown) or figure.drawing.needs:
        return ""
    theirs = np.genfromtxt(published[0], delimiter=",", names=True, skip_header=2)
    left = theirs[theirs.dtype.names[1]]
    ours = Measures(tables, figure.experiments).sweep(*shown)
    curves = {
        "published": (1 - left / left[0], theirs["train_accuracy"], theirs["test_accuracy"]),
        f"here, {len(ours.seeds)} seed{'s' * (len(ours.seeds) > 1)}": (
            ours.sparsity,
            *(ours[f"{part}_accuracy"].mean(axis=0) for part in ("train", "test")),
        ),
    }
    head = "| training / test, ε = 20 % | dense | dip | peak |", "| --- | --- | --- | --- |"
    return "\n".join([*head, *(f"| {name} | {' | '.join(landmarks(*curve))} |" for name, curve in curves.items())])


def landmarks(sparsity: np.ndarray, train: np.ndarray, test: np.ndarray) -> list[str]:
    """Return the accuracies of the dense net, at the dip and at the peak."""
    found = phases.double_descent(sparsity, test)
    places = [int(abs(sparsity - s).argmin()) for s in (0, found.dip_sparsity, found.peak_sparsity)]
    return [
        f"{'–' if np.isnan(train[k]) else f'{100 * train[k]:.1f}'} / {100 * test[k]:.1f} %"
        + (f" at {100 * sparsity[k]:.2f} %" if k else "")
        for k in places
    ]
