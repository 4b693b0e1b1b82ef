"""What the conversion knows between two layers.

Axes: C channels, G elements, d coordinates of an element, Y X image.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor, nn

from partial_equiv.sampling import Sample, Sampler


class Field(NamedTuple):
    """Features as the next layer meets them: in the plain network they are [B, C * G, Y, X], as (channel, element).

    Args:
        channels: C.
        size: (Y, X).
        sample: Elements [1, G, d] and their weights [1, G], None where all are 1.
    """

    channels: int
    size: tuple[int, int]
    sample: Sample

    @property
    def no_elements(self) -> int:
        """G."""
        return self.sample.elements.shape[1]

    @property
    def weights(self) -> Tensor:
        """What each element counts, [G]."""
        elements, weights = self.sample.elements, self.sample.weights
        return elements.new_ones(self.no_elements) if weights is None else weights[0]

    def per_channel(self, numbers: Tensor) -> Tensor:
        """Return one number per channel, repeated over the elements: [C] -> [C * G]."""
        return numbers.detach().repeat_interleave(self.no_elements)


class Part(NamedTuple):
    """Plain layers in their order, and the field behind them."""

    layers: list[nn.Module]
    field: Field

    @property
    def module(self) -> nn.Module:
        """The layers as one module."""
        return self.layers[0] if len(self.layers) == 1 else nn.Sequential(*self.layers)


Convert = Callable[[Any, Field], Part]
Step = nn.Module | Callable[[Field], Part]
"""A module, which is looked up by its class, or a function that knows its own layers."""


def image_field(images: Tensor) -> Field:
    """Return the field of images [B, C, Y, X]: one element, which is nothing."""
    channels, height, width = images.shape[1:]
    return Field(channels, (height, width), Sample(images.new_zeros(1, 1, 0)))


def draw(sampler: Sampler) -> Sample:
    """Return the elements that a sampler gives in evaluation, those of weight 0 left out.

    No layer counts such an element, so the network without it is the same and smaller; where all that are left count
    fully, they need no weights any more.
    """
    sample: Sample = sampler(1)
    if sample.weights is None:
        return sample
    weights = sample.weights[0]
    kept = weights > 0
    if not bool(kept.all()):
        sample = Sample(sample.elements[:, kept])
    return sample._replace(weights=None if bool((weights[kept] == 1).all()) else weights[None, kept])
