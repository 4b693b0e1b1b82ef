"""Convolutions as dense weights, from the values of their kernels at single points, and what their filters amount to.

Axes: B batch, S sample sets, G output elements, F input elements, O I channels, V U kernel, T live taps.
"""

import numpy as np
import torch
from torch.nn import functional

from partial_equiv.convs import GroupConv, LiftingConv, PointwiseConv
from partial_equiv.groups import make_group
from partial_equiv.sampling import Sample, make_sampler
from tests.convs.loops import SIREN, coordinates_of, margin_of, matrices_of, taps_of

FACTORS = ("g", "gc")
# Kind of convolution and factorization: all there are.
LAYERS = [("lifting", "full"), ("lifting", "gc"), ("group", "full"), ("group", "g"), ("group", "gc")]


def make_conv(
    kind,
    factorization="full",
    name="SE2",
    number=4,
    size=3,
    channels=(2, 3),
    make_kernel=SIREN,
    angle="circle",
    sampler=None,
    dtype=torch.float64,
    fresh=False,
    **keys,
):
    """Return one convolution in evaluation; unless it is to be fresh, every bias drawn.

    Without biases a SIREN is odd, so that a product of two is even: the features of h and of half a turn more are then
    equal, and what turns them the wrong way would not show.
    """
    group = make_group(name)
    common = {"group": group, "make_kernel": make_kernel, "angle": angle}
    if kind == "lifting":
        sampler = sampler or make_sampler(group=group, no_samples=number)
        conv = LiftingConv(*channels, size=size, sampler=sampler, factorization=factorization, **common, **keys)
    elif kind == "group":
        keys = {"sampler": sampler, "no_samples": number, "factorization": factorization, **keys}
        conv = GroupConv(*channels, size=size, **common, **keys)
    else:
        conv = PointwiseConv(*channels, no_samples=number, **common)
    for name, parameter in conv.named_parameters() if not fresh else ():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=1 if name == "bias" else 0.3)
    return conv.to(dtype).eval()


class Product:
    """A factorised convolution as its law says it: a full one whose kernel is the product of its factors."""

    def __init__(self, conv, factorization):
        self.conv, self.factorization = conv, factorization
        for name in ("in_channels", "out_channels", "padding", "bias", "angle"):
            setattr(self, name, getattr(conv, name))
        self.no_samples = getattr(conv, "no_samples", None)

    def kernel(self, points):
        """Return the product at points [..., c] as [..., O * I]."""
        no_out, no_in = self.out_channels, self.in_channels
        if self.factorization == "full":
            return self.conv.kernel(points)
        spatial = self.conv.spatial_kernel(points[..., :2]).unflatten(-1, (no_out, -1))
        if isinstance(self.conv, LiftingConv):
            # Its mix of channels starts with rows of length 1, where a kernel starts with values of mean square 1.
            return (self.in_channels**0.5 * self.conv.channels * spatial).flatten(-2)
        assert spatial.shape[-1] == (no_in if self.factorization == "g" else 1)
        return (self.conv.kernel(points[..., 2:]).unflatten(-1, (no_out, no_in)) * spatial).flatten(-2)


@torch.no_grad()
def expected_weight(law, elements, inputs=None, weights=None, size=3):
    """Return the dense weight [G, O, I, F, V, U] of one set, the kernel evaluated point by point of its equation.

    Args:
        law: A `Product`.
        elements: h, [G, d].
        inputs: h', [F, d]; None for a lifting.
        weights: Of the input elements, [F].
        size: Side of the kernel.
    """
    dtype, taps = next(law.conv.parameters()).dtype, taps_of(size)
    turned = [[np.linalg.inv(h) @ x for _, _, x in taps] for h in matrices_of(elements)]
    if inputs is None:
        points, constant = (
            [[[list(x) for x in row]] for row in turned],
            np.array([(law.in_channels * len(taps)) ** -0.5]),
        )
    else:
        relative = [
            [coordinates_of(np.linalg.inv(h) @ other, inputs.shape[-1], law.angle) for other in matrices_of(inputs)]
            for h in matrices_of(elements)
        ]
        points = [[[[*x, *r] for x in row] for r in rs] for row, rs in zip(turned, relative, strict=True)]
        counts = np.ones(len(inputs)) if weights is None else weights.detach().double().numpy()
        constant = (law.no_samples / (law.in_channels * len(taps))) ** 0.5 * counts / counts.sum()
    values = law.kernel(torch.tensor(points, dtype=dtype)) * torch.from_numpy(constant).to(dtype)[:, None, None]
    dense = values.new_zeros(*values.shape[:2], size, size, law.out_channels, law.in_channels)
    values = values.unflatten(-1, (law.out_channels, law.in_channels))
    for index, (v, u, _) in enumerate(taps):
        dense[:, :, v, u] = values[:, :, index]
    return dense.permute(0, 4, 5, 1, 2, 3)


def dense_conv(values, weight, bias, padding, stride=1):
    """Return [B, I, F, Y, X] convolved with [G, O, I, F, V, U] as [B, O, G, Y', X']."""
    no_elements, no_out, *_, size = weight.shape
    before = margin_of(padding, size)
    after = size // 2 if padding == "same" else before
    padded = functional.pad(values.flatten(1, 2), [before, after, before, after])
    out = functional.conv2d(padded, weight.flatten(2, 3).flatten(0, 1), stride=stride)
    out = out.unflatten(1, (no_elements, no_out)).transpose(1, 2)
    return out if bias is None else out + bias.detach()[:, None, None, None]


def expected_values(conv, factorization, values, sample, inputs=None, size=3):
    """Return what a convolution must give, image by image: values [B, I, F, Y, X] (F = 1: lifting) -> [B, O, G, ...].

    Args:
        conv: The convolution.
        factorization: Its own.
        values: Its input.
        sample: Output elements.
        inputs: Input elements and their weights; None for a lifting.
        size: Side of the kernel.
    """
    law, out = Product(conv, factorization), []
    for b in range(len(values)):
        others = [None, None]
        if inputs is not None:
            others = [None if t is None else t[b % len(t)] for t in (inputs.elements, inputs.weights)]
        weight = expected_weight(law, sample.elements[b % len(sample.elements)], *others, size)
        out.append(dense_conv(values[b : b + 1], weight, conv.bias, conv.padding, getattr(conv, "stride", 1)))
    return torch.cat(out)


def sample_of(f):
    """Return the elements of a feature map with their weights, as its convolutions see them."""
    return Sample(f.elements, f.weights, f.closure)


def run_filters(filters, x):
    """Return plain filters applied one after the other to [B, C, Y, X]."""
    for f in filters:
        assert f.dilation == 1
        before = margin_of(f.padding, f.weight.shape[-1])
        after = f.weight.shape[-1] // 2 if f.padding == "same" else before
        padded = functional.pad(x, [before, after, before, after])
        x = functional.conv2d(padded, f.weight, f.bias, f.stride, groups=f.groups)
    return x


def dense_of(filters, no_columns):
    """Return what plain filters amount to: their response to a single 1 in each channel, [rows, columns, V, U].

    All other terms of the sums are exact zeros, so that a product of two factors comes out as it is rounded once.
    """
    side = max(f.weight.shape[-1] for f in filters)
    bare = [f._replace(padding=0, stride=1, bias=None) for f in filters]
    impulses = torch.eye(no_columns, dtype=filters[0].weight.dtype)[:, :, None, None]
    out = run_filters(bare, functional.pad(impulses, [side - 1] * 4))  # a correlation sees its taps in reverse
    return out.flip(-1, -2).transpose(0, 1)


def relative_gap(found, expected):
    """Return the largest difference over the largest expected value."""
    assert found.shape == expected.shape
    return ((found - expected).abs().max() / expected.abs().max()).item()


class Counter:
    """Counts the points at which the kernels of a module are evaluated, and keeps the points themselves."""

    def __init__(self, module):
        self.points, self.total = {}, 0
        for name, part in module.named_modules():
            if name.split(".")[-1] in ("kernel", "spatial_kernel"):
                self._watch(name, part)

    def _watch(self, name, kernel):
        own = kernel.features
        self.points[name] = []

        def features(*parts):
            found = own(*parts)
            shape = found.shape[:-1]
            self.total += shape.numel()
            self.points[name].append(torch.cat([p.detach().expand(*shape, -1) for p in parts], dim=-1).flatten(0, -2))
            return found

        kernel.features = features

    def take(self):
        """Return the number of points since the last call."""
        total, self.total = self.total, 0
        return total
