"""What a trained network does with turned images: class probabilities, and the kernels and activations of its layers.

Axes: A angles, C channels, Y X image, K classes, S sample sets, F input and G output elements, O I channels,
V U kernel.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from partial_equiv.convs import ContinuousConv, GroupFeatureMap
from partial_equiv.datasets import rotate_images
from partial_equiv.probes import device_of, evaluating

CHUNK = 64


def rotation_probabilities(
    model: nn.Module, image: Tensor, angles: Sequence[float], mean: Sequence[float], std: Sequence[float]
) -> Tensor:
    """Return the class probabilities of an image at each turn.

    Args:
        model: Normalised images [B, C, Y, X] -> logits [B, K]; used in evaluation mode, left as it was.
        image: uint8 [C, Y, X], before normalisation.
        angles: Radians, counter-clockwise.
        mean: Per channel, for values in [0, 1].
        std: Per channel.
    Shape:
        -> [A, K], on the CPU.
    """
    turned = turned_copies(image, angles)
    parts = [turned[start : start + CHUNK] for start in range(0, len(turned), CHUNK)]
    with evaluating(model):
        logits = [model(normalise(part, mean, std).to(device_of(model))) for part in parts]
    return torch.cat(logits).float().softmax(dim=-1).cpu()


def turned_copies(image: Tensor, angles: Sequence[float]) -> Tensor:
    """Return copies of an image turned about its centre, bilinear, black outside, values in [0, 1].

    Args:
        image: uint8 [C, Y, X].
        angles: Radians, counter-clockwise as displayed.
    Shape:
        -> [A, C, Y, X].
    """
    turns = torch.tensor(list(angles), dtype=torch.float64)
    return rotate_images((image.float() / 255).expand(len(turns), *image.shape), turns)


def normalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Return (images - mean) / std per channel of [..., C, Y, X]."""
    centre, scale = (torch.tensor(list(values), dtype=images.dtype).reshape(-1, 1, 1) for values in (mean, std))
    return (images - centre) / scale


class LayerRecord(NamedTuple):
    """What one convolution did with a batch, for two channels: the most active output and its strongest input."""

    name: str
    kernels: Tensor
    """[F, G, V, U]; F = 1 on the plane, and for the spatial factor of a factorised kernel."""
    activations: Tensor
    """[B, G, Y, X], before norm and nonlinearity."""
    elements: Tensor
    """[G, d]."""
    input_elements: Tensor | None
    """[F, d], None on the plane and for a spatial factor."""


def record_layers(model: nn.Module, images: Tensor) -> list[LayerRecord]:
    """Return the kernels and activations of every spatial continuous convolution, in the order of the modules.

    Args:
        model: The network; used in evaluation mode, left as it was.
        images: Normalised [B, C, Y, X].
    """
    calls: dict[str, tuple[object, GroupFeatureMap]] = {}
    kernels: dict[str, Tensor] = {}
    layers = {name: module for name, module in model.named_modules() if isinstance(module, ContinuousConv)}
    handles = []
    for name, layer in layers.items():

        def keep_call(_: nn.Module, args: tuple[object, ...], output: GroupFeatureMap, name: str = name) -> None:
            calls[name] = (args[0], output)

        def keep_kernel(_: nn.Module, __: object, output: Tensor, name: str = name) -> None:
            kernels[name] = output.detach()

        handles += [layer.register_forward_hook(keep_call), layer.kernel_hook.register_forward_hook(keep_kernel)]
    try:
        with evaluating(model):
            model(images.to(device_of(model)))
    finally:
        for handle in handles:
            handle.remove()
    seen = [name for name in layers if name in calls and kernels[name].shape[-1] > 1]
    return [_record(name, layers[name], *calls[name], kernels[name], len(images)) for name in seen]


def _record(
    name: str, layer: ContinuousConv, source: object, output: GroupFeatureMap, kernel: Tensor, no_images: int
) -> LayerRecord:
    values, elements = output.values[:no_images], output.elements[0]
    channel = int(values.float().var(dim=(0, 2, 3, 4)).argmax())
    inputs = source.elements[0] if isinstance(source, GroupFeatureMap) else None
    # Rows are (S, G, O), columns (I, F): see ContinuousConv.weight. A spatial factor has no F, and I or 1 of the I.
    no_inputs = max(kernel.shape[1] // layer.in_channels, 1)
    rows = kernel.reshape(-1, len(elements), layer.out_channels, *kernel.shape[1:])[0, :, channel]
    mine = rows.reshape(len(elements), -1, no_inputs, *kernel.shape[-2:])
    strongest = int(mine.float().square().sum(dim=(0, 2, 3, 4)).argmax())
    kernels = mine[:, strongest].transpose(0, 1).cpu().float()
    inputs = None if inputs is None or no_inputs != len(inputs) else inputs.cpu()
    return LayerRecord(name, kernels, values[:, channel].cpu().float(), elements.cpu(), inputs)


def element_label(element: Tensor) -> str:
    """Return an element (angle, mirror sign) as text in degrees, for example "90°", or "45° m" where it mirrors."""
    if element.numel() == 0:
        return "identity"
    angle = math.degrees(float(element[0]))
    near = round((angle + 180) % 360 - 180, 1) + 0.0  # in [-180, 180], nearest to the identity; -0.0 becomes 0.0
    mirrored = element.numel() > 1 and float(element[1]) < 0
    return f"{near:g}°{' m' if mirrored else ''}".replace("-", "\N{MINUS SIGN}")
