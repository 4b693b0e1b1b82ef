"""CIFAR, STL-10 and PCam in small files of their published layouts."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from partial_equiv.datasets import augment_training, make_loader
from partial_equiv.datasets.cifar import (
    CIFAR10_FACTS,
    CIFAR10_SOURCE,
    CIFAR100_FACTS,
    CIFAR100_SOURCE,
    load_cifar10,
    load_cifar100,
    read_binary,
)
from partial_equiv.datasets.pcam import load_pcam
from partial_equiv.datasets.resizing import resize_images
from partial_equiv.datasets.stl10 import load_stl10, read_part
from partial_equiv.errors import UserError

COUNTS = {"no_train": None, "no_validation": 3, "no_test": None, "seed": 42}


def numbered(no_images, no_pixels):
    """Return flat images whose pixels, but for the second to fourth, are their position."""
    images = np.repeat(np.arange(no_images, dtype=np.uint8)[:, None], no_pixels, axis=1)
    images[:, 1:4] = 200
    return images


def positions_of(images):
    return set(images[:, 0, 0, 0].tolist())


def write_cifar(root, source, no_images_file, labels):
    """Write every file of the binary version, with numbered images."""
    folder = root / source.folder
    folder.mkdir()
    pixels = numbered(no_images_file * (len(source.train_files) + 1), 3072)
    for number, name in enumerate([*source.train_files, source.test_file]):
        part = slice(number * no_images_file, (number + 1) * no_images_file)
        coarse = np.full((no_images_file, source.no_label_bytes - 1), 77, dtype=np.uint8)
        records = np.concatenate([coarse, labels[part, None].astype(np.uint8), pixels[part]], axis=1)
        (folder / name).write_bytes(records.tobytes())


@pytest.mark.parametrize(("source", "facts"), [(CIFAR10_SOURCE, CIFAR10_FACTS), (CIFAR100_SOURCE, CIFAR100_FACTS)])
def test_cifar_records(tmp_path, source, facts):
    no_files = len(source.train_files)
    labels = np.arange(4 * (no_files + 1)) % facts.no_classes
    write_cifar(tmp_path, source, 4, labels)
    small = dataclasses.replace(facts, no_train=4 * no_files, no_test=4)
    pool, tested = read_binary(tmp_path, source, small, download=False)
    assert positions_of(pool.images) == set(range(4 * no_files))
    assert positions_of(tested.images) == set(range(4 * no_files, 4 * no_files + 4))
    assert torch.cat([pool.labels, tested.labels]).tolist() == labels.tolist()
    assert pool.images.shape == (4 * no_files, 3, 32, 32)
    assert pool.images[0, 0, 0, :5].tolist() == [0, 200, 200, 200, 0]  # red plane first, rows first


def test_cifar_labels_out_of_range_are_told(tmp_path):
    write_cifar(tmp_path, CIFAR10_SOURCE, 2, np.full(12, 10))
    with pytest.raises(UserError, match="holds label 10, CIFAR10 ends at 9"):
        read_binary(
            tmp_path, CIFAR10_SOURCE, dataclasses.replace(CIFAR10_FACTS, no_train=10, no_test=2), download=False
        )


@pytest.mark.parametrize(
    ("load", "archive"), [(load_cifar10, "cifar-10-binary.tar.gz"), (load_cifar100, "cifar-100-binary.tar.gz")]
)
def test_absent_cifar_is_told(tmp_path, load, archive):
    with pytest.raises(UserError, match=f"is missing: unpack {archive}"):
        load(root=str(tmp_path), size=None, download=False, **COUNTS)


def test_truncated_cifar_is_told(tmp_path):
    write_cifar(tmp_path, CIFAR10_SOURCE, 2, np.zeros(12))
    with pytest.raises(UserError, match=r"data_batch_1.bin is truncated \(6,146 bytes, 30,730,000 expected\)"):
        load_cifar10(root=str(tmp_path), size=None, download=False, **COUNTS)


def write_parts(folder, no_train=10, size=32, classes=10):
    folder.mkdir(exist_ok=True)
    images = numbered(2 * no_train + 4, size * size * 3).reshape(-1, size, size, 3)
    for name, part in (
        ("train_a", slice(0, no_train)),
        ("train_b", slice(no_train, 2 * no_train)),
        ("test_x", slice(2 * no_train, None)),
    ):
        np.savez(folder / f"cifar10_{name}.npz", images=images[part], labels=np.arange(len(images[part])) % classes)


@pytest.mark.parametrize("place", [".", "npz"])
def test_cifar10_from_npz_parts(tmp_path, place):
    write_parts(tmp_path / place)
    splits = load_cifar10(root=str(tmp_path), size=None, download=False, **COUNTS)
    assert [len(s) for s in splits[:3]] == [17, 3, 4]
    assert splits.info.note == "npz files: 20 of 50,000 training and 4 of 10,000 test images"
    assert splits.info.no_classes == 10
    train, validation = (positions_of(s.images) for s in (splits.train, splits.validation))
    assert train | validation == set(range(20))


@pytest.mark.parametrize("keys", [{"size": 28}, {"classes": 11, "no_train": 11}])
def test_npz_parts_that_are_not_cifar10_are_told(tmp_path, keys):
    write_parts(tmp_path, **keys)
    with pytest.raises(UserError, match="does not hold CIFAR-10 images"):
        load_cifar10(root=str(tmp_path), size=None, download=False, **COUNTS)


def test_real_cifar10_parts(real_data):
    splits = load_cifar10(root=str(real_data), size=None, download=False, **{**COUNTS, "no_validation": 2_000})
    assert [len(s) for s in splits[:3]] == [18_000, 2_000, 1_000]
    assert splits.info.crop_padding == 4
    train = {image.numpy().tobytes() for image in splits.train.images}
    assert not any(image.numpy().tobytes() in train for image in splits.test.images)


@pytest.mark.parametrize("size", [None, 32, 33])
def test_cifar_is_resized_at_loading_and_cropped_after(tmp_path, size):
    write_parts(tmp_path)
    published = load_cifar10(root=str(tmp_path), size=None, download=False, **COUNTS)
    splits = load_cifar10(root=str(tmp_path), size=size, download=False, **COUNTS)
    side = size or 32
    for before, after in zip(published[:3], splits[:3], strict=True):
        assert torch.equal(after.images, resize_images(before.images, (side, side)))
    assert splits.info.size == (side, side)
    assert splits.info.crop_padding == 4
    assert ("resized to 33x33" in splits.info.note) == (size == 33)
    augmented = augment_training(splits, "resnet", seed=0).train
    assert augmented[range(17)].images.shape == (17, 3, side, side)


def test_stl10_stores_columns_first(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (2, 3, 96, 96), dtype=np.uint8)
    image.transpose(0, 1, 3, 2).tofile(tmp_path / "train_X.bin")
    np.array([1, 10], dtype=np.uint8).tofile(tmp_path / "train_y.bin")
    images, labels = read_part(tmp_path, "train", 2, "remedy")
    assert np.array_equal(images.numpy(), image)
    assert labels.tolist() == [0, 9]
    np.array([0, 10], dtype=np.uint8).tofile(tmp_path / "train_y.bin")
    with pytest.raises(UserError, match="labels outside 1 to 10"):
        read_part(tmp_path, "train", 2, "remedy")


def test_stl10_splits(tmp_path, monkeypatch):
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    for part, no_images in (("train", 20), ("test", 6)):
        numbered(no_images, 3 * 96 * 96).tofile(folder / f"{part}_X.bin")
        np.ones(no_images, dtype=np.uint8).tofile(folder / f"{part}_y.bin")
    with pytest.raises(UserError, match=r"is truncated .*unpack stl10_binary.tar.gz"):
        load_stl10(root=str(tmp_path), download=False, **COUNTS)
    monkeypatch.setattr(
        "partial_equiv.datasets.stl10.FACTS", dataclasses.replace(CIFAR10_FACTS, size=(96, 96), no_train=20, no_test=6)
    )
    splits = load_stl10(root=str(tmp_path), download=False, **COUNTS)
    train, validation, test = (positions_of(s.images) for s in splits[:3])
    assert (train | validation, len(validation)) == (set(range(20)), 3)
    assert test == set(range(6))


def write_pcam(root, size=(96, 96)):
    for part, no_images in (("train", 6), ("valid", 4), ("test", 2)):
        for label in ("0", "1"):
            folder = root / "PCam" / part / label
            folder.mkdir(parents=True)
            for number in range(no_images):
                colour = (number * 10 + int(label), 20, 30)
                Image.new("RGB", size, colour).save(folder / f"{number}.png")


def test_pcam_is_read_on_demand_with_workers_as_without(tmp_path):
    write_pcam(tmp_path)
    splits = load_pcam(
        root=str(tmp_path), size=None, circle_crop=False, **{**COUNTS, "no_validation": None, "no_train": 9}
    )
    assert [len(s) for s in splits[:3]] == [9, 8, 4]
    assert not splits.train.in_memory
    for image_set in splits[:3]:
        for i in range(len(image_set)):
            image = image_set.raw(i)
            assert image.shape == (3, 96, 96)
            assert image[0, 0, 0] % 10 == image_set.labels[i]
            assert image[1:, 0, 0].tolist() == [20, 30]
    keys = {"batch_size": 4, "shuffle": True, "drop_last": False, "seed": 0}
    for alone, helped in zip(
        make_loader(splits.train, no_workers=0, **keys), make_loader(splits.train, no_workers=1, **keys), strict=True
    ):
        assert all(torch.equal(a, b) for a, b in zip(alone[:3], helped[:3], strict=True))


def test_pcam_is_resized_when_it_is_read(tmp_path):
    write_pcam(tmp_path)
    counts = {**COUNTS, "no_validation": None}
    splits, larger = (load_pcam(root=str(tmp_path), size=size, circle_crop=False, **counts) for size in (None, 97))
    for i in range(12):
        assert torch.equal(larger.train.raw(i), resize_images(splits.train.raw(i)[None], (97, 97))[0])
    assert larger.info.size == (97, 97)
    assert larger.info.note == "resized to 97x97"


def test_pcam_mishaps_are_told(tmp_path):
    with pytest.raises(UserError, match=r"train cannot be read .*PCam/{train,valid,test}"):
        load_pcam(root=str(tmp_path), size=None, circle_crop=False, **COUNTS)
    write_pcam(tmp_path, size=(32, 32))
    splits = load_pcam(root=str(tmp_path), size=None, circle_crop=False, **COUNTS)
    with pytest.raises(UserError, match="has 32x32 pixels, 96x96 are needed"):
        splits.train.raw(0)
    for path in (tmp_path / "PCam" / "train").rglob("*.png"):
        path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(UserError, match="missing or no readable image"):
        splits.train.raw(0)
    for path in (tmp_path / "PCam" / "test" / "1").iterdir():
        path.unlink()
    with pytest.raises(UserError, match=r"test holds the image folders {'0': 2, '1': 0}"):
        load_pcam(root=str(tmp_path), size=None, circle_crop=False, **COUNTS)
