"""Training on many processes: the one thing to make sure of is that all of them have the same mask."""

from contextlib import suppress
from datetime import timedelta

from torch import distributed as dist

from sparsedd import _checks
from sparsedd._mask import Mask

__all__ = ["agree"]

_LEFT = "left"  # instead of a digest: this rank has given up


def agree(mask: Mask, timeout: float = 30.0) -> None:
    """Raise on every rank unless the masks of all ranks are equal: call it after each prune under DDP.

    Ranks that prune equal weights by equal scores get equal masks without talking. What breaks that is a score of the rank's
    own data, such as a gradient that was not averaged. Only :meth:`.Mask.digest` is exchanged, through the store where the
    ranks of a process group meet, so that nothing is left hanging when a rank does not come. Without a process group there is
    one rank, which agrees.

    Parameters
    ----------
    mask
        This rank's.
    timeout
        Seconds to wait for the other ranks.

    Raises
    ------
    RuntimeError
        On every rank, when two masks differ, or when a rank does not take part in time: on that one as soon as it does.

    Examples
    --------
    >>> import torch
    >>> agree(Mask({"w": torch.tensor([True, False])}))
    """
    _checks.kind("mask", mask, Mask, "a Mask")
    limit = timedelta(seconds=_checks.number("timeout", timeout, above=0))
    if not (dist.is_available() and dist.is_initialized()):
        return
    store, rank = dist.distributed_c10d._get_default_store(), dist.get_rank()
    keys: list[str] = []
    try:
        call = f"sparsedd/agree/{store.add(f'sparsedd/agree/{rank}', 1)}"
        keys = [f"{call}/{other}" for other in range(dist.get_world_size())]
        store.set(keys[rank], mask.digest())
        store.wait(keys, limit)
        digests = [store.get(key).decode() for key in keys]
    except RuntimeError as error:  # late, or dead and the store with it
        missing = []
        with suppress(RuntimeError):
            missing = [f"rank {other}" for other, key in enumerate(keys) if not store.check([key])]
            if keys:
                store.set(keys[rank], _LEFT)
        who = ", ".join(missing) or "the rank that holds the store"
        raise RuntimeError(f"not every rank called agree within {timeout:g} s: there is no word from {who}.") from error
    with suppress(RuntimeError):
        if store.add(f"{call}/done", 1) == len(keys):
            store.set(f"{call}/all", "")
        elif rank == 0:  # often holds the store: it must not end before the others have read
            store.wait([f"{call}/all"], limit)
    if _LEFT in digests:
        raise RuntimeError(f"not every rank called agree in time: rank {digests.index(_LEFT)} has given up waiting.")
    if len(set(digests)) > 1:
        listed = ", ".join(f"rank {other} has {digest[:12]}" for other, digest in enumerate(digests))
        raise RuntimeError(
            f"the ranks have different masks: {listed}. Prune by a score that is equal on all of them (average the gradients "
            "first), or send the mask of one rank to the others: torch.distributed.broadcast_object_list([mask.to('cpu')])."
        )
