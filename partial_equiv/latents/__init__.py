"""The latent of a pair of views: how one becomes the other."""

from partial_equiv.datasets import SCENE as COLUMNS
from partial_equiv.datasets import TURNS as ANGLES
from partial_equiv.latents.encoding import HUES, LatentEncoding, published_rotation

__all__ = ["ANGLES", "COLUMNS", "HUES", "LatentEncoding", "published_rotation"]
