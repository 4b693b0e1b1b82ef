"""Runs of one configuration among many."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from partial_equiv.errors import UserError
from partial_equiv.runs.folder import CONFIG, SUMMARY
from partial_equiv.runs.plain_yaml import read_yaml

CHANGES_NOTHING = (
    "comment",
    "compile",
    "cuda_visible_devices",
    "device",
    "no_workers",
    "resume",
    "skip_finished",
    "tensorboard",
    "train.checkpoint_every",
    "train.keep_checkpoints",
    "train.max_minutes",
    "train.max_nonfinite",
    "verbose",
    "wandb",
)
"""Where, how and how often a run is done, shown and saved: runs that differ in these alone are one configuration."""
DEPTH = 4
"""Folders between the root and a run: date, time, number of the job in a sweep, and one to spare."""


def find_runs(root: Path, config: Mapping[str, Any], but: Sequence[str] = ()) -> list[Path]:
    """Return the folders of all runs below a root, or of the root itself, whose configuration is this one.

    Args:
        root: Where runs lie, for example outputs/.
        config: Plain values.
        but: Dotted keys that may differ; keys below them may, too.
    """
    wanted = leaves(config, but)
    return sorted(folder for folder, stored in stored_configs(root) if leaves(stored, but) == wanted)


def is_finished(run: Path) -> bool:
    """Say whether a run was trained and tested to its end."""
    return (run / SUMMARY).is_file()


def stored_configs(root: Path) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Yield every run folder with its configuration; what cannot be read is no run."""
    for depth in range(DEPTH + 1):
        for path in root.glob("/".join(["*"] * depth + [CONFIG])):
            try:
                yield path.parent, read_yaml(path)
            except UserError:
                continue


def leaves(tree: Mapping[str, Any], but: Sequence[str] = (), prefix: str = "") -> dict[str, Any]:
    """Return the values of a tree of keys by their dotted paths, without those at or below `but`."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if path in but:
            continue
        if isinstance(value, Mapping) and value:
            found |= leaves(value, but, f"{path}.")
        else:
            found[path] = value
    return found
