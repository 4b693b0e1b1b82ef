"""TensorBoard as another sink: event files in the run folder, for `tensorboard --logdir outputs`."""

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from partial_equiv.errors import UserError
from partial_equiv.runs.folder import Sink, read_log
from partial_equiv.runs.shown import CONFUSION, as_markdown, class_sheet, data_card, layer_sheet, model_card, series

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

EVENTS = "tensorboard"
"""Folder of the event files, within the run folder."""


def make_tensorboard_sink(
    enabled: bool, config: Mapping[str, Any], folder: Path, name: str, layers: Sequence[str] = ()
) -> Sink | None:
    """Return a sink that writes event files, or None; the package tensorboard is imported only when it is used.

    Args:
        enabled: Whether it is wanted.
        config: The resolved configuration, plain values: the hyper-parameters.
        folder: The run folder.
        name: The run in a few words, for the card of the model.
        layers: Names of the layers that learn a subset, in order.

    Raises:
        UserError: it is wanted and the package is missing.
    """
    if not enabled:
        return None
    if importlib.util.find_spec("tensorboard") is None:
        raise UserError(
            "tensorboard=True needs the package tensorboard: pip install '.[tensorboard]', "
            "or leave out tensorboard=True"
        )
    return TensorboardSink(config, folder, name, layers)


class TensorboardSink:
    """Writes a run's scalars, figures, hyper-parameters, tables and cards as event files.

    Nothing is written before there is something to write. Rows of a run that goes on from an earlier epoch replace
    those of the same epochs.

    Args:
        config: The resolved configuration.
        folder: The run folder.
        title: The run in a few words.
        layers: Names of the layers that learn a subset, in order.
    """

    def __init__(self, config: Mapping[str, Any], folder: Path, title: str, layers: Sequence[str] = ()) -> None:
        self._config, self._folder, self._title, self._layers = config, folder, title, layers
        self._open: SummaryWriter | None = None
        rows = read_log(folder)
        self._epoch: int = rows[-1]["epoch"] if rows else 0

    def log(self, step: int, scalars: Mapping[str, Any]) -> None:
        """Write one epoch and flush it."""
        writer, self._epoch = self._writer(purge=step), step
        for name, value in series(scalars, self._layers).items():
            writer.add_scalar(name, value, step)
        writer.flush()

    def image(self, name: str, array: NDArray[np.uint8]) -> None:
        """Write a picture, uint8 [Y, X, RGB]."""
        self._writer().add_image(f"figures/{name}", array, self._epoch, dataformats="HWC")

    def artifact(self, name: str, artifact: str | dict[str, Any]) -> None:
        """Write what each class is taken for as text; all else stays in the run folder alone."""
        if name == CONFUSION and isinstance(artifact, dict):
            self._writer().add_text("tables/classes", as_markdown(class_sheet(artifact)), self._epoch)

    def summary(self, values: Mapping[str, Any]) -> None:
        """Write tables and cards as text, and tests and hyper-parameters, so that runs can be compared."""
        writer = self._writer()
        texts = {
            "cards/model": as_markdown(model_card(self._title, self._config, values)),
            "cards/data": as_markdown(data_card(self._config, values)),
        }
        if (layers := layer_sheet(values)).rows:
            texts["tables/layers"] = as_markdown(layers)
        for name, text in texts.items():
            writer.add_text(name, text, self._epoch)
        writer.flush()
        numbers = {
            f"summary/{name}": value
            for name, value in values.items()
            if name.startswith(("test/", "validation/")) and isinstance(value, int | float)
        }
        # A name of its own would make another run on the board. The file is another one, and so it comes last.
        writer.add_hparams(hyper_parameters(self._config), numbers, run_name=".", global_step=self._epoch)

    def close(self, exit_code: int) -> None:
        """Close the file, if there is one."""
        if self._open is not None:
            self._open.close()

    def _writer(self, purge: int | None = None) -> "SummaryWriter":
        if self._open is None:
            from torch.utils.tensorboard import SummaryWriter  # a second, and only for those who use it

            self._open = SummaryWriter(str(self._folder / EVENTS), purge_step=purge)
        return self._open


def hyper_parameters(config: Mapping[str, Any], prefix: str = "") -> dict[str, float | str]:
    """Return a configuration with dotted keys: numbers as they are, None left out, all else as text."""
    found: dict[str, float | str] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            found |= hyper_parameters(value, f"{prefix}{key}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[f"{prefix}{key}"] = value
        elif value is not None:
            found[f"{prefix}{key}"] = str(value)
    return found
