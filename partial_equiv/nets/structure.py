"""Whether what a predictor does is an action of the group: identity, inverse and composition.

Axes: B triples of views, D numbers of an embedding, C columns of an absolute latent, L numbers of an encoded one.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from partial_equiv.errors import UserError
from partial_equiv.latents import LatentEncoding


def structure_errors(
    predict: Callable[[Tensor, Tensor], Tensor],
    encoding: LatentEncoding,
    z: Tensor,
    latents_a: Tensor,
    latents_b: Tensor,
    latents_c: Tensor,
) -> dict[str, Tensor]:
    """Return how far a predictor is from an action, relative to what it acts on.

    identity:    |W(e) z - z| / |z|
    inverse:     |W(g_ba) W(g_ab) z - z| / |z|
    composition: |W(g_bc) W(g_ab) z - W(g_ac) z| / |z|

    Each is the mean over the batch, 0 for an action, and has a gradient, so that it may serve as a loss.

    Args:
        predict: W: embeddings [B, D] and encoded latents [B, L] -> [B, D], for example a `Predictor`.
        encoding: How latents of pairs are encoded.
        z: Embeddings to act on, usually of the views a.
        latents_a: Absolute latents of the views a.
        latents_b: Those of a second view of the same objects.
        latents_c: Those of a third.
    Shape:
        z [B, D], latents [B, C] -> three scalars.
    Raises:
        UserError: latents of augmentations, which do not compose.
    """
    if not encoding.composes:
        raise UserError(
            "latents of augmentations do not compose, so their predictor has no structure to measure: "
            "set train.latents to parts that are differences of views, such as [rotation]"
        )
    identity, ab, ba, bc, ac = (
        latent.to(z)
        for latent in (
            encoding.identity().expand(len(z), -1),
            encoding.relative(latents_a, latents_b),
            encoding.relative(latents_b, latents_a),
            encoding.relative(latents_b, latents_c),
            encoding.relative(latents_a, latents_c),
        )
    )
    length = torch.linalg.vector_norm(z, dim=-1).clamp_min(torch.finfo(z.dtype).tiny)
    at_b = predict(z, ab)
    differences = {
        "identity": predict(z, identity) - z,
        "inverse": predict(at_b, ba) - z,
        "composition": predict(at_b, bc) - predict(z, ac),
    }
    return {law: (torch.linalg.vector_norm(d, dim=-1) / length).mean() for law, d in differences.items()}
