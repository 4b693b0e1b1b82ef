"""How each layer becomes plain ones.

Axes: B batch, C I O channels, G elements, Y X image, V U kernel.
"""

import copy
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from partial_equiv.convs import (
    BatchNorm,
    CosetPool,
    GConv2d,
    GroupConv,
    GroupFeatureMap,
    GroupPool2d,
    LayerNorm,
    LiftingConv,
    PlainFilter,
    PointwiseConv,
    binomial,
)
from partial_equiv.export.field import Field, Part, draw
from partial_equiv.export.modules import MaximumAndMean, OverElements, Scale, WeightedMean, WeightedNorm
from partial_equiv.sampling import Sample

INSTANCE_EPS = 1e-5
Readout = Callable[[GroupFeatureMap], Tensor]


def from_filters(filters: Iterable[PlainFilter], out_channels: int, sample: Sample, field: Field) -> Part:
    """Return the convolutions that apply filters one after another."""
    layers: list[nn.Module] = []
    height, width = field.size
    for plain in filters:
        side = plain.dilation * (plain.weight.shape[-1] - 1) + 1
        before = after = plain.padding if isinstance(plain.padding, int) else side // 2 * (plain.padding == "same")
        if plain.padding == "same" and side % 2 == 0:  # torch pads both sides alike
            before = (side - 1) // 2
            layers.append(nn.ZeroPad2d((before, after, before, after)))
        height, width = ((n + before + after - side) // plain.stride + 1 for n in (height, width))
        layers.append(_conv(plain, 0 if before < after else after))
    return Part(layers, Field(out_channels, (height, width), sample))


def _conv(plain: PlainFilter, padding: int) -> nn.Conv2d:
    rows, columns, *side = plain.weight.shape
    conv = nn.Conv2d(
        columns * plain.groups,
        rows,
        (side[0], side[1]),
        stride=plain.stride,
        padding=padding,
        dilation=plain.dilation,
        groups=plain.groups,
        bias=plain.bias is not None,
        device="meta",  # so that no random number is drawn for weights that are overwritten
    )
    conv.weight = parameter(plain.weight)
    if plain.bias is not None:
        conv.bias = parameter(plain.bias)
    return conv


def parameter(values: Tensor) -> nn.Parameter:
    """Return fresh numbers to learn."""
    return nn.Parameter(values.detach().clone(memory_format=torch.contiguous_format))


def lifting_conv(conv: LiftingConv, field: Field) -> Part:
    """Convert a lifting."""
    sample = draw(conv.sampler)
    return from_filters(conv.filters(sample, None, field.size), conv.out_channels, sample, field)


def group_conv(conv: GroupConv, field: Field) -> Part:
    """Convert a group convolution; without a sampler it keeps the elements of its input."""
    sample = field.sample if conv.sampler is None else draw(conv.sampler)
    return from_filters(conv.filters(sample, field.sample, field.size), conv.out_channels, sample, field)


def pointwise_conv(conv: PointwiseConv, field: Field, sample: Sample) -> Part:
    """Convert a convolution over the elements alone, at given output elements."""
    return from_filters(conv.filters(sample, field.sample, field.size), conv.out_channels, sample, field)


def gconv2d(conv: GConv2d, field: Field) -> Part:
    """Convert a convolution of exact filters."""
    like = field.sample.elements
    elements = conv.group.grid(conv.no_elements, like.dtype, like.device).unsqueeze(0)
    return from_filters(conv.filters(), conv.out_channels, Sample(elements), field)


def batch_norm(norm: BatchNorm | nn.BatchNorm3d, field: Field) -> Part:
    """Convert a batch norm per channel: every element of a channel has its statistics."""
    source = norm.norm if isinstance(norm, BatchNorm) else norm
    plain = nn.BatchNorm2d(field.channels * field.no_elements, source.eps, source.momentum, device="meta")
    plain.weight, plain.bias = (parameter(field.per_channel(n)) for n in (source.weight, source.bias))
    assert source.running_mean is not None and source.running_var is not None
    assert source.num_batches_tracked is not None
    plain.running_mean, plain.running_var = map(field.per_channel, (source.running_mean, source.running_var))
    plain.num_batches_tracked = source.num_batches_tracked.clone()
    return Part([plain], field)


def layer_norm(norm: LayerNorm, field: Field) -> Part:
    """Convert a layer norm: one group norm, or weighted moments and then scale and shift."""
    source = norm.norm
    weight, bias = (parameter(field.per_channel(n)) for n in (source.weight, source.bias))
    if field.sample.weights is None:
        plain = nn.GroupNorm(1, field.channels * field.no_elements, source.eps, device="meta")
        plain.weight, plain.bias = weight, bias
        return Part([plain], field)
    counts = field.weights.repeat(field.channels)
    affine = nn.Conv2d(len(counts), len(counts), 1, groups=len(counts), device="meta")
    affine.weight, affine.bias = parameter(weight[:, None, None, None]), bias
    return Part([WeightedNorm(1, counts, source.eps), affine], field)


def instance_norm(field: Field) -> Part:
    """Return the norm of every image and channel over elements and pixels."""
    count = field.channels * field.no_elements
    if field.sample.weights is None:
        return Part([nn.GroupNorm(field.channels, count, INSTANCE_EPS, affine=False)], field)
    return Part([WeightedNorm(field.channels, field.weights.repeat(field.channels), INSTANCE_EPS)], field)


def relu(field: Field) -> Part:
    """Return a ReLU."""
    return Part([nn.ReLU()], field)


def max_pool(field: Field) -> Part:
    """Return the maximum over tiles of 2 x 2 pixels."""
    return Part([nn.MaxPool2d(2)], halved(field))


def halved(field: Field) -> Field:
    """Return the field after a halving of its map."""
    return field._replace(size=(field.size[0] // 2, field.size[1] // 2))


def group_pool(pool: GroupPool2d, field: Field) -> Part:
    """Convert a halving, element by element."""
    return GROUP_POOLS[pool.kind](field)


def _blur(field: Field) -> Part:
    count = field.channels * field.no_elements
    (line,) = binomial(field.sample.elements.dtype, field.sample.elements.device)
    weight = torch.outer(line, line).repeat(count, 1, 1, 1)
    blur = _conv(PlainFilter(weight, stride=2, groups=count), 1)
    return Part([blur.requires_grad_(False)], halved(field))


GROUP_POOLS = {
    "max": max_pool,
    "avg": lambda field: Part([nn.AvgPool2d(2)], halved(field)),
    "blur4": _blur,
}


def coset_pool(pool: CosetPool, field: Field) -> Part:
    """Convert a reduction over the elements."""
    return Part([OverElements(field.channels, pool.kind)], on_plane(field))


def on_plane(field: Field) -> Field:
    """Return the field once it has one element."""
    return field._replace(sample=Sample(field.sample.elements.new_zeros(1, 1, 0)))


def element_mean(field: Field) -> Part:
    """Return the mean over the elements, weighted where they carry weights."""
    weights = field.sample.weights
    mean = OverElements(field.channels, "mean") if weights is None else WeightedMean(weights[0])
    return Part([mean], on_plane(field))


def weigh(field: Field) -> Part:
    """Return the product of the values with their elements' weights, nothing where all are 1."""
    if field.sample.weights is None:
        return Part([], field)
    return Part([Scale(field.weights.repeat(field.channels))], field)


def max_and_mean(field: Field) -> Part:
    """Return maximum and mean over the pixels, as twice the channels."""
    return Part([MaximumAndMean()], field._replace(channels=2 * field.channels, size=(1, 1)))


def image_mean(field: Field) -> Part:
    """Return the mean over the pixels as a vector."""
    return Part([nn.AdaptiveAvgPool2d(1), nn.Flatten(1)], field._replace(size=(1, 1)))


def volume_mean(pool: nn.AdaptiveAvgPool3d, field: Field) -> Part:
    """Convert a mean over pixels that leaves elements alone."""
    return Part([nn.AdaptiveAvgPool2d(1)], field._replace(size=(1, 1)))


def volume_max(pool: nn.MaxPool3d, field: Field) -> Part:
    """Convert a maximum over pixels that takes one element at a time."""
    side, stride, padding = (_of_columns(sizes) for sizes in (pool.kernel_size, pool.stride, pool.padding))
    rows, columns = ((n + 2 * padding - side) // stride + 1 for n in field.size)
    return Part([nn.MaxPool2d(side, stride, padding)], field._replace(size=(rows, columns)))


def _of_columns(sizes: int | tuple[int, ...]) -> int:
    return sizes if isinstance(sizes, int) else sizes[-1]


def flatten(layer: nn.Flatten, field: Field) -> Part:
    """Convert a flattening: of channels and elements, which lie flat already, or of everything."""
    if layer.end_dim != 2:
        return Part([nn.Flatten(1)], field)
    return Part([], on_plane(field)._replace(channels=field.channels * field.no_elements))


def copied(layer: nn.Module, field: Field) -> Part:
    """Take a layer as it is."""
    return Part([copy.deepcopy(layer)], field)


def nothing(layer: nn.Module, field: Field) -> Part:
    """Leave a layer out that does nothing in evaluation."""
    return Part([], field)


def linear_map(function: Readout, field: Field) -> nn.Linear:
    """Return an affine readout of features on one pixel as one linear layer of all channels and elements.

    Its columns are what the readout makes of features that are 1 in one place and 0 elsewhere.

    Args:
        function: Features [n, C, G, 1, 1] -> [n, K].
        field: Before the readout.
    """
    count = field.channels * field.no_elements
    like = field.sample.elements
    shape = (field.channels, field.no_elements, 1, 1)

    def read(values: Tensor) -> Tensor:
        return function(GroupFeatureMap(values.unflatten(1, shape), *field.sample))

    bias = read(torch.zeros(1, count, dtype=like.dtype, device=like.device))
    columns = read(torch.eye(count, dtype=like.dtype, device=like.device)) - bias
    linear = nn.Linear(count, bias.shape[1], device="meta")
    linear.weight, linear.bias = parameter(columns.T), parameter(bias[0])
    return linear
