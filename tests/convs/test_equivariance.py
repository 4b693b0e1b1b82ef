"""Equivariance: exact where the pixel grid allows it, and broken where it must be."""

import math

import numpy as np
import pytest
import torch

from partial_equiv.convs import GroupFeatureMap, spatial_max_pool
from partial_equiv.groups import make_group
from partial_equiv.sampling import Sample
from tests.convs.loops import make_convs, matrices_of, random_elements, random_map, rotation

RIGHT = math.pi / 2
# Name -> the matrix on (row, column) and what it does to images.
MOVES = {
    "quarter": (rotation(RIGHT), lambda x: torch.rot90(x, 1, dims=(-2, -1))),
    "half": (rotation(2 * RIGHT), lambda x: torch.rot90(x, 2, dims=(-2, -1))),
    "three quarters": (rotation(3 * RIGHT), lambda x: torch.rot90(x, 3, dims=(-2, -1))),
    "flip columns": (rotation(0.0, -1.0), lambda x: x.flip(-1)),
    "flip rows": (rotation(2 * RIGHT, -1.0), lambda x: x.flip(-2)),
}
GROUPS = [("C4", 4), ("SE2", 4), ("SE2", 8), ("D4", 8), ("E2", 8), ("C8", 8), ("D12", 24)]
CASES = [
    (name, number, move)
    for name, number in GROUPS
    for move in MOVES
    if make_group(name).mirror or not move.startswith("flip")
]


def sources(elements, matrix):
    """Return for each h the index of g^-1 h among the elements, by their matrices; None where it is missing."""
    known, found = matrices_of(elements), []
    for h in known:
        near = [np.abs(np.linalg.inv(matrix) @ h - other).max() for other in known]
        found.append(int(np.argmin(near)) if min(near) < 1e-9 else None)
    return found


def moved(f, move, matrix=None):
    """Return g f: (g f)(x, h) = f(g^-1 x, g^-1 h)."""
    own, act = MOVES[move]
    order = sources(f.elements[0], own if matrix is None else matrix)
    return f._replace(values=act(f.values[:, :, order]))


@torch.no_grad()
def relative_error(found, expected):
    return ((found - expected).abs().max() / expected.abs().max()).item()


def maps_of(name, number, kind, elements, **keys):
    """Return a function of an image or feature map, and an input for it."""
    conv = make_convs(name, number, **keys)[kind]
    sample = Sample(elements)
    if kind == "lifting":
        images = torch.randn(2, 2, 6, 6, dtype=torch.float64)
        return (lambda x: conv.at(x, sample)), images
    f = random_map(conv.group, elements=elements, side=(6, 6))
    return (lambda x: conv.at(x, sample)), f


@torch.no_grad()
def error_of(layer, x, move, *, wrong=None):
    """Return how far layer(g x) is from g layer(x); `wrong` replaces g on the output's elements."""
    out = layer(x)
    found = layer(moved(x, move) if isinstance(x, GroupFeatureMap) else MOVES[move][1](x))
    return relative_error(found.values, moved(out, move, wrong).values)


def grid_of(name, number):
    return make_group(name).grid(number, torch.float64).unsqueeze(0)


@pytest.mark.parametrize(("name", "number", "move"), CASES)
@pytest.mark.parametrize("kind", ["lifting", "group", "pointwise"])
def test_grids_are_exactly_equivariant(name, number, move, kind):
    layer, x = maps_of(name, number, kind, grid_of(name, number))
    assert error_of(layer, x, move) < 1e-11


@pytest.mark.parametrize(("name", "number", "move"), CASES)
@pytest.mark.parametrize("kind", ["lifting", "group", "pointwise"])
def test_a_wrong_permutation_fails(name, number, move, kind):
    """The elements must turn by g: neither staying where they are nor turning by its inverse will do."""
    layer, x = maps_of(name, number, kind, grid_of(name, number))
    assert error_of(layer, x, move, wrong=np.eye(2)) > 0.05
    if move in ("quarter", "three quarters"):
        assert error_of(layer, x, move, wrong=np.linalg.inv(MOVES[move][0])) > 0.05


@pytest.mark.parametrize("kind", ["lifting", "group"])
@pytest.mark.parametrize(
    ("size", "padding"),
    [*((size, p) for size in (3, 5) for p in ("same", "valid", 1)), (7, "same"), (7, 1), ("full", "same"), ("full", 3)],
)
def test_every_odd_size_and_padding_is_exact(kind, size, padding):
    layer, x = maps_of("D4", 8, kind, grid_of("D4", 8), size=size, padding=padding)
    assert max(error_of(layer, x, move) for move in MOVES) < 1e-11


@pytest.mark.parametrize("kind", ["lifting", "group"])
def test_a_kernel_as_large_as_the_map_is_exact_on_odd_maps_alone(kind):
    """On an even map it has no middle tap: padding puts its extra pixel at one end, and a turn at the other."""
    layer, x = maps_of("D4", 8, kind, grid_of("D4", 8), size="same")
    assert error_of(layer, x, "quarter") > 0.05
    odd = x._replace(values=x.values[..., :5, :5]) if kind == "group" else x[..., :5, :5]
    assert error_of(layer, odd, "quarter") < 1e-11


@pytest.mark.parametrize("name", ["SE2", "E2"])
@pytest.mark.parametrize("kind", ["lifting", "group", "pointwise"])
def test_a_turned_grid_is_closed_under_right_turns(name, kind):
    """Elements at no round angle: g maps the set to itself, so the right permutation, and only it, is exact."""
    group = make_group(name)
    elements = group.from_angles(0.3 + RIGHT * torch.arange(4, dtype=torch.float64)).unsqueeze(0)
    layer, x = maps_of(name, elements.shape[1], kind, elements)
    assert error_of(layer, x, "quarter") < 1e-11
    assert error_of(layer, x, "quarter", wrong=np.linalg.inv(MOVES["quarter"][0])) > 0.05


@pytest.mark.parametrize("angle", ["circle", "linear"])
def test_both_angle_coordinates_are_equivariant_off_the_seam(angle):
    elements = make_group("SE2").from_angles(0.3 + RIGHT * torch.arange(4, dtype=torch.float64)).unsqueeze(0)
    conv = make_convs("SE2", 4, angle=angle)["group"]
    f = random_map(conv.group, elements=elements, side=(6, 6))
    shifted = Sample(elements + 0.1)  # no relative angle is 0, where "linear" jumps
    out, found = conv.at(f, shifted), conv.at(moved(f, "quarter"), shifted)
    assert relative_error(found.values, moved(out, "quarter").values) < 1e-11


@pytest.mark.parametrize("name", ["SE2", "E2"])
@pytest.mark.parametrize("kind", ["lifting", "group"])
def test_elements_that_are_not_closed_match_under_no_permutation(name, kind):
    """No order of the outputs reproduces the turned ones, so exactness above is no accident."""
    group = make_group(name)
    elements = group.from_angles(torch.tensor([[0.1, 0.6, 1.1, 2.4]], dtype=torch.float64))[:, -4:]
    assert None in sources(elements[0], MOVES["quarter"][0])
    layer, x = maps_of(name, 4, kind, elements)
    act = MOVES["quarter"][1]
    turned = act(x) if kind == "lifting" else x._replace(values=act(x.values))
    out, found = layer(x).values, layer(turned).values
    for i in range(4):
        assert min(relative_error(found[:, :, i], act(out[:, :, j])) for j in range(4)) > 0.02


def test_an_eighth_turn_of_the_elements_is_seen():
    """The features depend on where the elements are: a grid turned by 45 degrees gives other values."""
    layer, x = maps_of("SE2", 8, "lifting", grid_of("SE2", 8))
    out = layer(x)
    order = sources(out.elements[0], rotation(math.pi / 4))
    assert relative_error(out.values[:, :, order], out.values) > 0.05


@pytest.mark.parametrize("move", MOVES)
def test_a_stack_of_layers_is_equivariant(move):
    convs = make_convs("D4", 8, channels=(2, 2))
    sample = Sample(grid_of("D4", 8))

    def layer(images):
        f = convs["lifting"].at(images, sample).map(torch.relu)
        f = spatial_max_pool(convs["group"].at(f, sample).map(torch.relu))
        return convs["pointwise"](f, sample)

    assert error_of(layer, torch.randn(2, 2, 8, 8, dtype=torch.float64), move) < 1e-11


def test_pooling_is_exact_only_where_its_size_divides_the_map():
    f = random_map(make_group("C4"), elements=grid_of("C4", 4), side=(8, 8))
    assert error_of(spatial_max_pool, f, "quarter") == 0
    odd = f._replace(values=f.values[..., :7, :7])
    assert error_of(spatial_max_pool, odd, "quarter") > 0.05


@pytest.mark.parametrize("kind", ["lifting", "group", "pointwise"])
def test_shifts_commute_with_every_layer(kind):
    layer, x = maps_of("SE2", 4, kind, grid_of("SE2", 4))
    values = x if kind == "lifting" else x.values
    values = torch.nn.functional.pad(values, (6, 6, 6, 6))
    shifted = values.roll((1, 2), dims=(-2, -1))
    first, second = ((v if kind == "lifting" else x._replace(values=v)) for v in (values, shifted))
    assert torch.allclose(layer(second).values, layer(first).values.roll((1, 2), dims=(-2, -1)), atol=1e-12)


@pytest.mark.parametrize("kind", ["group", "pointwise"])
@pytest.mark.parametrize(("angle", "continuous"), [("circle", True), ("linear", False)])
def test_kernels_are_continuous_at_a_full_turn_with_the_circle_alone(kind, angle, continuous):
    conv = make_convs("SE2", 4, angle=angle)[kind]
    f = random_map(conv.group, elements=torch.zeros(1, 1, 1, dtype=torch.float64))

    def values_at(turn):
        return conv.at(f, Sample(torch.full((1, 1, 1), turn, dtype=torch.float64))).values.detach()

    step = relative_error(values_at(1e-6), values_at(-1e-6))
    elsewhere = relative_error(values_at(1 + 1e-6), values_at(1 - 1e-6))
    assert elsewhere < 1e-4
    assert step < 1e-4 if continuous else step > 0.1


@pytest.mark.parametrize("kind", ["lifting", "group", "pointwise"])
def test_a_full_turn_of_an_element_changes_nothing(kind):
    elements = random_elements(make_group("E2"), 1, 4)
    conv = make_convs("E2", 4)[kind]
    again = elements.clone()
    again[..., 0] += 2 * math.pi
    x = torch.randn(2, 2, 6, 6, dtype=torch.float64) if kind == "lifting" else random_map(conv.group, elements=elements)
    assert torch.allclose(conv.at(x, Sample(elements)).values, conv.at(x, Sample(again)).values, atol=1e-11)
