"""Which representation a field has: told by its type, guessed from its shape, or given by the user.

Axes: B batch, C channels, G elements, N tokens, Y X image.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from partial_equiv.audit.fields import is_geometric, is_map, tensor_of
from partial_equiv.audit.moves import Move, make_moves
from partial_equiv.audit.representations import (
    IDENTITY,
    Representation,
    Unmeasured,
    given,
    grid_of,
    invariant,
    plane,
    regular,
    sources,
    tokens,
)
from partial_equiv.audit.typed import geometric, sampled
from partial_equiv.errors import UserError
from partial_equiv.menu import nearest

NAMES = ("trivial", "channels_last", "tokens", "regular", "invariant")
VALUES = "values of a sampled map"
FEWEST_TOKENS = 4

Override = str | Callable[[Tensor, Move], Tensor]


@dataclass(frozen=True)
class Frame:
    """What representations are guessed from.

    Args:
        batch: Images in the batch.
        size: (Y, X) of the images.
        moves: The audited group without its identity.
        sampled: Some layers live on sampled elements.
    """

    batch: int
    size: tuple[int, int]
    moves: tuple[Move, ...]
    sampled: bool = False


def candidates(field: Any, frame: Frame) -> list[Representation]:
    """Return the representations that a field may have, the likeliest first.

    Raises:
        Unmeasured: nothing is known of such a shape.
    """
    values = tensor_of(field)
    check_batch(values, frame)
    if is_map(field):
        return sampled(field)
    if is_geometric(field):
        return [geometric(field)]
    if values.dim() <= 2:
        return [invariant()]
    if values.dim() == 5:
        return [*([plane(VALUES)] if frame.sampled else []), *_regular(values.shape[2], frame)]
    found = _planes(values.shape, frame.size) if values.dim() == 4 else []
    found += [tokens(values.shape, axes, frame.size) for axes in _token_axes(values.shape, frame.size)]
    if not found:
        raise Unmeasured(f"nothing is known of the shape {list(values.shape)}: say it with reps=")
    # Learned tokens may be as many as a grid by chance.
    return [*found, invariant()] if values.dim() == 3 else found


def check_batch(values: Tensor, frame: Frame) -> None:
    """Check that the first axis counts images.

    Raises:
        Unmeasured: it does not.
    """
    if values.dim() == 0 or values.shape[0] != frame.batch:
        raise Unmeasured(f"the first axis of {list(values.shape)} is not the batch of {frame.batch}")


def override(field: Any, what: Override, frame: Frame) -> list[Representation]:
    """Return the representation that the user gave by name or as a function.

    Raises:
        Unmeasured: it does not fit the field.
    """
    if not isinstance(what, str):
        return [given(what)]
    shape = tensor_of(field).shape
    if what == "invariant":
        return [invariant()]
    if what == "trivial" and len(shape) >= 3:
        return [plane()]
    if what == "channels_last" and len(shape) == 4:
        return [plane("channels last", (1, 2))]
    if what == "tokens" and len(shape) == 3 and grid_of(shape[1], frame.size):
        return [tokens(shape, (1,), frame.size)]
    if len(shape) == 5 and what == "regular":
        return _regular(shape[2], frame)
    if len(shape) == 5 and what not in NAMES and len(elements := (IDENTITY, *make_moves(what))) == shape[2]:
        return [regular(what, elements)]
    raise Unmeasured(f"the representation {what!r} does not fit the shape {list(shape)}")


def check_override(name: str, what: object) -> None:
    """Check an entry of `reps`.

    Raises:
        UserError: it is neither a known name, nor a group of the plane, nor a function.
    """
    if callable(what):
        return
    if isinstance(what, str):
        if what in NAMES:
            return
        try:
            make_moves(what)
            return
        except UserError:
            pass
    close = nearest(str(what), NAMES)
    raise UserError(
        f"reps[{name!r}]={what!r} is not one of: {', '.join(NAMES)}, a group such as 'C4' for fields of its elements, "
        f"or a function (tensor, move) -> tensor{close}"
    )


def _planes(shape: Sequence[int], size: tuple[int, int]) -> list[Representation]:
    """Return the readings of [B, C, Y, X] and [B, Y, X, C]; a map has about the aspect of the images."""
    first = shape[2] * size[1] == shape[3] * size[0]
    last = shape[1] * size[1] == shape[2] * size[0]
    found = [plane()] if first or not last else []
    return found + ([plane("channels last", (1, 2))] if last else [])


def _token_axes(shape: Sequence[int], size: tuple[int, int]) -> list[tuple[int, ...]]:
    """Return the sets of axes that may hold flattened images, single axes first."""
    axes = [axis for axis in range(1, len(shape)) if shape[axis] >= FEWEST_TOKENS and grid_of(shape[axis], size)]
    return [chosen for count in range(1, len(axes) + 1) for chosen in itertools.combinations(axes, count)]


def _regular(number: int, frame: Frame) -> list[Representation]:
    """Return the readings of an axis of `number` elements: the audited group, else a group that contains it."""
    if number == 1:
        return [plane()]
    own = (IDENTITY, *frame.moves)
    if len(own) == number and all(sources(own, move) for move in frame.moves):
        return [regular("of the audited group", own)]
    names = [f"C{number}", *([f"D{number // 2}"] if number % 2 == 0 else [])]
    groups = [(name, (IDENTITY, *make_moves(name))) for name in names]
    larger = [group for group in groups if all(sources(group[1], move) for move in frame.moves)]
    return [regular(*group) for group in larger or groups[:1]]
