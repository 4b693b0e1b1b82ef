"""Latents of pairs, against scipy view by view, and by the laws they must compose by."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from torch.utils._python_dispatch import TorchDispatchMode

from partial_equiv import UserError
from partial_equiv.latents import COLUMNS, LatentEncoding, published_rotation
from partial_equiv.rotations import geodesic, multiply, quaternion_matrix, wigner

EXAMPLES = settings(max_examples=20, deadline=None, derandomize=True)
CODES = ("quaternion", "canonical_quaternion", "matrix", "wigner", "euler")
angle, unit = st.floats(-math.pi, math.pi), st.floats(0, 1, exclude_max=True)
views = st.tuples(angle, angle, angle, unit, angle, angle, unit).map(lambda v: torch.tensor(v, dtype=torch.float64))
each_frame = pytest.mark.parametrize("frame", ["body", "world"])


def encoding(**changes):
    choices = {"parts": ("rotation",), "rotation": "quaternion", "max_degree": 2, "hue": "raw", "frame": "body"}
    return LatentEncoding(**choices | {"columns": COLUMNS} | changes)


def sampled(no_views, seed=0):
    """Return absolute latents as 3DIEBench draws them."""
    uniform = torch.rand(no_views, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    scale = torch.tensor([math.pi, math.pi, math.pi, 1, math.pi / 4, 2 * math.pi, 1])
    shift = torch.tensor([math.pi / 2, math.pi / 2, math.pi / 2, 0, 0, 0, 0])
    return uniform * scale - shift


def pose(view):
    return Rotation.from_euler("xyz", view[:3].numpy())


@each_frame
def test_relative_rotations_are_those_of_scipy_view_by_view(frame):
    sources, targets = sampled(40), sampled(40, seed=1)
    relative = {code: encoding(rotation=code, frame=frame).relative(sources, targets) for code in CODES}
    for row, (source, target) in enumerate(zip(sources, targets, strict=True)):
        first, second = pose(source), pose(target)
        between = first.inv() * second if frame == "body" else second * first.inv()
        expected = {
            "quaternion": between.as_quat(),
            "canonical_quaternion": between.as_quat(canonical=True),
            "matrix": between.as_matrix().flatten(),
            "wigner": np.concatenate([wigner(torch.as_tensor(between.as_matrix()), d).flatten() for d in range(3)]),
            "euler": between.as_euler("xyz"),
        }
        for code, numbers in expected.items():
            np.testing.assert_allclose(relative[code][row].numpy(), numbers, atol=1e-9)


def test_the_published_target_is_the_quaternion_of_scipy_with_its_sign():
    sources, targets = sampled(2000), sampled(2000, seed=1)
    expected = torch.as_tensor(
        (Rotation.from_euler("xyz", sources[:, :3]).inv() * Rotation.from_euler("xyz", targets[:, :3])).as_quat()
    )
    found = published_rotation(sources, targets)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)
    assert torch.equal(found, encoding().relative(sources, targets))
    single = published_rotation(sources.float(), targets.float())
    assert single.dtype == torch.float32 and (single - expected).abs().max() < 1e-6


def test_published_statistics_of_3diebench():
    q = published_rotation(sampled(100_000), sampled(100_000, seed=1))
    assert (q[:, 3] < 0).double().mean().item() == pytest.approx(0.044, abs=0.003)
    assert q.mean(dim=0).tolist() == pytest.approx([0, 0, 0, 0.533], abs=0.005)
    assert q.std(dim=0).tolist() == pytest.approx([0.457, 0.457, 0.457, 0.299], abs=0.003)
    degrees = torch.rad2deg(geodesic(q, torch.tensor([0, 0, 0, 1], dtype=torch.float64)))
    assert degrees.mean().item() == pytest.approx(108, abs=0.6)
    assert degrees.median().item() == pytest.approx(110, abs=0.8)
    canonical = encoding(rotation="canonical_quaternion").relative(sampled(1000), sampled(1000, seed=1))
    assert (canonical[:, 3] >= 0).all()
    hues = encoding(parts=("floor_hue", "light_hue")).relative(sampled(100_000), sampled(100_000, seed=1))
    assert hues.var(dim=0).tolist() == pytest.approx([1 / 6, 1 / 6], abs=0.005)


@given(views, views, views)
@EXAMPLES
def test_quaternions_compose_in_the_order_of_their_frame(a, b, c):
    body, world = encoding().relative, encoding(frame="world").relative
    pairs = [
        (multiply(body(a, b), body(b, c)), body(a, c)),
        (multiply(world(b, c), world(a, b)), world(a, c)),
    ]
    for product, whole in pairs:  # up to the sign, which the product of four may lose
        torch.testing.assert_close(quaternion_matrix(product), quaternion_matrix(whole), atol=1e-12, rtol=0)


@pytest.mark.parametrize("code", ["matrix", "wigner"])
@given(a=views, b=views, c=views)
@EXAMPLES
def test_matrices_compose_and_their_blocks_are_transposed_backwards(code, a, b, c):
    relative = encoding(rotation=code).relative
    ab, bc, ac = ([*blocks(code, relative(*pair))] for pair in ((a, b), (b, c), (a, c)))
    for first, second, whole in zip(ab, bc, ac, strict=True):
        torch.testing.assert_close(first @ second, whole, atol=1e-12, rtol=0)
    for forward, back in zip(ab, blocks(code, relative(b, a)), strict=True):
        torch.testing.assert_close(forward.mT, back, atol=1e-12, rtol=0)


def blocks(code, row):
    """Return the square matrices that one encoded rotation holds."""
    sizes = [3] if code == "matrix" else [1, 3, 5]
    parts = row.split([size**2 for size in sizes])
    return [part.reshape(size, size) for size, part in zip(sizes, parts, strict=True)]


@given(views, views, views)
@EXAMPLES
def test_scalars_are_differences_and_circular_hues_do_not_jump(a, b, c):
    raw = encoding(parts=("floor_hue", "light_theta", "light_phi", "light_hue"))
    assert torch.equal(raw.relative(a, b), b[3:] - a[3:])
    torch.testing.assert_close(raw.relative(a, b) + raw.relative(b, c), raw.relative(a, c))
    circular = encoding(parts=("light_hue", "light_phi", "floor_hue"), hue="circular").relative(a, b)
    turns = [2 * math.pi * float(b[column] - a[column]) for column in (6, 3)]
    expected = [math.sin(turns[0]), math.cos(turns[0]), float(b[5] - a[5]), math.sin(turns[1]), math.cos(turns[1])]
    assert circular.tolist() == pytest.approx(expected, abs=1e-9)
    wrapped = b.clone()
    wrapped[3] += 1
    again = encoding(parts=("floor_hue",), hue="circular").relative(a, wrapped)
    assert again.tolist() == pytest.approx(expected[3:], abs=1e-9)


def test_the_published_colour_latent_holds_four_and_two_numbers():
    published = encoding(parts=("rotation", "floor_hue", "light_hue"))
    source, target = sampled(5), sampled(5, seed=1)
    found = published.relative(source, target)
    assert published.width == 6 and torch.equal(found[:, :4], published_rotation(source, target))
    assert torch.equal(found[:, 4:], target[:, [3, 6]] - source[:, [3, 6]])


@pytest.mark.parametrize(
    ("parts", "code", "hue", "expected"),
    [
        (("rotation",), "quaternion", "raw", [0, 0, 0, 1]),
        (("rotation",), "canonical_quaternion", "raw", [0, 0, 0, 1]),
        (("rotation",), "matrix", "raw", [1, 0, 0, 0, 1, 0, 0, 0, 1]),
        (("rotation",), "wigner", "raw", [1, *np.eye(3).flatten(), *np.eye(5).flatten()]),
        (("light_hue", "rotation"), "euler", "circular", [0, 1, 0, 0, 0]),
        (("floor_hue", "light_theta", "light_phi"), "euler", "raw", [0, 0, 0]),
        (("augmentation",), "quaternion", "raw", [0] * 7),
    ],
)
@each_frame
def test_the_identity_is_the_latent_of_a_view_and_itself(frame, parts, code, hue, expected):
    chosen = encoding(parts=parts, rotation=code, hue=hue, frame=frame)
    assert chosen.identity().dtype == torch.float32 and chosen.identity().shape == (chosen.width,)
    assert chosen.identity().tolist() == pytest.approx(expected, abs=1e-7)
    source = sampled(20)
    relative = chosen.relative(source, source)
    assert relative.shape == (20, chosen.width) and chosen.composes == ("augmentation" not in parts)
    if chosen.composes:
        torch.testing.assert_close(relative, chosen.identity().double().expand(20, -1), atol=1e-7, rtol=0)


def test_augmentations_are_the_recorded_parameters_of_the_second_view():
    chosen = encoding(parts=("augmentation",), columns=("top", "left", "flip"))
    source, target = torch.randn(4, 3), torch.randn(4, 3)
    assert torch.equal(chosen.relative(source, target), target) and chosen.width == 3


def test_columns_are_found_by_their_names_and_lists_do_as_well():
    chosen = encoding(parts=["floor_hue", "rotation"], columns=["floor_hue", "ez", "size", "ey", "ex"])
    source, target = sampled(6), sampled(6, seed=1)
    reordered = [torch.stack([v[:, 3], v[:, 2], 0 * v[:, 0], v[:, 1], v[:, 0]], dim=-1) for v in (source, target)]
    expected = encoding(parts=("floor_hue", "rotation")).relative(source, target)
    assert torch.equal(chosen.relative(*reordered), expected) and hash(chosen)


def test_a_batch_is_its_rows_and_leading_axes_are_kept():
    source, target = sampled(6).reshape(2, 3, 7), sampled(6, seed=1).reshape(2, 3, 7)
    chosen = encoding(parts=("rotation", "floor_hue"), rotation="wigner", hue="circular")
    assert chosen.relative(source, target).shape == (2, 3, chosen.width)
    torch.testing.assert_close(chosen.relative(source, target)[1, 2], chosen.relative(source[1, 2], target[1, 2]))


class Sent(TorchDispatchMode):
    """Operations that send something from the host to an accelerator, or wait for it."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        if operation.overloadpacket in (torch.ops.aten.index, torch.ops.aten._to_copy, torch.ops.aten.lift_fresh):
            self.found.append(str(operation))
        return operation(*args, **kwargs or {})


@pytest.mark.parametrize("code", CODES)
def test_nothing_is_sent_to_the_device_in_a_step(code):
    source, target = sampled(6), sampled(6, seed=1)
    chosen = encoding(parts=("rotation", "floor_hue", "light_phi"), rotation=code, hue="circular")
    chosen.relative(source, target)  # the first one may prepare something
    with Sent() as sent:
        chosen.relative(source, target)
    assert not sent.found
    with Sent() as sent:
        source[..., [2, 0]]
    assert sent.found


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parts": ()}, "each part once"),
        ({"parts": ("rotation", "rotation")}, "each part once"),
        ({"parts": ("rotatoin",)}, "did you mean 'rotation'"),
        ({"parts": ("augmentation", "rotation")}, "alone"),
        ({"parts": ("floor_hue",), "columns": ("ex", "ey", "ez")}, "no column floor_hue .they have: ex, ey, ez."),
        ({"columns": ("ex", "ez")}, "rotation, but the views have no column ey"),
        ({"parts": ("augmentation",), "columns": ()}, "they have: none"),
        ({"rotation": "quaternions"}, "train.encoding.rotation='quaternions' is not one of.*did you mean 'quaternion'"),
        ({"rotation": "wigner", "max_degree": 0}, "train.encoding.max_degree=0"),
        ({"hue": "round"}, "train.encoding.hue='round' is not one of: raw, circular"),
        ({"frame": "camera"}, "train.encoding.frame='camera' is not one of: body, world"),
    ],
)
def test_mistakes_are_told(changes, message):
    with pytest.raises(UserError, match=message):
        encoding(**changes)
