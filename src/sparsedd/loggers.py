"""Loggers: what is measured goes to TensorBoard, to wandb or trackio, or to any object that has three methods.

>>> import tempfile
>>> from sparsedd.experiments import Experiment, run
>>> experiment = Experiment().scaled("smoke")
>>> with tempfile.TemporaryDirectory() as out:
...     logger = TensorBoard(f"{out}/events")
...     for level in logged(run(experiment, out), logger, experiment.config()):
...         print(level.level, level.remaining)
0 5040
1 4032
2 3225
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from math import isfinite
from numbers import Integral, Real
from typing import Any, Protocol, TypeVar, runtime_checkable

from torch import Tensor

from sparsedd import _checks

__all__ = ["Logger", "TensorBoard", "Wandb", "logged"]

Record = TypeVar("Record")


@runtime_checkable
class Logger(Protocol):
    """What :func:`logged` can write to: any object that has these three methods.

    >>> class Print:
    ...     def begin(self, config):
    ...         print(config)
    ...     def log(self, values, step):
    ...         print(step, values)
    ...     def finish(self):
    ...         print("finished")
    >>> for level in logged([{"accuracy": 0.5}], Print(), {"seed": 0}):
    ...     pass
    {'seed': 0}
    0 {'accuracy': 0.5}
    finished
    """

    def begin(self, config: Mapping[str, Any]) -> None:
        """A run begins, whose configuration is this: what JSON can hold."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Finite numbers by name, at a step that is higher each time."""

    def finish(self) -> None:
        """The run has ended, be it by an error."""


def logged(levels: Iterable[Record], logger: Logger, config: Mapping[str, Any] | None = None) -> Iterator[Record]:
    """The same levels, each of them logged before it is yielded.

    The logger begins before the first level and finishes after the last, or when the loop is left: by an error, by ``break`` or
    ctrl-C. Numbers that are None or not finite are left out, and so is all that is no number. A run that is resumed yields its
    stored levels too, so that each of its logs is complete.

    Parameters
    ----------
    levels
        What :func:`sparsedd.experiments.run` yields, or the records of your own loop: dataclasses, or mappings of names to
        numbers. Their ``level`` is the step; where there is none they are counted from 0.
    logger
        A :class:`Logger`.
    config
        What it begins with, such as ``experiment.config()``.

    Raises
    ------
    Exception
        Whatever the logger raises, with a note that names the level. ``run`` has stored that level by then: run again, and it
        is there.
    """
    _checks.kind("levels", levels, Iterable, "an iterable of levels")
    if not isinstance(logger, Logger) or isinstance(logger, type):
        raise TypeError(f"logger must have the methods begin, log and finish, got {logger!r}.")
    return _logged(levels, logger, {} if config is None else _checks.kind("config", config, Mapping, "a mapping or None"))


def _logged(levels: Iterable[Record], logger: Logger, config: Mapping[str, Any]) -> Iterator[Record]:
    logger.begin(config)
    try:
        for count, level in enumerate(levels):
            values = _numbers(level)
            step = int(values.pop("level", count))
            try:
                logger.log(values, step)
            except Exception as error:
                error.add_note(f"The logger raised this at level {step}, which itself has finished.")
                raise
            yield level
    except Exception as error:
        try:
            logger.finish()
        except Exception as second:  # the first says more
            error.add_note(f"Then the logger's finish raised {second!r}.")
        raise
    except BaseException:  # the loop was left
        logger.finish()
        raise
    logger.finish()


def _numbers(level: Any) -> dict[str, float]:
    """The finite numbers of a record."""
    level = level.to_json() if hasattr(level, "to_json") else level
    if is_dataclass(level):
        level = {f.name: getattr(level, f.name) for f in fields(level)}
    if not isinstance(level, Mapping):
        raise TypeError(f"a level must be a dataclass or a mapping of names to numbers, got {level!r:.60}.")
    plain = {name: v.item() if isinstance(v, Tensor) and v.numel() == 1 else v for name, v in level.items()}
    return {name: int(v) if isinstance(v, Integral) else float(v) for name, v in plain.items() if _finite(v)}


def _finite(value: Any) -> bool:
    try:
        return isinstance(value, Real) and isfinite(value)
    except OverflowError:  # an integer that no float holds
        return False


class TensorBoard:
    """Curves for TensorBoard, and the configuration as a text.

    Parameters
    ----------
    to
        A folder, or a ``SummaryWriter`` of your own, which is left open at the end.

    Raises
    ------
    ImportError
        For a folder, when ``tensorboard`` is not installed.
    """

    def __init__(self, to: Any) -> None:
        self._ours = not hasattr(to, "add_scalar")
        self._writer = _writer(str(_checks.folder("to", to))) if self._ours else to

    def __repr__(self) -> str:
        return f"TensorBoard({getattr(self._writer, 'log_dir', type(self._writer).__name__)!r})"

    def begin(self, config: Mapping[str, Any]) -> None:
        """The configuration, as text."""
        self._writer.add_text("config", f"```json\n{json.dumps(dict(config), indent=2, default=str)}\n```")

    def log(self, values: Mapping[str, float], step: int) -> None:
        """A point of each curve."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def finish(self) -> None:
        """Write out what is left."""
        if self._ours:
            self._writer.close()
        else:
            self._writer.flush()


def _writer(folder: str) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ImportError("TensorBoard needs the package tensorboard: pip install tensorboard") from error
    return SummaryWriter(folder)


class Wandb:
    """A run of wandb, of trackio, or of what else has their ``init``, ``log`` and ``finish``.

    Parameters
    ----------
    to
        The module, of which a run is opened at the beginning and finished at the end; or a run of your own, whose ``config`` is
        updated, and which is left open.
    **init
        For the module's ``init``, besides ``config``: ``project="sparsedd"``, say, which trackio needs.

    Examples
    --------
    ``logged(run(experiment, out), Wandb(trackio, project="sparsedd"), experiment.config())``
    """

    def __init__(self, to: Any, **init: Any) -> None:
        self._ours = callable(getattr(to, "init", None))
        if not self._ours and not all(hasattr(to, name) for name in ("config", "log", "finish")):
            raise TypeError(f"to must be a module such as wandb or trackio, or a run of one, got {to!r}.")
        if not self._ours and init:
            raise TypeError(f"a run that is open takes no {', '.join(init)}: pass the module, such as wandb, instead.")
        if "config" in init:
            raise TypeError("the config comes from logged(levels, logger, config): leave it out here.")
        self._to, self._init = to, init
        self._run: Any = None if self._ours else to

    def __repr__(self) -> str:
        name = getattr(self._to, "__name__", type(self._to).__name__)
        return f"Wandb({', '.join([name, *(f'{key}={value!r}' for key, value in self._init.items())])})"

    def begin(self, config: Mapping[str, Any]) -> None:
        """Open the run."""
        if self._ours:
            self._run = self._to.init(config=dict(config), **self._init)
        else:
            self._run.config.update(dict(config))

    def log(self, values: Mapping[str, float], step: int) -> None:
        """A point of each curve."""
        if self._run is None:
            raise RuntimeError("there is no run to log to: call begin(config) first.")
        self._run.log(dict(values), step=step)

    def finish(self) -> None:
        """Finish the run, if it was opened here."""
        if self._ours and self._run is not None:
            run, self._run = self._run, None
            run.finish()
