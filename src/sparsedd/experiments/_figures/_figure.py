"""Figure: one of the paper's figures as data; what is to be computed for it, its tables, its picture, its claims."""

import io
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any, Self

import torch

from sparsedd import _checks, _files
from sparsedd.experiments._experiment import Experiment, Scale
from sparsedd.experiments._figures._claim import Claim
from sparsedd.experiments._figures._claims import Claims
from sparsedd.experiments._figures._measures import SPARSE, Measures, name_redense
from sparsedd.experiments._figures._panel import Drawing, Panel, move_panels
from sparsedd.experiments._labels import make_labels, name_dataset
from sparsedd.experiments._redense import Place, directions, interpolation, redense
from sparsedd.experiments._run_all import work
from sparsedd.experiments._run_fleet import group_fleets, work_fleet
from sparsedd.experiments._store import Store
from sparsedd.experiments._tables import Tables
from sparsedd.sweeps._workers import pinned, spread

if TYPE_CHECKING:
    import matplotlib.figure

PathLike = str | os.PathLike[str]

NETS = {"redense": (redense,), "interpolation": (redense, interpolation), "directions": (redense, directions)}  # by needs


@dataclass(frozen=True)
class Figure:
    """A figure of the paper, at some scale.

    Attributes
    ----------
    number
        In the paper.
    caption
        What it shows.
    panels
        In the order in which they are read.
    drawing
        How a panel is drawn, and what it needs besides sweeps.
    claims
        What the paper says with it.
    columns
        Panels side by side.
    scale
        Of its experiments.
    label
        What it is called: ``"Figure 4"``, or ``"Figure 4 on MNIST"``, see :meth:`on`.
    """

    number: int
    caption: str
    panels: tuple[Panel, ...]
    drawing: Drawing
    claims: tuple[Claims, ...]
    columns: int
    scale: Scale = "paper"
    label: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "label", self.label or f"Figure {self.number}")

    def __repr__(self) -> str:
        caption = shorten(self.caption, 78, placeholder=" …")
        return f"Figure({self.label.removeprefix('Figure ')}, {self.scale} scale, {len(self.panels)} panels: {caption})"

    def on(self, preset: Experiment) -> Self:
        """Return a figure that shows the same with another preset: its data, its model, its training.

        Noise, scores and retraining methods stay the figure's own; how much is pruned, and in what scope, is the preset's,
        unless the figure compares that. Panels that have become the same are shown once. A figure
        that has nothing but the preset already stays as it is.

        Raises
        ------
        ValueError
            For asymmetric noise on data for which it is not defined.

        Examples
        --------
        >>> from sparsedd.experiments import FIGURES, PRESETS
        >>> FIGURES["4"].on(PRESETS["lenet-mnist"])
        Figure(4 on MNIST, paper scale, 3 panels: In the paper: CIFAR-10: what more noise does to the phases)
        >>> FIGURES["5"].on(PRESETS["lenet-mnist"]) == FIGURES["5"]
        True
        """
        _checks.kind("preset", preset, Experiment, "an Experiment such as PRESETS['lenet-mnist']")
        panels = move_panels(self.panels, preset)
        if panels == self.panels:
            return self
        return replace(
            self,
            caption=f"In the paper: {self.caption}",
            panels=panels,
            columns=min(self.columns, len(panels)),
            scale=preset.scale,
            label=f"Figure {self.number} on {name_dataset(preset)}",
        )

    def scaled(self, scale: Scale) -> Self:
        """Return the figure in another scale, see :meth:`.Experiment.scaled`."""
        panels = tuple(replace(p, sweeps=tuple(experiment.scaled(scale) for experiment in p.sweeps)) for p in self.panels)
        return replace(self, panels=panels, scale=scale)

    @property
    def experiments(self) -> tuple[Experiment, ...]:
        """The sweeps of all panels, each once, those that others take their masks of first."""
        every = dict.fromkeys(experiment for panel in self.panels for experiment in panel.sweeps)
        return tuple(sorted(every, key=lambda experiment: experiment.tickets_of is not None))

    def members(self, seeds: int | None = None, seed: int = 0) -> list[Experiment]:
        """List each sweep with each of its seeds.

        Parameters
        ----------
        seeds
            How many; by default as many as the paper has, five on MNIST and three elsewhere, and at smaller scales three or
            (``"smoke"``) two.
        seed
            The first of them.
        """
        first = _checks.whole("seed", seed)
        count = None if seeds is None else _checks.whole("seeds", seeds, least=1)
        return [
            replace(experiment, seed=first + k)
            for experiment in self.experiments
            for k in range(_count_seeds(experiment) if count is None else count)
        ]

    def stages(
        self,
        runs: PathLike,
        seeds: int | None = None,
        *,
        seed: int = 0,
        device: str | torch.device = "cpu",
        fleet: bool = False,
    ) -> Iterator[list[partial[Any]]]:
        """Yield what is to be computed, in stages: the calls of one may be made side by side, all before the next is asked for.

        Sweeps come first, then the nets with other weights or without their masks, at the landmarks that the sweeps show.

        Parameters
        ----------
        runs
            The folder of the stores.
        seeds, seed
            As for :meth:`members`.
        device
            Where to train.
        fleet
            Train sweeps of one shape as one, see :func:`run_fleet`.
        """
        members = self.members(seeds, seed)
        for with_tickets in (False, True):
            chosen = [e for e in members if (e.tickets_of is not None) == with_tickets]
            if fleet and chosen:
                yield [partial(work_fleet, group, runs, device=device) for group in group_fleets(chosen)]
            elif chosen:
                yield [partial(work, [experiment], runs, device=device) for experiment in chosen]
        places = self._places(runs, members)
        for make in NETS.get(self.drawing.needs or "", ()):
            yield [partial(pinned, make, *place, device=device) for place in places]

    def tables(self, runs: PathLike, seeds: int | None = None, *, seed: int = 0) -> Tables:
        """Return the numbers behind the picture, of runs that are complete."""
        members = self.members(seeds, seed)
        tables = _collect_levels(runs, members)
        for experiment, level, out, factor in self._places(runs, members):
            if self.drawing.needs == "epochs":
                tables.add_curves(experiment, level, SPARSE, Store(out, experiment).levels()[level].curves)
            elif self.drawing.needs == "redense":
                record = redense(experiment, level, out, factor)
                tables.add_curves(experiment, level, SPARSE, record.sparse)
                tables.add_curves(experiment, level, name_redense(factor), record.dense)
            elif self.drawing.needs == "interpolation":
                tables.add_line(experiment, level, interpolation(experiment, level, out, factor))
            elif self.drawing.needs == "directions":
                for line in directions(experiment, level, out, factor):
                    tables.add_line(experiment, level, line)
        return tables

    def is_of(self, tables: Tables) -> bool:
        """Return whether the tables have all its experiments."""
        have = {row["experiment"] for row in tables.levels}
        return set(make_labels(self.scaled(tables.scale).experiments).values()) <= have

    def read(self, tables: Tables) -> list[Claim]:
        """Judge the paper's claims with this figure by the tables."""
        measures = Measures(_checks.kind("tables", tables, Tables, "Tables"), self.experiments)
        return [claim for says in self.claims for claim in says(self.panels, measures)]

    def draw(self, tables: Tables) -> "matplotlib.figure.Figure":
        """Draw the tables."""
        from matplotlib import pyplot

        measures = Measures(_checks.kind("tables", tables, Tables, "Tables"), self.experiments)
        rows = -(-len(self.panels) // self.columns)
        picture, grid = pyplot.subplots(
            rows, self.columns, figsize=(5.2 * self.columns, 0.5 + 3.9 * rows), squeeze=False, layout="constrained"
        )
        try:
            for panel, ax in zip(self.panels, grid.flat, strict=False):
                ax.set_title(panel.title)
                self.drawing.draw(ax, panel, measures)
                if note := "\n".join(dict.fromkeys(filter(None, (measures.sweep(e).note for e in panel.sweeps)))):
                    ax.annotate(note, (0.02, 0.02), xycoords="axes fraction", fontsize=8, color="#c0392b")
        except BaseException:
            pyplot.close(picture)
            raise
        for ax in grid.flat[len(self.panels) :]:
            ax.remove()
        counts = sorted({len(measures.sweep(experiment).seeds) for experiment in self.experiments})
        seeds = f"{' or '.join(map(str, counts))} seed{'s' * (counts != [1])}"
        picture.suptitle(f"{self.label}, {self.scale} scale, {seeds}", fontsize=11)
        return picture

    def _places(self, runs: PathLike, members: list[Experiment]) -> list[Place]:
        """List the nets that the panels look at closely."""
        if not self.drawing.needs:
            return []
        measures = Measures(_collect_levels(runs, members), self.experiments)
        found: dict[Place, None] = {}
        for panel in self.panels:
            sweep = measures.sweep(panel.sweeps[0])
            for mark in sweep.landmarks if panel.at is None else [sweep.landmarks[panel.at]]:
                seeds = [e for e in members if replace(e, seed=0) == panel.sweeps[0] and e.seed in sweep.seeds]
                found |= {Place(experiment, mark.level, runs, panel.factor): None for experiment in seeds}
        return list(found)


def _collect_levels(runs: PathLike, members: list[Experiment]) -> Tables:
    tables = Tables()
    for experiment in members:
        tables.add_levels(experiment, Store(runs, experiment).levels())
    return tables


def _count_seeds(experiment: Experiment) -> int:
    """Return how many seeds the paper has; fewer at smaller scales."""
    if experiment.scale == "smoke":
        return 2
    return 5 if experiment.scale == "paper" and experiment.dataset == "mnist" else 3


def reproduce(
    figure: Figure,
    out: PathLike,
    *,
    seeds: int | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
    fleet: bool = False,
    executor: Executor | None = None,
    runs: PathLike | None = None,
) -> list[Claim]:
    """Compute a figure, as far as it has not been computed; leave its tables, its picture and its claims in a folder.

    The picture is ``figure.png`` and ``figure.svg``, the claims are ``claims.md``.

    Parameters
    ----------
    figure
        Such as ``FIGURES["13"].scaled("small")``.
    out
        The folder.
    seeds, seed
        As for :meth:`Figure.members`.
    device, fleet
        Where to train, and whether sweeps of one shape are trained as one, as for :meth:`.Figure.stages`.
    executor
        As for :func:`.run_all`.
    runs
        The folder of the stores, ``out / "runs"`` by default. Figures that share it share what they have in common.

    Returns
    -------
    list
        The paper's claims with the figure, judged.

    Examples
    --------
    >>> import tempfile, matplotlib; matplotlib.use("agg")
    >>> from sparsedd.experiments import FIGURES
    >>> with tempfile.TemporaryDirectory() as out:
    ...     claims = reproduce(FIGURES["1"].scaled("smoke"), out, seeds=1)
    ...     sorted(path.name for path in Path(out).glob("*.*"))
    ['claims.md', 'figure.png', 'figure.svg', 'levels.csv']
    >>> [claim.verdict for claim in claims]
    ['cannot be told', 'cannot be told', 'cannot be told']
    """
    _checks.kind("figure", figure, Figure, "a Figure such as FIGURES['13']")
    if executor is None:
        _checks.device("device", device)
    else:
        _checks.executor("executor", executor)
    runs = _checks.path("out", out) / "runs" if runs is None else runs
    for calls in figure.stages(runs, seeds, seed=seed, device=device, fleet=fleet):
        if executor is None:
            for call in calls:
                call()
        else:
            for future in [executor.submit(call) for call in spread(calls)]:
                future.result()
    return finish(figure, out, figure.tables(runs, seeds, seed=seed))


def finish(figure: Figure, out: PathLike, tables: Tables, *, write: bool = True) -> list[Claim]:
    """Judge the claims, draw the picture, and then leave both in the folder, with the tables if they are to be written."""
    from matplotlib import pyplot, rc_context

    claims, picture = figure.read(tables), figure.draw(tables)
    try:
        if write:
            tables.write(out)
        save_picture(picture, Path(out) / "figure.png", dpi=120)
        with rc_context({"svg.hashsalt": "sparsedd", "svg.fonttype": "none"}):  # the same bytes each time, and text as text
            save_picture(picture, Path(out) / "figure.svg", metadata={"Date": None})
        _files.write(Path(out) / "claims.md", (claims_markdown(figure, claims, tables) + "\n").encode())
    finally:
        pyplot.close(picture)
    return claims


def save_picture(picture: Any, path: Path, **options: Any) -> None:
    """Save a picture of matplotlib's; the file is whole or absent."""
    data = io.BytesIO()
    picture.savefig(data, format=path.suffix[1:], **options)
    _files.write(path, data.getvalue())


def claims_markdown(figure: Figure, claims: Sequence[Claim], tables: Tables) -> str:
    """Say in Markdown what the figure shows, a sentence for each claim, and which seeds have diverged."""
    sweeps = map(Measures(tables, figure.experiments).sweep, figure.experiments)
    notes = [f"{sweep.name}: {sweep.note}, left out of the means." for sweep in sweeps if sweep.diverged]
    caption = f"{figure.label}, {figure.scale} scale. {figure.caption}."
    if figure.scale == "smoke":
        caption += " This is of stand-in data: it shows that all runs, and nothing of the paper."
    return "\n".join([caption, *([""] if claims or notes else []), *(f"- {said}" for said in (*claims, *notes))])
