"""Ambient: what the caller has set for torch, kept away from results."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext

import torch

KINDS = ("cpu", "cuda", "mps", "xpu")  # of devices


def exact_on(device: torch.device) -> torch.device:
    """Return where to compute in float64 what lies on a device: there, or on the CPU where a device has no float64."""
    narrow = device.type == "mps" or (device.type == "xpu" and not torch.xpu.get_device_properties(device).has_fp64)
    return torch.device("cpu") if narrow else device


@contextmanager
def undisturbed() -> Iterator[None]:
    """Keep autocast, gradient mode and default device, as the caller has set them, from changing a number inside the block."""
    with (
        ExitStack() as casts,
        torch.inference_mode(False),  # with gradients
        nullcontext() if torch.get_default_device().type == "cpu" else torch.device("cpu"),  # it makes each call slower
    ):
        for kind in KINDS:
            if kind == "cpu" or torch.is_autocast_enabled(kind):
                # no cache: the end of the outermost autocast empties it; if that is the caller's, the weights in it grow old
                casts.enter_context(torch.autocast(kind, enabled=False, cache_enabled=False))
        yield
