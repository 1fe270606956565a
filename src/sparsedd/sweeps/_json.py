"""JSON: what a file says of a level, as the dataclass that it was made of."""

from dataclasses import is_dataclass
from functools import cache
from math import isfinite
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

SHARES = ("accuracy", "sparsity")  # the ends of the names of what is from 0 to 1


def build(kind: Any, plain: Any, name: str = "the record") -> Any:
    """Return a value of a dataclass, or of the type of a field of one: finite numbers, strings, None, tuples of these.

    Raises
    ------
    ValueError
        When the JSON is of another type; the message names the field.
    """
    if isinstance(kind, type) and is_dataclass(kind):
        hints = _hints(kind)
        if not isinstance(plain, dict) or plain.keys() != hints.keys():
            raise ValueError(f"{name} must have the fields {', '.join(hints)}, got {plain!r:.40}")
        return kind(**{key: build(hints[key], value, key) for key, value in plain.items()})
    if get_origin(kind) is tuple:
        if not isinstance(plain, list | tuple):
            raise ValueError(f"{name} must be a list, got {plain!r:.40}")
        return tuple(build(get_args(kind)[0], value, name) for value in plain)
    allowed = get_args(kind) or (kind,)
    if type(plain) not in (*allowed, *([int] if float in allowed else [])):
        words = " or ".join("null" if kind is NoneType else kind.__name__ for kind in allowed)
        raise ValueError(f"{name} must be {words}, got {plain!r:.40}")
    if isinstance(plain, int | float):
        check_number(name, plain)
    return plain


def check_number(name: str, value: float) -> None:
    """Raise ValueError unless the number is one that a measure of this name can be."""
    if not isfinite(value):
        raise ValueError(f"{name} must be finite, got {value}")
    if name.endswith(SHARES) and not 0 <= value <= 1:
        raise ValueError(f"{name} must be from 0 to 1, got {value}")


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)
