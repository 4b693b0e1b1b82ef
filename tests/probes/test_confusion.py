"""Confusion counts against a slow loop, and the accuracy of each class."""

import torch
from torch import nn

from partial_equiv.datasets import Batch
from partial_equiv.probes import PROBES, ClassAccuracy, confusion_counts


class Echo(nn.Module):
    """Predicts what the first pixel says."""

    def forward(self, images):
        return nn.functional.one_hot(images[:, 0, 0, 0].long(), 3).float()


def make_batches():
    labels, predicted = torch.tensor([0, 0, 1, 1, 1, 0, 1]), torch.tensor([0, 1, 1, 1, 2, 0, 0])
    images = predicted[:, None, None, None].float().expand(-1, 1, 2, 2)
    index = torch.arange(7)
    return [Batch(images[:4], labels[:4], index[:4]), Batch(images[4:], labels[4:], index[4:])]


def test_counts_equal_a_slow_loop():
    counts = confusion_counts(Echo(), make_batches(), 3)
    expected = [[0] * 3 for _ in range(3)]
    for batch in make_batches():
        for image, label in zip(batch.images, batch.labels, strict=True):
            expected[int(label)][int(image[0, 0, 0])] += 1
    assert counts.tolist() == expected


def test_class_accuracy_leaves_out_classes_that_do_not_occur():
    found = PROBES["class_accuracy"](class_names=["a", "b", "c"])(Echo(), make_batches())
    assert found == {"class_accuracy/a": 2 / 3, "class_accuracy/b": 2 / 4}
    assert isinstance(ClassAccuracy(class_names=["a"]), ClassAccuracy)
