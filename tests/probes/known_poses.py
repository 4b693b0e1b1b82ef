"""A tiny set whose upright images are known, and a network that knows every pose, for probes of standardised images.

Axes: N images, C channels, Y X pixels.
"""

import math

import torch

import partial_equiv
from partial_equiv.datasets import ImageSet, rotate_images
from partial_equiv.nets import Reading
from tests.nets.symmetry_specs import symmetry_spec

MEAN, STD = 0.2, 0.3
SPEC = symmetry_spec(
    net__widths=[2, 2, 4],
    net__resolution=13,
    net__decoder_width=2,
    info__size=[16, 16],
    info__mean=[MEAN],
    info__std=[STD],
)


def make_net():
    """Return an untrained network in evaluation mode."""
    return partial_equiv.build(SPEC).eval()


def make_set(no_images, *, seed, angles=4):
    """Return (upright images, the set of the same images turned): three noisy patterns, turned by 2 pi / `angles`."""
    draws = torch.Generator().manual_seed(seed)
    patterns = torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(7))
    labels = torch.arange(no_images) % 3
    noise = torch.randn(no_images, 1, 16, 16, generator=draws)
    plain = ((patterns[labels] + 0.15 * noise) * 255).round().clamp(0, 255).to(torch.uint8)
    poses = torch.randint(angles, (no_images,), generator=draws) * (2 * math.pi / angles)
    return plain, ImageSet(rotate_images(plain, poses), labels, mean=[MEAN], std=[STD], poses=poses)


def knowing(net, *sets):
    """Return the network with `read` replaced: poses are the true ones of the sets, z is a fixed projection."""
    known = {
        image.numpy().tobytes(): pose
        for images in sets
        for image, pose in zip(images.images, images.poses, strict=True)
    }
    directions = torch.randn(256, 8, generator=torch.Generator().manual_seed(3))

    def read(images):
        pixels = (images * STD + MEAN) * 255
        pose = torch.stack([known[image.numpy().tobytes()] for image in pixels.round().to(torch.uint8)])
        zero = torch.zeros(len(images))
        return Reading(pose, zero, zero, zero, zero.long(), zero[:, None], pixels.flatten(1) @ directions / 255)

    net.read = read
    return net
