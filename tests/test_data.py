"""Data sets in memory."""

import os
from pathlib import Path

import pytest
import torch
from helpers import no_global_draws

from sparsedd import data


@pytest.mark.parametrize("make", [data.blobs, data.digits])
def test_inputs_are_normalised_and_labels_are_classes(make):
    with no_global_draws():
        found = make()
    inputs, labels = found.train.tensors
    assert inputs.dtype == torch.float32
    assert abs(inputs.double().mean().item()) < 1e-4
    assert abs(inputs.double().std(correction=0).item() - 1) < 1e-4
    for part in (found.train, found.test):
        assert set(part.tensors[1].tolist()) == set(range(found.num_classes))


def test_digits_are_split_without_overlap():
    found = data.digits()
    rows = [{x.numpy().tobytes() for x in part.tensors[0]} for part in (found.train, found.test)]
    assert len(found.train) + len(found.test) == 1797
    assert not rows[0] & rows[1]


def test_blobs_have_the_shape_asked_for():
    found = data.blobs(shape=(3, 8, 8), num_classes=4, train=12, test=8, seed=1)
    assert found.train.tensors[0].shape == (12, 3, 8, 8)
    assert found.num_classes == 4


def test_a_missing_data_set_says_what_is_wanted_where(monkeypatch, tmp_path):
    datasets = pytest.importorskip("torchvision.datasets")

    def no_network(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setenv("SPARSEDD_DATA", str(tmp_path))
    monkeypatch.setattr(datasets.MNIST, "download", no_network)
    with pytest.raises(FileNotFoundError, match=r"SPARSEDD_DATA.*digits\(\)") as caught:
        data.mnist()
    assert "MNIST/raw" in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_mnist_is_the_real_one():
    pytest.importorskip("torchvision")
    if not (Path(os.environ.get("SPARSEDD_DATA", "")) / "MNIST" / "raw").is_dir():
        pytest.skip("SPARSEDD_DATA names no folder with MNIST")
    found = data.mnist()
    assert found.train.tensors[0].shape == (60_000, 1, 28, 28)
    assert found.train.tensors[1].bincount().tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert found.test.tensors[1].bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
