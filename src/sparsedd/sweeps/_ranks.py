"""Ranks: one process decides and writes, all others hear of it, where torch.distributed has many."""

import json
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any, TypeVar

from torch import distributed as dist

Value = TypeVar("Value")
PATIENCE = timedelta(days=7)  # a rank may wait for a folder that another run is at


class Ranks:
    """The processes of one sweep, of which the first acts where one is enough.

    Words go through the store where the ranks of a process group meet, and not through a collective: nothing on a device waits.
    The first one can't do alone what reads a model that is sharded over all of them: that is done :meth:`together`.

    Attributes
    ----------
    shared
        Whether the model is sharded.
    acts
        What may be done together, by name.
    """

    def __init__(self, *, alone: bool = False, shared: bool = False) -> None:
        together = not alone and dist.is_available() and dist.is_initialized()
        self.rank, self.count = (dist.get_rank(), dist.get_world_size()) if together else (0, 1)
        self.shared: bool = shared and self.count > 1
        self.acts: dict[str, Callable[..., object]] = {}
        self._calls = self._said = 0
        if together:
            self._store = dist.distributed_c10d._get_default_store()
            self._key = f"sparsedd/sweep/{self._store.add(f'sparsedd/sweeps/{self.rank}', 1)}"

    def first(self, act: Callable[[], Any]) -> Any:
        """Return on every rank what an act gives on the first one, in JSON; an error there is one everywhere.

        All must call it. The first one acts when the others have come, and so have read what the act may change. It goes on
        when they have heard it: where it holds the store, its end is that of the store.
        """
        if self.count == 1:
            return act()
        self._calls += 1
        self._meet("come")
        if self.rank == 0:
            try:
                word = act()
            except BaseException as error:
                self._say(error=f"{type(error).__name__}: {error}")
                raise  # at once: what has interrupted an act that is done together leaves the others in it
            self._say(word=word)
            self._meet("heard")
            return word
        while "do" in (heard := self._hear()):
            with suppress(ValueError):  # the first one has the same, and knows what it means
                self.acts[heard["do"]](*heard["with"])
        if "error" in heard:
            raise RuntimeError(f"rank 0, which writes the sweep, has failed: {heard['error']}")
        self._meet("heard")
        return heard["word"]

    def together(self, act: Callable[..., Value], *arguments: Any) -> Value:
        """Do, inside an act of the first rank, one of :attr:`acts` on all ranks if the model is shared; return the first's."""
        if self.shared:
            self._say(**{"do": act.__name__, "with": arguments})
        return act(*arguments)

    def _meet(self, word: str) -> None:
        """Tell the first rank that this one is here, and have the first one wait for all."""
        key = f"{self._key}/{self._calls}/{word}"
        self._store.set(f"{key}/{self.rank}", "")
        if self.rank == 0:
            self._store.wait([f"{key}/{rank}" for rank in range(self.count)], PATIENCE)

    def _say(self, **words: Any) -> None:
        self._said += 1
        self._store.set(f"{self._key}/said/{self._said}", json.dumps(words))

    def _hear(self) -> Any:
        self._said += 1
        self._store.wait([key := f"{self._key}/said/{self._said}"], PATIENCE)
        return json.loads(self._store.get(key))
