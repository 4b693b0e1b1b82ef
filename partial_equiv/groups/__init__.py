"""Groups of the plane: abstract law, concrete algebra, and the menu by name."""

import re

from partial_equiv.errors import UserError
from partial_equiv.groups.group import Group
from partial_equiv.groups.planar import FULL_TURN, PlanarGroup
from partial_equiv.menu import nearest

__all__ = ["FULL_TURN", "GROUPS", "Group", "PlanarGroup", "make_group"]

_FINITE = (2, 3, 4, 5, 6, 8, 10, 12, 16)
GROUPS: dict[str, PlanarGroup] = {
    "T2": PlanarGroup("T2", no_turns=1),
    "C1": PlanarGroup("C1", no_turns=1),
    "SE2": PlanarGroup("SE2", no_turns=None),
    "E2": PlanarGroup("E2", no_turns=None, mirror=True),
    **{f"C{n}": PlanarGroup(f"C{n}", no_turns=n) for n in _FINITE},
    **{f"D{n}": PlanarGroup(f"D{n}", no_turns=n, mirror=True) for n in (1, *_FINITE)},
}


def make_group(name: str) -> PlanarGroup:
    """Return the group called `name`: one of `GROUPS`, or C_n and D_n of any order as "C7" or "D9".

    Raises:
        UserError: no group has this name.
    """
    if name in GROUPS:
        return GROUPS[name]
    match = re.fullmatch(r"([CD])([1-9]\d{0,3})", str(name))
    if match is None:
        raise UserError(f"base_group.name={name!r} is not one of: T2, SE2, E2, C<n>, D<n>{nearest(str(name), GROUPS)}")
    return PlanarGroup(match[0], no_turns=int(match[2]), mirror=match[1] == "D")
