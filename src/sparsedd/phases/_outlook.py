"""Outlook: what may lie beyond the last level of a sweep."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparsedd.phases._curves import Array
from sparsedd.phases._phases import Phase, Phases


class Outlook(NamedTuple):
    """The phase of the last level, whether to prune further, and why."""

    phase: Phase
    further: bool
    because: str


def judge_last_level(found: Phases, train: Array, test: Array, near: float) -> Outlook:
    """Judge the last level, from mean curves and their phases."""
    phase, since = found[found.sparsity[-1]], test[test.argmin() :]
    unsurpassed = test.max() <= test[0] + near
    # a net that has lost far more of its training labels than the dense one had learnt by heart is wrecked, not in its dip
    by_heart = train[0] - test[0]
    memorises = train[-1] > test[-1] + near and train[0] - train[-1] <= 2 * by_heart + near
    rises = since[-1] > since[0] + near and since[-1] >= since.max() - near
    if phase is Phase.LIGHT:
        why = "nothing is lost yet. A dip may come next, then a Sweet phase; with clean labels there may be neither"
        return Outlook(phase, True, why)
    if phase is not Phase.COLLAPSED and find_sparsest(test, near) == len(test) - 1:
        return Outlook(phase, True, "test accuracy is still near its best, and a sparser net may do as well")
    # a sweep that ends in its dip has no Sweet phase yet, and the phases alone can't tell the dip from a collapse
    if unsurpassed and memorises:
        right = f"train {format_percent(train[-1], 1)}, test {format_percent(test[-1], 1)}"
        why = f"the net still memorises ({right}). A Sweet phase may lie beyond; with clean labels there may be none"
        return Outlook(Phase.CRITICAL, True, why)
    if unsurpassed and rises:
        return Outlook(Phase.CRITICAL, True, "test accuracy rises again, and a Sweet phase may lie beyond")
    reasons = {
        Phase.CRITICAL: "the net no longer memorises, and test accuracy has not come back",
        Phase.SWEET: "test accuracy is past its peak",
        Phase.COLLAPSED: "too few weights are left, and training accuracy has fallen along with test accuracy",
    }
    return Outlook(phase, False, reasons[phase])


def find_sparsest(test: Array, near: float) -> NDArray[np.intp]:
    """Return the last level whose test accuracy is near the best, of each curve."""
    good = test >= test.max(axis=-1, keepdims=True) - near
    last: NDArray[np.intp] = test.shape[-1] - 1 - np.argmax(good[..., ::-1], axis=-1)
    return last


def format_percent(share: float, digits: int = 2) -> str:
    """Format a share for a sentence: ``98.00 %``."""
    return f"{100 * share:.{digits}f} %"
