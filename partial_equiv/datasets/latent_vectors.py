"""Views without pictures: the rotated vectors of an object, mixed so that they cannot be read off.

Everything of a view is known, so that methods are compared in a minute and measures are tested against the truth.

Axes: N objects, V views of an object, D = 4 vectors of an object, B views.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from partial_equiv.datasets.counter import generator, uniform
from partial_equiv.datasets.info import DatasetInfo
from partial_equiv.datasets.view_parts import SCENE, ViewPart, assemble_views
from partial_equiv.datasets.view_scene import draw_scene, is_tested, made_info
from partial_equiv.datasets.view_set import ViewSplits, object_split
from partial_equiv.rotations import euler_matrix

NO_VECTORS, NO_SEEN, WIDTH = 4, 16, 96
NOISE = 0.25  # of an object about the centre of its class
GAIN = 1.5  # of each layer of the mixing: its sums have deviations near 0.9, where tanh is bent
CENTRES, INSTANCES, MIXING = range(-3, 0)  # streams of random numbers; those of pairs, epochs, are not negative
SEEN = ("ex", "ey", "ez", "floor_hue", "light_hue")
FACTS = DatasetInfo(
    name="latent_vectors",
    in_channels=WIDTH,
    no_classes=10,
    size=(1, 1),
    mean=(0.0,) * WIDTH,
    std=(1.0,) * WIDTH,
    class_names=tuple(str(label) for label in range(10)),
    no_train=0,
    no_validation=0,
    no_test=0,
)


class Mixing(NamedTuple):
    """Two layers without bias: W1 [96, 16] has orthogonal columns of length sqrt(6), W2 [96, 96] is orthogonal."""

    first: Tensor
    second: Tensor

    def mix(self, seen: Tensor) -> Tensor:
        """Return tanh(g W2 tanh(g W1 seen)), float64 [..., 16] -> [..., 96]."""
        return torch.tanh(GAIN * torch.tanh(GAIN * seen @ self.first.T) @ self.second.T)

    def unmix(self, mixed: Tensor) -> Tensor:
        """Return the numbers that were mixed, float64 [..., 96] -> [..., 16]."""
        hidden = torch.atanh(torch.atanh(mixed) @ self.second / GAIN)
        return hidden @ self.first * NO_SEEN / (GAIN * WIDTH)


def load_latent_vectors(
    *,
    no_objects: int,
    no_views: int,
    no_classes: int,
    rotation: Sequence[float],
    test_rotation: Sequence[float] | None,
    pairs_per_object: int,
    seed: int,
) -> ViewSplits:
    """Return views of which each is 96 numbers, as an image of one pixel; no object is in two splits.

    view = tanh(g W2 tanh(g W1 (R v_1, ..., R v_4, cos and sin of 2 pi the hues of floor and light)))

    An object is four unit vectors v, near those of its class; object i is of class i mod `no_classes`. R is the
    rotation of the latents. The place of the light is not seen, and its two columns are 0.

    Args:
        no_objects: Objects of all splits.
        no_views: Views of each.
        no_classes: Classes, 2 to 10.
        rotation: Least and largest size of each Euler angle, degrees; its sign is random.
        test_rotation: The same for the test objects; None is `rotation`.
        pairs_per_object: Examples of an epoch that show one object.
        seed: Of objects, mixing, views and pairs.

    Raises:
        UserError: a value out of range.
    """
    choices = {"no_objects": no_objects, "no_views": no_views, "no_classes": no_classes}
    info = latent_vectors_info(
        **choices, rotation=rotation, test_rotation=test_rotation, pairs_per_object=pairs_per_object
    )
    tested = is_tested(no_objects, no_classes)
    latents = draw_scene(tested, no_views, rotation=rotation, test_rotation=test_rotation, seed=seed)
    for name in set(SCENE) - set(SEEN):
        latents[..., SCENE.index(name)] = 0
    vectors = draw_vectors(no_objects, no_classes, seed)
    seen = torch.cat([rotated_vectors(latents, vectors), circular_hues(latents)], dim=-1)
    images = make_mixing(seed).mix(seen).float()
    labels = torch.arange(no_objects) % no_classes
    parts = [
        ViewPart(images[objects].flatten(0, 1)[:, :, None, None], latents[objects], labels[objects])
        for objects in object_split(no_objects, no_classes)
    ]
    return assemble_views(info, *parts, pairs_per_object=pairs_per_object, seed=seed)


def latent_vectors_info(**choices: Any) -> DatasetInfo:
    """Return the facts without drawing anything; arguments are those of `load_latent_vectors`."""
    return made_info(FACTS, **choices)


def draw_vectors(no_objects: int, no_classes: int, seed: int) -> Tensor:
    """Return the vectors of every object in its own frame: centres of the class plus noise, made of unit length.

    Shape:
        -> float64 [N, D, 3].
    """
    centres = unit(normal(no_classes, seed, CENTRES))
    return unit(centres[torch.arange(no_objects) % no_classes] + NOISE * normal(no_objects, seed, INSTANCES))


def normal(no_rows: int, seed: int, stream: int) -> Tensor:
    """Return standard normal numbers, float64 [no_rows, D, 3]."""
    source = generator(int(uniform(seed, stream)[0] * 2**53))
    return torch.randn(no_rows, NO_VECTORS, 3, dtype=torch.float64, generator=source)


def unit(vectors: Tensor) -> Tensor:
    """Return the vectors scaled to length 1."""
    scaled: Tensor = vectors / vectors.norm(dim=-1, keepdim=True)
    return scaled


def rotated_vectors(latents: Tensor, vectors: Tensor) -> Tensor:
    """Return R v for every view: what an encoder that undoes the mixing would know of its object.

    Shape:
        latents [N, V, 7], vectors [N, D, 3] -> float64 [N, V, 3 D].
    """
    rotations = euler_matrix(latents[..., :3].double())
    return torch.einsum("nvij,ndj->nvdi", rotations, vectors).flatten(2)


def circular_hues(latents: Tensor) -> Tensor:
    """Return cos and sin of the hues of floor and light, [..., 7] -> float64 [..., 4]."""
    angles = 2 * math.pi * latents[..., [SCENE.index("floor_hue"), SCENE.index("light_hue")]].double()
    return torch.cat([torch.cos(angles), torch.sin(angles)], dim=-1)


def make_mixing(seed: int) -> Mixing:
    """Return the mixing of a data set."""
    source = generator(int(uniform(seed, MIXING)[0] * 2**53))
    first, second = (torch.randn(WIDTH, width, dtype=torch.float64, generator=source) for width in (NO_SEEN, WIDTH))
    return Mixing(torch.linalg.qr(first).Q * math.sqrt(WIDTH / NO_SEEN), torch.linalg.qr(second).Q)
