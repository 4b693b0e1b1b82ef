"""ResNet-18 and neighbours on known sets: they learn, keep the best epoch, and leave global randomness alone."""

import pytest
import torch

from partial_equiv.datasets import ImageSet, make_loader
from partial_equiv.errors import UserError
from partial_equiv.probes import downstream
from partial_equiv.probes.downstream import Downstream, accuracy, make_resnet, pixel_set
from tests.probes.known_poses import knowing, make_net, make_set

NAMES = ("a", "b", "c")


def batches_of(images):
    return make_loader(images, batch_size=16, shuffle=False, drop_last=False, seed=0, no_workers=0)


def make_probe(train, *, epochs, batch_size=8, seed=0):
    return Downstream(epochs=epochs, batch_size=batch_size, class_names=NAMES, train=train, seed=seed)


def same(first, second):
    return all(torch.equal(value, second[name]) for name, value in first.items())


@torch.no_grad()
def test_each_resnet_is_tested_on_its_own_kind_and_global_randomness_stays(monkeypatch):
    (_, train), (plain, test) = make_set(25, seed=0), make_set(30, seed=1)
    net, judged, judge = knowing(make_net(), train, test), [], downstream.accuracy
    monkeypatch.setattr(downstream, "accuracy", lambda network, images: judged.append(images) or judge(network, images))
    before = torch.get_rng_state()
    numbers = make_probe(train, epochs=1)(net, batches_of(test))
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.is_grad_enabled()
    assert list(numbers) == ["downstream/resnet_raw", "downstream/resnet_standardised", "downstream/knn"]
    _, raw, _, standardised = judged  # each after its validation
    assert torch.equal(raw.images, test.images)
    assert torch.equal(standardised.images, plain)


@pytest.mark.long
@torch.no_grad()
def test_upright_patterns_are_learned():
    (plain, train), (test_plain, test) = make_set(75, seed=0), make_set(45, seed=1)
    probe = make_probe(train, epochs=10, batch_size=10)
    resnet = probe.train_resnet(plain, train.labels, torch.device("cpu"), "")
    assert accuracy(resnet, pixel_set(test_plain, test.labels)) > 0.8  # chance is a third
    assert resnet.bn1.num_batches_tracked > 6  # judging an epoch does not stop batch norm from learning in the next


@torch.no_grad()
def test_neighbours_equal_a_slow_loop():
    (_, train), (_, test) = make_set(45, seed=0), make_set(30, seed=1)
    net = knowing(make_net(), train, test)
    z, test_z = (net.read(images[range(len(images))].images).z for images in (train, test))
    right = 0
    for one, label in zip(test_z, test.labels, strict=True):
        nearest = (z - one).norm(dim=1).argsort()[:5]
        right += int(train.labels[nearest].bincount(minlength=3).argmax() == label)
    assert 0.4 < right / 30 < 1
    for epochs in (0, None):  # without a ResNet, nothing is said of one
        assert make_probe(train, epochs=epochs)(net, batches_of(test)) == {"downstream/knn": right / 30}


def trained(epochs, monkeypatch, scores):
    """Return the weights kept of epochs that reach these accuracies, and the sets learned from and judged by."""
    plain, train = make_set(27, seed=0)  # 22 images are learned from: batches of 7 leave a lone one
    reached, seen = iter(scores), []

    def scripted(network, images):
        seen.append(images)
        return next(reached)

    def watched(network, loader, optimizer):
        seen.append(loader.image_set)
        torch_epoch(network, loader, optimizer)

    torch_epoch = downstream.train_epoch
    with monkeypatch.context() as patched, torch.no_grad():
        patched.setattr(downstream, "accuracy", scripted)
        patched.setattr(downstream, "train_epoch", watched)
        probe = make_probe(train, epochs=epochs, batch_size=7)
        return probe.train_resnet(plain, train.labels, torch.device("cpu"), "").state_dict(), seen


def test_the_best_epoch_is_kept_as_a_copy(monkeypatch):
    best, _ = trained(2, monkeypatch, [0.7, 0.7])
    first, _ = trained(1, monkeypatch, [0.1])
    last, _ = trained(2, monkeypatch, [0.1, 0.2])
    assert same(best, first)
    assert not same(best, last)


def test_a_fifth_is_held_out(monkeypatch):
    _, (kept, held_out) = trained(1, monkeypatch, [0.5])
    rows = [{image.numpy().tobytes() for image in part.images} for part in (kept, held_out)]
    assert [len(part) for part in rows] == [22, 5]
    plain, _ = make_set(27, seed=0)
    assert rows[0] | rows[1] == {image.numpy().tobytes() for image in plain}


def test_the_network_is_the_published_one_and_its_weights_follow_the_seed():
    resnet = make_resnet(1, 10, 0).eval()
    # torchvision states 11,689,512 for 3 channels and 1000 classes.
    assert sum(p.numel() for p in resnet.parameters()) == 11_689_512 - 2 * 64 * 49 - 513 * 990
    assert resnet(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
    torch.rand(1)
    assert same(resnet.state_dict(), make_resnet(1, 10, 0).state_dict())
    assert not same(resnet.state_dict(), make_resnet(1, 10, 1).state_dict())


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"epochs": -1}, r"epochs=-1 is negative"),
        ({"epochs": 1, "batch_size": 1}, r"batch_size=1 is out of range"),
    ],
)
def test_numbers_out_of_range_are_refused(choices, message):
    with pytest.raises(UserError, match=message):
        make_probe(None, **choices)


def test_sets_that_cannot_be_scored_are_refused():
    _, turned = make_set(12, seed=0)
    blind = ImageSet(turned.images, turned.labels * 0, mean=turned.mean, std=turned.std)
    with pytest.raises(UserError, match="the probe downstream scores by labels"):
        make_probe(blind, epochs=1)
    with pytest.raises(UserError, match="needs 5 training images, got 4"):
        make_probe(make_set(4, seed=0)[1], epochs=1)
    with pytest.raises(UserError, match="the probe downstream looks at poses"):
        make_probe(turned, epochs=1)(torch.nn.Identity(), batches_of(turned))
