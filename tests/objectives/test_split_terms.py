"""Terms against loops written from their equations, against lightly, and in half precision."""

import inspect
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from partial_equiv import UserError
from partial_equiv.objectives.split_terms import (
    SPLIT_TERMS,
    covariance,
    cross_entropy,
    info_nce,
    mse,
    noise_floor,
    variance,
)


def pair(no_rows=7, no_dims=5, dtype=torch.float64):
    return torch.randn(no_rows, no_dims, dtype=dtype), 0.3 + 0.5 * torch.randn(no_rows, no_dims, dtype=dtype)


def slow_mse(a, b):
    squares = [(x - y) ** 2 for x, y in zip(a.flatten().tolist(), b.flatten().tolist(), strict=True)]
    return sum(squares) / len(squares)


def slow_covariances(a):
    rows = a.tolist()
    means = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
    dims = range(len(means))
    return [
        [sum((row[i] - means[i]) * (row[j] - means[j]) for row in rows) / (len(rows) - 1) for j in dims] for i in dims
    ]


def slow_variance(*matrices):
    total = 0.0
    for matrix in map(slow_covariances, matrices):
        hinges = [max(0.0, 1 - math.sqrt(row[i] + 1e-4)) for i, row in enumerate(matrix)]
        total += 0.5 * sum(hinges) / len(hinges)
    return total


def slow_covariance(*matrices):
    total = 0.0
    for matrix in map(slow_covariances, matrices):
        total += sum(x**2 for i, row in enumerate(matrix) for j, x in enumerate(row) if i != j) / len(matrix)
    return total


def slow_info_nce(a, b, temperature):
    rows = a.tolist() + b.tolist()
    rows = [[x / math.hypot(*row) for x in row] for row in rows]
    half, losses = len(rows) // 2, []
    for i, row in enumerate(rows):
        scores = [math.exp(sum(x * y for x, y in zip(row, other, strict=True)) / temperature) for other in rows]
        scores_of_others = [score for j, score in enumerate(scores) if j != i]
        losses.append(-math.log(scores[(i + half) % len(rows)] / sum(scores_of_others)))
    return sum(losses) / len(losses)


SLOW = [
    (mse, slow_mse, {}),
    (variance, slow_variance, {}),
    (covariance, slow_covariance, {}),
    (info_nce, slow_info_nce, {"temperature": 0.2}),
]


@pytest.mark.parametrize(("term", "slow", "keywords"), SLOW, ids=lambda x: getattr(x, "__name__", ""))
@pytest.mark.parametrize("no_rows", [2, 7])
def test_a_term_is_its_equation_and_every_input_has_a_gradient(term, slow, keywords, no_rows):
    a, b = pair(no_rows)
    assert float(term(a, b, **keywords)) == pytest.approx(slow(a, b, **keywords), rel=1e-10)
    a.requires_grad_(), b.requires_grad_()
    assert torch.autograd.gradcheck(lambda *x: term(*x, **keywords), (a, b))
    assert all(gradient.abs().max() > 0 for gradient in torch.autograd.grad(term(a, b, **keywords), (a, b)))


@pytest.mark.parametrize(("term", "slow"), [(variance, slow_variance), (covariance, slow_covariance)])
def test_statistics_take_any_number_of_matrices(term, slow):
    one, two, three = pair()[0], pair(4, 3)[1], pair(6, 2)[1]
    assert float(term(one)) == pytest.approx(slow(one))
    assert float(term(one, two, three)) == pytest.approx(slow(one, two, three))


def test_terms_are_lightlys():
    vicreg = pytest.importorskip("lightly.loss.vicreg_loss", reason="lightly is absent: make oracle")
    contrast = pytest.importorskip("lightly.loss").NTXentLoss(temperature=0.3)
    a, b = pair(9, 6, torch.float32)
    torch.testing.assert_close(mse(a, b), vicreg.invariance_loss(a, b))
    torch.testing.assert_close(variance(a, b), (vicreg.variance_loss(a) + vicreg.variance_loss(b)) / 2)
    torch.testing.assert_close(covariance(a, b), vicreg.covariance_loss(a) + vicreg.covariance_loss(b))
    total = vicreg.VICRegLoss(lambda_param=10, mu_param=7, nu_param=2)(a, b)
    torch.testing.assert_close(10 * mse(a, b) + 7 * variance(a, b) + 2 * covariance(a, b), total)
    torch.testing.assert_close(info_nce(a, b, temperature=0.3), contrast(a, b))


def test_cross_entropy_is_that_of_classes():
    logits, labels = torch.randn(6, 4), torch.tensor([0, 3, 1, 1, 2, 0])
    slow = [
        -math.log(math.exp(row[k]) / sum(map(math.exp, row))) for row, k in zip(logits.tolist(), labels, strict=True)
    ]
    assert float(cross_entropy(logits, labels)) == pytest.approx(sum(slow) / 6, rel=1e-5)


def test_a_menu_names_every_term():
    assert list(SPLIT_TERMS) == ["mse", "variance", "covariance", "info_nce", "cross_entropy"]
    assert "temperature" in inspect.signature(SPLIT_TERMS["info_nce"]).parameters


SEEDS = st.integers(0, 10_000)


@settings(deadline=None, max_examples=25)
@given(seed=SEEDS, no_rows=st.integers(2, 9), shift=st.floats(-50, 50))
def test_statistics_see_no_shift_and_contrasts_no_scale_and_none_an_order(seed, no_rows, shift):
    torch.manual_seed(seed)
    a, b = pair(no_rows)
    order = torch.randperm(no_rows)
    for term in (variance, covariance):
        torch.testing.assert_close(term(a + shift, b), term(a, b), rtol=1e-8, atol=1e-10)
        torch.testing.assert_close(term(a[order], b), term(a, b))
    contrast = info_nce(a, b, temperature=0.5)
    torch.testing.assert_close(info_nce((1 + abs(shift)) * a, b, temperature=0.5), contrast)
    torch.testing.assert_close(info_nce(b[order], a[order], temperature=0.5), contrast)


def test_contrasts_reach_their_ends():
    same, far = torch.eye(4), math.log(math.exp(1) + 6)
    assert float(info_nce(same, same, temperature=1.0)) == pytest.approx(far - 1, rel=1e-5)
    collapsed = torch.ones(4, 3)
    assert float(info_nce(collapsed, collapsed, temperature=0.1)) == pytest.approx(math.log(7), rel=1e-5)


def test_variance_is_finite_after_a_collapse():
    flat = torch.ones(5, 3, requires_grad=True)
    loss = variance(flat, flat)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(1 - math.sqrt(1e-4)) and torch.isfinite(flat.grad).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_small_covariances_survive_half_precision(dtype):
    x, y = (0.01 * torch.randn(64, 8).to(dtype) for _ in range(2))
    full = [x.float(), y.float()]
    assert 0 < float(covariance(*full)) < 1e-7  # squares of entries near 1e-5, which vanish in half precision
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for term, keywords in ((mse, {}), (variance, {}), (covariance, {}), (info_nce, {"temperature": 0.1})):
            value = term(x, y, **keywords)
            assert value.dtype == torch.float32
            torch.testing.assert_close(value, term(*full, **keywords), rtol=1e-6, atol=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):  # float32 signals are not narrowed on the way either
        assert torch.equal(covariance(*full), covariance(x, y))


@pytest.mark.parametrize(
    ("term", "keywords"),
    [(variance, {}), (covariance, {}), (info_nce, {"temperature": 0.1})],
    ids=lambda x: str(x)[:20],
)
def test_a_batch_of_one_is_refused(term, keywords):
    with pytest.raises(UserError, match=r"a batch of 1 has .* give a train.batch_size of 2 or more"):
        term(*pair(1), **keywords)
    assert torch.isfinite(mse(*pair(1)))


@pytest.mark.parametrize(("no_dims", "batch_size"), [(48, 16), (8, 64)])
def test_white_embeddings_stop_at_the_noise_floor(no_dims, batch_size):
    draws = torch.stack([covariance(torch.randn(batch_size, no_dims)) for _ in range(400)])
    floor = noise_floor(no_dims, batch_size)
    assert abs(float(draws.mean()) - floor) < 5 * float(draws.std()) / 20
    assert floor == pytest.approx((no_dims - 1) / (batch_size - 1))
    assert noise_floor(2048, 1024) == pytest.approx(2.0, abs=0.01)


def test_cross_entropy_is_torchs_under_autocast():
    logits, labels = torch.randn(6, 4).bfloat16(), torch.arange(6) % 4
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = cross_entropy(logits, labels)
    assert torch.equal(loss, functional.cross_entropy(logits.float(), labels))
