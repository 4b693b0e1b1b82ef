"""Representations of all views: one pass for all, whatever is asked; the encoder and global randomness stay."""

import copy

import pytest
import torch
from torch import nn

from partial_equiv.datasets import ImageSet, ViewSet
from partial_equiv.errors import UserError
from partial_equiv.nets import SplitEncoder
from partial_equiv.probes import features
from tests.probes.known_views import Oracle, make_views


class Counting(nn.Module):
    """A backbone with everything that training mode changes, and a plain attribute that changes what it says."""

    def __init__(self):
        super().__init__()
        self.linear, self.norm, self.dropout = nn.Linear(16, 6), nn.BatchNorm1d(6), nn.Dropout(0.5)
        self.hard, self.seen = False, []

    def forward(self, images):
        self.seen.append(len(images))
        h = self.dropout(self.norm(self.linear(images.flatten(1))))
        return (h > 0).float() if self.hard else h


def make_encoder(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        encoder = SplitEncoder(Counting(), width=6, equi=2)
        for _ in range(3):  # statistics that are not those of an untrained network
            encoder(torch.randn(32, 16))
    encoder.backbone.seen.clear()
    return encoder


def snapshot(encoder):
    return [part.training for part in encoder.modules()], copy.deepcopy(encoder.state_dict())


def same_state(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("bn", ["eval", "batch"])
def test_the_encoder_and_global_randomness_are_left_as_they_were(bn):
    encoder, train, test = make_encoder(), make_views(9, 6), make_views(4, 6, seed=1)
    encoder.backbone.norm.eval()  # a mix of modes
    encoder.backbone.linear.weight.requires_grad_(False)
    modes, state = snapshot(encoder)
    random = torch.get_rng_state()
    found = features.frozen_features(encoder, train, test, bn=bn, seed=0)
    assert [values.shape for values in found] == [(9, 6, 6), (4, 6, 6)]
    assert all(values.dtype == torch.float32 and not values.requires_grad for values in found)
    assert [part.training for part in encoder.modules()] == modes and modes.count(False) == 1
    assert same_state(encoder.state_dict(), state)
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.is_grad_enabled()
    assert [parameter.requires_grad for parameter in encoder.parameters()] == [False, True, True, True]


def test_representations_are_those_of_each_view_alone():
    encoder, views = make_encoder(), make_views(70, 5)  # two batches of images
    found = features.view_features(encoder, views)
    assert encoder.backbone.seen == [256, 94]
    frozen = copy.deepcopy(encoder).eval()
    with torch.no_grad():
        for n, v in ((0, 0), (51, 1), (69, 4)):
            torch.testing.assert_close(found[n, v], frozen(views.images_at(torch.tensor([n * 5 + v])))[0])


def test_images_are_normalised():
    pixels = torch.randint(0, 256, (8, 1, 4, 4), dtype=torch.uint8)
    views = ViewSet(
        pixels, torch.zeros(4, 2, 1), torch.zeros(4).long(), mean=[0.3], std=[0.2], pairs_per_object=1, seed=0
    )
    found = features.view_features(nn.Flatten(), views)
    torch.testing.assert_close(found.flatten(), ((pixels / 255 - 0.3) / 0.2).flatten())


def test_rows_in_chunks_are_those_of_one_pass(monkeypatch):
    rows, linear = torch.randn(23, 5), nn.Linear(5, 3).requires_grad_(False)
    monkeypatch.setattr(features, "ROWS", 10)
    torch.testing.assert_close(features.mapped(linear, rows, torch.device("cpu"), "rows"), linear(rows))
    half = features.mapped(lambda part: linear(part).bfloat16(), rows, torch.device("cpu"), "rows")
    assert half.dtype == torch.float32 and half.shape == (23, 3)


def test_representations_that_are_no_numbers_are_told():
    encoder, views = make_encoder(), make_views(3, 2)
    with torch.no_grad():
        encoder.backbone.norm.running_var.fill_(-1)
    with pytest.raises(UserError, match=r"the representations are not finite, .* lower train\.lr"):
        features.view_features(encoder, views)


def test_probes_share_one_pass_until_anything_changes():
    encoder, train, test = make_encoder(), make_views(6, 4), make_views(6, 4, seed=1)
    first = features.view_features(encoder, train)
    assert features.view_features(encoder, train) is first
    assert features.frozen_features(encoder, train, test, bn="eval", seed=0)[0] is first
    assert encoder.backbone.seen == [24, 24]  # each set once
    with torch.no_grad():
        encoder.backbone.linear.weight[0, 0] += 1
    assert not torch.equal(features.view_features(encoder, train), first)
    encoder.backbone.hard = True
    assert features.view_features(encoder, train).unique().tolist() == [0, 1]
    assert features.view_features(copy.deepcopy(encoder), train) is not first


def test_only_the_last_few_are_kept():
    encoder = make_encoder()
    sets = [make_views(3, 2, seed=seed) for seed in range(6)]
    for views in [*sets, sets[-1], sets[0]]:
        features.view_features(encoder, views)
    assert len(encoder.backbone.seen) == 7  # the last was known, the first no more


def test_batch_statistics_drift_as_in_a_slow_loop(monkeypatch):
    monkeypatch.setattr(features, "IMAGES", 10)
    encoder, train, test = make_encoder(), make_views(9, 3), make_views(4, 3, seed=1)
    encoder.backbone.dropout.p = 0.0
    found, tested = features.frozen_features(encoder, train, test, bn="batch", seed=5)
    h = encoder.backbone.linear(train.images_at(torch.arange(27)).flatten(1)).detach()
    mean, variance = (value.clone() for value in encoder.backbone.norm.buffers() if value.ndim)
    order = torch.randperm(27, generator=torch.Generator().manual_seed(5))
    for positions in (order[:9], order[9:18], order[18:]):
        own = h[positions]
        expected = (own - own.mean(0)) / (own.var(0, correction=0) + 1e-5).sqrt()
        torch.testing.assert_close(found.flatten(0, 1)[positions], expected, rtol=1e-3, atol=1e-5)
        mean, variance = 0.9 * mean + 0.1 * own.mean(0), 0.9 * variance + 0.1 * own.var(0)
    h = encoder.backbone.linear(test.images_at(torch.arange(12)).flatten(1)).detach()
    torch.testing.assert_close(tested.flatten(0, 1), (h - mean) / (variance + 1e-5).sqrt(), rtol=1e-3, atol=1e-5)
    again = features.frozen_features(encoder, train, test, bn="batch", seed=5)
    assert again[0] is found
    other = features.frozen_features(encoder, train, test, bn="batch", seed=6)[0]
    assert not torch.equal(other, found)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_dropout_on_a_gpu_has_the_same_seed_and_leaves_global_randomness():
    encoder, train, test = make_encoder().cuda(), make_views(9, 6), make_views(4, 6, seed=1)
    before = torch.cuda.get_rng_state()
    first = features.drifted_features(encoder, train, test, 3)
    assert torch.equal(torch.cuda.get_rng_state(), before)
    torch.rand(3, device="cuda")
    again = features.drifted_features(encoder, train, test, 3)
    assert all(torch.equal(*pair) for pair in zip(first, again, strict=True))


def test_what_has_no_views_is_refused():
    single = ImageSet(torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.zeros(4).long(), mean=[0.0], std=[1.0])
    with pytest.raises(UserError, match=r"test.probes=\[rotation\] needs several views of each object"):
        features.check_views(single, "rotation", least=2)
    with pytest.raises(UserError, match=r"test.probes=\[spectrum\] needs views of each object"):
        features.check_views(single, "spectrum")
    features.check_views(None, "rotation", least=2)
    with pytest.raises(UserError, match="the probe color measures encoders that learned from views, and Linear has"):
        features.measured(nn.Linear(1, 1), "color")
    oracle = Oracle()
    assert features.measured(oracle, "color") is oracle
    assert features.parts_of(oracle, ["equi", "all", "equi"]) == ["equi", "all"]
    oracle.split = False
    assert features.parts_of(oracle, ["inv", "equi"]) == ["all"]
