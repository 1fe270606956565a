"""Retraining: what a level starts from, as a value; and schedules, functions of the step."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from sparsedd import _checks

#: The learning rate as a function of the optimizer step.
Schedule: TypeAlias = Callable[[int], float]


def multistep(rate: float, milestones: Sequence[int] = (), drop: float = 0.1, warmup: int = 0) -> Schedule:
    """Return a learning rate that falls to ``drop`` times itself at each milestone, after a linear rise over ``warmup`` steps.

    η(t) = η · min(1, (t + 1) / warmup) · drop^(number of milestones ≤ t)

    Parameters
    ----------
    rate
        η.
    milestones
        Steps, rising.
    drop, warmup
        See the formula.

    Examples
    --------
    >>> schedule = multistep(0.1, milestones=[2], warmup=2)
    >>> [round(schedule(step), 3) for step in range(4)]
    [0.05, 0.1, 0.01, 0.01]
    """
    for name, value in (("rate", rate), ("drop", drop)):
        _checks.number(name, value, above=0)
    _checks.kind("milestones", milestones, Sequence, "a list of steps")
    steps = sorted(_checks.whole("milestones", step) for step in milestones)
    _checks.whole("warmup", warmup)
    return lambda step: rate * drop ** bisect_right(steps, step) * min(1.0, (step + 1) / warmup if warmup else 1.0)


@dataclass(frozen=True)
class Retraining:
    """The weights and the schedule that a level starts from after pruning (He et al. 2022, 2.2 and A.2).

    Attributes
    ----------
    weights
        ``"rewind"`` to their values at the rewind step, ``"keep"`` the trained ones, or ``"reinit"``: draw new ones.
    schedule
        Of the learning rate: ``"rewind"`` to the rewind step, stay at its ``"final"`` value, or ``"restart"``.
    """

    weights: Literal["rewind", "keep", "reinit"]
    schedule: Literal["rewind", "final", "restart"]

    def __post_init__(self) -> None:
        _checks.one_of("weights", self.weights, ("rewind", "keep", "reinit"))
        _checks.one_of("schedule", self.schedule, ("rewind", "final", "restart"))

    def steps(self, schedule: Schedule, *, rewind_step: int, total: int) -> tuple[int, Schedule]:
        """Return the first step of a level, and the learning rate from there to step ``total``.

        Parameters
        ----------
        schedule
            Of the dense level.
        rewind_step, total
            The step t that rewinding returns to, and the number of steps of the dense level.

        Examples
        --------
        >>> start, rate = FINETUNING.steps(multistep(0.1, [50]), rewind_step=10, total=100)
        >>> start, round(rate(start), 3)
        (0, 0.01)
        >>> start, rate = LTR.steps(multistep(0.1, [50]), rewind_step=10, total=100)
        >>> start, rate(start)
        (10, 0.1)
        """
        _checks.function("schedule", schedule, "step -> learning rate")
        if _checks.whole("rewind_step", rewind_step) >= _checks.whole("total", total, least=1):
            raise ValueError(f"rewind_step must be below the {total:,} steps in total, got {rewind_step:,}.")
        if self.schedule == "final":
            return 0, lambda step: schedule(total - 1)
        return (rewind_step if self.schedule == "rewind" else 0), schedule


#: Lottery ticket rewinding: weights and schedule go back to the rewind step.
LTR = Retraining("rewind", "rewind")
#: Learning rate rewinding: the weights stay, the schedule goes back to the rewind step.
LR_REWINDING = Retraining("keep", "rewind")
#: The weights stay, the learning rate stays at its last value, for all epochs.
FINETUNING = Retraining("keep", "final")
#: New weights at each level, the schedule from its beginning.
SCRATCH = Retraining("reinit", "restart")

#: The paper's four methods, by name.
METHODS: dict[str, Retraining] = _checks.Named(
    "method",
    {"ltr": LTR, "lr-rewinding": LR_REWINDING, "finetuning": FINETUNING, "scratch": SCRATCH},
    "Pass one of your own: Retraining(weights, schedule)",
)
