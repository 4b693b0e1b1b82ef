"""Files of a run's network: whole or not at all, and what is said of them."""

import pytest
import torch

from partial_equiv import UserError, build
from partial_equiv.export import FORMATS
from partial_equiv.runs import exports, load_state, save_state, write_exports
from partial_equiv.sampling import samplers
from tests.nets.specs import D4, GCNN, SUBSET, make_spec


@pytest.fixture
def run(tmp_path):
    """Return a run folder of a partial network with a closed gate."""
    spec = make_spec(GCNN, D4, SUBSET)
    spec["info"] |= {"mean": [0.1, 0.2], "std": [0.5, 0.6]}
    model = build(spec)
    for sampler in samplers(model):
        if sampler.gates is not None:
            sampler.gates.data[0] = -0.5
    save_state(tmp_path, "best", model.state_dict(), {"spec": spec})
    return tmp_path


def test_files_come_with_their_figures(run):
    soft, hard = (write_exports(run, ["torch"], hard_gates=hard)[0] for hard in (False, True))
    assert hard.path == run / "network.pt2" and hard.no_bytes == hard.path.stat().st_size
    assert hard.no_parameters < soft.no_parameters
    for file in (soft, hard):
        assert file.difference < 1e-5
        assert file.agreement.plain_error == pytest.approx(file.agreement.error, abs=1e-4)


def test_a_failure_leaves_the_file_before(run, monkeypatch):
    write_exports(run, ["torch"])
    before = {path: path.read_bytes() for path in run.iterdir()}
    true = FORMATS["torch"].read

    def wrong(content):
        loaded = true(content)
        return loaded._replace(network=lambda images: loaded.network(images) + 1)

    monkeypatch.setitem(exports.FORMATS, "torch", FORMATS["torch"]._replace(read=wrong))
    with pytest.raises(UserError, match="says something else"):
        write_exports(run, ["torch"])
    assert {path: path.read_bytes() for path in run.iterdir()} == before


def test_a_run_without_its_normalisation_is_refused(run):
    tensors, meta = load_state(run, "best")
    del meta["spec"]["info"]["mean"]
    save_state(run, "best", tensors, meta)
    with pytest.raises(UserError, match="says no mean and std of its images"):
        write_exports(run, ["torch"])
    assert not list(run.glob("network.*"))


def test_facts_say_what_the_network_takes(run):
    facts = exports.facts_of(run)
    assert {key: facts[key] for key in ("mean", "std", "size", "in_channels", "no_classes", "network")} == {
        "mean": [0.1, 0.2],
        "std": [0.5, 0.6],
        "size": [12, 12],
        "in_channels": 2,
        "no_classes": 3,
        "network": "GCNN",
    }
    assert facts["torch"] == torch.__version__
