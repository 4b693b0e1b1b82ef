"""Files that a probe leaves beside its numbers."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from partial_equiv.runs.atomic import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIGURES = "figures"


def write_artifact(folder: Path, name: str, artifact: "Figure | str | dict[str, Any]") -> Path:
    """Write a figure into `figures/`, a text or plain data into the run folder, whole or not at all.

    Args:
        folder: The run folder.
        name: File name with its ending.
        artifact: A figure, a text, or what JSON can hold; numbers that are not finite are written as null.

    Raises:
        UserError: the folder cannot be written.
    """
    if isinstance(artifact, str):
        path, content = folder / name, artifact.encode()
    elif isinstance(artifact, dict):
        path, content = folder / name, (json.dumps(finite(artifact), indent=2, allow_nan=False) + "\n").encode()
    else:
        from partial_equiv.drawing import png

        path, content = folder / FIGURES / name, png(artifact)
        path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content)
    return path


def finite(value: Any) -> Any:
    """Return plain data with None for every number that JSON cannot hold."""
    if isinstance(value, dict):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
