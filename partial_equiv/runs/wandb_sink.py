"""Weights & Biases as a second sink: one run per job, never an error for want of an account."""

import importlib.util
import logging
import netrc
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from partial_equiv.errors import UserError
from partial_equiv.menu import nearest
from partial_equiv.runs.folder import Sink

LOG = logging.getLogger(__name__)
MODES = ("auto", "disabled", "offline", "online")


def make_wandb_sink(
    mode: str,
    project: str,
    config: Mapping[str, Any],
    folder: Path,
    name: str,
    group: str | None = None,
    tags: Sequence[str] = (),
) -> Sink | None:
    """Return a sink that is one W&B run, or None where W&B is not to be used; wandb is imported only when it is.

    Args:
        mode: "auto" is "online" where an API key is found (environment or netrc) and None otherwise, unless WANDB_MODE
            in the environment says offline or disabled; "disabled" is None; "offline" writes files for `wandb sync`.
        project: W&B project; the entity is the account's default.
        config: The resolved configuration, plain values.
        folder: Where W&B keeps its files, unless the environment variable WANDB_DIR names another place.
        name: Shown name of the run.
        group: Shown group, for the jobs of one sweep.
        tags: Shown tags.

    Raises:
        UserError: the mode is unknown, or "online" or "offline" was asked for and is impossible.
    """
    if mode not in MODES:
        raise UserError(f"wandb.mode={mode!r} is not one of: {', '.join(MODES)}{nearest(str(mode), MODES)}")
    chosen = automatic_mode() if mode == "auto" else mode
    if chosen == "disabled":
        return None
    if importlib.util.find_spec("wandb") is None:
        if mode == "auto":
            return None
        raise UserError(f"wandb.mode={mode} needs the package wandb: pip install wandb, or set wandb.mode=disabled")
    if chosen == "online" and not has_key():
        raise UserError("wandb.mode=online needs an API key: run `wandb login`, or set wandb.mode=offline")
    return _open(
        chosen, mode, project=project, config=dict(config), folder=Path(folder), name=name, group=group, tags=tags
    )


def automatic_mode() -> str:
    """Return what "auto" means here: WANDB_MODE where set, else "online" with a key and "disabled" without."""
    asked = os.environ.get("WANDB_MODE", "").lower()
    asked = {"dryrun": "offline", "run": "online"}.get(asked, asked)
    if asked in ("offline", "disabled"):
        return asked
    return "online" if has_key() else "disabled"


def has_key() -> bool:
    """Say whether an API key lies where wandb looks for one: WANDB_API_KEY, or the server's entry in netrc."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    named = os.environ.get("NETRC")
    paths = [Path(named).expanduser()] if named else [Path.home() / ".netrc", Path.home() / "_netrc"]
    for path in paths:
        try:
            if path.is_file() and netrc.netrc(path).hosts.get(host):
                return True
        except (OSError, netrc.NetrcParseError):  # unreadable for us is unreadable for wandb
            continue
    return False


class WandbSink:
    """Sends a run's scalars, figures and summary to one W&B run.

    Args:
        wandb: The imported package.
        run: What `wandb.init` returned.
    """

    def __init__(self, wandb: ModuleType, run: Any) -> None:
        self._wandb = wandb
        self._run = run
        # Epochs are an axis, not W&B's step: a step that repeats or falls would be dropped.
        run.define_metric("epoch")
        run.define_metric("*", step_metric="epoch")

    def log(self, step: int, scalars: Mapping[str, Any]) -> None:
        """Send one epoch; a list becomes one series per entry, None is left out."""
        flat: dict[str, Any] = {"epoch": step}
        for key, value in scalars.items():
            entries = (
                {f"{key}/{i}": entry for i, entry in enumerate(value)} if isinstance(value, list) else {key: value}
            )
            flat.update({name: entry for name, entry in entries.items() if entry is not None})
        self._run.log(flat)

    def image(self, name: str, array: NDArray[np.uint8]) -> None:
        """Send a picture, uint8 [Y, X, RGB]; wandb shows floats as black."""
        assert array.dtype == np.uint8, f"W&B pictures are uint8, not {array.dtype}"
        self._run.log({f"figures/{name}": self._wandb.Image(array)})

    def summary(self, values: Mapping[str, Any]) -> None:
        """Send the summary."""
        self._run.summary.update(dict(values))

    def close(self) -> None:
        """Finish the run, so that the next job of this process gets a run of its own."""
        self._run.finish()


def _open(
    chosen: str,
    asked: str,
    *,
    project: str,
    config: dict[str, Any],
    folder: Path,
    name: str,
    group: str | None,
    tags: Sequence[str],
) -> Sink | None:
    import wandb  # 0.9 s, and only for those who use it

    place = Path(os.environ.get("WANDB_DIR") or folder)
    place.mkdir(parents=True, exist_ok=True)
    try:
        run = wandb.init(
            project=project,
            name=name,
            group=group,
            tags=list(tags),
            config=config,
            dir=str(place),
            mode="online" if chosen == "online" else "offline",
            # Without this, later jobs of a multirun would get the first job's run back, with its config.
            reinit="finish_previous",
            settings=wandb.Settings(console="off"),
        )
    except wandb.errors.Error as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        if asked == "auto":
            LOG.warning("W&B is left out, it did not start: %s", reason)
            return None
        raise UserError(
            f"wandb.mode={asked} failed ({reason}): check the account and network, or set wandb.mode=offline"
        ) from error
    return WandbSink(wandb, run)
