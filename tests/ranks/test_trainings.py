"""Trainings on two processes against one: every kind of objective over fifty steps, every kind of network for one."""

from pathlib import Path

import pytest
import torch

from tests.covering import covering
from tests.ranks import two_trainings
from tests.ranks.processes import written_by_two
from tests.ranks.two_trainings import CPU, RUNS, make_stage

pytestmark = pytest.mark.long
NAMES = [pytest.param(name, dtype, id=f"{name}-{str(dtype)[6:]}") for name, dtype in RUNS]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """Return what each of two processes wrote."""
    return written_by_two(Path(two_trainings.__file__), tmp_path_factory.mktemp("ranks"), seconds=1200)


@pytest.mark.parametrize(("name", "dtype"), NAMES)
def test_two_processes_have_the_losses_of_one(ranks, name, dtype):
    alone = two_trainings.curve(name, dtype)
    first, second = (rank["curves"][name, dtype] for rank in ranks)
    assert first["losses"] == second["losses"] and first["judged"] == second["judged"]
    assert first["losses"][0] != pytest.approx(first["losses"][-1], rel=1e-3)  # something was learned
    assert torch.equal(first["drawn"], alone["drawn"]) and torch.equal(second["drawn"], alone["drawn"])
    if dtype == torch.float64:
        assert first["losses"] == pytest.approx(alone["losses"], rel=1e-9)
        assert first["judged"] == pytest.approx(alone["judged"], rel=1e-6, abs=1e-9)
    else:  # in single precision rounding errors grow with every step, of one process as of two
        assert first["losses"][:10] == pytest.approx(alone["losses"][:10], rel=1e-5)


@pytest.mark.parametrize("case", covering(), ids=str)
def test_two_processes_take_the_step_of_one(ranks, case):
    alone = two_trainings.one_step(case, 0, 1)
    for rank in ranks:
        found = rank["steps"][str(case)]
        assert found.keys() == alone.keys()
        for name, value in alone.items():
            torch.testing.assert_close(found[name], value, rtol=1e-6, atol=1e-9, msg=f"{case} {name}")
    stage, _ = make_stage(case, no_images=6, device=CPU)
    before = {name: value.double() for name, value in stage.objective.state_dict().items()}
    assert any(not torch.equal(alone[name], value) for name, value in before.items()), "nothing was learned"
