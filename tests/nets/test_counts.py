"""Parameter counts against the published table, and what the circle coordinate adds to them."""

import pytest

from partial_equiv import build
from tests.nets.specs import GCNN, LINEAR, SMALL, count, make_spec, published

T2 = {"base_group.no_samples": 1}
RANDOM = {"base_group.sampling_method": "random", "base_group.sample_per_layer": True}
SHARED = {"base_group.sampling_method": "random"}
PARTIAL = {**RANDOM, "conv.partial_equiv": True}
E2 = {"base_group.name": "E2"}
POOLED = {"net.learnable_final_pooling": True, "net.final_spatial_dim": [2, 2]}
LAST_T2 = {"net.last_conv_T2": True}
MNIST6 = {"net.no_hidden": 10, "net.block_width_factors": None, "net.pool_blocks": [1, 2], "kernel.type": "MAGNet"}
FOURIER = {**MNIST6, "net.no_hidden": 20, "kernel.type": "Fourier", "net.norm": "LayerNorm"}

ROT = {"size": 28}
CIFAR10 = {"size": 32, "in_channels": 3}
CIFAR100 = {"size": 32, "in_channels": 3, "no_classes": 100}
SIXES = {"size": 28, "no_classes": 2}
AUGERINO = {"net": "AugerinoCKResNet"}
PLAIN_GCNN = {"net": "GCNN"}
AUGERINO_GCNN = {"net": "AugerinoGCNN"}
LATE_POOLS = {"net.pool_blocks": [1, 2]}

# (changes, data, net, published count, group convolutions, shortcuts)
TABLE = {
    "rotMNIST CKResNet T2": ([T2, LATE_POOLS], ROT, {}, 450_074, 5, 1),
    "rotMNIST CKResNet SE2 partial": ([PARTIAL], ROT, {}, 467_791, 5, 2),
    "rotMNIST CKResNet SE2 full": ([RANDOM], ROT, {}, 467_786, 5, 2),
    "rotMNIST CKResNet E2 partial": ([PARTIAL, E2], ROT, {}, 467_988, 5, 2),
    "rotMNIST CKResNet E2 full": ([RANDOM, E2], ROT, {}, 467_978, 5, 2),
    "rotMNIST CKResNet SE2 Augerino": ([SHARED], ROT, AUGERINO, 450_075, 5, 1),
    "rotMNIST CKResNet E2 Augerino": ([SHARED, E2], ROT, AUGERINO, 450_076, 5, 1),
    "CIFAR10 CKResNet T2": ([T2], CIFAR10, {}, 452_186, 5, 1),
    "CIFAR10 CKResNet SE2 partial": ([PARTIAL], CIFAR10, {}, 469_903, 5, 2),
    "CIFAR10 CKResNet SE2 full, learned pooling": ([RANDOM, POOLED], CIFAR10, {}, 469_931, 5, 2),
    "CIFAR10 CKResNet E2 partial": ([PARTIAL, E2], CIFAR10, {}, 470_100, 5, 2),
    "CIFAR10 CKResNet E2 full, learned pooling": ([RANDOM, E2, POOLED], CIFAR10, {}, 470_123, 5, 2),
    "CIFAR10 CKResNet SE2 Augerino": ([SHARED], CIFAR10, AUGERINO, 452_187, 5, 1),
    "CIFAR100 CKResNet T2": ([T2], CIFAR100, {}, 458_036, 5, 1),
    "CIFAR100 CKResNet SE2 partial": ([PARTIAL], CIFAR100, {}, 475_753, 5, 2),
    "CIFAR100 CKResNet SE2 full": ([RANDOM], CIFAR100, {}, 475_748, 5, 2),
    "CIFAR100 CKResNet E2 partial": ([PARTIAL, E2], CIFAR100, {}, 475_950, 5, 2),
    "CIFAR100 CKResNet E2 full, last convolution T2": ([RANDOM, E2, LAST_T2], CIFAR100, {}, 475_940, 5, 2),
    "CIFAR100 CKResNet SE2 Augerino": ([SHARED], CIFAR100, AUGERINO, 458_037, 5, 1),
    "CIFAR100 CKResNet E2 Augerino": ([SHARED, E2], CIFAR100, AUGERINO, 458_038, 5, 1),
    "rotMNIST GCNN T2": ([T2], ROT, PLAIN_GCNN, 3_992_106, 8, 0),
    "rotMNIST GCNN SE2 full": ([SHARED], ROT, PLAIN_GCNN, 3_992_106, 8, 0),
    "rotMNIST GCNN SE2 partial": ([PARTIAL], ROT, PLAIN_GCNN, 3_992_114, 8, 0),
    "rotMNIST GCNN SE2 Augerino": ([SHARED], ROT, AUGERINO_GCNN, 3_992_107, 8, 0),
    "CIFAR10 GCNN SE2 full": ([SHARED], CIFAR10, PLAIN_GCNN, 3_994_410, 8, 0),
    "CIFAR10 GCNN SE2 partial": ([PARTIAL], CIFAR10, PLAIN_GCNN, 3_994_418, 8, 0),
    "CIFAR10 GCNN SE2 Augerino": ([SHARED], CIFAR10, AUGERINO_GCNN, 3_994_411, 8, 0),
    "CIFAR100 GCNN SE2 full": ([SHARED], CIFAR100, PLAIN_GCNN, 4_017_540, 8, 0),
    "CIFAR100 GCNN SE2 partial": ([PARTIAL], CIFAR100, PLAIN_GCNN, 4_017_548, 8, 0),
    "CIFAR100 GCNN SE2 Augerino": ([SHARED], CIFAR100, AUGERINO_GCNN, 4_017_541, 8, 0),
    "MNIST6-180 SE2 partial": ([PARTIAL, MNIST6], SIXES, {}, 48_845, 5, 2),
    "MNIST6-180 SE2 full": ([RANDOM, FOURIER], SIXES, {}, 104_422, 5, 2),
    "MNIST6-M E2 partial": ([PARTIAL, E2, MNIST6], SIXES, {}, 51_154, 5, 2),
    "MNIST6-M E2 full": ([RANDOM, E2, MNIST6], SIXES, {}, 51_144, 5, 2),
}
each_row = pytest.mark.parametrize("row", TABLE)


def spec_of(row, *more):
    changes, data, net, *_ = TABLE[row]
    return published(*changes, *more, **data, **net)


@each_row
def test_counts_equal_the_published_table(row):
    assert count(spec_of(row)) == TABLE[row][3]


@each_row
def test_the_circle_adds_one_input_column_to_each_group_and_pointwise_kernel(row):
    """(cos r, sin r) instead of r / pi - 1: each layer that reads the coordinates gets one more column per hidden unit.

    That is SIREN's first layer, and each of a multiplicative filter network's L + 1 filters: its waves, and with MAGNet
    the centre and width of the window too. Lifting sees no angle, and shortcuts have half as many hidden units.
    """
    *_, expected, no_convs, no_shortcuts = TABLE[row]
    spec = spec_of(row, {"kernel.angle": "circle"})
    no_hidden, no_layers = spec["kernel"]["no_hidden"], spec["kernel"]["no_layers"]
    columns = {"SIREN": 1, "Fourier": no_layers + 1, "MAGNet": 3 * (no_layers + 1)}[spec["kernel"]["type"]]
    assert count(spec) - expected == columns * (no_convs * no_hidden + no_shortcuts * (no_hidden // 2))


@pytest.mark.parametrize("number", [4, 8, 16])
@pytest.mark.parametrize("changes", [RANDOM, PARTIAL])
def test_counts_do_not_depend_on_the_number_of_random_elements(number, changes):
    expected = count(make_spec(changes))
    assert count(make_spec(changes, {"base_group.no_samples": number})) == expected


@pytest.mark.parametrize(
    ("changes", "learned"),
    [
        ({}, 0),
        ({"base_group.no_samples": 8}, 0),
        ({"conv.partial_equiv": True, "base_group.no_samples": 8}, 5 * 7),
        ({"conv.partial_equiv": True, "base_group.no_samples": 8, "base_group.name": "E2"}, 5 * 4),
        ({"conv.partial_equiv": True, "base_group.no_samples": 8, "base_group.name": "D4"}, 5 * 4),
        ({**PARTIAL}, 5 * 1),
        ({**PARTIAL, "base_group.name": "E2"}, 5 * 2),
    ],
)
def test_a_layer_learns_as_many_numbers_as_its_sampling_has(changes, learned):
    model = build(make_spec(changes))
    names = [name for name, _ in model.named_parameters() if name.endswith(("level", "gates"))]
    assert sum(dict(model.named_parameters())[name].numel() for name in names) == learned
    assert not any(name.startswith("lifting") for name in names), "lifting is never partial"


def test_a_learned_omega0_adds_one_number_a_sine_layer():
    for changes in (LINEAR, GCNN):
        before, after = (count(make_spec(changes, {"kernel.learn_omega0": learn})) for learn in (False, True))
        model = build(make_spec(changes))
        no_kernels = sum(name.endswith("kernel") for name, _ in model.named_modules())
        assert after - before == 2 * no_kernels


def test_keys_of_other_entries_change_nothing():
    assert count(make_spec()) == count(make_spec({"net.dropout_blocks": [1], "kernel.norm": "LayerNorm"}))
    assert SMALL["kernel"]["type"] == "SIREN"
