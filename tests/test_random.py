import hashlib
import math
import random
from itertools import product
from unittest import mock

import numpy as np
import pytest
import torch
from helpers import generators, no_global_draws
from hypothesis import given
from hypothesis import strategies as st

from sparsedd import _random
from sparsedd.models import initialize_

KEYS = st.tuples(st.text(max_size=5), st.integers(0, 2**64), st.text(max_size=5))


def philox(counter: int, key: int) -> list[int]:
    """One block of Philox4x64-10 as Salmon et al. (2011) define it."""
    low = 2**64 - 1
    c = [counter >> 64 * i & low for i in range(4)]
    k = [key & low, key >> 64]
    for _ in range(10):
        a, b = 0xD2E7470EE14C6C93 * c[0], 0xCA5A826395121157 * c[2]
        c = [b >> 64 ^ c[1] ^ k[0], b & low, a >> 64 ^ c[3] ^ k[1], a & low]
        k = [k[0] + 0x9E3779B97F4A7C15 & low, k[1] + 0xBB67AE8584CAA73B & low]
    return c


def test_philox_gives_its_published_answers():
    assert philox(0, 0) == [0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B]


@given(KEYS, st.integers(0, 9))
def test_bits_are_philox_under_the_hash_of_the_key(key, n):
    digest = hashlib.sha256(repr(key).encode()).digest()
    number = int.from_bytes(digest[:16], "little")
    expected = [word for block in range(1, 4) for word in philox(block, number)]
    assert _random.bits(key, n).tolist() == expected[:n]


@given(KEYS, st.integers(0, 200), st.integers(0, 63))
def test_an_order_is_that_of_the_words_and_of_equal_words_the_first_goes_first(key, n, coarse):
    words = _random.bits(key, n) >> np.uint64(coarse) << np.uint64(coarse)
    with mock.patch.object(_random, "bits", return_value=words.copy()):
        assert _random.permutation(key, n).tolist() == sorted(range(n), key=lambda k: int(words[k]))


def test_draws_are_the_same_on_every_platform():
    key = ("golden", 2022, "fc.weight")
    assert _random.bits(key, 2).tolist() == [16638449610224661893, 4213091143574545463]
    assert _random.uniform(key, 2).tolist() == [0.9019721607098086, 0.22839212853714796]
    assert _random.integers(key, 12, 10).tolist() == [9, 2, 0, 6, 7, 2, 7, 2, 2, 9, 1, 8]
    assert _random.permutation(key, 12).tolist() == [2, 10, 1, 8, 5, 7, 3, 6, 4, 11, 0, 9]
    normal = ["0x1.26d7075395acbp-2", "-0x1.8e70966f77b9cp-3", "-0x1.df1dff0cc5a00p-3"]
    assert [x.hex() for x in _random.normal(key, 3).tolist()] == normal
    many = hashlib.sha256(_random.normal(key, 10_000).astype("<f8").tobytes())
    assert many.hexdigest() == "69b7a8fc28ac41011d2d1de5b7f6d3bff06a6b06dfe3bb70ee85f2278dcc564d"


def test_initial_weights_are_the_same_on_every_platform():
    model = initialize_(torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.Conv2d(1, 1, 2)), seed=2022)
    linear = ["0x1.b4847a0000000p-1", "0x1.e3ba5c0000000p-1"]
    conv = ["0x1.8f485e0000000p+0", "-0x1.3c93f00000000p+0", "0x1.b6a3640000000p-2", "0x1.75f73a0000000p-2"]
    assert [x.hex() for x in model[0].weight.flatten().tolist()] == linear
    assert [x.hex() for x in model[1].weight.flatten().tolist()] == conv
    assert not (model[0].bias.any() or model[1].bias.any())


@pytest.mark.parametrize("draw", [_random.bits, _random.uniform, lambda k, n: _random.integers(k, n, 7), _random.normal])
@given(key=KEYS, n=st.integers(0, 500), more=st.integers(0, 2000))
def test_a_shorter_draw_is_a_prefix_of_a_longer_one(draw, key, n, more):
    assert np.array_equal(draw(key, n + more)[:n], draw(key, n))


def test_keys_differ_by_purpose_seed_and_name_and_not_by_integer_type():
    keys = [*product(("a", "b", ""), (0, 1, 10, 2**70), ("", "a", "1", "0")), ("a",), ("a", 0), ("a", "0"), ("a", 0, "", "")]
    first = [int(_random.bits(key, 1)[0]) for key in keys]
    assert len(set(first)) == len(keys)
    for kind in (np.int64, np.uint8, np.int32):
        assert np.array_equal(_random.bits(("a", kind(7)), 4), _random.bits(("a", 7), 4))
    assert np.array_equal(_random.bits((np.str_("a"), 7), 4), _random.bits(("a", 7), 4))


@given(KEYS, st.integers(0, 300), st.sampled_from([1, 2, 3, 10, 100, 2**31, 2**32 - 1]))
def test_ranges(key, n, bound):
    with no_global_draws():
        uniform, integers = _random.uniform(key, n), _random.integers(key, n, bound)
        permutation, normal = _random.permutation(key, n), _random.normal(key, n)
    assert ((uniform >= 0) & (uniform < 1)).all()
    assert (uniform * 2**53 % 1 == 0).all()
    assert integers.dtype == np.int64
    assert ((integers >= 0) & (integers < bound)).all()
    assert sorted(permutation.tolist()) == list(range(n))
    assert len(normal) == n
    assert np.isfinite(normal).all()


def kolmogorov_smirnov(x: np.ndarray, distribution) -> float:
    steps = (np.arange(len(x)) + 0.5) / len(x)
    return float(np.abs(np.array([distribution(v) for v in np.sort(x)]) - steps).max() * len(x) ** 0.5)


@pytest.mark.parametrize("seed", range(5))
def test_distributions(seed):
    key, n = ("distribution", seed), 20_000
    assert kolmogorov_smirnov(_random.uniform(key, n), lambda v: v) < 1.63  # the 1 % point
    normal = _random.normal(key, n)
    assert kolmogorov_smirnov(normal, lambda v: 0.5 + 0.5 * math.erf(v / 2**0.5)) < 1.63
    assert abs(np.corrcoef(normal[0::2], normal[1::2])[0, 1]) < 4 / (n / 2) ** 0.5
    assert abs(np.corrcoef(normal[:-1] ** 2, normal[1:] ** 2)[0, 1]) < 4 / n**0.5
    counts = np.bincount(_random.integers(key, n, 10), minlength=10)
    assert ((counts - n / 10) ** 2 / (n / 10)).sum() < 9 + 4 * 18**0.5


def test_every_permutation_is_as_likely():
    counts: dict[tuple[int, ...], int] = {}
    for seed in range(6000):
        order = tuple(_random.permutation(("order", seed), 3).tolist())
        counts[order] = counts.get(order, 0) + 1
    assert len(counts) == 6
    assert sum((c - 1000) ** 2 / 1000 for c in counts.values()) < 5 + 4 * 10**0.5


def test_neighbouring_seeds_and_names_are_independent():
    streams = np.stack([_random.normal(("w", seed, name), 20_000) for seed in range(4) for name in ("a", "b")])
    correlation = np.corrcoef(streams) - np.eye(8)
    assert np.abs(correlation).max() < 4.5 / 20_000**0.5


@given(st.floats(1e-300, 1.0))
def test_the_logarithm_is_right_to_the_last_bits(x):
    exact = math.log(x)
    assert abs(float(_random._log(np.array([x]))[0]) - exact) <= 4 * math.ulp(exact) + 2**-60


@pytest.mark.parametrize("error", [None, ZeroDivisionError])
def test_untouched_gives_every_generator_back(error):
    before = generators()
    try:
        with _random.untouched():
            random.random(), np.random.rand(), torch.rand(1)
            random.seed(1), np.random.seed(1), torch.manual_seed(1)
            assert generators() != before
            if error:
                raise error
    except ZeroDivisionError:
        assert error
    assert generators() == before
