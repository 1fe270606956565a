"""Sweep: train, prune, rewind, retrain, again and again, in a loop that stays the user's."""

import io
import os
import re
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from sparsedd import _checks, _files, _random, metrics
from sparsedd._mask import Mask
from sparsedd._match import match_and_warn
from sparsedd._parameters import check_present, find_computed, unwrap
from sparsedd._prunable import prunable
from sparsedd._pruner import Pruner
from sparsedd._state import find_first_names, read_tensors, write_
from sparsedd.sweeps._config import checked, described, read_config, refuse_another, text_of
from sparsedd.sweeps._level import Level
from sparsedd.sweeps._ranks import Ranks
from sparsedd.sweeps._record import Record, finite
from sparsedd.sweeps._retraining import LTR, Retraining
from sparsedd.sweeps._store import OF_LEVEL, Store, fitting


class Sweep:
    """A sweep over sparsity: an iterable of the levels that are still to do. What is finished is in :attr:`records`.

    The loop body trains; the sweep does the rest. Before each level the model holds what the level starts from, masked. After
    ``level.record`` the level is in the folder, whole, and the next mask is made. A script that was killed anywhere goes on
    where it was when it is run again, and leaves the same files, byte for byte but for ``seconds``.

    Parameters
    ----------
    out
        The folder of this sweep, one for each seed.
    model
        Any module. The weights that it holds when the sweep begins are kept in the folder, and are what learning distance is
        measured from.
    pruner
        How a mask follows from the one before. A score that reads gradients finds those that are there at ``level.record``.
    levels
        How many, the dense level 0 included.
    names
        The prunable parameters; by default :func:`sparsedd.prunable` ``(model)``.
    retraining
        What the weights of a level start from: those at the rewind step, those of the level before, or new ones.
    rewind_step
        The step t of level 0 that rewinding returns to; where it is above 0, call ``level.reached(step)`` before each step.
    reinit
        ``reinit(model, seed)`` draws new weights, in place, for a retraining method that wants them.
    one_shot
        Prune the dense net to each level's nominal sparsity at once.
    tickets
        Another sweep, or its folder: take its masks, instead of pruning one's own nets.
    seed
        What tells the sweeps of one family apart.
    config
        JSON that says what else this sweep is: a folder that holds another one is refused, with a list of what differs.
    keep
        Whose weights stay on disk, ``"all"`` levels' or the ``"last"`` one's. Masks always do.

    Raises
    ------
    ValueError
        When the folder holds another sweep: another model, pruner, retraining, seed or config.

    Examples
    --------
    >>> import tempfile
    >>> from torch.nn.functional import mse_loss
    >>> x, y = torch.linspace(-1, 1, 64).reshape(8, 8), torch.zeros(8, 2)
    >>> with tempfile.TemporaryDirectory() as out:
    ...     model = nn.Linear(8, 2)
    ...     sweep = Sweep(out, model, Pruner(fraction=0.5), levels=3)
    ...     for level in sweep:
    ...         optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    ...         with level.enforce(optimizer):
    ...             for epoch in level.epochs(5, optimizer=optimizer):
    ...                 optimizer.zero_grad()
    ...                 mse_loss(model(x), y).backward()
    ...                 optimizer.step()
    ...         record = level.record(train_loss=mse_loss(model(x), y).item())
    ...     [(record.level, record.remaining) for record in sweep.records]
    [(0, 16), (1, 8), (2, 4)]
    """

    def __init__(
        self,
        out: str | os.PathLike[str],
        model: nn.Module,
        pruner: Pruner = Pruner(),
        *,
        levels: int,
        names: Iterable[str] | None = None,
        retraining: Retraining = LTR,
        rewind_step: int = 0,
        reinit: Callable[[nn.Module, int], object] | None = None,
        one_shot: bool = False,
        tickets: "Sweep | str | os.PathLike[str] | None" = None,
        seed: int = 0,
        config: Any = None,
        keep: Literal["all", "last"] = "all",
    ) -> None:
        self.path: Path = _checks.folder("out", out).absolute()  # the loop's body may go elsewhere
        self.model: nn.Module = _checks.kind("model", model, nn.Module, "a torch.nn.Module")
        self.pruner: Pruner = _checks.kind("pruner", pruner, Pruner, "a Pruner")
        self.levels: int = _checks.whole("levels", levels, least=1)
        self.retraining: Retraining = _checks.kind("retraining", retraining, Retraining, "a Retraining such as LTR")
        self.rewind_step: int = _checks.whole("rewind_step", rewind_step)
        self.seed: int = _checks.whole("seed", seed)
        self.config: Any = checked({} if config is None else config)
        self.one_shot: bool = _checks.kind("one_shot", one_shot, bool, "True or False")
        _checks.one_of("keep", keep, ("all", "last"))
        self.keep: Literal["all", "last"] = keep
        if reinit is not None:
            _checks.function("reinit", reinit, "reinit(model, seed)")
        if (reinit is None) == (retraining.weights == "reinit"):
            needs = "needs reinit=, which draws them" if reinit is None else "draws no new weights: leave reinit= out"
            raise ValueError(f"{retraining!r} {needs}.")
        _refuse(model)
        self._dense = Mask.dense(model, prunable(model) if names is None else names)
        check_present(dict(unwrap(model).named_parameters()))
        self._reinit = reinit
        self._holds: int | None = None  # the level whose net the model holds
        computed = any(find_computed(module) for module in model.modules())
        self._counted = list(self._dense) if computed else None  # of the learning distance
        self._tickets = _tickets_of(tickets)
        self._store = Store(self.path, beginning=self.rewind_step > 0)
        self._ranks = Ranks()
        of = None if self._tickets is None else read_config(self._tickets.path / "config.json")["key"]
        self._config = described(
            model,
            self._dense,
            self.pruner,
            retraining,
            rewind_step=self.rewind_step,
            one_shot=one_shot,
            tickets=of,
            seed=self.seed,
            config=self.config,
            levels=self.levels,
            keep=keep,
        )
        self._same()

    def __repr__(self) -> str:
        return f"Sweep({len(self._store.lines())} of {self.levels} levels in {self.path}, seed {self.seed}, {self.pruner!r})"

    @property
    def records(self) -> tuple[Record, ...]:
        """The finished levels, from 0 on."""
        return tuple(self._store.levels())

    def curves(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return sparsity, training and test accuracy of the finished levels, (levels,) each: what :mod:`.phases` takes.

        Raises
        ------
        ValueError
            When a level was recorded without ``train=`` and ``test=``.
        """
        records = self.records
        for record in records:
            for name in ("train_accuracy", "test_accuracy"):
                if record.measures.get(name) is None:
                    raise ValueError(
                        f"level {record.level} has no {name}: call level.record(train=..., test=...) with Evaluations."
                    )
        names = ("sparsity", "train_accuracy", "test_accuracy")
        sparsity, train, test = (np.array([record[name] for record in records], dtype=np.float64) for name in names)
        return sparsity, train, test

    def mask(self, level: int) -> Mask:
        """Return the mask of a finished level."""
        return self._store.mask(level)

    def weights(self, level: int) -> dict[str, Tensor]:
        """Return the parameters and buffers at the end of a finished level, tied ones under the first of their names."""
        lasting = self._config.get("keep") == "last" and not self._store.weights_path(level).exists()
        if lasting and level < len(self._store.lines()) - 1:
            raise ValueError(f"keep='last' has kept no weights of level {level}: there are those of the last level.")
        return self._store.weights(level)

    def derive(self, level: int, name: str, make: Callable[[nn.Module], Any]) -> Any:
        """Return what is made of the net of a finished level, in JSON: computed once, and kept beside the level.

        It is known by the digest of the level's files: a level that was trained anew is asked anew. ``make`` gets a copy of the
        model with the level's weights; what it returns must follow from them and from ``name``.

        Parameters
        ----------
        name
            What it is called in the folder: lower-case letters, digits and hyphens.
        """
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,60}", _checks.kind("name", name, str, "a string")):
            raise ValueError(f"name must be of lower-case letters, digits and hyphens, got {name!r}.")
        path = self.path / f"{_checks.whole('level', level):02d}.derived-{name}.safetensors"
        of, kept = [self._store.digest(level), name], []
        self._store.kept(path, "derived", of, lambda content: kept.append(content["value"]))
        if not kept:
            model = deepcopy(self.model)
            own = read_tensors(model)
            for key, tensor in fitting(self._store.weights_path(level), self.weights(level), self._state()).items():
                write_(key, own[key], tensor)
            kept.append(checked(make(model), name))
            self._store.keep(path, "derived", {}, {"of": of, "value": kept[0]})
        return kept[0]

    def export(self, level: int, path: str | os.PathLike[str]) -> None:
        """Write the net of a finished level as a plain checkpoint, which any program reads.

        It is a state dict with exact zeros: in a ``.safetensors`` file with tied weights once, in any other as ``torch.save``
        writes it, for ``torch.load(path, weights_only=True)``.
        """
        path, state = _checks.path("path", path), self.weights(_checks.whole("level", level))
        if path.absolute().parent == self.path and OF_LEVEL.fullmatch(path.name):
            raise ValueError(f"{path} is a file of the sweep itself: take another name.")
        if path.suffix == ".safetensors":
            _files.write(path, save(state, {"format": "pt"}))
            return
        data = io.BytesIO()
        torch.save({name: state[first] for name, first in find_first_names(self.model).items()}, data)
        _files.write(path, data.getvalue())

    def __iter__(self) -> Generator[Level, None, None]:
        """Yield each level that is not finished, the model ready for it. The folder is locked until the level is recorded.

        After the last one the model is the net of the last level, also where nothing was left to do.
        """
        while True:
            with self._turn() as level:
                if level is None:
                    self._hold_last()
                    return
                yield level
                if level.finished is None:
                    raise RuntimeError(
                        f"level {level.number} was not recorded: end the loop's body with level.record(train=..., test=...)."
                    )

    # ---------------------------------------------------------------- the next level

    @contextmanager
    def _turn(self) -> Iterator[Level | None]:
        """Begin the next level, if there is one left, with the folder locked until it is recorded, or the block ends."""
        with ExitStack() as held:
            number = self._ranks.first(lambda: self._next(held))
            yield None if number is None else self._begin(number, held.close)

    def _next(self, held: ExitStack) -> int | None:
        """Lock the folder and have it hold what the next level begins with; return its number."""
        if self._left() is None and not self._leftovers():
            return None  # so that a finished folder may be read-only
        held.enter_context(self._store.locked())
        _files.remove(self._leftovers())
        if (number := self._left()) is not None:
            self._settle(number)
        return number

    def _left(self) -> int | None:
        """Return the number of the next level, if there is one."""
        lines = self._store.lines()
        if len(lines) >= self.levels or (lines and self._store.written(len(lines) - 1)[0].diverged):
            return None
        return len(lines) if self._tickets is None or self._reach(len(lines)) else None

    def _leftovers(self) -> list[Path]:
        """List what levels that are finished have no use for any more."""
        done = len(self._store.lines())
        gone = [self._store.inside_path(number) for number in range(done)]
        if self.keep == "last":
            gone += [self._store.weights_path(number) for number in range(done - 1)]
        return [path for path in gone if path.exists()]

    def _settle(self, number: int) -> None:
        """Have the folder hold what a level begins with: configuration, beginning, mask."""
        store, path = self._store, self.path / "config.json"
        if not self._same():
            if not number and path.exists() and read_config(path)["key"] != self._config["key"]:
                _files.remove(store.stale())  # of another sweep, which finished no level
            _files.write(path, text_of(self._config).encode())
        if not number and not self._first.exists():
            self._save_beginning()
        made = store.mask_path(number).exists()
        if number and not (made and self._config.get("keep") == "last" and self.retraining.weights != "keep"):
            fitting(store.mask_path(number - 1), store.mask(number - 1), self._dense)
            store.check(store.weights_path(number - 1), number - 1)
        if not made:
            self._make_mask(number)

    def _same(self) -> bool:
        """Compare the folder's configuration; another sweep that has levels is refused."""
        path = self.path / "config.json"
        if not path.exists():
            if self._store.lines():
                raise ValueError(f"{self.path} has levels and no config.json: restore it, or take another folder.")
            return False
        before = read_config(path)
        if self._store.lines():
            refuse_another(self.path, before, self._config)
            if before["keep"] == "last":
                self._config["keep"] = "last"  # what is gone stays gone
        return before == self._config

    def _make_mask(self, number: int) -> None:
        """Make the mask of a level, where the level before has not."""
        if self._tickets is not None:
            mask = fitting(self._tickets.mask_path(number), self._tickets.mask(number), self._dense)
        elif not number:
            mask = self._dense
        else:
            source = 0 if self.one_shot else number - 1
            self._load(self._store.weights_path(source), self.weights(source))
            mask = self._pruned(number, self._store.mask(source))
        mask.save(self._store.mask_path(number))

    def _prepare_masks(self, number: int, mask: Mask) -> None:
        """Make the masks that follow from the model as it is at the end of a level, while gradients are at hand."""
        if self._tickets is not None or (self.one_shot and number):
            return
        for following in range(number + 1, self.levels if self.one_shot else min(number + 2, self.levels)):
            try:
                self._pruned(following, mask).save(self._store.mask_path(following))
            except ValueError:  # no weight is left, or none that can be ranked: the next level says so, and this one is kept
                return

    def _pruned(self, number: int, mask: Mask) -> Mask:
        """Prune the model, which is that of the level before, or of level 0 in one shot."""
        return self._prune(self.pruner, number, mask)

    def _prune(self, pruner: Pruner, number: int, mask: Mask) -> Mask:
        return pruner.prune_to(self.model, pruner.sparsity(number), mask) if self.one_shot else pruner.prune(self.model, mask)

    def _reach(self, number: int) -> bool:
        """Check that the sweep whose masks are taken has a level; False where it has ended before."""
        assert self._tickets is not None
        records = self._tickets.levels()
        if number >= len(records) and not (records and records[-1].diverged):
            raise RuntimeError(f"{self._tickets.path}, whose masks are taken, has no level {number} yet: run that sweep first.")
        return number < len(records)

    def _begin(self, number: int, release: Callable[[], None]) -> Level:
        """Give the model what a level starts from."""
        store, kept = self._store, self.retraining.weights
        mask = fitting(store.mask_path(number), Mask.load(store.mask_path(number)), self._dense)
        if number and kept == "keep":
            self._load(store.weights_path(number - 1), self.weights(number - 1))
        elif number and kept == "rewind":
            self._load(store.start_path, store.state(store.start_path))
        else:
            self._load(self._first, self._beginning())  # what reinit does not draw, such as statistics, is new as well
            if self._reinit is not None and (number or self._tickets is not None):
                self._draw_anew(number)
        mask.apply_(self.model)
        self.model.zero_grad()
        back = self.retraining.schedule == "rewind" and (number or self._tickets is not None)
        return Level(self, number, mask, self.rewind_step if back else 0, release)

    def _draw_anew(self, number: int) -> None:
        """Have the caller draw new weights, and see that they are new."""
        assert self._reinit is not None
        before = {name: tensor.clone() for name, tensor in self._state().items() if name in self._dense}
        made = self._reinit(self.model, level_seed(self.seed, number))
        if (isinstance(made, nn.Module) and made is not self.model) or all(
            torch.equal(before[name], tensor) for name, tensor in self._state().items() if name in before
        ):
            raise RuntimeError("reinit(model, seed) must draw new weights in place, and has changed none of the model's.")

    # ---------------------------------------------------------------- the model

    def _hold_last(self) -> None:
        """Give the model the weights of the last level, unless it has them."""
        last = len(self._store.lines()) - 1
        if last >= 0 and self._holds != last:
            self._load(self._store.weights_path(last), self.weights(last))
            self._holds = last

    def _distance(self) -> float | None:
        """Return the learning distance of the model as it is; None where a parameter is not finite."""
        if not all(bool(p.detach().isfinite().all()) for p in self.model.parameters()):
            return None
        return finite(metrics.learning_distance(self._beginning(), self.model, self._counted))

    def _state(self) -> dict[str, Tensor]:
        """Return the model's parameters and buffers, tied ones under the first of their names."""
        own = read_tensors(self.model)
        return {name: own[name] for name in dict.fromkeys(find_first_names(self.model).values())}

    def _load(self, path: Path, state: dict[str, Tensor]) -> None:
        own = self._state()
        for name, tensor in fitting(path, state, own).items():
            write_(name, own[name], tensor)

    @property
    def _first(self) -> Path:
        """Where the weights of the beginning are: at step 0, which may be the rewind step."""
        return self._store.beginning_path if self.rewind_step else self._store.start_path

    def _save_beginning(self) -> None:
        match_and_warn(self._dense, self.model)  # a warning where it has been pruned already
        self._store.save_state(self._first, self._state())

    def _beginning(self) -> dict[str, Tensor]:
        """Return the weights of the beginning."""
        return self._store.state(self._first)


def level_seed(seed: int, level: int) -> int:
    """Return the seed of the new weights of a level."""
    return int(_random.integers(("reinit", seed, level), 1, 2**31)[0])


def _tickets_of(tickets: Any) -> Store | None:
    """Return the folder whose masks are taken."""
    if tickets is None or isinstance(tickets, Sweep):
        return None if tickets is None else tickets._store
    path = _checks.path("tickets", tickets)
    if not (path / "config.json").exists():
        raise FileNotFoundError(f"tickets must be a Sweep or its folder, and there is no {path / 'config.json'}.")
    return Store(path)


def _refuse(model: nn.Module) -> None:
    """Raise for what a folder can't keep of a model."""
    for name, module in model.named_modules():
        if type(module).get_extra_state is not nn.Module.get_extra_state:
            raise TypeError(
                f"{name or 'the model'!r} keeps an extra state (get_extra_state of {type(module).__name__}), maybe no tensor, "
                "and a sweep keeps tensors alone: hold it in buffers."
            )
    for name, p in model.named_parameters():
        if is_lazy(p):
            raise RuntimeError(f"{name!r} has no shape yet: run a batch through its lazy module first.")
