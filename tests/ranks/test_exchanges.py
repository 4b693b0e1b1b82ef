"""What two processes agree on, and one step of an awkward objective on two shares against one process with all."""

from pathlib import Path

import pytest
import torch
from torch import nn

from partial_equiv.groups import GROUPS
from partial_equiv.ranks import (
    agree,
    agree_random,
    from_first,
    joined,
    own_rows,
    parallel,
    rand_rows,
    rank_dropout,
    summed,
)
from partial_equiv.ranks.norm import convert_norms
from partial_equiv.sampling import RandomGridSampler
from tests.ranks import two_exchanges
from tests.ranks.processes import written_by_two

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """Return what each of two processes wrote."""
    return written_by_two(Path(__file__).with_name("two_exchanges.py"), tmp_path_factory.mktemp("ranks"))


def test_a_flag_of_one_rank_is_a_flag_of_all(ranks):
    for rank in ranks:
        returned, itself = rank["agreed"]
        assert returned.tolist() == itself.tolist() == [True, True, False]
        assert rank["counted"].tolist() == [3, 1]


def test_what_the_first_rank_knows_arrives_with_every_bit(ranks):
    tensors, facts = ranks[1]["told"]
    assert facts == {"words": "größer", "numbers": [1, 0.1, None]}
    assert tensors["half"].dtype == torch.bfloat16 and tensors["half"][0] == 1.5 and tensors["half"][1].isnan()
    assert tensors["flag"].shape == () and tensors["flag"].dtype == torch.bool and tensors["flag"]
    assert tensors["none"].shape == (0, 3)
    assert torch.equal(tensors["wide"], torch.arange(6, dtype=torch.float64).view(2, 3).T)


def test_sums_take_what_a_rank_lacks_for_zero(ranks):
    assert [rank["summed"] for rank in ranks] == [{"a": 3.0, "b": 0.5}] * 2


def test_draws_for_examples_are_those_of_one_process_and_generators_stay_alike(ranks):
    first, second = (rank["drawn"] for rank in ranks)
    torch.manual_seed(0)
    assert torch.equal(first["common"], torch.rand(3)) and torch.equal(second["common"], first["common"])
    assert torch.equal(torch.cat([first["own"], second["own"]]), torch.rand(7))
    sampler = RandomGridSampler(group=GROUPS["SE2"], no_samples=4).train()
    sets = sampler(7).elements
    assert len(first["sets"]) == 4 and torch.equal(torch.cat([first["sets"], second["sets"]]), sets)
    assert torch.equal(first["set"], sampler(1).elements) and torch.equal(first["set"], second["set"])
    assert first["grid"].shape == second["grid"].shape == (1, 4, 1)
    assert torch.equal(first["after"], torch.rand(3)) and torch.equal(second["after"], first["after"])


@pytest.mark.parametrize(("name", "accumulate"), [("learned", 1), ("accumulated", 2)])
def test_steps_on_unequal_shares_are_those_of_one_process(ranks, name, accumulate):
    alone = two_exchanges.learned(0, 1, accumulate)
    for rank in ranks:
        found = rank[name]
        for step, expected in zip(found["steps"], alone["steps"], strict=True):
            assert step == pytest.approx(expected, rel=1e-12)
        for key, value in alone["state"].items():
            torch.testing.assert_close(found["state"][key], value, rtol=1e-10, atol=1e-12, msg=key)
        assert found["idle"] and found["restored"]
        assert torch.equal(found["drawn"], alone["drawn"])  # the look at the first batch drew nothing
    torch.manual_seed(1)
    before = two_exchanges.Watched().double().state_dict()
    still = {key for key, value in alone["state"].items() if (value - before[key]).abs().max() < 1e-12}
    assert still == {"net.0.bias", "unused.weight", "unused.bias"}


def test_a_loss_that_is_no_number_on_one_rank_is_none_on_any(ranks):
    assert all(rank["spoiled"] != rank["spoiled"] for rank in ranks)


def test_a_norm_by_weights_is_that_of_all_examples(ranks):
    alone = two_exchanges.weighted_norm(0, 1)
    for key in ("y", "values", "weights"):
        both = torch.cat([rank["weighted"][key] for rank in ranks])
        torch.testing.assert_close(both, alone[key], rtol=1e-9, atol=1e-12, msg=key)
    for rank in ranks:
        for key in ("norm.running_mean", "norm.running_var", "norm.num_batches_tracked"):
            torch.testing.assert_close(rank["weighted"][key], alone[key], rtol=1e-12, atol=0, msg=key)


def test_with_gradients_off_nothing_is_exchanged(ranks):
    found = ranks[0]["quiet"]
    assert found["gathered"].tolist() == [[0.0], [1.0], [2.0], [3.0]] and found["rows"] == (0, 4, 4)
    torch.testing.assert_close(found["normed"], nn.BatchNorm1d(1, affine=False)(torch.arange(4.0)[:, None]))


def test_one_process_is_left_as_it_is():
    flags, model = torch.tensor([True, False]), nn.Sequential(nn.BatchNorm1d(2), nn.Dropout(0.5))
    assert agree(flags) is flags and flags.tolist() == [True, False]
    tensors = {"x": torch.zeros(2)}
    assert from_first(lambda: (tensors, (1, 2)))[0] is tensors
    assert summed({"a": 0.1}) == {"a": 0.1}
    assert own_rows(3) == (0, 3, 3) and parallel(model, CPU) is model
    before, modules = torch.get_rng_state(), list(model.modules())
    agree_random(CPU)
    assert torch.equal(torch.get_rng_state(), before)
    with joined(model):
        assert all(old is new for old, new in zip(modules, model.modules(), strict=True))
    torch.manual_seed(3)
    drawn = rand_rows(4, device=CPU)
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.rand(4))


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_alone_dropout_is_torchs(p):
    x = torch.randn(4, 3, 2, 2, 2)
    for whole, theirs in ((False, nn.Dropout(p)), (True, nn.Dropout3d(p))):
        for training in (True, False):
            theirs.train(training)
            torch.manual_seed(0)
            expected = theirs(x)
            torch.manual_seed(0)
            assert torch.equal(rank_dropout(x, p, training=training, whole_channels=whole), expected)


def test_masks_of_two_ranks_are_those_of_one_process(ranks):
    for name, dropped in two_exchanges.dropped(0, 1).items():
        assert torch.equal(torch.cat([rank["dropped"][name] for rank in ranks]), dropped), name
        assert 0.2 < (dropped == 0).double().mean() < 0.8


def test_a_norm_of_what_all_ranks_share_is_not_joined():
    class Points(nn.Module):
        norms_no_examples = True

        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(2)

    model = nn.Sequential(Points(), nn.BatchNorm1d(2))
    plain = model[0].norm
    convert_norms(model)
    assert model[0].norm is plain and type(model[1]) is not nn.BatchNorm1d
