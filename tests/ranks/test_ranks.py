"""Two processes against one, and norms of one process against torch's."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from partial_equiv.ranks import RankBatchNorm, convert_norms, gather, no_ranks
from tests.ranks import two_ranks
from tests.ranks.processes import written_by_two


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """Return what each of two processes wrote."""
    return written_by_two(Path(__file__).with_name("two_ranks.py"), tmp_path_factory.mktemp("ranks"))


def test_two_processes_step_as_one_does(ranks):
    model, *views = two_ranks.fixed_case()
    before = copy.deepcopy(model.state_dict())
    expected = two_ranks.one_step(model, *views, ranks=1)
    states = [rank["step"] for rank in ranks]
    mean = sum(state.pop("loss") for state in states) / 2
    torch.testing.assert_close(mean, expected.pop("loss"), rtol=1e-12, atol=0)
    for state in states:
        assert state.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(state[name], value, rtol=1e-10, atol=1e-12, msg=name)
    # All moved, except biases that the next batch norm takes out again.
    still = {name for name, value in expected.items() if (value - before[name]).abs().max() < 1e-12}
    assert still == {"encoder.0.bias", "encoder.4.bias", "inv.0.bias", "equi.0.bias"}


def test_a_norm_over_two_unequal_shares_is_the_norm_of_all(ranks):
    alone = two_ranks.ragged_norm(0, 1)
    reference = nn.BatchNorm1d(3, momentum=None)
    torch.manual_seed(4)
    torch.testing.assert_close(alone["y"], reference(1e3 + torch.randn(12, 3, 2)), rtol=0, atol=1e-3)
    for key in ("y", "gradient"):
        both = torch.cat([rank["norm"][key] for rank in ranks])
        torch.testing.assert_close(both, alone[key], rtol=1e-3, atol=1e-3)
    for rank in ranks:
        torch.testing.assert_close(rank["norm"]["mean"], alone["mean"])
        torch.testing.assert_close(rank["norm"]["var"], alone["var"], rtol=1e-4, atol=0)


def test_a_gather_is_in_rank_order_and_its_gradient_is_the_sum_over_ranks(ranks):
    for number, rank in enumerate(ranks):
        assert rank["gathered"]["values"].tolist() == [[0.0], [0.0], [1.0], [1.0]]
        # Example e weighs e on the first rank and 2 e on the second.
        assert rank["gathered"]["gradient"].tolist() == [[3.0 * (2 * number)], [3.0 * (2 * number + 1)]]


def test_unequal_shares_and_foreign_norms_are_refused_on_every_rank(ranks):
    for rank in ranks:
        shares, norm = rank["refusal"]
        assert "hold 2, 3 examples" in shares and "drop_last=True" in shares
        assert norm.startswith("0 is a Foreign") and "2 processes" in norm


def test_half_precision_is_normalised_in_full(ranks):
    assert [rank["half"]["dtype"] for rank in ranks] == [torch.bfloat16] * 2
    assert ranks[0]["half"]["evaluated"].dtype == torch.bfloat16  # by one rank alone: evaluation exchanges nothing
    for rank in ranks:
        torch.testing.assert_close(rank["half"]["mean"], torch.zeros(2), rtol=0, atol=5e-3)
        torch.testing.assert_close(rank["half"]["std"], torch.ones(2), rtol=0, atol=1e-2)


def test_one_process_gathers_what_it_has():
    x = torch.randn(3, 2, requires_grad=True)
    assert no_ranks() == 1
    assert gather(x) is x


CASES = [
    (nn.BatchNorm1d(3), (5, 3)),
    (nn.BatchNorm1d(3, affine=False), (5, 3, 4)),
    (nn.BatchNorm2d(3, momentum=None), (5, 3, 4, 2)),
    (nn.BatchNorm2d(3, track_running_stats=False, eps=0.1), (5, 3, 4, 2)),
    (nn.BatchNorm3d(3, momentum=0.3), (5, 3, 2, 2, 2)),
]


@pytest.mark.parametrize(("theirs", "shape"), CASES)
def test_alone_a_norm_is_torchs(theirs, shape):
    torch.manual_seed(0)
    theirs = copy.deepcopy(theirs)
    ours = convert_norms(copy.deepcopy(theirs))
    assert type(ours) is RankBatchNorm and ours.state_dict().keys() == theirs.state_dict().keys()
    for mode in (True, True, False):
        theirs.train(mode), ours.train(mode)
        x = torch.randn(shape)
        assert torch.equal(ours(x), theirs(x))
    for name, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value), name


def test_axes_are_checked_in_words():
    with pytest.raises(ValueError, match="1 axes"):
        RankBatchNorm(3)(torch.zeros(3))


def test_conversion_keeps_parameters_state_mode_and_sharing():
    shared = nn.BatchNorm2d(4)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), shared, nn.Sequential(shared, nn.ReLU()), nn.BatchNorm2d(4).double())
    shared.running_mean.fill_(3)
    shared.eval()
    before, parameters = dict(model.state_dict()), list(model.parameters())
    assert convert_norms(model) is model
    assert not [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert model[1] is model[2][0] and not model[1].training and model[3].training
    assert all(old is new for old, new in zip(parameters, model.parameters(), strict=True))
    after = model.state_dict()
    assert after.keys() == before.keys() and all(torch.equal(after[name], before[name]) for name in before)
    assert after["3.running_var"].dtype == torch.float64
    assert model[1] is convert_norms(model)[1]  # once is enough
    copy.deepcopy(model)
