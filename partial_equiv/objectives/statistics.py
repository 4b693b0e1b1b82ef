"""What a batch of embeddings looks like: signs of collapse, as pure functions.

Axes: B examples, D numbers.
"""

import torch
from torch import Tensor
from torch.nn import functional

from partial_equiv.objectives.split_terms import wide


@torch.no_grad()
def embedding_statistics(x: Tensor) -> dict[str, Tensor]:
    """Return "std", "corr" and "abs_corr" of embeddings.

    std = mean_d std_b(x / |x|): 1 / sqrt(D) where directions are spread evenly, 0 after a collapse.
    corr = mean_(i != j) R_ij, R the correlation matrix of x, standardised by deviation + 1e-5; abs_corr = mean |R_ij|,
    in which correlations of both signs do not cancel. All are 0 for a single example, the last two for a single number.

    Args:
        x: Of one rank: nothing is exchanged, gather first what should be.
    Shape:
        [B, D] -> three of [].
    Source: std and corr as Garrido et al. 2023 log them.
    """
    with torch.autocast(x.device.type, enabled=False):
        x = wide(x)
        standard = (x - x.mean(dim=0)) / (deviation(x) + 1e-5)
        above = (standard.mT @ standard / max(len(x) - 1, 1)).triu(1)
        no_pairs = max(x.shape[1] * (x.shape[1] - 1) / 2, 1)
        return {
            "std": deviation(functional.normalize(x, dim=-1)).mean(),
            "corr": above.sum() / no_pairs,
            "abs_corr": above.abs().sum() / no_pairs,
        }


def deviation(x: Tensor) -> Tensor:
    """Return the unbiased standard deviation of each number, 0 for a single example: [B, D] -> [D]."""
    return ((x - x.mean(dim=0)).square().sum(dim=0) / max(len(x) - 1, 1)).sqrt()
