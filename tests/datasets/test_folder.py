"""A folder of pictures against Pillow: layouts, the middle, brightness, and one sentence for every mishap."""

import numpy as np
import pytest
import torch
from PIL import Image

from partial_equiv.datasets import DATASETS, make_loader
from partial_equiv.datasets.folder import load_folder, square
from partial_equiv.datasets.pictures import to_grey
from partial_equiv.errors import UserError

KEYS = {
    "test_root": None,
    "size": 16,
    "grey": False,
    "no_train": None,
    "no_validation": None,
    "no_test": None,
    "seed": 42,
}


def colour(number, height=24, width=32):
    """Return a picture with some structure whose red channel starts with its number."""
    pixels = np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)


def plain(number, side=16):
    """Return a picture of one colour that tells its number."""
    return Image.new("RGB", (side, side), (number, 0, 255 - number))


def fill(folder, numbers, ending=".png"):
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        plain(number).save(folder / f"{number:03d}{ending}")
    return folder


def numbers_of(image_set):
    return image_set.images[torch.arange(len(image_set))][:, 0, 0, 0].tolist()


def test_a_flat_folder_has_no_labels(tmp_path):
    fill(tmp_path, range(20))
    fill(tmp_path, range(20, 30), ".bmp")
    (tmp_path / "notes.txt").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "._000.png").write_bytes(b"no picture")
    splits = load_folder(root=str(tmp_path), **KEYS)
    info = splits.info
    assert (info.labelled, info.no_classes, info.in_channels, info.size, info.note) == (
        False,
        1,
        3,
        (16, 16),
        "no labels",
    )
    parts = [numbers_of(s) for s in splits[:3]]
    assert [len(part) for part in parts] == [22, 2, 6]
    assert sorted(number for part in parts for number in part) == list(range(30))
    assert not any(s.labels.any() or s.in_memory for s in splits[:3])


def test_class_folders_give_the_labels(tmp_path):
    fill(tmp_path / "train" / "b", range(10, 20))
    fill(tmp_path / "train" / "a", range(10))
    fill(tmp_path / "train" / ".thumbnails", range(3))
    fill(tmp_path / "test" / "b", range(30, 33))
    splits = load_folder(root=str(tmp_path / "train"), **{**KEYS, "test_root": str(tmp_path / "test")})
    assert splits.info.class_names == ("a", "b")
    assert splits.info.labelled and splits.info.note == ""
    for image_set in splits[:2]:
        assert image_set.labels.tolist() == [int(number >= 10) for number in numbers_of(image_set)]
    assert numbers_of(splits.test) == [30, 31, 32] and splits.test.labels.tolist() == [1, 1, 1]


def test_mean_and_deviation_are_those_of_the_training_images(tmp_path):
    fill(tmp_path, range(0, 250, 10))
    splits = load_folder(root=str(tmp_path), **KEYS)
    batch = splits.train[range(len(splits.train))]
    assert batch.images[:, [0, 2]].mean((0, 2, 3)).abs().max() < 1e-4
    assert batch.images[:, [0, 2]].std((0, 2, 3), correction=0) == pytest.approx(1, abs=1e-4)
    assert splits.info.std[1] == 1


@pytest.mark.parametrize("shape", [(24, 32), (32, 24), (16, 16), (10, 12)])
def test_an_image_is_the_middle_of_its_resized_picture(shape):
    picture = torch.from_numpy(np.array(colour(3, *shape))).permute(2, 0, 1)
    image = square(picture, size=16, grey=False)
    least = min(shape)
    height, width = (int(16 * side / least) for side in shape)
    resized = np.asarray(
        Image.fromarray(picture.permute(1, 2, 0).numpy()).resize((width, height), Image.Resampling.BILINEAR)
    )
    top, left = (round((side - 16) / 2) for side in (height, width))  # as torchvision does
    gap = resized[top : top + 16, left : left + 16].astype(int) - image.permute(1, 2, 0).numpy()
    assert image.shape == (3, 16, 16)
    assert abs(gap).max() <= 1


def test_brightness_is_that_of_pillow():
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    grey = to_grey(torch.from_numpy(pixels).permute(2, 0, 1))
    assert grey.dtype == torch.uint8
    assert np.array_equal(grey[0].numpy(), np.array(Image.fromarray(pixels).convert("L")))
    levels = torch.arange(256, dtype=torch.uint8).expand(3, 1, 256)
    assert torch.equal(to_grey(levels), levels[:1])


def test_grey_images_turn_by_a_law_and_are_read_by_workers(tmp_path):
    for number in range(12):
        colour(number).save(tmp_path / f"{number:02d}.jpg")
    keys = {**KEYS, "grey": True, "root": str(tmp_path)}
    upright, turned = load_folder(**keys), DATASETS["folder"](law="cyclic:4", **keys)
    assert turned.info.in_channels == 1 and turned.info.note == "images turned by cyclic:4; no labels"
    index = torch.arange(len(upright.train))
    turns = (turned.train.poses / (torch.pi / 2)).round().int().tolist()
    for before, turn, after in zip(upright.train.images[index], turns, turned.train.images[index], strict=True):
        assert torch.equal(after, torch.rot90(before, turn, dims=(-2, -1)))
    recipe = {"batch_size": 5, "shuffle": True, "drop_last": False, "seed": 0}
    alone, helped = (make_loader(turned.train, no_workers=n, **recipe) for n in (0, 1))
    for one, other in zip(alone, helped, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_broken_picture_is_named(tmp_path):
    fill(tmp_path, range(9))
    (tmp_path / "004.png").write_bytes((tmp_path / "004.png").read_bytes()[:60])
    with pytest.raises(
        UserError, match=r"004\.png is missing or no readable image \(.*\): mend or delete it$"
    ) as caught:
        # At once if it is among the first training images, else when its batch is fetched.
        [numbers_of(image_set) for image_set in load_folder(root=str(tmp_path), **KEYS)[:3]]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("layout", "keys", "message"),
    [
        ({}, {}, "holds no class folders: give a folder of pictures"),
        ({"": range(3), "a": range(3)}, {}, r"holds pictures \(000.png\) beside class folders \(a\): move"),
        ({"a": range(3)}, {}, "holds the one class a: at least 2 are needed"),
        ({"a": range(3), "b": []}, {}, "b holds no image: fill or delete it"),
        ({"": range(2)}, {}, "dataset.root holds 2 images: training, validation and test need at least 3"),
        ({"": range(9)}, {"size": 4}, "dataset.size=4 is out of range"),
        ({"": range(9)}, {"no_train": 9}, "dataset.no_train=9 is out of range: give 1 to 7"),
        ({"": range(9)}, {"test_root": "none"}, "none cannot be read"),
        ({"": range(9)}, {"test_root": ""}, "dataset.test_root is empty: give a folder of pictures"),
        ({"": range(9)}, {"root": None}, "dataset.root is empty: give a folder of pictures"),
    ],
)
def test_what_does_not_fit_is_told(tmp_path, layout, keys, message):
    for name, numbers in layout.items():
        fill(tmp_path / name, numbers)
    with pytest.raises(UserError, match=message):
        load_folder(**{"root": str(tmp_path), **KEYS, **keys})


def test_folders_of_two_layouts_are_told(tmp_path):
    flat, named = fill(tmp_path / "flat", range(5)), tmp_path / "named"
    fill(named / "a", range(5))
    fill(named / "b", range(5))
    for root, test_root, bare in ((flat, named, "root"), (named, flat, "test_root")):
        with pytest.raises(UserError, match=rf"dataset\.{bare} has no class folders, the other has"):
            load_folder(root=str(root), **{**KEYS, "test_root": str(test_root)})
    fill(tmp_path / "other" / "c", range(3))
    with pytest.raises(UserError, match="c is a class without training images"):
        load_folder(root=str(named), **{**KEYS, "test_root": str(tmp_path / "other")})
