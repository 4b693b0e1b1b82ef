"""Menus: names, keys and types are checked before anything is called."""

from typing import Literal

import pytest

from partial_equiv.errors import UserError
from partial_equiv.menu import bind, choose, fits, nearest


def make_square(*, side: int, colour: str | None = None):
    return "square", side, colour


class Circle:
    def __init__(self, *, radius: float, filled: bool, style: Literal["solid", "dotted"]) -> None:
        self.given = (radius, filled, style)


class Path:
    def __init__(self, start: int, *, points: list[float], sizes: tuple[int, ...] = ()) -> None:
        self.given = (start, points, sizes)


SHAPES = {"square": make_square, "Circle": Circle, "path": Path}
CIRCLE = {"radius": 1.5, "filled": True, "style": "solid"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [("circel", ", did you mean 'Circle'?"), ("SQUARE", ", did you mean 'square'?"), ("xyz", ""), ("", "")],
)
def test_the_nearest_name_ignores_case_and_small_slips(name, expected):
    assert nearest(name, SHAPES) == expected


def test_a_bound_entry_makes_the_thing():
    assert bind(SHAPES, "square", {"side": 3}, "shape")() == ("square", 3, None)
    assert bind(SHAPES, "Circle", CIRCLE, "shape")().given == (1.5, True, "solid")
    assert bind(SHAPES, "path", {"points": [1, 2.5]}, "shape", later=("start",))(7).given == (7, [1, 2.5], ())


def test_keys_of_another_entry_are_dropped():
    assert bind(SHAPES, "square", {"side": 3, **CIRCLE}, "shape").keywords == {"side": 3}


@pytest.mark.parametrize(
    ("name", "keys", "words"),
    [
        ("circel", {}, ["shape.type='circel'", "square, Circle, path", "did you mean 'Circle'?"]),
        (None, {}, ["shape.type=None", "square, Circle, path"]),
        (["square"], {}, ["shape.type=['square']"]),
        ("square", {"sides": 3}, ["shape.sides", "did you mean 'side'?", "square takes: colour, side"]),
        ("square", {}, ["shape.side is missing", "shape.side=<value>"]),
        ("square", {"side": 3.0}, ["shape.side=3.0", "an integer"]),
        ("square", {"side": True}, ["shape.side=True", "an integer"]),
        ("square", {"side": None}, ["shape.side=None", "an integer"]),
        ("square", {"side": 3, "colour": 1}, ["shape.colour=1", "a text or null"]),
        ("Circle", {**CIRCLE, "radius": "big"}, ["shape.radius='big'", "a number"]),
        ("Circle", {**CIRCLE, "radius": False}, ["shape.radius=False", "a number"]),
        ("Circle", {**CIRCLE, "filled": 1}, ["shape.filled=1", "true or false"]),
        ("Circle", {**CIRCLE, "style": "dashed"}, ["shape.style='dashed'", "solid or dotted"]),
        ("path", {"start": 1, "points": [1, "a"]}, ["shape.points=[1, 'a']", "a list, each entry a number"]),
        ("path", {"start": 1, "points": 4}, ["shape.points=4", "a list"]),
        ("path", {"start": 1, "points": [], "sizes": [1.5]}, ["shape.sizes=[1.5]", "each entry an integer"]),
    ],
)
def test_a_slip_is_told_in_one_sentence(name, keys, words):
    with pytest.raises(UserError) as caught:
        bind(SHAPES, name, keys, "shape")
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_user_error_is_a_value_error():
    assert issubclass(UserError, ValueError)


def test_choose_returns_the_entry():
    assert choose(SHAPES, "path", "shape.type") is Path


@pytest.mark.parametrize(
    ("value", "hint", "expected"),
    [
        (1, float, True),
        (1.0, int, False),
        (None, int | None, True),
        ("7", int | str, True),
        (7.5, int | str, False),
        (1, Literal["same"] | int, True),
        (True, Literal[1, 2], False),
        ((1, 2), list[int], True),
        ([[1]], list[int], False),
        ([], list[float], True),
        ("abc", list[str], False),
    ],
)
def test_plain_values_fit_annotations(value, hint, expected):
    assert fits(value, hint) is expected
