"""Which calls of a pass are layers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from partial_equiv.audit.recording import ROOT, Node
from partial_equiv.errors import UserError
from partial_equiv.menu import nearest


@dataclass(frozen=True)
class Plan:
    """Which calls are measured.

    Args:
        names: In the order in which they begin.
        levels: The same, split so that no call of a level lies within another one of it; the innermost come first.
    """

    names: tuple[str, ...]
    levels: tuple[tuple[str, ...], ...]


def make_plan(nodes: Mapping[str, Node], layers: str | Sequence[str]) -> Plan:
    """Choose the calls that are measured.

    A layer is a call with typed output within which no call has one; or a call that calls no other module, unless it
    lies within such a layer. What a module with an `at` method calls is no layer.

    Args:
        nodes: All calls of the pass on x, in the order in which they begin.
        layers: "leaf" for the layers, "all" for the modules that hold them too, or names and patterns of modules.
    Raises:
        UserError: a name is no module that was called.
    """
    inside = _inside(nodes)
    typed = {
        name for name, node in nodes.items() if node.typed and not any(nodes[other].typed for other in inside[name])
    }
    covered = {other for name in typed for other in inside[name]}
    plain = {name for name in nodes if all(nodes[other].sampler for other in inside[name])} - covered
    seen = [name for name, node in nodes.items() if node.final and not node.opaque and not node.sampler]
    if layers == "leaf":
        chosen = [name for name in seen if name in typed or (name in plain and not nodes[name].typed)]
    elif layers == "all":
        outermost = {name for name in seen if nodes[name].call.parent is None} - typed - plain
        chosen = [name for name in seen if name not in covered and name not in outermost]
    else:
        patterns = [layers] if isinstance(layers, str) else list(layers)
        _check(patterns, nodes, seen)
        chosen = [name for name in seen if any(_matches(nodes[name], pattern) for pattern in patterns)]
    return Plan(tuple(chosen), _levels(chosen, inside))


def _inside(nodes: Mapping[str, Node]) -> dict[str, list[str]]:
    """Return the calls that each call made, and those that these made."""
    inside: dict[str, list[str]] = {name: [] for name in nodes}
    for name, node in nodes.items():
        above = node.call.parent
        while above is not None:
            inside[above].append(name)
            above = nodes[above].call.parent
    return inside


def _matches(node: Node, pattern: str) -> bool:
    return fnmatchcase(node.call.path or ROOT, pattern) or fnmatchcase(node.call.name, pattern)


def _check(patterns: Sequence[str], nodes: Mapping[str, Node], seen: Sequence[str]) -> None:
    for pattern in patterns:
        if not any(_matches(nodes[name], pattern) for name in seen):
            raise UserError(
                f"layers={pattern!r} is no module that the network calls: give 'leaf', 'all', or names from "
                f"model.named_modules(){nearest(pattern, seen)}"
            )


def _levels(chosen: Sequence[str], inside: Mapping[str, Sequence[str]]) -> tuple[tuple[str, ...], ...]:
    heights: dict[str, int] = {}
    for name in reversed(chosen):  # a call begins before those within it
        heights[name] = max((heights[other] + 1 for other in inside[name] if other in heights), default=0)
    no_levels = max(heights.values(), default=-1) + 1
    return tuple(tuple(name for name in chosen if heights[name] == level) for level in range(no_levels))
