"""What the processes of one training need to know of one another."""

from partial_equiv.ranks.collectives import agree, gather, no_ranks, no_shares, rank
from partial_equiv.ranks.draws import Rows, own_rows, rand_rows, rank_dropout
from partial_equiv.ranks.first import agree_random, from_first, summed, wait_for_first
from partial_equiv.ranks.joined import joined
from partial_equiv.ranks.norm import RankBatchNorm, convert_norms, merge_moments
from partial_equiv.ranks.parallel import parallel, without_sync

__all__ = [
    "RankBatchNorm",
    "Rows",
    "agree",
    "agree_random",
    "convert_norms",
    "from_first",
    "gather",
    "joined",
    "merge_moments",
    "no_ranks",
    "no_shares",
    "own_rows",
    "parallel",
    "rand_rows",
    "rank",
    "rank_dropout",
    "summed",
    "wait_for_first",
    "without_sync",
]
