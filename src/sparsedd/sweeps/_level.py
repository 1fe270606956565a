"""Level: one round of a sweep in the making."""

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.optim import Optimizer

from sparsedd import _checks, _files
from sparsedd._enforcement import Enforcement
from sparsedd._mask import Mask
from sparsedd._rewinder import Rewinder
from sparsedd.sweeps._record import Curves, Record, flatten

if TYPE_CHECKING:
    from sparsedd.sweeps._sweep import Sweep


class Level:
    """A level of a :class:`.Sweep` in the making: what the body of the loop gets.

    Attributes
    ----------
    number
        0 is dense.
    mask
        The mask of this level, which the model obeys when the body begins.
    step
        Where training starts: 0, or ``rewind_step`` where the schedule goes back, too.
    finished
        The record, once there is one.
    """

    def __init__(self, sweep: "Sweep", number: int, mask: Mask, step: int, release: Callable[[], None]) -> None:
        self.number: int = number
        self.mask: Mask = mask
        self.step: int = step
        self.finished: Record | None = None
        self._sweep, self._release = sweep, release
        self._clock = Clock()
        self._enforced: tuple[Optimizer, ...] = ()
        self._kept = self._last = 0  # the epoch after which training was kept, and that before which the loops end

    def __repr__(self) -> str:
        state = "recorded" if self.finished else "in work"
        return f"Level({self.number} of {self._sweep.levels}, sparsity {self.sparsity:.2%}, {state})"

    @property
    def sparsity(self) -> float:
        """That of the mask."""
        return self.mask.sparsity

    def enforce(self, *optimizers: Optimizer) -> Enforcement:
        """Hold the level's pruned weights at zero after every step of the optimizers, as :meth:`.Mask.enforce` does.

        The mask stays as it is: :meth:`.Enforcement.update` to another one raises ``ValueError``, as a sweep prunes between
        its levels.
        """
        self._enforced = optimizers
        return _Held(self.mask, self._sweep.model, optimizers)

    def epochs(self, last: int, *, first: int = 0, every: int = 1, **parts: Any) -> Iterator[int]:
        """Yield the epochs from ``first`` up to ``last`` that are not done yet; after each, training is kept on disk.

        Run again after a kill, it gives the model and the parts back as they were after the last epoch that was kept, and
        goes on with the next. It may stand inside or outside of :meth:`enforce`.

        Parameters
        ----------
        last, first
            Epochs first ... last - 1. Where the schedule goes back to ``level.step``, ``first`` is the epoch of that step.
        every
            Keep training after each so many epochs, and after the last one.
        parts
            What changes in training besides the model: optimizers, schedulers, whatever a :class:`.Rewinder` takes, or a dict
            or list of numbers and tensors, such as the best accuracy so far. The order of the data must follow from the epoch.

        Notes
        -----
        A loop that was resumed after its last epoch has set no variable: record what follows from the model and the parts.
        """
        _checks.whole("every", every, least=1)
        done, sweep = _checks.whole("first", first), self._sweep
        if _checks.whole("last", last) < done:
            raise ValueError(f"last must be at least first={first}, got {last}.")
        if taken := {"model", "clock"} & parts.keys():
            raise ValueError(
                f"the sweep keeps its {', '.join(sorted(taken))} by itself: pass what else there is under other names."
            )
        path = sweep._store.inside_path(self.number)
        parts = {"model": sweep.model, "clock": self._clock, **{name: _part(part) for name, part in parts.items()}}
        if sweep._ranks.first(path.exists):
            inside = Rewinder.load(path)
            self._kept = inside.step
            later = inside.step > last and any(name not in inside for name in parts)  # kept by a loop that comes after this one
            if inside.step > done and not later:
                try:
                    inside.rewind(**parts)
                except ValueError as error:
                    raise ValueError(f"{path} does not fit: {error} Remove it to begin level {self.number} anew.") from error
                self.mask.apply_(sweep.model)
            done = max(done, inside.step)
        self._last = max(self._last, last)
        for epoch in range(done, last):
            yield epoch
            if (epoch + 1 - first) % every == 0 or epoch + 1 == last:
                self._warn_of_others(parts)
                keep = partial(_keep, path, epoch + 1, parts)
                keep() if sweep._ranks.shared else sweep._ranks.first(keep)  # shards are kept by all, of which one writes
                self._kept = epoch + 1

    def _warn_of_others(self, parts: Mapping[str, Any]) -> None:
        """Warn once of optimizers that the mask is enforced on, and whose state is not kept after an epoch."""
        lost = [type(o).__name__ for o in self._enforced if o.state and not any(o is part for part in parts.values())]
        self._enforced = ()
        if lost:
            _checks.warn(
                f"after a kill this level would go on without the state of its {', '.join(lost)}: pass it, "
                "level.epochs(..., optimizer=optimizer)."
            )

    def reached(self, step: int) -> None:
        """Keep the state of the dense net at the rewind step: call it before each step where ``rewind_step`` is above 0."""
        sweep = self._sweep
        if self.number == 0 and _checks.whole("step", step) == sweep.rewind_step > 0:
            sweep._ranks.first(lambda: sweep._net.save_start())

    def record(self, /, **measures: Any) -> Record:
        """Finish the level: keep what was measured, the weights and the mask of the next level. Only then does it count.

        Parameters
        ----------
        measures
            Numbers by name, or :class:`.Evaluation`: of ``test=`` come ``test_accuracy`` and ``test_loss``. A training loss
            or a parameter that is not finite says that training has diverged: the sweep ends. Under ``torchrun`` those of
            the first rank count.

        Raises
        ------
        RuntimeError
            When it is recorded already, a pruned weight is not zero, or the rewind step was never reached.
        TypeError, ValueError
            When a measure is no number, or is NaN. Nothing is lost: the level can be recorded again.
        """
        record = self._finish(dict(flatten(measures)))
        if record.diverged:
            _checks.warn(
                f"level {self.number} has diverged: its training loss or a parameter is not finite. The sweep ends here; to "
                "try a smaller learning rate, say, take another folder."
            )
        return record

    def _finish(
        self,
        measures: Mapping[str, float | None],
        curves: Curves | None = None,
        momentum: Mapping[str, Tensor] | None = None,
        seconds: float | None = None,
    ) -> Record:
        sweep, store = self._sweep, self._sweep._store
        if self.finished is not None:
            raise RuntimeError(f"level {self.number} is recorded already: {self.finished!r}.")
        if not self.mask.holds(sweep.model):
            raise RuntimeError(
                f"pruned weights of level {self.number} are not zero: train within `with level.enforce(optimizer)`, or call "
                "level.mask.apply_(model) before measuring. A mask that moves needs a loop of your own, without a Sweep."
            )
        if self._kept > self._last > 0:
            raise RuntimeError(
                f"level {self.number} was trained for {self._kept} epochs before, and now ends at {self._last}: train as "
                f"long, or remove {store.inside_path(self.number)} to begin the level anew."
            )
        if sweep.retraining.weights == "rewind" and sweep.rewind_step and not store.start_path.exists():
            raise RuntimeError(f"rewind_step={sweep.rewind_step} was never reached: call level.reached(step) before each step.")

        sweep._masks.held = self.mask

        def write() -> dict[str, Any]:
            distance = sweep._ranks.together(sweep._net.distance)
            took = self._clock.seconds if seconds is None else seconds
            record = Record(self.number, self.mask.sparsity, self.mask.remaining, distance, took, measures, curves)
            if not record.diverged:
                sweep._masks.prepare(self.number)
            store.add(record, sweep._ranks.together(sweep._net.whole_state), self.mask, momentum)
            _files.remove(sweep._leftovers())
            return record.to_json()

        self.finished = Record.from_json(sweep._ranks.first(write))
        sweep._net.holds = self.number
        self._release()
        return self.finished


class _Held(Enforcement):
    """An enforcement of the mask of a level, which is recorded, and pruned further, as what it was when the level began."""

    def update(self, mask: Mask, *, regrow: bool = False) -> None:
        if isinstance(mask, Mask) and mask != self.mask:
            raise ValueError(
                f"a level keeps its {self.mask!r} to the end, as a sweep prunes between levels, got {mask!r}: a mask that "
                "shrinks or moves needs a loop of your own, without a Sweep."
            )
        super().update(mask, regrow=regrow)


def _keep(path: Path, step: int, parts: Mapping[str, Any]) -> None:
    Rewinder(step=step, **parts).save(path)


def _part(part: Any) -> Any:
    """Return a part of training as a thing with a state: a dict or a list is its own."""
    return _Plain(part) if isinstance(part, dict | list) else part


class _Plain:
    """A dict or a list, whose content is its state."""

    def __init__(self, content: Any) -> None:
        self._content = content

    def state_dict(self) -> dict[str, Any]:
        return {"content": self._content}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._content.clear()
        (self._content.update if isinstance(self._content, dict) else self._content.extend)(state["content"])


class Clock:
    """How long a level has taken, also when it was interrupted."""

    def __init__(self) -> None:
        self._before, self._began = 0.0, time.perf_counter()

    @property
    def seconds(self) -> float:
        """The time so far."""
        return self._before + time.perf_counter() - self._began

    def state_dict(self) -> dict[str, float]:
        """Return the time so far."""
        return {"seconds": self.seconds}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Go on from a time."""
        self._before, self._began = state["seconds"], time.perf_counter()
