"""The closed form of learned un-equivariance: tap means, and what a filter can make of them."""

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

from partial_equiv import UserError, build
from partial_equiv.convs import GConv2d
from partial_equiv.datasets import Batch
from partial_equiv.groups import make_group
from partial_equiv.probes import Unlearning, tap_means
from tests.nets.test_pixel_nets import LIFTINGNET, spec_of


def batches(size):
    images = torch.rand(2, 1, size, size)
    yield Batch(images, torch.arange(2), torch.arange(2))


def network(size, **changes):
    return build(spec_of(LIFTINGNET, "C4", in_channels=1, no_classes=2, size=size, **changes)).eval()


def test_tap_means_are_means_over_lattices():
    lifting = GConv2d(make_group("C4"), 2, 1, 3, in_rep="trivial", stride=2, padding=1)
    image = torch.rand(1, 2, 8, 8)
    padded = np.pad(image[0].numpy(), [(0, 0), (1, 1), (1, 1)])
    expected = [
        [[padded[c, v : v + 7 : 2, u : u + 7 : 2].mean() for u in range(3)] for v in range(3)] for c in range(2)
    ]
    assert np.allclose(tap_means(lifting, image), expected, atol=1e-6)
    # The mean response of every element follows from them.
    means = torch.einsum("aiuv,iuv->a", lifting.bank(), tap_means(lifting, image)) + lifting.bias
    assert torch.allclose(lifting(image).mean(dim=(-2, -1))[0, 0], means, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "changes", "remainder"),
    [
        (32, {}, 1),
        (33, {}, 0),
        (31, {}, 0),
        (32, {"stride": 1}, 0),
        (32, {"kernel_size": 4}, 0),
        (33, {"kernel_size": 4}, 1),
    ],
)
def test_the_difference_is_there_where_the_grid_is_not_symmetric(size, changes, remainder):
    probe = Unlearning()
    with torch.no_grad():
        numbers = probe(network(size, **changes), batches(size))
    assert numbers["unlearning/remainder"] == remainder
    for name in ("tap_difference", "response_error"):
        found = numbers[f"unlearning/{name}"]
        assert found > 0.05 if remainder else found < 1e-4, (name, found)
    assert isinstance(probe.artifacts()["unlearning.png"], Figure)


def test_another_network_is_refused():
    with pytest.raises(UserError, match="set net=LiftingNet"):
        Unlearning()(nn.Linear(2, 2), batches(8))
    assert Unlearning().artifacts() == {}
