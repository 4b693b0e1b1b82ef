"""Retrieval of predicted embeddings: an oracle is perfect, a blind one at chance, and a slow loop agrees."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from partial_equiv.datasets import ViewSet
from partial_equiv.errors import UserError
from partial_equiv.latents import COLUMNS
from partial_equiv.probes import PROBES, prediction_error, retrieval
from partial_equiv.probes.retrieval import shown_objects
from tests.probes.known_views import CLASSES, Blind, Oracle, make_views, sampled_latents

HITS = ("hit_1", "hit_2", "hit_5", "hit_10")


def retrieve(test, train=None, **changed):
    choices = {"splits": ["test"], "sources": "first", "normalise": True, "latents": COLUMNS, "class_names": CLASSES}
    return PROBES["retrieval"](**{**choices, **changed}, train=train, test=test)


def error_of(test, train=None, **changed):
    choices = {"splits": ["test"], "sources": "first", "normalise": True, "latents": COLUMNS}
    return PROBES["prediction_error"](**{**choices, **changed}, train=train, test=test)


@pytest.mark.parametrize("sources", ["first", "all"])
@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("shift", [0.0, 5.0])
def test_an_oracle_finds_every_view(sources, normalise, shift):
    # With the shift all scores are negative: what starts from a best score of 0 finds nothing.
    test, train = make_views(7, 12), make_views(5, 12, seed=1)
    oracle = Oracle(shift=shift)
    numbers = retrieve(test, train, sources=sources, normalise=normalise, splits=["test", "train"])(oracle, [])
    for split in ("test", "train"):
        assert {numbers[f"retrieval/{split}/{name}"] for name in ("mrr", *HITS)} == {1.0}
    errors = error_of(test, train, sources=sources, normalise=normalise, splits=["test", "train", "all"])(oracle, [])
    for split in ("test", "train", "all"):
        assert errors[f"prediction_error/{split}/pre"] == pytest.approx(0, abs=1e-6)
        assert errors[f"prediction_error/{split}/degrees_mean"] == pytest.approx(0, abs=1e-3)


def test_the_blind_are_at_chance():
    test = make_views(80, 50)
    numbers = retrieve(test)(Blind(), [])
    chance = sum(1 / place for place in range(1, 51)) / 50
    assert numbers["retrieval/chance/mrr"] == pytest.approx(chance) == pytest.approx(0.09, abs=1e-4)
    assert numbers["retrieval/test/mrr"] == pytest.approx(chance, abs=0.01)
    for name, k in zip(HITS, (1, 2, 5, 10), strict=True):
        assert numbers[f"retrieval/chance/{name}"] == k / 50
        assert numbers[f"retrieval/test/{name}"] == pytest.approx(k / 50, abs=0.02)
    errors = error_of(test)(Blind(), [])
    for name, value in {"pre": 0.627, "pre_random": 0.627, "pre_identity": 0.446}.items():
        assert errors[f"prediction_error/test/{name}"] == pytest.approx(value, abs=0.02)


def test_chance_is_that_of_as_many_views():
    numbers = retrieve(make_views(3, 12), make_views(3, 6), splits=["test", "train"])(Blind(), [])
    for name, no_views in (("chance", 12), ("chance_train", 6)):
        assert numbers[f"retrieval/{name}/mrr"] == pytest.approx(sum(1 / k for k in range(1, no_views + 1)) / no_views)
        assert numbers[f"retrieval/{name}/hit_5"] == 5 / no_views
    assert "retrieval/chance/hit_10" in numbers and "retrieval/chance_train/hit_10" not in numbers


class Noisy(Oracle):
    """An oracle that errs, by an amount that depends on the pose."""

    def predict(self, z, source, target):
        return super().predict(z, source, target) + 2 * torch.sin(40 * target[:, :1] + 9 * torch.arange(13))


def slow(test, gallery, queries):
    """Return mean reciprocal rank and prediction error by loops, queries and gallery in numpy."""
    n, v, _ = queries.shape
    unit = [values / np.linalg.norm(values, axis=-1, keepdims=True) for values in (queries, gallery)]
    angles = Rotation.from_euler("xyz", test.latents[..., :3].reshape(-1, 3).numpy())
    reciprocal, errors = [], []
    for obj in range(n):
        for view in range(v):
            own = [float(unit[0][obj, view] @ unit[1][obj, other]) for other in range(v)]
            reciprocal.append(1 / (1 + sum(score > own[view] for score in own)))
            scores = unit[1].reshape(n * v, -1) @ unit[0][obj, view]
            between = angles[obj * v + view].inv() * angles[int(scores.argmax())]
            errors.append(math.sin(between.magnitude() / 2) ** 2)
    return np.array(reciprocal), np.array(errors)


def test_scores_and_groups_equal_slow_loops():
    groups = {
        "near_symmetric": torch.tensor([0, 3]),
        "others": torch.tensor([1, 2, 4]),
        "none": torch.tensor([]).long(),
    }
    test, oracle = make_views(5, 8, groups=groups), Noisy()
    z = oracle.embed(test.images_at(torch.arange(40)).flatten(1))
    start, latents = (test.latents[:, [0] * 8].flatten(0, 1), test.latents.flatten(0, 1))
    queries = oracle.predict(z.unflatten(0, (5, 8))[:, 0].repeat_interleave(8, dim=0), start, latents)
    reciprocal, errors = slow(test, z.reshape(5, 8, -1).numpy(), queries.reshape(5, 8, -1).numpy())
    numbers = retrieve(test)(oracle, []) | error_of(test)(oracle, [])
    rows = {"": [0, 1, 2, 3, 4], "/near_symmetric": [0, 3], "/others": [1, 2, 4]}
    for ending, objects in rows.items():
        own = numbers[f"retrieval/test/mrr{ending}"]
        assert own == pytest.approx(reciprocal.reshape(5, 8)[objects].mean())
        assert 0.2 < own < 0.9
        assert numbers[f"retrieval/test/hit_1{ending}"] == (reciprocal.reshape(5, 8)[objects] == 1).mean()
        expected = errors.reshape(5, 8)[objects].mean()
        assert numbers[f"prediction_error/test/pre{ending}"] == pytest.approx(expected, abs=1e-6)
    assert not any("none" in name or "hit_10" in name for name in numbers)  # ten hits among eight views say nothing


def test_without_a_predictor_the_source_itself_asks():
    test, oracle = make_views(6, 5), Oracle()
    oracle.predict, oracle.has_predictor = lambda z, source, target: z, False
    probe, errors = retrieve(test), error_of(test)
    numbers = probe(oracle, []) | errors(oracle, [])
    # The source finds itself first for each of the five questions, one of which asks for it.
    assert numbers["retrieval/test/hit_1"] == pytest.approx(1 / 5)
    assert all(words.count("predicts no embeddings") == 1 for words in (probe.words(), errors.words()))


def test_chunks_do_not_matter(monkeypatch):
    test = make_views(7, 4)
    whole = retrieve(test)(Noisy(), []) | error_of(test)(Noisy(), [])
    monkeypatch.setattr(retrieval, "ROWS", 5)
    assert retrieve(test)(Noisy(), []) | error_of(test)(Noisy(), []) == whole


def test_words_and_pictures():
    probe = retrieve(make_views(4, 12))
    assert probe.words() == "" and probe.artifacts() == {}
    probe(Oracle(), [])
    rows = [line.split() for line in probe.words().splitlines()]
    assert rows[0] == ["views", "found", "MRR", "H@1", "H@2", "H@5", "H@10"]
    assert rows[1] == ["test", *["1.000"] * 5]
    assert rows[2][:3] == ["chance", "0.259", "0.083"]
    assert probe.artifacts() == {}  # vectors are no pictures
    assert error_of(make_views(4, 12)).words() == ""


def test_the_figure_shows_stored_pixels_and_where_the_right_view_is():
    latents = sampled_latents(5, 6)
    pixels = torch.randint(0, 256, (30, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    code = make_views(5, 6, latents=latents).images[:, :, 0, 0]
    labels = torch.arange(5) % 3
    test = ViewSet(pixels, latents, labels, mean=[0.5] * 3, std=[0.1] * 3, pairs_per_object=1, seed=0)
    oracle = Oracle()
    known = {image.numpy().tobytes(): row for image, row in zip(pixels, code, strict=True)}
    oracle.model.backbone.forward = lambda images: torch.stack(
        [known[image.numpy().tobytes()] for image in ((images * 0.1 + 0.5) * 255).round().to(torch.uint8)]
    )
    probe = retrieve(test)
    probe(oracle, [])
    assert [row.name for row in probe.rows] == ["chair", "mug", "car", "chair", "mug"]
    row = probe.rows[2]  # asks for view 3
    np.testing.assert_array_equal(row.source, pixels[12])
    np.testing.assert_array_equal(row.asked, pixels[15])
    np.testing.assert_array_equal(row.found[0], pixels[15])
    assert row.right == [True, False, False, False, False] and row.rank == 1
    poses = Rotation.from_euler("xyz", latents[2, :, :3].numpy())
    place = next(v for v in range(6) if torch.equal(torch.from_numpy(row.found[1]), pixels[12 + v]))
    assert row.degrees[0] == pytest.approx(0, abs=1e-3)
    assert row.degrees[1] == pytest.approx((poses[3].inv() * poses[place]).magnitude(), abs=1e-4)
    assert list(probe.artifacts()) == ["nearest_views.png"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: retrieve(None, splits=["all"]), r"test.retrieval.splits='all' is not one of: test, train"),
        (lambda: retrieve(None, splits=[]), r"test.retrieval.splits is empty: give some of test, train"),
        (lambda: retrieve(None, latents=()), r"test.probes=\[retrieval\] needs views with latents"),
        (
            lambda: error_of(None, latents=("light_hue",)),
            r"\[prediction_error\] needs views with rotation latents, and these lack ex",
        ),
        (lambda: error_of(None, splits=["tests"]), r"test.prediction_error.splits='tests'.*did you mean 'test'"),
    ],
)
def test_mistakes_are_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_a_split_may_be_searched_with_another():
    test, train = make_views(3, 4), make_views(6, 4, seed=1)
    probe = error_of(test, train, splits=["all"])
    assert [len(views) for views in probe.searched("all")] == [6, 3]
    assert set(prediction_error.GALLERIES) == {"test", "train", "all"}
    numbers = probe(Blind(), [])
    poses = [Rotation.from_euler("xyz", views.latents[..., :3].reshape(-1, 3).numpy()) for views in (test, train)]
    every = np.concatenate([p.as_quat() for p in poses])
    expected = 1 - ((poses[0].as_quat() @ every.T) ** 2).mean()
    assert numbers["prediction_error/all/pre_random"] == pytest.approx(expected, abs=1e-6)


def test_the_figure_shows_every_kind_of_object():
    labels = torch.arange(40) % 10
    assert labels[shown_objects(labels)].unique().numel() == 6
    assert shown_objects(torch.zeros(3, dtype=torch.int64)).tolist() == [0, 1, 2]
