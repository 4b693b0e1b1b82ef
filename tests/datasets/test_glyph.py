"""The drawn pair: no symmetry of its own, and tap means that tell image from turn on inexact grids alone."""

import itertools
import math

import pytest
import torch
from torch.nn import functional

from partial_equiv.datasets import expected_info
from partial_equiv.datasets.glyph import draw_glyph, load_glyph
from partial_equiv.errors import UserError

KEYS = {"size": 32, "copies": 1, "seed": 42}


def quarter(images, turns=1):
    return torch.rot90(images, turns, dims=(-2, -1))


def tap_means(image, kernel=3, stride=2, padding=1):
    """Return the mean of what each tap of a kernel sees, by a slow loop over its places."""
    size = image.shape[-1]
    no_places = (size + 2 * padding - kernel) // stride + 1
    means = torch.zeros(kernel, kernel, dtype=torch.float64)
    for u, v in itertools.product(range(kernel), repeat=2):
        for i, j in itertools.product(range(no_places), repeat=2):
            row, column = i * stride + u - padding, j * stride + v - padding
            if 0 <= row < size and 0 <= column < size:
                means[u, v] += float(image[0, row, column]) / no_places**2
    return means


def test_every_split_holds_the_image_and_its_quarter_turn():
    splits = load_glyph(**{**KEYS, "copies": 3})
    assert [len(s) for s in splits[:3]] == [6, 2, 2]
    assert (splits.info.no_train, splits.info.no_validation, splits.info.no_test) == (6, 2, 2)
    assert splits.train.labels.tolist() == [0, 1] * 3
    for image_set in splits[:3]:
        assert torch.equal(image_set.images[1::2], quarter(image_set.images[0::2]))
        assert torch.equal(image_set.images[:2], splits.test.images)
    assert splits.info.note == "one image and its quarter turn, for training, validation and test alike"


def test_batches_have_mean_0_and_deviation_1():
    batch = load_glyph(**KEYS).train[range(2)].images
    assert batch.mean().abs() < 1e-5
    assert batch.std(correction=0).item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("seed", [0, 1, 42])
@pytest.mark.parametrize("size", [8, 32, 33])
def test_the_orbit_has_eight_images(size, seed):
    image = draw_glyph(size, seed).int()
    orbit = [quarter(each, turns) for each in (image, image.flip(-1)) for turns in range(4)]
    for one, other in itertools.combinations(orbit, 2):
        assert (one - other).abs().float().mean() > 10


@pytest.mark.parametrize("seed", [0, 1, 42])
def test_tap_means_tell_the_turn_on_inexact_grids_alone(seed):
    for size, exact in ((31, True), (32, False), (33, True)):
        before, after = (tap_means(each) for each in load_glyph(size=size, copies=1, seed=seed).test[range(2)].images)
        error = (after - quarter(before)).abs().max()
        assert error < 1e-12 if exact else error > 0.3


def test_the_least_network_learns_the_turn_iff_the_grid_is_inexact():
    finals = {}
    for size in (32, 33):
        images, labels, *_ = load_glyph(**{**KEYS, "size": size}).train[range(2)]
        torch.manual_seed(0)
        conv, head = torch.nn.Conv2d(1, 1, 3, stride=2, padding=1), torch.nn.Linear(1, 2)
        optimizer = torch.optim.SGD([*conv.parameters(), *head.parameters()], lr=1e-2, momentum=0.9)
        for _ in range(150):
            turned = torch.cat([quarter(conv.weight, r) for r in range(4)])
            maps = functional.conv2d(images, turned, conv.bias.expand(4), stride=2, padding=1)
            loss = functional.cross_entropy(head(maps.mean((-2, -1)).amax(1, keepdim=True)), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        finals[size] = loss.item()
    assert finals[32] < 0.05
    assert finals[33] == pytest.approx(math.log(2), abs=1e-3)


def test_seeds_repeat_and_differ():
    assert torch.equal(draw_glyph(32, 5), draw_glyph(32, 5))
    assert not torch.equal(draw_glyph(32, 5), draw_glyph(32, 6))


def test_facts_before_loading_are_those_of_the_drawing():
    keys = {"size": 33, "copies": 4, "seed": 7}
    assert expected_info("glyph", keys) == load_glyph(**keys).info


@pytest.mark.parametrize(("key", "value"), [("size", 7), ("size", 257), ("copies", 0)])
def test_values_out_of_range_are_told(key, value):
    with pytest.raises(UserError, match=f"dataset.{key}={value} is out of range"):
        load_glyph(**{**KEYS, key: value})
