"""What every predictor of an embedding offers.

Axes: B pairs, D numbers of an embedding, L of the latent of a pair.
"""

from abc import ABC, abstractmethod
from typing import Literal

from torch import Tensor, nn

from partial_equiv.errors import UserError

Init = Literal["published", "identity"]


class Predictor(nn.Module, ABC):
    """From the embedding of one view, and what leads to the other, to the embedding of the other."""

    @abstractmethod
    def forward(self, z: Tensor, g: Tensor) -> Tensor:
        """Predict: [B, D], [B, L] -> [B, D]."""

    def matrix(self, g: Tensor) -> Tensor:
        """Return W(g) of a predictor that is linear in the embedding up to an offset: [B, L] -> [B, D, D].

        Raises:
            UserError: this predictor is not linear in the embedding.
        """
        raise UserError(f"this {type(self).__name__} is not one linear map for each latent: it has no matrix")
