"""The logits move continuously with every level and every gate: no step of a fine sweep is far above the others."""

import pytest
import torch

from partial_equiv.sampling import samplers, set_hard_gates
from tests.nets.specs import D4, E2, GCNN, INTERVAL, SHARED, SUBSET, trained

STEP = 1e-4
CEIL = {"base_group.count": "ceil"}
LAYER_NORM = {"net.norm": "LayerNorm"}
LAST_T2 = {"net.last_conv_T2": True}
AUGERINO = {**SHARED, "net.type": "AugerinoCKResNet"}
AUGERINO_GCNN = {**SHARED, "net.type": "AugerinoGCNN", "net.pool_blocks": [1]}


@torch.no_grad()
def steps_of(model, parameter, index, middle, no_steps, step=STEP):
    """Return how far the logits move at each step of a sweep of one number around `middle`."""
    images = torch.randn(2, 2, 12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    flat, logits = parameter.data.view(-1), []
    before = flat[index].item()
    for k in range(no_steps + 1):
        flat[index] = middle + (k - no_steps / 2) * step
        logits.append(model(images))
    flat[index] = before
    return torch.stack(logits).diff(dim=0).flatten(1).norm(dim=1)


def jumps(model, parameter, index, middle, no_steps=100):
    """Say whether the logits jump: a step above 10 median ones that does not fall apart when it is cut in 50.

    Where another element takes over the maximum of the readout, the slope may change at once; that is no jump.
    """
    steps = steps_of(model, parameter, index, middle, no_steps)
    if steps.max() <= 10 * steps.median():
        return False
    widest = middle + (int(steps.argmax()) - no_steps / 2 + 0.5) * STEP
    return bool(steps_of(model, parameter, index, widest, 50, STEP / 50).max() > 0.1 * steps.max())


def learned(model, kind):
    """Return the levels or the gates of a network, in module order."""
    return [getattr(s, kind) for s in samplers(model) if getattr(s, kind) is not None]


def narrowed(*changes):
    """Return a network whose levels and gates have left their start, each to a place of its own."""
    model = trained(*changes)
    for k, level in enumerate(learned(model, "level")):
        level.data.fill_(0.9 - 0.13 * k)
    for k, gates in enumerate(learned(model, "gates")):
        gates.data.copy_(torch.linspace(0.8, -0.4, gates.numel()) + 0.1 * k)
    return model


INTERVALS = {
    "SE2": [INTERVAL],
    "E2": [INTERVAL, E2],
    "E2 LayerNorm": [INTERVAL, E2, LAYER_NORM],
    "GCNN": [GCNN, INTERVAL],
    "last T2": [INTERVAL, E2, LAST_T2],
    "Augerino": [AUGERINO, E2],
    "Augerino GCNN": [AUGERINO_GCNN],
}
SUBSETS = {
    "SE2": [SUBSET],
    "E2": [SUBSET, E2],
    "D4": [SUBSET, D4],
    "D4 LayerNorm": [SUBSET, D4, LAYER_NORM],
    "GCNN": [GCNN, SUBSET, E2],
    "last T2": [SUBSET, E2, LAST_T2],
    "random E2": [INTERVAL, E2],
    "Augerino": [AUGERINO, E2],
}


def check(model, parameters, places, no_steps):
    """Sweep the first and the last number of each parameter around each place."""
    for number, parameter in enumerate(parameters):
        for index in {0, parameter.numel() - 1}:
            for middle in places:
                where = f"layer {number}, entry {index}, around {middle}"
                assert not jumps(model, parameter, index, middle, no_steps), f"a jump: {where}"


def early(parameters):
    """Return a layer early in the network, on which every logit depends."""
    return parameters[1:2] or parameters


@pytest.mark.parametrize("name", INTERVALS)
def test_logits_move_continuously_with_a_level(name):
    model = narrowed(*INTERVALS[name])
    (level,) = early(learned(model, "level"))
    check(model, [level], (0.5, 0.99), 60)
    assert steps_of(model, level, 0, 0.5, 4).min() > 0, "the logits must depend on what is swept"


@pytest.mark.parametrize("name", SUBSETS)
def test_logits_move_continuously_with_a_gate(name):
    model = narrowed(*SUBSETS[name])
    (gates,) = early(learned(model, "gates"))
    check(model, [gates], (0.0,), 60)
    assert steps_of(model, gates, 0, 0.0, 4).min() > 0, "the logits must depend on what is swept"


# With 4 rotations, ceil(4 level) jumps at .25, .5 and .75, with 2 at .5; both ends of the range are places too.
@pytest.mark.long
@pytest.mark.parametrize("name", INTERVALS)
def test_logits_move_continuously_with_every_level(name):
    model = narrowed(*INTERVALS[name])
    check(model, learned(model, "level"), (0.01, 0.5, 0.75, 0.99), 200)


@pytest.mark.long
@pytest.mark.parametrize("name", SUBSETS)
def test_logits_move_continuously_with_every_gate(name):
    model = narrowed(*SUBSETS[name])
    check(model, learned(model, "gates"), (0.0, 1.0), 100)


@pytest.mark.parametrize(
    ("changes", "middle"),
    [([INTERVAL], 0.5), ([INTERVAL], 0.75), ([INTERVAL, E2], 0.5), ([GCNN, INTERVAL], 0.75)],
)
def test_the_published_count_jumps_where_a_turn_leaves(changes, middle):
    """So that the tests above can fail."""
    model = narrowed(*changes, CEIL)
    level = learned(model, "level")[1]
    assert jumps(model, level, 0, middle, 60)
    assert not jumps(model, level, 0, middle + 0.06, 60), "between two jumps it is continuous too"


def test_the_published_angle_jumps_where_a_relative_turn_passes_zero():
    model = narrowed(INTERVAL, {"kernel.angle": "linear"})
    level = learned(model, "level")[1]
    same = learned(model, "level")[0].item()  # input and output turns then coincide
    assert jumps(model, level, 0, same, 60)
    circle = narrowed(INTERVAL)
    assert not jumps(circle, learned(circle, "level")[1], 0, same, 60)


def test_hard_gates_jump():
    model = narrowed(SUBSET, E2)
    gates = learned(model, "gates")[1]
    assert not jumps(model, gates, 0, 0.0, 60)
    set_hard_gates(model, True)
    assert jumps(model, gates, 0, 0.0, 60)
    assert (steps_of(model, gates, 0, 0.0, 60) > 0).sum() == 1, "one threshold, nothing else"


def test_a_level_outside_its_range_changes_nothing():
    model = narrowed(INTERVAL)
    level = learned(model, "level")[1]
    assert not steps_of(model, level, 0, 1.2, 4).any() and not steps_of(model, level, 0, -0.2, 4).any()
