"""NoisyLabels: a dataset with some labels wrong."""

from collections.abc import Mapping, Sized
from operator import index as index_of
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, Dataset, IterableDataset, Subset, TensorDataset

from sparsedd import _checks, _random
from sparsedd.noise import INTEGERS, Noise, check_range


class NoisyLabels(Dataset[Any]):
    """A dataset with some labels wrong, the same ones each time; everything else of an item is passed on as it is.

    A label keeps its type, dtype and shape. Around a ``Subset``, noise is drawn for the subset: its rate is exact there, and
    the rest stays clean, to validate on. A ``Subset`` of noisy labels is a part of the noise that was drawn for all: an item
    has the same label in every part, and a part has about the rate.

    Parameters
    ----------
    dataset
        Any map-style dataset of classification. Its labels are found through ``Subset``, ``ConcatDataset``,
        ``TensorDataset`` and ``.targets``, else by one pass over the items that leaves the global generators as they were.
        Each item that is read later is compared with what was found.
    noise
        One of :mod:`sparsedd.noise`, or any callable ``(labels (n,), num_classes, seed) -> labels (n,)``.
    num_classes
        C; by default the length of the dataset's ``.classes``, else the largest label plus one. ``.classes`` are not those of
        labels that a ``target_transform`` makes.
    label
        Where an item keeps its label: an index, or the key of a dict item.
    seed
        Of the noise.

    Raises
    ------
    TypeError
        When the dataset can't be indexed or its labels are not integers.
    ValueError
        When labels are out of range, or the noise returns something else than labels.
    RuntimeError
        When an item is read whose label is not the one that was found.

    Examples
    --------
    >>> from sparsedd import noise
    >>> dataset = TensorDataset(torch.randn(100, 3), torch.arange(100) % 10)
    >>> noisy = NoisyLabels(dataset, noise.Symmetric(0.2, draw="other"), seed=0)
    >>> noisy
    NoisyLabels(20 of 100 labels wrong, 10 classes, Symmetric(rate=0.2, draw='other'), seed 0)
    >>> int((noisy.targets != noisy.clean).sum()), noisy.rate
    (20, 0.2)
    """

    dataset: Dataset[Any]
    noise: Noise
    num_classes: int
    label: int | str
    seed: int

    def __init__(
        self, dataset: Dataset[Any], noise: Noise, *, num_classes: int | None = None, label: int | str = 1, seed: int = 0
    ) -> None:
        if isinstance(dataset, IterableDataset) or not isinstance(dataset, Sized) or not hasattr(dataset, "__getitem__"):
            raise TypeError(f"dataset must have a length and be indexable, got {type(dataset).__name__}.")
        if isinstance(label, bool) or not isinstance(label, int | str):
            raise TypeError(f"label must be an index or the key of a dict item, got {label!r}.")
        _checks.function("noise", noise, "such as sparsedd.noise.Symmetric(0.2)")
        clean = _read_labels(dataset, label)
        if num_classes is None:
            num_classes = _count_classes(dataset, label) or (int(clean.max()) + 1 if len(clean) else 1)
        _checks.whole("num_classes", num_classes, least=1)
        _checks.whole("seed", seed)
        check_range("the dataset's labels", clean, num_classes)
        targets = noise(clean.clone(), num_classes, seed)
        if not isinstance(targets, Tensor) or targets.shape != clean.shape or targets.dtype not in INTEGERS:
            got = f"{targets.dtype} of {tuple(targets.shape)}" if isinstance(targets, Tensor) else type(targets).__name__
            raise ValueError(f"noise must return integer labels of shape {tuple(clean.shape)}, got {got}.")
        check_range("the labels that the noise returns", targets, num_classes)
        self.dataset, self.noise, self.label, self.seed, self.num_classes = dataset, noise, label, seed, num_classes
        self._clean, self._targets = clean, targets.detach().to("cpu", torch.int64).clone()

    @property
    def targets(self) -> Tensor:
        """Labels as trained on, (n,) int64."""
        return self._targets.clone()

    @property
    def clean(self) -> Tensor:
        """Original labels, (n,) int64."""
        return self._clean.clone()

    @property
    def flipped(self) -> Tensor:
        """Places where targets and clean differ, (n,) bool."""
        return self._targets != self._clean

    @property
    def rate(self) -> float:
        """Realised rate, ``flipped.mean()``."""
        return int(self.flipped.sum()) / max(len(self), 1)

    def __len__(self) -> int:
        return len(self._targets)

    def __getitem__(self, index: int) -> Any:
        try:
            index = index_of(index)
        except TypeError:
            raise TypeError(f"index must be an integer, got {index!r}: torch.utils.data.Subset takes a part.") from None
        item = self.dataset[index]
        label, clean = _get_label(item, self.label), self._clean[index].item()
        found = _to_array(label)
        if found.size != 1 or found.dtype.kind not in "iu" or found.item() != clean:
            raise RuntimeError(
                f"item {index} of the dataset has the label {found.tolist()!s:.60}, but was taken to have {clean}. It must be "
                "the same each time; where the dataset's .targets says otherwise than its items, set dataset.targets = None."
            )
        target = self._targets[index].item()
        if target > np.iinfo(found.dtype).max:
            raise ValueError(f"item {index} keeps its label as {found.dtype}, which has no room for {target}: use torch.int64.")
        target = _convert_like(label, int(target))
        if isinstance(item, Mapping):
            return {**item, self.label: target}
        parts = list(item)
        parts[self.label] = target  # type: ignore[index]
        return _rebuild(item, parts)

    def __repr__(self) -> str:
        wrong = int(self.flipped.sum())
        return (
            f"NoisyLabels({wrong:,} of {len(self):,} labels wrong, {self.num_classes} classes, {self.noise}, seed {self.seed})"
        )


def _read_labels(dataset: Any, label: int | str) -> Tensor:
    """Return the labels of a dataset, (n,) int64."""
    with _random.untouched():
        if (known := _find_labels(dataset, label)) is not None:
            return known
        return _to_integers([_get_label(dataset[i], label) for i in range(len(dataset))])


def _find_labels(dataset: Any, label: int | str) -> Tensor | None:
    """Return the labels if they can be had without reading the items, else None."""
    if isinstance(dataset, Subset):
        if (labels := _find_labels(dataset.dataset, label)) is None:
            return None
        indices, n = torch.as_tensor(dataset.indices, dtype=torch.int64, device="cpu"), len(labels)
        if len(indices) and not (int(indices.min()) >= -n and int(indices.max()) < n):
            raise ValueError(f"a Subset's indices must be below {n}, got {int(indices.min())} ... {int(indices.max())}.")
        return labels[indices]
    if isinstance(dataset, ConcatDataset):
        parts = [_find_labels(part, label) for part in dataset.datasets]
        return None if any(part is None for part in parts) else torch.cat([part for part in parts if part is not None])
    if isinstance(dataset, TensorDataset) and isinstance(label, int):
        if not -len(dataset.tensors) <= label < len(dataset.tensors):
            raise ValueError(f"label={label}, but the dataset has {len(dataset.tensors)} tensors.")
        return _to_integers(dataset.tensors[label])
    if isinstance(dataset, NoisyLabels) and dataset.label != label:
        return None  # its targets are other labels
    targets, transform = getattr(dataset, "targets", None), getattr(dataset, "target_transform", None)
    if isinstance(targets, Mapping):
        return None
    try:
        labels = _to_integers(targets if transform is None else [transform(t) for t in targets])  # type: ignore[union-attr]
    except Exception:  # there are none, or the items' labels are made of them in another way
        return None
    return labels if len(labels) == len(dataset) else None


def _get_label(item: Any, label: int | str) -> Any:
    try:
        return item[label]
    except (KeyError, IndexError, TypeError) as error:
        has = f"the keys {list(item)}" if isinstance(item, Mapping) else f"an item of type {type(item).__name__}"
        raise ValueError(f"label={label!r} is not where the dataset keeps its labels: it has {has}.") from error


def _to_array(label: Any) -> Any:
    return label.detach().cpu().numpy() if isinstance(label, Tensor) else np.asarray(label)


def _to_integers(labels: Any) -> Tensor:
    if isinstance(labels, Tensor):
        array = _to_array(labels)
    else:
        values = [_to_array(v) for v in labels]
        odd = [v for v in values if v.shape != values[0].shape]
        if odd:
            raise TypeError(f"labels must be one integer a sample, got {values[0].tolist()} and {odd[0].tolist()}.")
        array = np.asarray(values)
    if not len(array):
        return torch.zeros(0, dtype=torch.int64, device="cpu")
    array = array.reshape(len(array), -1)
    if array.shape[1] != 1 or array.dtype.kind not in "iu":
        raise TypeError(f"labels must be one integer a sample, got {array.dtype} values of shape {array.shape[1:]}.")
    return torch.from_numpy(array[:, 0].astype(np.int64))


def _count_classes(dataset: Any, label: int | str) -> int | None:
    if isinstance(dataset, Subset):
        return _count_classes(dataset.dataset, label)
    if isinstance(dataset, ConcatDataset):
        return max((_count_classes(part, label) or 0 for part in dataset.datasets), default=0) or None
    if isinstance(dataset, NoisyLabels):
        return dataset.num_classes if dataset.label == label else _count_classes(dataset.dataset, label)
    classes = getattr(dataset, "classes", None)
    if not isinstance(classes, list | tuple):
        return None
    if getattr(dataset, "target_transform", None) is not None:  # they name the labels before it
        labels = _read_labels(dataset, label)
        return int(labels.max()) + 1 if len(labels) else None
    return len(classes)


def _convert_like(original: Any, target: int) -> Any:
    """Return a label in the type, dtype and shape that the item's own label has."""
    if isinstance(original, Tensor):
        return torch.full_like(original, target)
    if isinstance(original, np.ndarray):
        return np.full_like(original, target)
    if isinstance(original, list | tuple):
        return _rebuild(original, [_convert_like(part, target) for part in original])
    return type(original)(target)


def _rebuild(original: Any, parts: list[Any]) -> Any:
    """Put parts into a list, tuple or named tuple like the original."""
    if hasattr(original, "_fields"):
        return type(original)(*parts)
    return parts if isinstance(original, list) else tuple(parts)
