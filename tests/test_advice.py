import math
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from helpers import no_global_draws
from hypothesis import given
from hypothesis import strategies as st

from sparsedd.experiments import Tables
from sparsedd.experiments._figures._measures import Levels
from sparsedd.phases import Advice, Phase, advise, phases

LIGHT, CRITICAL, SWEET, COLLAPSED = Phase
FEW = {"resamples": 20}


def levels(n: int, fraction: float = 0.2) -> list[float]:
    return [1 - (1 - fraction) ** k for k in range(n)]


accuracy = st.integers(0, 100).map(lambda k: k / 100)
curve = lambda n: st.lists(accuracy, min_size=n, max_size=n)  # noqa: E731
sweeps = st.tuples(st.integers(1, 10), st.integers(1, 4)).flatmap(
    lambda size: st.tuples(
        st.just(levels(size[0])), curve(size[0]), st.lists(curve(size[0]), min_size=size[1], max_size=size[1])
    )
)
tolerances = st.sampled_from([0.0, 0.02, 0.1])

# ---------------------------------------------------------------- what is advised

DENSE, S4 = "Ship the dense net: no sparser level comes within 2 points of its test accuracy.", [0, 0.5, 0.8, 0.9]

#        train                  test                        ship  best  phase      further  words
KNOWN = {
    "double descent": (
        [1, 0.95, 0.8, 0.6],
        [0.8, 0.7, 0.9, 0.6],
        0.8,
        0.8,
        COLLAPSED,
        False,
        "80.00 % .* Prune no further: too few",
    ),
    "the sparsest of two that are as good": (
        [1, 0.95, 0.8, 0.79],
        [0.8, 0.7, 0.9, 0.88],
        *(
            0.9,
            0.8,
            SWEET,
            True,
            r"Ship level 3, 90.00 % sparsity \(Sweet\): the sparsest within 2 points of the best level, which is 80.00 %",
        ),
    ),
    "still rising": (
        [1, 0.95, 0.9, 0.8],
        [0.8, 0.7, 0.85, 0.9],
        0.9,
        0.9,
        SWEET,
        True,
        "no level has a higher .* near its best",
    ),
    "past the peak, not collapsed": ([1, 0.95, 0.8, 0.8], [0.8, 0.7, 0.9, 0.85], 0.8, 0.8, SWEET, False, "past its peak"),
    "in the dip": (
        [1, 1, 0.99, 0.95],
        [0.8, 0.8, 0.75, 0.7],
        0.5,
        0.5,
        CRITICAL,
        True,
        r"memorises \(train 95.0 %, test 70.0 %\)",
    ),
    "deep in the dip, where the net learns less than the dense one generalises": (
        [1, 0.95, 0.85, 0.77],
        [0.85, 0.8, 0.75, 0.7],
        *(0, 0, CRITICAL, True, f"^{DENSE}\n.* still memorises .*with clean labels there may be none"),
    ),
    "out of the dip, memorising no more": (
        [1, 0.9, 0.78, 0.76],
        [0.85, 0.6, 0.65, 0.75],
        *(0, 0, CRITICAL, True, "test accuracy rises again"),
    ),
    "back to the dense net": (
        [1, 0.9, 0.8, 0.75],
        [0.85, 0.7, 0.8, 0.85],
        0.9,
        0.9,
        SWEET,
        True,
        "as good|no level has a higher",
    ),
    "wrecked, though training accuracy is a little higher": (
        [0.84, 0.81, 0.64, 0.5],
        [0.83, 0.82, 0.61, 0.46],
        *(0.5, 0, COLLAPSED, False, "Prune no further: too few weights"),
    ),
    "a collapse, then as good again": (
        [1, 0.9, 0.7, 0.8],
        [0.5, 0.8, 0.54, 0.79],
        *(0.9, 0.5, COLLAPSED, False, r"Ship level 3, 90.00 % sparsity: the sparsest"),
    ),
    "a monotone fall": ([0.98, 0.9, 0.8, 0.6], [0.97, 0.9, 0.8, 0.6], 0, 0, COLLAPSED, False, DENSE),
    "clean labels, nothing lost": (
        [1, 1, 1, 1],
        [0.95, 0.96, 0.95, 0.94],
        0.9,
        0.5,
        LIGHT,
        True,
        "clean labels there may be neither",
    ),
    "flat": ([1] * 4, [0.9] * 4, 0.9, 0.9, LIGHT, True, "That is 0.0 points more than with the dense net"),
    "training suffers alone": ([1, 0.9, 0.8, 0.7], [0.7, 0.7, 0.69, 0.7], 0.9, 0.9, CRITICAL, True, "near its best"),
    "no more to forget": ([0.9] * 3 + [0.882], [0.9, 0.9, 0.9, 0.87], 0.8, 0.8, CRITICAL, False, "no longer memorises"),
    "ties": ([1, 1, 0.9, 0.5], [0.8, 0.9, 0.9, 0.5], 0.8, 0.8, COLLAPSED, False, "no level has a higher"),
}


@pytest.mark.parametrize(("train", "test", "ship", "best", "phase", "further", "words"), KNOWN.values(), ids=KNOWN)
def test_known_sweeps(train, test, ship, best, phase, further, words):
    found = advise(S4, train, test, **FEW)
    assert (found.ship, found.best, found.phase, found.further) == (ship, best, phase, further)
    assert re.search(words, str(found), re.DOTALL), str(found)
    assert found.because in str(found)


@given(sweeps, tolerances)
def test_ship_is_the_sparsest_of_the_best(sweep, tolerance):
    sparsity, _, test = sweep
    found = advise(*sweep, tolerance=tolerance, **FEW)
    exact = [sum(Fraction(str(seed[k])) for seed in test) / len(test) for k in range(len(sparsity))]
    good = [s for s, t in zip(sparsity, exact, strict=True) if t >= max(exact) - Fraction(str(tolerance))]
    assert found.ship == max(good)
    assert found.best == max(s for s, t in zip(sparsity, exact, strict=True) if t == max(exact))
    assert found.ship >= found.best


@given(sweeps)
def test_each_seed_is_measured_where_the_others_choose(sweep):
    sparsity, train, test = sweep
    found = advise(*sweep, **FEW)
    gains = []
    for k, seed in enumerate(test):
        others = [other for j, other in enumerate(test) if j != k] or [seed]
        gains.append(seed[sparsity.index(advise(sparsity, train, others, **FEW).ship)] - seed[0])
    assert found.gain == pytest.approx(np.mean(gains))
    if len(test) == 1:
        assert all(map(math.isnan, found.gain_interval))
        assert found.best_gain >= found.gain >= -0.02 - 1e-9
    else:
        low, high = found.gain_interval
        differences = [t - seed[0] for seed in test for t in seed]
        assert min(differences) - 1e-12 <= low <= high <= max(differences) + 1e-12


@given(sweeps, st.sampled_from([2, 4]))  # of which the mean is exact
def test_equal_seeds_leave_no_doubt(sweep, seeds):
    sparsity, train, (test, *_) = sweep
    found, one = advise(sparsity, [train] * seeds, [test] * seeds, **FEW), advise(sparsity, train, test, **FEW)
    assert (found.ship, found.best, found.phase, found.further) == (one.ship, one.best, one.phase, one.further)
    assert (found.gain, found.best_gain) == pytest.approx((one.gain, one.best_gain))
    assert found.gain_interval == pytest.approx((one.gain, one.gain))


@given(sweeps, tolerances)
def test_the_phase_is_that_of_phases_but_for_a_dip_that_may_end(sweep, tolerance):
    sparsity, train, test = sweep
    found, last = advise(*sweep, tolerance=tolerance, **FEW), phases(*sweep, tolerance=tolerance)[sparsity[-1]]
    mean = np.mean(test, axis=0)
    if found.phase != last:
        assert found.phase is CRITICAL
        assert found.further
        assert mean.max() <= mean[0] + tolerance + 1e-9, (
            "a level that surpasses the dense net is the Sweet phase that was to come"
        )
        assert last is COLLAPSED or mean[-1] < mean.max() - tolerance, "a level that is near the best is in no dip"
    if found.phase is LIGHT:
        assert found.further
    if found.phase is COLLAPSED:
        assert not found.further
    assert found.phases == phases(*sweep, tolerance=tolerance)


@given(sweeps, tolerances, st.sampled_from([0.5, 0.95]))
def test_it_is_said_in_plain_sentences(sweep, tolerance, confidence):
    sparsity, _, test = sweep
    found = advise(*sweep, tolerance=tolerance, confidence=confidence, **FEW)
    said = str(found)
    assert "nan" not in said
    assert "inf" not in said
    assert "-0.0" not in said
    assert all(line.endswith(".") and line[0].isupper() for line in said.splitlines())
    assert len(said.splitlines()) == (3 if len(sparsity) > 1 else 2)
    assert f"is {found.phase}. Prune {'further' if found.further else 'no further'}: " in said
    assert ("choose on validation data" in said) == (len(sparsity) > 1)
    if found.ship > 0:
        phase = found.phases[found.ship]
        named = "" if phase is COLLAPSED else f" ({phase})"
        assert f"Ship level {found.level}, {100 * found.ship:.2f} % sparsity{named}: " in said
        assert ("one seed has no interval" in said) == (len(test) == 1)
        assert ("% interval" in said) == (len(test) > 1)
        assert ("it may be neither better nor worse" in said) == (found.gain_interval.low <= 0 <= found.gain_interval.high)
        assert ("too few" in said.splitlines()[0]) == (len(test) > 1 and 1 - 2.0 ** (1 - len(test)) < confidence)
        assert ("No level is better than the dense net" in said) == (found.best == 0 or found.best_gain <= tolerance)
    assert repr(found).startswith(f"Advice(ship level {found.level}, {found.ship:.2%}, ")
    assert repr(found).endswith(f"the last level is {found.phase}; prune {'further' if found.further else 'no further'})")


@given(sweeps)
def test_a_larger_tolerance_never_ships_a_denser_net(sweep):
    shipped = [advise(*sweep, tolerance=tolerance, **FEW).ship for tolerance in (0, 0.01, 0.05, 0.3, 1)]
    assert shipped == sorted(shipped)
    assert shipped[-1] == sweep[0][-1]


def test_a_single_level_has_nothing_to_choose():
    for test in ([0.8], [[0.8], [0.7]]):
        found = advise([0], [1], test)
        assert (found.ship, found.best, found.gain, found.phase, found.further) == (0, 0, 0, LIGHT, True)
        assert str(found).startswith(
            "There is only the dense net, and nothing to compare it with.\nThe last level, 0.00 % sparsity, is"
        )


def test_a_sweep_without_a_dense_level_is_compared_with_its_first():
    said = str(advise([0.5, 0.8, 0.9], [1, 0.9, 0.8], [0.8, 0.7, 0.9]))
    assert "That is 10.0 points more than with the first level (50.00 % sparsity)" in said
    assert "dense" not in said
    assert "above the first level (50.00 % sparsity);" in repr(advise([0.5, 0.9], [1, 0.8], [0.8, 0.9]))


def test_how_sure_it_is_said_to_be_depends_on_the_seeds():
    def said(seeds: int, confidence: float = 0.95) -> str:
        return str(advise([0, 0.9], [1, 0.8], [[0.8, 0.9]] * seeds, confidence=confidence))

    assert "in the one seed that also chose the level: one seed has no interval, run several." in said(1)
    assert (
        "(95 % interval +10.0 to +10.0, with the choice of level counted, from 2 seeds, which are too few to be that sure)"
        in said(2)
    )
    assert "from 5 seeds, which are too few" in said(5)
    assert "from 6 seeds)" in said(6)
    assert "50 % interval" in said(2, 0.5) and "from 2 seeds)" in said(2, 0.5)


def test_the_choice_of_the_level_does_not_flatter_it():
    generator = np.random.default_rng(0)
    naive, honest = [], []
    for _ in range(100):
        test = 0.5 + 0.02 * generator.standard_normal((4, 12))  # no level is better than another
        found = advise(levels(12), [1] * 12, test, **FEW)
        naive.append(test.mean(axis=0).max() - test[:, 0].mean())
        honest.append(found.best_gain)
    assert np.mean(naive) > 0.01
    assert abs(np.mean(honest)) < 0.003


@pytest.mark.parametrize("others", [0.9, 0.895, 0.85], ids=["as good", "nearly as good", "worse"])
def test_intervals_hold_the_truth_as_often_as_they_say_though_the_level_is_chosen(others):
    generator = np.random.default_rng(1)
    truth = np.array([0.8, 0.6, others, 0.9, others])
    found = []
    for trial in range(200):
        curves = truth + 0.02 * generator.standard_normal((12, 5))
        found.append(advise(levels(5), [1] * 5, curves, tolerance=0, seed=trial, confidence=0.9, resamples=400))
    expected = np.mean([advice.gain for advice in found])  # of a level that is chosen with this many seeds
    assert expected == pytest.approx(0.1, abs=0.003)
    hits = sum(advice.gain_interval.low <= expected <= advice.gain_interval.high for advice in found)
    assert 0.8 <= hits / 200 <= 0.99


def test_it_depends_on_the_seed_alone_and_on_all_that_is_passed():
    test = 0.7 + 0.1 * np.random.default_rng(2).random((6, 5))
    with no_global_draws():
        first = advise(levels(5), [1] * 5, test, seed=1)
    assert advise(levels(5), [1] * 5, test, seed=1) == first
    assert advise(levels(5), [1] * 5, test, seed=2).gain_interval != first.gain_interval
    assert advise(levels(5), [1] * 5, test, confidence=0.99).gain_interval != first.gain_interval
    assert advise(levels(5), [1] * 5, test, resamples=10).gain_interval != first.gain_interval
    assert isinstance(first, Advice)
    assert (first.seeds, first.tolerance, first.confidence) == (6, 0.02, 0.95)


# ---------------------------------------------------------------- on what has been measured

RESULTS = Path(__file__).parent.parent / "results"


def measured() -> dict[str, Levels]:
    """Every sweep of the published results, once."""
    found = {}
    for table in sorted(RESULTS.rglob("levels.csv")):
        rows = Tables.read(table.parent).levels
        for name in dict.fromkeys(row["experiment"] for row in rows):
            sweep = Levels.of(rows, name)
            found[f"{table.parent.parent.name} {name} {len(sweep.seeds)} seeds"] = sweep
    return found


MEASURED = measured()


def until(sweep: Levels, levels: int) -> Advice:
    train, test = sweep["train_accuracy"], sweep["test_accuracy"]
    return advise(sweep.sparsity[:levels], train[:, :levels], test[:, :levels], **FEW)


def test_the_paper_at_full_scale():
    mine = (sweep for name, sweep in MEASURED.items() if name.startswith("mnist-paper") and "20-magnitude-ltr" in name)
    (sweep,) = mine
    found = advise(sweep.sparsity, sweep["train_accuracy"], sweep["test_accuracy"])
    assert sweep.phases[found.ship] is sweep.phases[found.best] is SWEET
    assert found.phase is COLLAPSED
    assert not found.further
    assert 0.08 < found.gain_interval.low <= found.gain <= found.gain_interval.high < found.best_gain < 0.13
    for k, s in enumerate(sweep.sparsity.tolist(), 1):
        cut = until(sweep, k)
        assert cut.further == (sweep.phases[s] is not COLLAPSED)
        if s < sweep.phases.landmarks().critical:
            assert cut.phase is sweep.phases[s]


@pytest.mark.parametrize("name", MEASURED)
def test_it_never_says_stop_before_the_best_level_and_always_does_in_the_end(name):
    sweep = MEASURED[name]
    best = list(sweep.sparsity).index(until(sweep, len(sweep.sparsity)).best)
    cut = [until(sweep, k) for k in range(1, len(sweep.sparsity) + 1)]
    assert all(advice.further for advice in cut[: best + 1])
    test = sweep["test_accuracy"].mean(axis=0)
    assert cut[-1].further == (test[-1] >= test.max() - 0.02)


@pytest.mark.parametrize("name", [name for name in MEASURED if "clean" not in name])
def test_inside_the_dip_it_says_critical(name):
    sweep = MEASURED[name]
    test = sweep["test_accuracy"].mean(axis=0)
    inside = [k for k, s in enumerate(sweep.sparsity.tolist()) if sweep.phases[s] is CRITICAL and test[k] < test[0] - 0.02]
    for k in inside:
        found = until(sweep, k + 1)
        assert found.phase is CRITICAL, k
        assert found.further, k
