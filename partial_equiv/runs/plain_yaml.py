"""Choices that may come from anyone: files of a bounded size without aliases, and values that a machine can hold."""

import math
from pathlib import Path
from typing import Any

import yaml

from partial_equiv.errors import UserError

MOST_BYTES = 1 << 20
"""Of one file; a run's own is some 5 kB."""
MOST_BRACKETS = 1_000
"""Of lists within a line, of which a run writes none but empty ones; nested ones take the square of their number."""
MOST_INTEGER = 2**63 - 1
SHOWN = 60  # characters of a value in a message
BROKEN = (OSError, ValueError, RecursionError, yaml.YAMLError)
"""What damage is told by: a number or date that is none is a ValueError, deep nesting a RecursionError."""


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the keys and values of a YAML file of a run.

    Its length is looked at before it is read, and aliases before it is loaded: a page of them stands for more values
    than any memory holds.

    Raises:
        UserError: unreadable, too large, damaged, with aliases or tags, or not a set of keys; it is named.
    """
    try:
        no_bytes = path.stat().st_size
        text = path.read_text(encoding="utf-8") if no_bytes <= MOST_BYTES else ""
        if text.count("[") + text.count("{") > MOST_BRACKETS:
            raise ValueError(f"more than {MOST_BRACKETS:,} brackets")
        aliased = any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader))
        found = None if aliased else yaml.safe_load(text)
    except BROKEN as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{path} is damaged: {reason}") from error
    if no_bytes > MOST_BYTES:
        raise UserError(f"{path} has {no_bytes:,} bytes, at most {MOST_BYTES:,} are read: give the folder of a run")
    if aliased:
        raise UserError(f"{path} holds aliases, which no run writes: write each value out")
    if not isinstance(found, dict):
        raise UserError(f"{path} is not a set of keys: give the folder of a run")
    return found


def check_plain(values: Any, where: str = "") -> None:
    """Refuse numbers that nothing can be computed with and texts that no file can hold, wherever they stand.

    Args:
        values: Dicts, lists, numbers, texts.
        where: Their dotted path, for messages.

    Raises:
        UserError: a number that is not finite, an integer beyond 64 bits, or a text that is no Unicode or holds NUL.
    """
    if isinstance(values, dict):
        for key, value in values.items():
            check_plain(value, f"{where}.{key}" if where else str(key))
    elif isinstance(values, list | tuple):
        for value in values:
            check_plain(value, where)
    elif isinstance(values, float) and not math.isfinite(values):
        raise UserError(f"{where}={values} is not finite: give a number, or null where the key may have none")
    elif isinstance(values, int) and abs(values) > MOST_INTEGER:
        raise UserError(f"{where} is an integer of {values.bit_length()} bits: give one of at most 63")
    elif isinstance(values, str) and not _writable(values):
        raise UserError(f"{where}={values[:SHOWN]!r} holds what is no text: give Unicode without NUL")


def _writable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # bytes of the command line that the terminal's encoding has no letters for
        return False
    return "\0" not in text
