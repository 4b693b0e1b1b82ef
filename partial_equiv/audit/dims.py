"""Which dimension of a tensor holds which axis of the image.

A dimension is a tuple of atoms, outermost first, whose sizes multiply to its size: [B, C, H, W] flattened to
[B, C, H W] ends in the dimension (H, W). Reversing the image along W reverses every atom of W and no other. A dimension
all of whose atoms belong to one axis is therefore read backwards as a whole, however often it was split and merged.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import NamedTuple

from partial_equiv.audit.conditions import Line

AXES = ("H", "W")
REPEATED = "="

Dim = tuple["Atom", ...]


@dataclass(frozen=True)
class Atom:
    """A factor of a dimension.

    Args:
        size: How many indices it has.
        axis: "H" or "W" for a piece of that image axis; "" for what has nothing to do with the image's axes; "=" for
            one value repeated.
        jump: Image pixels from one index to the next.
        line: How the size follows from the image's size, None if that is not known.
        lean: How far the tensor is off the mirror image of itself: index j belongs to size - 1 - j + lean.
        zero: Whether what lies beyond such a tensor is zeros, so that zero padding continues it.
        causes: The drafts of rows, by number, whose doing the lean is.
        parts: For a concatenation: the dimensions that were joined.
    """

    size: int
    axis: str = ""
    jump: Fraction = Fraction(1)
    line: Line | None = None
    lean: int = 0
    zero: bool = False
    causes: tuple[int, ...] = ()
    parts: tuple[Dim, ...] = ()

    def axes(self) -> frozenset[str]:
        """Return the image axes that the atom is made of; one pixel has no direction and counts for none."""
        if self.parts:
            return frozenset().union(*(axes(part) for part in self.parts))
        return frozenset((self.axis,)) if self.axis in AXES and self.size > 1 else frozenset()

    def upright(self) -> "Atom":
        """Return the atom with its lean, already accounted for, taken as mended."""
        return replace(self, lean=0, zero=False, causes=())


class Layout(NamedTuple):
    """The dimensions of a tensor.

    Args:
        dims: One tuple of atoms each.
        half: After a reduction of one image axis of two: its name, and where the histories of H and W tell of it.
        lost: "told" if an operation that a row calls unknown made the tensor, "positions" if it says where pixels are.
    """

    dims: tuple[Dim, ...]
    half: tuple[str, int, int] | None = None
    lost: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of the dimensions."""
        return tuple(map(size_of, self.dims))

    def axes(self) -> frozenset[str]:
        """Return the image axes that the tensor extends over."""
        return frozenset().union(*map(axes, self.dims))

    def atoms(self) -> list[Atom]:
        """Return all atoms, the inside of concatenations left out."""
        return [atom for dim in self.dims for atom in dim]

    def computed(self) -> "Layout":
        """Return the layout after a computation, which makes anything of zeros beyond a lean."""
        if not any(atom.zero for atom in self.atoms()):
            return self
        return self._replace(dims=tuple(tuple(replace(atom, zero=False) for atom in dim) for dim in self.dims))

    @property
    def plain(self) -> bool:
        """Whether the tensor has nothing of the image's axes: then whatever is done to it is exact."""
        return not self.lost and all(atom.axis == "" and not atom.parts for atom in self.atoms())


def plain(size: int) -> Dim:
    """Return a dimension that has nothing to do with the image's axes."""
    return (Atom(size),) if size > 1 else ()


def plain_layout(shape: Iterable[int]) -> Layout:
    """Return the layout of a tensor that does not turn with the image."""
    return Layout(tuple(map(plain, shape)))


def lost_layout(shape: Iterable[int], why: str = "told") -> Layout:
    """Return the layout of a tensor that is not followed, see `Layout.lost`."""
    return Layout(tuple(map(plain, shape)), lost=why)


def size_of(dim: Dim) -> int:
    """Return the size of a dimension."""
    return math.prod(atom.size for atom in dim)


def axes(dim: Dim) -> frozenset[str]:
    """Return the image axes that a dimension extends over."""
    return frozenset().union(*(atom.axes() for atom in dim))


def image_axis(dim: Dim) -> str | None:
    """Return the axis of a dimension that is read backwards as a whole with it; None for a mixture or another thing."""
    wide = [atom for atom in dim if atom.size > 1 and atom.axis != REPEATED]
    found = wide or [atom for atom in dim if atom.axis in AXES]
    kinds = {atom.axis for atom in found}
    return found[0].axis if len(kinds) == 1 and found[0].axis in AXES else None


def only_atom(dim: Dim) -> Atom:
    """Return a dimension of one image axis as a single atom."""
    if len(dim) == 1:
        return dim[0]
    axis = image_axis(dim)
    assert axis is not None, dim
    return Atom(size_of(dim), axis, min(atom.jump for atom in dim if atom.axis == axis))


def is_repeated(dim: Dim) -> bool:
    """Return whether a dimension holds one value, repeated."""
    return all(atom.axis == REPEATED for atom in dim if atom.size > 1) and size_of(dim) > 1


def alike(first: Dim, second: Dim) -> bool:
    """Return whether two dimensions of one size are indexed by the same pixels in the same order."""
    one = image_axis(first)
    if one is not None and one == image_axis(second):
        return True
    return _signature(first) == _signature(second)


def _signature(dim: Dim) -> list[object]:
    atoms = merge(atom for atom in dim if atom.size > 1)
    return [(atom.axis, atom.size, [_signature(part) for part in atom.parts]) for atom in atoms]


def merge(atoms: Iterable[Atom], kinds: Sequence[str] = ("", REPEATED, *AXES)) -> list[Atom]:
    """Return atoms with neighbours of one kind made one: they are read backwards together anyway."""
    merged: list[Atom] = []
    for atom in atoms:
        last = merged[-1] if merged else None
        if last and last.axis == atom.axis and atom.axis in kinds and not (last.parts or atom.parts):
            merged[-1] = Atom(last.size * atom.size, atom.axis, min(last.jump, atom.jump))
        else:
            merged.append(atom)
    return merged


class Regrouped(NamedTuple):
    """New dimensions, and the image atoms that had to be split: (atom, outer size, inner size)."""

    dims: tuple[Dim, ...]
    splits: list[tuple[Atom, int, int]]


def regroup(dims: Sequence[Dim], shape: Sequence[int]) -> Regrouped | None:
    """Return the dimensions after a view: the same atoms in the same order, cut at other places.

    Returns None where the new sizes cut across two atoms, which no name can follow.
    """
    worth = [atom for dim in dims for atom in dim if atom.size > 1 or atom.axis in AXES]
    # The pieces of an axis are put together again only if the new sizes ask for it.
    return _dealt(merge(worth, ("", REPEATED)), shape) or _dealt(merge(worth), shape)


def _dealt(atoms: list[Atom], shape: Sequence[int]) -> Regrouped | None:
    todo = atoms[::-1]
    new: list[Dim] = []
    splits = []
    for size in shape:
        dim: list[Atom] = []
        left = size
        if size == 1 and todo and todo[-1].size == 1:
            dim.append(todo.pop())
        while left > 1:
            if not todo:
                return None
            atom = todo.pop()
            if left % atom.size == 0:
                dim.append(atom)
                left //= atom.size
            elif atom.size % left == 0 and not atom.parts:
                inner = atom.size // left
                outer_part, inner_part = split_atom(atom, left, inner)
                dim.append(outer_part)
                todo.append(inner_part)
                if atom.axis in AXES:
                    splits.append((atom, left, inner))
                left = 1
            else:
                return None
        new.append(tuple(dim))
    return Regrouped(tuple(new), splits)


def split_atom(atom: Atom, outer: int, inner: int) -> tuple[Atom, Atom]:
    """Return the two atoms of index = outer index * inner + inner index; both are read backwards with the whole."""
    return Atom(outer, atom.axis, atom.jump * inner), Atom(inner, atom.axis, atom.jump)
