"""What every figure must be: words inside of it and apart, not blank, and the same in a user's own style."""

import itertools

import matplotlib
from matplotlib.text import Text

from partial_equiv import drawing


def drawn_in_a_users_style(figures):
    """Return figures and their pixels, drawn while a user's settings are in force that would spoil them."""
    with matplotlib.rc_context({"lines.linewidth": 9.0, "axes.facecolor": "red", "font.size": 30}):
        before = dict(matplotlib.rcParams)
        pairs = [(figure, drawing.pixels(drawing.png(figure))) for figure in figures()]
        assert dict(matplotlib.rcParams) == before
    return pairs


def boxes(figure):
    """Return the words and their places in pixels, without labels of ticks that stand outside their axis."""
    figure.draw_without_rendering()
    outside = set()
    for axis in itertools.chain.from_iterable((axes.xaxis, axes.yaxis) for axes in figure.axes):
        low, high = sorted(axis.get_view_interval())
        ticks = [tick for tick in axis.get_major_ticks() if not low - 1e-9 <= tick.get_loc() <= high + 1e-9]
        outside |= {label for tick in ticks for label in (tick.label1, tick.label2)}
    shown = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text() and text not in outside]
    return {(text.get_text(), place): text.get_window_extent() for place, text in enumerate(shown)}


def check_words(figure):
    """Check that words stay inside the figure and off each other."""
    places, frame = boxes(figure), figure.bbox
    for (text, _), box in places.items():
        inside = box.x0 >= frame.x0 and box.y0 >= frame.y0 and box.x1 <= frame.x1 and box.y1 <= frame.y1
        assert inside, f"“{text}” leaves the figure: {box} in {frame}"
    for ((one, _), first), ((other, _), second) in itertools.combinations(places.items(), 2):
        wide = min(first.x1, second.x1) - max(first.x0, second.x0)
        high = min(first.y1, second.y1) - max(first.y0, second.y0)
        assert min(wide, high) <= 1, f"“{one}” lies on “{other}”"


def check_pixels(pixels):
    """Check that a picture is of a sensible size, not blank, and not in the user's red."""
    assert 200 < min(pixels.shape[:2]) <= max(pixels.shape[:2]) < 2500
    assert (pixels != 255).any(axis=-1).mean() > 0.01
    assert not (pixels == [255, 0, 0]).all(axis=-1).any()
