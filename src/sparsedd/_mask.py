"""Mask: the weights that are kept."""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from math import prod
from typing import Self, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sparsedd import _checks, _files
from sparsedd._bits import Bits
from sparsedd._enforcement import Enforcement, clear_gradients_
from sparsedd._match import have_moved_anywhere, match
from sparsedd._optimizers import fill_
from sparsedd._parameters import abridge, check_present, check_undivided, strip_segments
from sparsedd._prunable import select_prunable
from sparsedd._shards import gather, is_sharded, local
from sparsedd._state import check_same

Model = TypeVar("Model", bound=nn.Module)
M = TypeVar("M", bound="Mask")


class Mask(Mapping[str, Tensor]):
    r"""The weights of a model that are kept: parameter name → bool tensor, True = kept (the paper's m ∈ {0, 1}^d).

    A mask is a value: it never changes, it compares by content, and its tensors are handed out as copies. Its names are
    the prunable set: sparsity 1 - Σm / d counts these parameters alone (He et al. 2022, section 2.2).

    Parameters
    ----------
    keep
        Parameter name → bool tensor of the parameter's shape. It is copied.

    Raises
    ------
    TypeError
        When a tensor is not bool.
    ValueError
        When there is no tensor at all.

    Examples
    --------
    >>> import torch
    >>> mask = Mask({"weight": torch.tensor([[True, False], [True, True]])})
    >>> mask
    Mask(3 of 4 weights, sparsity 25.00%)
    >>> model = mask.apply_(torch.nn.Linear(2, 2))
    >>> mask.holds(model)
    True
    """

    __slots__ = ("_bits", "_digest")
    _bits: dict[str, Bits]
    _digest: str | None

    def __init__(self, keep: Mapping[str, Tensor]) -> None:
        for name, tensor in check_undivided(_checks.kind("keep", keep, Mapping, "parameter names and bool tensors")).items():
            _checks.kind("a name", name, str, "a string")
            if not isinstance(tensor, Tensor) or tensor.dtype != torch.bool:
                got = str(tensor.dtype) if isinstance(tensor, Tensor) else type(tensor).__name__
                way = "tensor.bool() of zeros and ones" if isinstance(tensor, Tensor) else "torch.as_tensor(values).bool()"
                raise TypeError(f"{name!r} must be a bool tensor, True = kept, got {got}: use {way}, or weight != 0.")
            if tensor.is_meta or tensor.layout is not torch.strided:
                got = f"{tensor.layout} on {tensor.device}"
                raise ValueError(f"{name!r} must be a dense tensor that holds its bits, got {got}: use tensor.to_dense().")
        own = {strip_segments(name): Bits.pack(tensor.detach()) for name, tensor in keep.items()}
        if len(own) != len(keep):
            raise ValueError(f"some names differ only by '_orig_mod.': {abridge(keep)}.")
        self._take(own)

    @classmethod
    def _of(cls, bits: dict[str, Bits]) -> Self:
        """Return a mask of these very bits."""
        mask = cls.__new__(cls)
        mask._take(bits)
        return mask

    def _take(self, bits: dict[str, Bits]) -> None:
        if not bits:
            raise ValueError("a mask needs at least one parameter, got none.")
        self._bits, self._digest = bits, None

    # ---------------------------------------------------------------- making one

    @classmethod
    def dense(cls, model: nn.Module, names: Iterable[str] | None = None) -> Self:
        """Keep all weights of ``names``, or else of :func:`prunable` ``(model)``: the mask of level 0.

        >>> Mask.dense(torch.nn.Linear(3, 2))
        Mask(6 of 6 weights, sparsity 0.00%)
        """
        chosen = select_prunable(model, names).items()
        devices = {name: "cpu" if p.is_meta or is_sharded(p) else p.device for name, p in chosen}
        return cls._of({name: Bits.zeros(p.shape, devices[name]).invert() for name, p in chosen})

    @classmethod
    def nonzero(cls, model: nn.Module, names: Iterable[str] | None = None) -> Self:
        """Read the mask of a model that is sparse already, whose pruned weights are those that are exactly zero.

        >>> model = torch.nn.Linear(2, 1)
        >>> _ = torch.nn.init.constant_(model.weight, 0.5)
        >>> model.weight.data[0, 1] = 0.0
        >>> Mask.nonzero(model)["weight"]
        tensor([[ True, False]])

        Warns
        -----
        UserWarning
            When weights are zero throughout: pruned, or only initialised so, as the B of a LoRA is?
        """
        chosen = check_present(select_prunable(model, names))
        return warn_of_empty(cls._of({name: gather(Bits.pack(local(p.detach())), p) for name, p in chosen.items()}))

    # ---------------------------------------------------------------- reading it

    def __getitem__(self, name: str) -> Tensor:
        if name not in self:
            raise _checks.Missing(f"the mask has no parameter {name!r}. It has {abridge(self)}.")
        return self._bits[strip_segments(name)].unpack()

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and strip_segments(name) in self._bits

    def __iter__(self) -> Iterator[str]:
        return iter(self._bits)

    def __len__(self) -> int:
        return len(self._bits)

    @property
    def size(self) -> int:
        """Number of weights in the masked parameters, d."""
        return sum(bits.numel() for bits in self._bits.values())

    @property
    def remaining(self) -> int:
        """Number of kept weights, Σm."""
        return sum(bits.count() for bits in self._bits.values())

    @property
    def density(self) -> float:
        """Σm / d."""
        return self.remaining / self.size if self.size else 0.0

    @property
    def sparsity(self) -> float:
        """1 - Σm / d."""
        return (self.size - self.remaining) / self.size if self.size else 1.0  # rounded once: 20 of 100 is 0.2

    def by_layer(self) -> dict[str, float]:
        """Return the sparsity of each parameter.

        >>> Mask({"a": torch.tensor([True, False]), "b": torch.tensor([True])}).by_layer()
        {'a': 0.5, 'b': 0.0}
        """
        return {name: (b.numel() - b.count()) / b.numel() if b.numel() else 1.0 for name, b in self._bits.items()}

    def __repr__(self) -> str:
        return f"Mask({self.remaining:,} of {self.size:,} weights, sparsity {self.sparsity:.2%})"

    # ---------------------------------------------------------------- algebra on the kept weights

    def __and__(self, other: object) -> Self:
        """Keep what both keep."""
        return NotImplemented if not isinstance(other, Mask) else self._combine(other, torch.bitwise_and)

    def __or__(self, other: object) -> Self:
        """Keep what either keeps."""
        return NotImplemented if not isinstance(other, Mask) else self._combine(other, torch.bitwise_or)

    def __sub__(self, other: object) -> Self:
        """Keep what this mask keeps and the other one prunes."""
        return NotImplemented if not isinstance(other, Mask) else self._combine(other, lambda a, b: a & ~b)

    def __invert__(self) -> Self:
        """Keep what this mask prunes."""
        return self._of({name: bits.invert() for name, bits in self._bits.items()})

    def __le__(self, other: object) -> bool:
        """Check that the other mask keeps all that this one keeps."""
        if not isinstance(other, Mask):
            return NotImplemented
        return not any(bool((a.packed & ~b.packed).any()) for a, b in self._pair(other).values())

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Mask)
            and self._bits.keys() == other._bits.keys()
            and all(bits.equals(other._bits[name]) for name, bits in self._bits.items())
        )

    def __hash__(self) -> int:
        return hash(self.digest())

    def _combine(self, other: "Mask", op: Callable[[Tensor, Tensor], Tensor]) -> Self:
        return self._of({name: Bits(op(a.packed, b.packed), a.shape) for name, (a, b) in self._pair(other).items()})

    def _pair(self, other: "Mask") -> dict[str, tuple[Bits, Bits]]:
        check_same("the masks", self._bits, other._bits)
        return {name: (bits, other._bits[name].to(bits.packed.device)) for name, bits in self._bits.items()}

    # ---------------------------------------------------------------- using it

    @torch.no_grad()
    def apply_(self, model: Model) -> Model:
        """Set every pruned weight to exactly +0.0, and give the model back.

        >>> mask = Mask({"weight": torch.tensor([[True, False]])})
        >>> mask.apply_(torch.nn.Linear(2, 1)).weight[0, 1].item()
        0.0
        """
        for p, keep in match(self, model).values():
            fill_(local(p), keep, 0)
        return model

    @torch.no_grad()
    def apply_to_grads_(self, model: Model) -> Model:
        """Set the gradient of every pruned weight to zero, and give the model back.

        The forward pass of w ⊙ m gives pruned weights a gradient. :meth:`enforce` alone keeps the weights exact under every
        optimizer, and masks the gradients that others than torch's elementwise ones get; call this before what else looks at a
        whole gradient: clipping by norm, say.
        """
        clear_gradients_(self, model)
        return model

    @torch.no_grad()
    def holds(self, model: nn.Module) -> bool:
        """Check that every pruned weight of the model is exactly zero."""
        return not have_moved_anywhere(match(self, model))

    def enforce(self, model: nn.Module, *optimizers: Optimizer) -> Enforcement:
        """Hold pruned weights at zero, from now on and after every step of the optimizers, until the block ends.

        Kept weights follow, bit for bit, the trajectory of training f(w ⊙ m). Leaving the block makes sure that the mask
        held, and returns the weights to the optimizers: pruned ones go on from zero with the state that a fresh optimizer
        has, but for what it counts for a whole parameter, as Adam its steps. That is re-dense training (He et al. 2022, A.4).

        Raises
        ------
        TypeError
            When no optimizer is given.
        RuntimeError
            On leaving, when something else than these optimizers has moved pruned weights.

        Warns
        -----
        UserWarning
            When more than one and at least 5 % of the weights that the mask keeps are zero, as in a sparser model; when an
            optimizer holds a state of pruned weights that can't be made fresh.

        Examples
        --------
        >>> model = torch.nn.Linear(2, 1)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        >>> mask = Mask({"weight": torch.tensor([[True, False]])})
        >>> with mask.enforce(model, optimizer):
        ...     for _ in range(3):
        ...         optimizer.zero_grad()
        ...         model(torch.ones(1, 2)).sum().backward()
        ...         optimizer.step()
        >>> model.weight[0, 1].item()
        0.0
        """
        return Enforcement(self, model, optimizers)

    # ---------------------------------------------------------------- moving and keeping it

    def to(self, device: torch.device | str | int) -> Self:
        """Return the same mask on a device. Seldom needed: :meth:`apply_` and :meth:`enforce` go where the parameters are."""
        place = _checks.device("device", device)
        return self._of({name: bits.to(place) for name, bits in self._bits.items()})

    def digest(self) -> str:
        """Return the SHA-256 of names, shapes and bits: equal on every device, rank and machine.

        >>> Mask({"w": torch.tensor([True, False])}).digest()[:12]
        '582a99bb84ee'
        """
        if self._digest is None:
            sha = hashlib.sha256()
            for name in sorted(self._bits):
                bits = self._bits[name].to(torch.device("cpu"))
                sha.update(repr((name, tuple(bits.shape))).encode() + bits.packed.numpy().tobytes())
            self._digest = sha.hexdigest()
        return self._digest

    def state_dict(self) -> dict[str, Tensor]:
        """Return plain bool tensors by name: ``torch.save`` them anywhere, ``torch.load(weights_only=True)`` reads them."""
        return {name: bits.unpack() for name, bits in self._bits.items()}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor]) -> Self:
        """Read the mask of a :meth:`state_dict`."""
        return cls(state)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one .safetensors file, a bit for each weight, atomically."""
        _files.write(_checks.path("path", path), self._bytes())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a file of :meth:`save`; ValueError if one byte of it has changed."""
        tensors, shapes = _files.unseal(_checks.path("path", path), "mask")
        with _files.blame(path, "a mask"):
            keep = {strip_segments(name): _read(tensors[name], shape) for name, shape in shapes}
            if len(keep) != len(shapes) or keep.keys() != tensors.keys():
                raise ValueError("its names are not those of its tensors")
            return cls._of(keep)

    def _bytes(self) -> bytes:
        packed = {name: bits.packed.cpu() for name, bits in self._bits.items()}
        return _files.seal("mask", packed, [[name, list(bits.shape)] for name, bits in self._bits.items()])


def warn_of_empty(mask: M) -> M:
    """Warn of parameters that a mask made of zeros keeps nothing of, and give the mask back."""
    if empty := [name for name, keep in mask._bits.items() if keep.numel() and not keep.any()]:
        _checks.warn(
            f"zero throughout, and all pruned in this mask: {abridge(empty)}. Enforced, they stay zero for ever. What is only "
            "initialised so (a new head, the B of a LoRA) is to be left out: pass the others as names=."
        )
    return mask


def _read(packed: Tensor, shape: list[int]) -> Bits:
    count = prod(_checks.whole("a dimension", n) for n in shape)
    if packed.dtype != torch.uint8 or tuple(packed.shape) != ((count + 7) // 8,):
        raise ValueError(f"a tensor does not hold the bits of the shape {shape}")
    return Bits.trim(packed.clone(), shape)
