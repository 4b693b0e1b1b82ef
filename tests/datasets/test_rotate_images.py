"""The warp against torch.rot90 and scipy; the angles against their law."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats

from partial_equiv.datasets import rotate_images
from partial_equiv.datasets.rotation import normal_angles, random_angles, turn_randomly
from partial_equiv.errors import UserError


@settings(deadline=None, max_examples=30)
@given(side=st.integers(1, 40), channels=st.integers(1, 3), turns=st.integers(-4, 4))
def test_right_turns_equal_rot90(side, channels, turns):
    images = torch.rand(2, channels, side, side, generator=torch.Generator().manual_seed(side))
    for dtype, error in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
        turned = rotate_images(images.to(dtype), torch.tensor(turns * math.pi / 2, dtype=dtype))
        torch.testing.assert_close(turned, torch.rot90(images.to(dtype), turns, dims=(-2, -1)), atol=error, rtol=0)


def test_the_other_sign_is_wrong():
    images = torch.rand(1, 1, 9, 9)
    wrong = rotate_images(images, torch.tensor([-math.pi / 2]))
    assert (wrong - torch.rot90(images, 1, dims=(-2, -1))).abs().max() > 0.1


@settings(deadline=None, max_examples=20)
@given(height=st.integers(2, 20), width=st.integers(2, 20), degrees=st.floats(-360, 360))
def test_any_turn_equals_scipy(height, width, degrees):
    image = np.random.default_rng(height * width).random((height, width))
    ours = rotate_images(
        torch.from_numpy(image)[None, None], torch.tensor([math.radians(degrees)], dtype=torch.float64)
    )
    theirs = ndimage.rotate(image, degrees, reshape=False, order=1, mode="grid-constant", cval=0)
    np.testing.assert_allclose(ours[0, 0].numpy(), theirs, atol=1e-9)


def test_each_image_has_its_own_angle():
    images, angles = torch.rand(5, 2, 8, 8), torch.linspace(-3, 3, 5)
    together = rotate_images(images, angles)
    alone = torch.cat([rotate_images(images[i : i + 1], angles[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(together, alone, atol=0, rtol=0)


def test_chunks_change_nothing(monkeypatch):
    images, angles = torch.rand(7, 1, 6, 6), torch.linspace(-3, 3, 7)
    whole = rotate_images(images, angles)
    monkeypatch.setattr("partial_equiv.datasets.rotation.CHUNK", 2)
    torch.testing.assert_close(rotate_images(images, angles), whole, atol=0, rtol=0)


def test_bytes_are_rounded_and_keep_their_dtype():
    images = torch.randint(0, 256, (4, 1, 12, 12), dtype=torch.uint8)
    angles = torch.tensor([0.0, 0.3, math.pi, -2.0])
    turned = rotate_images(images, angles)
    assert turned.dtype == torch.uint8
    assert (turned.float() - rotate_images(images.float(), angles)).abs().max() <= 0.5 + 1e-3
    assert torch.equal(turned[2], torch.rot90(images[2], 2, dims=(-2, -1)))


def test_gradients_reach_images_and_angles():
    images = torch.rand(2, 1, 5, 5, dtype=torch.float64, requires_grad=True)
    angles = torch.tensor([0.3, -1.1], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(rotate_images, (images, angles))


def test_no_images_are_no_images():
    assert rotate_images(torch.zeros(0, 1, 4, 4), torch.zeros(0)).shape == (0, 1, 4, 4)


@pytest.mark.parametrize(
    ("images", "angles"),
    [
        (torch.zeros(4, 4), torch.zeros(1)),
        (torch.zeros(2, 1, 4, 4), torch.zeros(3)),
        (torch.zeros(1, 1, 4, 4, dtype=torch.int64), torch.zeros(1)),
    ],
)
def test_wrong_shapes_and_dtypes_are_told(images, angles):
    with pytest.raises(UserError, match="rotate_images takes"):
        rotate_images(images, angles)


def test_angles_are_uniform_repeatable_and_independent_of_company():
    index = torch.arange(20_000)
    angles = random_angles(index, rot_interval=45, seed=3)
    assert stats.kstest(np.degrees(angles.numpy()), "uniform", args=(-45, 90)).pvalue > 1e-3
    assert torch.equal(random_angles(index[17:18], rot_interval=45, seed=3), angles[17:18])
    for other in ({"seed": 4}, {"seed": 3, "stream": 1}):
        assert abs(np.corrcoef(random_angles(index, rot_interval=45, **other), angles)[0, 1]) < 0.03


def test_no_interval_leaves_pixels_alone():
    images = torch.randint(0, 256, (3, 1, 5, 5), dtype=torch.uint8)
    assert turn_randomly(images, torch.arange(3), rot_interval=0, seed=0) is images


@pytest.mark.parametrize("interval", [-1, 180.5, math.nan, math.inf])
def test_interval_out_of_range_is_told(interval):
    with pytest.raises(UserError, match="rot_interval"):
        random_angles(torch.arange(3), rot_interval=interval, seed=0)


def test_normal_angles_follow_their_law_and_depend_on_seed_stream_and_index_alone():
    index = torch.arange(10_000)
    angles = normal_angles(index, rot_normal=(45, 20), seed=3)
    degrees = np.degrees(angles.numpy())
    assert abs(degrees.mean() - 45) < 5 * 20 / math.sqrt(len(degrees))
    assert abs(degrees.std() - 20) < 5 * 20 / math.sqrt(2 * len(degrees))
    assert stats.kstest((degrees - 45) / 20, "norm").pvalue > 1e-3
    order = torch.randperm(10_000)
    assert torch.equal(normal_angles(order, rot_normal=(45, 20), seed=3), angles[order])
    assert torch.equal(normal_angles(index[7:8], rot_normal=(45, 20), seed=3), angles[7:8])
    for seed, stream in ((4, 0), (3, 1)):
        other = np.degrees(normal_angles(index, rot_normal=(45, 20), seed=seed, stream=stream).numpy())
        assert abs(np.corrcoef(degrees, other)[0, 1]) < 0.05


def test_a_normal_law_without_spread_is_its_mean():
    angles = normal_angles(torch.arange(50), rot_normal=(-90, 0), seed=0)
    torch.testing.assert_close(angles, torch.full((50,), -math.pi / 2, dtype=torch.float64))


@pytest.mark.parametrize("law", [(45,), (45, 20, 1), (45, -1), (math.inf, 1), (0, math.nan), ()])
def test_what_is_no_normal_law_is_told(law):
    with pytest.raises(UserError, match=r"is no normal law: give \[mean, std\] in degrees"):
        normal_angles(torch.arange(3), rot_normal=law, seed=0)
