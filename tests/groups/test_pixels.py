"""Which way things turn, pinned on a grid of pixels: torch.rot90 is +pi/2, flip(-1) is the mirror."""

import math

import pytest
import torch

from partial_equiv.groups import make_group

RIGHT = math.pi / 2


def turned(image, group, element, *, backwards=False):
    """Return g image, (g image)(x) = image(g^-1 x), pixel by pixel; `backwards` takes the wrong sign."""
    height, width = image.shape
    centre = torch.tensor([(height - 1) / 2, (width - 1) / 2], dtype=torch.float64)
    moved = element if backwards else group.inverse(element)
    out = torch.full_like(image, math.nan)
    for y in range(height):
        for x in range(width):
            row, column = group.act(moved, torch.tensor([y, x], dtype=torch.float64) - centre) + centre
            assert abs(row - row.round()) < 1e-9 and abs(column - column.round()) < 1e-9
            out[y, x] = image[int(row.round()), int(column.round())]
    return out


def on(group, angle, mirror=1.0):
    return torch.tensor([angle, mirror][: group.dimension], dtype=torch.float64)


@pytest.fixture(params=[5, 6], ids=["odd", "even"])
def image(request):
    return torch.rand(request.param, request.param, dtype=torch.float64)


@pytest.mark.parametrize("name", ["SE2", "E2", "C4", "D4", "C8", "D12"])
@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_right_turns_equal_rot90_and_the_wrong_sign_does_not(name, turns, image):
    group = make_group(name)
    element = on(group, turns * RIGHT)
    assert torch.equal(turned(image, group, element), torch.rot90(image, turns, dims=(-2, -1)))
    wrong = turned(image, group, element, backwards=True)
    assert torch.equal(wrong, torch.rot90(image, -turns, dims=(-2, -1)))
    assert torch.equal(wrong, torch.rot90(image, turns, dims=(-2, -1))) == (turns in (0, 2))


@pytest.mark.parametrize("name", ["E2", "D1", "D4"])
def test_the_mirror_equals_a_flip_of_the_columns(name, image):
    group = make_group(name)
    found = turned(image, group, on(group, 0.0, -1.0))
    assert torch.equal(found, image.flip(-1))
    assert not torch.equal(found, image.flip(-2))


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_the_mirror_acts_before_the_turn(turns, image):
    group = make_group("D4")
    found = turned(image, group, on(group, turns * RIGHT, -1.0))
    assert torch.equal(found, torch.rot90(image.flip(-1), turns, dims=(-2, -1)))
    other = torch.rot90(image, turns, dims=(-2, -1)).flip(-1)
    assert torch.equal(found, other) == (turns == 2), "for right angles the order of the two must show"


def test_products_act_like_one_transformation_after_the_other(image):
    group = make_group("D4")
    for a in group.grid(8, torch.float64):
        for b in group.grid(8, torch.float64):
            assert torch.equal(turned(image, group, group.product(a, b)), turned(turned(image, group, b), group, a))


def test_a_positive_angle_is_counter_clockwise_as_displayed():
    group = make_group("SE2")
    right_of_centre = torch.tensor([0.0, 1.0], dtype=torch.float64)
    row, column = group.act(on(group, math.pi / 4), right_of_centre).tolist()
    assert row < 0 < column, "a point on the right moves up, towards smaller rows"
