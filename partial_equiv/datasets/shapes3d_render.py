"""A ray caster for objects of boxes, ellipsoids and cylinders that float above a floor, under a spot light.

Every ray meets every part in closed form, so there is no marching and no mesh. Intersections are found in the frame of
the object: its parts stay where they are, and the rays turn.

Axes: V views of an object, P rays of a view, K rays that were chosen of all views, Y X pixels.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from partial_equiv.datasets.shapes3d_objects import DIAGONAL, Part, hsv_to_rgb
from partial_equiv.datasets.shapes3d_solids import crossing, dot, length, normals, shaded, turn_back
from partial_equiv.rotations import euler_matrix

CAMERA_DISTANCE, CAMERA_POLAR, FIELD_OF_VIEW = 2.5, math.pi / 4, math.radians(39.6)
FLOOR = -1.0  # height
LIGHT_DISTANCE, HALF_CONE = 4.0, math.radians(11.25)
FLOOR_COLOUR, LIGHT_COLOUR = (0.6, 0.6), (1.0, 0.8)  # saturation and value of the two hues
AMBIENT, FROM_ABOVE, SPOT = 0.25, 0.35, 1.0
GAMMA = 2.2
BIAS = 1e-3  # how far above its surface a ray to the light starts, so that rounding does not shade a point by itself
NO_RAYS_AT_ONCE = 2**18  # more are no faster


class Camera(NamedTuple):
    """Rays of the one fixed camera, and where they meet the floor.

    Args:
        place: Of the camera.
        rays: Unit directions.
        near: Rays that pass the sphere in which every object lies.
        floor: Where the rays meet the floor.
    Shape:
        place [3], rays [P, 3], near int64 [N], floor [P, 3].
    """

    place: Tensor
    rays: Tensor
    near: Tensor
    floor: Tensor


class Surface(NamedTuple):
    """Points of the object that the camera sees.

    Args:
        view: Of which view.
        ray: Of which ray.
        part: On which part.
        point: In the frame of the object.
        normal: Outward and of unit length, in the frame of the object.
    Shape:
        view, ray, part int64 [K], point, normal [K, 3].
    """

    view: Tensor
    ray: Tensor
    part: Tensor
    point: Tensor
    normal: Tensor


def make_camera(no_rays: int, device: torch.device | str = "cpu") -> Camera:
    """Return the camera that looks at the origin from above the positive y axis, x to the left.

    Args:
        no_rays: Rays along a side of the image, row by row from its upper left.
        device: Of the tensors.
    """
    place = CAMERA_DISTANCE * torch.tensor([0, math.sin(CAMERA_POLAR), math.cos(CAMERA_POLAR)], dtype=torch.float64)
    right = torch.tensor([-1.0, 0, 0], dtype=torch.float64)
    up = torch.tensor([0, -math.cos(CAMERA_POLAR), math.sin(CAMERA_POLAR)], dtype=torch.float64)
    offsets = ((torch.arange(no_rays, dtype=torch.float64) + 0.5) * 2 / no_rays - 1) * math.tan(FIELD_OF_VIEW / 2)
    rows, columns = torch.meshgrid(-offsets, offsets, indexing="ij")
    rays = columns.flatten()[:, None] * right + rows.flatten()[:, None] * up - place / CAMERA_DISTANCE
    # No ray is parallel to a face, whose distance would then be infinite.
    rays = rays / rays.norm(dim=1, keepdim=True) + 1e-9
    along = rays @ place
    near = torch.nonzero(place @ place - along**2 <= (DIAGONAL / 2) ** 2)[:, 0]
    floor = place + (FLOOR - place[2]) / rays[:, 2:] * rays
    return Camera(place.float().to(device), rays.float().to(device), near.to(device), floor.float().to(device))


def render(parts: Sequence[Part], latents: Tensor, camera: Camera, *, size: int, supersampling: int) -> Tensor:
    """Return the pictures of one object.

    light = albedo (ambient + above max(n_z, 0) + spot colour max(n . l, 0) [in the cone and not in shadow]),
    averaged over the rays of a pixel; pixel = 255 light^(1/2.2).

    Args:
        parts: The object, in its own frame.
        latents: Euler angles (x, y, z about fixed axes), floor hue, polar angle and azimuth of the light, its hue.
        camera: With `size` times `supersampling` rays along a side.
        size: Pixels along a side.
        supersampling: Rays along a side of a pixel.
    Shape:
        latents [V, 7] -> uint8 [V, 3, size, size], on the device of the camera.
    Source: the scene of 3DIEBench (Garrido et al. 2023). Differs: solids in place of meshes, one bounce, hard shadows.
    """
    step = max(1, NO_RAYS_AT_ONCE // len(camera.rays))
    blocks = []
    for block in latents.double().split(step):
        light = cast(parts, block, camera).unflatten(-1, [size * supersampling] * 2).clamp_(0, 1)
        means = functional.avg_pool2d(light, supersampling) if supersampling > 1 else light
        blocks.append(means.pow_(1 / GAMMA).mul_(255).round_().to(torch.uint8))
    return torch.cat(blocks)


def cast(parts: Sequence[Part], latents: Tensor, camera: Camera) -> Tensor:
    """Return the light that reaches the camera along each of its rays.

    Shape:
        latents float64 [V, 7] -> [V, 3, P].
    """
    device = camera.rays.device
    rotations = euler_matrix(latents[:, :3]).float().to(device)
    lights = light_places(latents[:, 4], latents[:, 5]).float().to(device)
    hues = latents[:, [3, 6]].numpy()
    floor_colours = torch.from_numpy(hsv_to_rgb(hues[:, 0], *FLOOR_COLOUR)).float().to(device)
    light_colours = torch.from_numpy(hsv_to_rgb(hues[:, 1], *LIGHT_COLOUR)).float().to(device)

    seen = find_surface(parts, rotations, camera)
    lit = lit_floor(parts, seen, rotations, lights, camera)
    image = floor_colours[:, :, None] * (AMBIENT + FROM_ABOVE + SPOT * light_colours[:, :, None] * lit[:, None])
    above, facing = lit_surface(parts, seen, rotations, lights)
    albedo = torch.tensor([part.albedo for part in parts], dtype=torch.float32, device=device)[seen.part]
    spot = SPOT * light_colours[seen.view] * facing[:, None]
    image[seen.view, :, seen.ray] = albedo * (AMBIENT + FROM_ABOVE * above[:, None] + spot)
    return image


def light_places(polar: Tensor, azimuth: Tensor) -> Tensor:
    """Return where the light is on its dome, [V] radians -> [V, 3]."""
    across = LIGHT_DISTANCE * torch.sin(polar)
    along = [across * torch.cos(azimuth), across * torch.sin(azimuth), LIGHT_DISTANCE * torch.cos(polar)]
    return torch.stack(along, dim=1)


def find_surface(parts: Sequence[Part], rotations: Tensor, camera: Camera) -> Surface:
    """Return the nearest point of the object along each ray that meets it."""
    place = turn_back(rotations[:, None], camera.place)  # 3 x [V, 1]
    rays = turn_back(rotations[:, None], camera.rays[camera.near])  # 3 x [V, N]
    nearest = torch.full_like(rays[0], math.inf)
    which = torch.full_like(rays[0], -1, dtype=torch.int8)
    for index, part in enumerate(parts):
        enters, leaves = crossing(part, place, rays)
        hit = (enters < leaves) & (enters < nearest)
        nearest = torch.where(hit, enters, nearest)
        which.masked_fill_(hit, index)
    view, ray = torch.nonzero(which >= 0, as_tuple=True)
    number = which[view, ray].long()
    distance = nearest[view, ray]
    point = torch.stack([place[k][view, 0] + distance * rays[k][view, ray] for k in range(3)], dim=1)
    return Surface(view, camera.near[ray], number, point, normals(parts, number, point))


def lit_surface(parts: Sequence[Part], seen: Surface, rotations: Tensor, lights: Tensor) -> tuple[Tensor, Tensor]:
    """Return how much each point of the object faces upwards and the light; 0 for the light where it is in shadow.

    Shape:
        rotations [V, 3, 3], lights [V, 3] -> [K] and [K], in [0, 1].
    """
    up = rotations[:, 2]  # the third row is R^T e_z
    places = torch.stack(turn_back(rotations, lights), dim=1)
    above = dot(seen.normal, up[seen.view]).clamp_(min=0)
    towards = places[seen.view] - seen.point
    towards = towards / length(towards)[:, None]
    facing = dot(seen.normal, towards).clamp_(min=0)
    turned = torch.nonzero(facing)[:, 0]
    start = (seen.point + BIAS * seen.normal)[turned].unbind(1)
    facing[turned[shaded(parts, start, towards[turned].unbind(1), math.inf)]] = 0
    return above, facing


def lit_floor(parts: Sequence[Part], seen: Surface, rotations: Tensor, lights: Tensor, camera: Camera) -> Tensor:
    """Return how much of the spot light the floor receives along each ray: 0 outside of its cone and in shadow.

    Only rays within the narrower cone of the sphere that holds the object are tested for its shadow.

    Shape:
        rotations [V, 3, 3], lights [V, 3] -> [V, P]; where the object hides the floor the number means nothing.
    """
    x, y, z = camera.floor.T.contiguous()
    a, b, c = (lights[:, k, None] for k in range(3))
    along = a * x + b * y + c * z
    distance = torch.sqrt(x * x + y * y + z * z - 2 * along + LIGHT_DISTANCE**2)
    cosine = (LIGHT_DISTANCE - along / LIGHT_DISTANCE) / distance
    lit: Tensor = (c - FLOOR) / distance * (cosine >= math.cos(HALF_CONE))
    candidates = cosine >= math.sqrt(1 - (DIAGONAL / 2 / LIGHT_DISTANCE) ** 2)
    candidates[seen.view, seen.ray] = False
    view, ray = torch.nonzero(candidates, as_tuple=True)
    start, points = lights[view], camera.floor[ray]
    turned = rotations[view]
    shade = shaded(parts, turn_back(turned, start), turn_back(turned, points - start), 1.0)
    lit[view[shade], ray[shade]] = 0
    return lit
