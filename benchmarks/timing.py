"""Interleaved timing: machines are noisy, so what is compared takes turns, and ratios are taken round by round."""

import math
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from benchmarks.spread import Spread, spread

SHORTEST = 0.02  # seconds: what is faster runs several times a round, so that the clock and the launch do not count
MOST_REPEATS = 200


@dataclass(frozen=True)
class Rounds:
    """Seconds of each candidate, one number a round."""

    of: Mapping[str, list[float]]

    def seconds(self, name: str) -> Spread:
        """Return median and quartiles over the rounds."""
        return spread(self.of[name])

    def ratio(self, name: str, over: str) -> Spread:
        """Return median and quartiles of the ratios that each round has."""
        return spread([a / b for a, b in zip(self.of[name], self.of[over], strict=True)])


def interleaved(candidates: Mapping[str, Callable[[], object]], *, no_rounds: int, title: str = "") -> Rounds:
    """Return the seconds of each candidate over rounds in which every one runs, after a warm-up.

    The order turns round from round to round, so that none always follows the same other one.
    """
    repeats = {name: warm_up(run) for name, run in candidates.items()}
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for index in range(no_rounds):
        for name in list(candidates)[:: -1 if index % 2 else 1]:
            seconds[name].append(timed(candidates[name], repeats[name]))
    rounds = Rounds(seconds)
    if title:
        tell(f"{title}: " + ", ".join(f"{name} {rounds.seconds(name).median:.4g} s" for name in candidates))
    return rounds


def warm_up(run: Callable[[], object]) -> int:
    """Run once for whatever happens once, and return how often a round has to run it."""
    first = timed(run)
    second = timed(run) if first < 1 else first
    return min(MOST_REPEATS, max(1, math.ceil(SHORTEST / second)))


def timed(run: Callable[[], object], repeats: int = 1) -> float:
    """Return the seconds of one run, the mean over repeats."""
    wait()
    start = time.perf_counter()
    for _ in range(repeats):
        run()
    wait()
    return (time.perf_counter() - start) / repeats


def wait() -> None:
    """Wait for a GPU that is in use."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def tell(line: str) -> None:
    """Write a line to stderr: results go to stdout."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
