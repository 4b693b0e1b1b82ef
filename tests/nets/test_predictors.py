"""Predictors, against the published form written out, and by the laws of the group."""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from partial_equiv import UserError
from partial_equiv.latents import COLUMNS, LatentEncoding
from partial_equiv.nets import ParamRegressor, Predictor, make_predictor, structure_errors
from partial_equiv.rotations import euler_matrix, wigner

CHOICES = {
    "kind": "hypernetwork",
    "hypernetwork": "linear",
    "hidden": None,
    "widths": [],
    "relu": False,
    "bias_pred": False,
    "bias_hypernet": False,
    "init": "published",
    "tf_num_layers": 1,
}
FORMS = [
    {"hypernetwork": kind, "hidden": hidden, "widths": widths, "relu": relu, "bias_pred": pred, "bias_hypernet": hyper}
    for kind, hidden in (("linear", None), ("deep", None), ("deep", 9))
    for widths, relu in ((None, False), ([5], False), ([11, 6], True))
    for pred in (False, True)
    for hyper in (False, True)
]
WIGNER = {"rotation": "wigner"}


def encoding(**changes):
    choices = {"parts": ("rotation",), "rotation": "quaternion", "max_degree": 2, "hue": "raw", "frame": "body"}
    return LatentEncoding(**choices | {"columns": COLUMNS} | changes)


def predictor(width, chosen=None, **changes):
    return make_predictor(width, chosen or encoding(), **CHOICES | changes)


def views(no_views):
    return torch.rand(no_views, 7, dtype=torch.float64) * 2 * math.pi


def pairs(chosen, no_pairs):
    return chosen.relative(views(no_pairs), views(no_pairs))


class Published(nn.Module):
    """The published form: a hypernetwork predicts all weights of a network, layer by layer, and bmm applies them."""

    def __init__(self, sizes, no_latents, *, hypernetwork, hidden, relu, bias_pred, bias_hypernet):
        super().__init__()
        self.sizes, self.relu, self.bias_pred = sizes, relu, bias_pred
        no_weights = sum(a * b for a, b in pairwise(sizes)) + bias_pred * sum(sizes[1:])
        layers = []
        if hypernetwork == "deep":
            no_hidden = hidden or no_latents
            layers = [nn.Linear(no_latents, no_hidden, bias=bias_hypernet), nn.ReLU()]
            layers += [nn.Linear(no_hidden, no_hidden, bias=bias_hypernet), nn.ReLU()]
            no_latents = no_hidden
        self.hyper = nn.Sequential(*layers, nn.Linear(no_latents, no_weights, bias=bias_hypernet))

    def forward(self, z, g):
        numbers = self.hyper(g)
        x = z[:, None]
        for layer, (no_in, no_out) in enumerate(pairwise(self.sizes)):
            weights, numbers = numbers[:, : no_in * no_out], numbers[:, no_in * no_out :]
            x = torch.bmm(x, weights.reshape(-1, no_out, no_in).mT)
            if self.bias_pred:
                bias, numbers = numbers[:, :no_out], numbers[:, no_out:]
                x = x + bias[:, None]
            if self.relu and layer < len(self.sizes) - 2:
                x = x.relu()
        assert numbers.shape[1] == 0
        return x[:, 0]


def published_of(ours, form, width, no_latents):
    """Return the published form with the weights of ours."""
    rest = {key: value for key, value in form.items() if key != "widths"}
    theirs = Published([width, *(form["widths"] or []), width], no_latents, **rest).double()
    rows = []
    for layer, maps in enumerate(ours.maps):
        rows.append(maps.flatten(1))
        if form["bias_pred"]:
            rows.append(ours.offsets[layer])
    columns = torch.cat(rows, dim=1).T.detach()
    last = theirs.hyper[-1]
    with torch.no_grad():
        last.weight.copy_(columns[:, : last.in_features])
        if form["bias_hypernet"]:
            last.bias.copy_(columns[:, -1])
        if form["hypernetwork"] == "deep":
            theirs.hyper[:-1].load_state_dict(ours.trunk.state_dict())
    return theirs


@pytest.mark.parametrize("form", FORMS, ids=lambda form: "-".join(str(value) for value in form.values()))
@pytest.mark.parametrize("batch", [1, 7])
def test_the_factorised_hypernetwork_equals_the_published_form_and_its_gradients(form, batch):
    chosen = encoding(parts=("rotation", "floor_hue", "light_hue"))
    ours = predictor(8, chosen, **form).double()
    theirs = published_of(ours, form, 8, 6)
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())
    z = torch.randn(batch, 8, dtype=torch.float64, requires_grad=True)
    g = pairs(chosen, batch).requires_grad_()
    found, expected = ours(z, g), theirs(z, g)
    assert found.shape == (batch, 8)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-12)
    weight = torch.randn_like(found)
    for one, other in zip(*(torch.autograd.grad((y * weight).sum(), (z, g)) for y in (found, expected)), strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=1e-12)


def test_the_published_start_has_its_bounds_and_lengthens_embeddings():
    ours = predictor(256)
    assert ours.maps[0].abs().max() <= 0.5 and ours.maps[0].std().item() == pytest.approx(1 / 12**0.5, rel=0.01)
    z, g = torch.randn(200, 256), pairs(encoding(), 200).float()
    factor = (ours(z, g).norm(dim=1) / z.norm(dim=1)).mean().item()
    assert factor == pytest.approx(0.29 * math.sqrt(256), rel=0.03)
    deep = predictor(64, hypernetwork="deep", hidden=16, bias_hypernet=True, bias_pred=True)
    assert all(0.24 < parameter.abs().max() <= 0.25 for parameter in (*deep.maps, *deep.offsets))


def test_the_linear_kind_is_odd_and_linear_in_both():
    ours = predictor(8).double()
    z, g = torch.randn(5, 8, dtype=torch.float64), pairs(encoding(), 5)
    torch.testing.assert_close(ours(z, -g), -ours(z, g))
    torch.testing.assert_close(ours(3 * z, g), 3 * ours(z, g))
    biased = predictor(8, bias_hypernet=True).double()
    assert not torch.allclose(biased(z, -g), -biased(z, g))


@pytest.mark.parametrize(
    ("chosen", "changes"),
    [
        (encoding(), {}),
        (encoding(), {"bias_pred": True}),
        (encoding(), {"hypernetwork": "deep", "bias_hypernet": True}),
        (encoding(rotation="wigner"), {"kind": "group_action"}),
        (encoding(rotation="wigner", frame="world"), {"kind": "group_action"}),
    ],
)
def test_the_matrix_is_the_linear_part(chosen, changes):
    ours = predictor(12, chosen, **changes).double()
    z, g = torch.randn(6, 12, dtype=torch.float64), pairs(chosen, 6)
    assert ours.matrix(g).shape == (6, 12, 12)
    moved = ours(z, g) - ours(torch.zeros_like(z), g)
    torch.testing.assert_close(torch.einsum("boi,bi->bo", ours.matrix(g), z), moved)


@pytest.mark.parametrize("changes", [{"widths": [4]}, {"kind": "mlp"}])
def test_what_has_no_matrix_says_so(changes):
    with pytest.raises(UserError, match="has no matrix"):
        predictor(8, **changes).matrix(torch.randn(2, 4))


class LargestResult(TorchDispatchMode):
    """Remembers how many numbers the largest result of any operation has."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **kwargs or {})
        results = result if isinstance(result, tuple | list) else (result,)
        self.numbers = max([self.numbers, *(r.numel() for r in results if isinstance(r, torch.Tensor))])
        return result


@pytest.mark.parametrize("form", [{}, {"hypernetwork": "deep", "hidden": 4, "bias_pred": True}])
def test_no_step_holds_a_matrix_for_each_example(form):
    batch, width, rows = 64, 32, 4
    ours, g = predictor(width, **form), torch.randn(batch, 4, requires_grad=True)
    z = torch.randn(batch, width, requires_grad=True)
    with LargestResult() as seen:
        ours(z, g).square().sum().backward()
    assert seen.numbers <= batch * rows * width < batch * width**2
    with LargestResult() as seen:
        ours.matrix(g)
    assert seen.numbers >= batch * width**2  # the watcher sees what the factorised form avoids


@pytest.mark.parametrize(
    ("chosen", "form"),
    [
        (encoding(), {}),
        (encoding(), {"bias_pred": True}),
        (encoding(rotation="matrix"), {}),
        (encoding(rotation="wigner"), {"bias_hypernet": True}),
        (encoding(parts=("rotation", "light_hue"), hue="circular"), {}),
        (encoding(rotation="euler"), {"bias_hypernet": True}),
        (encoding(parts=("augmentation",)), {"bias_hypernet": True}),
        (encoding(), {"hypernetwork": "deep", "bias_hypernet": True, "bias_pred": True}),
        (encoding(), {"hypernetwork": "deep", "bias_hypernet": True, "hidden": 32}),
        (encoding(parts=("rotation", "floor_hue")), {"kind": "mlp"}),
    ],
)
def test_the_identity_start_predicts_no_change_for_no_change_and_a_small_one_elsewhere(chosen, form):
    ours = predictor(16, chosen, init="identity", **form).double()
    z = torch.randn(20, 16, dtype=torch.float64)
    identity = chosen.identity().double().expand(20, -1)
    torch.testing.assert_close(ours(z, identity), z, atol=1e-5, rtol=0)
    predicted = ours(z, pairs(chosen, 20))
    assert 0 < (predicted - z).norm() < 3 * z.norm()
    assert all(parameter.requires_grad for parameter in ours.parameters())


def test_the_identity_start_of_a_quaternion_is_exact_and_moves_off_its_line():
    ours = predictor(16, init="identity")
    z, g = torch.randn(9, 16), pairs(encoding(), 9).float()
    assert torch.equal(ours(z, encoding().identity().expand(9, -1)), z)
    torch.testing.assert_close(ours.maps[0][3], torch.eye(16))
    assert not torch.allclose(ours(z, g), g[:, 3:] * z, atol=1e-3)


@pytest.mark.parametrize("init", ["published", "identity"])
def test_one_layer_of_the_mlp_is_affine_in_latent_then_embedding(init):
    chosen = encoding(parts=("rotation", "floor_hue"))
    ours = predictor(6, chosen, kind="mlp", init=init)
    (layer,) = ours.layers
    z, g = torch.randn(4, 6), torch.randn(4, 5)
    expected = g @ layer.weight[:, :5].T + z @ layer.weight[:, 5:].T + layer.bias
    torch.testing.assert_close(ours(z, g), expected)
    assert layer.weight.shape == (6, 11)


def test_more_layers_of_the_mlp_have_relu_between_and_none_at_the_end():
    ours = predictor(6, kind="mlp", tf_num_layers=3)
    kinds = [type(layer) for layer in ours.layers]
    assert kinds == [nn.Linear, nn.ReLU, nn.Linear, nn.ReLU, nn.Linear]
    assert [layer.weight.shape for layer in ours.layers[::2]] == [(6, 10), (6, 6), (6, 6)]
    assert ours(torch.randn(1, 6), torch.randn(1, 4)).shape == (1, 6)


def test_the_predictor_of_equimod_equals_its_equation_written_out():
    chosen = encoding(parts=("augmentation",), columns=tuple("abcde"))
    ours = predictor(6, chosen, kind="embedded_mlp").double()
    z, g = torch.randn(9, 6, dtype=torch.float64), torch.randn(9, 5, dtype=torch.float64)
    state = dict(ours.named_parameters())
    assert {tuple(value.shape) for value in state.values()} == {(6, 5), (6,), (6, 12)} and len(state) == 5

    def normalised(x):
        return (x - x.mean(dim=0)) / torch.sqrt(x.var(dim=0, unbiased=False) + 1e-5)

    embedded = normalised(g @ state["embed.0.weight"].T + state["embed.0.bias"])
    both = torch.cat([z, embedded * state["embed.1.weight"] + state["embed.1.bias"]], dim=1)
    torch.testing.assert_close(ours(z, g), normalised(both @ state["predict.0.weight"].T))


@pytest.mark.parametrize("frame", ["body", "world"])
@pytest.mark.parametrize(("width", "max_degree"), [(4, 1), (19, 2), (35, 2), (53, 3)])
def test_the_group_acts_by_identity_inverse_and_composition(frame, width, max_degree):
    chosen = encoding(rotation="wigner", max_degree=max_degree, frame=frame)
    ours = predictor(width, chosen, kind="group_action")
    z = torch.randn(10, width, dtype=torch.float64)
    a, b, c = (views(10) for _ in range(3))
    errors = structure_errors(ours, chosen, z, a, b, c)
    assert list(errors) == ["identity", "inverse", "composition"]
    assert all(0 <= error.item() < 1e-12 for error in errors.values())
    moved = ours(z, chosen.relative(a, b))
    torch.testing.assert_close(moved.norm(dim=1), z.norm(dim=1))
    assert not torch.allclose(moved, z, atol=0.1) and not list(ours.parameters())
    # The other side breaks composition: degree by degree, rotations do not commute.
    wrong = predictor(width, encoding(rotation="wigner", max_degree=max_degree, frame="body"), kind="group_action")
    wrong.frame = "world" if frame == "body" else "body"
    assert structure_errors(wrong, chosen, z, a, b, c)["composition"] > 0.1


@pytest.mark.parametrize("frame", ["body", "world"])
def test_the_group_action_predicts_an_encoder_that_is_equivariant(frame):
    """z(R) = rho(R)^T v in the frame of the body, rho(R) v in that of the world, copy by copy."""
    chosen = encoding(rotation="wigner", frame=frame)
    ours = predictor(20, chosen, kind="group_action")  # two copies of 1 + 3 + 5, and 2 numbers more
    source, target = views(6), views(6)
    vector = torch.randn(20, dtype=torch.float64)

    def encode(latents):
        rows = []
        for rotation in euler_matrix(latents[:, :3]):
            turn = rotation if frame == "world" else rotation.mT
            pieces, start = [vector[:4]], 4
            for degree in (1, 1, 2, 2):
                pieces.append(wigner(turn, degree) @ vector[start : start + 2 * degree + 1])
                start += 2 * degree + 1
            rows.append(torch.cat(pieces))
        return torch.stack(rows)

    predicted = ours(encode(source), chosen.relative(source, target))
    torch.testing.assert_close(predicted, encode(target), atol=1e-12, rtol=0)


def test_the_published_start_has_no_structure_and_the_identity_start_some():
    chosen, z = encoding(), torch.randn(50, 64, dtype=torch.float64)
    a, b, c = (views(50) for _ in range(3))
    published = structure_errors(predictor(64).double(), chosen, z, a, b, c)
    assert published["identity"].item() > 2 and published["inverse"].item() > 4  # 0.29 sqrt(64) is 2.3
    start = structure_errors(predictor(64, init="identity").double(), chosen, z, a, b, c)
    assert start["identity"].item() < 1e-12 < start["inverse"].item() < 2
    assert start["composition"].item() < published["composition"].item()


def test_structure_errors_are_those_of_a_known_predictor_and_have_a_gradient():
    scale = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    z = torch.randn(8, 5, dtype=torch.float64)
    errors = structure_errors(lambda x, g: scale * x, encoding(), z, views(8), views(8), views(8))
    assert [errors[law].item() for law in errors] == pytest.approx([0.5, 1.25, 0.75])
    sum(errors.values()).backward()
    assert scale.grad.item() == pytest.approx(1 + 3 + (2 * 1.5 - 1))
    with pytest.raises(UserError, match="do not compose"):
        structure_errors(lambda x, g: x, encoding(parts=("augmentation",)), z, views(8), views(8), views(8))


def test_the_regressor_of_augself_has_its_published_layers():
    ours = ParamRegressor(512, 4)
    assert [layer.weight.shape for layer in ours.layers[::2]] == [(1024, 1024), (1024, 1024), (4, 1024)]
    assert [type(layer) for layer in ours.layers[1::2]] == [nn.ReLU, nn.ReLU]
    small = ParamRegressor(3, 6)
    x, y = torch.randn(5, 3), torch.randn(5, 3)
    torch.testing.assert_close(small(x, y), small.layers(torch.cat([x, y], dim=1)))
    assert small(x, y).shape == (5, 6) and not torch.allclose(small(x, y), small(y, x))


@pytest.mark.parametrize("kind", ["hypernetwork", "mlp", "embedded_mlp", "group_action"])
def test_every_kind_is_a_predictor_with_gradients(kind):
    ours = predictor(10, encoding(rotation="wigner"), kind=kind)
    assert isinstance(ours, Predictor)
    z = torch.randn(3, 10, requires_grad=True)
    ours(z, pairs(encoding(rotation="wigner"), 3).float()).square().sum().backward()
    assert torch.isfinite(z.grad).all() and all(torch.isfinite(p.grad).all() for p in ours.parameters())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "hypernet"}, "train.predictor.kind='hypernet' .* did you mean 'hypernetwork'"),
        ({"hypernetwork": "wide"}, "train.predictor.hypernetwork='wide'.* linear or deep"),
        ({"init": "zero"}, "train.predictor.init='zero'"),
        ({"hypernetwork": "deep", "hidden": 0}, "train.predictor.hidden=0"),
        ({"widths": [4, 0]}, r"train.predictor.widths=\[4, 0\]"),
        ({"init": "identity", "widths": [4]}, "without inner widths"),
        ({"init": "identity", "hypernetwork": "deep"}, "bias_hypernet=true"),
        ({"kind": "mlp", "tf_num_layers": 0}, "tf_num_layers=0"),
        ({"kind": "mlp", "tf_num_layers": 2, "init": "identity"}, "needs train.predictor.tf_num_layers=1"),
        ({"kind": "embedded_mlp", "init": "identity"}, "train.predictor.init=published"),
        ({"kind": "group_action"}, "not by rotation as quaternion: .* train.encoding.rotation=wigner"),
    ],
)
def test_mistakes_are_told(changes, message):
    with pytest.raises(UserError, match=message):
        predictor(8, **changes)


def test_latents_that_cannot_start_or_act_are_told():
    with pytest.raises(UserError, match="the latent of no change is zero: .*bias_hypernet=true"):
        predictor(8, encoding(rotation="euler"), init="identity")
    with pytest.raises(UserError, match="not by rotation, floor_hue as wigner"):
        predictor(20, encoding(parts=("rotation", "floor_hue"), rotation="wigner"), kind="group_action")
    with pytest.raises(UserError, match="of 8 numbers has no room for degrees 0 to 2"):
        predictor(8, encoding(rotation="wigner"), kind="group_action")
