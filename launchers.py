"""Whether the launcher that a sweep asks for is there: Hydra itself passes over what is missing."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from shutil import which

# The library is imported inside the function: importing it takes seconds, and --help should not.

KEY = "hydra/launcher"
JOBLIB, SUBMITIT = "hydra_joblib_launcher", "hydra_submitit_launcher"
LAUNCHERS: Mapping[str, str | None] = {
    "basic": None,
    "local": JOBLIB,
    "slurm": SUBMITIT,
    "slurm_local": SUBMITIT,
    "joblib": JOBLIB,
    "submitit_slurm": SUBMITIT,
    "submitit_local": SUBMITIT,
}
"""Our launchers, those of the plugins that they build on, and the plugin that each needs."""


def launcher_fault(arguments: Sequence[str]) -> str | None:
    """Return what is wrong with the launcher that a command line names, None if nothing is.

    Args:
        arguments: The command line, for example ["-m", "hydra/launcher=local", "seed=0,1"].
    """
    given = [argument.lstrip("+") for argument in arguments]
    named = [argument.removeprefix(f"{KEY}=") for argument in given if argument.startswith(f"{KEY}=")]
    sweeps = not {"-m", "--multirun"}.isdisjoint(arguments)
    return next((fault for name in named if (fault := fault_of(name, sweeps=sweeps))), None)


def fault_of(name: str, *, sweeps: bool) -> str | None:
    """Return what is wrong with one launcher: unknown, not installed, or made for a cluster that this is not."""
    if name not in LAUNCHERS:
        from partial_equiv.menu import nearest

        return f"{KEY}={name} is not one of: {', '.join(LAUNCHERS)}{nearest(name, LAUNCHERS)}"
    plugin = LAUNCHERS[name]
    if plugin and not (find_spec("hydra_plugins") and find_spec(f"hydra_plugins.{plugin}")):
        return f"{KEY}={name} needs the package {plugin.replace('_', '-')}: pip install '.[sweep]'"
    if sweeps and name in ("slurm", "submitit_slurm") and not which("srun"):
        return f"{KEY}={name} needs SLURM, and srun is not on PATH: give {KEY}=slurm_local or local on this machine"
    return None
