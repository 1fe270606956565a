"""Own: a function of the user's, as a value: its name, its arguments and, of data, the digest of what it returns."""

import hashlib
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields, is_dataclass
from functools import partial
from numbers import Integral, Real
from pathlib import PurePath
from typing import Any

import torch
from torch import Tensor

from sparsedd import _checks, _random
from sparsedd._ambient import undisturbed
from sparsedd.data import Data
from sparsedd.sweeps._config import copy_json

WHY = "An experiment's key holds its name, which must lead to it in every process and on every machine"


@dataclass(frozen=True, repr=False)
class Own:
    """A function of the user's own, which is called like it and compared by name and arguments.

    Attributes
    ----------
    name
        Where it can be imported from, ``"module:name"``.
    arguments
        Those that a partial or a frozen dataclass holds, in JSON; a tensor is its digest.
    function
        None where the name was read from a file: nothing that a file names is ever imported.
    """

    name: str
    arguments: str = "{}"
    function: Callable[..., Any] | None = field(default=None, compare=False)

    def __repr__(self) -> str:
        given = ", ".join(f"{key}={value!r}" for key, value in json.loads(self.arguments).items())
        return f"{self.name}({given})" if given else self.name

    def __str__(self) -> str:
        return self.name.partition(":")[2]

    @property
    def __name__(self) -> str:
        return str(self)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        with calm():
            return self.known(*arguments, **named)

    @property
    def known(self) -> Callable[..., Any]:
        """The function; RuntimeError where only its name is known."""
        if self.function is None:
            raise RuntimeError(
                f"{self.name} is a function of your own, and nothing that a file names is imported: run your script again, or "
                "sparsedd run FILE.py:NAME, with the experiment that has it."
            )
        return self.function

    def to_json(self) -> dict[str, Any]:
        """Return what a configuration says of it."""
        return {"function": self.name, "arguments": json.loads(self.arguments)}


@dataclass(frozen=True, repr=False, eq=False)
class OwnData(Own):
    """A function that returns a data set: equal to another one only if the tensors are, too."""

    written: str | None = None  # the digest, where a file or another process has told it

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, OwnData):
            return NotImplemented
        same = (self.name, self.arguments) == (other.name, other.arguments)
        return self is other or (same and self.digest == other.digest)

    def __hash__(self) -> int:
        return hash((self.name, self.arguments))

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "written": self.digest}  # so that a worker process notices other data

    @property
    def digest(self) -> str:
        """The SHA-256 of the data; they are made for it at most once in a process."""
        if self.written is None and self._key not in _digests:
            self.load()
        return self.written or _digests[self._key]

    def load(self) -> Data:
        """Return the data; RuntimeError if they are no longer those that the experiment was made with."""
        found = _loaded.get(self._key)
        if found is None:
            data = _checks.kind(f"what {self.name} returns", self(), Data, "a sparsedd.data.Data")
            _check_inputs(self.name, data)
            found = data, digest_of(data)
            _loaded.clear()
            _loaded[self._key] = found
            _digests.setdefault(self._key, found[1])
        if found[1] != self.digest:
            raise RuntimeError(
                f"{self!r} returns other data here than where the experiment was made: it must return the same each time."
            )
        return found[0]

    def to_json(self) -> dict[str, Any]:
        return super().to_json() | {"digest": self.digest}

    @property
    def _key(self) -> object:
        return _named(self.function), self.arguments


_loaded: dict[object, tuple[Data, str]] = {}  # the last data set: a process makes many experiments of one
_digests: dict[object, str] = {}


def own(what: str, value: Any, kind: type[Own] = Own) -> Own:
    """Return a function, a frozen dataclass or a partial as a value; an error says why it can't be one."""
    if isinstance(value, Own):
        if type(value) is not kind:
            raise TypeError(f"{what} must be {'data' if kind is OwnData else 'no data'}, got {value!r}.")
        return value
    return kind(_name(what, _named(value)), json.dumps(_arguments(what, value), sort_keys=True), value)


def from_json(plain: Mapping[str, Any]) -> Own:
    """Return what a configuration speaks of: a name, which is not imported."""
    name, arguments, digest = plain["function"], plain.get("arguments"), plain.get("digest")
    if not isinstance(name, str) or not re.fullmatch(r"[\w.]+:[\w.]+", name) or not isinstance(arguments, dict):
        raise ValueError(f"a function must be a name such as 'module:name' with arguments, got {plain!r:.80}.")
    text = json.dumps(arguments, sort_keys=True)
    if "digest" not in plain:
        return Own(name, text)
    if not isinstance(digest, str) or not re.fullmatch("[0-9a-f]{64}", digest):
        raise ValueError(f"the digest of data must be a SHA-256, got {digest!r:.80}.")
    return OwnData(name, text, written=digest)


def call_with(model: Own, **offered: Any) -> Any:
    """Call a function with those of the arguments that its signature has, and that a partial has not given already."""
    function = model.known
    given = function.keywords if isinstance(function, partial) else {}
    passed = {name: value for name, value in offered.items() if name in takes(model) and name not in given}
    try:
        inspect.signature(function).bind(**passed)
    except TypeError as error:
        raise TypeError(f"{model!r} can be called with {', '.join(offered)}, as far as it takes them, but: {error}.") from None
    try:
        return function(**passed)
    except Exception as error:
        said = ", ".join(f"{name}={value!r}" for name, value in {**given, **passed}.items())
        raise RuntimeError(f"{model.name}({said}) raised {type(error).__name__}: {error}") from error


def has_default(model: Own, name: str) -> bool:
    """Return whether a function has a value of its own for an argument."""
    parameter = inspect.signature(model.known).parameters.get(name)
    return parameter is not None and parameter.default is not parameter.empty


def takes(model: Own) -> set[str]:
    """Return the names of the arguments that a function can be called with."""
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {p.name for p in inspect.signature(model.known).parameters.values() if p.kind in kinds}


def digest_sources(functions: Iterable[Own]) -> dict[str, str]:
    """Return the SHA-256 of each function's source text by its name, where there is one; data have a digest of their own."""
    found = {}
    for own in functions:
        if own.function is not None and not isinstance(own, OwnData):
            with suppress(OSError, TypeError):  # of a notebook, or compiled
                found[own.name] = hashlib.sha256(inspect.getsource(_named(own.function)).encode()).hexdigest()
    return found


def digest_of(data: Data) -> str:
    """Return the SHA-256 of a data set: of its tensors' types, shapes and bits, and of the number of classes."""
    parts = {
        "num_classes": torch.tensor(data.num_classes, device="cpu"),
        "mean": data.mean,
        "std": data.std,
        "uncropped": data.uncropped,
    }
    parts |= {f"{name} {k}": t for name in ("train", "test") for k, t in enumerate(getattr(data, name).tensors)}
    digest = hashlib.sha256()
    for name, tensor in parts.items():
        if tensor is not None:
            _update(digest, name, tensor)
    return digest.hexdigest()


def _update(digest: Any, name: str, tensor: Tensor) -> None:
    digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
    digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)


def _named(value: Any) -> Any:
    """Return the part of a function that has a name: itself, a partial's function, or the class of an instance."""
    if isinstance(value, partial):
        return value.func
    return type(value) if is_dataclass(value) and not isinstance(value, type) else value


def _name(what: str, function: Any) -> str:
    """Return ``module:name`` of what can be imported under it."""
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if inspect.ismethod(function) or not isinstance(module, str) or not isinstance(name, str):
        raise TypeError(f"{what} must be a function, or a frozen dataclass that can be called, got {function!r}. {WHY}.")
    place, advice = f"{module}:{name}", "write it with def at the top of a module"
    if "<lambda>" in name:
        raise ValueError(f"{what} can't be a lambda, got {function!r}, which has no name. {WHY}: {advice}.")
    if "<locals>" in name:
        raise ValueError(f"{what} can't be made inside of a function, got {place}. {WHY}: {advice}.")
    if module in ("__main__", "__mp_main__"):
        raise ValueError(
            f"{what} can't be {name} of a script that is run itself. {WHY}: move it to a module that the script imports, or "
            "have sparsedd run FILE.py:NAME run an Experiment of the script."
        )
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is not function:
        raise ValueError(f"{what} can't be {function!r}: {place} is something else, {found!r}. {WHY}.")
    return place


def _arguments(what: str, value: Any) -> dict[str, Any]:
    """Return the arguments that a function holds, in JSON; positional ones under their numbers."""
    if isinstance(value, partial):
        given = {str(k): v for k, v in enumerate(value.args)} | value.keywords
    elif is_dataclass(value) and not isinstance(value, type):
        if not value.__dataclass_params__.frozen or not callable(value):  # type: ignore[attr-defined]
            raise TypeError(f"{what} must be a frozen dataclass that can be called, got {value!r}.")
        given = {f.name: getattr(value, f.name) for f in fields(value)}
    else:
        return {}
    return {name: _plain(f"{name} of {what}", v) for name, v in given.items()}


def _plain(what: str, value: Any) -> Any:
    """Return an argument in JSON."""
    if isinstance(value, tuple | list):
        return [_plain(what, v) for v in value]
    if isinstance(value, Mapping):
        return {name: _plain(what, v) for name, v in value.items()}
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Tensor):
        _update(digest := hashlib.sha256(), "", value)
        return f"sha256:{digest.hexdigest()}"
    if isinstance(value, Real) and not isinstance(value, bool | int | float):  # NumPy's
        return int(value) if isinstance(value, Integral) else float(str(value))
    if callable(value):
        return own(what, value).to_json()
    return copy_json(value, what)


def _check_inputs(name: str, data: Data) -> None:
    inputs, others = data.train.tensors[0], data.test.tensors[0]
    if inputs.dim() < 2 or inputs.shape[1:] != others.shape[1:] or inputs.dtype != others.dtype:
        got = f"{inputs.dtype} {tuple(inputs.shape)} and {others.dtype} {tuple(others.shape)}"
        raise ValueError(f"{name} must return inputs (n, ...) of one type and shape to train and to test on, got {got}.")
    if inputs.is_floating_point() and inputs.dtype != torch.float32:
        raise ValueError(f"{name} must return inputs in float32, got {inputs.dtype}: use inputs.float().")


@contextmanager
def seeded(model: object, *key: int | str) -> Iterator[None]:
    """Make what a model of the user's own draws in the block, for Dropout say, depend on the key alone."""
    if not isinstance(model, Own):  # others draw nothing
        yield
        return
    with _random.untouched():
        torch.manual_seed(int(_random.integers(("own model", *key), 1, 2**31)[0]))
        yield


@contextmanager
def calm() -> Iterator[None]:
    """Keep what the caller has set for torch from changing a number in the block, and leave the generators as they were."""
    default = torch.get_default_dtype()
    try:
        with _random.untouched(), undisturbed():
            if default != torch.float32:
                torch.set_default_dtype(torch.float32)
            yield
    finally:
        if default != torch.float32:
            torch.set_default_dtype(default)
