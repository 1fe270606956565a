"""Claims: what is said of tables whose double descent is known."""

import numpy as np
import pytest

from sparsedd.experiments import FIGURES, Tables
from sparsedd.experiments._figures._claim import Effect, judge
from sparsedd.experiments._tables import COLUMNS

LEVELS = 16
SPARSITY = 1 - 0.8 ** np.arange(LEVELS)
NOISE = np.random.Generator(np.random.PCG64(0))
START = NOISE.bit_generator.state


@pytest.fixture(autouse=True)
def same_noise_for_each_test():
    NOISE.bit_generator.state = START


def bump(centre, height, width=1.5):
    return height * np.exp(-(((np.arange(LEVELS) - centre) / width) ** 2))


def curve(dip_at=5, dip=0.1, peak_at=11, gain=0.1, end=0.0):
    """Test accuracy of a double descent from 0.8: flat, down to the dip, up to the peak, and down at the end."""
    return 0.8 - bump(dip_at, dip) + bump(peak_at, gain, 2.5) - end * (np.arange(LEVELS) == LEVELS - 1)


def rows(experiment, seed, test, *, spread=0.002, **columns):
    """A sweep's rows of levels.csv."""
    test = np.clip(test + spread * NOISE.standard_normal(LEVELS), 0, 1)
    values = {
        "train_accuracy": np.clip(1.2 - 0.05 * np.arange(LEVELS), 0, 1),
        "best_test_accuracy": np.maximum(test, 0.8),
        "learning_distance": 100 - 50 * test,
    }
    table = []
    for k in range(LEVELS):
        row = dict.fromkeys(COLUMNS) | {"experiment": experiment.name, "scale": "paper", "seed": seed, "level": k}
        row |= {"sparsity": float(SPARSITY[k]), "remaining": 1000 - k, "test_accuracy": float(test[k])}
        table.append(row | {name: float(v[k]) for name, v in (values | columns).items()})
    return table


def tables(number, curves, seeds=3, spread=0.002, **columns):
    """Tables of a figure; a curve for each of its experiments, or one for all."""
    figure = FIGURES[str(number)]
    curves = curves if isinstance(curves, list) else [curves] * len(figure.experiments)
    found = Tables()
    for experiment, test in zip(figure.experiments, curves, strict=True):
        for seed in range(seeds):
            found.levels += rows(experiment, seed, test, spread=spread, **columns)
    return figure, found


def verdicts(number, *args, **kwargs):
    figure, found = tables(number, *args, **kwargs)
    return [claim.verdict for claim in figure.read(found)]


# ---------------------------------------------------------------- effects


def test_an_interval_is_students():
    effect = Effect("fall", np.array([0.1, 0.2, 0.3]))
    half = 4.302653 * 0.1 / 3**0.5  # the quantile of Student's t with two degrees of freedom
    assert effect.interval == pytest.approx((0.2 - half, 0.2 + half), abs=1e-6)
    assert str(effect) == "fall: 20.0 points (95 % interval -4.8 to 44.8)"
    assert str(Effect("shift", np.array([0.5]), " levels")) == "shift: 0.50 levels (one seed)"
    assert str(Effect("gain", np.array([-1e-4, -1e-4, -1e-4]))) == "gain: 0.0 points (95 % interval 0.0 to 0.0)"
    assert str(Effect("shift", np.array([0.5, np.nan]))) == "shift: not to be measured in every seed"
    assert Effect("rho", np.array([0.9, 1.0, 0.95]), "", limit=1.0).interval.high == 1.0


@pytest.mark.parametrize(
    ("values", "bounds", "verdict"),
    [
        ([1.0, 1.1, 0.9], {}, "agrees"),
        ([-1.0, -1.1, -0.9], {}, "disagrees"),
        ([1.0, -1.1, 0.9], {}, "cannot be told"),
        ([1.0, 1.1], {}, "cannot be told"),
        ([1.0], {}, "cannot be told"),
        ([1.0, 1.1, np.nan], {}, "cannot be told"),
        ([1.0, 1.1, 0.9], {"below": 2.0}, "agrees"),
        ([1.0, 1.1, 0.9], {"below": 0.5}, "disagrees"),
        ([1.0, 1.1, 0.9], {"above": 2.0}, "disagrees"),
    ],
)
def test_a_verdict_needs_an_interval_on_one_side(values, bounds, verdict):
    effect = Effect("", np.array(values), **bounds)
    assert effect.verdict == judge("", effect).verdict == verdict


def test_seeds_that_agree_on_a_step_know_it_no_better_than_that():
    exact, stepped = (Effect("", np.ones(3), quantum=quantum) for quantum in (0.0, 1.0))
    assert exact.interval == pytest.approx((1.0, 1.0), abs=1e-8)
    half = 4.302653 / 12**0.5 / 3**0.5
    assert stepped.interval == pytest.approx((1 - half, 1 + half), abs=1e-6)
    assert Effect("", np.zeros(3), quantum=1.0).verdict == "cannot be told"


def test_what_can_not_be_told_is_not():
    yes = Effect("", np.array([1.0, 1.1, 0.9]))
    assert judge("", yes, told=False).verdict == "cannot be told"


def test_a_claim_needs_all_of_its_effects():
    yes, no, maybe = (Effect("", np.array(v)) for v in ([1.0, 1.1, 0.9], [-1.0, -1.1, -0.9], [1.0, -1.1, 0.9]))
    assert judge("", yes, yes).verdict == "agrees"
    assert judge("", yes, maybe).verdict == "cannot be told"
    assert judge("", maybe, no).verdict == judge("", yes, no).verdict == "disagrees"
    assert judge("", yes, given=maybe).verdict == judge("", no, given=no).verdict == "cannot be told"
    assert judge("", yes, given=yes).verdict == "agrees"


# ---------------------------------------------------------------- each claim of the paper


@pytest.mark.parametrize(
    ("test", "seeds", "verdict"),
    [
        (curve(), 3, "agrees"),
        (curve(), 2, "cannot be told"),
        (curve(dip=0.0), 3, "cannot be told"),
        (curve(gain=0.0) - 0.03 * (np.arange(LEVELS) > 0), 3, "disagrees"),
        (np.full(LEVELS, 0.8), 5, "cannot be told"),
        (np.linspace(0.8, 0.3, LEVELS), 3, "disagrees"),
        (np.linspace(0.3, 0.8, LEVELS), 3, "disagrees"),
    ],
    ids=["there", "two seeds", "no dip", "no gain", "flat", "falling", "rising"],
)
def test_a_double_descent_is_found_where_it_is(test, seeds, verdict):
    assert set(verdicts(13, test, seeds)) == {verdict}


def test_a_dip_that_is_only_noise_is_none():
    """Chosen for being lowest in the mean of all seeds, a place looks like a dip; chosen by the others, it does not."""
    said = [v for _ in range(20) for v in verdicts(13, np.full(LEVELS, 0.8), 3, spread=0.02)]
    assert said.count("agrees") <= 3


def test_the_sentence_says_what_was_measured():
    figure, found = tables(5, curve(end=0.3))
    claim, _ = figure.read(found)
    assert claim.verdict == "agrees"
    assert "Critical from" in str(claim)
    assert "fall of test accuracy in the Critical phase: 10." in claim.measured or "9." in claim.measured
    assert str(claim).startswith("MNIST, ε = 20 %: there are four phases")


@pytest.mark.parametrize(("forgets_at", "expected"), [(8, "agrees"), (3, "disagrees"), (14, "disagrees")])
def test_wrong_labels_are_memorised_up_to_the_dip_and_forgotten_at_the_peak(forgets_at, expected):
    """The dip is level 5, the peak level 11."""
    wrong = 1 / (1 + np.exp(4 * (np.arange(LEVELS) - forgets_at)))
    figure, found = tables(5, curve(), spread=0.0, flipped_accuracy=wrong, clean_accuracy=np.ones(LEVELS))
    _, claim = figure.read(found)
    assert claim.verdict == expected
    assert "wrong labels learned by the dense net: 100.0 % (95 % interval 100.0 to 100.0, claimed above 50)" in claim.measured


@pytest.mark.parametrize(
    ("dips", "peaks", "expected"),
    [
        ((6, 5, 3), (9, 11.5, 13), "agrees"),
        ((3, 5, 6), (13, 11.5, 9), "disagrees"),
        ((5, 5, 5), (11, 11, 11), "cannot be told"),
    ],
)
def test_more_noise_moves_the_phases_apart(dips, peaks, expected):
    curves = [curve(dip_at=d, peak_at=p) for d, p in zip(dips, peaks, strict=True)]
    assert verdicts(4, curves, spread=0.0, train_accuracy=np.ones(LEVELS)) == [expected] * 2


def test_a_phase_that_is_not_reached_can_not_have_moved():
    curves = [curve(), curve(), np.full(LEVELS, 0.8)]
    assert verdicts(4, curves, train_accuracy=np.ones(LEVELS)) == ["cannot be told"] * 2


@pytest.mark.parametrize(
    ("other", "moved", "wins"),
    [
        (curve(dip_at=3, peak_at=9), "agrees", "agrees"),
        (curve(dip_at=8, peak_at=13), "disagrees", "agrees"),
        (curve() - 0.03, "cannot be told", "disagrees"),
    ],
)
def test_other_weights_under_the_same_masks(other, moved, wins):
    assert verdicts(10, [curve(), other], train_accuracy=np.ones(LEVELS)) == [moved, wins]


def test_the_best_epoch_has_a_smaller_dip():
    assert verdicts(11, curve()) == ["agrees"] * 3
    assert verdicts(11, curve(), best_test_accuracy=curve(dip=0.2)) == ["disagrees"] * 3


def test_without_noise_there_is_no_dip():
    assert verdicts(31, curve(dip=0.0)) == ["agrees"] * 2
    assert verdicts(31, curve(dip=0.05)) == ["disagrees"] * 2
    assert verdicts(31, curve(dip=0.0), train_accuracy=np.full(LEVELS, 0.2)) == ["cannot be told"] * 2, "it never overfitted"


@pytest.mark.parametrize("wobble", [0.0, 0.05])
def test_a_collapse_is_no_dip_whatever_it_does_at_its_end(wobble):
    falling = np.where(np.arange(LEVELS) < 9, 0.93, np.linspace(1.43, 0.1, LEVELS))
    falling[-1] += wobble
    assert verdicts(31, falling, spread=0.0005, train_accuracy=np.minimum(1.0, falling + 0.05)) == ["agrees"] * 2


def test_the_gap_follows():
    assert verdicts(32, curve()) == ["agrees"] * 3
    assert verdicts(32, curve(), train_accuracy=curve()) == ["cannot be told"] * 3


def test_the_distance_follows_or_not():
    assert verdicts(44, curve()) == ["agrees"] * 6
    assert verdicts(44, curve(), learning_distance=50 * curve()) == ["disagrees"] * 6
    assert verdicts(44, curve(), learning_distance=np.full(LEVELS, 5.0))[::2] == ["cannot be told"] * 3


def epochs(found, figure, level, training, first, **ends):
    """Rows of epochs.csv, from a start to an end."""
    for seed in range(3):
        for k in range(20):
            row = {"experiment": figure.experiments[0].name, "scale": "paper", "seed": seed, "level": level}
            row |= {"training": training, "epoch": first + k, "train_loss": 0.1, "test_loss": 0.1}
            for name, (start, end) in ends.items():
                row[name] = start + (end - start) * min(1, k / 10) + 1e-3 * NOISE.standard_normal()
            found.epochs.append(row)


@pytest.mark.parametrize(
    ("train", "test", "verdict"), [(1.0, 0.7, "agrees"), (1.0, 0.95, "disagrees"), (0.75, 0.7, "disagrees")]
)
def test_re_dense_training_overfits_again(train, test, verdict):
    figure, found = tables(37, curve(end=0.3))
    for level in (0, 5, 11, 15):
        epochs(found, figure, level, "sparse", 1, train_accuracy=(0.3, 0.85), test_accuracy=(0.3, 0.9))
        epochs(found, figure, level, "re-dense × 1", 21, train_accuracy=(0.85, train), test_accuracy=(0.9, test))
    assert [claim.verdict for claim in figure.read(found)] == [verdict]
    assert figure.draw(found).axes


@pytest.mark.parametrize(("start", "verdict"), [(0.3, "agrees"), (None, "disagrees")])
def test_training_converges(start, verdict):
    figure, found = tables(5, curve(end=0.3))
    figure = FIGURES["35"]
    found.levels += [row for seed in range(3) for row in rows(figure.experiments[1], seed, curve(end=0.3))]
    for experiment in figure.experiments:
        one = type(figure)(35, "", figure.panels[:1], figure.drawing, figure.claims, 1)
        for level in (0, 5, 11, 15):
            ends = {"train_accuracy": (start, 0.9)} if start else {"train_accuracy": (0.0, 0.05)}
            before = len(found.epochs)
            epochs(found, one, level, "sparse", 1, **ends, test_accuracy=(0.3, 0.9))
            for row in found.epochs[before:]:
                row["experiment"] = experiment.name
                if not start:
                    row["train_accuracy"] = 0.04 * row["epoch"] + 1e-3 * NOISE.standard_normal()
    assert [claim.verdict for claim in figure.read(found)] == [verdict] * 2


def lines(found, figure, level, name, alphas, losses):
    for seed in range(3):
        for alpha, loss in zip(alphas, losses, strict=True):
            row = {"experiment": figure.experiments[0].name, "scale": "paper", "seed": seed, "level": level, "line": name}
            row |= {"alpha": alpha, "train_loss": loss * (1 + 0.01 * seed), "test_loss": loss}
            found.lines.append(row | {"train_accuracy": 0.5, "test_accuracy": 0.5})


@pytest.mark.parametrize(
    ("shape", "verdict"),
    [(lambda a: 2 - a, "agrees"), (lambda a: 2 - a + 0.5 * np.sin(np.pi * a), "disagrees"), (lambda a: 2 + a, "disagrees")],
)
def test_a_path_without_a_barrier(shape, verdict):
    figure, found = tables(40, curve(end=0.3))
    alphas = np.linspace(0, 1, 11)
    for level in (0, 5, 11, 15):
        lines(found, figure, level, "interpolation", alphas, shape(alphas))
    assert [claim.verdict for claim in figure.read(found)] == [verdict] * 3


@pytest.mark.parametrize(
    ("curvatures", "verdict"),
    [
        ((1, 2, 4, 8), "agrees"),
        ((8, 4, 2, 1), "disagrees"),
        ((1, 1, 1, 1), "cannot be told"),
        ((1, 4, 3, 2), "disagrees"),
        ((np.inf, 1, 2, 3), "cannot be told"),
    ],
)
def test_sharper_minima(curvatures, verdict):
    figure, found = tables(8, curve(end=0.3))
    alphas = np.linspace(-1, 1, 11)
    for level, curvature in zip((0, 5, 11, 15), curvatures, strict=True):
        for k in range(2):
            lines(found, figure, level, f"direction {k}", alphas, 0.1 + curvature * np.where(alphas, alphas**2, 1e-9))
    (claim,) = figure.read(found)
    assert claim.verdict == verdict


def test_without_a_sweet_phase_there_is_nothing_to_train_on_from():
    flat = np.full(LEVELS, 0.8)
    figure, found = tables(37, flat, train_accuracy=np.ones(LEVELS))
    for level in range(LEVELS):
        epochs(found, figure, level, "sparse", 1, train_accuracy=(0.3, 0.85), test_accuracy=(0.3, 0.9))
        epochs(found, figure, level, "re-dense × 1", 21, train_accuracy=(0.85, 1.0), test_accuracy=(0.9, 0.7))
    assert [claim.verdict for claim in figure.read(found)] == ["cannot be told"]


def test_a_phase_that_is_empty_has_no_start():
    assert verdicts(4, np.linspace(0.8, 0.3, LEVELS)) == ["cannot be told"] * 2


def test_rows_of_two_runs_under_one_name_are_refused():
    figure, found = tables(5, curve())
    found.levels += found.levels[:3]
    with pytest.raises(ValueError, match=r"level 0 of seed 0 of mnist-.* twice"):
        figure.read(found)


def test_the_place_that_is_said_is_the_one_that_is_measured():
    figure, found = tables(10, [curve(), curve() - 0.02 * (np.arange(LEVELS) > 0)], train_accuracy=np.ones(LEVELS))
    _, wins = figure.read(found)
    assert "at 0.00 % sparsity" not in wins.measured
    assert wins.verdict == "disagrees"
