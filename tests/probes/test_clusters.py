"""Sets turned upright, against images that are known upright; k-means on them, against scikit-learn and slow loops."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from scipy import ndimage
from sklearn.cluster import KMeans

from partial_equiv.datasets import ImageSet, make_loader
from partial_equiv.errors import UserError
from partial_equiv.probes.clusters import Clusters
from partial_equiv.probes.standardised import CHUNK, plain_batches, upright
from tests.probes.known_poses import knowing, make_net, make_set


def batches_of(images):
    return make_loader(images, batch_size=16, shuffle=False, drop_last=False, seed=0, no_workers=0)


@torch.no_grad()
def test_true_poses_give_the_upright_images_back():
    plain, turned = make_set(CHUNK + 10, seed=0)
    found = upright(knowing(make_net(), turned), plain_batches(turned))
    assert torch.equal(found.raw, turned.images)
    assert torch.equal(found.standardised, plain)
    assert not torch.equal(found.raw, plain)
    assert torch.equal(found.labels, turned.labels)
    assert found.z.shape == (len(turned), 8)


@torch.no_grad()
def test_a_standardised_image_is_the_raw_one_turned_once():
    _, turned = make_set(12, seed=0, angles=12)
    found = upright(knowing(make_net(), turned), plain_batches(turned))
    for raw, straight, pose in zip(turned.images, found.standardised, turned.poses, strict=True):
        degrees = -math.degrees(float(pose))
        expected = ndimage.rotate(raw[0].double().numpy(), degrees, reshape=False, order=1, mode="grid-constant")
        assert np.abs(straight[0].numpy() - expected).max() < 0.51  # rounded to the next integer


@torch.no_grad()
def test_readings_are_those_of_the_network():
    net, (_, turned) = make_net(), make_set(20, seed=0)
    reading, found = net.read(turned[range(20)].images), upright(net, batches_of(turned))
    assert torch.allclose(found.z, reading.z, atol=1e-5)
    back = net.pixels(net.standardise(turned[range(20)].images)) * 255
    assert (found.standardised - back).abs().max() < 0.51


@torch.no_grad()
def test_augmentation_does_not_reach_a_probe():
    _, turned = make_set(12, seed=0)

    class Black:
        def draw(self, index, epoch):
            return torch.zeros(len(index), 0)

        def fetch(self, images, index, drawn):
            return images[index] * 0

    batches = list(plain_batches(turned.augmented(Black())))
    assert torch.equal(batches[0].images, turned[range(12)].images)


def mutual_information(labels, clusters):
    """Return I(L; K) / ((H(L) + H(K)) / 2), from counts."""
    total = len(labels)

    def entropy(values):
        return -sum(n / total * math.log(n / total) for n in Counter(values).values())

    shared = entropy(labels) + entropy(clusters) - entropy(list(zip(labels, clusters, strict=True)))
    return 2 * shared / (entropy(labels) + entropy(clusters))


def expected_scores(no_clusters, points, labels, test_points, test_labels):
    """Return accuracy and mutual information, cluster by cluster."""
    fitted = KMeans(n_clusters=no_clusters, n_init=10, random_state=5).fit(points.flatten(1).float().numpy() / 255)
    clusters = fitted.predict(test_points.flatten(1).float().numpy() / 255).tolist()
    counts = [Counter(labels[torch.from_numpy(fitted.labels_ == cluster)].tolist()) for cluster in range(no_clusters)]
    right = [counts[c].most_common(1)[0][0] == label for c, label in zip(clusters, test_labels.tolist(), strict=True)]
    return sum(right) / len(right), mutual_information(test_labels.tolist(), clusters)


@pytest.fixture(scope="module")
def scored():
    (plain, train), (test_plain, test) = make_set(90, seed=0), make_set(60, seed=1)
    probe = Clusters(no_clusters=[3, 8], train=train, seed=5)
    with torch.no_grad():
        numbers = probe(knowing(make_net(), train, test), batches_of(test))
    return probe, numbers, (plain, train), (test_plain, test)


def test_numbers_equal_a_direct_computation(scored):
    _, numbers, (plain, train), (test_plain, test) = scored
    pairs = {"raw": (train.images, test.images), "standardised": (plain, test_plain)}
    expected = {}
    for number in (3, 8):
        for kind, (points, test_points) in pairs.items():
            accuracy, nmi = expected_scores(number, points, train.labels, test_points, test.labels)
            expected |= {f"clusters/accuracy_{kind}_{number}": accuracy, f"clusters/nmi_{kind}_{number}": nmi}
    assert numbers == pytest.approx(expected)


def test_turning_images_upright_helps(scored):
    _, numbers, *_ = scored
    assert numbers["clusters/accuracy_standardised_3"] == numbers["clusters/nmi_standardised_3"] == 1
    assert numbers["clusters/accuracy_raw_3"] < 0.8
    assert numbers["clusters/nmi_raw_3"] < 0.5


def test_the_table_has_a_row_for_each_number(scored):
    probe, numbers, *_ = scored
    rows = [line.split() for line in probe.words().splitlines()[1:]]
    assert [row[0] for row in rows] == ["3", "8"]
    keys = ("accuracy_raw", "accuracy_standardised", "nmi_raw", "nmi_standardised")
    assert rows[1][1:] == [f"{numbers[f'clusters/{key}_8']:.3f}" for key in keys]


def test_labels_score_and_do_not_cluster(scored):
    _, numbers, (_, train), (_, test) = scored
    renamed = [ImageSet(s.images, 2 - s.labels, mean=s.mean, std=s.std, poses=s.poses) for s in (train, test)]
    with torch.no_grad():
        again = Clusters(no_clusters=[3], train=renamed[0], seed=5)(
            knowing(make_net(), *renamed), batches_of(renamed[1])
        )
    assert again == pytest.approx({key: value for key, value in numbers.items() if key.endswith("_3")})


@pytest.mark.parametrize("number", [0, 91])
def test_impossible_numbers_of_clusters_are_refused(number):
    _, train = make_set(90, seed=0)
    with pytest.raises(UserError, match=rf"no_clusters=\[3, {number}\] holds {number}: give 1 to 90"):
        Clusters(no_clusters=[3, number], train=train, seed=0)


def test_a_set_without_labels_is_refused():
    _, turned = make_set(90, seed=0)
    blind = ImageSet(turned.images, turned.labels * 0, mean=turned.mean, std=turned.std)
    with pytest.raises(UserError, match="the probe clusters scores by labels"):
        Clusters(no_clusters=[3], train=blind, seed=0)


def test_a_dry_run_has_no_images_and_another_network_no_poses():
    assert Clusters(no_clusters=[10, 64], train=None, seed=0).words() == ""
    _, train = make_set(9, seed=0)
    with pytest.raises(UserError, match="the probe clusters looks at poses"):
        Clusters(no_clusters=[3], train=train, seed=0)(torch.nn.Identity(), batches_of(train))
