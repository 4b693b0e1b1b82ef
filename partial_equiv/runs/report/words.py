"""Numbers as a reader wants them."""

from typing import Any

from partial_equiv.runs.report.curves import SHARES
from partial_equiv.runs.report.record import number

UNITS = ("bytes", "KB", "MB", "GB", "TB")


def metric_text(name: str, value: Any) -> str:
    """Return a measured value: shares in percent, others with four digits, "-" where there is no finite number."""
    found = number(value)
    if found is None:
        return "-"
    return f"{100 * found:.2f} %" if name.endswith(SHARES) and 0 <= found <= 1 else f"{found:.4g}"


def count_text(value: Any) -> str:
    """Return a count with its thousands apart, empty where there is none."""
    found = number(value)
    return "" if found is None else f"{found:,.0f}"


def seconds_text(value: Any) -> str:
    """Return a duration, empty where there is none."""
    found = number(value)
    if found is None:
        return ""
    if found < 60:
        return f"{found:.1f} s"
    minutes, seconds = divmod(round(found), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s"


def bytes_text(value: Any) -> str:
    """Return a number of bytes, empty where there is none."""
    found = number(value)
    if found is None:
        return ""
    place = 0
    while found >= 1000 and place < len(UNITS) - 1:
        found, place = found / 1000, place + 1
    return f"{found:.3g} {UNITS[place]}"
