"""Derived: what is made of a stored level, kept beside it or written elsewhere."""

import io
import re
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from sparsedd import _checks, _files
from sparsedd._state import find_first_names, read_tensors, write_
from sparsedd.sweeps._config import copy_json
from sparsedd.sweeps._store import OF_LEVEL, Store, check_fit


def derive(store: Store, model: nn.Module, level: int, name: str, make: Callable[[nn.Module], Any]) -> Any:
    """Return what ``make`` makes of the net of a level, from the file where the level has not changed since."""
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,60}", _checks.kind("name", name, str, "a string")):
        raise ValueError(f"name must be of lower-case letters, digits and hyphens, got {name!r}.")
    path = store.path / f"{_checks.whole('level', level):02d}.derived-{name}.safetensors"
    of, kept = [store.digest(level), name], []
    store.kept(path, "derived", of, lambda content: kept.append(content["value"]))
    if not kept:
        model = deepcopy(model)
        own = read_tensors(model)
        like = {name: own[name] for name in find_first_names(model).values()}
        for key, tensor in check_fit(store.weights_path(level), store.weights(level), like).items():
            write_(key, own[key], tensor)
        kept.append(copy_json(make(model), name))
        store.keep(path, "derived", {}, {"of": of, "value": kept[0]})
    return kept[0]


def export(path: Path, state: dict[str, Tensor], model: nn.Module, folder: Path) -> None:
    """Write a state as a plain checkpoint, unless it would replace a file of the sweep in ``folder``."""
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder, and path must be a file to write: say {path / 'net.safetensors'}.")
    if path.absolute().parent == folder and OF_LEVEL.fullmatch(path.name):
        raise ValueError(f"{path} is a file of the sweep itself: take another name.")
    if path.suffix == ".safetensors":
        _files.write(path, save(state, {"format": "pt"}))
        return
    data = io.BytesIO()
    torch.save({name: state[first] for name, first in find_first_names(model).items()}, data)
    _files.write(path, data.getvalue())
