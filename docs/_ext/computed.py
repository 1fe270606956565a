"""Blocks computed of results/ before a page is read: ``{results}``, ``{sections}``, ``{verdicts}``, ``{figures}``."""

import re
from pathlib import Path

from drawn import RESULTS
from figure_table import tabulate_figures
from results_gallery import show_cards, show_sections
from verdicts import tabulate_verdicts

MAKE = {"results": show_cards, "sections": show_sections, "verdicts": tabulate_verdicts, "figures": tabulate_figures}
BLOCK = re.compile(rf"^```{{({'|'.join(MAKE)})}}(?: (\S+))?\n```$", flags=re.M)


def fill(text: str) -> str:
    """Return a page with what its blocks stand for."""
    return BLOCK.sub(lambda found: MAKE[found[1]](*filter(None, [found[2]])), text)


def setup(app):
    """Fill a page when it is read, and have it read again when the results have changed."""

    def read(app, page, source):
        if (filled := fill(source[0])) != source[0]:
            source[0] = filled
            for path in (*Path(__file__).parent.glob("*.py"), *RESULTS.glob("*/*/levels.csv"), *RESULTS.glob("*/*/claims.md")):
                app.env.note_dependency(str(path))

    app.connect("source-read", read)
    return {"parallel_read_safe": True}
