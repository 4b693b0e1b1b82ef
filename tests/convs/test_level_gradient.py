"""The gradient to a learned level goes through both factors: finite differences, and each factor alone."""

import pytest
import torch

from partial_equiv.groups import make_group
from partial_equiv.sampling import make_sampler, set_progress
from tests.convs.dense import make_conv
from tests.convs.loops import random_map

STEP = 1e-5
each = pytest.mark.parametrize("factorization", ["full", "g", "gc"])
factorised = pytest.mark.parametrize("factorization", ["g", "gc"])
each_group = pytest.mark.parametrize("name", ["SE2", "E2"])


class Layer:
    """A partial convolution whose output is summed up with fixed weights, as a function of its level."""

    def __init__(self, factorization, name, training, level, **keys):
        self.sampler = make_sampler(group=make_group(name), no_samples=4, sampling_method="random", partial_equiv=True)
        self.conv = make_conv("group", factorization, name, 4, sampler=self.sampler, **keys).train(training)
        self.sampler.level.data.fill_(level)
        set_progress(self.conv, 0.5)
        self.f = random_map(self.conv.group)

    def __call__(self):
        out = self.conv(self.f, torch.Generator().manual_seed(7)).values
        return (out * torch.linspace(-1, 1, out.numel(), dtype=out.dtype).cos().view_as(out)).sum()

    def gradient(self):
        self.conv.zero_grad()
        self().backward()
        return self.sampler.level.grad.item()

    @torch.no_grad()
    def difference(self):
        values = []
        for step in (STEP, -STEP):
            self.sampler.level += step
            values.append(self().item())
            self.sampler.level -= step
        return (values[0] - values[1]) / (2 * STEP)


def cut(kernel):
    """Cut a kernel off from where it is evaluated: the level does not reach it any more. Returns the way back."""
    own = kernel.features
    kernel.features = lambda *parts: own(*(part.detach() for part in parts))
    return lambda: delattr(kernel, "features")


@each
@each_group
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("level", [0.15, 0.6, 0.95])
@pytest.mark.parametrize("angle", ["circle", "linear"])
def test_the_gradient_is_the_difference(factorization, name, training, level, angle):
    layer = Layer(factorization, name, training, level, angle=angle)
    gradient = layer.gradient()
    assert abs(gradient) > 1e-3
    assert gradient == pytest.approx(layer.difference(), rel=1e-5)


@factorised
@each_group
@pytest.mark.parametrize("per_batch_element", [True, False])
def test_each_factor_brings_its_share_and_both_make_the_whole(factorization, name, per_batch_element):
    layer = Layer(factorization, name, True, 0.6, per_batch_element=per_batch_element)
    whole, shares = layer.gradient(), []
    for kernel in (layer.conv.spatial_kernel, layer.conv.kernel):
        restore = cut(kernel)
        shares.append(layer.gradient())
        restore()
    assert all(abs(share) > 1e-3 and abs(share - whole) > 1e-3 for share in shares)
    assert sum(shares) == pytest.approx(whole, rel=1e-9)
    both = [cut(layer.conv.spatial_kernel), cut(layer.conv.kernel)]
    layer.conv.zero_grad()
    total = layer()
    total.backward()
    assert not layer.sampler.level.grad, "nothing else depends on where the elements are"
    for restore in both:
        restore()


@factorised
def test_the_elements_of_the_input_are_reached_through_the_group_factor_alone(factorization):
    """k_R2 turns with the output's elements; where the input's are is k_H's to know."""
    conv = make_conv("group", factorization, "SE2", 4)
    f = random_map(conv.group)
    gradients = []
    for kernel in (None, conv.spatial_kernel, conv.kernel):
        restore = cut(kernel) if kernel is not None else None
        elements = f.elements.clone().requires_grad_()
        sample = make_sampler(group=conv.group, no_samples=4).double()()._replace(closure=1)
        conv.at(f._replace(elements=elements), sample).values.square().sum().backward()
        gradients.append(torch.zeros_like(elements) if elements.grad is None else elements.grad)
        if restore is not None:
            restore()
    assert gradients[0].ne(0).all() and torch.allclose(gradients[0], gradients[1], rtol=1e-12)
    assert not gradients[2].any()


@each
def test_gates_and_level_of_a_mirrored_interval_both_learn(factorization):
    layer = Layer(factorization, "E2", True, 0.5)
    after = make_conv("group", factorization, "E2", 4, channels=(3, 2))
    found = layer.conv(layer.f, torch.Generator().manual_seed(7))
    after(found).values.square().sum().backward()
    assert layer.sampler.level.grad.item() != 0 and layer.sampler.gates.grad.ne(0).all()
