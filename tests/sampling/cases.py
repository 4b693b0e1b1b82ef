"""Every sampler there is, for the suites of this folder."""

from partial_equiv.groups import make_group
from partial_equiv.sampling import make_sampler

# Name -> group, samples, method, partial.
CASES = {
    "T2": ("T2", 1, "deterministic", False),
    "SE2 grid": ("SE2", 8, "deterministic", False),
    "E2 grid": ("E2", 8, "deterministic", False),
    "C4 grid": ("C4", 4, "deterministic", False),
    "D4 grid": ("D4", 8, "deterministic", False),
    "SE2 subset": ("SE2", 8, "deterministic", True),
    "E2 subset": ("E2", 8, "deterministic", True),
    "D4 subset": ("D4", 8, "deterministic", True),
    "T2 subset": ("T2", 1, "deterministic", True),
    "SE2 two": ("SE2", 2, "deterministic", True),
    "D1 subset": ("D1", 2, "deterministic", True),
    "SE2 random": ("SE2", 8, "random", False),
    "E2 random": ("E2", 8, "random", False),
    "SE2 interval": ("SE2", 8, "random", True),
    "E2 interval": ("E2", 8, "random", True),
    "SE2 one": ("SE2", 1, "random", True),
}
RANDOM = [name for name, case in CASES.items() if case[2] == "random"]
LEARNED = {
    "SE2 subset": {"gates": (7,)},
    "E2 subset": {"gates": (4,)},
    "D4 subset": {"gates": (4,)},
    "SE2 two": {"gates": (1,)},
    "D1 subset": {"gates": (1,)},
    "T2 subset": {"gates": (0,)},
    "SE2 interval": {"level": ()},
    "SE2 one": {"level": ()},
    "E2 interval": {"level": (), "gates": (1,)},
}


def make(case, **keys):
    name, number, method, partial = CASES[case]
    return make_sampler(
        group=make_group(name), no_samples=number, sampling_method=method, partial_equiv=partial, **keys
    )


def gated(case):
    return "gates" in LEARNED.get(case, {})
