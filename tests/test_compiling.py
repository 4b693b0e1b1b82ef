"""compile=True: one graph for every pair of choices, equal to the eager step, and one sentence where there is none."""

import itertools
import math

import pytest
import torch
import torch._inductor.config
from torch import nn
from torch._dynamo.utils import counters

import compiling
from compiling import check_compile, compiled_forward, compiled_update
from optim import gated_step, make_optimizer, scale_rates
from partial_equiv import UserError
from partial_equiv.objectives import Objective, Step
from tests.covering import CHOICES, Case, covering, make_stage, possible
from tests.test_steps import one_step

GRAPH = "aot_eager_decomp_partition"
"""Everything that "inductor" does but the machine code, which takes a minute and more a case."""
FAMILIES = ("CKResNet", "GCNN", "GConvNet", "AugerinoGCNN", "SymmetryNet", "SplitEncoder")
FAST = [
    Case("CKResNet", "E2", "interval", "g"),
    Case("GCNN", "E2", "image", "full"),
    Case("GConvNet", "C4", "fixed", "gc"),
    Case("AugerinoGCNN", "SE2", "random", "g"),
    Case("SymmetryNet", "SE2", "fixed", "full"),
    Case("SplitEncoder", "SE2", "fixed", "full"),
]


@pytest.fixture(autouse=True)
def _fresh_compiler(monkeypatch, tmp_path):
    """Give each test a compiler that has seen nothing, writes to a folder of its own and draws as eager torch does."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch._dynamo.reset()
    counters.clear()
    with torch._inductor.config.patch(compile_threads=1, fallback_random=True):
        yield
    torch._dynamo.reset()


def gradients(objective, forward, batch, precision="float32"):
    """Return loss and gradients of one step from the same weights and the same random numbers."""
    before = {name: value.clone() for name, value in objective.state_dict().items()}
    objective.zero_grad(set_to_none=True)
    torch.manual_seed(3)
    with torch.autocast(batch.images.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        step = forward(batch)
    (step.loss if step.extra is None else step.loss + step.extra).backward()
    after = {name: value.clone() for name, value in objective.state_dict().items()}
    objective.load_state_dict(before)
    found = {name: p.grad.clone() for name, p in objective.named_parameters() if p.grad is not None}
    return {"loss": step.loss.detach(), **step.metrics}, found, after


def check_equal(found, expected, rtol):
    """Compare numbers one by one, and gradients and buffers by the largest of them: some are 0 but for rounding."""
    for kind, (mine, other) in enumerate(zip(found, expected, strict=True)):
        assert mine.keys() == other.keys()
        for name in mine:
            a, b = mine[name].double(), other[name].double()
            scale = b.abs() if kind == 0 else max(float(x.double().norm()) for x in other.values() if x.numel())
            assert bool(((a - b).abs() <= rtol * (scale + 1e-3)).all()), name


def check_one_graph(case, backend, *more, rtol=1e-4):
    stage, batch = make_stage(case, *more)
    objective = stage.objective
    expected = gradients(objective, objective, batch, stage.precision)
    found = gradients(objective, compiled_forward(objective, backend), batch, stage.precision)
    assert counters["stats"]["unique_graphs"] == 1 and not counters["graph_break"]
    check_equal(found, expected, rtol)


# --- Cases --------------------------------------------------------------------------------------------------------


def test_the_cases_show_every_pair_that_fits():
    """By another way than the generator's: for every two choices, some case has both if any possible case does."""
    cases, all_cases, no_pairs = covering(), possible(), 0
    for (i, first), (j, second) in itertools.combinations(enumerate(CHOICES.values()), 2):
        for a, b in itertools.product(first, second):
            fits = any(case[i] == a and case[j] == b for case in all_cases)
            assert any(case[i] == a and case[j] == b for case in cases) == fits
            no_pairs += fits
    assert set(cases) <= set(all_cases) and no_pairs > 2 * len(cases)


def test_the_fast_cases_show_every_family_and_factorisation():
    assert set(FAST) <= set(covering())
    assert tuple(case.net for case in FAST) == FAMILIES
    assert {case.factorization for case in FAST} == set(CHOICES["factorization"])


@pytest.mark.parametrize("case", FAST, ids=str)
def test_forward_and_loss_are_one_graph(case):
    check_one_graph(case, GRAPH)


@pytest.mark.long
@pytest.mark.parametrize("case", [case for case in covering() if case not in FAST], ids=str)
def test_forward_and_loss_are_one_graph_for_every_pair(case):
    check_one_graph(case, GRAPH)


@pytest.mark.long
@pytest.mark.parametrize("case", FAST, ids=str)
def test_the_machine_code_computes_the_same(case):
    check_one_graph(case, "inductor")


@pytest.mark.long
def test_a_step_in_bfloat16_compiles():
    """Compiled, intermediate results stay in float32, so the gradients differ by roundings to 8 bits."""
    stage, batch = make_stage(Case("CKResNet", "SE2", "interval", "gc"), "train.precision=bfloat16")
    objective = stage.objective
    eager, gradient, _ = gradients(objective, objective, batch, stage.precision)
    compiled, found, _ = gradients(objective, compiled_forward(objective), batch, stage.precision)
    assert counters["stats"]["unique_graphs"] == 1 and not counters["graph_break"]
    assert float(compiled["loss"]) == pytest.approx(float(eager["loss"]), rel=0.01)
    one, other = (torch.cat([named[name].flatten() for name in gradient]) for named in (found, gradient))
    assert found.keys() == gradient.keys()
    assert float(torch.cosine_similarity(one, other, dim=0)) > 0.99


@pytest.mark.long
def test_a_penalty_of_levels_is_in_the_graph():
    check_one_graph(Case("GCNN", "SE2", "interval", "full"), GRAPH, "train.monotonic_decay_loss=0.1", "net.no_blocks=2")


@pytest.mark.long
def test_steps_and_rates_compile_nothing_anew(monkeypatch):
    """Levels, temperatures, rates and online heads change from step to step; a ragged last batch is one graph more."""
    monkeypatch.setattr(compiling.compiled_forward, "__defaults__", (GRAPH,))
    stage, batch = make_stage(Case("SplitEncoder", "SE2", "fixed", "full"), "compile=True")
    assert stage.compile and "first step" in stage.notes[-1]
    losses = []
    for step in range(12):  # the heads watch at steps 0 and 10
        stage.objective.set_step(step)
        look = one_step(stage, batch, step)
        losses.append(look.read().totals["loss"])
    assert counters["stats"]["unique_graphs"] == 2
    ragged = type(batch)(*(entry[:3] for entry in batch))
    one_step(stage, ragged, 12)
    assert counters["stats"]["unique_graphs"] == 3
    assert losses[-1] < losses[0]


# --- The optimiser ------------------------------------------------------------------------------------------------


def grouped(parameters):
    level = {"role": "levels", "names": ["level"], "params": [parameters[0]], "weight_decay": 0.0}
    rest = {"role": "decayed", "names": ["a", "b"], "params": parameters[1:], "weight_decay": 0.1}
    return [group | {"lr": 0.05, "peak_lr": 0.05, "coupled": False} for group in (level, rest)]


def some_parameters():
    generator = torch.Generator().manual_seed(1)
    shapes = ((), (3, 4), (2, 3))
    return [nn.Parameter(torch.rand(shape, generator=generator)) for shape in shapes]


@pytest.mark.long
def test_a_compiled_update_follows_the_eager_one_and_its_gate():
    name, choices = "LARS", {"momentum": 0.9, "eta": 0.01}
    mine, theirs = some_parameters(), some_parameters()
    compiled, eager = (make_optimizer(name, grouped(parameters), choices) for parameters in (mine, theirs))
    update, graphs = compiled_update(compiled), []
    for step in range(6):
        shut = torch.tensor(step == 4)
        for optimizer, parameters in ((compiled, mine), (eager, theirs)):
            scale_rates(optimizer, 1 - step / 10)
            generator = torch.Generator().manual_seed(step)
            for parameter in parameters:
                parameter.grad = torch.randn(parameter.shape, generator=generator)
                parameter.grad = parameter.grad * math.nan if step == 4 else parameter.grad
        before = [parameter.detach().clone() for parameter in mine]
        update(compiled, shut)
        gated_step(eager, shut)
        assert all(map(torch.equal, mine, before)) == (step == 4)
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)
        graphs.append(counters["stats"]["unique_graphs"])
    assert graphs[1] == graphs[-1]  # the first two steps differ in what state there is, all others in numbers alone


@pytest.mark.parametrize(("name", "choices"), [("Adam", {}), ("SGD", {"momentum": 0.9})])
def test_what_is_few_kernels_already_stays_as_it_is(name, choices):
    optimizer = make_optimizer(name, grouped(some_parameters()), choices)
    assert compiled_update(optimizer) is gated_step
    assert optimizer.param_groups[0]["lr"] == 0.05


# --- Sentences ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (
            ["base_group.count=ceil"],
            "base_group.count=ceil .* cannot follow: set base_group.count=all, or set compile=",
        ),
        (
            ["train.weight_decay=0.1", "train.weight_decay_kind=published"],
            "weight_decay_kind=published sums norms .*: set train.weight_decay_kind=decoupled, or set compile=False",
        ),
    ],
)
def test_what_looks_at_its_numbers_is_refused(more, words):
    case = Case("CKResNet", "SE2", "interval", "full")
    make_stage(case, *more)
    with pytest.raises(UserError, match=words):
        make_stage(case, *more, "compile=True")


def test_a_device_without_a_compiler_is_refused():
    with pytest.raises(UserError, match="no compiler for device=mps: set device=cuda or cpu, or set compile=False"):
        check_compile(Script(lambda x: x), torch.device("mps"))


class Script(Objective):
    """A loss of one's own."""

    monitor, mode = "loss", "min"

    def __init__(self, function):
        super().__init__()
        self.function, self.weight = function, nn.Parameter(torch.ones(2))

    def forward(self, batch):
        return Step(self.function(self.weight * batch).sum(), {}, 2)


def looks(x):
    return x if float(x.detach().sum()) > 0 else -x


def errs(x):
    raise UserError("images=2 is too few: give 3")


def test_what_is_no_graph_is_answered_in_one_sentence():
    with pytest.raises(UserError, match=r"^compile=True cannot make one graph .* or set compile=False$") as error:
        compiled_forward(Script(looks), GRAPH)(torch.ones(2))
    assert "\n" not in str(error.value)


def test_a_mistake_of_the_user_stays_his_own_sentence():
    with pytest.raises(UserError, match="^images=2 is too few: give 3$"):
        compiled_forward(Script(errs), GRAPH)(torch.ones(2))


def test_a_missing_compiler_is_named(monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    none = torch._inductor.config.patch({"cpp.cxx": ("no-such-compiler",)})
    with (
        none,
        pytest.raises(UserError, match=r"needs a C\+\+ compiler, and none works here: install one, .* compile=False"),
    ):
        compiled_forward(Script(torch.exp))(torch.ones(2))
