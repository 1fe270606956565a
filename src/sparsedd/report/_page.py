"""Page: the sweeps of a folder as one page of HTML that needs nothing else."""

import platform
import shlex
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
from jinja2 import Environment, PackageLoader, StrictUndefined

import sparsedd
from sparsedd.experiments._figures._measures import Levels
from sparsedd.phases import double_descent
from sparsedd.report import _numbers
from sparsedd.report._family import Family
from sparsedd.report._notices import list_notices
from sparsedd.report._pictures import draw_pictures
from sparsedd.report._summary import advise, summarize


def render_page(families: Sequence[Family], unreadable: Sequence[str], out: Path) -> str:
    """Return the page: the template ``page.html`` filled with the families, and first with what can't be read."""
    import matplotlib

    environment = Environment(
        loader=PackageLoader("sparsedd", "report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {"join_lines": _join_lines, "summarize": summarize, "advise": advise, "draw": draw_pictures}
    versions = {module.__name__: module.__version__ for module in (sparsedd, torch, np, matplotlib)}
    return environment.get_template("page.html").render(
        name=out.resolve().name or str(out),
        out=out,
        typed=shlex.quote(str(out)),
        families=families,
        unreadable=unreadable,
        kind="experiment" if all(family.scale for family in families) else "sweep",
        versions={"Python": platform.python_version(), **versions, "platform": platform.platform()},
        describe=_describe,
        double_descent=double_descent,
        list_notices=list_notices,
        is_sweep=lambda sweep: isinstance(sweep, Levels),
        numbers=_numbers,
    )


def _join_lines(text: object) -> str:
    """Return sentences in one line, in which none can begin with a sign."""
    return str(text).replace("\n", " ").replace(" %", "\N{NO-BREAK SPACE}%").replace(" ± ", "\N{NO-BREAK SPACE}± ")


def _describe(family: Family) -> str:
    """Say how large a family is, and how long it took."""
    seeds = len({row["seed"] for row in family.rows} | {seed.number for seed in family.seeds})
    levels = max([seed.levels for seed in family.seeds] or [1 + row["level"] for row in family.rows])
    about = [f"{family.scale} scale"] * bool(family.scale)
    about += [f"{levels} level{'s' * (levels != 1)}", f"{seeds} seed{'s' * (seeds != 1)}"]
    if isinstance(family.sweep, Levels) and len(family.sweep.seeds) < seeds:
        about[-1] += f", means of {len(family.sweep.seeds)}"
    if any(row["seconds"] is not None for row in family.rows):
        about.append(f"{timedelta(seconds=round(sum(row['seconds'] or 0 for row in family.rows)))} h of training")
    return " · ".join(about)
