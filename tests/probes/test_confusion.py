"""Answers of a classifier against a slow loop: counts, worst mistakes, and the accuracy of each class."""

import math

import pytest
import torch
from torch import nn

from partial_equiv.datasets import Batch
from partial_equiv.probes import PROBES, ClassAccuracy, answers_of


class Echo(nn.Module):
    """Predicts what the first pixel says, as surely as the second one says."""

    def forward(self, images):
        return nn.functional.one_hot(images[:, 0, 0, 0].long(), 3) * images[:, 0, 0, 1:2]


def make_batches():
    labels, predicted = torch.tensor([0, 0, 1, 1, 1, 0, 1]), torch.tensor([0, 1, 1, 1, 2, 0, 0])
    images = predicted[:, None, None, None].float().repeat(1, 1, 2, 2)
    images[:, 0, 0, 1] = torch.tensor([1.0, 2.0, 9.0, 1.0, 4.0, 1.0, 2.0])
    index = torch.arange(7) + 10
    return [Batch(images[:4], labels[:4], index[:4]), Batch(images[4:], labels[4:], index[4:])]


def test_counts_equal_a_slow_loop():
    counts = answers_of(Echo(), make_batches()).counts(3)
    expected = [[0] * 3 for _ in range(3)]
    for batch in make_batches():
        for image, label in zip(batch.images, batch.labels, strict=True):
            expected[int(label)][int(image[0, 0, 0])] += 1
    assert counts.tolist() == expected


def test_the_surest_mistakes_come_first_and_equal_ones_in_order():
    worst = answers_of(Echo(), make_batches()).worst(9)
    assert [case["index"] for case in worst] == [14, 11, 16]
    assert [(case["true"], case["predicted"]) for case in worst] == [(1, 2), (0, 1), (1, 0)]
    for case, logit in zip(worst, (4, 2, 2), strict=True):
        assert case["of_true"] == pytest.approx(1 / (2 + math.exp(logit)), rel=1e-5)
        assert case["of_predicted"] == pytest.approx(math.exp(logit) / (2 + math.exp(logit)), rel=1e-5)
    assert len(answers_of(Echo(), make_batches()).worst(2)) == 2


def test_class_accuracy_leaves_out_classes_that_do_not_occur():
    found = PROBES["class_accuracy"](class_names=["a", "b", "c"])(Echo(), make_batches())
    assert found == {"class_accuracy/a": 2 / 3, "class_accuracy/b": 2 / 4}
    assert isinstance(ClassAccuracy(class_names=["a"]), ClassAccuracy)
