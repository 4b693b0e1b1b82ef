"""What the processes of one training need to know of one another."""

from partial_equiv.ranks.collectives import gather, no_ranks
from partial_equiv.ranks.norm import RankBatchNorm, convert_norms

__all__ = ["RankBatchNorm", "convert_norms", "gather", "no_ranks"]
