"""Weights & Biases as a second sink: one run per job, never an error for want of an account."""

import importlib.util
import json
import logging
import netrc
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from partial_equiv.errors import UserError
from partial_equiv.menu import nearest
from partial_equiv.runs.atomic import write_atomically
from partial_equiv.runs.folder import Sink, read_log
from partial_equiv.runs.naming import RunLabels
from partial_equiv.runs.shown import (
    CONFUSION,
    Card,
    Sheet,
    as_html,
    class_sheet,
    data_card,
    layer_sheet,
    model_card,
    series,
)

LOG = logging.getLogger(__name__)
MODES = ("auto", "disabled", "offline", "online")
SERVERS = ("api.forge.coreweave.com", "api.wandb.ai")
"""Hosts of the public server: by its name of today, and by the one that older logins wrote into netrc."""
DATA_DIR = "WANDB_DATA_DIR"
"""Where wandb copies tables before it sends them; it reads the variable each time."""
IDENTITY = "wandb.json"
"""File of a run folder that says which W&B run it is."""


def make_wandb_sink(
    mode: str,
    project: str,
    config: Mapping[str, Any],
    folder: Path,
    name: str,
    group: str | None = None,
    tags: Sequence[str] = (),
    layers: Sequence[str] = (),
) -> Sink | None:
    """Return a sink that is one W&B run, or None where W&B is not to be used; wandb is imported only when it is.

    A folder that was sent to W&B before goes on with the same W&B run: its `wandb.json` keeps id, name, group and tags.

    Args:
        mode: "auto" is "online" where an API key is found (environment or netrc) and None otherwise, unless WANDB_MODE
            in the environment says offline or disabled; "disabled" is None; "offline" writes files for `wandb sync`.
        project: W&B project; the entity is the account's default.
        config: The resolved configuration, plain values.
        folder: The run folder, where W&B keeps its files, unless the environment variable WANDB_DIR names another.
        name: Shown name of the run.
        group: Shown group, for the seeds of one experiment.
        tags: Shown tags.
        layers: Names of the layers that learn a subset, in order.

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
    labels = RunLabels(name, group or "", tuple(tags))
    return _open(chosen, mode, project, dict(config), Path(folder), labels, layers)


def automatic_mode() -> str:
    """Return what "auto" means here: WANDB_MODE where set, else "online" with a key and "disabled" without."""
    asked = os.environ.get("WANDB_MODE", "").lower()
    asked = {"dryrun": "offline", "run": "online"}.get(asked, asked)
    if asked in ("offline", "disabled"):
        return asked
    return "online" if has_key() else "disabled"


def has_key() -> bool:
    """Say whether an API key lies where wandb looks for one: WANDB_API_KEY, or an entry of the server in netrc."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", f"https://{SERVERS[0]}")).netloc
    servers = SERVERS if host == SERVERS[0] else (host,)
    named = os.environ.get("NETRC")
    paths = [Path(named).expanduser()] if named else [Path.home() / ".netrc", Path.home() / "_netrc"]
    for path in paths:
        try:
            if path.is_file() and not netrc.netrc(path).hosts.keys().isdisjoint(servers):
                return True
        except (OSError, netrc.NetrcParseError):  # unreadable for us is unreadable for wandb
            continue
    return False


def read_identity(folder: Path) -> dict[str, Any]:
    """Return which W&B run a folder is: id, entity, project, name, group, tags and mode; empty if it never was one.

    Raises:
        UserError: the file is damaged.
    """
    path = folder / IDENTITY
    if not path.is_file():
        return {}
    try:
        identity = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is damaged: remove it, and the next W&B run of this folder is a new one") from error
    if not isinstance(identity, dict) or not isinstance(identity.get("id"), str):
        raise UserError(f"{path} names no W&B run: remove it, and the next W&B run of this folder is a new one")
    return identity


class WandbSink:
    """Sends a run's scalars, figures, tables, cards and summary to one W&B run.

    Args:
        wandb: The imported package.
        run: What `wandb.init` returned.
        config: The resolved configuration, for the cards.
        title: The run in a few words, for the cards.
        layers: Names of the layers that learn a subset, in order.
        epoch: How far the log of the run has come.
    """

    def __init__(
        self,
        wandb: ModuleType,
        run: Any,
        config: Mapping[str, Any],
        title: str,
        layers: Sequence[str] = (),
        epoch: int = 0,
    ) -> None:
        self._wandb, self._run, self._config, self._title = wandb, run, config, title
        self._layers, self._epoch = layers, epoch
        # Epochs are the axis that is shown. W&B's own step only orders what is sent, and must grow, over resumes too:
        # 2 * epoch for the row of an epoch, which is sent at once, and 2 * epoch + 1 for all that follows it.
        run.define_metric("epoch", hidden=True)
        run.define_metric("*", step_metric="epoch")

    def log(self, step: int, scalars: Mapping[str, Any]) -> None:
        """Send one epoch; a list becomes one series per entry, None is left out."""
        self._epoch = step
        self._run.log({"epoch": step, **series(scalars, self._layers)}, step=2 * step, commit=True)

    def image(self, name: str, array: NDArray[np.uint8]) -> None:
        """Send a picture, uint8 [Y, X, RGB]; wandb shows floats as black."""
        assert array.dtype == np.uint8, f"W&B pictures are uint8, not {array.dtype}"
        self._send({f"figures/{name}": self._wandb.Image(array)})

    def artifact(self, name: str, artifact: str | dict[str, Any]) -> None:
        """Send a page, and what each class is taken for as a table; other data stay in the run folder alone."""
        if name == CONFUSION and isinstance(artifact, dict):
            self._send_table("classes", class_sheet(artifact))
        elif isinstance(artifact, str) and name.endswith(".html"):
            self._send({f"pages/{name.removesuffix('.html')}": self._page(artifact)})

    def summary(self, values: Mapping[str, Any]) -> None:
        """Send the summary, what it holds of layers as a table, and the cards of model and data."""
        self._run.summary.update(dict(values))
        if (layers := layer_sheet(values)).rows:
            self._send_table("layers", layers)
        cards: dict[str, Card] = {
            "model": model_card(self._title, self._config, values),
            "data": data_card(self._config, values),
        }
        for name, card in cards.items():
            self._send({f"cards/{name}": self._page(as_html(card))})

    def close(self, exit_code: int) -> None:
        """Finish the run, so that the next job of this process gets a run of its own; not 0 marks it failed."""
        self._run.finish(exit_code=exit_code)

    def _send(self, media: Mapping[str, Any]) -> None:
        self._run.log({"epoch": self._epoch, **media}, step=2 * self._epoch + 1)

    def _page(self, text: str) -> Any:
        return self._wandb.Html(text, inject=False, data_is_not_path=True)

    def _send_table(self, name: str, sheet: Sheet) -> None:
        with _staged_in(Path(self._run.dir).parent):
            self._send({f"tables/{name}": self._wandb.Table(columns=list(sheet.columns), data=sheet.rows)})


@contextmanager
def _staged_in(folder: Path) -> Iterator[None]:
    """Let W&B keep its copy of a table in the run's own folder: the home is no part of it, and may not be writable."""
    if DATA_DIR in os.environ:
        yield
        return
    os.environ[DATA_DIR] = str(folder)
    try:
        yield
    finally:
        del os.environ[DATA_DIR]


def _open(
    chosen: str,
    asked: str,
    project: str,
    config: dict[str, Any],
    folder: Path,
    labels: RunLabels,
    layers: Sequence[str],
) -> Sink | None:
    import wandb  # 0.9 s, and only for those who use it

    place = Path(os.environ.get("WANDB_DIR") or folder)
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot create {place} for W&B: {error.strerror}; set WANDB_DIR to a writable folder"
        ) from error
    before = read_identity(folder)
    known = labels._replace(**{key: before[key] for key in labels._fields if key in before})
    try:
        run = wandb.init(
            id=before.get("id"),  # None: W&B chooses, and an agent of `wandb sweep` has chosen
            resume="allow",
            entity=before.get("entity"),
            project=before.get("project", project),
            name=known.name,
            group=known.group or None,
            tags=list(known.tags),
            notes=str(config.get("comment") or "") or None,
            config=config,
            allow_val_change=True,  # a resumed run may go further, or elsewhere
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
    folder.mkdir(parents=True, exist_ok=True)
    identity = {"id": run.id, "entity": run.entity or None, "project": run.project, **known._asdict(), "mode": chosen}
    write_atomically(folder / IDENTITY, (json.dumps(identity, indent=2) + "\n").encode())
    rows = read_log(folder)
    return WandbSink(wandb, run, config, known.name, layers, rows[-1]["epoch"] if rows else 0)
