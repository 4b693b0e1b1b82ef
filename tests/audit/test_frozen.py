"""A borrowed network comes back bit for bit as it was, whatever happens."""

import copy
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from partial_equiv import UserError
from partial_equiv.audit import assert_equivariant, audit, equivariance_error, symmetrised_twin
from partial_equiv.audit.frozen import frozen
from partial_equiv.audit.phase import phase_report

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_forward_hooks_with_kwargs", "_forward_pre_hooks_with_kwargs")


class Net(nn.Module):
    """Has what can go wrong: norm statistics, in-place operations, a shared module, tied and parametrised weights."""

    def __init__(self, stop=None):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.conv2 = parametrizations.weight_norm(nn.Conv2d(4, 4, 3, padding=1))
        self.conv3 = nn.Conv2d(4, 4, 3, padding=1)
        self.conv3.weight = self.conv2.parametrizations.weight.original1  # tied
        self.norm, self.relu, self.drop = nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout(0.5)
        self.head = nn.Linear(4, 5)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.register_buffer("scale", torch.ones(()), persistent=False)
        self.grid = torch.linspace(0, 1, 4)[:, None, None]  # neither parameter nor buffer
        self.seen, self.stop = [], stop
        self.kept = None

    def forward(self, x):
        self.calls += 1
        self.scale = self.scale * 2
        self.kept = x
        y = self.relu(self.norm(self.conv1(x)))
        y += self.relu(self.conv2(y)) + torch.rand(())
        if self.stop is not None:
            self.stop()
        return self.head((self.drop(self.conv3(y)) * self.grid).mean((-2, -1)))


def state_of(model):
    tensors = [*model.named_parameters(remove_duplicate=False), *model.named_buffers()]
    return {
        "values": {name: tensor.detach().clone() for name, tensor in tensors},
        "places": {name: (id(tensor), tensor.data_ptr(), tensor.dtype) for name, tensor in tensors},
        "modes": {name: module.training for name, module in model.named_modules()},
        "hooks": {name: [len(getattr(m, key)) for key in HOOKS] for name, m in model.named_modules()},
        "keys": list(model.state_dict()),
        "attributes": {name: set(module.__dict__) for name, module in model.named_modules()},
        "kept": (model.kept, id(model.grid), model.grid.dtype),
    }


def generators():
    return torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist(), torch.rand(1, generator=FIXED)


FIXED = torch.Generator()


def flags():
    b = torch.backends
    ops = (b.cuda.matmul, b.cudnn.conv, b.cudnn.rnn, b.mkldnn.matmul, b.mkldnn.conv, b.mkldnn.rnn)
    return [op.fp32_precision for op in ops] + [b.cuda.matmul.allow_tf32, b.cudnn.allow_tf32]


def assert_same(before, after):
    for name, values in before["values"].items():
        assert torch.equal(values, after["values"][name]), name
    for key in ("places", "modes", "hooks", "keys", "attributes", "kept"):
        assert before[key] == after[key], key


def some(model, dtype=torch.float32):
    """Mix training flags, so that restoring means more than one call of train()."""
    model.train()
    model.norm.eval()
    return model.to(dtype)


X = torch.randn(3, 3, 9, 9, generator=torch.Generator().manual_seed(0))
USES = {
    "audit": lambda model: audit(model, X, "D4"),
    "audit of all": lambda model: audit(model, X, "C2", layers="all"),
    "float32": lambda model: audit(model, X, dtype=torch.float32),
    "error": lambda model: equivariance_error(model, X),
    "phase": lambda model: phase_report(model, X),
    "twin": symmetrised_twin,
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_network_comes_back_as_it_was(use, dtype):
    if use == "twin":
        model = some(Net(), dtype)
        model.kept = None
    model = some(Net(), dtype)
    model.grid = model.grid.to(dtype)
    before, numbers, switches = state_of(model), generators(), flags()
    FIXED.manual_seed(0)
    USES[use](model)
    assert_same(before, state_of(model))
    FIXED.manual_seed(0)
    after = generators()
    assert torch.equal(numbers[0], after[0]) and numbers[1:3] == after[1:3]
    assert flags() == switches


@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt(), SystemExit(2), OSError("disk")])
@pytest.mark.parametrize("use", ["audit", "error", "phase"])
def test_nothing_is_left_behind_after_an_exception(error, use):
    calls = []

    def stop():
        calls.append(torch.rand(3))
        random.random()
        if len(calls) > 1:  # in the middle: the pass on x is done
            raise error

    model = some(Net(stop))
    before, numbers = state_of(model), torch.get_rng_state()
    with pytest.raises(UserError if isinstance(error, RuntimeError) else type(error)):
        USES[use](model)
    assert len(calls) == 2
    assert_same(before, state_of(model))
    assert torch.equal(numbers, torch.get_rng_state())


def test_what_is_lent_is_a_copy_in_the_dtype():
    model = some(Net())
    own = {name: p.data_ptr() for name, p in model.named_parameters()}
    with frozen(model, torch.float64):
        assert not any(module.training for module in model.modules())
        for name, parameter in model.named_parameters():
            assert parameter.dtype == torch.float64 and parameter.data_ptr() != own[name]
            parameter.data.zero_()
        assert model.conv3.weight is model.conv2.parametrizations.weight.original1
        assert model.calls.dtype == torch.int64 and model.grid.dtype == torch.float64
        assert [op.fp32_precision for op in (torch.backends.cuda.matmul, torch.backends.mkldnn.conv)] == ["ieee"] * 2
    assert model.conv1.weight.abs().sum() > 0


def test_a_graph_that_is_under_way_can_still_be_differentiated():
    """The audit may run between a forward and its backward pass, as a probe of a training step."""
    parts = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Conv2d(4, 2, 3)]
    model = nn.Sequential(*parts)
    twin = copy.deepcopy(model)
    gradients = []
    for net, probe in ((model, True), (twin, False)):
        torch.manual_seed(3)
        loss = net(X).square().sum()
        if probe:
            audit(net, X)
        loss.backward()
        gradients.append([p.grad for p in net.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_hooks_of_the_user_stay_and_run():
    model, calls = some(Net()), []
    handle = model.conv1.register_forward_hook(lambda module, args, output: calls.append(1))
    audit(model, X, "C2")
    assert len(calls) == 3 and len(model.conv1._forward_hooks) == 1
    handle.remove()


def test_a_network_in_training_mode_is_measured_in_evaluation_mode():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5))
    trained, evaluated = copy.deepcopy(model).train(), copy.deepcopy(model).eval()
    first, second = audit(trained, X), audit(evaluated, X)
    assert first == second and first.error == 0
    assert trained.training and int(trained[1].num_batches_tracked) == 0


def test_autocast_around_it_does_not_lower_the_precision():
    model = nn.Conv2d(3, 4, 1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = audit(model, X, dtype=torch.float32)
    assert inside == audit(model, X, dtype=torch.float32)


def test_a_network_on_another_device_gets_the_images_there():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(inplace=True)).cuda()
    state = torch.cuda.get_rng_state()
    assert audit(model, X).device.startswith("cuda") and torch.equal(torch.cuda.get_rng_state(), state)


def test_uninitialised_and_empty_networks_are_refused():
    with pytest.raises(UserError, match=r"weight is not initialised: run the network once"):
        audit(nn.LazyConv2d(4, 1), X)
    with pytest.raises(UserError, match="meta device and has no values"):
        audit(nn.Conv2d(3, 4, 1, device="meta"), X)
    with pytest.raises(UserError, match="not a floating point type"):
        assert_equivariant(nn.Conv2d(3, 4, 1), x=X, dtype=torch.int64)
