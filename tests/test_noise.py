import copy
import dataclasses
import math
import pickle
from fractions import Fraction

import numpy as np
import pytest
import torch
from helpers import no_global_draws
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import Subset, TensorDataset

from sparsedd import NoisyLabels, noise
from sparsedd.noise import Asymmetric, Given, Pairflip, Symmetric

DRAWS = ("uniform", "other", "permute")
RATES = st.sampled_from([0.0, 0.05, 0.07, 0.2, 0.4, 0.5, 0.8, 1.0, Fraction(1, 3), np.float32(0.1)])
EVERY = [*(Symmetric(0.4, draw) for draw in DRAWS), Asymmetric(0.4, "cifar10"), Asymmetric(0.4, {0: 1, 1: 0}), Pairflip(0.4)]

# Krizhevsky (2009), table of classes, by name: the indices of CIFAR-100 are the alphabetical order.
SUPERCLASSES = """
beaver dolphin otter seal whale
aquarium_fish flatfish ray shark trout
orchid poppy rose sunflower tulip
bottle bowl can cup plate
apple mushroom orange pear sweet_pepper
clock keyboard lamp telephone television
bed chair couch table wardrobe
bee beetle butterfly caterpillar cockroach
bear leopard lion tiger wolf
bridge castle house road skyscraper
cloud forest mountain plain sea
camel cattle chimpanzee elephant kangaroo
fox porcupine possum raccoon skunk
crab lobster snail spider worm
baby boy girl man woman
crocodile dinosaur lizard snake turtle
hamster mouse rabbit shrew squirrel
maple_tree oak_tree palm_tree pine_tree willow_tree
bicycle bus motorcycle pickup_truck train
lawn_mower rocket streetcar tank tractor
"""


def labels(n: int, classes: int = 10, seed: int = 0) -> torch.Tensor:
    return torch.randint(classes, (n,), generator=torch.Generator().manual_seed(seed))


def exact_round(rate, n: int) -> int:
    return round((Fraction(rate) if isinstance(rate, Fraction) else Fraction(str(rate))) * n)


def near(share: float, expected: float, n: int) -> bool:
    """Within four standard errors of a binomial share."""
    return abs(share - expected) < 4 * math.sqrt(max(expected * (1 - expected), 1 / n) / n)


# ---------------------------------------------------------------- for all of them


@pytest.mark.parametrize("kind", EVERY, ids=repr)
def test_the_same_labels_each_time_and_no_global_generator(kind):
    true = labels(500)
    kept = true.clone()
    with no_global_draws():
        first = kind(true, 10, 3)
    torch.manual_seed(1)
    for again in (kind, copy.deepcopy(kind), pickle.loads(pickle.dumps(kind))):
        assert again == kind
        assert torch.equal(again(true, 10, np.int64(3)), first)
    assert torch.equal(true, kept)
    assert (first.dtype, first.shape) == (torch.int64, (500,))
    assert 0 <= first.min() <= first.max() < 10
    assert not torch.equal(kind(true, 10, 4), first)


@pytest.mark.parametrize("kind", EVERY, ids=repr)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32])
def test_labels_of_any_integer_dtype(kind, dtype):
    assert torch.equal(kind(labels(50).to(dtype), 10, 0), kind(labels(50), 10, 0))


@pytest.mark.parametrize("kind", EVERY, ids=repr)
def test_two_seeds_agree_no_more_than_by_chance(kind):
    true = labels(40_000, 2 if kind == EVERY[4] else 10)
    classes = 10
    a, b = (kind(true, classes, seed) != true for seed in (0, 1))
    eligible = torch.isin(true, torch.tensor([2, 3, 4, 5, 9])) if kind == EVERY[3] else torch.ones_like(a)
    n = int(eligible.sum())
    rate_a, rate_b = (flipped[eligible].float().mean().item() for flipped in (a, b))
    both = (a & b)[eligible].float().mean().item()
    assert near(both, rate_a * rate_b, n)
    assert 0.3 < rate_a < 0.45


@pytest.mark.parametrize("kind", EVERY, ids=repr)
@given(seed=st.integers(0, 50), n=st.integers(0, 60))
def test_flips_at_a_lower_rate_are_among_those_at_a_higher_one(kind, seed, n):
    true = labels(n, seed=seed)
    previous, before = torch.zeros(n, dtype=torch.bool), true
    for rate in (0.0, 0.1, 0.2, 0.5, 0.8, 1.0):
        noisy = dataclasses.replace(kind, rate=rate)(true, 10, seed)
        flipped = noisy != true
        if getattr(kind, "draw", None) != "permute":  # whose labels change places at each rate
            assert (previous <= flipped).all()
            assert torch.equal(noisy[previous], before[previous])
        previous, before = flipped, noisy
        assert rate > 0 or not flipped.any()


@pytest.mark.parametrize("kind", EVERY, ids=repr)
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([0, 1], 10, 0), TypeError, r"labels must be an integer tensor of shape \(n,\), got list"),
        ((torch.ones(3), 10, 0), TypeError, r"got torch.float32 of shape \(3,\)"),
        ((torch.ones(3).bool(), 10, 0), TypeError, "got torch.bool"),
        ((torch.ones(3) * 1j, 10, 0), TypeError, "got torch.complex64"),
        ((torch.ones(3, 1, dtype=torch.int64), 10, 0), TypeError, r"got torch.int64 of shape \(3, 1\)"),
        ((torch.tensor([0, 10]), 10, 0), ValueError, r"labels must be in 0 ... 9, got 0 ... 10"),
        ((torch.tensor([-1, 5]), 10, 0), ValueError, r"labels must be in 0 ... 9, got -1 ... 5"),
        ((torch.tensor([0, 1]), 0, 0), ValueError, "num_classes must be at least 1, got 0"),
        ((torch.tensor([0, 1]), 10.0, 0), TypeError, "num_classes must be an integer, got 10.0"),
        ((torch.tensor([0, 1]), 10, -1), ValueError, "seed must be at least 0, got -1"),
        ((torch.tensor([0, 1]), 10, 0.5), TypeError, "seed must be an integer, got 0.5"),
    ],
)
def test_what_are_no_labels_is_refused(kind, arguments, error, message):
    with pytest.raises(error, match=message):
        kind(*arguments)


@pytest.mark.parametrize("make", [Symmetric, Pairflip, lambda rate: Asymmetric(rate, "mnist")])
@pytest.mark.parametrize(
    ("rate", "error", "message"),
    [
        (20, ValueError, r"rate must be in \[0, 1\], got 20. It is a share, not a percentage: did you mean 0.2\?"),
        (-0.1, ValueError, "got -0.1"),
        (1.01, ValueError, "got 1.01"),
        (float("nan"), ValueError, "got nan"),
        ("0.2", TypeError, "got '0.2' of type str"),
        (True, TypeError, "got True of type bool"),
    ],
)
def test_rates_are_checked(make, rate, error, message):
    with pytest.raises(error, match=message):
        make(rate)


def test_a_noise_is_a_value():
    assert Symmetric(0.2) == Symmetric(0.2, "uniform") != Symmetric(0.2, "other")
    assert len({Symmetric(0.2), Symmetric(0.2), Pairflip(0.2), Asymmetric(0.2, "mnist"), Asymmetric(0.2, "mnist")}) == 3
    flips = {0: 1}
    kind = Asymmetric(0.5, flips)
    assert hash(kind) == hash(Asymmetric(0.5, {0: 1}))
    flips[1] = 0  # the caller's own
    assert kind == Asymmetric(0.5, {0: 1})
    for frozen in EVERY:
        with pytest.raises(dataclasses.FrozenInstanceError):
            frozen.rate = 0.1


def test_repr_is_the_call_that_made_it():
    assert repr(Symmetric(0.2)) == "Symmetric(rate=0.2, draw='uniform')"
    assert repr(Asymmetric(0.2, "mnist")) == "Asymmetric(rate=0.2, flips='mnist')"
    assert repr(Asymmetric(0.2, {np.int64(0): 1})) == "Asymmetric(rate=0.2, flips={0: 1})"
    assert repr(Pairflip(1)) == "Pairflip(rate=1)"


# ---------------------------------------------------------------- golden values

GOLDEN = {
    "Symmetric(rate=0.4, draw='uniform')": "0123457089071658678901205567110123416768",
    "Symmetric(rate=0.4, draw='other')": "0123455089037898688901265567060133446762",
    "Symmetric(rate=0.4, draw='permute')": "0123457489017456628901233567980193486752",
    "Asymmetric(rate=0.4, flips='cifar10')": "0105756789012345678101257367890103436781",
    "Asymmetric(rate=0.4, flips={0: 1, 1: 0})": "1123456789102345678900234567890123456789",
    "Pairflip(rate=0.4)": "0223466790113456788901345567901223457889",
}


@pytest.mark.parametrize("kind", EVERY, ids=repr)
def test_labels_are_the_same_on_every_platform(kind):
    noisy = kind(torch.arange(40) % 10, 10, 2022)
    assert "".join(map(str, noisy.tolist())) == GOLDEN[repr(kind)]


# ---------------------------------------------------------------- symmetric


@given(RATES, st.integers(0, 300), st.integers(2, 12), st.integers(0, 20))
def test_symmetric_counts_are_exact(rate, n, classes, seed):
    true = labels(n, classes, seed)
    count = exact_round(rate, n)
    other = Symmetric(rate, "other")(true, classes, seed)
    assert int((other != true).sum()) == count
    uniform = Symmetric(rate, "uniform")(true, classes, seed)
    permuted = Symmetric(rate, "permute")(true, classes, seed)
    touched = other != true  # one order decides for all three
    assert not (uniform != true)[~touched].any()
    assert not (permuted != true)[~touched].any()
    assert torch.equal(permuted[touched].sort().values, true[touched].sort().values)
    assert torch.equal(permuted.bincount(minlength=classes), true.bincount(minlength=classes))


@pytest.mark.parametrize("classes", [2, 3, 10, 100])
def test_symmetric_draws_are_uniform_over_the_classes(classes):
    n = 50_000
    true = labels(n, classes)
    uniform = Symmetric(1.0)(true, classes, 0)
    assert near((uniform != true).float().mean().item(), 1 - 1 / classes, n)
    shift = (Symmetric(1.0, "other")(true, classes, 0) - true) % classes
    assert shift.min() >= 1
    for counts, cells in ((uniform.bincount(minlength=classes), classes), (shift.bincount(minlength=classes)[1:], classes - 1)):
        expected = n / cells
        chi2 = ((counts - expected) ** 2 / expected).sum().item()
        assert chi2 <= (cells - 1) + 4 * math.sqrt(2 * (cells - 1)) + 1e-9


def test_the_share_of_wrong_labels_that_the_curves_show():
    """20 % redrawn over ten classes are 18 % wrong."""
    true = labels(60_000)
    assert near((Symmetric(0.2)(true, 10, 0) != true).float().mean().item(), 0.18, 60_000)


def test_permute_mixes():
    true = torch.arange(1000) % 10
    permuted = Symmetric(1.0, "permute")(true, 10, 0)
    assert near((permuted == true).float().mean().item(), 0.1, 1000)


def test_symmetric_arguments():
    for wrong in ("all", None, 3, []):
        with pytest.raises((ValueError, TypeError), match="draw must be one of 'uniform', 'other', 'permute', got"):
            Symmetric(0.2, wrong)
    with pytest.raises(ValueError, match="draw='other' needs at least two classes, got 1"):
        Symmetric(0.2, "other")(torch.zeros(10, dtype=torch.int64), 1, 0)
    assert not Symmetric(0.2)(torch.zeros(10, dtype=torch.int64), 1, 0).any()


# ---------------------------------------------------------------- asymmetric and pairflip


@given(RATES, st.integers(0, 300), st.dictionaries(st.integers(0, 9), st.integers(0, 9)), st.integers(0, 20))
def test_asymmetric_flips_exactly_so_many_of_each_class_and_never_on(rate, n, flips, seed):
    true = labels(n, seed=seed)
    noisy = Asymmetric(rate, flips)(true, 10, seed)
    for c in range(10):
        of_class = noisy[true == c]
        to = flips.get(c, c)
        assert torch.isin(of_class, torch.tensor([c, to])).all()  # c -> to, and not to where to flips
        assert int((of_class != c).sum()) == (exact_round(rate, len(of_class)) if to != c else 0)
    backwards = dict(reversed(flips.items()))
    assert torch.equal(Asymmetric(rate, backwards)(true, 10, seed), noisy)


@given(RATES, st.integers(0, 300), st.integers(1, 12), st.integers(0, 20))
def test_pairflip_moves_exactly_so_many_of_each_class_to_the_next(rate, n, classes, seed):
    true = labels(n, classes, seed)
    noisy = Pairflip(rate)(true, classes, seed)
    for c in range(classes):
        of_class = noisy[true == c]
        assert torch.isin(of_class, torch.tensor([c, (c + 1) % classes])).all()
        assert int((of_class != c).sum()) == (exact_round(rate, len(of_class)) if classes > 1 else 0)


MNIST = {2: 7, 3: 8, 5: 6, 6: 5}
AIRPLANE, AUTOMOBILE, BIRD, CAT, DEER, DOG, FROG, HORSE, SHIP, TRUCK = range(10)
CIFAR10 = {BIRD: AIRPLANE, DEER: HORSE, TRUCK: AUTOMOBILE, CAT: DOG, DOG: CAT}


@pytest.mark.parametrize(("name", "flips"), [("mnist", MNIST), ("cifar10", CIFAR10)])
def test_named_flips_are_the_papers(name, flips):
    true = labels(1000)
    assert torch.equal(Asymmetric(0.3, name)(true, 10, 0), Asymmetric(0.3, flips)(true, 10, 0))
    assert torch.equal(Asymmetric(1, name)(torch.arange(10), 10, 0), torch.tensor([flips.get(c, c) for c in range(10)]))


def test_cifar100_classes_are_in_their_true_superclasses():
    groups = [line.split() for line in SUPERCLASSES.strip().splitlines()]
    names = sorted(name for group in groups for name in group)
    assert len(names) == 100
    assert [[names[c] for c in range(100) if noise.CIFAR100_SUPERCLASS[c] == s] for s in range(20)] == groups


@pytest.mark.parametrize("flips", ["cifar100", "cifar100-index"])
def test_cifar100_flips_go_round_five_classes(flips):
    to = Asymmetric(1.0, flips)(torch.arange(100), 100, 0)
    block = [noise.CIFAR100_SUPERCLASS[c] if flips == "cifar100" else c // 5 for c in range(100)]
    orbit = torch.arange(100)
    for turn in range(1, 6):
        orbit = to[orbit]
        assert [block[c] for c in orbit] == block
        assert bool((orbit == torch.arange(100)).all()) == (turn == 5)
        assert turn == 5 or not (orbit == torch.arange(100)).any()
    members = [[c for c in range(100) if block[c] == b] for b in range(20)]
    assert all(to[m].tolist() == m[1:] + m[:1] for m in members)  # the next, the last the first


@pytest.mark.parametrize(
    ("flips", "error", "message"),
    [
        (
            "cifar",
            ValueError,
            "flips must be one of 'mnist', 'cifar10', 'cifar100', 'cifar100-index' or a mapping from .*, got 'cifar'",
        ),
        ([1, 0], TypeError, r"or a mapping from class to class, got \[1, 0\]"),
        ({0: -1}, ValueError, "flips must be at least 0, got -1"),
        ({0.0: 1}, TypeError, "flips must be an integer, got 0.0"),
    ],
)
def test_flips_are_checked(flips, error, message):
    with pytest.raises(error, match=message):
        Asymmetric(0.2, flips)


def test_flips_are_checked_against_the_number_of_classes():
    with pytest.raises(ValueError, match="flips='cifar100' is for 100 classes, got num_classes=10"):
        Asymmetric(0.2, "cifar100")(labels(9), 10, 0)
    with pytest.raises(ValueError, match="flips names class 10, but there are only 10 classes, from 0"):
        Asymmetric(0.2, {0: 10})(labels(9), 10, 0)


def test_flips_of_no_class_are_no_noise():
    labels = torch.zeros(5, dtype=torch.int64)
    assert torch.equal(Asymmetric(0.5, {})(labels, 1, 0), labels)


# ---------------------------------------------------------------- labels that somebody else made


def test_given_labels_are_given_whatever_the_seed_and_compared_by_content():
    clean, own = labels(50), labels(50, seed=1)
    kind, dataset = Given(own.to(torch.uint8), clean), TensorDataset(clean, clean)
    kept = own.clone()
    noisy = [NoisyLabels(dataset, kind, num_classes=10, seed=seed) for seed in (0, 7)]
    assert all(torch.equal(n.targets, own) and n.rate == kind.rate == (own != clean).double().mean() for n in noisy)
    own[0] = clean[0] = 9 - own[0]  # what was passed is the caller's
    kind.labels.add_(1), kind.clean.add_(1)  # copies
    assert torch.equal(kind.labels, kept)
    assert repr(kind) == f"Given(50 labels, {kind.rate:.2%} wrong)"
    assert repr(Given(kept)) == "Given(50 labels)"
    for same in (
        Given(kept.clone(), labels(50)),
        Given(kept.tolist(), labels(50).flip(0).numpy()[::-1]),
        copy.deepcopy(kind),
        pickle.loads(pickle.dumps(kind)),
    ):
        assert same == kind
        assert hash(same) == hash(kind)
    assert len({kind, Given(kept), Given(labels(50), labels(50)), Given(kept, kept)}) == 4
    assert kind != kept.tolist()


def test_given_labels_of_another_order_are_refused():
    clean, own = labels(200), labels(200, seed=1)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(0))
    wrong = int((clean[order] != clean).sum())
    with pytest.raises(ValueError, match=rf"^{wrong} of 200 labels of the data set are not .* TensorFlow Datasets\? Put"):
        NoisyLabels(TensorDataset(clean[order], clean[order]), Given(own, clean), num_classes=10)
    part = range(30, 90)
    first = NoisyLabels(Subset(TensorDataset(clean, clean), part), Given(own[part], clean[part]), num_classes=10)
    assert torch.equal(first.targets, own[part])
    for arguments in ((own,), (own, clean)):
        with pytest.raises(ValueError, match=r"200 labels are given, and the data set has 60: pick out .*clean\[part\]\)"):
            Given(*arguments)(clean[:60], 10, 0)
    with pytest.raises(ValueError, match="60 labels are given, and the data set has 200: labels are missing"):
        Given(own[:60])(clean, 10, 0)
    with pytest.raises(ValueError, match=r"in 0 \.\.\. 4, got 1 \.\.\. 5: pass num_classes=6, unless they are to begin at 0"):
        Given([1, 5])(torch.tensor([0, 4]), 5, 0)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            ([0, 0.5],),
            TypeError,
            r"labels must be integers of shape \(n,\) in a tensor, an array or a list, got list of float64",
        ),
        (([[0, 1], [2]],), TypeError, "labels must be integers of shape"),
        ((torch.zeros(3),), TypeError, "got torch.float32 of shape"),
        ((torch.zeros(3, 1, dtype=torch.int64),), TypeError, r"shape \(3, 1\)"),
        ((torch.tensor([-1]),), ValueError, "labels must be classes, from 0 on, got -1"),
        ((torch.tensor([1]), torch.tensor([-2])), ValueError, "clean must be classes, from 0 on, got -2"),
        ((torch.tensor([1]), torch.tensor([1, 2])), ValueError, "equally many, got 1 and 2"),
    ],
)
def test_what_can_not_be_given(arguments, error, message):
    with pytest.raises(error, match=message):
        Given(*arguments)
