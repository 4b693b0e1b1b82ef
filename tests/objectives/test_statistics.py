"""Statistics of embeddings against numpy, closed forms and loops."""

import numpy as np
import pytest
import torch

from partial_equiv.objectives.statistics import embedding_statistics


def test_statistics_are_those_of_numpy():
    x = torch.randn(30, 6, dtype=torch.float64) @ torch.randn(6, 6, dtype=torch.float64) + 1
    found = embedding_statistics(x)
    rows = x.numpy()
    directions = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    assert float(found["std"]) == pytest.approx(directions.std(axis=0, ddof=1).mean())
    correlations = np.corrcoef(rows, rowvar=False)[~np.eye(6, dtype=bool)]
    # 1e-5 is added to the deviations, which are near 2.
    assert float(found["corr"]) == pytest.approx(correlations.mean(), abs=1e-5)
    assert float(found["abs_corr"]) == pytest.approx(np.abs(correlations).mean(), rel=1e-4)


def test_an_ideal_embedding_and_a_collapsed_one():
    spread = embedding_statistics(torch.randn(4000, 16))
    assert float(spread["std"]) == pytest.approx(1 / 4, rel=0.02)
    assert float(spread["abs_corr"]) < 0.02
    collapsed = embedding_statistics(torch.ones(10, 16))
    assert {name: float(value) for name, value in collapsed.items()} == {"std": 0, "corr": 0, "abs_corr": 0}
    opposite = torch.randn(50, 1)
    both = embedding_statistics(torch.cat([opposite, -opposite, opposite], dim=1))
    assert float(both["corr"]) == pytest.approx(-1 / 3, abs=1e-3)
    assert float(both["abs_corr"]) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("shape", [(1, 4), (4, 1)])
def test_a_single_example_or_number_is_no_accident(shape):
    found = embedding_statistics(torch.randn(shape))
    assert all(torch.isfinite(value) for value in found.values())
    assert float(found["corr"]) == float(found["abs_corr"]) == 0


def test_statistics_carry_no_graph_and_no_half_precision():
    x = torch.randn(20, 4, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = embedding_statistics(x.bfloat16())
    assert all(not value.requires_grad and value.dtype == torch.float32 for value in found.values())
    narrow = embedding_statistics(x.detach().bfloat16().float())
    assert all(torch.equal(found[name], narrow[name]) for name in narrow)
