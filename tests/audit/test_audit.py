"""The audit against its definitions written out, its report, and every way in which it can be misused."""

import json
import math
from collections import OrderedDict
from dataclasses import replace

import pytest
import torch
import torchvision
from torch import nn

from partial_equiv import UserError
from partial_equiv.audit import audit, equivariance_error, make_moves
from partial_equiv.audit.figures import errors_over_epochs
from partial_equiv.audit.report import number_text
from partial_equiv.drawing import pixels, png

DOUBLE = torch.float64


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def small():
    torch.manual_seed(0)
    parts = [nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.LazyLinear(5)]
    model = nn.Sequential(*parts).double()
    model(noise(2, 3, 8, 8))
    return model


def relative(actual, expected, recorded):
    return ((actual - expected).abs().mean() / (recorded.roll(1, 0) - recorded).abs().mean()).item()


def test_errors_are_those_of_the_definition():
    model, x = small(), noise(3, 3, 8, 8, seed=1)
    report = audit(model, x, "D4")
    rows = {row.name: row for row in report.rows}
    assert list(rows) == ["0", "1", "2", "3", "4", "output"]
    for move in make_moves("D4"):
        mine, inputs, outputs = move.images(x), x, []
        for i, layer in enumerate(model):
            outputs.append(layer(inputs.clone()).detach())
            turned = move.images(inputs) if inputs.dim() == 4 else inputs
            expected = move.images(outputs[-1]) if outputs[-1].dim() == 4 else outputs[-1]
            local = relative(layer(turned.clone()), expected, outputs[-1])
            mine = layer(mine.clone())
            total = relative(mine, expected, outputs[-1])
            errors = rows[str(i)].errors
            assert errors["local"][move.name] == pytest.approx(local, rel=1e-9, abs=1e-14)
            assert errors["cumulative"][move.name] == pytest.approx(total, rel=1e-9, abs=1e-14)
            inputs = outputs[-1]
    assert report.error == max(rows["output"].errors["cumulative"].values()) == rows["4"].cumulative
    assert [row.name for row in report.culprits] == ["0", "2", "3"]
    assert report.first_culprit is rows["0"]


def test_the_sum_over_turns_is_that_of_the_reference():
    """Spec 4.1: sum over the three turns of mean |rho(T^j) F(x) - F(T^j x)|, and the largest difference beside it."""
    model, x = nn.Conv2d(3, 4, 3, 2, 1).double(), noise(3, 3, 8, 8)
    row = audit(model, x).rows[0]
    turns = [torch.rot90(x, j, (-2, -1)) for j in (1, 2, 3)]
    gaps = [(torch.rot90(model(x), j, (-2, -1)) - model(t)).abs() for j, t in zip((1, 2, 3), turns, strict=True)]
    assert row.sum_mae == pytest.approx(sum(gap.mean().item() for gap in gaps), rel=1e-12)
    assert row.max_abs == pytest.approx(max(gap.max().item() for gap in gaps), rel=1e-12)


def test_the_agreement_is_that_of_the_highest_logit():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 5, 3, 2, 1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten()).double()
    x = noise(40, 3, 8, 8)
    report = audit(model, x)
    same = [(model(torch.rot90(x, j, (-2, -1))).argmax(1) == model(x).argmax(1)).double().mean() for j in (1, 2, 3)]
    assert report.agreement == pytest.approx(float(sum(same)) / 3)
    assert 0.1 < report.agreement < 0.9
    assert audit(nn.Conv2d(3, 4, 1), noise(2, 3, 5, 5)).agreement is None


class Constant(nn.Module):
    """Adds a table that does not depend on x, ten times larger than what does."""

    def __init__(self, scale):
        super().__init__()
        self.table, self.scale = nn.Parameter(10 * noise(1, 3, 6, 6)), scale

    def forward(self, x):
        return self.table + self.scale * x


def test_errors_are_relative_to_what_varies():
    """Dividing by the magnitude would hide the table behind itself; no variation at all is infinitely far off."""
    x = noise(2, 3, 6, 6)
    errors = [audit(Constant(scale), x).error for scale in (1.0, 1e-3, 1e-6, 0.0)]
    assert errors[0] > 5 and errors[1] == pytest.approx(1000 * errors[0], rel=1e-6)
    assert errors[2] == pytest.approx(1e6 * errors[0], rel=1e-4)
    assert errors[3] == math.inf
    nothing = audit(nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), Zero()), x)
    assert nothing.error == 0 and nothing.rows[-1].reason == "it hardly varies over the batch"


class Zero(nn.Module):
    def forward(self, x):
        return x * 0


def test_rounding_of_what_hardly_varies_is_no_error():
    """A sum of three channels around 1e9, of which the 1e-7th varies: turned, it is added in another order."""
    torch.manual_seed(0)

    class Pool(nn.Module):
        def forward(self, x):
            return (1e9 + 1e-3 * x).mean((-2, -1))

    assert audit(Pool(), noise(2, 3, 33, 33)).culprits == ()


def test_non_right_angles_are_turned_by_interpolation_inside_the_disc():
    """A pointwise linear map commutes with interpolation, a pointwise square does not, and corners do not count."""
    x = torch.nn.functional.avg_pool2d(noise(2, 3, 40, 40), 8, 1)
    report = audit(nn.Conv2d(3, 4, 1), x, "C8")
    assert report.error < 1e-12 and (report.interpolation, report.mask) == ("bilinear", "inscribed disc")
    assert "other turns bilinear, compared in the inscribed disc" in report.caption
    square = audit(Square(), x, "SO2", angles=[0.3, math.pi / 2]).rows[0]
    assert square.errors["local"]["90°"] == 0 and 1e-4 < square.errors["local"]["17.1887°"] < 0.2
    assert square.local_exact == 0 and audit(Square(), x, "SO2", angles=[0.3]).culprits == ()
    corner = audit(Corner(), x, "SO2", angles=[0.3])
    assert corner.error < 1e-12
    assert audit(Corner(), x).error > 1e-3
    right = audit(nn.Conv2d(3, 4, 1), x)
    assert (right.interpolation, right.mask) == ("none", "none")


class Square(nn.Module):
    def forward(self, x):
        return x.square()


class Corner(nn.Module):
    """Writes to the outermost pixel, which no disc holds."""

    def forward(self, x):
        twin = x.clone()
        twin[..., 0, 0] = 9
        return twin


def test_the_fill_is_the_median_of_the_border():
    """A background of its own in every image and channel stays invisible: no corner is darker than the rest."""
    seen = []
    background = torch.tensor([[1.0, -2.0], [5.0, 0.5]], dtype=DOUBLE)[:, :, None, None].expand(2, 2, 11, 11).clone()
    background[:, :, 5, 5] += 1
    net = Spy(seen)
    audit(net, background, "SO2", angles=[0.7])
    turned = seen[-1]
    assert torch.allclose(turned[..., 0, 0], background[..., 0, 0]) and not torch.equal(turned, background)


class Spy(nn.Module):
    def __init__(self, seen):
        super().__init__()
        self.seen = seen

    def forward(self, x):
        self.seen.append(x.clone())
        return x * 1


class Outputs(nn.Module):
    def __init__(self, form):
        super().__init__()
        self.conv, self.form = nn.Conv2d(3, 4, 3, padding=1), form

    def forward(self, x):
        y = self.conv(x)
        return self.form(y, y.mean((-2, -1)))


@pytest.mark.parametrize(
    ("form", "names"),
    [
        (lambda y, z: z, ["output"]),
        (lambda y, z: (z, y), ["output[0]", "output[1]"]),
        (lambda y, z: {"logits": z, "features": [y, None]}, ["output.logits", "output.features[0]"]),
        (lambda y, z: OrderedDict(out=y, step=3), ["output.out"]),
    ],
)
def test_outputs_may_be_structures(form, names):
    report = audit(Outputs(form), noise(2, 3, 6, 6))
    assert [row.name for row in report.rows if row.kind == "output"] == names
    assert all(row.cumulative > 1e-3 for row in report.rows)


class Shared(nn.Module):
    """One ReLU and one convolution called twice, and a module under two names."""

    def __init__(self):
        super().__init__()
        self.conv, self.relu = nn.Conv2d(3, 3, 3, padding=1), nn.ReLU(inplace=True)
        self.again = self.conv

    def forward(self, x):
        x = self.relu(self.conv(x))
        x = self.relu(self.again(x))
        return x.mean((-2, -1))


def test_calls_of_a_shared_module_are_told_apart():
    names = [row.name for row in audit(Shared(), noise(2, 3, 6, 6)).rows]
    assert names == ["conv", "relu", "conv#2", "relu#2", "output"]


class Preactivated(nn.Module):
    """An in-place ReLU whose input is used again: what it wrote must be seen, in every pass."""

    def __init__(self):
        super().__init__()
        self.relu, self.conv, self.norm = nn.ReLU(inplace=True), nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x):
        y = self.norm(x)
        return (y + self.conv(self.relu(y))).mean((-2, -1))


def test_what_is_written_in_place_is_seen_by_others():
    report = audit(Preactivated(), noise(2, 3, 6, 6), "D4")
    assert report.culprits == () and report.error < 1e-13


class Inferring(Preactivated):
    """A forward in inference mode of its own, whose tensors count no writes."""

    def forward(self, x):
        with torch.inference_mode():
            return super().forward(x)


def test_networks_in_inference_mode_are_measured():
    x = noise(2, 3, 6, 6)
    torch.manual_seed(0)
    report = audit(nn.Sequential(nn.Conv2d(3, 3, 3), Inferring()), x)
    assert report.first_culprit.name == "0" and len(report.culprits) == 1
    with torch.inference_mode():
        torch.manual_seed(0)
        assert audit(nn.Sequential(nn.Conv2d(3, 3, 3), Inferring()), x) == report


def test_a_given_representation_may_hand_back_what_it_got():
    """An in-place layer then writes to what the audit hands out, never to what it keeps."""
    model, x = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(inplace=True)), noise(2, 3, 6, 6)
    report = audit(model, x, "D1", reps={"0": lambda tensor, move: tensor.flip(-1) if move.mirror else tensor})
    assert report.culprits == () and report.error == 0
    same = audit(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.ReLU(inplace=True)), x, reps={"0": lambda t, move: t})
    assert same.culprits == () and same.error < 1e-14


def test_containers_and_names_can_be_asked_for():
    model = torchvision.models.resnet18(weights=None)
    x = noise(2, 3, 33, 33)
    every = audit(model, x, "D1", layers="all")
    containers = {row.name: row for row in every.rows if row.kind == "container"}
    assert list(containers)[:3] == ["layer1", "layer1.0", "layer1.1"] and "layer2.0.downsample" in containers
    leaves = audit(model, x, "D1")
    by_name = {row.name: row for row in every.rows}
    assert all(by_name[row.name] == row for row in leaves.rows)
    picked = audit(model, x, "D1", layers=["layer1.*.conv1", "layer3"])
    assert [row.name for row in picked.rows if row.kind == "layer"] == ["layer1.0.conv1", "layer1.1.conv1", "layer3"]
    assert replace(by_name["layer3"], kind="layer") in picked.rows


def test_a_container_adds_what_its_layers_add_together():
    torch.manual_seed(0)
    block = nn.Sequential(nn.Conv2d(3, 3, 3), nn.ReLU(), nn.Conv2d(3, 3, 3)).double()
    model, x = nn.Sequential(nn.Conv2d(3, 3, 3).double(), block), noise(3, 3, 9, 9)
    row = next(row for row in audit(model, x, "C2", layers="all").rows if row.name == "1")
    inputs = model[0](x)
    assert row.kind == "container"
    assert row.local == pytest.approx(relative(block(inputs.flip(-1, -2)), block(inputs).flip(-1, -2), block(inputs)))


def test_functional_networks_are_one_layer():
    class Functional(nn.Module):
        def forward(self, x):
            return nn.functional.max_pool2d(x, 2).mean((-2, -1))

    report = audit(Functional(), noise(2, 3, 7, 7))
    assert [row.name for row in report.rows] == ["(model)", "output"] and report.first_culprit.name == "(model)"
    assert audit(Functional(), noise(2, 3, 8, 8)).error < 1e-15


def test_what_cannot_be_measured_says_why_and_is_named_as_a_doubt():
    class Windows(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.mix, self.last = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 1)

        def forward(self, x):
            tiles = self.conv(x).unflatten(0, (1, -1)).expand(2, -1, -1, -1, -1).flatten(0, 1)
            return self.last(self.mix(tiles)[: len(x)])

    report = audit(Windows(), noise(3, 3, 6, 6))
    mix = next(row for row in report.rows if row.name == "mix")
    assert mix.local is mix.cumulative is None and "not the batch of 3" in mix.reason
    first = report.first_culprit
    assert first.name == "before last" and first.reason == "or what could not be measured ahead of it: mix"
    assert "mix" in report.verdict


def test_a_report_is_a_table_and_plain_values():
    report = audit(small(), noise(3, 3, 8, 8), "C4")
    table = report.table()
    assert table.splitlines()[1].split() == ["layer", "module", "output", "read", "as", "adds", "in", "total", "note"]
    assert "0 *" in table and "4x4x4" in table.replace("3x4x4x4", "4x4x4")
    assert report.verdict in table and report.caption in table
    data = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert data["first_culprit"] == "0" and data["culprits"] == ["0", "2", "3"] and data["error"] == report.error
    assert data["rows"][0]["errors"]["local"]["90°"] == report.rows[0].errors["local"]["90°"]
    endless = audit(Constant(0.0), noise(2, 3, 6, 6)).to_dict()
    assert endless["error"] == "inf" and json.dumps(endless, allow_nan=False)
    assert report.metrics()["audit/output"] == report.error
    assert next(iter(report.metrics("x/"))) == "x/0"


def test_a_long_table_is_cut_around_the_first_culprit():
    parts = [nn.Identity() for _ in range(40)]
    parts[20] = nn.Conv2d(3, 3, 3)
    table = audit(nn.Sequential(*parts), noise(2, 3, 8, 8), "D1").table(most=7)
    lines = table.splitlines()
    assert [line.split()[0] for line in lines[3:12]] == ["...", *map(str, range(17, 24)), "..."]
    assert any(line.startswith("20 *") for line in lines) and any(line.startswith("output") for line in lines)


def test_numbers_are_short():
    assert [number_text(v) for v in (None, 0.0, 3e-15, 0.123, 4.0, 2e4, math.inf)] == [
        "-",
        "0",
        "3.0e-15",
        "0.12",
        "4",
        "2.0e+04",
        "inf",
    ]


def test_the_same_audit_gives_the_same_report_in_both_dtypes():
    model, x = small(), noise(3, 3, 8, 8)
    first, second = audit(model, x), audit(model, x)
    assert first == second
    single = audit(model, x, dtype=torch.float32)
    assert single.tolerance == 1e-4 and single.dtype == "float32"
    assert single.error == pytest.approx(first.error, rel=1e-4)
    assert [row.name for row in single.culprits] == [row.name for row in first.culprits]


def test_random_networks_draw_the_same_in_every_pass():
    class Random(nn.Module):
        def forward(self, x):
            return x.mean((-2, -1)) * torch.rand(x.shape[1], dtype=x.dtype)

    x = noise(2, 3, 5, 5)
    assert audit(Random(), x).error < 1e-15
    one, two = (audit(Random(), x, seed=s).rows[0].max_abs for s in (1, 2))
    assert one != two or one == 0


def test_integer_images_and_complex_features_are_measured():
    class Spectrum(nn.Module):
        def forward(self, x):
            return torch.fft.fft2(x)[..., :1, :1]

    report = audit(Spectrum(), torch.randint(0, 255, (2, 3, 8, 8), dtype=torch.uint8))
    assert report.error < 1e-12 and report.rows[0].max_abs is not None

    class Highest(nn.Module):
        def forward(self, x):
            return x.argmax(1)[:, None]

    assert audit(Highest(), noise(2, 3, 8, 8)).error == 0


def test_wrapped_networks_are_unwrapped():
    model, x = small(), noise(2, 3, 8, 8)
    plain = audit(model, x)
    assert audit(nn.DataParallel(model), x) == plain
    assert audit(torch.compile(model), x) == plain


def test_rectangles_are_measured_where_the_network_takes_them():
    conv = nn.Conv2d(3, 4, 1)
    assert audit(nn.Sequential(conv, nn.ReLU()), noise(2, 3, 6, 10), "D4").error == 0
    strided = nn.Conv2d(3, 4, (1, 1), stride=(2, 1))
    assert equivariance_error(strided, noise(2, 3, 7, 10), "D2") < 1e-15
    assert equivariance_error(strided, noise(2, 3, 8, 10), "flip_w") < 1e-15
    assert equivariance_error(strided, noise(2, 3, 8, 10), "flip_h") > 0.1
    report = audit(strided, noise(2, 3, 7, 10))
    assert report.error == math.inf and "which should be" in report.rows[0].reason


X = noise(2, 3, 8, 8)


class Two(nn.Module):
    def forward(self, x, mask):
        return x * mask


class Words(nn.Module):
    def forward(self, x):
        return ["a"]


class Infinite(nn.Module):
    def forward(self, x):
        return x / 0


class Single(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return self.conv(x.float())


@pytest.mark.parametrize(
    ("model", "x", "keys", "why"),
    [
        (Two(), X, {}, r"the forward of Two takes x, mask, and an audit passes one batch of images: wrap it"),
        (nn.Bilinear(3, 3, 2), X, {}, "takes input1, input2"),
        (lambda x: x, X, {}, "model is a function: give a torch.nn.Module"),
        (nn.Conv2d(3, 4, 1), X[0], {}, r"x=\[3, 8, 8\] is no batch of images: give a tensor \[B, C, Y, X\]"),
        (nn.Conv2d(3, 4, 1), X.numpy(), {}, "x=ndarray is no batch"),
        (nn.Conv2d(3, 4, 1), X[:1], {}, "x holds 1 image"),
        (nn.Conv2d(3, 4, 1), X * math.nan, {}, "x holds NaN or infinity"),
        (nn.Conv2d(3, 4, 1), X[:1].expand(3, -1, -1, -1), {}, "the images of x are all the same"),
        (nn.Conv2d(3, 4, 1), X[..., :1, :1].expand(-1, -1, 8, 8), {}, "the group does not change x"),
        (nn.Conv2d(3, 4, 1), X, {"group": "C5x"}, "group='C5x' is not one of"),
        (nn.Conv2d(3, 4, 1), X, {"group": "SO2"}, "give angles="),
        (nn.Conv2d(3, 4, 1), X, {"layers": ["conv"]}, r"layers='conv' is no module that the network calls"),
        (
            nn.Sequential(nn.ReLU(), nn.Conv2d(4, 4, 1)),
            X,
            {},
            r"failed on x \[2, 3, 8, 8\] in 1 \(.*channels.*give images",
        ),
        (nn.Sequential(nn.Flatten(), nn.Linear(100, 4)), X, {}, r"failed on x .* in 1 \(.*size that it was made for"),
        (nn.Conv2d(3, 4, 1), X.permute(0, 2, 3, 1), {}, r"failed on x \[2, 8, 8, 3\] in \(model\)"),
        (
            nn.Sequential(nn.LayerNorm([3, 4, 8])),
            X[..., :4, :],
            {},
            r"under the move '90°', \[2, 3, 8, 4\], in 0 .*give square images, or group='C2' or 'D2'",
        ),
        (Words(), X, {}, "returns a list without tensors"),
        (Infinite(), X, {}, "the output holds NaN or infinity on x"),
        (Single(), X, {}, r"in conv \(.*\): if it fixes a dtype of its own, pass dtype=torch.float32"),
    ],
)
def test_mistakes_are_explained_in_one_sentence(model, x, keys, why):
    with pytest.raises(UserError, match=why) as caught:
        audit(model, x, **keys)
    assert "\n" not in str(caught.value)


def test_what_seemed_a_dtype_of_its_own_works_in_float32():
    assert audit(Single(), X, dtype=torch.float32).error == 0


def test_scripted_networks_are_refused():
    with pytest.warns(FutureWarning, match="is deprecated"):
        script = torch.jit.script(nn.Sequential(nn.ReLU()))
    with pytest.raises(UserError, match="TorchScript, which hides its layers"):
        audit(script, X)


def test_mps_is_told_to_take_float32(monkeypatch):
    monkeypatch.setattr("partial_equiv.audit.checks.device_of", lambda model, x: torch.device("mps"))
    with pytest.raises(UserError, match="MPS has no float64: pass dtype=torch.float32"):
        audit(nn.Conv2d(3, 4, 1), X)


def test_figures_are_drawn_for_any_length():
    exact = audit(nn.Sequential(*[nn.ReLU() for _ in range(3)]), X)
    long = audit(nn.Sequential(*[nn.Conv2d(3, 3, 3, padding=1, bias=False) for _ in range(90)]), X, "D1")
    endless = audit(Constant(0.0), noise(2, 3, 6, 6))
    sizes = [pixels(png(report.figure())).shape for report in (exact, long, endless)]
    assert sizes[1][0] > sizes[0][0] and max(size[0] for size in sizes) < 2000
    figure = long.figure()
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert {row.name for row in long.culprits} <= set(labels) and "output" in labels
    assert "first to break: adds" in "".join(text.get_text() for text in figure.axes[0].texts)


def test_errors_over_epochs_stand_side_by_side():
    rows = [{"epoch": e, "loss": 1.0, "audit/0": 0.0, "audit/1": 10.0**-e, "audit/output": 0.5} for e in range(3)]
    figure = errors_over_epochs({"size 33": rows, "size 32": [*rows, {"epoch": 3, "audit/0": None}]})
    left, right = figure.axes
    assert [left.get_title(), right.get_title()] == ["size 33", "size 32"] and left.get_yscale() == "log"
    lines = {line.get_label(): list(line.get_ydata()) for line in right.lines}
    assert list(lines) == ["0", "1", "output"] and lines["1"] == [1, 0.1, 0.01]
    assert len(set(lines["0"])) == 1 and 0 < lines["0"][0] < 1e-16
    assert right.get_ylim() == left.get_ylim()
    png(errors_over_epochs({"empty": []}))


@pytest.mark.long
def test_resnet18_at_full_size():
    report = audit(torchvision.models.resnet18(weights=None).eval(), torch.randn(8, 3, 224, 224))
    assert report.first_culprit.name == "conv1" and len(report.rows) == 61
