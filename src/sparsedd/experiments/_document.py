"""Document: the runs of a folder as one page of HTML that needs nothing else."""

import platform
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
import torch

import sparsedd
from sparsedd.experiments._commands import commands
from sparsedd.experiments._experiment import Experiment, family_of
from sparsedd.experiments._findings import levels_table, numbers, phases_table
from sparsedd.experiments._html import Html, definitions, joined, page, tag, words
from sparsedd.experiments._illustrations import illustrations
from sparsedd.experiments._labels import headings
from sparsedd.experiments._level import Level
from sparsedd.experiments._sentences import advice, summary
from sparsedd.experiments._svg import colors
from sparsedd.experiments._sweep import Sweep


@dataclass(frozen=True)
class Family:
    """The seeds of one experiment: what each has finished, and their sweep, or why there is none.

    ``ended`` are the seeds that end early because the net whose masks they take has diverged; ``emptied`` are the layers that
    have lost all their weights, with the level of each such seed from which on.
    """

    results: Mapping[Experiment, Sequence[Level]]
    sweep: Sweep | ValueError
    ended: Collection[int] = ()
    emptied: Mapping[str, Sequence[int]] = field(default_factory=dict)

    @property
    def experiment(self) -> Experiment:
        """The first seed's."""
        return next(iter(self.results))

    @property
    def name(self) -> str:
        """That of its folder, which no other has."""
        return family_of(self.experiment)


def document(families: Sequence[Family], out: Path) -> str:
    """The page."""
    name = out.resolve().name or str(out)
    count = f"{len(families)} experiment{'s' * (len(families) != 1)}"
    called = headings(f.experiment for f in families)
    links = [
        tag("li", tag("a", called[f.experiment], href=f"#family-{k}"), " ", tag("code", f.name))
        for k, f in enumerate(families, 1)
    ]
    articles = [_article(f, called[f.experiment], out, f"family-{k}") for k, f in enumerate(families, 1)]
    where = tag("p", f"{count}, in ", tag("code", str(out)))
    body = [
        tag("header", tag("p", "sparsedd report", class_="kind"), tag("h1", name), where),
        *([tag("nav", tag("ol", joined(links)), aria_label="experiments")] if len(families) > 1 else []),
        tag("main", "\n", joined(articles, "\n\n"), "\n"),
        tag("footer", tag("h2", "Versions"), tag("p", "Those that wrote this page."), definitions(_versions(), "facts")),
    ]
    return page(f"sparsedd report: {name}", joined(body, "\n"), colors())


def _article(family: Family, heading: str, out: Path, key: str) -> Html:
    sweep = family.sweep
    parts = [tag("h2", heading), _facts(family), *_notices(family)]
    if isinstance(sweep, Sweep):
        first, *rest = illustrations(sweep, family.results, key)
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
            tag("h3", "Learning"),
            tag("div", "\n", joined(rest, "\n"), class_="grid"),
            tag("h3", "Levels"),
            levels_table(sweep),
        ]
    parts += [tag("h3", "Configuration"), definitions(_configuration(family), "facts"), *_how(family, out)]
    return tag("article", "\n", joined(parts, "\n"), "\n", id=key)


def _facts(family: Family) -> Html:
    experiment, seeds = family.experiment, len(family.results)
    seconds = round(sum(level.seconds for levels in family.results.values() for level in levels))
    hours, minutes = seconds // 3600, seconds // 60
    took = f"{hours} h {minutes % 60} min" if hours else f"{minutes} min {seconds % 60} s" if minutes else f"{seconds} s"
    about = f"{experiment.scale} scale · {experiment.levels} levels · {seeds} seed{'s' * (seeds != 1)} · {took} of training"
    return tag("p", tag("code", family.name), tag("br"), about, class_="about")


def _notices(family: Family) -> Iterator[Html]:
    """What is missing, and why."""
    of, sweep = family.experiment.levels, family.sweep
    going = {e.seed: len(levels) for e, levels in family.results.items() if not (levels and levels[-1].diverged)}
    short = {seed: f"seed {seed} has {count} of {of} levels" for seed, count in going.items() if count < of}
    means = "The means are of the levels that all seeds shown have."
    if missing := [said for seed, said in short.items() if seed not in family.ended]:
        yield _notice("Not finished", f"{', '.join(missing)}. {means}")
    if ended := [said for seed, said in short.items() if seed in family.ended]:
        yield _notice("Ended early", f"{', '.join(ended)}: the net whose masks it takes diverged there. {means}")
    if isinstance(sweep, ValueError):
        yield _notice("Nothing to show", str(sweep))
    elif sweep.diverged:
        rest = "The means are of the other seeds." if set(sweep.seeds).isdisjoint(dict(sweep.diverged)) else ""
        yield _notice("Diverged", f"{sweep.note}. {rest or 'What came before is shown.'}")

    if family.emptied:
        layers = [
            f"{name} from level {' or '.join(map(str, sorted(set(levels))))} on ({len(levels)} of {len(family.results)} seeds)"
            for name, levels in family.emptied.items()
        ]
        gives = "What a layer without weights gives is the same for every image, and so may be what the net gives."
        yield _notice("Layers without weights", f"{', '.join(layers)}. {gives}")


def _notice(what: str, text: str) -> Html:
    return tag("p", tag("strong", f"{what}: "), text, class_="notice")


def _configuration(family: Family) -> Iterator[tuple[str, str]]:
    """Every field of the experiment."""
    for f in fields(Experiment):
        value = getattr(family.experiment, f.name)
        if f.name == "seed":
            yield "seeds", tag("code", ", ".join(str(experiment.seed) for experiment in family.results))
        else:
            yield f.name, tag("code", value if isinstance(value, str) else repr(value))


def _how(family: Family, out: Path) -> Iterator[Html]:
    """The commands that make the runs, go on with them, and look at them."""
    seeds = [experiment.seed for experiment in family.results]
    make = "\n".join(commands(family.experiment, seeds, out))
    more = "\n".join(commands(family.experiment, range(min(seeds), max(seeds) + 3), out))
    yield tag("h3", "Commands")
    yield tag("p", "To make these runs, and to go on with them where they were stopped:")
    yield tag("pre", tag("code", make), tabindex=0)
    if more != make:
        yield tag("p", "For more seeds, of which what is there is not computed again:")
        yield tag("pre", tag("code", more), tabindex=0)
    yield tag("p", "To write this page again, and to check that every file is what was written:")
    look = "\n".join(shlex.join(["sparsedd", command, str(out)]) for command in ("report", "verify"))
    yield tag("pre", tag("code", look), tabindex=0)
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
