"""Data sets in memory, and their batches."""

import io
import os
import pickle
import re
import zipfile
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from helpers import blocks, no_global_draws
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import interpolate

from sparsedd import NoisyLabels, _random, data, noise
from sparsedd.data import Batches, Flip, RandomResizedCrop, Shift, _batches
from sparsedd.data._folder import SIGNS, is_absent

EMBEDDED = [name for name in data.DATASETS if name == "digits" or name.startswith("blobs")]
BLACK = torch.tensor([-1.0, -2.0, -3.0])[:, None, None]


@pytest.mark.parametrize("name", EMBEDDED)
def test_inputs_are_normalised_and_labels_are_classes(name):
    with no_global_draws():
        found = data.DATASETS[name]()
    inputs, labels = found.train.tensors
    assert inputs.dtype == torch.float32
    assert inputs.double().mean((0, 2, 3)).abs().max() < 1e-4
    assert (inputs.double().std((0, 2, 3), correction=0) - 1).abs().max() < 1e-4
    assert set(labels.tolist()) == set(range(found.num_classes))
    assert set(found.test.tensors[1].tolist()) <= set(range(found.num_classes))


def test_digits_are_split_without_overlap():
    found = data.digits()
    rows = [{x.numpy().tobytes() for x in part.tensors[0]} for part in (found.train, found.test)]
    assert len(found.train) + len(found.test) == 1797
    assert not rows[0] & rows[1]


def test_mean_and_deviation_give_the_raw_values_back():
    found = data.digits()
    raw = found.train.tensors[0] * found.std + found.mean
    assert torch.allclose(raw, raw.round(), atol=1e-4)
    assert (raw.min().round(), raw.max().round()) == (0, 16)


def test_blobs_have_the_shape_asked_for():
    found = data.blobs(shape=(3, 8, 8), num_classes=4, train=12, test=8, seed=1)
    assert found.train.tensors[0].shape == (12, 3, 8, 8)
    assert found.num_classes == 4


def test_the_first_samples_are_the_first():
    found = data.blobs(train=100)
    assert torch.equal(found.first(7).train.tensors[0], found.train.tensors[0][:7])
    assert len(found.first(7).test) == len(found.test)
    assert found.first(None) is found
    with pytest.raises(ValueError, match="at most the 100 training samples"):
        found.first(101)


class Augmented(torch.utils.data.TensorDataset):
    """Its items are not what its tensors hold."""

    def __getitem__(self, index):
        x, y = super().__getitem__(index)
        return x.flip(-1), 1 - y


def test_data_that_do_not_belong_together_are_refused():
    small = data.blobs(num_classes=2, train=6, test=4)
    with pytest.raises(TypeError, match="train must have its tensors for items, got Augmented"):
        data.Data(Augmented(*small.train.tensors), small.test, 2)
    for uncropped in (torch.zeros(7, 1, 9, 9, dtype=torch.uint8), torch.zeros(6, 1, 9, 9)):
        with pytest.raises(ValueError, match=r"uncropped must be uint8, one image for each of 6 training samples, got torch"):
            data.Data(small.train, small.test, 2, uncropped=uncropped)


# ---------------------------------------------------------------- files


def test_a_missing_data_set_says_what_is_wanted_where(monkeypatch, tmp_path):
    datasets = pytest.importorskip("torchvision.datasets")

    def no_network(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setenv("SPARSEDD_DATA", str(tmp_path))
    for name, files in (("MNIST", "MNIST/raw"), ("CIFAR10", "cifar10.npz"), ("CIFAR100", "cifar-100-python")):
        monkeypatch.setattr(getattr(datasets, name), "download", no_network)
        with pytest.raises(FileNotFoundError, match=r"SPARSEDD_DATA.*digits\(\)") as caught:
            getattr(data, name.lower())()
        assert files in str(caught.value)
        assert str(tmp_path) in str(caught.value)
    with pytest.raises(FileNotFoundError, match=r"sparsedd data tiny-imagenet.*digits\(\)"):
        data.tiny_imagenet()


def real(name: str) -> None:
    pytest.importorskip("torchvision")
    if not (Path(os.environ.get("SPARSEDD_DATA", "")) / name).exists() or "SPARSEDD_DATA" not in os.environ:
        pytest.skip(f"SPARSEDD_DATA names no folder with {name}")


def test_mnist_is_the_real_one():
    real("MNIST/raw")
    found = data.mnist()
    assert found.train.tensors[0].shape == (60_000, 1, 28, 28)
    assert found.train.tensors[1].bincount().tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert found.test.tensors[1].bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert found.mean.item() == pytest.approx(0.1307, abs=5e-5)
    assert found.std.item() == pytest.approx(0.3081, abs=5e-5)


def test_cifar10_is_the_real_one():
    real("cifar10.npz")
    found = data.cifar10()
    assert found.train.tensors[0].shape == (50_000, 3, 32, 32)
    assert found.train.tensors[1].bincount().tolist() == [5000] * 10
    assert found.test.tensors[1].bincount().tolist() == [1000] * 10
    assert found.mean.flatten().tolist() == pytest.approx([0.49139968, 0.48215841, 0.44653091], abs=1e-6)
    assert found.std.flatten().tolist() == pytest.approx([0.24703223, 0.24348513, 0.26158784], abs=1e-6)


def write_npz(path, classes, n=12, **changed):
    generator = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", n), ("test", n // 2)):
        arrays[f"x_{part}"] = generator.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        arrays[f"y_{part}"] = (np.arange(count) % classes)[:, None]
    np.savez(path, **(arrays | changed))
    return arrays


@pytest.mark.parametrize(("name", "classes"), [("cifar10", 10), ("cifar100", 100)])
def test_cifar_is_read_from_arrays_and_normalised_either_way(monkeypatch, tmp_path, name, classes):
    monkeypatch.setenv("SPARSEDD_DATA", str(tmp_path))
    arrays = write_npz(tmp_path / f"{name}.npz", classes)
    for normalization in ("dataset", "imagenet"):
        found = getattr(data, name)(normalization=normalization)
        inputs, labels = found.train.tensors
        assert (inputs.shape, labels.shape, found.num_classes) == ((12, 3, 32, 32), (12,), classes)
        pixels = (inputs * found.std + found.mean).permute(0, 2, 3, 1) * 255
        assert torch.allclose(pixels, torch.from_numpy(arrays["x_train"]).float(), atol=1e-2)
    assert found.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    with pytest.raises(ValueError, match="normalization must be one of"):
        getattr(data, name)(normalization="none")


def test_arrays_of_another_shape_and_pickles_are_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("SPARSEDD_DATA", str(tmp_path))
    write_npz(tmp_path / "cifar10.npz", 10, x_train=np.zeros((12, 28, 28), dtype=np.uint8))
    with pytest.raises(ValueError, match=r"cifar10.npz must hold uint8 images \(n, 32, 32, 3\)"):
        data.cifar10()
    write_npz(tmp_path / "cifar10.npz", 10, x_train=np.array([print], dtype=object))
    with pytest.raises(ValueError, match="without pickles"):
        data.cifar10()


def test_labels_that_are_no_integers_and_a_single_array_are_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("SPARSEDD_DATA", str(tmp_path))
    write_npz(tmp_path / "cifar10.npz", 10, y_train=np.linspace(0, 9, 12))
    with pytest.raises(ValueError, match=r"n integer labels, got uint8 \(12, 32, 32, 3\) and float64 \(12,\)"):
        data.cifar10()
    with open(tmp_path / "cifar10.npz", "wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(ValueError, match=r"cifar10.npz must hold the arrays"):
        data.cifar10()


@pytest.mark.parametrize("change", [lambda whole: b"", lambda whole: b"\0" * 20, "fewer labels", "cut"])
def test_files_of_mnist_that_are_not_whole_are_named(monkeypatch, tmp_path, change):
    pytest.importorskip("torchvision")
    monkeypatch.setenv("SPARSEDD_DATA", str(tmp_path))
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        (raw / f"{part}-images-idx3-ubyte").write_bytes(idx(np.arange(20 * 28 * 28, dtype=np.uint8).reshape(20, 28, 28)))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(idx(np.arange(20, dtype=np.uint8) % 10))
    assert repr(data.mnist()) == "Data(20 training and 20 test samples of 1×28×28, 10 classes)"
    path = raw / "t10k-labels-idx1-ubyte"
    if change == "cut":  # for torchvision, one that isn't there
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(FileNotFoundError, match=r"MNIST is not in .*, or not whole, .*idx3,labels-idx1"):
            data.mnist()
        return
    path.write_bytes(idx(np.arange(19, dtype=np.uint8) % 10) if change == "fewer labels" else change(path.read_bytes()))
    with pytest.raises(ValueError, match=r"the files of MNIST in .* are not whole .*idx3,labels-idx1.*get them again"):
        data.mnist()


def idx(array):
    return b"".join(n.to_bytes(4, "big") for n in (0x800 + array.ndim, *array.shape)) + array.tobytes()


def test_arrays_that_are_not_whole_are_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("SPARSEDD_DATA", str(tmp_path))
    path = tmp_path / "cifar10.npz"
    np.savez(path, x_train=np.zeros(3))
    with pytest.raises(ValueError, match="must hold the arrays x_train, y_train"):
        data.cifar10()
    write_npz(path, 10)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match="must hold the arrays"):
        data.cifar10()


@pytest.mark.parametrize("wrong", [{"shape": (0, 1, 1)}, {"shape": (3, 3)}, {"train": -5}, {"test": 0}, {"num_classes": 0}])
def test_blobs_of_no_shape_are_refused(wrong):
    with pytest.raises(ValueError, match="got"):
        data.blobs(**wrong)


# ---------------------------------------------------------------- Tiny ImageNet

WNIDS = ["n00000001", "n00000002"]


def official(folder, without=()):
    """A small archive laid out as the official one: two classes with three training images each, four to validate."""
    from PIL import Image

    def image(name, value):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((64, 64, 3), value, dtype=np.uint8)).save(path, "JPEG")

    for c, wnid in enumerate(WNIDS):
        for k in range(3):
            image(f"train/{wnid}/images/{wnid}_{k}.JPEG", 40 * c + k)
        (folder / f"train/{wnid}/{wnid}_boxes.txt").write_text("boxes\n")
    for k in range(4):
        image(f"val/images/val_{k}.JPEG", 100 + 40 * (k % 2))
    image("test/images/test_0.JPEG", 3)
    annotations = "".join(f"val_{k}.JPEG\t{WNIDS[k % 2]}\t0\t0\t62\t62\n" for k in range(4))
    (folder / "val/val_annotations.txt").write_text(annotations)
    (folder / "wnids.txt").write_text("\n".join(reversed(WNIDS)) + "\n")
    for name in without:
        (folder / name).unlink()
    return folder


def zipped(folder, path, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, Path("tiny-imagenet-200") / file.relative_to(folder))
        archive.writestr("tiny-imagenet-200/val/images/../../../../evil.JPEG", b"evil")
        archive.writestr("/etc/evil", b"evil")
    return path


@pytest.mark.parametrize("form", ["zip", "folder", "in place"])
def test_the_official_archive_is_arranged_and_read(monkeypatch, tmp_path, form):
    pytest.importorskip("torchvision")
    out = tmp_path / "data"
    monkeypatch.setenv("SPARSEDD_DATA", str(out))
    path = official(out / "tiny-imagenet-200" if form == "in place" else tmp_path / "official")
    if form == "zip":
        path = zipped(path, tmp_path / "tiny-imagenet-200.zip")
    assert data.arrange_tiny_imagenet(path) == out / "tiny-imagenet-200"
    assert data.arrange_tiny_imagenet(path) == out / "tiny-imagenet-200", "a second call finds it done"
    assert not list(tmp_path.rglob("evil*"))
    assert not list(tmp_path.rglob("*.sparsedd-tmp"))
    found = data.tiny_imagenet()
    assert repr(found) == "Data(6 training and 4 test samples of 3×32×32, 2 classes)"
    assert found.uncropped.shape == (6, 3, 64, 64)
    for image, view, label in zip(found.uncropped, *found.train.tensors, strict=True):
        assert image.float().mean() == pytest.approx(40 * int(label) + 1, abs=2)
        assert torch.allclose((view * found.std + found.mean) * 255, image[:, :32, :32].float(), atol=2)
    for view, label in zip(*found.test.tensors, strict=True):
        assert ((view * found.std + found.mean) * 255).mean() == pytest.approx(100 + 40 * int(label), abs=2)


@pytest.mark.parametrize(
    ("without", "message"),
    [
        (["wnids.txt"], "no wnids.txt"),
        (["val/val_annotations.txt"], "no val/val_annotations.txt"),
        (["val/images/val_2.JPEG"], "no images for val_2.JPEG"),
        ([f"train/{WNIDS[0]}/images/{WNIDS[0]}_{k}.JPEG" for k in range(3)], f"no images for train/{WNIDS[0]}"),
    ],
)
def test_an_archive_with_something_missing_is_refused_and_nothing_is_left(tmp_path, without, message):
    pytest.importorskip("PIL")
    path = official(tmp_path / "official", without)
    with pytest.raises(ValueError, match=message):
        data.arrange_tiny_imagenet(path, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*"))


def test_class_names_that_lead_out_of_the_folder_are_refused(tmp_path):
    path = official(tmp_path / "official")
    (path / "wnids.txt").write_text("../../evil\n")
    (path / "val/val_annotations.txt").write_text("".join(f"val_{k}.JPEG\t../../evil\t0\t0\t1\t1\n" for k in range(4)))
    with pytest.raises(ValueError, match=r"wnids\.txt must hold the names of classes"):
        data.arrange_tiny_imagenet(path, tmp_path / "a" / "b")
    assert not list(tmp_path.rglob("evil*"))


def test_a_class_without_images_to_validate_is_missed(tmp_path):
    path = official(tmp_path / "official", ["val/images/val_1.JPEG", "val/images/val_3.JPEG"])
    (path / "val/val_annotations.txt").write_text("".join(f"val_{k}.JPEG\t{WNIDS[0]}\t0\t0\t1\t1\n" for k in (0, 2)))
    with pytest.raises(ValueError, match=f"no images for val/{WNIDS[1]}"):
        data.arrange_tiny_imagenet(path, tmp_path / "out")


def test_somebody_elses_folder_is_left_alone(tmp_path):
    path = official(tmp_path / "official")
    (tmp_path / "out" / "tiny-imagenet-200").mkdir(parents=True)
    with pytest.raises(FileExistsError, match="is there already and is not arranged"):
        data.arrange_tiny_imagenet(path, tmp_path / "out")


def test_other_classes_to_validate_than_to_train_are_refused(monkeypatch, tmp_path):
    pytest.importorskip("torchvision")
    monkeypatch.setenv("SPARSEDD_DATA", str(tmp_path))
    root = data.arrange_tiny_imagenet(official(tmp_path / "official"), tmp_path)
    (root / "val" / WNIDS[0]).rename(root / "val" / "n00000009")
    with pytest.raises(ValueError, match="must have the same classes"):
        data.tiny_imagenet()


def test_what_is_no_archive_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is nothing at"):
        data.arrange_tiny_imagenet(tmp_path / "none.zip", tmp_path)
    (tmp_path / "text.zip").write_text("no zip")
    with pytest.raises(ValueError, match="not a whole zip file"):
        data.arrange_tiny_imagenet(tmp_path / "text.zip", tmp_path)


@pytest.mark.parametrize("form", ["zip", "folder", "in place"])
@pytest.mark.parametrize("outer", ["tiny-imagenet-200", "archive/tiny-imagenet-200", "tiny-imagenet-200/tiny-imagenet-200"])
def test_outer_folders_do_not_matter(tmp_path, form, outer):
    path = tmp_path / ("out/tiny-imagenet-200" if form == "in place" else "unpacked")
    official(path / outer)
    if form == "zip":
        path = zipped(path, tmp_path / "a.zip")
    root = data.arrange_tiny_imagenet(path, tmp_path / "out")
    assert sorted(p.name for p in root.rglob("*.JPEG")) == sorted(
        p.name for p in official(tmp_path / "plain").rglob("[nv]*.JPEG")
    )
    assert sorted(p.name for p in root.iterdir()) == ["train", "val"]


def test_what_macos_leaves_beside_images_is_passed_over(monkeypatch, tmp_path):
    pytest.importorskip("torchvision")
    monkeypatch.setenv("SPARSEDD_DATA", str(tmp_path))
    path = official(tmp_path / "official")
    for name in (
        f"train/{WNIDS[0]}/images/._{WNIDS[0]}_0.JPEG",
        "val/images/._val_0.JPEG",
        "._wnids.txt",
        "__MACOSX/._wnids.txt",
    ):
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_bytes(b"\0\5\x16\7")
    root = data.arrange_tiny_imagenet(path)
    assert not list(root.rglob("._*"))
    for name in (f"train/{WNIDS[0]}/._a.JPEG", f"val/{WNIDS[1]}/._a.JPEG", "train/.DS_Store", f"train/{WNIDS[0]}/boxes.txt"):
        (root / name).write_bytes(b"\0\5\x16\7")
    assert repr(data.tiny_imagenet()) == "Data(6 training and 4 test samples of 3×32×32, 2 classes)"


def of_size(width, height):
    from PIL import Image

    made = io.BytesIO()
    Image.fromarray(np.zeros((height, width, 3), dtype=np.uint8)).save(made, "JPEG")
    return made.getvalue()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda whole: whole[:-9], "is not a whole image: .*truncated.* Arrange the official archive again"),
        (lambda whole: b"", "is not a whole image: cannot identify"),
        (lambda whole: b"<html>", "is not a whole image: cannot identify"),
        (lambda whole: of_size(32, 32), "must be an image of 64×64 pixels, got 32×32"),
        (lambda whole: of_size(64, 48), "must be an image of 64×64 pixels, got 64×48"),
    ],
)
@pytest.mark.parametrize("part", ["train", "val"])
def test_a_file_that_is_no_whole_image_is_named(monkeypatch, tmp_path, change, message, part):
    pytest.importorskip("torchvision")
    monkeypatch.setenv("SPARSEDD_DATA", str(tmp_path))
    root = data.arrange_tiny_imagenet(official(tmp_path / "official"))
    path = sorted((root / part).rglob("*.JPEG"))[1]
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))} {message}"):
        data.tiny_imagenet()


@pytest.mark.parametrize("form", ["zip", "folder"])
@pytest.mark.parametrize(
    "name", ["wnids.txt", "val/val_annotations.txt", "val/images/val_1.JPEG", f"train/{WNIDS[0]}/images/{WNIDS[0]}_0.JPEG"]
)
def test_an_empty_file_in_the_archive_is_named_and_nothing_is_left(tmp_path, form, name):
    path = official(tmp_path / "official")
    (path / name).write_bytes(b"")
    if form == "zip":
        path = zipped(path, tmp_path / "a.zip")
    with pytest.raises(ValueError, match=f"the archive's {name} is empty"):
        data.arrange_tiny_imagenet(path, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*"))


@pytest.mark.parametrize("at", ["content", "checksum", "method", "encrypted"])
def test_a_file_of_the_archive_that_can_not_be_read_is_named(tmp_path, at):
    name = f"tiny-imagenet-200/train/{WNIDS[0]}/images/{WNIDS[0]}_0.JPEG"
    path = zipped(official(tmp_path / "official"), tmp_path / "a.zip", zipfile.ZIP_DEFLATED)
    whole = bytearray(path.read_bytes())
    local, central = (whole.index(name.encode()) - 30, whole.rindex(name.encode()) - 46)
    if at == "content":
        whole[local + 30 + len(name)] ^= 0xFF
    elif at == "checksum":
        whole[local + 14] ^= 1
        whole[central + 16] ^= 1
    elif at == "method":
        whole[local + 8] = whole[central + 10] = 97
    else:
        whole[local + 6] |= 1
        whole[central + 8] |= 1
    path.write_bytes(whole)
    with pytest.raises(ValueError, match=f"the archive's {name.removeprefix('tiny-imagenet-200/')} can't be read: "):
        data.arrange_tiny_imagenet(path, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*"))


def test_the_real_validation_images_are_arranged(tmp_path):
    real("tiny-imagenet-200/val/images")
    source = Path(os.environ["SPARSEDD_DATA"]) / "tiny-imagenet-200"
    if (source / "train").exists():
        assert data.arrange_tiny_imagenet(source, tmp_path).exists()
    else:
        with pytest.raises(ValueError, match=r"no images for train/n\d+"):
            data.arrange_tiny_imagenet(source, tmp_path)


# ---------------------------------------------------------------- augmentations


def images(n=5, size=6, seed=0):
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


def draws(*rows):
    return torch.tensor([list(row) + [0.0] * (4 - len(row)) for row in rows])


def test_a_flip_exchanges_left_and_right_for_half_of_the_samples():
    x = images(2)
    flipped = Flip()(x, draws([0.49], [0.5]), BLACK)
    assert torch.equal(flipped[0], x[0].flip(-1))
    assert torch.equal(flipped[1], x[1])


@pytest.mark.parametrize(("down", "right"), [(0, 0), (2, 2), (4, 4), (0, 4), (3, 1)])
def test_a_shift_moves_by_whole_pixels_and_fills_with_black(down, right):
    x = images(1)
    (moved,) = Shift(2)(x, draws([(down + 0.5) / 5, (right + 0.5) / 5]), BLACK)
    for i in range(6):
        for j in range(6):
            source_i, source_j = i + down - 2, j + right - 2
            inside = 0 <= source_i < 6 and 0 <= source_j < 6
            assert torch.equal(moved[:, i, j], x[0, :, source_i, source_j] if inside else BLACK[:, 0, 0])


def test_every_shift_is_as_likely():
    x = torch.zeros(50_000, 1, 9, 9)
    x[:, :, 4, 4] = 1.0
    u = torch.rand(len(x), 4, generator=torch.Generator().manual_seed(0))
    where = Shift(4)(x, u, torch.zeros(1, 1, 1)).mean((0, 1))
    assert abs(where - 1 / 81).max() < 5 * (1 / 81 / len(x)) ** 0.5
    assert where.sum() == pytest.approx(1)


def test_a_crop_of_everything_is_the_image_and_of_a_part_that_part_resized():
    x = images(2, size=8)
    whole = RandomResizedCrop(8, scale=(1, 1), ratio=(1, 1))(x, draws([0.3, 0.3, 0.3, 0.3], [0.9] * 4), BLACK)
    assert torch.allclose(whole, x, atol=1e-5)
    quarter = RandomResizedCrop(8, scale=(0.25, 0.25), ratio=(1, 1))(x, draws([0, 0, 0.0, 0.0], [0, 0, 0.99, 0.99]), BLACK)
    inside = slice(1, 7)  # at the border the neighbours differ
    for crop, part in zip(quarter, (x[0, :, :4, :4], x[1, :, 4:, 4:]), strict=True):
        expected = interpolate(part[None], size=8, mode="bilinear")[0]
        assert torch.allclose(crop[:, inside, inside], expected[:, inside, inside], atol=1e-5)


def test_crops_have_the_areas_and_ratios_asked_for():
    size, n = 256, 400
    ramp = torch.linspace(0, 1, size).expand(n, 1, size, size)
    x = torch.cat([ramp, ramp.transpose(2, 3)], dim=1)
    u = torch.rand(n, 4, generator=torch.Generator().manual_seed(1))
    crops = RandomResizedCrop(32)(x, u, torch.zeros(2, 1, 1))
    spans = (crops.amax((2, 3)) - crops.amin((2, 3))) * 32 / 31  # width and height, as shares
    areas, ratios = spans.prod(1), spans[:, 0] / spans[:, 1]
    assert 0.05 < areas.min() < 0.12
    assert areas.max() <= 1.01
    assert areas.mean() == pytest.approx(0.54, abs=0.06)
    assert 0.7 < ratios.min() < 0.85
    assert 1.2 < ratios.max() < 1.4


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: Shift(-1), ValueError),
        (lambda: Shift(1.5), TypeError),
        (lambda: RandomResizedCrop(0), ValueError),
        (lambda: RandomResizedCrop(scale=(0.5, 0.1)), ValueError),
        (lambda: RandomResizedCrop(scale=(8, 100)), ValueError),
        (lambda: RandomResizedCrop(ratio=(0, 1)), ValueError),
    ],
)
def test_wrong_augmentations_are_refused(make, error):
    with pytest.raises(error, match="got"):
        make()


# ---------------------------------------------------------------- batches

SOURCE = data.DATASETS["blobs-cifar10"]().first(50)
ALL = (Flip(), Shift(4), RandomResizedCrop(16))


@given(st.integers(1, 60), st.integers(0, 3), st.integers(0, 5))
def test_a_sample_is_the_same_in_whatever_batch_it_comes(size, epoch, seed):
    with no_global_draws():
        one = next(Batches(SOURCE, size=50, augmentation=ALL, seed=seed).epoch(epoch))
        batches = Batches(SOURCE, size=size, augmentation=ALL, seed=seed)
        parts = list(batches.epoch(epoch))
    assert len(parts) == len(batches) == -(-50 // size)
    for whole, cut in zip(one, zip(*parts, strict=True), strict=True):
        assert torch.equal(whole, torch.cat(cut))
    assert [len(y) for x, y in batches.epoch(epoch, start=1)] == [len(y) for x, y in parts[1:]]
    index = torch.tensor([7, 3])
    inputs, targets = batches.sample(index, epoch)
    assert torch.equal(targets, SOURCE.train.tensors[1][index])
    assert all(any(torch.equal(x, other) for other in one[0]) for x in inputs)


def batch_by_batch(batches, number, start):
    """An epoch as it is defined: each batch gathered and transformed by itself."""
    order = np.argsort(_random.bits(("data order", batches.seed, number), len(batches.targets)), kind="stable")
    for batch in list(torch.from_numpy(order).split(batches.size))[start:]:
        yield batches.sample(batch, number)


@given(
    st.integers(1, 60), st.integers(0, 3), st.lists(st.integers(0, 2), min_size=1, max_size=5), st.integers(0, 60), st.data()
)
def test_batches_of_many_are_each_ones_own(size, epoch, seeds, start, draw):
    augmentation = draw.draw(st.sampled_from([(), ALL[:1], ALL[:2], ALL]))
    targets = [SOURCE.train.tensors[1].roll(k) for k in range(len(seeds))]
    every = [Batches(SOURCE, y, size=size, augmentation=augmentation, seed=s) for s, y in zip(seeds, targets, strict=True)]
    theirs = zip(*(batch_by_batch(batches, epoch, start) for batches in every), strict=True)
    expected = [[torch.stack(part) for part in zip(*batch, strict=True)] for batch in theirs]
    for at_once in (1, draw.draw(st.integers(2, 9))):
        with mock.patch.object(_batches, "_count_at_once", return_value=at_once):
            found = list(_batches.side_by_side(every, epoch, start))
        assert [len(found)] == [len(expected)] == [max(0, len(every[0]) - start)]
        pairs = zip(found, expected, strict=True)
        assert all(torch.equal(a, b) for pair in pairs for a, b in zip(*pair, strict=True))


def test_batches_are_gathered_many_at_once_but_on_a_cpu():
    count, size = _batches._count_at_once, 128 * 3072 * 4
    assert [count(torch.device(kind), size) for kind in ("cpu", "cuda", "mps")] == [1, 85, 85]
    assert count(torch.device("cuda"), 2**40) == 1


def test_epochs_and_seeds_are_different_and_each_sample_has_its_own_draw():
    batches = [Batches(SOURCE, size=50, augmentation=(Shift(4),), seed=seed) for seed in (0, 1)]
    same = torch.arange(50)
    views = [b.sample(same, epoch)[0] for b in batches for epoch in (0, 1)]
    assert all(not torch.equal(views[i], views[j]) for i in range(4) for j in range(i))
    black = -SOURCE.mean / SOURCE.std
    shifts = [((k // 9 + 0.5) / 9, (k % 9 + 0.5) / 9) for k in range(81)]

    def shift_of(before, after):
        return next(u for u in shifts if torch.equal(Shift(4)(before[None], draws(u), black)[0], after))

    moved = {shift_of(x, view) for x, view in zip(SOURCE.train.tensors[0], views[0], strict=True)}
    assert len(moved) > 25


def test_without_augmentation_every_epoch_holds_every_sample_once_with_its_label():
    noisy = NoisyLabels(SOURCE.train, noise.Symmetric(0.4), num_classes=10)
    seen = list(Batches(SOURCE, noisy.targets, size=20).epoch(3))
    inputs, targets = torch.cat([x for x, _ in seen]), torch.cat([y for _, y in seen])
    place = [int((SOURCE.train.tensors[0] == x).all((1, 2, 3)).nonzero()) for x in inputs]
    assert sorted(place) == list(range(50))
    assert torch.equal(targets, noisy.targets[place])


def test_golden_draws():
    """The same on every platform and version."""
    batches = Batches(SOURCE, size=10, augmentation=(Flip(),), seed=0)
    (_, targets) = next(batches.epoch(0))
    assert targets.tolist() == [1, 7, 5, 3, 5, 9, 0, 4, 8, 7]
    assert _batches._draw(0, 0, len(batches.targets), batches.seed)[0].tolist() == pytest.approx(
        [0.7612290382385254, 0.5879548192024231, 0.6216493844985962, 0.392689973115921], abs=0
    )


def test_random_crops_are_taken_of_the_whole_images():
    small = data.blobs(shape=(3, 8, 8), num_classes=2, train=6, test=2)
    whole = torch.arange(6, dtype=torch.uint8)[:, None, None, None].expand(6, 3, 16, 16).contiguous()
    source = data.Data(small.train, small.test, 2, torch.full((3, 1, 1), 0.5), torch.full((3, 1, 1), 0.25), uncropped=whole)
    inputs, _ = Batches(source, augmentation=(RandomResizedCrop(8),)).sample(torch.arange(6), 0)
    assert inputs.shape == (6, 3, 8, 8)
    for k, image in enumerate(inputs):
        assert torch.allclose(image, torch.tensor((k / 255 - 0.5) / 0.25), atol=1e-6)
    for augmentation in ((), (Flip(),), (Shift(1),)):
        assert Batches(source, augmentation=augmentation).sample(torch.arange(6), 0)[0].shape == (6, 3, 8, 8)
    assert torch.equal(Batches(source).sample(torch.arange(6), 0)[0], small.train.tensors[0])


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"size": 0}, ValueError),
        ({"seed": -1}, ValueError),
        ({"targets": torch.zeros(3, dtype=torch.int64)}, ValueError),
        ({"targets": [0] * 50}, TypeError),
        ({"augmentation": (Flip,)}, TypeError),
        ({"augmentation": ("flip",)}, TypeError),
    ],
)
def test_wrong_batches_are_refused(arguments, error):
    with pytest.raises(error, match=r"got|at least"):
        Batches(SOURCE, **arguments)


def test_a_data_set_is_absent_until_its_files_are_there(tmp_path, monkeypatch):
    monkeypatch.setenv("SPARSEDD_DATA", str(tmp_path))
    assert not is_absent("digits")
    for dataset, signs in SIGNS.items():
        assert is_absent(dataset)
        (tmp_path / signs[-1]).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / signs[-1]).write_bytes(b"")
        assert not is_absent(dataset)


# ---------------------------------------------------------------- labels by people


HUMAN = {name: np.arange(30) % k for k, name in enumerate(("clean", "aggregate", "random1", "random2", "random3", "worse"), 5)}


@pytest.mark.parametrize("ending", ["npz", "npy", "csv", "published.npz"])
def test_labels_by_people_are_read_from_any_of_three_kinds_of_files(monkeypatch, tmp_path, ending):
    monkeypatch.setenv("SPARSEDD_DATA", str(tmp_path))
    path, columns = tmp_path / f"cifar10n.{ending[-3:]}", HUMAN
    if ending.startswith("published"):
        published = ("clean_label", "aggre_label", "random_label1", "random_label2", "random_label3", "worse_label")
        columns = dict(zip(published, HUMAN.values(), strict=True))
    if ending.endswith("npz"):
        np.savez(path, **columns)
    elif ending == "npy":
        np.save(path, np.rec.fromarrays(list(columns.values()), names=list(columns)))
    else:
        np.savetxt(path, np.stack(list(columns.values()), 1), fmt="%d", delimiter=",", header=",".join(columns), comments="")
    for name in ("aggregate", "random1", "random2", "random3", "worse"):
        found = data.cifar10n(name)
        assert found == noise.Given(torch.from_numpy(HUMAN[name]), torch.from_numpy(HUMAN["clean"]))


def test_labels_by_people_that_are_absent_or_odd(monkeypatch, tmp_path):
    monkeypatch.setenv("SPARSEDD_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"not in .*CIFAR-10_human.pt from .*CC BY-NC 4.0.*cifar10n.npz") as caught:
        data.cifar10n("worse")
    assert str(tmp_path) in str(caught.value)
    with pytest.raises(ValueError, match="one of 'aggregate', 'random1', .* got 'human'"):
        data.cifar10n("human")
    path = tmp_path / "cifar10n.npz"
    path.write_bytes(b"no archive")
    for columns in ({"worse": HUMAN["worse"]}, HUMAN | {"worse": np.ones(30)}, HUMAN | {"clean": np.array([{}])}, None):
        with pytest.raises(ValueError, match="must hold integers .* under the names 'worse' and 'clean', without pickles"):
            data.cifar10n("worse")
        if columns:
            np.savez(path, **columns)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("\ufeffclean,worse\r\n1,2\r\n", None),  # as Excel writes it
        ('"clean", "worse"\n"1",2\n', None),
        ("1,2\n", "there is no 'worse' among '1', '2'"),
        ("clean,worse\n", r"got int64 \(0,\) under 'worse'"),
        ("", "there is no 'worse' among no names"),
        ("clean,worse\n1\n", "2 names, and a row of 1 values"),
        ("clean,worse\n1,cat\n", "'cat'"),
        ("clean,worse_label\n1,10\n", r"'worse_label' must be in 0 \.\.\. 9, got 10"),
        (f"clean,worse\n1,{10**30}\n", "too large"),
    ],
)
def test_tables_of_labels_by_people(monkeypatch, tmp_path, text, found):
    monkeypatch.setenv("SPARSEDD_DATA", str(tmp_path))
    (tmp_path / "cifar10n.csv").write_bytes(text.encode())
    if found is None:
        assert data.cifar10n("worse") == noise.Given([2], [1])
    else:
        with pytest.raises(ValueError, match=rf"cifar10n.csv must hold .*{found}.*(?<!\.)\. Make it as the how-to"):
            data.cifar10n("worse")


def test_labels_by_people_are_read_by_what_the_file_is(monkeypatch, tmp_path):
    monkeypatch.setenv("SPARSEDD_DATA", str(tmp_path))
    npz, npy = tmp_path / "cifar10n.npz", tmp_path / "cifar10n.npy"
    with open(npz, "wb") as file:
        np.save(file, np.rec.fromarrays(list(HUMAN.values()), names=list(HUMAN)))
    found = data.cifar10n("worse")
    npz.unlink()
    with open(npy, "wb") as file:
        np.savez(file, **HUMAN)
    assert found == data.cifar10n("worse") == noise.Given(HUMAN["worse"], HUMAN["clean"])
    np.save(npy, HUMAN["worse"])
    with pytest.raises(ValueError, match="there is no 'worse' among no names"):
        data.cifar10n("worse")


def test_the_how_to_makes_a_file_of_the_published_one(monkeypatch, tmp_path):
    monkeypatch.setenv("SPARSEDD_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    columns = {"clean_label": HUMAN["clean"], "worse_label": HUMAN["worse"]}
    torch.save(columns, file := io.BytesIO(), _use_new_zipfile_serialization=False)
    published = file.getvalue().replace(b"numpy._core.", b"numpy.core.")  # as NumPy 1 wrote it
    (tmp_path / "CIFAR-10_human.pt").write_bytes(published)
    (code,) = blocks(Path(__file__).parent.parent / "docs" / "how-to" / "own-noise.md", "py")
    exec(code, {})
    assert data.cifar10n("worse") == noise.Given(torch.from_numpy(HUMAN["worse"]), torch.from_numpy(HUMAN["clean"]))
    (tmp_path / "CIFAR-10_human.pt").write_bytes(published.replace(b"_reconstruct", b"scalar"))
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        exec(code, {})


def test_labels_by_people_are_the_real_ones():
    real("cifar10.npz"), real("cifar10n.npz")
    source, shares = data.cifar10(), {}
    for name in ("aggregate", "random1", "random2", "random3", "worse"):
        noisy = NoisyLabels(source.train, data.cifar10n(name), num_classes=10)
        shares[name] = noisy.rate
    assert shares == {"aggregate": 0.0901, "random1": 0.17234, "random2": 0.18122, "random3": 0.1764, "worse": 0.40208}
    order = torch.randperm(50_000, generator=torch.Generator().manual_seed(0))
    inputs, targets = source.train.tensors
    with pytest.raises(ValueError, match=r"^44,956 of 50,000 labels of the data set are not .*TensorFlow"):
        NoisyLabels(torch.utils.data.TensorDataset(inputs, targets[order]), data.cifar10n("worse"))
