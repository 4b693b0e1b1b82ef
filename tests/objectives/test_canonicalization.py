"""The centre terms where they are least, and the loss of an autoencoder against a loop over images."""

import math

import pytest
import torch
from scipy import integrate

from partial_equiv import UserError, build
from partial_equiv.datasets import Batch, rotate_images
from partial_equiv.objectives import CENTRES, Canonicalization
from tests.nets.symmetry_specs import symmetry_spec
from tests.nets.test_symmetry_net import blobs

DEGREES = math.pi / 180


def distance(name, angle):
    direction = torch.tensor([[math.cos(angle), math.sin(angle)]], dtype=torch.float64)
    return float(CENTRES[name](direction))


def expected(name, bound, shift):
    """Return the mean of the distance over poses uniform in shift +- bound, by quadrature."""
    value, _ = integrate.quad(lambda a: distance(name, a), shift - bound, shift + bound, limit=200)
    return value / (2 * bound)


@pytest.mark.parametrize("bound", [18, 60, 90, 126, 144, 162, 170])
def test_the_cosine_is_least_at_the_middle_of_every_interval(bound):
    shifts = range(-180, 181, 15)
    values = {shift: expected("cos", bound * DEGREES, shift * DEGREES) for shift in shifts}
    assert min(values, key=values.get) == 0
    t = bound * DEGREES
    assert values[45] == pytest.approx(1 - math.sin(t) / t * math.cos(45 * DEGREES), abs=1e-9)


@pytest.mark.parametrize("bound", [18, 60, 126, 144, 162])
def test_so_is_the_geodesic(bound):
    assert expected("geodesic", bound * DEGREES, 0) < expected("geodesic", bound * DEGREES, 20 * DEGREES)


def test_the_published_distance_pushes_wide_laws_off_their_middle():
    assert distance("l1_identity", 135 * DEGREES) > distance("l1_identity", math.pi)
    assert distance("l1_identity", 90 * DEGREES) == pytest.approx(2 / 3)
    assert expected("l1_identity", 144 * DEGREES, 0) == pytest.approx(0.4954, abs=2e-4)
    assert expected("l1_identity", 144 * DEGREES, 45 * DEGREES) == pytest.approx(0.4884, abs=2e-4)
    assert expected("l1_identity", 60 * DEGREES, 0) < expected("l1_identity", 60 * DEGREES, 45 * DEGREES)


def batch_of(images, net):
    return Batch(net.normalised(images), torch.zeros(len(images), dtype=torch.int64), torch.arange(len(images)))


@pytest.mark.parametrize("centre", [None, "cos", "geodesic", "l1_identity"])
@torch.no_grad()
def test_the_loss_is_that_of_a_loop_over_images(centre):
    torch.manual_seed(0)
    net = build(symmetry_spec()).eval()
    images = blobs()
    objective = Canonicalization(net, centre=centre, centre_weight=0.3).eval()
    step = objective(batch_of(images, net))
    total, centred = 0.0, 0.0
    for image in images:
        code = net.autoencoder.encoder(image[None])
        drawing = rotate_images(net.autoencoder.decoder(code.z), code.pose)
        total += float(((drawing[0] - image) ** 2).mean()) / len(images)
        centred += 0.0 if centre is None else distance(centre, float(code.pose)) / len(images)
    assert float(step.loss) == pytest.approx(total + 0.3 * centred, rel=1e-4)
    assert float(step.metrics["reconstruction"]) == pytest.approx(total, rel=1e-4)
    assert ("centre" in step.metrics) == (centre is not None) and step.size == len(images)


@torch.no_grad()
def test_turned_images_keep_the_law_of_their_poses():
    """An exactly equivariant encoder has the same centre term, whatever quarter the images were turned by."""
    torch.manual_seed(0)
    net = build(symmetry_spec()).double()
    objective = Canonicalization(net, centre="cos", centre_weight=1.0, turned=True)
    net.eval()
    objective.training = True
    images = blobs(no_images=200).double()
    plain = objective.eval()(batch_of(images, net)).metrics["centre"]
    net.eval()
    objective.training = True
    turned = objective(batch_of(images, net)).metrics["centre"]
    assert abs(float(turned - plain)) < 0.03 and float(turned) != float(plain)


def test_every_parameter_of_the_autoencoder_learns_and_the_head_does_not():
    torch.manual_seed(0)
    net = build(symmetry_spec())
    objective = Canonicalization(net, centre="cos", centre_weight=0.1).train()
    objective(batch_of(blobs(), net)).loss.backward()
    learned = {name for name, p in net.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    assert {name for name, _ in net.named_parameters() if name.startswith("autoencoder")} == learned


def test_an_unknown_centre_is_refused():
    with pytest.raises(UserError, match="did you mean 'cos'"):
        Canonicalization(build(symmetry_spec()), centre="cost", centre_weight=0.1)
