"""Encoder, autoencoder and level head: exact at quarter turns, in the right direction, and never dead."""

import copy
import math
import pickle

import pytest
import torch
from torch.nn import functional

from partial_equiv import UserError, build
from partial_equiv.datasets import rotate_images
from partial_equiv.nets import Code, LevelHead
from partial_equiv.nets.encoder import circular_moments, framed
from partial_equiv.symmetry import FAMILIES, wrap
from tests.nets.symmetry_specs import symmetry_spec
from tests.oracles import load_e2cnn, load_escnn

DEGREES = math.pi / 180


def blobs(no_images=6, size=20, channels=1, seed=0):
    """Return smooth images in [0, 1] without a symmetry of their own, dark at the border."""
    noise = torch.rand(no_images, channels, 5, 5, generator=torch.Generator().manual_seed(seed))
    smooth = functional.interpolate(noise, (size, size), mode="bicubic", align_corners=False).clamp(0, 1)
    line = torch.linspace(-1, 1, size)
    return smooth * torch.exp(-3 * (line[:, None] ** 2 + line**2))


def made(seed=0, **changes):
    torch.manual_seed(seed)
    return build(symmetry_spec(**changes)).eval()


@pytest.mark.parametrize("size", [20, 21, 28, 35])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_quarter_turn_moves_the_pose_by_a_quarter_and_leaves_the_invariant(size, channels):
    scale = {"info__mean": [0.2] * channels, "info__std": [0.3] * channels}
    net = made(info__size=[size, size], info__in_channels=channels, **scale).double()
    images = blobs(size=size, channels=channels).double()
    for quarters in (1, 2, 3):
        plain = net.autoencoder.encoder(images)
        turned = net.autoencoder.encoder(torch.rot90(images, quarters, dims=(-2, -1)))
        torch.testing.assert_close(turned.z, plain.z, rtol=1e-9, atol=1e-9)
        error = wrap(turned.pose - plain.pose - quarters * math.pi / 2)
        assert error.abs().max() < 1e-7


@pytest.mark.parametrize("degrees", [22.5, 30, 45, 77])
def test_other_turns_move_the_pose_by_nearly_their_angle(degrees):
    net = made(net__resolution=29, info__size=[28, 28])
    images = blobs(no_images=40, size=28)
    plain = net.autoencoder.encoder(images)
    turned = net.autoencoder.encoder(rotate_images(images, torch.tensor(degrees * DEGREES)))
    errors = wrap(turned.pose - plain.pose - degrees * DEGREES).abs() / DEGREES
    assert errors.median() < 8
    backwards = wrap(turned.pose - plain.pose + degrees * DEGREES).abs() / DEGREES
    assert backwards.median() > degrees  # the wrong sign would be twice the angle off


def test_frequencies_turn_as_often_as_they_say():
    angles = torch.arange(16) * (2 * math.pi / 16)
    response = torch.rand(3, 16, generator=torch.Generator().manual_seed(0))
    plain = circular_moments(response, angles, 4)
    turned = circular_moments(response.roll(1, dims=1), angles, 4)
    phase = torch.atan2(turned[..., 1], turned[..., 0]) - torch.atan2(plain[..., 1], plain[..., 0])
    expected = torch.arange(1, 5) * (2 * math.pi / 16)
    assert wrap(phase - expected).abs().max() < 1e-4


def test_confidence_is_nothing_for_an_image_that_half_a_turn_leaves_alone():
    net = made().double()
    with torch.no_grad():  # fresh kernels are odd functions, so that such an image has no response of any frequency
        for name, parameter in net.named_parameters():
            parameter.add_(0.2 * torch.randn_like(parameter) * name.endswith("bias"))
    images = blobs().double()
    symmetric = (images + torch.rot90(images, 2, dims=(-2, -1))) / 2
    assert net.autoencoder.encoder(symmetric).confidence.max() < 1e-9
    assert net.autoencoder.encoder(images).confidence.min() > 1e-3


def test_an_image_without_any_direction_is_upright_and_has_finite_gradients():
    vectors = torch.zeros(2, 4, 2, requires_grad=True)
    code = Code(torch.zeros(2, 1), vectors)
    assert code.direction.tolist() == [[1, 0], [1, 0]] and code.pose.tolist() == [0, 0]
    code.pose.sum().backward()
    assert torch.isfinite(vectors.grad).all()
    net = made()
    constant = torch.full((2, 1, 20, 20), 0.5)
    assert all(torch.isfinite(column.float()).all() for column in net.read(net.normalised(constant)))


def test_outside_the_disc_nothing_counts():
    images = blobs()
    corners = images.clone()
    corners[..., :2, :2] = 1
    torch.testing.assert_close(framed(corners, 20), framed(images, 20))
    assert framed(torch.ones(1, 1, 40, 40), 21)[0, 0, 0, 0] == 0


@torch.no_grad()
@pytest.mark.long
@pytest.mark.parametrize(("encoder", "load"), [("escnn", load_escnn), ("e2cnn", load_e2cnn)])
def test_peers_stand_behind_the_same_protocol(encoder, load):
    load()  # skips where it is not installed
    net = made(net__encoder=encoder, net__widths=[4], net__resolution=29, info__size=[28, 28])
    images = blobs(no_images=16, size=28)
    for _ in range(60):  # norms must have seen features, or their thresholds leave no vector
        net.autoencoder.train().encoder(images)
    net.eval()
    plain, turned = (net.autoencoder.encoder(x) for x in (images, torch.rot90(images, 1, dims=(-2, -1))))
    assert plain.z.shape == (16, 8) and plain.vectors.shape[::2] == (16, 2)
    torch.testing.assert_close(turned.z, plain.z, rtol=1e-3, atol=1e-5)
    assert wrap(turned.pose - plain.pose - math.pi / 2).abs().max() < 1e-2
    assert torch.isfinite(net.read(net.normalised(images)).level).all()


def test_a_reconstruction_is_the_drawing_turned_by_the_pose():
    net = made()
    drawn = net.autoencoder(blobs())
    assert drawn.canonical.shape == (6, 1, 20, 20) and drawn.canonical.min() >= 0 and drawn.canonical.max() <= 1
    one = rotate_images(drawn.canonical[2:3], drawn.code.pose[2])
    torch.testing.assert_close(drawn.images[2:3], one)


@pytest.mark.parametrize("head", ["latent", "encoder"])
def test_levels_are_invariant_and_in_range(head):
    net = made(net__head=head).double()
    images = net.normalised(blobs().double())
    plain, turned = net.read(images), net.read(torch.rot90(images, 1, dims=(-2, -1)))
    torch.testing.assert_close(plain.level, turned.level, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(plain.posterior, turned.posterior, rtol=1e-8, atol=1e-8)
    assert ((plain.level >= 0) & (plain.level <= math.pi)).all() and (plain.uncertainty > 0).all()
    assert plain.posterior.sum(dim=-1).sub(1).abs().max() < 1e-9
    assert (net(images) == plain.level).all()


def test_standardised_images_are_turned_back_by_their_pose():
    net = made()
    images = net.normalised(blobs())
    expected = net.normalised(rotate_images(net.pixels(images), -net.read(images).pose))
    torch.testing.assert_close(net.standardise(images), expected)


@pytest.mark.parametrize(
    ("family", "kept"),
    [("uniform", {"uniform"}), ("normal", {"normal"}), ("cyclic", {"none"} | {f"C{n}" for n in range(2, 9)})],
)
def test_a_chosen_family_rules_the_others_out(family, kept):
    net = made(net__family=family)
    posterior = net.read(net.normalised(blobs())).posterior
    assert {name for name, share in zip(FAMILIES, posterior[0].tolist(), strict=True) if share > 0} <= kept


def test_the_bounded_head_is_never_dead_and_the_published_one_may_be():
    z = torch.randn(64, 16, generator=torch.Generator().manual_seed(0))
    dead = {"bounded": 0, "relu": 0}
    for seed in range(100):
        for output in dead:
            torch.manual_seed(seed)
            head = LevelHead(16, width=8, output=output)
            head(z).levels[:, 0].sum().backward()
            dead[output] += not any(p.grad is not None and p.grad.abs().max() > 0 for p in head.parameters())
    assert dead["bounded"] == 0 and dead["relu"] > 0


def test_a_copy_and_a_pickle_read_alike():
    net = made()
    images = net.normalised(blobs())
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert (twin.read(images).level == net.read(images).level).all()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"base_group__no_samples": 8}, "base_group.no_samples=16"),
        ({"base_group__name": "D16", "base_group__no_samples": 32}, "base_group=SE2"),
        ({"conv__partial_equiv": True}, "conv=full"),
        (
            {"base_group__sampling_method": "random", "base_group__sample_per_batch_element": True},
            "base_group.sample_per_batch_element=False",
        ),
        ({"kernel__size": 1}, "odd number from 3"),
        ({"kernel__size": "full"}, "odd number from 3"),
        ({"net__widths": [4]}, "net.widths"),
        ({"net__resolution": 28}, "8 n + 5"),
        ({"net__encoder": "group_cnv"}, "did you mean 'group_conv'?"),
        ({"net__family": "gaussian"}, "uniform or normal"),
        ({"info__size": [20, 24]}, "square"),
        ({"info__mean": None}, "info.mean"),
    ],
)
def test_what_does_not_fit_is_refused(changes, words):
    with pytest.raises(UserError, match=".") as caught:
        build(symmetry_spec(**changes))
    assert words in str(caught.value)
