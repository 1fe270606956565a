"""Random numbers that depend on a key alone: never on a global generator, a platform or a version.

The bits are the raw output of Philox (Salmon et al. 2011), a counter-based generator, under a key that is the SHA-256 of a
purpose, a seed and a name. What is made of them uses only operations that IEEE 754 defines to the last bit.
"""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral

import numpy as np
import torch
from numpy.typing import NDArray

Key = tuple[str | int, ...]


def bits(key: Key, n: int, start: int = 0) -> NDArray[np.uint64]:
    """Return ``n`` 64-bit words of the stream ``key``, from a position on; a shorter draw is a prefix of a longer one."""
    plain = tuple(int(part) if isinstance(part, Integral) else str(part) for part in key)  # NumPy's integers print otherwise
    digest = hashlib.sha256(repr(plain).encode()).digest()
    stream, inside = np.random.Philox(key=int.from_bytes(digest[:16], "little")), start % 4
    stream.advance(start // 4)  # which counts in fours
    return stream.random_raw(inside + n)[inside:]


def uniform(key: Key, n: int, start: int = 0) -> NDArray[np.float64]:
    """Return ``n`` draws from U[0, 1), multiples of 2**-53, from a position on."""
    words = bits(key, n, start)
    words >>= np.uint64(11)
    draws = words.astype(np.float64)
    draws *= 2.0**-53
    return draws


def integers(key: Key, n: int, bound: int) -> NDArray[np.int64]:
    """Return ``n`` draws from 0 ... bound - 1 (bound < 2**32; uneven by less than bound / 2**32)."""
    return ((bits(key, n) >> np.uint64(32)) * np.uint64(bound) >> np.uint64(32)).astype(np.int64)


def permutation(key: Key, n: int) -> NDArray[np.int64]:
    """Return the numbers 0 ... n - 1 in random order."""
    words = bits(key, n)
    words ^= np.uint64(1 << 63)  # as signed integers, they are in the order of the words
    order: NDArray[np.int64] = torch.from_numpy(words.view(np.int64)).argsort(stable=True).numpy()  # faster than NumPy's
    return order


def normal(key: Key, n: int) -> NDArray[np.float64]:
    """Return ``n`` draws from N(0, 1) by Marsaglia's polar method: pairs in the unit disc, scaled by √(-2 ln s / s)."""
    pairs = max(16, int(n * 0.65) + 64)  # π/4 of the pairs fall in the disc, n / 2 are needed
    while True:
        u, v = (2.0 * uniform(key, 2 * pairs) - 1.0).reshape(-1, 2).T
        s = u * u + v * v
        inside = (s > 0.0) & (s < 1.0)
        if 2 * np.count_nonzero(inside) >= n:
            break
        pairs *= 2
    u, v, s = u[inside], v[inside], s[inside]
    scale: NDArray[np.float64] = np.sqrt(-2.0 * _log(s) / s)
    return np.stack([u * scale, v * scale], axis=1).ravel()[:n]


def _log(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute ln x from additions, products and quotients alone: the C library's last bit differs between machines."""
    mantissa, exponent = np.frexp(x)
    small = mantissa < 0.5**0.5
    mantissa, exponent = np.where(small, 2.0 * mantissa, mantissa), exponent - small
    z = (mantissa - 1.0) / (mantissa + 1.0)  # ln m = 2 artanh z = 2 (z + z³/3 + z⁵/5 + ...), |z| < 0.172
    total = np.zeros_like(z)
    for k in range(21, 0, -2):
        total = total * (z * z) + 1.0 / k
    result: NDArray[np.float64] = 2.0 * z * total + exponent * 0.6931471805599453
    return result


@contextmanager
def untouched() -> Iterator[None]:
    """Put the generators of Python, NumPy and torch (CPU and CUDA) back, after a block, where they stood before it."""
    python, numpy = random.getstate(), np.random.get_state()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
