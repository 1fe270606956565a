"""The table of verdicts: what the paper claims, at which scale it was judged, and whether the paper's scale changed that."""

import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from drawn import RESULTS, load

from sparsedd.experiments import Claim, Figure
from sparsedd.experiments._experiment import SCALES
from sparsedd.experiments._figures._claim import SEEDS
from sparsedd.experiments._labels import make_title

STYLES = {"disagrees": "disagree", "cannot be told": "told", "agrees": "agree"}  # of the verdicts, what disagrees first


class Judgement(NamedTuple):
    """A claim as the tables of a folder judge it."""

    folder: Path
    figure: Figure
    claim: Claim


def tabulate_verdicts() -> str:
    """Return a sentence of counts and the table, in Markdown."""
    decided = [(text, *decide(found)) for text, found in judge_all().items()]
    decided.sort(key=lambda row: ([*STYLES].index(row[1].claim.verdict), row[1].figure.number))
    counts = Counter(judged.claim.verdict for _, judged, _ in decided)
    said = f"Of {len(decided)} claims {{}} disagree, {{}} cannot be told, and {{}} agree."
    head = "| claim | figure | scale | seeds | verdict | changed |", "| --- | --- | --- | --- | --- | --- |"
    return "\n".join([said.format(*(counts[verdict] for verdict in STYLES)), "", *head, *(row(*one) for one in decided)])


def judge_all() -> dict[str, dict[str, Judgement]]:
    """Return for each claim, and each scale that it was computed at, the judgement by most seeds."""
    found: dict[str, dict[str, Judgement]] = {}
    folders = [path.parent for path in RESULTS.glob("*/*/levels.csv")]
    for folder in sorted(folders, key=lambda folder: (folder.parent.name, int(folder.name))):
        figure, tables = load(folder)
        for claim in figure.read(tables):
            scales = found.setdefault(name_claim(figure, claim), {})
            before = scales.get(figure.scale)
            if before is None or before.claim.seeds < claim.seeds:
                scales[figure.scale] = Judgement(folder, figure, claim)
    return found


def name_claim(figure: Figure, claim: Claim) -> str:
    """Return what is claimed, of which data and noise, without what was measured: the same in each figure and scale."""
    text = re.sub(r", (here Phases\(.*?\)|[\d.]+ %)(?=:|$)", "", claim.claim)
    return text if "ε" in text else f"{make_title(figure.experiments[0])}, {text[0].lower()}{text[1:]}"


def decide(found: dict[str, Judgement]) -> tuple[Judgement, str]:
    """Return the judgement at the largest scale that has enough seeds, and what the paper's scale has changed."""
    first, *rest = (found[scale] for scale in reversed(SCALES) if scale in found)
    chosen = next((judged for judged in (first, *rest) if judged.claim.seeds >= SEEDS), first)
    if not rest or first.figure.scale != "paper":
        return chosen, "–"
    if first.claim.seeds < SEEDS:
        return chosen, f"not yet: {first.claim.seeds} of {SEEDS} seeds"
    before = rest[0].claim.verdict
    return first, "no" if before == first.claim.verdict else f"yes: {before} at {rest[0].figure.scale} scale"


def row(text: str, judged: Judgement, change: str) -> str:
    """Return the row of a claim."""
    folder, figure, claim = judged
    place = f"results/{folder.parent.name}.md#{folder.parent.name}-{folder.name}"
    verdict = f"[{claim.verdict}]{{.{STYLES[claim.verdict]}}}"
    return f"| {text} | [{folder.name}]({place}) | {figure.scale} | {claim.seeds} | {verdict} | {change} |"
