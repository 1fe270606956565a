"""Claim: what the paper says, what was measured, and whether the two agree.

A claim is about effects, one number for each seed, each above or below a bound, mostly zero. It *agrees* where the interval
of every effect lies on the claimed side, and *disagrees* where that of some effect lies on the other side; else it *cannot be
told*. Intervals are Student's, over the seeds. Fewer than three seeds tell nothing.
"""

from dataclasses import dataclass
from textwrap import shorten
from typing import Literal, TypeAlias

import numpy as np

from sparsedd.experiments._figures._measures import Array
from sparsedd.phases import Interval

CONFIDENCE = 0.95
SEEDS = 3  # two have an interval, but one that all depends on the form of the distribution
Verdict: TypeAlias = Literal["agrees", "disagrees", "cannot be told"]


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, put to the test.

    Attributes
    ----------
    claim
        What the paper says, in other words.
    measured
        The effects, with their intervals.
    verdict
        ``"agrees"``, ``"disagrees"`` or ``"cannot be told"``.
    seeds
        How many it was judged by; fewer than three tell nothing.
    """

    claim: str
    measured: str
    verdict: Verdict
    seeds: int = 0

    def __repr__(self) -> str:
        return f"Claim({self.verdict}: {shorten(self.claim, 90, placeholder=' …')})"

    def __str__(self) -> str:
        return f"{self.claim}: {self.verdict}. Measured: {self.measured}."


@dataclass(frozen=True)
class Effect:
    """A number for each seed, with what is claimed of it.

    Attributes
    ----------
    text
        What it is.
    values
        (seeds,), nan where it can't be measured.
    unit
        What follows the number. Shares and their differences are given in ``" %"`` and ``" points"``, a hundred to one.
    above, below
        The bound: that the number is above (by default above zero), or that it is below.
    limit
        The largest size that it can have.
    quantum
        The step between the values that it can take: seeds that agree on one know it no better than that.
    """

    text: str
    values: Array
    unit: str = " points"
    above: float = 0.0
    below: float | None = None
    limit: float = np.inf
    quantum: float = 0.0

    def __repr__(self) -> str:
        return f"Effect({shorten(str(self), 90, placeholder=' …')})"

    @property
    def interval(self) -> Interval:
        """Student's interval of the mean over the seeds; nan for a single one."""
        n = len(self.values)
        if n < 2 or not np.isfinite(self.values).all():
            return Interval(np.nan, np.nan)
        from scipy.stats import t

        std = max(self.values.std(ddof=1), self.quantum / 12**0.5, 1e-9)  # at least that of rounding
        mean, error = self.values.mean(), std / n**0.5
        half = float(t.ppf((1 + CONFIDENCE) / 2, n - 1)) * error
        return Interval(*(float(np.clip(end, -self.limit, self.limit)) for end in (mean - half, mean + half)))

    @property
    def verdict(self) -> Verdict:
        """The verdict on this effect alone."""
        low, high = self.interval if len(self.values) >= SEEDS else (np.nan, np.nan)
        low, high = (low - self.above, high - self.above) if self.below is None else (self.below - high, self.below - low)
        return "agrees" if low > 0 else "disagrees" if high < 0 else "cannot be told"

    def __str__(self) -> str:
        if not np.isfinite(self.values).all():
            return f"{self.text}: not to be measured in every seed"
        scale, digits = (100, 1) if self.unit in (" points", " %") else (1, 2)
        mean, low, high = (f"{scale * value:z.{digits}f}" for value in (self.values.mean(), *self.interval))
        spread = "one seed" if low == "nan" else f"95 % interval {low} to {high}"
        side, value = ("above", self.above) if self.below is None else ("below", self.below)
        bound = f", claimed {side} {scale * value:g}" if (side, value) != ("above", 0) else ""
        return f"{self.text}: {mean}{self.unit} ({spread}{bound})"


def judge(claim: str, *effects: Effect, given: Effect | None = None, told: bool = True) -> Claim:
    """Return a claim with its verdict: it agrees where all effects do, and disagrees where one does.

    It can't be told where what must be ``given`` is not sure, or where ``told`` is false: the sweep has no such phase.

    >>> print(judge("the net loses weights", Effect("loss", np.array([0.11, 0.10, 0.12]))))
    the net loses weights: agrees. Measured: loss: 11.0 points (95 % interval 8.5 to 13.5).
    """
    verdicts = {effect.verdict for effect in effects}
    verdict: Verdict = "disagrees" if "disagrees" in verdicts else "agrees" if verdicts == {"agrees"} else "cannot be told"
    if not told or (given is not None and given.verdict != "agrees"):
        verdict = "cannot be told"
    effects = (*effects, *([given] if given else ()))
    return Claim(claim, "; ".join(map(str, effects)), verdict, min(len(effect.values) for effect in effects))
