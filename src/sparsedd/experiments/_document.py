"""Document: the runs of a folder as one page of HTML that needs nothing else."""

import platform
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

import sparsedd
from sparsedd.experiments._commands import commands
from sparsedd.experiments._families import Family
from sparsedd.experiments._findings import levels_table, numbers, phases_table
from sparsedd.experiments._html import Html, definitions, joined, page, tag, words
from sparsedd.experiments._illustrations import illustrations
from sparsedd.experiments._measures import Levels as Sweep
from sparsedd.experiments._sentences import UNKNOWN, advice, summary
from sparsedd.experiments._svg import colors


def document(families: Sequence[Family], out: Path) -> str:
    """The page."""
    name = out.resolve().name or str(out)
    kind = "experiment" if all(f.experiment for f in families) else "sweep"
    count = f"{len(families)} {kind}{'s' * (len(families) != 1)}"
    links = [tag("li", tag("a", f.heading, href=f"#family-{k}"), " ", tag("code", f.name)) for k, f in enumerate(families, 1)]
    articles = [_article(f, out, f"family-{k}") for k, f in enumerate(families, 1)]
    where = tag("p", f"{count}, in ", tag("code", str(out)))
    body = [
        tag("header", tag("p", "sparsedd report", class_="kind"), tag("h1", name), where),
        *([tag("nav", tag("ol", joined(links)), aria_label=f"{kind}s")] if len(families) > 1 else []),
        tag("main", "\n", joined(articles, "\n\n"), "\n"),
        tag("footer", tag("h2", "Versions"), tag("p", "Those that wrote this page."), definitions(_versions(), "facts")),
    ]
    return page(f"sparsedd report: {name}", joined(body, "\n"), colors())


def _article(family: Family, out: Path, key: str) -> Html:
    sweep = family.sweep
    parts = [tag("h2", family.heading), _facts(family), *_notices(family)]
    if isinstance(sweep, Sweep) and sweep.has_phases:
        first, *rest = illustrations(sweep, family.members, key)
        parts += [
            tag("p", words(summary(sweep)), class_="lead"),
            tag(
                "section",
                tag("h3", "Advice"),
                *(tag("p", words(line)) for line in str(advice(sweep)).splitlines()),
                class_="advice",
            ),
            numbers(sweep),
            first,
            tag("h3", "Phases"),
            phases_table(sweep),
            *([tag("h3", "Learning"), tag("div", "\n", joined(rest, "\n"), class_="grid")] if rest else []),
        ]
    if isinstance(sweep, Sweep):
        parts += [tag("h3", "Levels"), levels_table(sweep)]
    if family.facts:
        pairs = [(name, tag("code", value)) for name, value in family.facts]
        parts += [tag("h3", "Configuration"), definitions(pairs, "facts")]
    return tag("article", "\n", joined([*parts, *_how(family, out)], "\n"), "\n", id=key)


def _facts(family: Family) -> Html:
    seeds = len({row["seed"] for row in family.rows} | {member.seed for member in family.members})
    levels = max([member.levels for member in family.members] or [1 + row["level"] for row in family.rows])
    seconds = round(sum(row["seconds"] or 0 for row in family.rows))
    hours, minutes = seconds // 3600, seconds // 60
    took = f"{hours} h {minutes % 60} min" if hours else f"{minutes} min {seconds % 60} s" if minutes else f"{seconds} s"
    about = [f"{family.scale} scale"] if family.scale else []
    about += [f"{levels} level{'s' * (levels != 1)}", f"{seeds} seed{'s' * (seeds != 1)}"]
    about += [f"{took} of training"] if any(row["seconds"] is not None for row in family.rows) else []
    return tag("p", tag("code", family.name), tag("br"), " · ".join(about), class_="about")


def _notices(family: Family) -> Iterator[Html]:
    """What is missing, and why."""
    sweep = family.sweep
    going = [m for m in family.members if not (m.records and m.records[-1].diverged)]
    short = [(m, f"seed {m.seed} has {len(m.records)} of {m.levels} levels") for m in going if len(m.records) < m.levels]
    means = "The means are of the levels that all seeds shown have."
    if missing := [said for member, said in short if not member.ended]:
        yield _notice("Not finished", f"{', '.join(missing)}. {means}")
    if ended := [said for member, said in short if member.ended]:
        yield _notice("Ended early", f"{', '.join(ended)}: the net whose masks it takes diverged there. {means}")
    if isinstance(sweep, ValueError):
        yield _notice("Nothing to show", str(sweep))
    elif sweep.diverged:
        rest = "The means are of the other seeds." if set(sweep.seeds).isdisjoint(dict(sweep.diverged)) else ""
        yield _notice("Diverged", f"{sweep.note}. {rest or 'What came before is shown.'}")
    if isinstance(sweep, Sweep) and not sweep.has_phases:
        yield _notice("No phases", f"{UNKNOWN[0].upper()}{UNKNOWN[1:]}")
    if family.emptied:
        layers = [
            f"{name} from level {' or '.join(map(str, sorted(set(levels))))} on ({len(levels)} of {len(family.members)} seeds)"
            for name, levels in family.emptied.items()
        ]
        gives = "What a layer without weights gives is the same for every image, and so may be what the net gives."
        yield _notice("Layers without weights", f"{', '.join(layers)}. {gives}")


def _notice(what: str, text: str) -> Html:
    return tag("p", tag("strong", f"{what}: "), text, class_="notice")


def _how(family: Family, out: Path) -> Iterator[Html]:
    """The commands that make the runs, go on with them, and look at them."""
    yield tag("h3", "Commands")
    if family.experiment:
        seeds = [member.seed for member in family.members]
        make = "\n".join(commands(family.experiment, seeds, out))
        more = "\n".join(commands(family.experiment, range(min(seeds), max(seeds) + 3), out))
        yield tag("p", "To make these runs, and to go on with them where they were stopped:")
        yield tag("pre", tag("code", make), tabindex=0)
        if more != make:
            yield tag("p", "For more seeds, of which what is there is not computed again:")
            yield tag("pre", tag("code", more), tabindex=0)
    elif family.members:
        yield tag("p", "To go on where these runs were stopped, run their script again: what is there is not computed again.")
    look = [("report", "To write this page again"), ("verify", "to check that every file is what was written")]
    look = look if family.members else look[:1]
    yield tag("p", f"{', and '.join(purpose for _, purpose in look)}:")
    typed = "\n".join(shlex.join(["sparsedd", command, str(out)]) for command, _ in look)
    yield tag("pre", tag("code", typed), tabindex=0)
    if family.experiment:
        note = "The device and the number of processes are not kept with the runs: where they were others, add "
        yield tag("p", note, tag("code", "--device"), " and ", tag("code", "--processes"), ".", class_="note")


def _versions() -> Iterator[tuple[str, str]]:
    import matplotlib

    yield "sparsedd", sparsedd.__version__
    yield "Python", platform.python_version()
    yield "torch", torch.__version__
    yield "NumPy", np.__version__
    yield "matplotlib", matplotlib.__version__
    yield "platform", platform.platform()
