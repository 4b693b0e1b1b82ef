"""What is asked of a network and of images before they are audited."""

import inspect
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from partial_equiv.audit.fields import fields, is_sample, tensor_of
from partial_equiv.audit.frozen import device_of
from partial_equiv.audit.guesses import Override, check_override
from partial_equiv.audit.moves import Move
from partial_equiv.audit.representations import turned
from partial_equiv.errors import UserError

WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel)


def check_model(model: Any) -> nn.Module:
    """Return the network itself, out of `torch.compile` and data parallelism.

    Raises:
        UserError: not a module, one of TorchScript, or its forward needs more than images.
    """
    if isinstance(model, torch.jit.ScriptModule):
        raise UserError(
            f"{type(model).__name__} is TorchScript, which hides its layers: give the module it was made of"
        )
    if not isinstance(model, nn.Module):
        raise UserError(f"model is a {type(model).__name__}: give a torch.nn.Module")
    inner = getattr(model, "_orig_mod", model)
    if isinstance(inner, WRAPPERS):
        inner = inner.module
    assert isinstance(inner, nn.Module)
    needed = _needed(inner)
    if len(needed) != 1:
        names = ", ".join(needed) or "nothing"
        raise UserError(
            f"the forward of {type(inner).__name__} takes {names}, and an audit passes one batch of images: wrap it in "
            "a module whose forward takes the images alone"
        )
    return inner


def _needed(model: nn.Module) -> list[str]:
    """Return the inputs that a forward cannot do without; an open signature counts as one."""
    parameters = inspect.signature(model.forward).parameters.values()
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    named = [p for p in parameters if p.kind in positional or p.kind == inspect.Parameter.KEYWORD_ONLY]
    needed = [p.name for p in named if p.default is inspect.Parameter.empty]
    if not needed and any(p.kind in (*positional, inspect.Parameter.VAR_POSITIONAL) for p in parameters):
        return ["x"]
    return needed


def check_state(model: nn.Module, dtype: torch.dtype) -> None:
    """Check that a network can be evaluated in a dtype.

    Raises:
        UserError: not a floating point type, or parameters are not initialised or have no values.
    """
    if not dtype.is_floating_point:
        raise UserError(f"dtype={dtype} is not a floating point type: give torch.float64 or torch.float32")
    for name, tensor in chain(model.named_parameters(), model.named_buffers()):
        if is_lazy(tensor):
            raise UserError(f"{name} is not initialised: run the network once on an image before it is audited")
        if tensor.device.type == "meta":
            raise UserError(f"{name} lies on the meta device and has no values: load the network's weights first")


def check_images(x: Any, model: nn.Module, moves: Sequence[Move], dtype: torch.dtype) -> Tensor:
    """Return the images on the network's device, in the dtype of the audit.

    Raises:
        UserError: not [B, C, Y, X] with two images or more, not finite, all images alike, or unmoved by the group; or
            the device lacks the dtype.
    """
    if not isinstance(x, Tensor) or x.dim() != 4 or min(x.shape) < 1:
        given = list(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise UserError(f"x={given} is no batch of images: give a tensor [B, C, Y, X]")
    if len(x) < 2:
        raise UserError(f"x holds {len(x)} image, and errors are measured against another image's: give two or more")
    device = device_of(model, x)
    if device.type == "mps" and dtype == torch.float64:
        raise UserError("MPS has no float64: pass dtype=torch.float32, or move network and images to the CPU")
    images = x.detach().to(device, dtype)
    if not bool(torch.isfinite(images).all()):
        raise UserError("x holds NaN or infinity: give finite images")
    if torch.equal(images, images.roll(1, 0)):
        raise UserError("the images of x are all the same, and errors are measured against another image's: vary them")
    if all(turned(images, move).shape == images.shape and torch.equal(turned(images, move), images) for move in moves):
        raise UserError("the group does not change x, so x cannot show a break: give other images, such as torch.randn")
    return images


def check_reps(reps: Any) -> Mapping[str, Override]:
    """Return the representations that the user gave.

    Raises:
        UserError: neither "auto" nor a dict of known representations.
    """
    if isinstance(reps, str) and reps == "auto":
        return {}
    if not isinstance(reps, Mapping):
        raise UserError(f"reps={reps!r} is neither 'auto' nor a dict from a layer's name to its representation")
    for name, what in reps.items():
        check_override(name, what)
    return reps


def check_output(output: Any) -> None:
    """Check that a network's output can be measured.

    Raises:
        UserError: it holds no tensor, or numbers that are not finite.
    """
    found = {path: tensor_of(field) for path, field in fields(output).items() if not is_sample(field)}
    if not found:
        raise UserError(
            f"the network returns a {type(output).__name__} without tensors: wrap it in a module that returns a tensor "
            "or a tuple or dict of tensors"
        )
    for path, tensor in found.items():
        if not bool(torch.isfinite(tensor).all()):
            raise UserError(f"the output{path} holds NaN or infinity on x: give images or weights with a finite output")


def hint(move: Move | None, images: Tensor) -> str:
    """Return what to do where a network does not take the images."""
    height, width = images.shape[-2:]
    if move is not None and move.swaps_axes and height != width:
        return f"give square images, or group='C2' or 'D2', which leave {height}x{width} as it is"
    return f"give images of the channels and size that it was made for, {list(images.shape)} are not"
