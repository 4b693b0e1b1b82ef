"""Widths and map sizes of a network, worked out before any layer is made."""

import math
from collections.abc import Iterator, Sequence

from partial_equiv.convs import Padding, check_room, resolve_size
from partial_equiv.errors import UserError

MOST_BLOCKS = 1_000


def block_widths(no_hidden: int, no_blocks: int, factors: Sequence[float] | None) -> list[int]:
    """Return the output width of each block: [f1, n1, f2, n2, ...] gives n1 times int(f1 * no_hidden), and so on.

    Raises:
        UserError: the counts do not add up to `no_blocks`, or a width is below 1.
    """
    if factors is None:
        return [no_hidden] * no_blocks
    counts = [int(count) for count in factors[1::2]]
    whole = all(count >= 0 and count == given for count, given in zip(counts, factors[1::2], strict=True))
    if len(factors) % 2 or not whole or sum(counts) != no_blocks:
        raise UserError(
            f"net.block_width_factors={list(factors)} must be pairs (factor, blocks) whose blocks add up to "
            f"net.no_blocks={no_blocks}, for example [1,{no_blocks}]"
        )
    if not all(0 <= no_hidden * factor < math.inf for factor in factors[::2]):
        raise UserError(
            f"net.block_width_factors={list(factors)} makes no widths: give factors above 0, such as 1 or 2"
        )
    widths = [int(no_hidden * factor) for factor, count in zip(factors[::2], counts, strict=True) for _ in range(count)]
    if min(widths) < 1:
        raise UserError(
            f"net.block_width_factors={list(factors)} leaves a block without channels: give factors above 0"
        )
    return widths


def check_blocks(no_hidden: int, no_blocks: int, dropout: float, blocks: Sequence[int], lowest: int) -> None:
    """Check the numbers that every network shares.

    Raises:
        UserError: a count below 1, a dropout outside [0, 1), or a block that does not exist.
    """
    if no_hidden < 1 or not 1 <= no_blocks <= MOST_BLOCKS:
        given = f"net.no_hidden={no_hidden} and net.no_blocks={no_blocks}"
        raise UserError(f"{given} must be 1 or more, and blocks at most {MOST_BLOCKS:,}")
    if not 0 <= dropout < 1:
        raise UserError(f"net.dropout={dropout} is not a probability below 1: give a number in [0, 1)")
    outside = [block for block in blocks if not lowest <= block <= no_blocks]
    if outside:
        raise UserError(f"blocks {outside} do not exist: the blocks of this network are {lowest} to {no_blocks}")


def map_sizes(
    size: tuple[int, int],
    kernel_size: int | str,
    padding: Padding,
    convs_per_stage: Sequence[int],
    pool_blocks: Sequence[int],
) -> Iterator[tuple[int, int]]:
    """Yield the map size after each stage (stage 0 is the lifting).

    Raises:
        UserError: a map gets smaller than the kernel, or too small to pool.
    """
    height, width = size
    for stage, no_convs in enumerate(convs_per_stage):
        for _ in range(no_convs):
            side = resolve_size(kernel_size, height, width)
            check_room(height, width, side, padding)
            if padding != "same":
                change = 1 - side + (2 * padding if isinstance(padding, int) else 0)
                height, width = height + change, width + change
        if stage in pool_blocks:
            if min(height, width) < 2:
                raise UserError(
                    f"net.pool_blocks={list(pool_blocks)} pools a map of {height}x{width} after block {stage}: "
                    "pool less often or use larger images"
                )
            height, width = height // 2, width // 2
        yield height, width
