"""What the command is given by name: a model, its weights, its images.

Axes: B images, C channels, Y X pixels.
"""

import difflib
import importlib
import inspect
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from partial_equiv.errors import UserError

BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, KeyError, MemoryError)
LAYOUT = "give an npz with `images`, uint8 [N,H,W] or [N,H,W,3], or normalised float [N,C,H,W]"


class Input(NamedTuple):
    """Images for the measurement and where they come from, in words for the report."""

    images: Tensor
    words: str


def load_model(name: str, seed: int) -> nn.Module:
    """Return the model that "package.module:callable" makes, or that "package.module:object" is.

    Args:
        name: What stands after the colon may have dots. A callable is called without arguments.
        seed: Of torch's global generator while the model is made, so that random weights are the same each time; the
            generator is put back.

    Raises:
        UserError: no such module or name, arguments are needed, or no module comes out.
    """
    wanted = "give package.module:callable, for example torchvision.models:resnet18"
    module_name, colon, path = name.partition(":")
    if not (module_name and colon and path):
        raise UserError(f"MODEL={name!r} is no name of a model: {wanted}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        found = _find(module_name, path, wanted)
        torch.manual_seed(seed)  # again: a first import may have drawn
        model = found if isinstance(found, nn.Module) else _call(found, name)
    if not isinstance(model, nn.Module):
        raise UserError(f"MODEL={name!r} gives a value of type {type(model).__name__}, no torch module: {wanted}")
    return model


def _find(module_name: str, path: str, wanted: str) -> Any:
    try:
        found: Any = importlib.import_module(module_name)
    except (ImportError, TypeError, ValueError) as error:
        raise UserError(f"MODEL={module_name}:{path} cannot be imported ({error}): {wanted}") from error
    for part in path.split("."):
        if not hasattr(found, part):
            near = ", ".join(difflib.get_close_matches(part, dir(found), n=3))
            raise UserError(f"{module_name} has no {part!r}{near and f', but {near}'}: {wanted}")
        found = getattr(found, part)
    return found


def _call(factory: Any, name: str) -> Any:
    if not callable(factory):
        return factory
    try:
        inspect.signature(factory).bind()
    except TypeError as error:
        raise UserError(
            f"MODEL={name!r} cannot be called without arguments ({error}): name a function that can"
        ) from error
    except ValueError:  # written in C, without a signature: only the call can tell
        pass
    return factory()


def load_weights(model: nn.Module, path: Path) -> None:
    """Fill the model from a safetensors file whose names and shapes are its own.

    Raises:
        UserError: missing or broken file, or names and shapes that differ.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        model.load_state_dict(load_file(path))
    except OSError as error:
        raise UserError(f"cannot read --weights {path}: {error.strerror or error}") from error
    except SafetensorError as error:
        raise UserError(f"--weights {path} is no safetensors file ({error})") from error
    except RuntimeError as error:
        why = " ".join(str(error).split())[:300]
        raise UserError(f"--weights {path} is of another model ({why}): give the state dict of this one") from error


def white_noise(no_images: int, no_channels: int, size: tuple[int, int], seed: int) -> Input:
    """Return standard normal noise, independent in every pixel.

    Shape:
        -> [B, C, Y, X], float64.
    """
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(no_images, no_channels, *size, generator=generator, dtype=torch.float64)
    return Input(images, f"{no_images} images of seeded white noise (seed {seed}), not photographs")


def read_images(path: Path, no_images: int, size: tuple[int, int] | None) -> Input:
    """Return the first images of an npz file, resized where their size is not the one that is asked for.

    uint8 images are normalised by the mean and standard deviation of each channel over these images.

    Args:
        path: File with `images`.
        no_images: At most so many.
        size: Height and width; None keeps the images' own.
    Shape:
        -> [B, C, Y, X], float64.

    Raises:
        UserError: missing or broken file, another layout, or fewer than two images.
    """
    images = _to_tensor(_array(path), no_images, path)
    if len(images) < 2:
        raise UserError(
            f"--images {path} gives {len(images)}: errors are relative to how images differ, give 2 or more"
        )
    words = [f"{len(images)} images of {path.name}"]
    if size is not None and tuple(images.shape[-2:]) != size:
        words.append(f"resized from {images.shape[-2]} × {images.shape[-1]} (bilinear)")
        images = functional.interpolate(images, size, mode="bilinear", antialias=True)
    return Input(images, ", ".join(words))


def _array(path: Path) -> NDArray[Any]:
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise UserError(f"--images {path} is a single array: {LAYOUT}")
        with archive:
            if "images" not in archive:
                raise UserError(f"--images {path} holds no array `images`, only {archive.files[:8]}: {LAYOUT}")
            array: NDArray[Any] = archive["images"]
            return array
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"cannot read --images {path}: {error.strerror or error}") from error
    except BROKEN as error:
        raise UserError(f"--images {path} is no npz file that can be read ({str(error)[:200]}): {LAYOUT}") from error


def _to_tensor(images: NDArray[Any], no_images: int, path: Path) -> Tensor:
    photographs = images.dtype == np.uint8 and (images.ndim == 3 or (images.ndim == 4 and images.shape[-1] == 3))
    if 0 in images.shape or not (photographs or (images.dtype.kind == "f" and images.ndim == 4)):
        raise UserError(f"--images {path} holds {images.dtype} {list(images.shape)}: {LAYOUT}")
    values = torch.from_numpy(images[:no_images].astype(np.float64))
    if not photographs:
        return values
    values = values[:, None] if values.dim() == 3 else values.movedim(-1, 1)
    deviation, mean = torch.std_mean(values, dim=(0, 2, 3), keepdim=True, correction=0)
    return (values - mean) / deviation.clamp_min(1e-12)


def image_size(numbers: Sequence[int] | None) -> tuple[int, int] | None:
    """Return height and width of one or two numbers, None of none.

    Raises:
        UserError: more than two, or below 1.
    """
    if numbers is None:
        return None
    if len(numbers) > 2 or min(numbers) < 1:
        raise UserError(
            f"--size {' '.join(map(str, numbers))} is no size: give one number of pixels, or height and width"
        )
    return numbers[0], numbers[-1]
