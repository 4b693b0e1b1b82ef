"""Figures of a run inside of its page, scaled until they fit."""

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from partial_equiv.runs.artifacts import FIGURES
from partial_equiv.runs.report.html import Markup, escaped

MOST_BYTES = 2_000_000
"""Of all pictures of a page together, as they stand in it."""
WIDTHS = (1200, 900, 600, 400)
COLOURS = 256
MOST_PIXELS = 50_000_000  # of one file: beyond, it would take gigabytes to open

CAPTIONS: Mapping[str, str] = {
    "ablation": "Level errors of several runs",
    "audit": "Equivariance error of every layer",
    "audit_over_epochs": "Equivariance error of every layer over the epochs",
    "confusion_matrix": "Confusion matrix",
    "curves": "Loss and accuracy over the epochs",
    "data_symmetry": "Symmetry of the data, class by class: learned levels and two-sample tests",
    "learned_subsets": "Rotations and mirrors that each layer keeps",
    "levels": "Inferred level of every test image, and the true one of its class",
    "levels_over_epochs": "Learned levels over the epochs",
    "nearest_views": "Views retrieved for predicted ones",
    "parts": "What the parts of the representation tell",
    "pose_density": "Inferred poses of each class, and the law of the data",
    "predicted_rotation": "Predicted and true rotation between views",
    "rotation_response": "Probability of its class as a test image turns",
    "sample_sheet": "Training images, with their classes",
    "spectrum": "Singular values of the representation: a fall to zero is a collapse",
    "standardised": "Test images, and the same turned upright",
    "unlearning": "An image, its turn, a filter, and its response to both",
    "worst_images": "The images that the network is most wrong about",
}


class Picture(NamedTuple):
    """A figure: its name, and the content of a PNG file; empty where it was left out, for `reason`."""

    name: str
    content: bytes
    reason: str = ""

    def markup(self) -> Markup:
        """Return it with its caption, which is also what is read aloud."""
        caption = CAPTIONS.get(self.name, self.name.replace("_", " "))
        if not self.content:
            return Markup(f'<p class="note">{escaped(caption)}: {escaped(self.reason)}</p>')
        source = f"data:image/png;base64,{base64.b64encode(self.content).decode('ascii')}"
        image = f'<img src="{source}" alt="{escaped(caption)}">'
        note = f" <small>{escaped(self.reason)}</small>" if self.reason else ""
        return Markup(f'<figure class="picture">{image}<figcaption>{escaped(caption)}{note}</figcaption></figure>')


def pictures_of(run: Path, most_bytes: int = MOST_BYTES) -> dict[str, Picture]:
    """Return the figures of a run by name; those that are too many bytes are made smaller, or left out, and say so.

    Args:
        run: The folder.
        most_bytes: Of all of them together, in base64.
    """
    found = [_opened(path) for path in sorted((run / FIGURES).glob("*.png"))]
    for width in WIDTHS:
        if _no_bytes(found) <= most_bytes:
            break
        found = [_smaller(picture, width) for picture in found]
    while _no_bytes(found) > most_bytes:
        largest = max(range(len(found)), key=lambda place: len(found[place].content))
        found[largest] = Picture(found[largest].name, b"", f"too large for this page: see {_file(found[largest])}.")
    return {picture.name: picture for picture in found}


def _opened(path: Path) -> Picture:
    """Return a figure as it is; a damaged one is left out."""
    try:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
            if image.width * image.height > MOST_PIXELS:
                return Picture(path.stem, b"", f"too large for this page: see {FIGURES}/{path.name}.")
            image.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return Picture(path.stem, b"", f"{FIGURES}/{path.name} is damaged ({str(error).partition(' <')[0]}).")
    return Picture(path.stem, content)


def _smaller(picture: Picture, width: int) -> Picture:
    """Return a picture of at most `width` pixels and 256 colours, where that saves anything."""
    if not picture.content:
        return picture
    with Image.open(io.BytesIO(picture.content)) as image:
        plain = image.convert("RGB")
        if plain.width > width:
            plain = plain.resize((width, max(1, round(plain.height * width / plain.width))), Image.Resampling.LANCZOS)
        with io.BytesIO() as buffer:
            plain.quantize(COLOURS, Image.Quantize.FASTOCTREE).save(buffer, format="PNG")
            content = buffer.getvalue()
    if len(content) >= len(picture.content):
        return picture
    return Picture(picture.name, content, f"made smaller: {_file(picture)} is the whole picture")


def _file(picture: Picture) -> str:
    return f"{FIGURES}/{picture.name}.png"


def _no_bytes(pictures: Sequence[Picture]) -> int:
    return sum(4 * -(-len(picture.content) // 3) for picture in pictures)
