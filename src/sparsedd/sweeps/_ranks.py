"""Ranks: one process decides and writes, all others hear of it, where torch.distributed has many."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from torch import distributed as dist

PATIENCE = timedelta(days=7)  # a rank may wait for a folder that another run is at


class Ranks:
    """The processes of one sweep, of which the first acts where one is enough.

    Words go through the store where the ranks of a process group meet, and not through a collective: nothing on a device waits.
    """

    def __init__(self, *, alone: bool = False) -> None:
        together = not alone and dist.is_available() and dist.is_initialized()
        self.rank, self.count = (dist.get_rank(), dist.get_world_size()) if together else (0, 1)
        self._said = 0
        if together:
            self._store = dist.distributed_c10d._get_default_store()
            self._key = f"sparsedd/sweep/{self._store.add(f'sparsedd/sweeps/{self.rank}', 1)}"

    def first(self, act: Callable[[], Any]) -> Any:
        """Return on every rank what an act gives on the first one, in JSON; an error there is one everywhere.

        All must call it. The first one acts when the others have come, and so have read what the act may change.
        """
        if self.count == 1:
            return act()
        self._said += 1
        key = f"{self._key}/{self._said}"
        self._store.set(f"{key}/{self.rank}", "")
        if self.rank == 0:
            self._store.wait([f"{key}/{rank}" for rank in range(self.count)], PATIENCE)
            try:
                word = act()
            except BaseException as error:
                self._store.set(key, json.dumps({"error": f"{type(error).__name__}: {error}"}))
                raise
            self._store.set(key, json.dumps({"word": word}))
            return word
        self._store.wait([key], PATIENCE)
        heard = json.loads(self._store.get(key))
        if "error" in heard:
            raise RuntimeError(f"rank 0, which writes the sweep, has failed: {heard['error']}")
        return heard["word"]
