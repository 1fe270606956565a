"""Ambient: what the caller has set for torch, kept away from results."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch


@contextmanager
def undisturbed() -> Iterator[None]:
    """Keep autocast, gradient mode and default device, as the caller has set them, from changing a number inside the block."""
    # no cache: the end of the outermost autocast empties it, and if that is the caller's, the weights in it grow old
    with (
        torch.autocast("cpu", enabled=False, cache_enabled=False),
        torch.autocast("cuda", enabled=False, cache_enabled=False),
        torch.inference_mode(False),  # with gradients
        nullcontext() if torch.get_default_device().type == "cpu" else torch.device("cpu"),  # it makes each call slower
    ):
        yield
