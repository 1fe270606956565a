"""Tiny ImageNet, and how its official archive becomes folders of classes."""

import os
import re
import shutil
import zipfile
import zlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torch.utils.data import TensorDataset

from sparsedd import _checks, _random
from sparsedd.data._data import CHUNK, NORMALIZATIONS, Data, measure_moments, standardize
from sparsedd.data._folder import data_folder, import_torchvision_datasets

NAME = "tiny-imagenet-200"
IMAGE = re.compile(r"(?:train/(n\d{8})/images/\w[\w.-]*|val/images/(val_\d+\.JPEG))")


def tiny_imagenet(*, normalization: Literal["dataset", "imagenet"] = "dataset") -> Data:
    """Load Tiny ImageNet: 100,000 training and 10,000 test images (its validation part) in 200 classes (CS231n, 2015).

    The images are 64×64. As in the authors' code, ``train`` and ``test`` show the middle 32×32 pixels of the image at 45×45;
    the whole training images are in ``uncropped``, for :class:`RandomResizedCrop`. Their order is drawn once and for all.

    Looked for in ``tiny-imagenet-200`` in the folder that ``SPARSEDD_DATA`` names, else in ``~/.cache/sparsedd``, as
    ``sparsedd data tiny-imagenet PATH`` (:func:`arrange_tiny_imagenet`) leaves it there.

    Parameters
    ----------
    normalization
        As for :func:`cifar10`.

    Raises
    ------
    ImportError
        Without torchvision, whose ``ImageFolder`` reads the files.
    FileNotFoundError
        When the files are not there; the message says how to arrange them.
    ValueError
        When a file is no whole image of 64×64 pixels; the message names it. Hidden files, such as macOS's, are passed over.
    """
    _checks.one_of("normalization", normalization, NORMALIZATIONS)
    root = data_folder() / NAME
    vision = import_torchvision_datasets("Tiny ImageNet")
    if not (root / "train").is_dir() or not (root / "val").is_dir() or (root / "val" / "images").is_dir():
        raise FileNotFoundError(
            f"Tiny ImageNet is not arranged in {root}. Wanted there: train/<class>/ and val/<class>/ with JPEG files. Get "
            f"{NAME}.zip from its authors and run: sparsedd data tiny-imagenet PATH_OF_THE_ZIP. SPARSEDD_DATA names another "
            "folder; sparsedd.data.digits() needs no files."
        )
    folders = [vision.ImageFolder(root / part, is_valid_file=partial(_is_image, vision.folder)) for part in ("train", "val")]
    if folders[0].classes != folders[1].classes:
        raise ValueError(f"{root}/train and {root}/val must have the same classes: arrange the official archive again.")
    (train, labels), (test, test_labels) = map(_decode, folders)
    mean, std = measure_moments(train, normalization, unit=1 / 255)
    return Data(
        TensorDataset(standardize(_crop_middle(train), mean, std), labels),
        TensorDataset(standardize(_crop_middle(test), mean, std), test_labels),
        int(labels.max()) + 1,
        mean.float(),
        std.float(),
        uncropped=train,
    )


def arrange_tiny_imagenet(path: str | os.PathLike[str], out: str | os.PathLike[str] | None = None) -> Path:
    """Arrange the official archive in folders of classes, as :func:`tiny_imagenet` reads them, and return their folder.

    In the official archive the validation images lie in one folder, with their classes in a text file.

    Parameters
    ----------
    path
        ``tiny-imagenet-200.zip``, or the folder that it was unpacked to; its files may be in outer folders. Nothing in it
        changes; if it is the target itself, it is kept as ``tiny-imagenet-200.official``.
    out
        The folder in which ``tiny-imagenet-200`` is made; by default that of the data files.

    Raises
    ------
    FileNotFoundError
        When there is nothing at ``path``.
    FileExistsError
        When the target is there already and is not arranged.
    ValueError
        When images, classes or annotations are missing, empty or torn; the message names one. Nothing is left behind.
    """
    path, target = _checks.path("path", path), (data_folder() if out is None else _checks.path("out", out)) / NAME
    if (target / "train").is_dir() and (target / "val").is_dir() and not (target / "val" / "images").is_dir():
        return target
    if not path.exists():
        raise FileNotFoundError(f"there is nothing at {path}: pass {NAME}.zip or the folder that it was unpacked to.")
    if target.exists() and target.resolve() != path.resolve():
        raise FileExistsError(f"{target} is there already and is not arranged: move it away, or pass it as the path.")
    begun = target.with_name(f"{NAME}.sparsedd-tmp")
    shutil.rmtree(begun, ignore_errors=True)
    try:
        if path.is_dir():
            _arrange({p.relative_to(path).as_posix(): p for p in path.rglob("*") if p.is_file()}, Path.read_bytes, begun)
        else:
            with zipfile.ZipFile(path) as archive:
                _arrange({name: name for name in archive.namelist()}, archive.read, begun)
        if target.exists():  # the unpacked archive itself: keep it until the new one is whole
            os.replace(target, target.with_name(f"{NAME}.official"))
        os.replace(begun, target)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is not a whole zip file: {error}.") from error
    finally:
        shutil.rmtree(begun, ignore_errors=True)
    return target


def _arrange(files: Mapping[str, Any], read: Callable[[Any], bytes], out: Path) -> None:
    """Write each image to the folder of its class."""
    lists = [name for name in files if name.split("/")[-1] == "wnids.txt"]
    outer = min(lists, key=len, default="wnids.txt").removesuffix("wnids.txt")
    names = {name.removeprefix(outer): file for name, file in files.items() if name.startswith(outer)}

    def content(name: str) -> bytes:
        try:
            if data := read(names[name]):
                return data
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
            raise ValueError(f"the archive's {name} can't be read: {error}.") from error
        raise ValueError(f"the archive's {name} is empty: get the archive again.")

    for wanted in ("wnids.txt", "val/val_annotations.txt"):
        if wanted not in names:
            raise ValueError(f"the archive has no {wanted}: is it the official {NAME}?")
    classes = set(content("wnids.txt").decode(errors="replace").split())
    if not classes or not all(re.fullmatch(r"n\d{8}", wnid) for wnid in classes):
        raise ValueError(f"wnids.txt must hold the names of classes such as n01443537: is this the official {NAME}?")
    lines = [line.split() for line in content("val/val_annotations.txt").decode(errors="replace").splitlines()]
    of = {line[0]: line[1] for line in lines if len(line) > 1}
    seen: set[str] = set()
    for name in names:
        match = IMAGE.fullmatch(name)  # nothing else is read, so that no name leads out of the folder
        if match is None:
            continue
        wnid = match[1] or of.get(match[2], "")
        if wnid not in classes:
            raise ValueError(f"{name} has no class among those of wnids.txt.")
        place = out / name.split("/")[0] / wnid / Path(name).name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content(name))
        seen.add(f"{place.parent.parent.name}/{wnid}" if match[1] else match[2])
    missing = sorted(({f"train/{wnid}" for wnid in classes} | set(of)) - seen)
    missing += sorted(f"val/{wnid}" for wnid in classes - set(of.values()))
    if missing:
        raise ValueError(f"the archive has no images for {', '.join(missing[:5])}{' and more' * (len(missing) > 5)}.")


def _is_image(kinds: Any, path: str) -> bool:
    """Return whether a file is an image, and none of the hidden ones that systems leave beside it."""
    return kinds.is_image_file(path) and not Path(path).name.startswith(".")


def _decode(images: Any) -> tuple[Tensor, Tensor]:
    """Decode all images of an ImageFolder, (n, 3, 64, 64) uint8, and their classes; the files come sorted by class."""
    order = _random.permutation(("tiny imagenet order",), len(images))  # the first few must be of all classes
    pixels = torch.empty(len(images), 3, 64, 64, dtype=torch.uint8, device="cpu")
    for k, place in enumerate(order):
        path = images.samples[place][0]
        try:
            image = np.array(images[place][0])
        except Exception as error:  # whatever the decoder says, it doesn't say of which file
            raise ValueError(f"{path} is not a whole image: {error}. Arrange the official archive again.") from error
        if image.shape != (64, 64, 3):
            raise ValueError(f"{path} must be an image of 64×64 pixels, got {image.shape[1]}×{image.shape[0]}.")
        pixels[k] = torch.from_numpy(image).permute(2, 0, 1)
    return pixels, torch.tensor(images.targets, device="cpu")[order]


def _crop_middle(images: Tensor) -> Tensor:
    """Return the middle 32×32 of images at 45×45, in [0, 1]."""
    small = (interpolate(part / 255, size=45, mode="bilinear", antialias=True) for part in images.split(CHUNK))
    return torch.cat([part[:, :, 6:38, 6:38] for part in small])
