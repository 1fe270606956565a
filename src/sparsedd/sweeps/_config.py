"""Config: what a sweep is, in JSON, so that another one in its folder is noticed."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any

from torch import nn

from sparsedd import _checks, _files
from sparsedd._mask import Mask
from sparsedd._parameters import abridge
from sparsedd._pruner import Pruner
from sparsedd._state import read_tensors
from sparsedd.sweeps._retraining import Retraining
from sparsedd.sweeps._store import Store, sha256

FREE = ("levels", "keep")  # what may change from one run to the next
FILES = ("config.json", "levels.jsonl", "lock")


def copy_json(value: Any, place: str = "config") -> Any:
    """Return a copy of JSON; TypeError that names the place of what is none."""
    if value is None or isinstance(value, bool | str | int) or (isinstance(value, float) and isfinite(value)):
        return value
    if isinstance(value, list | tuple):
        return [copy_json(item, f"{place}[{k}]") for k, item in enumerate(value)]
    if isinstance(value, Mapping):
        for key in value:
            _checks.kind(f"a key of {place}", key, str, "a string")
        return {key: copy_json(item, f"{place}[{key!r}]") for key, item in value.items()}
    raise TypeError(
        f"{place} must be JSON (finite numbers, strings, lists, dicts), got {value!r:.60} of {type(value).__name__}."
    )


def describe_sweep(
    model: nn.Module,
    mask: Mask,
    pruner: Pruner,
    retraining: Retraining,
    **more: Any,
) -> dict[str, Any]:
    """Return what a sweep is: everything that another run of it must have the same."""
    own = {
        "model": {name: [list(tensor.shape), str(tensor.dtype)] for name, tensor in read_tensors(model).items()},
        "names": list(mask),
        "pruner": {"score": name_function(pruner.score), "fraction": str(pruner.fraction), "scope": pruner.scope},
        "retraining": {"weights": retraining.weights, "schedule": retraining.schedule},
        **more,
    }
    return {"sweep": 1, "key": sha256({key: value for key, value in own.items() if key not in FREE}), **own}


def name_function(function: Callable[..., Any] | str) -> str:
    """Return a name by which another function is noticed: importable, with the arguments that it holds."""
    if isinstance(function, str):
        return function
    if isinstance(function, partial):
        given = [*map(repr, function.args), *(f"{key}={value!r}" for key, value in sorted(function.keywords.items()))]
        return f"{name_function(function.func)}({', '.join(given)})"
    kind: Any = function if hasattr(function, "__qualname__") else type(function)
    name = f"{kind.__module__}:{kind.__qualname__}"
    if is_dataclass(function) and not isinstance(function, type):
        name += f"({', '.join(f'{f.name}={getattr(function, f.name)!r}' for f in fields(function))})"
    return name


def format_config(config: Mapping[str, Any]) -> str:
    """Return ``config.json``."""
    return json.dumps(config, indent=2) + "\n"


def read_config(path: Path) -> dict[str, Any]:
    """Return what a ``config.json`` of a sweep says; ValueError where it is not what was written."""
    with _files.blame(path, "the configuration of a sweep"):
        text = path.read_bytes().decode()
        config: dict[str, Any] = _checks.kind("it", _files.parse_json(text), dict, "a mapping")
        own = {key: value for key, value in config.items() if key not in ("sweep", "key", *FREE)}
        if config.get("sweep") != 1 or config.get("key") != sha256(own) or format_config(config) != text:
            raise ValueError("it was altered")
    return config


def differences(before: Mapping[str, Any], now: Mapping[str, Any], place: str = "") -> list[str]:
    """List what two configurations have otherwise."""
    found = []
    for key in {**before, **now}:
        if not place and key in ("key", *FREE):
            continue
        a, b = before.get(key, "missing"), now.get(key, "missing")
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found += differences(a, b, f"{place}{key}.")
        elif a != b:
            found.append(f"{place}{key} is {shorten(b)} and was {shorten(a)}")
    return found


def shorten(value: Any) -> str:
    """Return JSON that is short enough for a message."""
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def is_written(store: Store, config: dict[str, Any]) -> bool:
    """Return whether a folder has this configuration; ValueError that lists what differs where another sweep has levels.

    ``keep`` becomes ``"last"`` where it has been that before: what is gone stays gone. It does not where levels have been kept.
    """
    _check_files(store.path)
    path, begun = store.path / "config.json", bool(store.lines())
    if not path.exists():
        if begun:
            raise ValueError(f"{store.path} has levels and no config.json: restore it, or take another folder.")
        _check_no_sweeps_in(store.path)
        return False
    before = read_config(path)
    if begun and (found := differences(before, config)):
        raise ValueError(f"{store.path} holds another sweep: {abridge(found)}. Take another folder, or move that one away.")
    if begun and (before["keep"], config["keep"]) == ("all", "last"):
        raise ValueError(
            f"{store.path} has kept the weights of all its levels, which keep='last' would remove. Nothing was removed: "
            "leave keep='all', or take another folder."
        )
    if begun and before["keep"] == "last":
        config["keep"], store.last = "last", True
    return before == config


def _check_files(folder: Path) -> None:
    """Raise for a folder in the place of a file of a sweep."""
    for name in FILES:
        if (folder / name).is_dir():
            raise IsADirectoryError(f"{folder / name} is a folder, where a file of the sweep is to be: move it away.")


def _check_no_sweeps_in(folder: Path) -> None:
    """Raise for a folder that is no sweep's, and in which other sweeps are, as those of several seeds."""
    said = [path for path in sorted(folder.glob("*/config.json")) if path.is_file() and b'"sweep"' in path.read_bytes()[:40]]
    if said:
        others = abridge(str(path.parent) for path in said)
        numbers = [int(match[1]) for path in said if (match := re.fullmatch(r"seed-(\d{1,9})", path.parent.name))]
        own = folder / f"seed-{max(numbers, default=-1) + 1}"
        raise ValueError(f"{folder} holds other sweeps, {others}: give this one a folder of its own, such as {own}.")


def open_store(folder: Path) -> Store:
    """Return the store of a sweep by its ``config.json``; ValueError where that is not what was written."""
    _check_files(folder)
    path = folder / "config.json"
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: restore it from a copy. It says what the levels are of.")
    try:
        config = read_config(path)
        with _files.blame(path, "the configuration of a sweep"):
            levels, step = (_checks.whole(name, config[name]) for name in ("levels", "rewind_step"))
            _checks.one_of("keep", config["keep"], ("all", "last"))
            return Store(folder, levels, beginning=step > 0, last=config["keep"] == "last")
    except (ValueError, OSError) as error:
        raise ValueError(f"{error} Restore it from a copy: it says what the levels are of.") from error


def open_tickets(place: Any, dense: Mask, levels: int, planned: int) -> tuple[Store, str]:
    """Return the store of a sweep whose masks fit a model and may be enough, and its key; an error says what differs.

    ``planned`` is how many levels the sweep is to have, where that is known better than its folder says.
    """
    folder = _checks.path("tickets", place)
    if not (folder / "config.json").exists():
        raise FileNotFoundError(
            f"tickets must be a Sweep or its folder, and there is no {folder / 'config.json'}: run that sweep first."
        )
    config = read_config(folder / "config.json")
    theirs = {name: config["model"][name][0] for name in config["names"]}
    if found := differences(theirs, {name: list(keep.shape) for name, keep in dense.items()}):
        raise ValueError(
            f"the masks of {folder} are of other weights: {abridge(found)}. Take tickets of the same model and names=."
        )
    store = open_store(folder)
    records = store.levels()
    if max(config["levels"], planned) <= len(records) < levels and not records[-1].diverged:
        has = f"{folder}, whose masks are taken, has ended with {len(records)} levels"
        raise ValueError(f"{has}, which is fewer than levels={levels}: run that sweep further first, or ask for as many.")
    return store, config["key"]
