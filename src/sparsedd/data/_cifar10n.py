"""CIFAR-10N: labels of CIFAR-10's training images by people."""

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch

from sparsedd import _checks
from sparsedd.data._folder import data_folder
from sparsedd.noise import Given

Annotators = Literal["aggregate", "random1", "random2", "random3", "worse"]
PUBLISHED = {"clean": "clean_label", "aggregate": "aggre_label", "worse": "worse_label"}
PUBLISHED |= {f"random{k}": f"random_label{k}" for k in (1, 2, 3)}


def cifar10n(labels: Annotators) -> Given:
    """Read the labels that people gave CIFAR-10's training images, for :func:`cifar10` (CIFAR-10N, Wei et al. 2022).

    They are not part of this package: their terms are CC BY-NC 4.0. Looked for in the folder of the data files, see
    :func:`cifar10`, as ``cifar10n.npz``, ``cifar10n.npy`` (one array with named fields) or ``cifar10n.csv`` (with a header).
    Names are ``clean``, ``aggregate``, ``random1``, ``random2``, ``random3``, ``worse``, or the published ones. No pickle is
    loaded; the how-to :doc:`/how-to/own-noise` makes the ``.npz`` of the published file.

    Parameters
    ----------
    labels
        ``"aggregate"``: the majority of three annotators (9 % are wrong); ``"random1"`` to ``"random3"``: one of them (17 to
        18 %); ``"worse"``: a wrong one, where there is any (40 %).

    Returns
    -------
    Given
        With the data set's own labels, so that images in another order are refused.

    Raises
    ------
    FileNotFoundError
        When there is no such file; the message says where to get it.
    ValueError
        When the file is not whole, or has no such labels.
    """
    _checks.one_of("labels", labels, get_args(Annotators))
    paths = [data_folder() / f"cifar10n{ending}" for ending in (".npz", ".npy", ".csv")]
    path = next((path for path in paths if path.exists()), None)
    if path is None:
        raise FileNotFoundError(
            f"the labels of CIFAR-10N are not in {data_folder()}: get CIFAR-10_human.pt from UCSC-REAL/cifar-10-100n on GitHub "
            "(CC BY-NC 4.0), and make cifar10n.npz of it in a few lines, as the how-to on noise of your own does. "
            "SPARSEDD_DATA may name another folder."
        )
    try:
        columns = _read(path)
        found = {
            name: np.asarray(columns[PUBLISHED[name] if PUBLISHED[name] in columns else name]) for name in (labels, "clean")
        }
        if any(column.dtype.kind not in "iu" or column.ndim != 1 for column in found.values()):
            raise ValueError(f"got {', '.join(f'{column.dtype} {column.shape}' for column in found.values())}")
        return Given(*(torch.from_numpy(found[name].astype(np.int64)) for name in (labels, "clean")))
    except (KeyError, EOFError, ValueError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(
            f"{path} must hold integers (n,) under the names {labels!r} and 'clean', without pickles: {error}."
        ) from error


def _read(path: Path) -> Mapping[str, Any]:
    """Return the columns of a file by name."""
    if path.suffix == ".csv":
        with open(path, encoding="utf-8") as file:
            names = [name.strip() for name in file.readline().split(",")]
            return dict(zip(names, np.loadtxt(file, dtype=np.int64, delimiter=",", ndmin=2).T, strict=True))
    with open(path, "rb") as file:
        found = np.load(file, allow_pickle=False)
        return {name: found[name] for name in (found.files if path.suffix == ".npz" else found.dtype.names or ())}
