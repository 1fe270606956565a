import math
from itertools import product

import numpy as np
import pytest
from helpers import no_global_draws
from hypothesis import given
from hypothesis import strategies as st

from sparsedd import phases as module
from sparsedd.phases import Phase, boundaries, double_descent, phases

LIGHT, CRITICAL, SWEET, COLLAPSED = Phase


def levels(n: int, fraction: float = 0.2) -> list[float]:
    return [1 - (1 - fraction) ** k for k in range(n)]


accuracy = st.integers(0, 100).map(lambda k: k / 100)
sweeps = st.integers(1, 12).flatmap(
    lambda n: st.tuples(*[st.lists(accuracy, min_size=n, max_size=n) for _ in range(2)]).map(lambda two: (levels(n), *two))
)

# ---------------------------------------------------------------- the four phases

#              sparsity                 train                         test                           phases of the levels
KNOWN = {
    "double descent": (
        [0, 0.5, 0.8, 0.9, 0.99],
        [1, 1, 0.9, 0.8, 0.6],
        [0.8, 0.8, 0.7, 0.95, 0.6],
        [LIGHT, LIGHT, CRITICAL, SWEET, COLLAPSED],
    ),
    "long and slow": (
        levels(10),
        [1, 1, 1, 0.99, 0.95, 0.9, 0.8, 0.75, 0.5, 0.1],
        [0.7, 0.7, 0.69, 0.6, 0.5, 0.6, 0.8, 0.85, 0.7, 0.1],
        [LIGHT, LIGHT, LIGHT, CRITICAL, CRITICAL, CRITICAL, SWEET, SWEET, COLLAPSED, COLLAPSED],
    ),
    "a peak that only comes back to the dense net": (
        levels(6),
        [1, 1, 0.95, 0.9, 0.85, 0.3],
        [0.8, 0.7, 0.6, 0.75, 0.8, 0.3],
        [LIGHT, CRITICAL, CRITICAL, SWEET, SWEET, COLLAPSED],
    ),
    "no noise: it only collapses": (
        levels(5),
        [1, 1, 1, 0.9, 0.2],
        [0.95, 0.95, 0.95, 0.9, 0.2],
        [LIGHT, LIGHT, LIGHT, COLLAPSED, COLLAPSED],
    ),
    "nothing happens": (levels(4), [1] * 4, [0.9] * 4, [LIGHT] * 4),
    "training suffers first": (
        levels(4),
        [1, 0.9, 0.8, 0.7],
        [0.7, 0.7, 0.69, 0.7],
        [LIGHT, CRITICAL, CRITICAL, CRITICAL],
    ),
    "not yet collapsed": (
        levels(4),
        [1, 0.95, 0.8, 0.75],
        [0.7, 0.5, 0.9, 0.9],
        [LIGHT, CRITICAL, SWEET, SWEET],
    ),
    "sweet is what beats the dense net": (
        levels(4),
        [1, 0.95, 0.9, 0.85],
        [0.8, 0.5, 0.75, 0.95],
        [LIGHT, CRITICAL, CRITICAL, SWEET],
    ),
    "a rise to less than the dense net is none": (
        levels(4),
        [1, 0.9, 0.8, 0.3],
        [0.9, 0.5, 0.8, 0.3],
        [LIGHT, CRITICAL, COLLAPSED, COLLAPSED],
    ),
    "one level": ([0], [1], [0.5], [LIGHT]),
}


@pytest.mark.parametrize(("sparsity", "train", "test", "expected"), KNOWN.values(), ids=KNOWN)
def test_known_sweeps(sparsity, train, test, expected):
    found = phases(sparsity, train, test)
    assert [found[s] for s in sparsity] == expected
    assert found.sparsity == tuple(sparsity)


@given(sweeps, st.sampled_from([0.0, 0.02, 0.1]))
def test_phases_come_in_order_and_begin_between_two_levels(sweep, tolerance):
    sparsity, train, test = sweep
    found = phases(*sweep, tolerance=tolerance)
    order = [list(Phase).index(found[s]) for s in sparsity]
    assert order == sorted(order)
    assert list(found.boundaries) == sorted(found.boundaries)
    assert found[0.0] == LIGHT or found.boundaries[0] == 0.0
    for phase, start in zip(list(Phase)[1:], found.boundaries, strict=True):
        if start == math.inf:
            assert order[-1] < list(Phase).index(phase)
            continue
        k = sum(s < start for s in sparsity)  # the first level of it, or of a later one
        assert list(Phase).index(found[sparsity[k]]) >= list(Phase).index(phase)
        if k:
            assert 1 - start == pytest.approx(math.sqrt((1 - sparsity[k - 1]) * (1 - sparsity[k])))
    assert phases(*sweep, tolerance=tolerance) == found


@given(sweeps)
def test_each_phase_is_what_the_rule_says(sweep):
    sparsity, train, test = sweep
    found, delta = phases(*sweep, tolerance=0.02), 0.02 + 1e-9
    landmarks = found.landmarks()
    assert landmarks.dense == sparsity[0]
    for k, s in enumerate(sparsity):
        if found[s] == LIGHT:
            assert test[k] >= test[0] - delta
            assert train[k] >= train[0] - delta
    if landmarks.sweet is None:
        assert landmarks.critical is None
        assert SWEET not in [found[s] for s in sparsity]
        rises = [test[j] - min(test[: j + 1]) for j in range(len(test))]
        assert max(rises) <= delta or test[rises.index(max(rises))] < test[0] - delta
    else:
        dip, peak = sparsity.index(landmarks.critical), sparsity.index(landmarks.sweet)
        assert dip < peak
        rises = [test[j] - test[i] for j in range(len(test)) for i in range(j)]
        assert test[peak] - test[dip] == max(rises)
        assert found[landmarks.sweet] == SWEET
        first = next(
            (k for k in range(peak, len(test)) if test[k] < test[peak] - delta and train[k] < train[peak] - delta), None
        )
        assert (found[sparsity[-1]] == COLLAPSED) == (first is not None)
        if first is not None:
            assert [s for s in sparsity if found[s] == COLLAPSED] == sparsity[first:]
    assert landmarks.collapsed == (sparsity[-1] if found[sparsity[-1]] == COLLAPSED else None)


@given(sweeps, st.integers(1, 4))
def test_seeds_count_by_their_mean(sweep, seeds):
    sparsity, train, test = sweep
    assert phases(sparsity, [train] * seeds, np.array([test] * seeds)).boundaries == phases(sparsity, train, test).boundaries
    exact = np.clip(np.round(np.array(test) * 64) / 64, 1 / 64, 63 / 64)
    either_side = [exact + 1 / 64, exact - 1 / 64] * seeds
    assert phases(sparsity, train, either_side) == phases(sparsity, train, exact)


def test_reprs_are_sentences():
    assert repr(phases(*KNOWN["double descent"][:3])) == (
        "Phases(Light, Critical from 68.38%, Sweet from 85.86%, Collapsed from 96.84%)"
    )
    assert repr(phases(*KNOWN["nothing happens"][:3])) == "Phases(Light throughout)"
    empty = phases([0, 0.5, 0.8], [1, 1, 0.9], [0.7, 0.7, 0.9])
    assert empty.boundaries[0] == empty.boundaries[1]
    assert repr(empty) == "Phases(Light, Sweet from 68.38%)"
    assert repr(double_descent([0, 0.8, 0.9], [0.7, 0.8, 0.75])) == "DoubleDescent(no dip, gain 10.0 points at 80.00%, 1 seed)"
    assert repr(double_descent([0, 0.8, 0.9], [0.7, 0.6, 0.6])) == "DoubleDescent(no dip, no gain, 1 seed)"
    assert [f"{phase}" for phase in Phase] == ["Light", "Critical", "Sweet", "Collapsed"]
    assert module.phases is phases


@pytest.mark.parametrize("sparsity", [-0.1, 1.1, float("nan")])
def test_a_phase_is_asked_for_a_sparsity(sparsity):
    with pytest.raises(ValueError, match=rf"sparsity must be in \[0, 1\], got {sparsity}"):
        phases([0, 0.5], [1, 1], [1, 1])[sparsity]


# ---------------------------------------------------------------- double descent


def test_dip_and_gain_are_differences_to_the_dense_net_in_the_mean():
    test = np.array([[0.80, 0.70, 0.90, 0.5], [0.82, 0.74, 0.92, 0.5], [0.81, 0.75, 0.94, 0.5]])
    found = double_descent([0, 0.8, 0.99, 0.999], test)
    assert found.dip == pytest.approx(0.08)
    assert found.gain == pytest.approx(0.11)
    assert (found.dip_sparsity, found.peak_sparsity, found.seeds) == (0.8, 0.99, 3)
    assert found.dip_interval.low <= found.dip <= found.dip_interval.high
    assert found.gain_interval.low <= found.gain <= found.gain_interval.high


@given(sweeps)
def test_dip_and_peak_are_the_largest_rise(sweep):
    sparsity, _, test = sweep
    found = double_descent(sparsity, test)
    i, j = sparsity.index(found.dip_sparsity), sparsity.index(found.peak_sparsity)
    assert i <= j
    assert test[j] - test[i] == max([0, *(test[b] - test[a] for b in range(len(test)) for a in range(b))])
    assert (found.dip, found.gain) == (test[0] - test[i], test[j] - test[0])
    assert all(math.isnan(x) for x in (*found.dip_interval, *found.gain_interval))  # one seed shows no spread


def test_intervals_hold_the_truth_as_often_as_they_say_and_depend_on_the_seed_alone():
    generator = np.random.default_rng(0)
    truth, hits = np.array([0.8, 0.6, 0.9]), 0
    for trial in range(200):
        curves = truth + 0.02 * generator.standard_normal((20, 3))
        found = double_descent([0, 0.8, 0.9], curves, seed=trial, confidence=0.9, resamples=400)
        hits += found.gain_interval.low <= 0.1 <= found.gain_interval.high
    assert 0.8 <= hits / 200 <= 0.97
    with no_global_draws():
        first = double_descent([0, 0.8, 0.9], curves, seed=1)
    assert double_descent([0, 0.8, 0.9], curves, seed=1) == first
    assert double_descent([0, 0.8, 0.9], curves, seed=2).gain_interval != first.gain_interval
    wider = double_descent([0, 0.8, 0.9], curves, seed=1, confidence=0.99)
    assert wider.gain_interval.low < first.gain_interval.low < first.gain_interval.high < wider.gain_interval.high


def test_equal_seeds_leave_no_doubt():
    found = double_descent([0, 0.5, 0.9], [[0.75, 0.5, 1.0]] * 5)
    assert (*found.dip_interval, *found.gain_interval) == (0.25, 0.25, 0.25, 0.25)


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("sparsity", "test", "message"),
    [
        ([0, 0.5, 0.5], [1, 1, 1], r"must rise from level to level within \[0, 1\], got 0, 0.5, 0.5"),
        ([0.5, 0], [1, 1], "must rise.*got 0.5, 0"),
        ([0, 20], [1, 1], "got 0, 20"),
        ([0, float("nan")], [1, 1], "got 0, nan"),
        ([], [], r"sparsity must be one number for each point of a curve, got an array of shape \(0,\)"),
        ([[0, 0.5]], [[1, 1]], r"got an array of shape \(1, 2\)"),
        ([0, 0.5], [1, 1, 1], r"test_accuracy must have shape \(seeds, 2\) or \(2,\), a number for each point, got \(3,\)"),
        ([0, 0.5], [[1], [1]], r"got \(2, 1\)"),
        ([0, 0.5], [1, float("nan")], "test_accuracy must be finite, got nan"),
        ([0, 0.5], np.ones((0, 2)), r"got \(0, 2\)"),
    ],
)
def test_what_is_no_sweep_is_refused(sparsity, test, message):
    with pytest.raises(ValueError, match=message):
        double_descent(sparsity, test)
    train = np.ones(len(sparsity))
    with pytest.raises(ValueError, match=message):
        phases(sparsity, train if np.ndim(sparsity) == 1 else [[1, 1]], test)


def test_arguments_are_checked():
    sweep = KNOWN["double descent"][:3]
    for tolerance in (-0.1, float("nan")):
        with pytest.raises(ValueError, match=f"tolerance must not be negative, got {tolerance}"):
            phases(*sweep, tolerance=tolerance)
    for confidence in (0, 1, 95, float("nan")):
        with pytest.raises(ValueError, match=rf"confidence must be in \(0, 1\), got {confidence}"):
            double_descent(sweep[0], sweep[2], confidence=confidence)
    for wrong, error in (({"seed": -1}, ValueError), ({"seed": 0.5}, TypeError), ({"resamples": 0}, ValueError)):
        with pytest.raises(error, match=f"{next(iter(wrong))} must be .*got {next(iter(wrong.values()))}"):
            double_descent(sweep[0], sweep[2], **wrong)
    with pytest.raises(ValueError, match="train_accuracy must have shape"):
        phases(sweep[0], [1], sweep[2])


# ---------------------------------------------------------------- the boundaries

BASE = [0, 0.5, 0.8, 0.9, 0.99], [1, 1, 0.9, 0.8, 0.6]
TEST = [[0.8, 0.8, 0.7, 0.95, 0.6], [0.8, 0.7, 0.7, 0.95, 0.6], [0.8, 0.8, 0.84, 0.9, 0.6]]


def test_intervals_of_the_boundaries_are_those_of_all_resamples():
    every = [phases(*BASE, [TEST[k] for k in pick]).boundaries for pick in product(range(3), repeat=3)]
    found = boundaries(*BASE, TEST, confidence=0.999, resamples=5000)
    for k, boundary in enumerate(found):
        assert boundary.start == phases(*BASE, TEST).boundaries[k]
        assert boundary.interval == (min(b[k] for b in every), max(b[k] for b in every))
        assert boundary.reached == pytest.approx(np.mean([b[k] < math.inf for b in every]), abs=0.05)
    assert len({interval for _, _, interval, _ in found}) == 3
    assert boundaries(*BASE, TEST) == boundaries(*BASE, TEST)


def test_a_phase_that_only_some_seeds_reach_has_no_end():
    train = [BASE[1], [0.7] * 5]  # the second learns nothing that it could lose
    collapsed = boundaries(BASE[0], train, [TEST[0], [0.7] * 5])[-1]
    assert collapsed.interval.low < collapsed.interval.high == math.inf
    assert 0.6 < collapsed.reached < 0.9
    assert "∞" in repr(collapsed)


def test_one_seed_has_no_interval():
    assert [b.interval for b in boundaries(*BASE, TEST[0])] == [None] * 3
