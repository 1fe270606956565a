"""Sweep: train, prune, rewind, retrain, again and again, in a loop that stays the user's."""

import os
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

from torch import nn

from sparsedd import _checks, _files
from sparsedd._mask import Mask
from sparsedd._parameters import parameters
from sparsedd._prunable import prunable
from sparsedd._pruner import Pruner
from sparsedd._shards import is_sharded
from sparsedd.sweeps import _derived
from sparsedd.sweeps._config import copy_json, describe_sweep, format_config, is_written, open_tickets, read_config
from sparsedd.sweeps._level import Level
from sparsedd.sweeps._masks import Masks
from sparsedd.sweeps._net import Net, check_model, check_reinit, level_seed
from sparsedd.sweeps._ranks import Ranks
from sparsedd.sweeps._retraining import LTR, Retraining
from sparsedd.sweeps._store import Store, check_fit
from sparsedd.sweeps._stored import StoredSweep


class Sweep(StoredSweep):
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
        How many, the dense level 0 included. Where more are there already, all of them stay.
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
        Another sweep of at least as many levels, or its folder: take its masks, instead of pruning one's own nets; ``pruner``
        has no effect then. Where the model is a newly initialised one, these are re-initialised tickets.
    seed
        What tells the sweeps of one family apart.
    config
        JSON that says what else this sweep is: a folder that holds another one is refused, with a list of what differs.
    keep
        Whose weights stay on disk, ``"all"`` levels' or the ``"last"`` one's. Masks always do. A folder in which all
        have stayed refuses ``"last"``, and one in which those of the last alone have stays as it is.

    Raises
    ------
    ValueError
        When the folder holds another sweep: another model, pruner, retraining, seed or config. When sweeps are in folders of
        it. When ``tickets`` is a sweep that has ended with fewer levels.

    Examples
    --------
    >>> import tempfile
    >>> import torch
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
        tickets: StoredSweep | str | os.PathLike[str] | None = None,
        seed: int = 0,
        config: Any = None,
        keep: Literal["all", "last"] = "all",
    ) -> None:
        path = _checks.folder("out", out).absolute()  # the loop's body may go elsewhere
        self.model: nn.Module = _checks.kind("model", model, nn.Module, "a torch.nn.Module")
        self.pruner: Pruner = _checks.kind("pruner", pruner, Pruner, "a Pruner")
        self.retraining: Retraining = _checks.kind("retraining", retraining, Retraining, "a Retraining such as LTR")
        self.rewind_step: int = _checks.whole("rewind_step", rewind_step)
        self.one_shot: bool = _checks.kind("one_shot", one_shot, bool, "True or False")
        _checks.one_of("keep", keep, ("all", "last"))
        self.keep: Literal["all", "last"] = keep
        check_reinit(reinit, retraining)
        check_model(model)
        self._reinit = reinit
        self._dense = Mask.dense(model, prunable(model) if names is None else names)
        levels = _checks.whole("levels", levels, least=1)
        place, planned = (tickets.path, tickets.levels) if isinstance(tickets, StoredSweep) else (tickets, 0)
        tickets_store, tickets_key = (None, None) if place is None else open_tickets(place, self._dense, levels, planned)
        self._ranks = Ranks(shared=any(map(is_sharded, parameters(model).values())))
        description = describe_sweep(
            model,
            self._dense,
            self.pruner,
            retraining,
            rewind_step=self.rewind_step,
            one_shot=one_shot,
            tickets=tickets_key,
            seed=_checks.whole("seed", seed),
            config=copy_json({} if config is None else config),
            levels=levels,
            keep=keep,
        )
        store = Store(path, beginning=self.rewind_step > 0, last=keep == "last")
        self._hold(store, description)
        self._net = Net(model, store, self._dense, store.beginning_path if self.rewind_step else store.start_path)
        self._masks = Masks(self._net, self._dense, store, pruner, levels=self.levels, one_shot=one_shot, tickets=tickets_store)
        net, masks = self._net, self._masks
        net.ranks = self._ranks
        acts = (net.warn_of_zeros, net.whole_state, net.distance, masks.prune_held, masks.prune_stored)
        self._ranks.acts = {act.__name__: act for act in acts}
        self._same()

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}, {self.pruner!r})"

    def derive(self, level: int, name: str, make: Callable[[nn.Module], Any]) -> Any:
        """Return what is made of the net of a finished level, in JSON: computed once, and kept beside the level.

        It is known by the digest of the level's files: a level that was trained anew is asked anew. ``make`` gets a copy of the
        model with the level's weights; what it returns must follow from them and from ``name``.

        Parameters
        ----------
        name
            What it is called in the folder: lower-case letters, digits and hyphens.
        """
        return _derived.derive(self._store, self.model, level, name, make)

    def export(self, level: int, path: str | os.PathLike[str]) -> None:
        """Write the net of a finished level as a plain checkpoint, which any program reads.

        It is a state dict with exact zeros: in a ``.safetensors`` file with tied weights once, in any other as ``torch.save``
        writes it, for ``torch.load(path, weights_only=True)``.
        """
        _derived.export(_checks.path("path", path), self.weights(_checks.whole("level", level)), self.model, self.path)

    def __iter__(self) -> Generator[Level, None, None]:
        """Yield each level that is not finished, the model ready for it. The folder is locked until the level is recorded.

        After the last one the model is the net of the last level, also where nothing was left to do.
        """
        while True:
            with self._turn() as level:
                if level is None:
                    self._net.load_last()
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
        return len(lines) if self._masks.reach(len(lines)) else None

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
            _files.write(path, format_config(self._config).encode())
        if not number and not self._net.first.exists():
            self._net.save_beginning()
        made = store.mask_path(number).exists()
        if number and not (made and store.last and self.retraining.weights != "keep"):
            check_fit(store.mask_path(number - 1), store.mask(number - 1), self._dense)
            store.check(store.weights_path(number - 1), number - 1)
        if not made:
            self._masks.make(number)

    def _same(self) -> bool:
        """Return whether the folder says that it is this sweep's; another one that has levels is refused."""
        return is_written(self._store, self._config)

    def _begin(self, number: int, release: Callable[[], None]) -> Level:
        """Give the model what a level starts from."""
        store, kept = self._store, self.retraining.weights
        mask = check_fit(store.mask_path(number), Mask.load(store.mask_path(number)), self._dense)
        if number and kept == "keep":
            self._net.load(store.weights_path(number - 1), self.weights(number - 1))
        elif number and kept == "rewind":
            self._net.load(store.start_path, store.state(store.start_path))
        else:
            self._net.load(self._net.first, self._net.beginning())  # with what reinit does not draw, such as statistics
            if self._reinit is not None and (number or self._masks.tickets is not None):
                self._net.draw_anew(self._reinit, level_seed(self.seed, number))
        mask.apply_(self.model)
        self.model.zero_grad()
        back = self.retraining.schedule == "rewind" and (number or self._masks.tickets is not None)
        return Level(self, number, mask, self.rewind_step if back else 0, release)
