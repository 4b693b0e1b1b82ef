"""The ray caster against a slow march along rays, known silhouettes and shadows, and scipy's rotations."""

import colorsys
import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from partial_equiv.datasets import shapes3d_render
from partial_equiv.datasets.shapes3d_objects import (
    ALONG_X,
    ALONG_Y,
    ALONG_Z,
    BALL,
    BOX,
    DIAGONAL,
    FAMILIES,
    Part,
    hsv_to_rgb,
    make_object,
)
from partial_equiv.datasets.shapes3d_render import make_camera, render

KINDS = {"box": BOX, "ball": BALL, "along x": ALONG_X, "along y": ALONG_Y, "along z": ALONG_Z}
EYE = 2.5 * np.array([0, math.sin(math.pi / 4), math.cos(math.pi / 4)])


def draw(parts, latents, size, supersampling=1):
    latents = torch.as_tensor(latents, dtype=torch.float32).reshape(-1, 7)
    return render(parts, latents, make_camera(size * supersampling), size=size, supersampling=supersampling)


def some_latents(no_views, seed=0):
    u = np.random.default_rng(seed).uniform(size=(no_views, 7))
    scale = np.array([math.pi, math.pi, math.pi, 1, math.pi / 4, 2 * math.pi, 1])
    return (u - [0.5, 0.5, 0.5, 0, 0, 0, 0]) * scale


def axes_of_the_film():
    """Return right and up, from cross products."""
    ahead = -EYE / np.linalg.norm(EYE)
    right = np.cross(ahead, [0, 0, 1])
    right /= np.linalg.norm(right)
    return ahead, right, np.cross(right, ahead)


def pixel_of(point, size):
    """Return (row, column) at which a pinhole camera shows a point."""
    ahead, right, up = axes_of_the_film()
    arm = point - EYE
    half = math.tan(math.radians(39.6) / 2)
    x, y = arm @ right / (arm @ ahead) / half, arm @ up / (arm @ ahead) / half
    return (1 - y) / 2 * size - 0.5, (1 + x) / 2 * size - 0.5


def ray_of(row, column, size):
    ahead, right, up = axes_of_the_film()
    half = math.tan(math.radians(39.6) / 2)
    x, y = (2 * (column + 0.5) / size - 1) * half, (1 - 2 * (row + 0.5) / size) * half
    ray = ahead + x * right + y * up
    return ray / np.linalg.norm(ray)


def levels(parts, points):
    """Return for each part a number that is below 1 inside of it, [parts, ...]."""
    found = []
    for part in parts:
        q = (points - np.array(part.centre)) / np.array(part.half)
        of_axes = [np.abs(q[..., k]) for k in range(3) if not part.round[k]]
        of_axes += [np.sqrt(sum(q[..., k] ** 2 for k in range(3) if part.round[k]))] if any(part.round) else []
        found.append(np.max(of_axes, axis=0))
    return np.stack(found)


def march(parts, turn, start, direction, far):
    """Return the distance at which a ray first enters a part, found by steps and halving; None if it never does."""

    def least(t):
        return levels(parts, turn.inv().apply(start + np.atleast_1d(t)[:, None] * direction)).min(axis=0)

    steps = np.arange(0, far, 0.003)
    within = np.nonzero(least(steps) < 1)[0]
    if not len(within):
        return None
    low, high = steps[max(within[0] - 1, 0)], steps[within[0]]
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if least(middle)[0] < 1 else (middle, high)
    return high


def slow_pixel(parts, latents, row, column, size):
    """Return the colour of one ray, by marching it and its shadow ray through the world."""
    turn = Rotation.from_euler("xyz", latents[:3])
    theta, phi = latents[4:6]
    light = 4 * np.array([math.sin(theta) * math.cos(phi), math.sin(theta) * math.sin(phi), math.cos(theta)])
    ray = ray_of(row, column, size)
    distance = march(parts, turn, EYE, ray, 4)
    if distance is None:
        point, normal = EYE + (-1 - EYE[2]) / ray[2] * ray, np.array([0.0, 0, 1])
        albedo = np.array(colorsys.hsv_to_rgb(latents[3], 0.6, 0.6))
    else:
        point = EYE + distance * ray
        local = turn.inv().apply(point)
        part = parts[int(levels(parts, local).argmin())]
        slopes = [levels([part], local + step)[0] - levels([part], local - step)[0] for step in 1e-6 * np.eye(3)]
        normal, albedo = turn.apply(slopes / np.linalg.norm(slopes)), np.array(part.albedo)
    towards = (light - point) / np.linalg.norm(light - point)
    spot = max(normal @ towards, 0) * (towards @ light / 4 >= math.cos(math.radians(11.25)))
    if spot and march(parts, turn, point + 2e-3 * normal, towards, 4.5) is not None:
        spot = 0
    colour = np.array(colorsys.hsv_to_rgb(latents[6], 1, 0.8))
    bright = albedo * (0.25 + 0.35 * max(normal[2], 0) + spot * colour)
    return 255 * np.clip(bright, 0, 1) ** (1 / 2.2)


@pytest.mark.parametrize(("family", "number"), [("car", 3), ("snowman", 8), ("factory", 19), ("chair", 0)])
def test_pixels_equal_a_slow_march(family, number):
    size, no_pixels = 32, 60
    parts = make_object(number, family, 42)
    latents = some_latents(1, seed=number)[0]
    fast = draw(parts, latents, size)[0].permute(1, 2, 0).numpy().astype(float)
    places = np.random.default_rng(number).integers(5, size - 3, (no_pixels, 2))
    slow = np.array([slow_pixel(parts, latents, row, column, size) for row, column in places])
    wrong = np.abs(fast[places[:, 0], places[:, 1]] - slow).max(axis=1) > 1.5
    assert wrong.mean() < 0.04  # where a ray grazes an edge or the start of a shadow


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_a_marked_point_is_where_scipy_and_a_pinhole_put_it(kind, seed):
    size = 64
    latents = some_latents(1, seed)[0]
    at = np.random.default_rng(seed).uniform(-0.3, 0.3, 3)
    black, white = (Part(KINDS[kind], tuple(at), (0.06,) * 3, (share,) * 3) for share in (0.0, 1.0))
    differs = (draw([black], latents, size)[0] != draw([white], latents, size)[0]).any(dim=0).nonzero().double()
    row, column = pixel_of(Rotation.from_euler("xyz", latents[:3]).apply(at), size)
    assert len(differs) > 4
    assert abs(differs[:, 0].mean() - row) < 0.7 and abs(differs[:, 1].mean() - column) < 0.7


@pytest.mark.parametrize("radius", [0.1, 0.3, 0.55])
def test_the_silhouette_of_a_ball_is_a_disc(radius):
    size = 96
    latents = some_latents(1)[0]
    black, white = (Part(BALL, (0, 0, 0), (radius,) * 3, (share,) * 3) for share in (0.0, 1.0))
    differs = (draw([black], latents, size)[0] != draw([white], latents, size)[0]).any(dim=0)
    on_film = math.tan(math.asin(radius / 2.5)) / math.tan(math.radians(39.6) / 2) * size / 2
    assert int(differs.sum()) == pytest.approx(math.pi * on_film**2, rel=0.03)


def test_light_and_shadow_on_the_floor_are_discs_under_a_light_overhead():
    size, radius = 48, 0.3
    ball = Part(BALL, (0, 0, 0), (radius,) * 3, (0.5,) * 3)
    latents = np.array([0.3, -0.2, 0.1, 0.6, 0, 0, 0.1])
    image = draw([ball], latents, size)[0].permute(1, 2, 0).numpy()
    floor = np.rint(255 * (np.array(colorsys.hsv_to_rgb(0.6, 0.6, 0.6)) * 0.6) ** (1 / 2.2))  # without the spot
    shadow, disc = 5 * math.tan(math.asin(radius / 4)), 5 * math.tan(math.radians(11.25))
    checked = {"shadow": 0, "lit": 0, "dark": 0}
    for row in range(size):
        for column in range(size):
            ray = ray_of(row, column, size)
            if np.linalg.norm(np.cross(ray, EYE)) < radius + 0.01:
                continue  # the ball
            point = EYE + (-1 - EYE[2]) / ray[2] * ray
            away = math.hypot(point[0], point[1])
            kind = "shadow" if away < shadow - 0.02 else "lit" if shadow + 0.02 < away < disc - 0.02 else "dark"
            if min(abs(away - shadow), abs(away - disc)) <= 0.02:
                continue  # on an edge
            checked[kind] += 1
            assert np.array_equal(image[row, column], floor) == (kind != "lit"), (row, column, kind)
    assert min(checked.values()) > 20


def test_a_part_shades_another():
    latents = np.array([0, 0, 0, 0.5, 0, 0, 0.0])
    table = Part(BOX, (0, 0, -0.2), (0.4, 0.4, 0.05), (1, 1, 1))
    roof = Part(BOX, (0, -0.15, 0.3), (0.25, 0.2, 0.05), (0, 0, 0))
    row, column = (round(float(x)) for x in pixel_of(np.array([0, 0.0, -0.15]), 64))  # below the roof's front edge
    bare, covered = (draw(parts, latents, 64)[0, :, row, column].tolist() for parts in ([table], [table, roof]))
    assert bare[0] > covered[0] and bare[1:] == covered[1:]  # the light is red


def test_supersampling_is_the_mean_of_its_rays():
    parts, latents = make_object(3, "car", 0), some_latents(2)
    fine, coarse = draw(parts, latents, 64, 1).double(), draw(parts, latents, 32, 2).double()
    light = (fine / 255) ** 2.2
    mean = light.unflatten(-1, (32, 2)).unflatten(-3, (32, 2)).mean(dim=(-3, -1))
    assert (255 * mean ** (1 / 2.2) - coarse).abs().max() <= 1


def test_a_view_does_not_depend_on_the_others(monkeypatch):
    parts, latents = make_object(1, "table", 0), some_latents(9)
    together = draw(parts, latents, 24, 2)
    assert torch.equal(together, torch.cat([draw(parts, row, 24, 2) for row in latents]))
    monkeypatch.setattr(shapes3d_render, "NO_RAYS_AT_ONCE", 4 * 48**2)
    assert torch.equal(together, draw(parts, latents, 24, 2))


def test_rays_along_the_axes_of_an_upright_box_are_no_special_case():
    box = Part(BOX, (0, 0, 0), (0.3, 0.3, 0.3), (1, 1, 1))
    upright, turned = (draw([box], [angle, 0, 0, 0.5, 0.3, 1, 0.5], 33)[0].int() for angle in (0, 1e-3))
    assert ((upright - turned).abs().amax(dim=0) > 3).float().mean() < 0.02


def connected(parts):
    """Say whether the boxes around the parts hang together."""
    found, rest = [parts[0]], list(parts[1:])
    for _ in range(len(rest)):
        for part in rest:
            near = (
                all(abs(part.centre[k] - other.centre[k]) <= part.half[k] + other.half[k] for k in range(3))
                for other in found
            )
            if any(near):
                found.append(part)
                rest.remove(part)
                break
    return not rest


@pytest.mark.parametrize("family", FAMILIES)
def test_objects_hang_together_and_fill_their_box(family):
    seen = set()
    for number in range(40):
        parts = make_object(number, family, 42)
        assert 3 <= len(parts) <= 6
        low = np.min([np.subtract(part.centre, part.half) for part in parts], axis=0)
        high = np.max([np.add(part.centre, part.half) for part in parts], axis=0)
        np.testing.assert_allclose(low, -high, atol=1e-12)
        assert np.linalg.norm(high - low) == pytest.approx(DIAGONAL)
        assert connected(parts)
        assert parts == make_object(number, family, 42)
        seen.add(parts)
    assert len(seen) == 40
    assert make_object(0, family, 1) != make_object(0, family, 2)


def test_colours_equal_those_of_the_standard_library():
    rng = np.random.default_rng(0)
    triples = rng.uniform(size=(50, 3))
    expected = np.array([colorsys.hsv_to_rgb(*row) for row in triples])
    np.testing.assert_allclose(hsv_to_rgb(*triples.T), expected, atol=1e-12)
    np.testing.assert_allclose(hsv_to_rgb(np.array(0.0), 1, 1), [1, 0, 0])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_draws_the_same():
    parts, latents = make_object(3, "car", 0), torch.as_tensor(some_latents(4)).float()
    pictures = [
        render(parts, latents, make_camera(64, place), size=32, supersampling=2).cpu() for place in ("cpu", "cuda")
    ]
    assert (pictures[0].int() - pictures[1].int()).abs().double().mean() < 0.1
