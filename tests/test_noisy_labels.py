import pickle
from collections import namedtuple
from enum import IntEnum
from typing import Any

import numpy as np
import pytest
import torch
from helpers import no_global_draws
from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from sparsedd import NoisyLabels, noise

N, CLASSES = 120, 10
LABELS = torch.randint(CLASSES, (N,), generator=torch.Generator().manual_seed(0))
X = torch.arange(N, dtype=torch.float32).reshape(N, 1)
OTHER = noise.Symmetric(0.25, "other")  # exactly 30 labels are wrong


class Items(Dataset):
    """Items made by a function of the index, drawing from every global generator on the way, as augmentation does."""

    def __init__(self, make: Any, n: int = N, **attributes: Any) -> None:
        self.make, self.n = make, n
        vars(self).update(attributes)

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < self.n:
            raise IndexError
        torch.rand(1)
        np.random.rand()
        return self.make(index)


class Folder(Items):
    """As torchvision's: targets, classes, and a target_transform; it says so if it is read just to find the labels."""

    def __getitem__(self, index):
        raise AssertionError("an item was read")


Pair = namedtuple("Pair", ["image", "label"])
One = namedtuple("One", ["label"])
Digit = IntEnum("Digit", [f"D{c}" for c in range(CLASSES)], start=0)
reverse = CLASSES - 1 - LABELS
half = N // 2

DATASETS: dict[str, tuple[Any, int | str]] = {
    "TensorDataset": (TensorDataset(X, LABELS), 1),
    "TensorDataset last": (TensorDataset(X, LABELS), -1),
    "TensorDataset first": (TensorDataset(LABELS.to(torch.int32), X), 0),
    "TensorDataset third": (TensorDataset(X, X, LABELS.to(torch.uint8)), 2),
    "Subset": (Subset(TensorDataset(X.flip(0), LABELS.flip(0)), list(range(N - 1, -1, -1))), 1),
    "Subset of an array": (Subset(TensorDataset(X, LABELS), np.arange(N)), 1),
    "Subset of Subset": (Subset(Subset(TensorDataset(X, LABELS), range(N)), torch.arange(N)), 1),
    "Concat": (
        ConcatDataset([TensorDataset(X[:half], LABELS[:half]), Items(lambda i: (X[half + i], LABELS[half + i]), half)]),
        1,
    ),
    "tuples of ints": (Items(lambda i: (X[i], int(LABELS[i]))), 1),
    "tuples of arrays": (Items(lambda i: (X[i], LABELS.numpy()[i])), 1),
    "lists": (Items(lambda i: [X[i], "meta", LABELS[i]]), 2),
    "namedtuples": (Items(lambda i: Pair(X[i], int(LABELS[i]))), 1),
    "dicts": (Items(lambda i: {"x": X[i], "y": int(LABELS[i]), "id": i}), "y"),
    "dicts of one-element tensors": (Items(lambda i: {"x": X[i], "y": LABELS[i : i + 1]}), "y"),
    "arrays of one element": (Items(lambda i: (X[i], LABELS[i : i + 1].numpy().astype(np.uint8))), 1),
    "arrays of no dimensions": (Items(lambda i: (X[i], np.asarray(LABELS.numpy()[i], dtype=np.int16))), 1),
    "arrays of (1, 1)": (Items(lambda i: (X[i], np.array([[int(LABELS[i])]]))), 1),
    "lists of one element": (Items(lambda i: (X[i], [int(LABELS[i])])), 1),
    "tuples of one element": (Items(lambda i: (X[i], (LABELS.numpy()[i],))), 1),
    "named tuples of one element": (Items(lambda i: (X[i], One(int(LABELS[i])))), 1),
    "enumerated": (Items(lambda i: (X[i], Digit(int(LABELS[i])))), 1),
    "targets list": (Folder(None, targets=LABELS.tolist()), 1),
    "targets tensor": (Folder(None, targets=LABELS), 1),
    "targets array": (Folder(None, targets=LABELS.numpy()), 1),
    "targets transformed": (Folder(None, targets=reverse.tolist(), target_transform=lambda t: 9 - t), 1),
    "targets of another length": (Items(lambda i: (X[i], int(LABELS[i])), targets=[0, 1]), 1),
    "targets of several columns": (Items(lambda i: (X[i], int(LABELS[i])), targets=LABELS[:, None].expand(N, 8)), 1),
    "targets that are floats": (Items(lambda i: (X[i], int(LABELS[i])), targets=LABELS.float()), 1),
    "targets that are names": (Items(lambda i: (X[i], int(LABELS[i])), targets=["digit"] * N), 1),
    "targets by number": (Items(lambda i: (X[i], int(LABELS[i])), targets=dict(enumerate(reverse.tolist()))), 1),
    "targets of no dimension": (Items(lambda i: (X[i], int(LABELS[i])), targets=torch.tensor(3)), 1),
    "targets transformed otherwise": (
        Items(lambda i: (X[i], int(LABELS[i])), targets=LABELS[:, None].expand(N, 8), target_transform=lambda t: int(t) + 0),
        1,
    ),
    "Subset of targets": (Subset(Folder(None, targets=LABELS.flip(0).tolist()), list(range(N - 1, -1, -1))), 1),
}
every_dataset = pytest.mark.parametrize(("dataset", "label"), DATASETS.values(), ids=DATASETS)


@every_dataset
def test_labels_are_found_and_the_noise_is_the_same_wherever_they_are(dataset, label):
    with no_global_draws():
        noisy = NoisyLabels(dataset, OTHER, label=label, seed=3)
    assert torch.equal(noisy.clean, LABELS)
    assert torch.equal(noisy.targets, OTHER(LABELS, CLASSES, 3))
    assert torch.equal(noisy.flipped, noisy.targets != LABELS)
    assert (noisy.targets.dtype, noisy.clean.dtype, noisy.flipped.dtype) == (torch.int64, torch.int64, torch.bool)
    assert noisy.rate == 0.25
    assert len(noisy) == N


@pytest.mark.parametrize("name", [name for name in DATASETS if "targets" not in name or "length" in name])
def test_an_item_differs_in_its_label_alone_and_keeps_its_types(name):
    dataset, label = DATASETS[name]
    noisy = NoisyLabels(dataset, OTHER, label=label)
    for i in (0, 1, 57, N - 1, *noisy.flipped.nonzero().flatten().tolist()):
        before, item = dataset[i], noisy[i]
        assert type(item) is type(before)
        assert len(item) == len(before)
        assert type(item[label]) is type(before[label])
        assert torch.as_tensor(item[label]).flatten().tolist() == [int(noisy.targets[i])]
        assert getattr(item[label], "shape", ()) == getattr(before[label], "shape", ())
        assert getattr(item[label], "dtype", None) == getattr(before[label], "dtype", None)
        assert not isinstance(item[label], list | tuple) or type(item[label][0]) is type(before[label][0])
        keys = before if isinstance(before, dict) else range(len(before))
        position = label if isinstance(before, dict) else range(len(before))[label]
        for key in keys:
            assert key == position or torch.equal(torch.as_tensor(_number(item[key])), torch.as_tensor(_number(before[key])))
    assert torch.as_tensor(dataset[0][label]).flatten().tolist() == [int(LABELS[0])]


def _number(value):
    return 0 if isinstance(value, str) else value


def test_the_same_labels_each_time_and_in_every_order():
    dataset = TensorDataset(X, LABELS)
    noisy = NoisyLabels(dataset, OTHER)
    for _ in range(2):
        seen = {int(x): int(y) for xs, ys in DataLoader(noisy, batch_size=7, shuffle=True) for x, y in zip(xs, ys, strict=True)}
        assert [seen[i] for i in range(N)] == noisy.targets.tolist()
    assert [int(y) for _, y in noisy] == noisy.targets.tolist()
    assert torch.equal(pickle.loads(pickle.dumps(noisy)).targets, noisy.targets)
    assert torch.equal(NoisyLabels(dataset, OTHER, seed=np.int64(0)).targets, noisy.targets)
    assert not torch.equal(NoisyLabels(dataset, OTHER, seed=1).targets, noisy.targets)
    assert int(noisy[-1][1]) == noisy.targets[-1]
    with pytest.raises(IndexError):
        noisy[N]


def test_targets_can_not_be_changed_from_outside():
    labels = LABELS.clone()

    def in_place(given, classes, seed):
        given[0] = (given[0] + 1) % classes
        return given

    noisy = NoisyLabels(TensorDataset(X, labels), in_place)
    assert torch.equal(labels, LABELS)
    assert noisy.flipped.tolist() == [True] + [False] * (N - 1)
    noisy.targets.zero_()
    noisy.clean.zero_()
    labels.zero_()
    assert noisy.flipped.tolist() == [True] + [False] * (N - 1)
    assert torch.equal(noisy.clean, LABELS)


def test_noise_over_noise_takes_the_noisy_labels_for_the_clean_ones():
    inner = NoisyLabels(TensorDataset(X, LABELS), OTHER, seed=1)
    outer = NoisyLabels(inner, OTHER, seed=2)
    assert torch.equal(outer.clean, inner.targets)
    assert torch.equal(NoisyLabels(Subset(inner, range(9)), OTHER, num_classes=CLASSES).clean, inner.targets[:9])
    for dataset in (outer, NoisyLabels(ConcatDataset([inner, Subset(outer, [5, 3])]), OTHER)):
        assert [int(y) for _, y in dataset] == dataset.targets.tolist()


def test_noise_on_two_labels_of_an_item():
    fine = NoisyLabels(TensorDataset(X, LABELS, LABELS // 5), OTHER, label=1)
    both = NoisyLabels(fine, OTHER, label=2)
    assert torch.equal(both.clean, LABELS // 5)
    assert both.num_classes == 2
    assert [(int(a), int(b)) for _, a, b in both] == list(zip(fine.targets.tolist(), both.targets.tolist(), strict=True))


class Relabelled(Items):
    """The items are relabelled, and .targets is inherited."""

    targets = LABELS.tolist()

    def __getitem__(self, index):
        x, y = super().__getitem__(index)
        return x, CLASSES - 1 - y


class Forwarding(Dataset):
    """A wrapper that relabels, and asks what it wraps for all else."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self):
        return N

    def __getitem__(self, index):
        x, y = self.dataset[index]
        return x, CLASSES - 1 - y

    def __getattr__(self, name):
        return getattr(self.dataset, name)


class Reversed(TensorDataset):
    """A subclass of one of torch's whose items are others."""

    def __getitem__(self, index):
        x, y = super().__getitem__(index)
        return x, CLASSES - 1 - y


def plain_items(**attributes):
    return Items(lambda i: (X[i], int(LABELS[i])), **attributes)


@pytest.mark.parametrize(
    "dataset",
    [
        Relabelled(lambda i: (X[i], int(LABELS[i]))),
        Forwarding(plain_items(targets=LABELS.tolist())),
        plain_items(targets=reverse.tolist()),
        plain_items(targets=LABELS.tolist(), target_transform=lambda t: CLASSES - 1 - t),
        Reversed(X, LABELS),
        Subset(Reversed(X, LABELS), range(N)),
        ConcatDataset([Relabelled(lambda i: (X[i], int(LABELS[i])))]),
        Items(lambda i: (X[i], [0.0] * 4), targets=LABELS.tolist()),
        Items(lambda i: (X[i], bool(LABELS[i])), targets=LABELS.tolist()),
    ],
)
def test_an_item_whose_label_is_not_the_one_that_was_found_is_refused(dataset):
    noisy = NoisyLabels(dataset, noise.Symmetric(0.0), num_classes=CLASSES)
    with pytest.raises(RuntimeError, match=r"item 3 of the dataset has the label .* taken to have \d\. .*targets = None"):
        noisy[3]
    with pytest.raises(RuntimeError, match="has the label"):
        list(DataLoader(noisy, batch_size=N))


def test_a_random_target_transform_is_noticed_and_draws_nothing_that_is_missed():
    def drawn(target):
        return int(torch.randint(CLASSES, ()))

    dataset = Items(lambda i: (X[i], drawn(0)), targets=LABELS.tolist(), target_transform=drawn)
    with no_global_draws():
        noisy = NoisyLabels(dataset, OTHER)
    with pytest.raises(RuntimeError, match="must be the same each time"):
        list(noisy)


@pytest.mark.parametrize("make", [Relabelled, lambda make: Forwarding(plain_items(targets=LABELS.tolist()))])
def test_without_targets_the_items_are_read(make):
    dataset = make(lambda i: (X[i], int(LABELS[i])))
    dataset.targets = None
    noisy = NoisyLabels(dataset, OTHER)
    assert torch.equal(noisy.clean, reverse)
    assert [y for _, y in noisy] == noisy.targets.tolist()


def test_what_subsets_of_and_under_noise_are():
    part = range(20, 60)
    around = NoisyLabels(Subset(GOOD, part), OTHER)
    assert int(around.flipped.sum()) == 10, "the rate is exact in the subset"
    whole = NoisyLabels(GOOD, OTHER)
    assert [int(y) for _, y in Subset(whole, part)] == whole.targets[20:60].tolist(), "a part of what was drawn for all"


@pytest.mark.parametrize("label", [np.uint8(1), np.array([1], np.uint8), torch.tensor(1, dtype=torch.uint8)])
def test_a_label_type_that_has_no_room_for_a_class(label):
    noisy = NoisyLabels(Items(lambda i: (0, label)), lambda labels, n, seed: labels + 298, num_classes=300)
    with pytest.raises(ValueError, match="item 0 keeps its label as uint8, which has no room for 299"):
        noisy[0]


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        (TensorDataset(X, LABELS.clamp(max=4)), 5),
        (Folder(None, targets=LABELS, classes=["a"] * 12), 12),
        (Subset(Folder(None, targets=LABELS, classes=["a"] * 12), range(5)), 12),
        (ConcatDataset([TensorDataset(X, LABELS), Folder(None, targets=LABELS, classes=["a"] * 12)]), 12),
        (Folder(None, targets=LABELS, classes=None), 10),
        (Folder(None, targets=LABELS, classes=["a"] * 12, target_transform=lambda t: t // 2), 5),
        (Subset(Folder(None, targets=LABELS, classes=["a"] * 10, target_transform=int), (LABELS < 4).nonzero().flatten()), 10),
        (TensorDataset(X[:0], LABELS[:0]), 1),
    ],
)
def test_the_number_of_classes(dataset, expected):
    seen = []

    def spy(labels, num_classes, seed):
        seen.append((num_classes, seed))
        return labels

    noisy = NoisyLabels(dataset, spy, seed=5)
    assert noisy.num_classes == expected
    assert NoisyLabels(dataset, spy, num_classes=50).num_classes == 50
    assert seen == [(expected, 5), (50, 0)]
    assert noisy.rate == 0.0


def test_repr_is_a_sentence():
    assert repr(NoisyLabels(TensorDataset(X, LABELS), noise.Pairflip(0.0), num_classes=1000, seed=np.int64(4))) == (
        "NoisyLabels(0 of 120 labels wrong, 1000 classes, Pairflip(rate=0.0), seed 4)"
    )


class Stream(IterableDataset):
    def __iter__(self):
        return iter([])


GOOD = TensorDataset(X, LABELS)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: NoisyLabels(Stream(), OTHER), TypeError, "must have a length and be indexable, got Stream"),
        (lambda: NoisyLabels(3, OTHER), TypeError, "got int"),
        (
            lambda: NoisyLabels(GOOD, 0.2),
            TypeError,
            r"noise must be a callable, such as sparsedd.noise.Symmetric\(0.2\), got 0.2",
        ),
        (lambda: NoisyLabels(GOOD, OTHER, label=1.0), TypeError, "label must be an index or the key of a dict item, got 1.0"),
        (lambda: NoisyLabels(GOOD, OTHER, label=True), TypeError, "got True"),
        (lambda: NoisyLabels(GOOD, OTHER, label=2), ValueError, "label=2, but the dataset has 2 tensors"),
        (lambda: NoisyLabels(GOOD, OTHER, label="y"), ValueError, "label='y' is not where the dataset keeps its labels"),
        (lambda: NoisyLabels(Items(lambda i: {"a": 1}), OTHER), ValueError, r"label=1 is not where.*the keys \['a'\]"),
        (lambda: NoisyLabels(Items(lambda i: 3), OTHER), ValueError, "it has an item of type int"),
        (lambda: NoisyLabels(GOOD, OTHER, label=0), TypeError, "labels must be one integer a sample, got float32"),
        (lambda: NoisyLabels(TensorDataset(X, torch.ones(N, 2).long()), OTHER), TypeError, r"got int64 values of shape \(2,\)"),
        (lambda: NoisyLabels(GOOD, OTHER, num_classes=5), ValueError, r"the dataset's labels must be in 0 ... 4, got 0 ... 9"),
        (lambda: NoisyLabels(TensorDataset(X, LABELS - 1), OTHER), ValueError, "got -1 ... 8"),
        (lambda: NoisyLabels(GOOD, OTHER, num_classes=0), ValueError, "num_classes must be at least 1, got 0"),
        (lambda: NoisyLabels(GOOD, OTHER, num_classes="10"), TypeError, "num_classes must be an integer, got '10'"),
        (lambda: NoisyLabels(GOOD, OTHER, seed=-1), ValueError, "seed must be at least 0, got -1"),
        (lambda: NoisyLabels(GOOD, OTHER, seed=1.5), TypeError, "seed must be an integer, got 1.5"),
        (
            lambda: NoisyLabels(GOOD, lambda t, c, s: t[1:]),
            ValueError,
            r"noise must return integer labels of shape \(120,\), got",
        ),
        (lambda: NoisyLabels(GOOD, lambda t, c, s: t.float()), ValueError, "got torch.float32"),
        (lambda: NoisyLabels(GOOD, lambda t, c, s: t > 3), ValueError, "got torch.bool"),
        (lambda: NoisyLabels(GOOD, lambda t, c, s: t.tolist()), ValueError, "got list"),
        (
            lambda: NoisyLabels(GOOD, lambda t, c, s: t + 1),
            ValueError,
            r"that the noise returns must be in 0 ... 9, got 1 ... 10",
        ),
    ],
)
def test_what_can_not_be_meant_is_refused(make, error, message):
    with no_global_draws(), pytest.raises(error, match=message):
        make()


class Counting(torch.utils.data.Dataset):
    """Counts which items are read."""

    def __init__(self):
        self.read = []

    def __len__(self):
        return 100

    def __getitem__(self, index):
        self.read.append(index)
        return {"x": index, "y": index % 3}


def test_of_a_subset_only_its_items_are_read():
    dataset = Counting()
    noisy = NoisyLabels(torch.utils.data.Subset(dataset, [4, 8]), noise.Symmetric(0.0), label="y", num_classes=3)
    assert dataset.read == [4, 8]
    assert noisy.clean.tolist() == [1, 2]
    assert NoisyLabels(torch.utils.data.Subset(noisy, [0]), noise.Symmetric(0.0), label="y").num_classes == 3


def test_a_label_that_is_somewhere_else_is_said_so():
    dataset = Counting()
    dataset.targets = [k % 3 for k in range(100)]
    with pytest.raises(ValueError, match=r"label=1 is not where the dataset keeps its labels: it has the keys \['x', 'y'\]"):
        NoisyLabels(dataset, noise.Symmetric(0.2))[0]


def test_a_noise_is_an_object_and_not_its_class():
    with pytest.raises(TypeError, match="such as"):
        NoisyLabels(Counting(), noise.Symmetric, label="y")


def unread(i):
    raise AssertionError(f"item {i} was read")


KNOWN = Items(unread, targets=LABELS.tolist())
NAMED = TensorDataset(X, X, LABELS)


@pytest.mark.parametrize(
    ("dataset", "label", "labels"),
    [
        (KNOWN, 1, LABELS),
        (Subset(KNOWN, [3, 1]), 1, LABELS[[3, 1]]),
        (ConcatDataset([KNOWN, Subset(KNOWN, [5])]), 1, torch.cat([LABELS, LABELS[[5]]])),
        (Subset(NAMED, [3, 1]), 2, LABELS[[3, 1]]),
        (Subset(NAMED, [3, 1]), -1, LABELS[[3, 1]]),
        (ConcatDataset([NAMED, NAMED]), 2, torch.cat([LABELS, LABELS])),
        (Subset(NAMED, [-N, N - 1]), 2, LABELS[[0, N - 1]]),
        (Subset(NAMED, torch.tensor([2])), 2, LABELS[[2]]),
        (Subset(KNOWN, []), 1, LABELS[:0]),
    ],
)
def test_labels_that_are_known_are_found_without_reading_an_item(dataset, label, labels):
    found = NoisyLabels(dataset, noise.Symmetric(0.0), label=label)
    assert torch.equal(found.clean, labels)
    assert found.clean.dtype == torch.int64


@pytest.mark.parametrize(("indices", "shown"), [([0, N], f"0 ... {N}"), ([-N - 1, 2], f"{-N - 1} ... 2")])
def test_a_subset_beyond_its_data_set_is_refused(indices, shown):
    with pytest.raises(ValueError, match=rf"a Subset's indices must be below {N}, got {shown}\."):
        NoisyLabels(Subset(NAMED, indices), OTHER, label=2)
    with pytest.raises(ValueError, match="label=-4, but the dataset has 3 tensors"):
        NoisyLabels(NAMED, OTHER, label=-4)


def test_labels_of_several_shapes_are_shown():
    odd = Items(lambda i: (X[i], [0, 1] if i == 7 else i % 3))
    with pytest.raises(TypeError, match=r"labels must be one integer a sample, got 0 and \[0, 1\]\."):
        NoisyLabels(odd, OTHER)


def test_noise_may_return_other_integers():
    narrow = NoisyLabels(TensorDataset(X, LABELS), lambda labels, num_classes, seed: labels.to(torch.uint8))
    assert narrow.targets.dtype == torch.int64
    assert torch.equal(narrow.targets, LABELS)
