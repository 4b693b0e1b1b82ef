"""Steerable encoders against escnn's and e2cnn's own layers, closed forms, and pictures turned by formula.

Axes: B batch, C channels, Y X image, d latent numbers, K frequencies.
"""

import math
import subprocess
import sys
import types

import pytest
import torch

from partial_equiv.errors import UserError
from partial_equiv.nets.steerable import E2cnnEncoder, EscnnEncoder
from partial_equiv.nets.steerable_peers import load_escnn, rotations_of_e2cnn
from tests import oracles

ENCODERS = {"escnn": EscnnEncoder, "e2cnn": E2cnnEncoder}
LOADERS = {"escnn": oracles.load_escnn, "e2cnn": oracles.load_e2cnn}
NO_VECTORS = {"escnn": 4, "e2cnn": 1}
pytestmark = pytest.mark.filterwarnings("ignore:tostring")  # by which e2cnn hashes its filters, with numpy below 2.3
both = pytest.mark.parametrize("name", ENCODERS)


def make(name, h=2, in_channels=2, no_latent=5, resolution=21):
    """Return an encoder with random weights, or skip the test where its peer is absent."""
    LOADERS[name]()
    return ENCODERS[name](in_channels=in_channels, widths=[h], no_latent=no_latent, resolution=resolution)


def settled(name, images, **choices):
    """Return an encoder whose norms have seen images, so that vectors of every frequency pass their thresholds."""
    encoder = make(name, **choices).train()
    with torch.no_grad():
        for _ in range(60):  # the peers' norm of vectors starts at 1 and moves by a tenth
            encoder(images)
    return encoder.eval()


def blobs(no_images, angle=0.0, side=28, in_channels=2):
    """Return soft spots around the centre, turned counter-clockwise by formula: no pixel is interpolated."""
    generator = torch.Generator().manual_seed(0)
    radius, where, size = torch.rand((3, no_images, in_channels, 5, 1, 1), generator=generator)
    where = 2 * math.pi * where + angle
    x, y = 0.7 * radius * where.cos(), 0.7 * radius * where.sin()
    line = (torch.arange(side) - (side - 1) / 2) / (side / 2)
    distance = (line - x) ** 2 + (-line[:, None] - y) ** 2  # rows go down, y goes up
    return torch.exp(-distance / (0.08 + 0.1 * size) ** 2).sum(dim=2).clamp(max=1)


def turned(vectors, angle):
    """Return vectors [B, K, 2], the k-th turned by k times the angle, in complex numbers."""
    k = torch.arange(1, vectors.shape[1] + 1)
    moved = torch.view_as_complex(vectors.contiguous()) * torch.exp(1j * k * angle)
    return torch.view_as_real(moved)


def pose_errors(code, other, angle):
    """Return by how many degrees the pose fails to follow a turn."""
    gap = other.pose - code.pose - angle
    return torch.atan2(gap.sin(), gap.cos()).abs().rad2deg()


@both
@pytest.mark.parametrize(("side", "resolution"), [(28, 21), (13, 13), (32, 17)])
def test_quarter_turns_are_exact(name, side, resolution):
    images = blobs(6, side=side) + torch.rand(6, 2, side, side)
    encoder = settled(name, images, resolution=resolution)
    with torch.no_grad():
        code = encoder(images)
        assert code.z.shape == (6, 5) and code.vectors.shape == (6, NO_VECTORS[name], 2)
        scale = code.vectors.norm(dim=-1).amax(dim=0)  # of each frequency
        assert (scale > 1e-3).all() and code.z.std(dim=0).amin() > 1e-4
        for quarters in (1, 2, 3):
            other = encoder(torch.rot90(images, quarters, dims=(-2, -1)))
            torch.testing.assert_close(other.z, code.z, rtol=1e-4, atol=1e-5)
            wanted = turned(code.vectors, quarters * math.pi / 2)
            assert ((other.vectors - wanted).norm(dim=-1) < 1e-4 * scale).all()
            assert (pose_errors(code, other, quarters * math.pi / 2) < 0.1).all()
    # The opposite sense of turning does not agree.
    opposite = turned(code.vectors, -3 * math.pi / 2)
    assert ((other.vectors - opposite).norm(dim=-1)[:, 0] > 0.1 * code.vectors[:, 0].norm(dim=-1)).all()


@both
def test_the_pose_follows_any_turn_within_degrees(name):
    encoder = settled(name, blobs(16), resolution=25)
    for degrees in (30, 45, 77, -140):
        angle = math.radians(degrees)
        with torch.no_grad():
            code, other = encoder(blobs(16)), encoder(blobs(16, angle))
        # Over ten seeds, both are off by 1 to 10 degrees, so narrow are they.
        assert pose_errors(code, other, angle).median() < 10
        assert (other.z - code.z).norm() < 0.1 * code.z.norm()
        assert pose_errors(code, other, -angle).median() > 30


@pytest.mark.filterwarnings("ignore:indexing with dtype torch.uint8")
@both
def test_a_layer_is_the_peers_own(name):
    """Filters expanded in every pass, against the layers as the peers run them."""
    encoder, e = make(name).eval(), LOADERS[name]().nn
    before, block = encoder.blocks[:2]
    conv = e.R2Conv(before.target, block.target, 5, padding=2, bias=False)
    parts = [(block.of_scalars, "scalars"), (block.of_vectors, "vectors")]
    nonlinearity = e.MultipleModule(block.target, 4 * ["scalars"] + 2 * ["vectors"], parts)
    with torch.no_grad():
        conv.weights.copy_(block.weights)
    x = torch.randn(2, before.target.size, 9, 9)
    expected = nonlinearity(conv(e.GeometricTensor(x, before.target))).tensor
    assert expected[:, :4].abs().max() > 0.1 and expected[:, 4:].abs().max() > 0.1
    torch.testing.assert_close(block(x), expected)


def test_the_readout_is_a_pointwise_convolution_and_a_mean():
    peer, encoder = oracles.load_escnn(), make("escnn", h=3, no_latent=4)
    source = encoder.blocks[-1].target
    plane = source.gspace
    target = peer.nn.FieldType(plane, 4 * [plane.trivial_repr] + [plane.irrep(k) for k in (1, 2, 3, 4)])
    conv = peer.nn.R2Conv(source, target, 1, bias=False)
    matrix = conv.expand_parameters()[0].detach()[:, :, 0, 0]
    latent, rows = encoder.readout.latent.weight, matrix[4::2, 18:].unflatten(1, (4, 3, 2))
    assert latent.numel() + encoder.readout.turns.numel() == conv.weights.numel()
    with torch.no_grad():
        latent.copy_(matrix[:4, :18])
        for k in range(4):
            encoder.readout.turns[k] = rows[k, k] * torch.tensor([1, -1])
        x = torch.randn(2, source.size, 5, 5)
        code = encoder.readout(x.mean(dim=(-2, -1)))
        expected = conv(peer.nn.GeometricTensor(x, source)).tensor.mean(dim=(-2, -1))
    torch.testing.assert_close(torch.cat([code.z, code.vectors.flatten(1)], dim=1), expected)


@pytest.mark.parametrize(("h", "d", "in_channels"), [(1, 3, 1), (2, 5, 3), (4, 7, 1)])
def test_weights_of_the_historical_layout_are_counted_by_its_closed_forms(h, d, in_channels):
    encoder = make("e2cnn", h, in_channels, d)
    weights = [block.weights.numel() for block in encoder.blocks]
    assert weights == [14 * h * in_channels, *4 * [38 * h**2], 22 * h**2]
    total = sum(p.numel() for p in encoder.parameters() if p.requires_grad)
    assert encoder.blocks(torch.rand(2, in_channels, 28, 28)).shape == (2, 4 * h, 26, 26)
    assert total == sum(weights) + 2 * h * d + 2 * h + 6 * 6 * h  # norms and thresholds: 6 h in each of 6 layers


@pytest.mark.filterwarnings("ignore:indexing with dtype torch.uint8")
def test_turns_by_a_sixteenth_have_the_filters_of_all_turns():
    peer = oracles.load_e2cnn()
    if rotations_of_e2cnn(peer)[1] != "SO2":
        pytest.skip("e2cnn runs SO(2) with numpy below 2.3 alone, where arrays have tostring")
    encoder = make("e2cnn")
    planes = peer.gspaces.Rot2dOnR2(N=-1, maximum_frequency=8), peer.gspaces.Rot2dOnR2(N=16)
    for size in (3, 5, 7):
        filters = []
        for plane in planes:
            fields = peer.nn.FieldType(plane, 4 * [plane.trivial_repr] + 2 * [plane.irrep(1)])
            conv = peer.nn.R2Conv(fields, fields, size, bias=False, recompute=True)
            torch.manual_seed(0)
            torch.nn.init.normal_(conv.weights)
            filters.append((conv.expand_parameters()[0], list(conv.state_dict())))
        torch.testing.assert_close(*[kernel for kernel, _ in filters], rtol=0, atol=1e-7)
        assert filters[0][1] == filters[1][1]
    assert encoder.group == "SO2"


@both
def test_the_loss_reaches_every_parameter(name):
    encoder = settled(name, blobs(8)).train()
    code = encoder(blobs(8))
    (code.z.square().sum() + code.vectors.square().sum()).backward()
    for key, parameter in encoder.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad.abs().sum() > 0, key


@both
def test_a_state_has_the_same_names_in_every_mode_and_is_never_stale(name):
    images = blobs(4)
    encoder, other = settled(name, images), make(name)
    names = list(other.state_dict())
    with torch.no_grad():
        expected = encoder(images)
        assert list(other.eval().state_dict()) == names == list(encoder.state_dict())
        assert not torch.equal(other(images).z, expected.z)
        other.load_state_dict(encoder.state_dict())
        assert torch.equal(other(images).z, expected.z)


@both
def test_networks_share_no_filters(name):
    """The peers would hand out the same tensors twice: a network moved to a GPU would take the other's along."""
    states = [make(name).state_dict() for _ in range(2)]
    places = [{tensor.data_ptr() for tensor in state.values()} for state in states]
    assert places[0].isdisjoint(places[1])


@both
def test_several_widths_are_refused(name):
    with pytest.raises(UserError, match=rf"net.widths=\[8, 12, 48\]: net.encoder={name} takes one width"):
        ENCODERS[name](in_channels=1, widths=[8, 12, 48], no_latent=2, resolution=29)


@pytest.mark.parametrize(
    ("name", "resolution", "right"),
    [("escnn", 28, "25 or 29"), ("escnn", 31, "29 or 33"), ("escnn", 9, "13 or 17"), ("e2cnn", 8, "at least 9")],
)
def test_resolutions_that_break_the_grid_are_refused(name, resolution, right):
    with pytest.raises(UserError, match=rf"net.resolution={resolution}: .*{right}"):
        ENCODERS[name](in_channels=1, widths=[1], no_latent=2, resolution=resolution)


@both
def test_an_absent_peer_is_named_with_its_remedy(name, monkeypatch):
    monkeypatch.setitem(sys.modules, f"{name}.gspaces", None)
    with pytest.raises(UserError, match=f"^{name} cannot be imported .*: `make oracle` installs it$"):
        ENCODERS[name](in_channels=1, widths=[1], no_latent=2, resolution=29)


class Broken:
    """An e2cnn whose convolutions no installed torch or numpy builds."""

    def __init__(self, *_, **__):
        raise RuntimeError("only boolean masks")


def test_an_e2cnn_that_builds_nothing_is_refused_in_one_sentence():
    plane = types.SimpleNamespace(trivial_repr=None, irrep=lambda k: k)
    peer = types.SimpleNamespace(
        gspaces=types.SimpleNamespace(Rot2dOnR2=lambda **_: plane),
        nn=types.SimpleNamespace(FieldType=lambda *_: None, R2Conv=Broken),
    )
    with pytest.raises(UserError, match=r"torch .* numpy .*only boolean masks.*net\.encoder=escnn"):
        rotations_of_e2cnn(peer)


def test_an_installed_lie_learn_is_left_alone(monkeypatch):
    oracles.load_escnn()
    name = "lie_learn.representations.SO3.wigner_d"
    theirs = types.ModuleType(name)
    monkeypatch.setitem(sys.modules, name, theirs)
    load_escnn()
    assert sys.modules[name] is theirs and not hasattr(theirs, "wigner_D_matrix")


@pytest.mark.long
def test_the_library_imports_no_peer_until_it_is_asked():
    code = (
        "import sys, partial_equiv, partial_equiv.nets.steerable\n"
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'escnn', 'e2cnn', 'lie_learn'}))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
