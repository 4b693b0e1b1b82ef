"""Random numbers as a pure function of counters, so that no order of reading, worker or resume can change them."""

import numpy as np
import torch
from numpy.typing import NDArray

MASK = (1 << 64) - 1


def uniform(seed: int, *counters: int | NDArray[np.int64]) -> NDArray[np.float64]:
    """Return numbers in [0, 1), one per broadcast entry of the counters.

    Each counter is mixed into the state in turn by the splitmix64 finaliser. Equal arguments give equal numbers
    on every machine.

    Args:
        seed: Any integer.
        counters: Integers or integer arrays that broadcast, for example (epoch, index, draw).
    Shape:
        The broadcast shape of the counters, at least [1].
    Source: Steele, Lea & Flood 2014 (SplitMix).
    """
    state = mix(np.array([seed & MASK], dtype=np.uint64))
    for counter in counters:
        number = np.array([counter & MASK]) if isinstance(counter, int) else np.asarray(counter)
        state = mix(state ^ number.astype(np.uint64))
    return (state >> np.uint64(11)).astype(np.float64) * 2.0**-53


def mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scramble 64-bit integers, one to one."""
    state = state + np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def generator(seed: int) -> torch.Generator:
    """Return a generator of torch started from any integer, negative and huge ones included."""
    return torch.Generator().manual_seed(seed & (MASK >> 1))
