"""CIFAR-10N: labels of CIFAR-10's training images by people."""

import csv
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.lib.npyio import NpzFile
from torch import Tensor

from sparsedd import _checks
from sparsedd.data._folder import data_folder
from sparsedd.noise import Given, check_range

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
        When the file is not whole, or has no such labels; the message says what was found.
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
        return Given(*(_find(columns, name) for name in (labels, "clean")))
    except (EOFError, ValueError, TypeError, OverflowError, csv.Error, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(
            f"{path} must hold integers (n,), 0 ... 9, under the names {labels!r} and 'clean', without pickles: "
            f"{str(error).rstrip('.')}. Make it as the how-to on noise of your own does."
        ) from error


def _find(columns: Mapping[str, Any], name: str) -> Tensor:
    """Return the column of a name, or of the published one."""
    key = PUBLISHED[name] if PUBLISHED[name] in columns else name
    if key not in columns:
        raise ValueError(f"there is no {name!r} among {', '.join(map(repr, columns)) or 'no names'}")
    column = np.asarray(columns[key])
    if column.dtype.kind not in "iu" or column.ndim != 1 or not len(column):
        raise ValueError(f"got {column.dtype} {column.shape} under {key!r}")
    labels = torch.from_numpy(column.astype(np.int64))
    check_range(repr(key), labels, 10)
    return labels


def _read(path: Path) -> Mapping[str, Any]:
    """Return the columns of a file by name."""
    if path.suffix == ".csv":
        with open(path, encoding="utf-8-sig", newline="") as file:  # Excel begins with a byte order mark
            lines = [[value.strip() for value in line] for line in csv.reader(file, skipinitialspace=True) if line]
        names, *rows = lines or [[]]
        if odd := next((row for row in rows if len(row) != len(names)), None):
            raise ValueError(f"there are {len(names)} names, and a row of {len(odd)} values")
        return dict(zip(names, np.array(rows, dtype=np.int64).reshape(len(rows), len(names)).T, strict=True))
    with open(path, "rb") as file:
        found = np.load(file, allow_pickle=False)  # by what it is, whatever its name says
        return {name: found[name] for name in (found.files if isinstance(found, NpzFile) else found.dtype.names or ())}
