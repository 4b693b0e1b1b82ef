"""Any image set under any law: angles against PIL, exact quarter turns, sets on disk, and laws that do not fit."""

import inspect
import math

import numpy as np
import pytest
import torch
from PIL import Image

from partial_equiv.datasets import (
    DATASETS,
    VIEW_SETS,
    Batch,
    DatasetInfo,
    ImageSet,
    Law,
    Splits,
    augment_training,
    make_loader,
    parse_laws,
    rotate_images,
    turn_by_laws,
)
from partial_equiv.datasets.digits import load_digits
from partial_equiv.datasets.info import CropLaw
from partial_equiv.errors import UserError
from tests.datasets.on_disk import OnDisk

FACTS = DatasetInfo("toy", 1, 3, (20, 20), (0.5,), (0.5,), ("a", "b", "c"), 60, 60, 60, crop_padding=2)
DIGITS = {"size": 28, "rot_interval": 0, "copies": 1, "no_train": 40, "no_validation": 20, "no_test": 30, "seed": 42}


def smooth_images(no_images, side=20):
    """Return images without sharp edges, so that two interpolations agree."""
    coarse = torch.rand(no_images, 1, 5, 5)
    fine = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bicubic", align_corners=False)
    return (fine.clamp(0, 1) * 255).to(torch.uint8)


def toy(wrapped=lambda images: images, info=FACTS):
    images = [wrapped(smooth_images(60)) for _ in range(3)]
    return Splits(*(ImageSet(x, torch.arange(60) % 3, mean=[0.5], std=[0.5]) for x in images), info)


def test_images_turn_as_pillow_turns_them():
    upright = toy()
    splits = turn_by_laws(upright, parse_laws(["uniform:60", "normal:30", "full"], 3), 42)
    for before, after in zip(upright[:3], splits[:3], strict=True):
        for image, pose, found in zip(before.images, after.poses.tolist(), after.images, strict=True):
            expected = Image.fromarray(image[0].numpy()).rotate(math.degrees(pose), Image.Resampling.BILINEAR)
            gap = torch.from_numpy(np.array(expected)).int() - found[0].int()
            assert gap[5:-5, 5:-5].abs().max() <= 2  # Pillow rounds its weights; the frame is its own matter
    assert splits.test.poses.abs().max() > 1  # else the sign would not be seen


def test_poses_are_the_angles_of_each_class_and_of_each_split():
    laws = parse_laws(["none", "uniform:60", "cyclic:3"], 3)
    splits = turn_by_laws(toy(), laws, 7)
    for stream, image_set in enumerate(splits[:3]):
        for position, (label, pose) in enumerate(zip(image_set.labels.tolist(), image_set.poses.tolist(), strict=True)):
            due = laws[label].angles(torch.tensor([position]), seed=7, stream=stream).item()
            assert pose == pytest.approx(due, abs=1e-6)
    moving = splits.train.labels == 1
    for one, other in (
        (splits.train, splits.validation),
        (splits.train, splits.test),
        (splits.validation, splits.test),
    ):
        assert not (one.poses[moving] == other.poses[moving]).any()
    assert splits.info.laws == laws
    assert splits.info.note == "images turned by none (class 0), uniform:60 (class 1), cyclic:3 (class 2)"


def test_quarter_turns_are_exact():
    upright = toy()
    splits = turn_by_laws(upright, parse_laws("cyclic:4", 3), 0)
    turns = (splits.train.poses / (math.pi / 2)).round().int()
    assert set(turns.tolist()) == {-1, 0, 1, 2}
    for image, turn, found in zip(upright.train.images, turns.tolist(), splits.train.images, strict=True):
        assert torch.equal(found, torch.rot90(image, turn, dims=(-2, -1)))


def test_images_on_disk_turn_when_fetched_with_workers_as_without():
    torch.manual_seed(0)
    held = turn_by_laws(toy(), parse_laws("uniform:90", 3), 5)
    torch.manual_seed(0)
    fetched = turn_by_laws(toy(OnDisk), parse_laws("uniform:90", 3), 5)
    assert held.train.in_memory and not fetched.train.in_memory
    index = torch.tensor([3, 50, 3, 7])
    for one, other in zip(held[:3], fetched[:3], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one[index], other[index], strict=True))
        assert torch.equal(one.raw(4), other.raw(4))
    recipe = {"batch_size": 25, "shuffle": True, "drop_last": False, "seed": 0}
    alone, helped = (make_loader(fetched.train, no_workers=n, **recipe) for n in (0, 2))
    for one, other in zip(alone, helped, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_batch_carries_poses_until_it_is_augmented():
    splits = turn_by_laws(toy(), parse_laws("full", 3), 5)
    assert torch.equal(splits.train[[3, 4]].pose, splits.train.poses[3:5])
    assert splits.train.poses.dtype == torch.float32
    augmented = augment_training(splits, "resnet", 0)
    assert augmented.train[[3, 4]].pose is None
    assert augmented.test[[3, 4]].pose is not None
    assert toy().train[[3, 4]].pose is None
    assert Batch(torch.zeros(1), torch.zeros(1), torch.zeros(1)).pose is None


def test_test_images_may_stay_upright():
    upright = toy()
    splits = turn_by_laws(upright, parse_laws("full", 3), 5, turn_test=False)
    assert torch.equal(splits.test.images, upright.test.images)
    assert not splits.test.poses.any()
    assert not torch.equal(splits.validation.images, upright.validation.images)
    assert splits.info.note == "test images upright; images turned by full"


def test_digits_by_their_key_and_by_a_law_are_turned_about_their_centre_alike():
    laws = ["none"] + [f"uniform:{18 * d}" for d in range(1, 10)]
    splits, upright = DATASETS["digits"](law=laws, **DIGITS), load_digits(**DIGITS)
    for before, after in zip(upright[:3], splits[:3], strict=True):
        assert torch.equal(after.labels, before.labels)
        assert not before.poses.any()
        still = after.poses == 0
        assert torch.equal(after.images[still], before.images[still])
        gap = rotate_images(before.images, after.poses.double()).int() - after.images.int()
        assert gap.abs().max() <= 1  # a pose is kept in single precision
        bounds = torch.deg2rad(18.0 * after.labels)
        assert (after.poses.abs() <= bounds + 1e-6).all()
        assert (after.poses.abs() > 0.5 * bounds).any()


def test_sets_that_turn_their_images_say_by_which_law():
    splits = load_digits(**{**DIGITS, "rot_interval": 60, "copies": 2})
    assert splits.info.laws == (Law("uniform", 60),) * 10
    upright = load_digits(**{**DIGITS, "copies": 2})
    gap = rotate_images(upright.train.images, splits.train.poses.double()).int() - splits.train.images.int()
    assert gap.abs().max() <= 2  # there the digits turn before they are rounded
    assert len(set(splits.train.poses.tolist())) == 80


@pytest.mark.parametrize("name", sorted(DATASETS.keys() - VIEW_SETS.keys()))
def test_every_set_takes_a_law(name):
    parameter = inspect.signature(DATASETS[name]).parameters["law"]
    assert parameter.kind is parameter.KEYWORD_ONLY
    assert parameter.default is None
    with pytest.raises(UserError, match="law='uniform:900' is no law of angles"):
        DATASETS[name](law="uniform:900")


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [("digits", "rot_interval", 180), ("MNIST", "rot_normal", [0, 3]), ("rotMNIST", "rot_interval", 180)],
)
def test_two_laws_are_one_too_many(name, key, value):
    with pytest.raises(
        UserError, match=rf"dataset\.{key}=.* and dataset\.law=full would both turn .*: add dataset\.{key}="
    ):
        DATASETS[name](law="full", **{key: value})


def test_laws_that_do_not_fit_are_told():
    splits = load_digits(**{**DIGITS, "rot_interval": 60})
    with pytest.raises(
        UserError, match="dataset=digits has turned its images by uniform:60, and dataset.law=full would"
    ):
        turn_by_laws(splits, parse_laws("full", 10), 0)
    with pytest.raises(UserError, match="2 laws of angles are given .* give one for each of the 3 classes"):
        turn_by_laws(toy(), parse_laws("full", 2), 0)


def test_boxes_are_not_cut_from_pictures_that_turn():
    info = DatasetInfo(
        "toy", 1, 3, (20, 20), (0.5,), (0.5,), ("a", "b", "c"), 6, 6, 6, crop_law=CropLaw((0.1, 1), (1, 1))
    )
    splits = turn_by_laws(toy(OnDisk, info), parse_laws("full", 3), 0)
    with pytest.raises(UserError, match="cuts boxes from upright pictures, dataset.law turns them: leave one out"):
        augment_training(splits, "inception", 0)
