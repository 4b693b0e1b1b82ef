"""What a lifting convolution has learned of an image and of its quarter turn."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from partial_equiv.drawing.style import bare, new_figure, styled

TITLES = ("image x", "its quarter turn Tx", "learned filter", "f(x), summed over elements", "f(Tx), turned back")


@styled
def unlearning(
    pictures: Sequence[NDArray[np.floating]], title: str = "Can one lifting convolution tell an image from its turn?"
) -> Figure:
    """Draw an image, its turn, the filter, and the filter's response to both, the second turned back.

    The two responses are equal where the sampling grid is symmetric, whatever the filter is.

    Args:
        pictures: Image [Y, X], turn [Y, X], filter [V, U], response [Y', X'], response to the turn [Y', X'].
        title: Title of the figure.
    """
    figure = new_figure(9.4, 2.5)
    figure.suptitle(title)
    responses = np.concatenate([picture.ravel() for picture in pictures[3:]])
    for index, (picture, words) in enumerate(zip(pictures, TITLES, strict=True)):
        axes = figure.add_subplot(1, len(TITLES), index + 1)
        bare(axes)
        axes.set_title(words, fontsize=8.5)
        signed = index == 2
        limits = (-np.abs(picture).max(), np.abs(picture).max()) if signed else (picture.min(), picture.max())
        if index > 2:  # one scale, so that a difference is seen
            limits = (responses.min(), responses.max())
        axes.imshow(picture, cmap="PuOr" if signed else "gray", vmin=limits[0], vmax=limits[1], interpolation="nearest")
    return figure
