"""Sets of elements for the images of a batch.

Axes: S sample sets, B images of one rank, M images of all ranks.
"""

import torch

from partial_equiv.ranks import own_rows
from partial_equiv.sampling.laws import Sample
from partial_equiv.sampling.samplers import Sampler


def draw_sets(sampler: Sampler, no_images: int | None, generator: torch.Generator | None = None) -> Sample:
    """Return one set of elements for a whole batch, or one for each of its images.

    Ranks that train together share the one set, for they draw it from generators that are alike; of sets for images,
    those of all M are drawn and the own B kept, so that every image has the set that it has in one process.

    Args:
        sampler: Draws.
        no_images: B; None for one set.
        generator: None is the global one.
    Shape:
        -> elements [S, G, d], S = B where sets are random and for images, else 1.
    """
    if no_images is None:
        return sampler(1, generator)  # type: ignore[no-any-return]
    rows = own_rows(no_images)
    sample: Sample = sampler(rows.total, generator)
    if rows.total == no_images:
        return sample
    # A set that is not random is one for all.
    elements, weights = (x if x is None or len(x) == 1 else rows.of(x) for x in (sample.elements, sample.weights))
    assert elements is not None
    return sample._replace(elements=elements, weights=weights)
