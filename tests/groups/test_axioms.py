"""The axioms, for every group of the menu and for cyclic and dihedral groups beyond it."""

import dataclasses
import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from partial_equiv.groups import GROUPS, Group, make_group

NAMES = [*GROUPS, "C7", "D9"]
TOLERANCE = {torch.float32: 3e-6, torch.float64: 1e-13}
EXAMPLES = settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
angles = st.floats(0, 2 * math.pi, exclude_max=True)
orders = st.integers(0, 10_000)
signs = st.sampled_from([1.0, -1.0])
points = st.tuples(st.floats(-1, 1), st.floats(-1, 1))

each_group = pytest.mark.parametrize("name", NAMES)
each_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])


@st.composite
def triples(draw):
    """Draw the numbers that `element` makes three elements of."""
    return [(draw(angles), draw(orders), draw(signs)) for _ in range(3)]


def element(group, numbers, dtype):
    """Return the group's element nearest to these numbers: any angle on the circle, a turn of the grid elsewhere."""
    angle, order, sign = numbers
    if not group.continuous:
        angle = 2 * math.pi * (order % group.no_turns) / group.no_turns
    return torch.tensor([angle, sign][: group.dimension], dtype=dtype)


def same(group, first, second, dtype):
    """Say whether two elements are one: equal matrices, so that 0 and 2 pi agree."""
    return torch.allclose(group.matrix(first), group.matrix(second), atol=TOLERANCE[dtype], rtol=0)


def order_of(group):
    return (group.no_turns or 6) * (2 if group.mirror else 1)


@each_group
@each_dtype
@given(numbers=triples())
@EXAMPLES
def test_the_product_is_associative(name, dtype, numbers):
    group = make_group(name)
    a, b, c = (element(group, n, dtype) for n in numbers)
    left, right = group.product(group.product(a, b), c), group.product(a, group.product(b, c))
    assert same(group, left, right, dtype)
    assert left.dtype == dtype and left.shape == (group.dimension,)


@each_group
@each_dtype
@given(numbers=triples())
@EXAMPLES
def test_identity_and_inverse(name, dtype, numbers):
    group = make_group(name)
    a, neutral = element(group, numbers[0], dtype), group.identity(dtype)
    for product in (group.product(a, neutral), group.product(neutral, a)):
        assert same(group, product, a, dtype)
    for product in (group.product(a, group.inverse(a)), group.product(group.inverse(a), a)):
        assert same(group, product, neutral, dtype)
    assert torch.equal(group.matrix(neutral), torch.eye(2, dtype=dtype))


@each_group
@each_dtype
@given(numbers=triples(), point=points)
@EXAMPLES
def test_matrices_and_the_action_are_homomorphisms(name, dtype, numbers, point):
    group, x = make_group(name), torch.tensor(point, dtype=dtype)
    a, b, _ = (element(group, n, dtype) for n in numbers)
    product = group.product(a, b)
    assert torch.allclose(group.matrix(product), group.matrix(a) @ group.matrix(b), atol=TOLERANCE[dtype], rtol=0)
    twice = group.act(a, group.act(b, x))
    assert torch.allclose(group.act(product, x), twice, atol=TOLERANCE[dtype], rtol=0)
    # A wrong order of the factors must be seen where the group is not commutative.
    if group.mirror and not same(group, product, group.product(b, a), dtype):
        assert not torch.allclose(group.matrix(product), group.matrix(b) @ group.matrix(a), atol=1e-7, rtol=0)


@each_group
@each_dtype
@given(numbers=triples())
@EXAMPLES
def test_matrices_are_orthogonal_and_only_mirrors_reverse(name, dtype, numbers):
    group = make_group(name)
    a = element(group, numbers[0], dtype)
    matrix = group.matrix(a)
    assert torch.allclose(matrix @ matrix.T, torch.eye(2, dtype=dtype), atol=TOLERANCE[dtype], rtol=0)
    sign = float(a[1]) if group.mirror else 1.0
    assert torch.linalg.det(matrix).item() == pytest.approx(sign, abs=TOLERANCE[dtype])


@each_group
@each_dtype
@given(numbers=triples())
@EXAMPLES
def test_angles_are_reduced_to_one_turn(name, dtype, numbers):
    group = make_group(name)
    a, b, _ = (element(group, n, dtype) for n in numbers)
    for result in (group.product(a, b), group.inverse(a)):
        if group.dimension:
            assert 0 <= float(result[0]) <= 2 * math.pi * (1 + 1e-7)


@pytest.mark.parametrize("name", [n for n in NAMES if not make_group(n).continuous])
@each_dtype
def test_the_grid_of_a_finite_group_is_closed(name, dtype):
    group = make_group(name)
    grid = group.grid(order_of(group), dtype)
    matrices = group.matrix(grid)
    apart = (matrices[:, None] - matrices[None]).abs().amax((-1, -2)) + torch.eye(len(grid), dtype=dtype)
    assert apart.min() > 1e-3, "the grid repeats an element"
    made = [group.product(grid[:, None], grid[None]).flatten(0, 1), group.inverse(grid)]
    for elements in made:
        distance = (group.matrix(elements)[:, None] - matrices[None]).abs().amax((-1, -2)).amin(1)
        assert distance.max() < TOLERANCE[dtype]


@each_group
@each_dtype
def test_the_grid_starts_with_the_identity_and_turns_evenly(name, dtype):
    group = make_group(name)
    number = order_of(group)
    grid = group.grid(number, dtype)
    turns = group.no_rotations(number)
    assert grid.shape == (number, group.dimension) and grid.dtype == dtype
    assert torch.equal(grid[0], group.identity(dtype))
    if group.dimension:
        expected = torch.tensor([2 * math.pi * i / turns for i in range(turns)], dtype=dtype)
        assert torch.allclose(grid[:turns, 0], expected, rtol=1e-6)
    if group.mirror:
        assert torch.equal(grid[turns:, 0], grid[:turns, 0])
        assert grid[:, 1].tolist() == [1.0] * turns + [-1.0] * turns


@each_group
@each_dtype
def test_leading_axes_broadcast(name, dtype):
    group = make_group(name)
    grid = group.grid(order_of(group), dtype)
    table = group.product(grid[:, None], grid[None])
    assert table.shape == (len(grid), len(grid), group.dimension)
    assert torch.equal(table[1 % len(grid), 0], group.product(grid[1 % len(grid)], grid[0]))
    assert group.act(grid[:, None], torch.ones(5, 2, dtype=dtype)).shape == (len(grid), 5, 2)


@each_group
@pytest.mark.parametrize("angle", ["circle", "linear"])
def test_coordinates_have_their_width_and_published_values(name, angle):
    group = make_group(name)
    grid = group.grid(order_of(group), torch.float64)
    found = group.coordinates(grid, angle)
    assert found.shape == (len(grid), group.no_coordinates(angle))
    for row, values in zip(grid.tolist(), found.tolist(), strict=True):
        turn = [] if not row else [math.cos(row[0]), math.sin(row[0])] if angle == "circle" else [row[0] / math.pi - 1]
        assert values == pytest.approx([*turn, *row[1:]] or [1.0])


def test_circle_coordinates_are_continuous_at_a_full_turn_and_linear_ones_jump():
    group = make_group("SE2")
    ends = torch.tensor([[1e-9], [2 * math.pi - 1e-9]], dtype=torch.float64)
    circle, linear = (group.coordinates(ends, angle) for angle in ("circle", "linear"))
    assert (circle[0] - circle[1]).abs().max() < 1e-8
    assert (linear[0] - linear[1]).abs().item() == pytest.approx(2)


@each_group
def test_a_group_is_mathematics_without_state(name):
    group = make_group(name)
    assert isinstance(group, Group) and not isinstance(group, nn.Module)
    assert not any(isinstance(value, torch.Tensor) for value in vars(group).values())
    with pytest.raises(dataclasses.FrozenInstanceError):
        group.name = "other"
    assert group == make_group(name)
