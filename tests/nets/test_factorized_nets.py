"""Networks with factorised convolutions: invariant to what their group has, and to nothing else."""

import pytest
import torch

from partial_equiv import UserError, build
from partial_equiv.audit import audit
from partial_equiv.convs import GroupConv, LiftingConv
from partial_equiv.sampling import samplers
from tests.nets.factorized import FACTORS, NETS, by, pairs
from tests.nets.specs import D4, E2, GCNN, INTERVAL, RANDOM, SUBSET, T2, make_spec, trained
from tests.nets.test_invariance import AUGERINO, BROKEN, EXACT, FLIPS, LAST_T2, TURNS, change, opened
from tests.nets.test_split_ckresnet import gap, parts, turning
from tests.nets.test_split_ckresnet import made as made_split

factorised = pytest.mark.parametrize("factorization", FACTORS)
MIRRORED = [name for name in NETS if "E2" in name.split() or "D4" in name.split()]


def factorizations(model):
    """Return which kinds of layers a network has, by the kernels they hold."""
    return {
        type(m).__name__: "spatial_kernel" in dict(m.named_children())
        for m in model.modules()
        if isinstance(m, LiftingConv | GroupConv)
    }


# What is invariant, and what is not.


@pytest.mark.parametrize(("name", "factorization"), pairs(NETS))
def test_logits_are_invariant_to_what_the_group_has(name, factorization):
    model = opened(trained(*NETS[name], by(factorization)))
    assert factorizations(model) == {"LiftingConv": factorization == "gc", "GroupConv": True}
    moves = [*TURNS.values(), *(FLIPS.values() if name in MIRRORED else [])]
    assert max(change(model, move) for move in moves) < EXACT
    if name not in MIRRORED:
        assert min(change(model, move) for move in FLIPS.values()) > BROKEN


@factorised
@pytest.mark.parametrize("changes", [[T2], [{"base_group.no_samples": 1}], [LAST_T2], [GCNN, T2]])
def test_networks_without_turns_or_with_a_plain_last_layer_see_turns(changes, factorization):
    model = trained(*changes, by(factorization), {"net.pool_blocks": [1]})  # a last map of more than one pixel
    assert min(change(model, move) for move in TURNS.values()) > BROKEN


@factorised
@pytest.mark.parametrize("changes", [[INTERVAL], [INTERVAL, E2], [INTERVAL, GCNN], [AUGERINO]])
def test_a_level_below_one_breaks_the_invariance(changes, factorization):
    model = opened(trained(*changes, by(factorization)))
    assert change(model, TURNS[1]) < EXACT
    [sampler for sampler in samplers(model) if sampler.level is not None][-1].level.data.fill_(0.5)
    assert change(model, TURNS[1]) > BROKEN


@factorised
@pytest.mark.parametrize("changes", [[SUBSET], [SUBSET, D4], [INTERVAL, E2]])
def test_a_closed_gate_breaks_the_invariance(changes, factorization):
    model = opened(trained(*changes, by(factorization)))
    moves = [*TURNS.values(), *(FLIPS.values() if len(changes) > 1 else [])]
    samplers(model)[-1].gates.data[-1] = -1.0
    assert max(change(model, move) for move in moves) > BROKEN


ODD = {"info.size": [9, 9], "net.pool_blocks": []}
LAW = {
    "a grid": ([], "C4", 1.0),
    "random turns": ([RANDOM], "C4", 1.0),
    "the circle": ([INTERVAL], "C4", 1.0),
    "an interval": ([INTERVAL], "C4", 0.4),
    "the dihedral group": ([D4], "D4", 1.0),
    "mirrors": ([E2], "D4", 1.0),
    "a plain stack": ([GCNN], "C4", 1.0),
}


@pytest.mark.parametrize(("name", "factorization"), [*pairs(LAW), ("a grid", "full"), ("an interval", "full")])
def test_the_audit_finds_the_law_kept_by_all_factorizations_alike(name, factorization):
    changes, group, level = LAW[name]
    model = trained(*changes, ODD, by(factorization))
    for sampler in samplers(model):
        if sampler.level is not None:
            sampler.level.data.fill_(level)
    report = audit(model, torch.randn(3, 2, 9, 9), group)
    assert report.culprits == ()
    for kind in ("local", "law"):
        numbers = [getattr(row, kind) for row in report.rows if getattr(row, kind) is not None]
        assert len(numbers) > 5 and max(numbers) < EXACT, kind
    assert report.error < EXACT if level == 1 else report.error > 0.01


@factorised
def test_a_split_encoder_turns_one_part_and_leaves_the_other(factorization):
    model, images = made_split(by(factorization)), torch.rand(4, 2, 12, 12, dtype=torch.float64)
    inv, equi = parts(model, images)
    for quarters in (1, 2, 3):
        other_inv, other_equi = parts(model, torch.rot90(images, quarters, dims=(-2, -1)))
        assert gap(other_inv, inv) < 1e-9
        assert gap(other_equi, equi * turning(6, quarters * torch.pi / 2)) < 1e-9
    assert gap(other_equi, equi * turning(6, torch.pi / 2)) > 0.1, "the wrong sense fails"


# What is refused, and what stays as it was.


@pytest.mark.parametrize("value", ["cg", "separable", None, True])
def test_unknown_factorizations_are_told(value):
    with pytest.raises(UserError) as caught:
        build(make_spec({"conv.factorization": value}))
    assert all(word in str(caught.value) for word in ("conv.factorization", "full", "g", "gc")), str(caught.value)


def test_full_is_what_a_spec_without_the_key_says():
    torch.manual_seed(0)
    first = build(make_spec())
    torch.manual_seed(0)
    second = build(make_spec(by("full")))
    assert not any(factorizations(first).values())
    states = first.state_dict(), second.state_dict()
    assert states[0].keys() == states[1].keys() and all(torch.equal(states[0][k], states[1][k]) for k in states[0])
