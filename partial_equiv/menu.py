"""Menus: named constructors, checked against their signatures before they are called."""

import difflib
import functools
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from partial_equiv.errors import UserError

T = TypeVar("T")


def nearest(name: str, choices: Iterable[str]) -> str:
    """Return ", did you mean 'x'?" for the closest of `choices`, or an empty string if none is close."""
    by_lower = {choice.lower(): choice for choice in choices}
    close = difflib.get_close_matches(str(name).lower(), by_lower, n=1, cutoff=0.6)
    return f", did you mean '{by_lower[close[0]]}'?" if close else ""


def choose(menu: Mapping[str, T], name: str, where: str) -> T:
    """Return the entry `name` of `menu`.

    Raises:
        UserError: there is no such entry; the message lists the choices and the nearest one.
    """
    if not isinstance(name, str) or name not in menu:
        choices = ", ".join(menu)
        raise UserError(f"{where}={name!r} is not one of: {choices}{nearest(str(name), menu)}")
    return menu[name]


def bind(
    menu: Mapping[str, Callable[..., T]],
    name: str,
    keywords: Mapping[str, Any],
    where: str,
    later: Sequence[str] = (),
) -> "functools.partial[T]":
    """Return the callable `name` of a menu with `keywords` bound, checked against its signature.

    A key that only other entries of the menu know is dropped: options share one YAML tree, so switching `kernel.type`
    on the command line leaves the keys of the former type behind.

    Args:
        menu: Name -> constructor.
        name: The chosen entry.
        keywords: What to bind, plain values.
        where: Config path for messages, for example "kernel".
        later: Parameters that the caller will pass when it calls the result.

    Raises:
        UserError: unknown entry, unknown key, missing key or wrong type; the message names the nearest valid one.
    """
    entry = choose(menu, name, f"{where}.type")
    known = {key for other in menu.values() for key in parameters(other)}
    mine = parameters(entry)
    for key in keywords:
        if key not in known:
            valid = ", ".join(sorted(set(mine) - set(later)))
            raise UserError(f"{where}.{key} is not a key of {where} ({name} takes: {valid}){nearest(key, known)}")
    bound = {key: value for key, value in keywords.items() if key in mine}
    check_values(entry, bound, where)
    for key, parameter in mine.items():
        if parameter.default is parameter.empty and key not in bound and key not in later:
            raise UserError(f"{where}.{key} is missing: {name} needs it, add {where}.{key}=<value>")
    return functools.partial(entry, **bound)


def fill(kind: Callable[..., T], values: Mapping[str, Any], where: str, **facts: Any) -> T:
    """Return a dataclass, or the result of a function, filled from plain values whose keys and types are checked.

    Args:
        kind: What is called.
        values: Plain values by keyword.
        where: Config path for messages, for example "train.online".
        facts: Further keywords, which no configuration gives.

    Raises:
        UserError: an unknown key, a missing one, or a wrong type.
    """
    name = where.rpartition(".")[2]
    return bind({name: kind}, name, values, where, later=tuple(facts))(**facts)


def parameters(entry: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return the named parameters of a callable (the constructor's, for a class)."""
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {key: p for key, p in inspect.signature(entry).parameters.items() if p.kind not in kinds}


def check_values(entry: Callable[..., Any], values: Mapping[str, Any], where: str) -> None:
    """Check `values` against the type annotations of `entry`.

    Raises:
        UserError: a value does not fit its annotation.
    """
    hints = typing.get_type_hints(entry.__init__ if inspect.isclass(entry) else entry)
    for key, value in values.items():
        if key in hints and not fits(value, hints[key]):
            raise UserError(f"{where}.{key}={value!r} is of the wrong type: give {describe(hints[key])}")


def fits(value: Any, hint: Any) -> bool:
    """Say whether a plain YAML value fits an annotation; an int fits a float, a bool fits neither."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, option) for option in typing.get_args(hint))
    if origin is typing.Literal:
        return value in typing.get_args(hint) and not isinstance(value, bool)
    if origin in (list, tuple, Sequence):
        inner = [a for a in typing.get_args(hint) if a is not Ellipsis]
        return isinstance(value, (list, tuple)) and all(fits(v, inner[0]) for v in value) if inner else True
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint is None or hint is type(None):
        return value is None
    return isinstance(value, hint) if inspect.isclass(hint) and origin is None else True


def describe(hint: Any) -> str:
    """Return an annotation in a user's words."""
    names = {
        int: "an integer",
        float: "a number",
        bool: "true or false",
        str: "a text",
        type(None): "null",
        dict: "a group of keys",
    }
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(describe(option) for option in typing.get_args(hint))
    if origin is typing.Literal:
        return " or ".join(str(option) for option in typing.get_args(hint))
    if origin in (list, tuple, Sequence):
        return f"a list, each entry {describe(typing.get_args(hint)[0])}"
    return names.get(hint, getattr(hint, "__name__", str(hint)))
