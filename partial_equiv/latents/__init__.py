"""The latent of a pair of views: how one becomes the other."""

from partial_equiv.latents.encoding import COLUMNS, LatentEncoding, published_rotation

__all__ = ["COLUMNS", "LatentEncoding", "published_rotation"]
