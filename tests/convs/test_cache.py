"""The kernel cache: one build for frozen weights, none that is stale, and no trace in what is saved."""

import copy
import functools
import io
import pickle

import pytest
import torch

from partial_equiv.convs import GroupConv, GroupFeatureMap, LiftingConv
from partial_equiv.convs.cache import KernelCache
from partial_equiv.groups import make_group
from partial_equiv.kernels import KERNELS, MLP
from partial_equiv.sampling import Sample
from tests.convs.loops import make_convs, random_elements, random_map

KINDS = ("lifting", "group", "pointwise")
each_kind = pytest.mark.parametrize("kind", KINDS)
MAKERS = {
    "SIREN": functools.partial(
        KERNELS["SIREN"], no_hidden=6, no_layers=3, omega0=5.0, learn_omega0=True, weight_norm=False
    ),
    "SIREN weight norm": functools.partial(
        KERNELS["SIREN"], no_hidden=6, no_layers=3, omega0=5.0, learn_omega0=False, weight_norm=True
    ),
    "MLP": functools.partial(MLP, no_hidden=6, no_layers=3, norm="BatchNorm", activation=None),
    "MAGNet": functools.partial(KERNELS["MAGNet"], no_hidden=6, no_layers=2),
}


def first_part(kernel):
    """Return a part of the kernel that every evaluation calls once."""
    return kernel.layers[1 if isinstance(kernel, MLP) else 0] if hasattr(kernel, "layers") else kernel.filters[0]


class Layer:
    """A convolution in evaluation with its input and sample, and a count of how often its kernel was evaluated."""

    def __init__(self, kind, make_kernel=MAKERS["SIREN"], side=5):
        self.conv = make_convs("E2", 4, make_kernel=make_kernel)[kind]
        group = make_group("E2")
        self.inputs, self.sample = random_elements(group, 1, 3), Sample(random_elements(group, 1, 4))
        self.weights = torch.rand(1, 3, dtype=torch.float64) + 0.1
        self.values = torch.randn(2, 2, 3, side, side, dtype=torch.float64)
        self.calls = 0
        self.hook = first_part(self.conv.kernel).register_forward_pre_hook(self._count)

    def _count(self, module, inputs):
        self.calls += 1

    def __call__(self, conv=None):
        conv = conv or self.conv
        if isinstance(conv, LiftingConv):
            return conv.at(self.values[:, :, 0], self.sample).values
        return conv.at(GroupFeatureMap(self.values, self.inputs, self.weights), self.sample).values

    def fresh(self):
        """Return the output without any cache."""
        conv = copy.deepcopy(self.conv)
        conv.cache.clear()
        return self(conv)


@each_kind
@pytest.mark.parametrize("maker", MAKERS)
@torch.no_grad()
def test_a_frozen_kernel_is_built_once(kind, maker):
    layer = Layer(kind, MAKERS[maker])
    first, second = layer(), layer()
    assert layer.calls == 1
    assert torch.equal(first, second) and torch.equal(first, layer.fresh())


@torch.no_grad()
def test_factors_are_multiplied_out_once():
    group, keys = make_group("E2"), {"make_kernel": MAKERS["SIREN"], "sampler": None, "no_samples": 4}
    conv = GroupConv(2, 3, size=3, group=group, factorization="g", **keys).double().eval()
    f, sample = random_map(group), Sample(random_elements(group, 1, 4))
    expected, product = conv.at(f, sample).values, conv.product_cache.weight
    assert torch.equal(conv.at(f, sample).values, expected) and conv.product_cache.weight is product is not None
    for factor in (conv.kernel, conv.spatial_kernel):
        factor.readout.weight.mul_(2)
        changed = conv.at(f, sample).values
        assert torch.equal(changed, copy.deepcopy(conv).at(f, sample).values), "a stale product"
        assert not torch.allclose(changed, expected)
        expected = changed
    conv.train().at(f, sample)
    assert conv.product_cache.weight is None, "what is being trained is not kept alive"


@each_kind
def test_frozen_parameters_need_no_no_grad(kind):
    layer = Layer(kind)
    layer.conv.requires_grad_(False)
    layer.values.requires_grad_()
    layer().sum().backward()
    first = layer.values.grad.clone()
    layer.values.grad = None
    layer().sum().backward()
    assert layer.calls == 1 and torch.equal(first, layer.values.grad) and first.any()


def optimiser_step(layer):
    with torch.enable_grad():
        optimiser = torch.optim.SGD(layer.conv.parameters(), lr=0.1)
        layer().square().sum().backward()
        optimiser.step()


def data_change(layer):
    layer.conv.kernel.readout.bias.data.add_(0.5)


def inplace_change(layer):
    next(layer.conv.kernel.parameters()).mul_(1.5)


def element_of_data(layer):
    next(layer.conv.kernel.parameters()).data.view(-1)[0] += 0.5


def load_state(layer):
    other = make_convs("E2", 4, make_kernel=MAKERS["SIREN"])
    kind = type(layer.conv).__name__.removesuffix("Conv").lower()
    layer.conv.load_state_dict(other[kind].state_dict())


def buffer_change(layer):
    layer.conv.kernel.layers[0].omega0.mul_(1.3)


def output_elements(layer):
    layer.sample = Sample(random_elements(make_group("E2"), 1, 4))


def output_elements_inplace(layer):
    layer.sample.elements[0, 1, 0] += 0.7


def input_elements(layer):
    layer.inputs = random_elements(make_group("E2"), 1, 3)


def input_weights(layer):
    layer.weights = layer.weights.flip(-1)


CHANGES = [optimiser_step, data_change, inplace_change, element_of_data, load_state, buffer_change, output_elements]
CHANGES += [output_elements_inplace, input_elements, input_weights]


@pytest.mark.parametrize(
    ("kind", "change"),
    [(k, c) for k in KINDS for c in CHANGES if k != "lifting" or c not in (input_elements, input_weights)],
)
@torch.no_grad()
def test_every_change_is_noticed(kind, change):
    layer = Layer(kind)
    before = layer()
    change(layer)
    after = layer()
    assert torch.equal(after, layer.fresh()), "a stale kernel"
    assert not torch.allclose(after, before), "the change must show"


@each_kind
@torch.no_grad()
def test_a_change_of_precision_is_noticed_both_ways(kind):
    layer = Layer(kind)
    exact = layer()
    layer.conv.float()
    layer.inputs, layer.weights, layer.values = layer.inputs.float(), layer.weights.float(), layer.values.float()
    layer.sample = Sample(layer.sample.elements.float())
    single = layer()
    assert single.dtype == torch.float32 and torch.allclose(single.double(), exact, atol=1e-4)
    assert layer.conv.cache.weight.dtype == torch.float32


@pytest.mark.parametrize("size", ["same", "full"])
@torch.no_grad()
def test_a_change_of_the_map_is_noticed_where_the_kernel_follows_it(size):
    conv = make_convs("SE2", 4, size)["lifting"]
    sample = Sample(random_elements(conv.group, 1, 4))
    for side in (5, 7, 5):
        images = torch.randn(1, 2, side, side, dtype=torch.float64)
        found = conv.at(images, sample).values
        twin = copy.deepcopy(conv)
        assert torch.equal(found, twin.at(images, sample).values)


def test_other_devices_shapes_and_dtypes_are_other_sources():
    cache, source, weight = KernelCache(), torch.ones(3), torch.ones(2)
    assert cache.get([source]) is None
    cache.put([source], weight)
    assert cache.get([torch.ones(3)]) is weight
    for other in (source.to("meta"), source.double(), torch.ones(1, 3), torch.ones(4), torch.tensor([1.0, 1, 2])):
        assert cache.get([other]) is None
    assert cache.get([source, source]) is None and cache.get([]) is None
    source.zero_()
    assert cache.get([torch.ones(3)]) is weight, "the cache owns its copy of the sources"
    cache.clear()
    assert cache.get([torch.ones(3)]) is None


@each_kind
def test_nothing_is_cached_where_gradients_are_needed(kind):
    layer = Layer(kind)
    for training in (True, False):
        layer.conv.train(training)
        layer.calls = 0
        for _ in range(2):
            layer.conv.zero_grad()
            layer().sum().backward()
            assert all(p.grad is not None for p in layer.conv.kernel.parameters())
        assert layer.calls == 2 and layer.conv.cache.weight is None
    with torch.no_grad():
        layer.conv.eval()
        layer()
    assert layer.conv.cache.weight is not None
    layer().sum().backward()
    assert layer.conv.cache.weight is None, "a kernel that is being trained is not kept alive"


@each_kind
@torch.no_grad()
def test_training_mode_builds_at_every_call(kind):
    layer = Layer(kind)
    layer.conv.train()
    layer(), layer()
    assert layer.calls == 2 and layer.conv.cache.weight is None


@each_kind
def test_a_learned_set_of_elements_gets_its_gradient_in_evaluation(kind):
    layer = Layer(kind)
    layer.conv.requires_grad_(False)
    layer.sample = Sample(layer.sample.elements.requires_grad_())
    for _ in range(2):
        layer.sample.elements.grad = None
        layer().square().sum().backward()
        assert layer.sample.elements.grad[..., 0].ne(0).all()


@each_kind
def test_a_cache_built_in_inference_mode_serves_autograd(kind):
    layer = Layer(kind)
    layer.conv.requires_grad_(False)
    with torch.inference_mode():
        expected = layer().clone()
    layer.values.requires_grad_()
    found = layer()
    found.sum().backward()
    assert torch.equal(found.detach(), expected) and layer.values.grad.any()


@each_kind
@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("when", ["before", "after training", "after evaluation"])
def test_copies_agree_before_and_after_a_forward_pass(kind, maker, when):
    layer = Layer(kind, MAKERS[maker])
    conv = layer.conv
    layer.hook.remove()  # so that a copy holds a network and no test
    if when == "after training":
        layer(conv.train()).sum().backward()
        conv.zero_grad(set_to_none=True)
    conv.eval()
    if when == "after evaluation":
        with torch.no_grad():
            layer()
    fresh = make_convs("E2", 4, make_kernel=MAKERS[maker])[kind]
    fresh.load_state_dict(conv.state_dict())
    saved = io.BytesIO()
    torch.save(conv.state_dict(), saved)
    saved.seek(0)
    reloaded = make_convs("E2", 4, make_kernel=MAKERS[maker])[kind]
    reloaded.load_state_dict(torch.load(saved, weights_only=True))
    single = copy.deepcopy(conv).to(torch.float32).to(torch.float64)
    twins = [single, copy.deepcopy(conv), fresh, reloaded, pickle.loads(pickle.dumps(conv))]
    with torch.no_grad():
        expected = layer()
        for twin in twins:
            assert twin.cache.weight is None, "a copy starts with an empty cache"
            tolerance = 1e-5 if twin is single else 0
            assert torch.allclose(layer(twin), expected, rtol=tolerance, atol=tolerance)


@each_kind
@torch.no_grad()
def test_the_cache_is_in_no_state_dict(kind):
    layer = Layer(kind)
    before = {key: value.clone() for key, value in layer.conv.state_dict().items()}
    layer()
    after = layer.conv.state_dict()
    assert layer.conv.cache.weight is not None
    assert list(before) == list(after) and all(torch.equal(before[key], after[key]) for key in before)
    assert all(key.startswith(("kernel.", "bias")) for key in after)
    assert len(pickle.dumps(layer.conv.cache)) < 200


@each_kind
@torch.no_grad()
def test_a_hook_sees_the_cached_weight_too(kind):
    layer, seen = Layer(kind), []
    layer.conv.kernel_hook.register_forward_hook(lambda module, inputs, output: seen.append(output))
    layer(), layer()
    assert len(seen) == 2 and torch.equal(seen[0], seen[1])
