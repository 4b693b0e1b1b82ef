"""Pseudo-labels by index, validation targets from the training images, and a head that learns alone."""

import math

import pytest
import torch

from partial_equiv import UserError, build
from partial_equiv.datasets import Batch, rotate_images
from partial_equiv.nets import Code
from partial_equiv.objectives import SymmetryLevel, symmetry_level
from partial_equiv.symmetry import FAMILIES, PUBLISHED_ESTIMATORS, wrap
from tests.nets.symmetry_specs import symmetry_spec
from tests.nets.test_symmetry_net import blobs

DEGREES = math.pi / 180
ALL = {"signed": True, "centring": True, "trimming": 0.05, "noise_correction": True}


class Oracle(torch.nn.Module):
    """An encoder that knows: the first pixel holds the pose, the second the class."""

    def __init__(self):
        super().__init__()
        self.extra = 0.0
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, images):
        pose = (images[:, 0, 0, 0] - 0.5) * 2 * math.pi + self.extra
        kind = (images[:, 0, 0, 1] * 10).round()
        z = torch.zeros(len(images), 8)
        z[torch.arange(len(images)), kind.long()] = 5.0
        z[:, -1] = images[:, 0, 0, 2] * self.scale
        vector = torch.stack([pose.cos(), pose.sin()], dim=-1)
        return Code(z, torch.stack([vector, 0 * vector], dim=1))


def pictures(bounds, per_class=300, seed=0):
    """Return images that hold pose and class in their pixels, poses uniform in +-bound of each class."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.zeros(len(bounds) * per_class, 1, 20, 20)
    for k, bound in enumerate(bounds):
        rows = slice(k * per_class, (k + 1) * per_class)
        pose = (torch.rand(per_class, generator=generator) * 2 - 1) * bound * DEGREES
        images[rows, 0, 0, 0] = pose / (2 * math.pi) + 0.5
        images[rows, 0, 0, 1] = k / 10
    images[:, 0, 0, 2] = torch.rand(len(images), generator=generator)
    return images


def batches(images, net, size=100, seed=0):
    """Return batches in a random order, as a loader gives them."""
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    return [Batch(net.normalised(images[i]), torch.zeros(len(i), dtype=torch.int64), i) for i in order.split(size)]


def objective(monkeypatch, estimator="likelihood", corrections=ALL, no_neighbours=45, **changes):
    """Return the objective on a network with the all-knowing encoder; turns of images are known to it too."""
    torch.manual_seed(0)
    net = build(symmetry_spec(**changes))
    net.autoencoder.encoder = Oracle()
    made = SymmetryLevel(net, no_neighbours=no_neighbours, estimator=estimator, corrections=corrections)
    monkeypatch.setattr(made, "difference", lambda pixels, poses, angle: 1e-3 * torch.randn(len(pixels)))
    return made


@pytest.mark.long
def test_targets_follow_the_index_whatever_the_order(monkeypatch):
    images = pictures([0, 36, 90])
    made = objective(monkeypatch)
    made.prepare(batches(images, made.model))
    levels = made.targets.uniform.reshape(3, 300) / DEGREES
    assert levels[0].max() < 5
    assert levels[1].mean() == pytest.approx(36, rel=0.05) and levels[2].mean() == pytest.approx(90, rel=0.05)
    again = objective(monkeypatch)
    again.prepare(batches(images, again.model, size=37, seed=5))
    torch.testing.assert_close(again.targets.uniform, made.targets.uniform, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("estimator", sorted(PUBLISHED_ESTIMATORS))
def test_published_targets_are_those_of_a_dense_search(monkeypatch, estimator):
    images = pictures([20, 60], per_class=60)
    made = objective(monkeypatch, estimator, no_neighbours=7)
    made.prepare(batches(images, made.model))
    code = made.model.autoencoder.encoder(images)
    z = torch.nn.functional.normalize(code.z, dim=-1)
    similar = z @ z.T
    similar.fill_diagonal_(-2)
    for row in range(0, 120, 13):
        neighbours = similar[row].argsort(descending=True)[:7]
        wanted = PUBLISHED_ESTIMATORS[estimator](code.pose[neighbours][None])[0]
        torch.testing.assert_close(made.targets.uniform[row], wanted, atol=1e-4, rtol=1e-4)


def test_validation_images_ask_the_training_images(monkeypatch):
    made = objective(monkeypatch)
    made.prepare(batches(pictures([10, 90]), made.model))
    others = pictures([10, 90], per_class=40, seed=7)
    batch = Batch(made.model.normalised(others), torch.zeros(80, dtype=torch.int64), torch.arange(80))
    made.eval()
    z, target = made.target(batch, others)
    torch.testing.assert_close(z, made.model.autoencoder.encoder(others).z)
    assert target.uniform[:40].mean() / DEGREES < 15 and target.uniform[40:].mean() / DEGREES > 80
    assert torch.isfinite(made(batch).loss)


@pytest.mark.parametrize("head", ["latent", "encoder"])
def test_only_the_head_learns_and_running_statistics_stay(monkeypatch, head):
    torch.manual_seed(0)
    net = build(symmetry_spec(net__head=head))
    images = blobs(no_images=40)
    made = SymmetryLevel(net, no_neighbours=5, estimator="likelihood", corrections=ALL)
    made.prepare(batches(images, net, size=10))
    before = {name: value.clone() for name, value in net.autoencoder.state_dict().items()}
    made.train()
    made(batches(images, net, size=20)[0]).loss.backward()
    with_gradient = {name.partition(".")[0] for name, p in net.named_parameters() if p.grad is not None}
    assert with_gradient == ({"head"} if head == "latent" else {"head", "head_encoder"})
    assert all(torch.equal(value, before[name]) for name, value in net.autoencoder.state_dict().items())


@pytest.mark.parametrize("estimator", ["likelihood", "moments_outliers", "gaussian_half_normal", "cyclic"])
def test_training_brings_the_predictions_to_the_targets(monkeypatch, estimator):
    family = {"likelihood": "auto", "moments_outliers": "uniform", "cyclic": "cyclic"}.get(estimator, "normal")
    images = pictures([0, 60], per_class=100)
    if estimator == "cyclic":  # half turns in the second class
        images[100:, 0, 0, 0] = torch.where(torch.arange(100) % 2 == 0, 0.5, 1.0)
        images[:100, 0, 0, 0] = 0.5
    made = objective(monkeypatch, estimator, no_neighbours=20, net__family=family)
    made.prepare(batches(images, made.model))
    optimizer = torch.optim.Adam(made.model.head.parameters(), lr=0.02)
    made.train()
    for epoch in range(60):
        for batch in batches(images, made.model, seed=epoch):
            optimizer.zero_grad()
            made(batch).loss.backward()
            optimizer.step()
    made.eval()
    with torch.no_grad():
        reading = made.model.read(made.model.normalised(images))
    first, second = reading.level[:100].mean() / DEGREES, reading.level[100:].mean() / DEGREES
    if estimator == "cyclic":
        assert {FAMILIES[place] for place in reading.family[:100]} == {"none"}
        assert {FAMILIES[place] for place in reading.family[100:]} == {"C2"}
    else:
        # The half-normal estimator divides the deviation of |pose|, 60 / sqrt 12 here, by sqrt(1 - 2 / pi).
        expected = 60 if family != "normal" else 60 / math.sqrt(12) / math.sqrt(1 - 2 / math.pi)
        assert first < 6 and float(second) == pytest.approx(expected, rel=0.12)


def test_a_common_offset_becomes_the_centre(monkeypatch):
    """A frame that is off by 50 degrees is found from the poses alone: pose and level are as without it."""
    images = pictures([40], per_class=300)
    made = objective(monkeypatch)
    made.model.autoencoder.encoder.extra = 50 * DEGREES
    made.prepare(batches(images, made.model))
    centres = made.targets.centre / DEGREES
    assert centres.mean() == pytest.approx(50, abs=3)
    assert made.targets.uniform.mean() / DEGREES == pytest.approx(40, rel=0.06)


@torch.no_grad()
def test_the_noise_is_that_of_turned_copies():
    torch.manual_seed(0)
    net = build(symmetry_spec(net__resolution=29))
    images = blobs(no_images=60)
    made = SymmetryLevel(net, no_neighbours=5, estimator="likelihood", corrections=ALL | {"noise_correction": False})
    made.prepare(batches(images, net))
    code = net.eval().autoencoder.encoder(images)
    differences = []
    for degrees in (30, 45, 77):
        turned = net.autoencoder.encoder(rotate_images(images, torch.tensor(degrees * DEGREES)))
        differences.append(wrap(turned.pose - code.pose - degrees * DEGREES))
    median = torch.cat(differences).abs().median()
    assert made.noise == pytest.approx(float(median) / 0.6745 / math.sqrt(2), rel=1e-3)


def test_what_is_measured_does_not_depend_on_the_order_of_the_loader(monkeypatch):
    """A resumed run meets its loader at another epoch."""
    monkeypatch.setattr(symmetry_level, "NO_NOISE_IMAGES", 20)
    torch.manual_seed(0)
    net = build(symmetry_spec())
    images = blobs(no_images=60)
    made = SymmetryLevel(net, no_neighbours=5, estimator="likelihood", corrections=ALL | {"noise_correction": False})
    found = []
    for seed in (0, 1):
        made.prepare(batches(images, net, size=15, seed=seed))
        found.append((made.noise, made.targets.uniform))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    torch.testing.assert_close(found[0][1], found[1][1])


def test_too_few_images_and_unknown_estimators_are_refused():
    net = build(symmetry_spec())
    with pytest.raises(UserError, match="did you mean 'moments'"):
        SymmetryLevel(net, no_neighbours=5, estimator="moment", corrections=ALL)
    made = SymmetryLevel(net, no_neighbours=45, estimator="likelihood", corrections=ALL)
    with pytest.raises(UserError, match="no_neighbours"):
        made.prepare(batches(blobs(no_images=20), net))
