"""Representations against slow loops from their equations, and which one is found for which shape."""

import itertools
import math
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from partial_equiv import UserError
from partial_equiv.audit import Move, audit, make_moves
from partial_equiv.audit.guesses import Frame, candidates
from partial_equiv.audit.representations import Unmeasured, disc, plane, regular, sources, tokens
from partial_equiv.audit.typed import aligned, asked, moved_map
from partial_equiv.groups import make_group

ALL = make_moves("D4")
IDENTITY = Move(0.0)


def matrix(move):
    """Return R(angle) M on (row, column), M the mirror of the columns."""
    cos, sin, mirror = math.cos(move.angle), math.sin(move.angle), -1 if move.mirror else 1
    return np.array([[cos, -sin * mirror], [sin, cos * mirror]])


def pixel(move, y, x, height, width):
    """Return g^-1 p for a pixel p of the moved map, as a pixel of the map: rotated about the centre, pixel by pixel."""
    swapped = move.right_turns % 2 == 1
    tall, wide = (width, height) if swapped else (height, width)
    centred = np.array([y - (tall - 1) / 2, x - (wide - 1) / 2])
    # Rows run downwards: a counter-clockwise turn by +90 degrees takes (row, column) = (0, 1) to (-1, 0).
    source = np.linalg.inv(matrix(move)) @ centred
    return round(source[0] + (height - 1) / 2), round(source[1] + (width - 1) / 2)


def loop(values, move, order=None):
    """Return (rho(g) f)(x, h) = f(g^-1 x, g^-1 h) of [B, C, G, Y, X], pixel by pixel."""
    batch, channels, elements, height, width = values.shape
    swapped = move.right_turns % 2 == 1
    out = values.new_zeros(batch, channels, elements, *((width, height) if swapped else (height, width)))
    for h, y, x in itertools.product(range(elements), range(out.shape[3]), range(out.shape[4])):
        source = h if order is None else order[h]
        out[:, :, h, y, x] = values[:, :, source, *pixel(move, y, x, height, width)]
    return out


def closed_form(no_turns, mirrored, move):
    """Return the place of g^-1 h for every h = (r, m) at m n + r, by the algebra of turns and mirrors."""
    quarter, order = round(move.angle / (2 * math.pi) * no_turns), []
    for m, r in itertools.product(range(1 + mirrored), range(no_turns)):
        # g = R(q) M^k, so g^-1 = M^k R(-q), and M R(a) = R(-a) M.
        turn = (quarter - r if move.mirror else r - quarter) % no_turns
        order.append(((m + move.mirror) % 2) * no_turns + turn)
    return order


@pytest.mark.parametrize("move", ALL, ids=lambda move: move.name)
def test_planes_move_like_the_loop(move):
    f = torch.randn(2, 3, 1, 4, 6, dtype=torch.float64)
    assert torch.equal(plane().act(f, move), loop(f, move))
    last = f[:, :, 0].movedim(1, -1)
    assert torch.equal(plane("last", (1, 2)).act(last, move), loop(f, move)[:, :, 0].movedim(1, -1))


@pytest.mark.parametrize("move", ALL, ids=lambda move: move.name)
@pytest.mark.parametrize("name", ["C4", "D4", "C8", "D2", "D8"])
def test_regular_fields_move_like_the_loop(name, move):
    elements = (IDENTITY, *make_moves(name))
    group, turns = make_group(name), make_group(name).no_turns
    field = torch.randn(2, 2, len(elements), 4, 4, dtype=torch.float64)
    carried = turns % 4 == 0 or move.right_turns % 2 == 0
    if (move.mirror and not group.mirror) or not carried:
        with pytest.raises(Unmeasured, match=f"{len(elements)} elements"):
            regular(name, elements).act(field, move)
        return
    order = closed_form(turns, group.mirror, move)
    assert list(sources(elements, move)) == order
    assert torch.equal(regular(name, elements).act(field, move), loop(field, move, order))


@pytest.mark.parametrize("move", ALL, ids=lambda move: move.name)
@pytest.mark.parametrize(("size", "grid", "extra"), [((8, 8), (3, 3), 0), ((8, 8), (4, 4), 1), ((8, 12), (2, 3), 1)])
def test_tokens_move_like_their_pixels(move, size, grid, extra):
    number = extra + grid[0] * grid[1]
    values = torch.randn(2, number, 5, dtype=torch.float64)
    maps = values[:, extra:].transpose(1, 2).unflatten(2, grid).unsqueeze(2)
    expected = torch.cat([values[:, :extra], loop(maps, move).flatten(2).transpose(1, 2)], dim=1)
    assert torch.equal(tokens(values.shape, (1,), size).act(values, move), expected)


@pytest.mark.parametrize("move", ALL, ids=lambda move: move.name)
def test_an_attention_map_moves_on_both_axes(move):
    values = torch.randn(2, 3, 9, 9, dtype=torch.float64)
    once = tokens(values.shape, (2,), (6, 6)).act(values, move)
    twice = tokens(values.shape, (3,), (6, 6)).act(once, move)
    assert torch.equal(tokens(values.shape, (2, 3), (6, 6)).act(values, move), twice)


@pytest.mark.parametrize("first", ALL, ids=lambda move: move.name)
@pytest.mark.parametrize("second", ALL[:5], ids=lambda move: move.name)
def test_actions_are_homomorphisms(first, second):
    group = make_group("E2")
    like = torch.zeros(1, dtype=torch.float64)
    pair = group.product(first.element(2, like), second.element(2, like))
    product = Move(float(pair[0]), bool(pair[1] < 0))
    field = torch.randn(1, 2, 8, 3, 3)
    action = regular("D4", (IDENTITY, *ALL))
    assert torch.equal(action.act(action.act(field, second), first), action.act(field, product))


class Map(NamedTuple):
    values: Tensor
    elements: Tensor
    weights: Tensor | None = None


def test_sampled_maps_keep_the_order_of_their_elements():
    elements = torch.tensor([[[0.3, 1.0], [2.0, -1.0]]], dtype=torch.float64)
    f = Map(torch.randn(2, 3, 2, 5, 5, dtype=torch.float64), elements)
    for move in ALL:
        moved = moved_map(f, move)
        assert torch.equal(moved.values, loop(f.values, move))
        for h, gh in zip(elements[0], moved.elements[0], strict=True):
            own = Move(float(h[0]), bool(h[1] < 0))
            assert np.allclose(matrix(Move(float(gh[0]), bool(gh[1] < 0))), matrix(move) @ matrix(own))
    with pytest.raises(Unmeasured, match="hold no mirror"):
        moved_map(f._replace(elements=elements[..., :1]), Move(0.0, mirror=True))


def test_a_closed_set_is_aligned_by_its_elements():
    elements = torch.arange(4, dtype=torch.float64)[None, :, None] * (math.pi / 2)
    f = Map(torch.randn(2, 3, 4, 5, 5, dtype=torch.float64), elements, torch.rand(1, 4, dtype=torch.float64))
    expected = moved_map(f, Move(math.pi / 2))
    shuffled = [2, 0, 3, 1]
    other = Map(*(t[:, :, shuffled] if t.dim() == 5 else t[:, shuffled] for t in expected))
    found = aligned(other, expected)
    assert torch.equal(found.values, expected.values) and torch.equal(found.weights, expected.weights)
    with pytest.raises(Unmeasured, match="not closed"):
        aligned(f._replace(elements=elements + 0.3), expected)


def test_elements_asked_for_carry_the_weight_of_their_nearest_of_the_same_mirror_sign():
    elements = torch.tensor([[[0.0, 1.0], [1.5, 1.0], [0.0, -1.0]]], dtype=torch.float64)
    f = Map(torch.zeros(2, 1, 3, 2, 2), elements, torch.tensor([[0.1, 0.2, 0.3]], dtype=torch.float64))
    sample = asked(f, f, Move(math.pi / 2))
    # g^-1 h: 270 degrees is nearest to 0, 1.5 - pi / 2 too, and the mirrored one is mirrored still.
    assert sample.weights.tolist() == [[0.1, 0.1, 0.3]]
    mirrored = asked(f, f, Move(0.0, mirror=True))
    assert mirrored.weights.tolist() == [[0.3, 0.3, 0.1]]


@pytest.mark.parametrize(("height", "width"), [(5, 5), (6, 6), (4, 7), (1, 1)])
def test_the_disc_holds_what_no_turn_takes_out_of_the_frame(height, width):
    found = disc(height, width)
    for y, x in itertools.product(range(height), range(width)):
        reach = math.hypot(y - (height - 1) / 2, x - (width - 1) / 2)
        assert bool(found[y, x]) == (reach <= (min(height, width) - 1) / 2 + 1e-9)


FRAME = Frame(2, (12, 12), make_moves("C4"))
WIDE = Frame(2, (12, 24), make_moves("C2"))


@pytest.mark.parametrize(
    ("shape", "frame", "first"),
    [
        ((2, 7), FRAME, "invariant"),
        ((2,), FRAME, "invariant"),
        ((2, 3, 6, 6), FRAME, "trivial"),
        ((2, 3, 5, 7), FRAME, "trivial"),
        ((2, 6, 6, 3), FRAME, "channels last"),
        ((2, 6, 6, 6), FRAME, "trivial"),
        ((2, 3, 6, 12), WIDE, "trivial"),
        ((2, 6, 12, 3), WIDE, "channels last"),
        ((2, 16, 8), FRAME, "tokens"),
        ((2, 17, 8), FRAME, "tokens"),
        ((2, 8, 25), FRAME, "tokens on axes 2"),
        ((2, 2, 1, 6, 6), FRAME, "trivial"),
        ((2, 2, 4, 6, 6), FRAME, "regular of the audited group"),
        ((2, 2, 8, 6, 6), FRAME, "regular C8"),
        ((2, 2, 2, 6, 6), WIDE, "regular of the audited group"),
        ((2, 2, 4, 6, 6), Frame(2, (12, 12), make_moves("D4")), "regular C4"),
        ((2, 2, 4, 6, 6), Frame(2, (12, 12), make_moves("flip_h")), "regular D2"),
        ((2, 2, 2, 6, 6), Frame(2, (12, 12), make_moves("flip_h")), "regular of the audited group"),
    ],
)
def test_shapes_are_read_as_the_likeliest(shape, frame, first):
    assert candidates(torch.zeros(shape), frame)[0].name == first


@pytest.mark.parametrize(
    ("shape", "why"),
    [((3, 4), "not the batch of 2"), ((), "not the batch"), ((2, 3, 7), "nothing is known"), ((2,) * 6, "nothing")],
)
def test_shapes_that_say_nothing_have_no_number(shape, why):
    with pytest.raises(Unmeasured, match=why):
        candidates(torch.zeros(shape), FRAME)


def test_eight_elements_are_read_as_the_group_that_fits():
    """D4 features under C4: two groups of eight elements contain C4, and the error tells which it is."""

    class Lift(nn.Module):
        def __init__(self, moves):
            super().__init__()
            self.moves, self.filter = moves, torch.randn(3, 2, 3, 3, dtype=torch.float64)

        def forward(self, x):
            planes = [torch.conv2d(x, move.images(self.filter), padding=1) for move in self.moves]
            return torch.stack(planes, dim=2)

    report = audit(nn.Sequential(Lift((IDENTITY, *ALL)), nn.ReLU()), torch.randn(2, 2, 6, 6))
    assert report.error < 1e-12 and report.rows[0].representation == "regular D4"
    # In the order of C8 every second element is a right turn.
    turns = [Move(0.0)] * 8
    turns[::2] = [Move(k * math.pi / 2) for k in range(4)]
    report = audit(Zeros(turns), torch.randn(2, 2, 6, 6))
    assert report.error < 1e-12 and report.rows[0].representation == "regular C8"


class Zeros(nn.Module):
    """A lifting whose odd elements are silent."""

    def __init__(self, turns):
        super().__init__()
        self.turns, self.filter = turns, torch.randn(3, 2, 3, 3, dtype=torch.float64)

    def forward(self, x):
        planes = [
            torch.conv2d(x, turn.images(self.filter), padding=1) * (i % 2 == 0) for i, turn in enumerate(self.turns)
        ]
        return torch.stack(planes, dim=2)


class Vectors(nn.Module):
    """Gradients of the image: a vector field [B, (row, column), Y, X]."""

    def forward(self, x):
        return torch.stack([x[:, 0].roll(-1, 1) - x[:, 0].roll(1, 1), x[:, 0].roll(-1, 2) - x[:, 0].roll(1, 2)], 1)


def vectors(tensor, move):
    turned = move.images(tensor)
    return torch.einsum("rc,bcyx->bryx", torch.as_tensor(matrix(move)), turned)


def test_a_function_says_how_vectors_turn():
    x = torch.randn(2, 1, 7, 7)
    assert audit(Vectors(), x, "D4").error > 0.1
    report = audit(Vectors(), x, "D4", reps={"*": vectors})
    assert report.error < 1e-12 and report.culprits == () and report.rows[0].representation == "given"


def test_names_and_groups_are_representations_too():
    model = nn.Sequential(Vectors(), nn.Flatten(), nn.Unflatten(1, (2, 7, 7)))
    report = audit(model, torch.randn(2, 1, 7, 7), "C2", reps={"0": vectors, "1": "invariant", "2": "trivial"})
    assert [row.representation for row in report.rows[:1]] == ["given"]
    video = audit(nn.Unflatten(1, (2, 4)), torch.randn(2, 8, 6, 6), reps={"*": "trivial"})
    assert video.error == 0 and audit(nn.Unflatten(1, (2, 4)), torch.randn(2, 8, 6, 6)).error > 0.1
    assert audit(nn.Unflatten(1, (2, 4)), torch.randn(2, 8, 6, 6), reps={"*": "C4"}).error > 0.1
    wrong = audit(nn.Unflatten(1, (2, 4)), torch.randn(2, 8, 6, 6), reps={"*": "D4"})
    assert wrong.error is None and "does not fit the shape" in wrong.rows[0].reason


@pytest.mark.parametrize(
    ("reps", "why"),
    [
        ({"0": "regulr"}, r"reps\['0'\]='regulr' is not one of: .*did you mean 'regular'"),
        ({"0": 3}, "is not one of"),
        ({"conv": "trivial"}, r"reps\['conv'\] is no row of this audit"),
        ("regular", "neither 'auto' nor a dict"),
    ],
)
def test_wrong_representations_are_refused(reps, why):
    with pytest.raises(UserError, match=why):
        audit(nn.Sequential(nn.Identity()), torch.randn(2, 1, 5, 5), reps=reps)
