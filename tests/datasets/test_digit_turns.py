"""Turned digits as views: the angle in the latents is the angle of the turn, and the splits are those of the digits."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from partial_equiv.datasets.digit_turns import digit_turns_info, load_digit_turns
from partial_equiv.datasets.digits import load_digits, read_upright
from partial_equiv.errors import UserError

KEYS = {
    "size": 20,
    "no_views": 4,
    "rot_interval": 180,
    "pairs_per_object": 2,
    "no_train": 30,
    "no_validation": 20,
    "no_test": 25,
    "seed": 42,
}


def load(**keys):
    return load_digit_turns(**{**KEYS, **keys})


def digits(**keys):
    common = {key: KEYS[key] for key in ("size", "rot_interval", "no_train", "no_validation", "no_test", "seed")}
    return load_digits(**{**common, "copies": 4, **keys})


def test_views_are_the_turned_copies_of_the_digits():
    """Also proves that no source is in two splits, which is proven of the digits."""
    found, expected = load(), digits()
    copies = expected.train.images.unflatten(0, (4, 30)).transpose(0, 1).flatten(0, 1)
    assert torch.equal(found.train.images, copies)
    assert torch.equal(found.train.latents[:, :, 2], expected.train.poses.unflatten(0, (4, 30)).T)
    for name in ("validation", "test"):
        one, other = getattr(found, name), getattr(expected, name)
        assert torch.equal(one.images[:: one.no_views], other.images)
        assert torch.equal(one.labels, other.labels)


def test_a_positive_angle_turns_counter_clockwise_as_scipy_does():
    splits = load()
    upright = (digits(rot_interval=0, copies=1).train.images / 255).numpy()
    images, angles = splits.train.images.unflatten(0, (30, 4)), splits.train.latents[:, :, 2]
    for number in range(5):
        expected = ndimage.rotate(
            upright[number, 0], math.degrees(angles[number, 1]), reshape=False, order=1, mode="constant"
        )
        error = np.abs(images[number, 1, 0].numpy() / 255 - expected)
        assert error.mean() < 0.01
        wrong = ndimage.rotate(upright[number, 0], -math.degrees(angles[number, 1]), reshape=False, order=1)
        assert np.abs(images[number, 1, 0].numpy() / 255 - wrong).mean() > 2 * error.mean()


def test_angles_fill_their_interval_and_no_other_column():
    latents = load(rot_interval=60, no_views=50).train.latents
    assert not latents[:, :, :2].any()
    bound = math.radians(60)
    assert latents.abs().max() <= bound + 1e-6
    assert latents[:, :, 2].max() > 0.95 * bound and latents[:, :, 2].min() < -0.95 * bound
    assert latents[:, :, 2].mean().abs() < 0.1 * bound


@pytest.mark.parametrize("keys", [{}, {"size": 28, "no_train": None, "rot_interval": 0}])
def test_facts_need_no_drawing(keys):
    info = load(**keys).info
    told = digit_turns_info(**{**KEYS, **keys})
    assert info.note.startswith(f"{told.note}; ")  # and which classes the few test images lack
    assert dataclasses.replace(info, note=told.note) == told
    assert info.no_train == 2 * (1_377 if "no_train" in keys else 30)
    assert (info.in_channels, info.no_classes, info.latents) == (1, 10, ("ex", "ey", "ez"))
    assert ("180 degrees" in info.note) == (not keys)
    assert "objects of 4 views" in info.note


def test_upright_views_are_all_alike():
    splits = load(rot_interval=0, no_views=2)
    pair = splits.test[[0]].images[0]
    assert torch.equal(pair[0], pair[1])
    upright = {image.numpy().tobytes() for image in (read_upright(20)[0] * 255).round().byte()}
    assert splits.test.raw(0).numpy().tobytes() in upright


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"no_views": 1}, "dataset.no_views=1 is out of range: give 2 to "),
        ({"no_views": 10**6}, "dataset.no_views=1000000 is out of range"),
        ({"rot_interval": 200}, "rot_interval=200 is out of range"),
        ({"size": 7}, "dataset.size=7 is out of range"),
        ({"no_test": 401}, "dataset.no_test=401 is out of range: give 1 to 400"),
        ({"no_validation": 1_397}, "dataset.no_validation=1397 is out of range"),
        ({"pairs_per_object": 0}, "dataset.pairs_per_object=0 is out of range"),
    ],
)
def test_values_out_of_range_are_told(keys, message):
    with pytest.raises(UserError, match=message):
        load(**keys)
