r"""Phases: the four phases of a sweep, and how deep and how high its double descent goes. Plain numbers in and out.

The paper describes the phases in words (He et al. 2022, 2.3); the rule that follows them here has one parameter, the
tolerance δ. With a_k and t_k the training and test accuracy of level k, the dip and the peak are the pair of levels i < j with
the largest rise t_j - t_i.

========= ====================================================================================================================
Light     from level 0 on, while neither a_k nor t_k is more than δ below its dense value
Critical  from there until, after the dip, t_k exceeds t_0 by more than δ (where no level does: is nearer the peak than the dip)
Sweet     from there, while test accuracy stays high
Collapsed from the first level after the peak at which both a_k and t_k are more than δ below their values at the peak
========= ====================================================================================================================

Where test accuracy never rises by more than δ, or rises to less than t_0 - δ, there is no Sweet phase, and the net has
collapsed where both accuracies are more than δ below the dense *test* accuracy: it has lost what generalises, too.
"""

from sparsedd.phases._advice import Advice, advise
from sparsedd.phases._boundaries import Boundary, boundaries
from sparsedd.phases._double_descent import DoubleDescent, double_descent
from sparsedd.phases._interval import Interval
from sparsedd.phases._phases import Landmarks, Phase, Phases, phases

__all__ = [
    "Advice",
    "Boundary",
    "DoubleDescent",
    "Interval",
    "Landmarks",
    "Phase",
    "Phases",
    "advise",
    "boundaries",
    "double_descent",
    "phases",
]
