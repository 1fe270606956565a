"""Where data files lie, and how torchvision's readers get at them."""

import os
from pathlib import Path
from typing import Any

WANTED = {
    "MNIST": "MNIST/raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte",
    "CIFAR10": "cifar-10-batches-py/{data_batch_1,...,data_batch_5,test_batch,batches.meta}, or cifar10.npz",
    "CIFAR100": "cifar-100-python/{train,test,meta}, or cifar100.npz",
}

# One file of each data set: where it is, the others are taken to be there too.
SIGNS = {
    "mnist": ("MNIST/raw/t10k-labels-idx1-ubyte",),
    "cifar10": ("cifar-10-batches-py/test_batch", "cifar10.npz"),
    "cifar100": ("cifar-100-python/test", "cifar100.npz"),
    "tiny_imagenet": ("tiny-imagenet-200/train",),
}


def data_folder() -> Path:
    """Return the folder of data files: ``SPARSEDD_DATA``, else ``~/.cache/sparsedd``."""
    return Path(os.environ.get("SPARSEDD_DATA") or Path.home() / ".cache" / "sparsedd")


def is_absent(dataset: str) -> bool:
    """Return whether a data set needs files that are not in the folder."""
    return dataset in SIGNS and not any((data_folder() / sign).exists() for sign in SIGNS[dataset])


def import_torchvision_datasets(name: str) -> Any:
    """Return torchvision.datasets, or raise an ImportError that says how to get it."""
    try:
        from torchvision import datasets
    except ImportError as error:
        raise ImportError(f"{name} is read by torchvision: pip install 'sparsedd[vision]'.") from error
    return datasets


def load(name: str, **options: Any) -> Any:
    """Load a torchvision data set from the folder, downloaded where it is absent and the network allows."""
    reader = getattr(import_torchvision_datasets(name), name)
    try:
        found = reader(data_folder(), download=False, **options)
        if len(found.data) != len(found.targets):
            raise ValueError(f"there are {len(found.data):,} images and {len(found.targets):,} labels")
        return found
    except RuntimeError:
        pass
    except (ValueError, AssertionError, LookupError, EOFError) as error:
        raise ValueError(
            f"the files of {name} in {data_folder()} are not whole ({error!r}): {WANTED[name]}. Remove them, or get them again."
        ) from error
    try:
        return reader(data_folder(), download=True, **options)
    except (OSError, RuntimeError) as error:
        raise FileNotFoundError(
            f"{name} is not in {data_folder()}, or not whole, and could not be downloaded ({error}). Wanted: {WANTED[name]}. "
            "Put the files there, or name another folder in SPARSEDD_DATA; sparsedd.data.digits() needs no files."
        ) from error
