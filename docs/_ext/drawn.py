"""``{drawn} FAMILY/FIGURE``: a picture of results/, light and dark; as a thumbnail, its first panel in large type."""

import io
import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import matplotlib
from docutils.parsers.rst import directives
from matplotlib import pyplot
from sphinx.util.docutils import SphinxDirective

from sparsedd.experiments import FIGURES, PRESETS, Figure, Tables

RESULTS = Path(__file__).parents[2] / "results"
SETTINGS = {"svg.hashsalt": "sparsedd", "svg.fonttype": "none"}  # the same bytes each time, and text as text
LARGE = {"font.size": 16, "lines.linewidth": 2.5, "legend.fontsize": 13}
# The colours of plotting and of matplotlib, and for each the one that takes its place on a dark page: grounds, lines, phases.
DARK = {
    "#ffffff": "#1b1e23",
    "#000000": "#e3e5e8",
    "#cccccc": "#5b626c",
    "#888888": "#9aa0a8",
    "#555555": "#b9bec5",
    "#3a6ea5": "#7fb2e5",
    "#c0392b": "#ff8a7a",
    "#2e8b57": "#63cf95",
    "#b8860b": "#e2b64a",
    "#7d4fa3": "#c79fe8",
    "#dbe7f3": "#21364d",
    "#f6d9d5": "#4a2a28",
    "#dcedd8": "#24402b",
    "#e4e2e6": "#35333a",
}


def darken(svg: str) -> str:
    """Return a picture of matplotlib's in colours for a dark page: each has its counterpart."""
    svg = re.sub("|".join(DARK), lambda found: DARK[found[0]], svg)
    return svg.replace("<defs>", f"<style>text {{ fill: {DARK['#000000']} }}</style><defs>", 1)


def save(figure, **options) -> str:
    """Return the figure as SVG, and close it."""
    file = io.StringIO()
    with matplotlib.rc_context(SETTINGS):
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None}, **options)
    pyplot.close(figure)
    return file.getvalue()


def write_both(svg: str, path: Path) -> None:
    """Write a picture for light pages, and beside it one for dark pages."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_name(f"{path.name}-light.svg").write_text(svg)
    path.with_name(f"{path.name}-dark.svg").write_text(darken(svg))


@cache
def load(folder: Path) -> tuple[Figure, Tables]:
    """Return a figure of results/, on the data that it was computed with, and its tables."""
    preset = re.search(r"--on (\S+)", (folder.parent / "README.md").read_text())[1]
    tables = Tables.read(folder)
    return FIGURES[folder.name].on(PRESETS[preset]).scaled(tables.scale), tables


def thumbnail(figure: Figure, tables: Tables) -> str:
    """Draw the first panel alone, small and in large type."""
    with matplotlib.rc_context(LARGE):
        picture = replace(figure, panels=figure.panels[:1], columns=1).draw(tables)
        picture.suptitle("")
        picture.set_size_inches(6, 4)
        for ax in picture.axes:
            ax.set_title("")
            for text in ax.texts:
                text.set_fontsize(12)
            if ax.get_legend():
                ax.get_legend().set_title(None)
            if "sparsity" in ax.get_xlabel():
                ticks, labels = ax.get_xticks(), [label.get_text() for label in ax.get_xticklabels()]
                few = [0, len(ticks) // 2, len(ticks) - 1]
                ax.set_xticks([ticks[k] for k in few], labels=[labels[k] for k in few])
        return save(picture)


def write(app) -> None:
    """Write all pictures, those whose tables or drawing have changed."""
    generated = Path(app.srcdir) / "_generated"
    for table in sorted(RESULTS.glob("*/*/levels.csv")):
        folder = table.parent
        path = generated / folder.parent.name / folder.name
        small = path.with_name(f"{path.name}-small")
        written = small.with_name(f"{small.name}-dark.svg")
        if written.exists() and written.stat().st_mtime > max(Path(p).stat().st_mtime for p in (__file__, table)):
            continue
        figure, tables = load(folder)
        write_both(save(replace(figure, columns=min(figure.columns, 2)).draw(tables)), path)  # of a width that can be read
        write_both(thumbnail(figure, tables), small)


class Drawn(SphinxDirective):
    """A picture, in two styles of which one is seen."""

    required_arguments = 1
    option_spec = {"alt": directives.unchanged_required, "target": directives.unchanged, "thumbnail": directives.flag}  # noqa: RUF012

    def run(self):
        small = f"{self.arguments[0]}-small"
        there = (Path(self.env.srcdir) / "_generated" / f"{small}-dark.svg").exists()
        name = small if "thumbnail" in self.options and there else self.arguments[0]
        target = f":target: {self.options['target']}\n" if "target" in self.options else ""
        images = [
            f"```{{image}} /_generated/{name}-{style}.svg\n:class: only-{style}\n:alt: {self.options['alt']}\n{target}```\n"
            for style in ("light", "dark")
        ]
        return self.parse_text_to_nodes("\n".join(images))


def setup(app):
    """Add the directive, and write the pictures before the pages are read."""
    app.add_directive("drawn", Drawn)
    app.connect("builder-inited", write)
    return {"parallel_read_safe": True}
