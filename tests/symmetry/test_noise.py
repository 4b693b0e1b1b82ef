"""The noise floor recovers the noise that was put in."""

import math

import pytest
import torch

from partial_equiv.errors import UserError
from partial_equiv.symmetry import noise_floor, wrap


def differences(noise, seed=0):
    """Return differences of two poses, each with the noise."""
    first, second = noise * torch.randn(2, 5000, generator=torch.Generator().manual_seed(seed))
    return wrap(first - second)


@pytest.mark.parametrize("degrees", [0.5, 3, 8])
def test_the_noise_of_one_pose_is_found(degrees):
    assert math.degrees(noise_floor(differences(math.radians(degrees)))) == pytest.approx(degrees, rel=0.05)


def test_images_without_a_pose_do_not_blow_it_up():
    given = differences(math.radians(3))
    given[:500] = math.pi * (2 * torch.rand(500, generator=torch.Generator().manual_seed(1)) - 1)
    assert math.degrees(noise_floor(given)) == pytest.approx(3, rel=0.2)
    assert math.degrees(float(given.std()) / math.sqrt(2)) > 20  # what the plain deviation would say


def test_whole_turns_do_not_count_and_exact_poses_have_none():
    assert noise_floor(torch.tensor([0.0, 2 * math.pi, -4 * math.pi])) == pytest.approx(0, abs=1e-5)
    given = differences(0.1)
    assert noise_floor(given + 2 * math.pi) == pytest.approx(noise_floor(given), rel=1e-4)


@pytest.mark.parametrize("wrong", [torch.zeros(0), torch.tensor([0.1, math.nan])])
def test_nothing_to_measure_is_an_error(wrong):
    with pytest.raises(UserError, match=f"{len(wrong)} differences"):
        noise_floor(wrong)
