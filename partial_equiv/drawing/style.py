"""How figures look and how they become pixels; no global state of matplotlib is touched."""

import functools
import io
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec

import matplotlib
import matplotlib.image
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

P = ParamSpec("P")

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7A4B00")
"""Okabe and Ito's colours, told apart with every common colour blindness; yellow, too pale for lines, is a brown."""
DASHES = ("-", "--", "-.", ":")
INK, SOFT, FAINT = "#222222", "#6B6B6B", "#D9D9D9"
DPI = 150
STYLE: dict[Any, Any] = {
    "text.usetex": False,
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.labelsize": 9.0,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "text.color": INK,
    "legend.fontsize": 8.0,
    "legend.frameon": False,
    "legend.handlelength": 2.2,
    "lines.linewidth": 1.6,
    "figure.titlesize": 11.0,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}


@contextmanager
def house_style() -> Iterator[None]:
    """Use the house style inside the block, whatever the user's matplotlib settings are; they are back after it."""
    # Setting the backend, even to what it is, would load pyplot.
    defaults: dict[Any, Any] = {key: value for key, value in matplotlib.rcParamsDefault.items() if key != "backend"}
    with matplotlib.rc_context({**defaults, **STYLE}):
        yield


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Wrap a drawing function so that it draws in the house style, whatever the user's matplotlib settings are."""

    @functools.wraps(draw)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with house_style():
            return draw(*args, **kwargs)

    return wrapped


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure, sizes in inches, bound to no window and to no list of open figures."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def png(figure: Figure) -> bytes:
    """Return a figure as the content of a PNG file."""
    with io.BytesIO() as buffer, house_style():
        figure.savefig(buffer, format="png", dpi=DPI)
        return buffer.getvalue()


def pixels(content: bytes) -> NDArray[np.uint8]:
    """Return the pixels of a PNG file, uint8 [Y, X, RGB]."""
    values = matplotlib.image.imread(io.BytesIO(content))
    return np.ascontiguousarray((values[..., :3] * 255).round().astype(np.uint8))


def colour(index: int) -> str:
    """Return the categorical colour of an index."""
    return PALETTE[index % len(PALETTE)]


def dash(index: int) -> str:
    """Return the line style of an index, so that lines which lie on each other are both seen."""
    return DASHES[index % len(DASHES)]


def ramp(no_colours: int) -> list[tuple[float, float, float, float]]:
    """Return colours for an ordered set, dark to light, told apart with every common colour blindness."""
    scale = matplotlib.colormaps["viridis"]
    return [tuple(map(float, scale(0.9 * i / max(no_colours - 1, 1)))) for i in range(no_colours)]  # type: ignore[misc]


def pi_text(quarters: int) -> str:
    """Return quarters * pi / 4 as a label in lowest terms, for example 3 -> "3π/4", -2 -> "-π/2"."""
    if quarters == 0:
        return "0"
    divisor = math.gcd(quarters, 4)
    over, under = abs(quarters) // divisor, 4 // divisor
    sign = "\N{MINUS SIGN}" if quarters < 0 else ""
    return f"{sign}{'' if over == 1 else over}π{'' if under == 1 else f'/{under}'}"


def angle_axis(axes: Axes) -> None:
    """Give the y axis the range -pi..pi with ticks in multiples of pi/2."""
    axes.set_ylim(-math.pi * 1.04, math.pi * 1.04)
    axes.set_yticks([quarters * math.pi / 4 for quarters in (-4, -2, 0, 2, 4)])
    axes.set_yticklabels([pi_text(quarters) for quarters in (-4, -2, 0, 2, 4)])


def bare(axes: Axes) -> None:
    """Take ticks and frame off, for pictures."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def picture(image: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return an image [C, Y, X] as matplotlib shows it: [Y, X, 3] of three channels, else [Y, X] of the first."""
    shown: NDArray[np.generic] = np.moveaxis(image, 0, -1) if image.shape[0] == 3 else image[0]
    return shown
