"""Figures of the inside of a network: kernels and activations.

Axes: F input elements, G output elements, C channels, Y X image, V U kernel.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from partial_equiv.drawing.style import bare, new_figure, picture, styled

Picture = NDArray[np.floating]
KERNEL_ROWS = 4


@styled
def kernels_and_activations(
    layer: str,
    inputs: Mapping[str, Picture],
    kernels: Picture,
    activations: Sequence[Picture],
    elements: Sequence[str],
    input_elements: Sequence[str] = (),
) -> Figure:
    """Draw one layer's kernels over its elements, and what they make of an image and of its transformed copies.

    Equivariance is seen as rows of activations that are transformed and shifted along the elements.

    Args:
        layer: Name of the layer.
        inputs: Label -> image [C, Y, X], values in [0, 1]: the image and its copies.
        kernels: [F, G, V, U], of one pair of channels; at most four input elements are shown.
        activations: For each input, [G, Y, X] of one channel.
        elements: Label of each output element.
        input_elements: Label of each input element; empty for a layer on the plane.
    """
    no_elements = kernels.shape[1]
    no_rows = min(len(kernels), KERNEL_ROWS)
    shown = [row * len(kernels) // no_rows for row in range(no_rows)]
    rows, columns = len(shown) + len(inputs), no_elements + 1
    figure = new_figure(0.92 * columns + 1.0, 0.96 * rows + 0.85)
    figure.suptitle(f"{layer}: kernels and activations at {no_elements} elements")
    grid = figure.add_gridspec(rows, columns)
    places = np.array([[figure.add_subplot(grid[y, x]) for x in range(columns)] for y in range(rows)])
    for axes in places.flat:
        bare(axes)
    reach = float(np.abs(kernels).max()) or 1.0
    for row, source in enumerate(shown):
        name = f"kernel\nfrom {input_elements[source]}" if input_elements else "kernel"
        places[row, 0].text(0.95, 0.5, name, ha="right", va="center", fontsize=8)
        for g in range(no_elements):
            places[row, g + 1].imshow(
                kernels[source, g], cmap="RdBu_r", vmin=-reach, vmax=reach, interpolation="nearest"
            )
    for g, label in enumerate(elements):
        places[0, g + 1].set_title(label, fontsize=8.5)
    _activation_rows(places[len(shown) :], inputs, activations)
    return figure


def _activation_rows(
    places: NDArray[np.object_], inputs: Mapping[str, Picture], activations: Sequence[Picture]
) -> None:
    low, high = min(float(a.min()) for a in activations), max(float(a.max()) for a in activations)
    for row, ((label, image), values) in enumerate(zip(inputs.items(), activations, strict=True)):
        places[row, 0].imshow(picture(image), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        places[row, 0].set_ylabel(label, fontsize=8.5)
        for g, value in enumerate(values):
            places[row, g + 1].imshow(value, cmap="viridis", vmin=low, vmax=high, interpolation="nearest")
