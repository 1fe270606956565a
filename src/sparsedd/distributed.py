"""Training on many processes: the one thing to make sure of is that all of them have the same mask."""

from datetime import timedelta

import torch
from torch import distributed as dist

from sparsedd._mask import Mask

__all__ = ["agree"]


def agree(mask: Mask, timeout: float = 30.0) -> None:
    """Raise on every rank unless the masks of all ranks are equal: call it after each prune under DDP.

    Ranks that prune equal weights by equal scores get equal masks without talking. What breaks that is a score of the rank's
    own data, such as a gradient that was not averaged. Only the 32 bytes of :meth:`.Mask.digest` are exchanged. Without a
    process group there is one rank, which agrees.

    Parameters
    ----------
    mask
        This rank's.
    timeout
        Seconds to wait for the other ranks.

    Raises
    ------
    RuntimeError
        On every rank, when two masks differ, or when a rank does not take part in time.

    Examples
    --------
    >>> agree(Mask({"w": torch.tensor([True, False])}))
    """
    if not isinstance(mask, Mask):
        raise TypeError(f"mask must be a Mask, got {type(mask).__name__}.")
    if not (dist.is_available() and dist.is_initialized()):
        return
    device = torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else torch.device("cpu")
    own = torch.tensor(list(bytes.fromhex(mask.digest())), dtype=torch.uint8, device=device)
    every = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    work = dist.all_gather(every, own, async_op=True)
    try:
        work.wait(timedelta(seconds=timeout))
    except RuntimeError as error:
        raise RuntimeError(f"not every rank called agree within {timeout:g} s: {error}") from error
    digests = [bytes(digest.tolist()).hex() for digest in every]
    if len(set(digests)) > 1:
        listed = ", ".join(f"rank {rank} has {digest[:12]}" for rank, digest in enumerate(digests))
        raise RuntimeError(
            f"the ranks have different masks: {listed}. Prune by a score that is equal on all of them "
            "(average the gradients first), or send the mask of one rank to the others."
        )
