"""Flowers-102 in a synthetic copy of its published layout: 8,189 names, few different pictures."""

import hashlib
import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat
from torchvision.transforms import CenterCrop, Compose, Resize

from partial_equiv.datasets import augment_training, expected_info
from partial_equiv.datasets.augmentation import InceptionCrop
from partial_equiv.datasets.flowers import (
    ARCHIVE,
    ARCHIVE_MD5,
    FOLDER,
    LABELS,
    LABELS_MD5,
    PARTS,
    PARTS_MD5,
    load_flowers102,
)
from partial_equiv.errors import UserError

KEYS = {
    "download": False,
    "size": None,
    "join_validation": False,
    "no_train": None,
    "no_validation": None,
    "no_test": None,
    "seed": 42,
}
NO_COLOURS = 32
ORDER = np.random.default_rng(0).permutation(8_189) + 1
NUMBERS = {"trnid": ORDER[:1_020], "valid": ORDER[1_020:2_040], "tstid": ORDER[2_040:]}
CLASSES = np.arange(8_189) % 102 + 1


def write_matrices(folder):
    savemat(folder / LABELS, {"labels": CLASSES.astype(np.uint8)[None]})
    savemat(folder / PARTS, {key: part.astype(np.uint16)[None] for key, part in NUMBERS.items()})


@pytest.fixture(autouse=True)
def _checksums(flowers, monkeypatch):
    """Take the synthetic files for the published ones."""
    for name, constant in ((LABELS, "LABELS_MD5"), (PARTS, "PARTS_MD5")):
        found = hashlib.md5((flowers / FOLDER / name).read_bytes()).hexdigest()
        monkeypatch.setattr(f"partial_equiv.datasets.flowers.{constant}", found)


@pytest.fixture(scope="module")
def flowers(tmp_path_factory):
    """A root whose picture number n has one colour, with the red of n % 32 * 8."""
    root = tmp_path_factory.mktemp("flowers")
    folder = root / FOLDER
    (folder / "jpg").mkdir(parents=True)
    write_matrices(folder)
    for colour in range(NO_COLOURS):
        Image.new("RGB", (60, 40), (colour * 8, 0, 0)).save(root / f"{colour}.jpg", quality=95)
    for number in range(1, 8_190):
        os.link(root / f"{number % NO_COLOURS}.jpg", folder / "jpg" / f"image_{number:05d}.jpg")
    return root


@pytest.fixture
def copied(flowers, tmp_path):
    """A root that shares the pictures and may be damaged elsewhere."""
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "jpg").symlink_to(flowers / FOLDER / "jpg")
    for name in (LABELS, PARTS):
        shutil.copy(flowers / FOLDER / name, tmp_path / FOLDER / name)
    return tmp_path


def colours_of(image_set, positions):
    return [round(int(image_set.raw(position)[0, 0, 0]) / 8) for position in positions]


def test_splits_are_the_published_ones(flowers):
    splits = load_flowers102(root=str(flowers), **KEYS)
    assert [len(s) for s in splits[:3]] == [1_020, 1_020, 6_149]
    assert splits.info.note == ""
    assert splits.info.size == (224, 224)
    for image_set, key in zip(splits[1:3], ("valid", "tstid"), strict=True):
        assert image_set.labels.tolist() == (CLASSES[NUMBERS[key] - 1] - 1).tolist()
        some = [0, 5, len(image_set) - 1]
        assert colours_of(image_set, some) == (NUMBERS[key][some] % NO_COLOURS).tolist()
    assert sorted(splits.train.labels.tolist()) == sorted((CLASSES[NUMBERS["trnid"] - 1] - 1).tolist())


def test_joined_parts_are_cut_into_training_and_validation(flowers):
    keys = {**KEYS, "join_validation": True, "no_validation": 204}
    splits = load_flowers102(root=str(flowers), **keys)
    assert [len(s) for s in splits[:3]] == [1_836, 204, 6_149]
    together = torch.cat([splits.train.labels, splits.validation.labels])
    due = CLASSES[np.concatenate([NUMBERS["trnid"], NUMBERS["valid"]]) - 1] - 1
    assert together.bincount().tolist() == np.bincount(due).tolist()
    names = [set(s.images.store.names.tolist()) for s in splits[:3]]
    assert len(names[0] | names[1] | names[2]) == 8_189
    facts = expected_info("Flowers102", keys)
    assert (facts.no_train, facts.no_validation, facts.no_test) == (1_836, 204, 6_149)


def test_images_are_the_middle_of_a_larger_picture(flowers, copied):
    (copied / FOLDER / "jpg").unlink()
    shutil.copytree(flowers / FOLDER / "jpg", copied / FOLDER / "jpg", copy_function=os.link)
    path = copied / FOLDER / "jpg" / f"image_{NUMBERS['tstid'][0]:05d}.jpg"
    path.unlink()
    pixels = np.random.default_rng(1).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((500, 331)).save(path)
    for size, shorter in ((224, 256), (225, 257), (97, 111)):
        splits = load_flowers102(root=str(copied), **{**KEYS, "size": size})
        with Image.open(path) as image:
            expected = np.asarray(Compose([Resize(shorter), CenterCrop(size)])(image)).transpose(2, 0, 1)
        assert np.abs(splits.test.raw(0).numpy().astype(int) - expected).max() <= 1
        assert splits.info.size == (size, size)


def test_inception_changes_training_images_alone(flowers):
    splits = load_flowers102(root=str(flowers), **{**KEYS, "size": 33})
    augmented = augment_training(splits, "inception", seed=3)
    assert augmented.train.augmentation == InceptionCrop(((0.08, 1.0), (3 / 4, 4 / 3)), (33, 33), 3)
    assert augmented.train[[0, 7]].images.shape == (2, 3, 33, 33)
    assert augmented.test is splits.test


@pytest.mark.parametrize("name", [LABELS, PARTS])
def test_absent_and_changed_matrices_are_told(copied, name):
    path = copied / FOLDER / name
    whole = path.read_bytes()
    for content in (b"", whole[:-1], whole + b"x", bytes([whole[0] ^ 1]) + whole[1:]):
        path.write_bytes(content)
        with pytest.raises(UserError, match=f"{name} is truncated or not the published file .*delete it, then unpack"):
            load_flowers102(root=str(copied), **KEYS)
    path.unlink()
    with pytest.raises(UserError, match=f"{name} is missing: unpack {ARCHIVE} into .*dataset.download=true"):
        load_flowers102(root=str(copied), **KEYS)
    path.mkdir()
    with pytest.raises(UserError, match=f"{name} cannot be read"):
        load_flowers102(root=str(copied), **KEYS)


def test_missing_and_broken_pictures_are_told(flowers, copied):
    (copied / FOLDER / "jpg").unlink()
    with pytest.raises(UserError, match=r"lacks 8,189 of 8,189 pictures, the first is image_00001.jpg: unpack"):
        load_flowers102(root=str(copied), **KEYS)
    shutil.copytree(flowers / FOLDER / "jpg", copied / FOLDER / "jpg", copy_function=os.link)
    first = copied / FOLDER / "jpg" / f"image_{NUMBERS['tstid'][0]:05d}.jpg"
    first.unlink()
    with pytest.raises(UserError, match=f"lacks 1 of 8,189 pictures, the first is {first.name}"):
        load_flowers102(root=str(copied), **KEYS)
    first.write_bytes(b"no picture")
    with pytest.raises(UserError, match=f"{first.name} is missing or no readable image"):
        load_flowers102(root=str(copied), **KEYS).test.raw(0)


def test_sizes_out_of_range_are_told_before_a_file_is_read():
    for size in (7, 897):
        with pytest.raises(UserError, match=f"dataset.size={size} is out of range: give 8 to 896 pixels"):
            load_flowers102(root="nowhere", **{**KEYS, "size": size})


def test_download_takes_what_is_missing(flowers, copied, monkeypatch):
    calls = []

    def fetched(urls, md5, unpack, remedy):
        calls.append((urls, md5))
        for name, target in unpack.items():
            target.parent.mkdir(exist_ok=True)
            os.link(flowers / FOLDER / name, target)

    monkeypatch.setattr("partial_equiv.datasets.flowers.fetch", fetched)
    (copied / FOLDER / "jpg").unlink()
    (copied / FOLDER / LABELS).unlink()
    assert len(load_flowers102(root=str(copied), **{**KEYS, "download": True}).test) == 6_149
    prefix = "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/"
    assert [urls for urls, _ in calls] == [[prefix + LABELS], [prefix + ARCHIVE]]
    assert calls[1][1] == ARCHIVE_MD5
    calls.clear()
    load_flowers102(root=str(copied), **{**KEYS, "download": True})
    assert not calls


def test_addresses_and_checksums_are_torchvisions():
    from torchvision.datasets import Flowers102

    assert Flowers102._file_dict == {
        "image": (ARCHIVE, ARCHIVE_MD5),
        "label": (LABELS, LABELS_MD5),
        "setid": (PARTS, PARTS_MD5),
    }


def test_torchvision_reads_the_same(flowers, monkeypatch):
    from torchvision.datasets import Flowers102

    monkeypatch.setattr(Flowers102, "_check_integrity", lambda self: True)  # the checksums are those of the real files
    ours = load_flowers102(root=str(flowers), **KEYS)
    for image_set, split in ((ours.validation, "val"), (ours.test, "test")):
        theirs = Flowers102(str(flowers), split=split)
        assert [str(path.name) for path in theirs._image_files] == [
            name.rpartition("/")[2] for name in image_set.images.store.names
        ]
        assert theirs._labels == image_set.labels.tolist()
