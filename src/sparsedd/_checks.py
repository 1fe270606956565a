"""Arguments, checked and read exactly."""

from fractions import Fraction
from math import inf, isfinite
from numbers import Integral, Rational, Real


def share(name: str, value: object, *, one: bool) -> Fraction:
    """A share as the decimal number that was written: 0.07 is 7/100, not the nearest double."""
    bounds = "[0, 1]" if one else "[0, 1)"
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number in {bounds}, got {value!r} of type {type(value).__name__}.")
    if isinstance(value, Rational):
        exact = Fraction(value)
    elif not isfinite(value):
        raise ValueError(f"{name} must be in {bounds}, got {value}.")
    else:
        exact = Fraction(str(value))
    if not (0 <= exact < 1 or (one and exact == 1)):
        hint = f" It is a share, not a percentage: did you mean {float(exact) / 100:g}?" if 1 < exact <= 100 else ""
        raise ValueError(f"{name} must be in {bounds}, got {value}.{hint}")
    return exact


def whole(name: str, value: object, *, least: int = 0) -> int:
    """An integer of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be an integer, got {value!r} of type {type(value).__name__}.")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}.")
    return int(value)


def number(name: str, value: object, *, above: float = -inf, least: float = -inf) -> float:
    """A finite number above one bound and not below another."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {value!r} of type {type(value).__name__}.")
    if not isfinite(value) or value <= above or value < least:
        bound = f"above {above:g}" if above > -inf else f"at least {least:g}"
        raise ValueError(f"{name} must be finite and {bound}, got {value}.")
    return float(str(value)) if not isinstance(value, Rational) else float(value)


def one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    """One of a few names."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r}.")
