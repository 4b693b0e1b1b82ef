"""How a run is called on a dashboard: by its experiment overlay and its overrides, grouped with its other seeds."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from partial_equiv.runs.finding import CHANGES_NOTHING

SAME_EXPERIMENT = (*CHANGES_NOTHING, "dataset.download", "dataset.root", "dataset.test_root", "debug", "hydra", "seed")
"""Keys that do not tell one experiment from another; those below them neither."""
IN_TITLE = ("base_group", "conv", "dataset", "kernel", "net", "train")
"""Groups whose option the title of a run names already."""
LONGEST_NAME, LONGEST_TAG = 128, 64
"""Characters that W&B takes."""


class RunLabels(NamedTuple):
    """Name of a run, the group that it shares with its other seeds, and its tags."""

    name: str
    group: str
    tags: tuple[str, ...]


def label_run(title: str, config: Mapping[str, Any], overrides: Sequence[str] = ()) -> RunLabels:
    """Return how a run is called.

    An experiment is its overlay, or without one its title, followed by the overrides that change it: the group. Its
    name adds the seed. Tags are the overlay and its folder, data set, network, group, method, and the same overrides.

    Args:
        title: The run in a few words.
        config: The resolved configuration.
        overrides: What was typed, for example ["+experiment=sie/digits", "train.lr=0.01", "seed=1"].
    """
    pairs = [override.lstrip("+~").partition("=")[::2] for override in overrides]
    overlay = next((value for key, value in pairs if key == "experiment"), None)
    changed = [f"{key}={value}" for key, value in pairs if _tells_apart(key, overlay)]
    group = " ".join([overlay or title, *changed])
    facts = [("dataset", "type"), ("net", "type"), ("base_group", "name"), ("train", "method")]
    tags = [] if overlay is None else [overlay, *([overlay.rpartition("/")[0]] if "/" in overlay else [])]
    tags += [str(value) for section, key in facts if (value := (config.get(section) or {}).get(key))]
    seed = f" seed {config['seed']}" if "seed" in config else ""
    return RunLabels(
        _shortened(group, LONGEST_NAME - len(seed)) + seed,
        _shortened(group, LONGEST_NAME),
        tuple(dict.fromkeys(_shortened(tag, LONGEST_TAG) for tag in [*tags, *changed])),
    )


def _tells_apart(key: str, overlay: str | None) -> bool:
    """Say whether an override belongs into the name of the experiment."""
    if key == "experiment" or (overlay is None and key in IN_TITLE):
        return False
    return not any(key == same or key.startswith(f"{same}.") for same in SAME_EXPERIMENT)


def _shortened(text: str, most: int) -> str:
    """Return a text of at most `most` characters; two long texts that differ stay different."""
    if len(text) <= most:
        return text
    mark = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{text[: most - 12]}... {mark}"
