"""AUC and F1 against scipy and against counting pairs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from kgkit.evaluate import ctr


def counted_auc(label, score):
    won = [(p > n) + (p == n) / 2 for p in score[label > 0] for n in score[label == 0]]
    return sum(won) / len(won)


def counted_f1(label, score, threshold):
    hit = sum(1 for y, s in zip(label, score, strict=True) if y > 0 and s >= threshold)
    predicted, real = sum(s >= threshold for s in score), sum(y > 0 for y in label)
    if not hit:
        return 0.0
    precision, recall = hit / predicted, hit / real
    return 2 * precision * recall / (precision + recall)


@pytest.fixture(params=["distinct", "tied"])
def labelled(request):
    rng = np.random.default_rng(7)
    label = (rng.random(500) < 0.4).astype(np.float32)
    score = rng.normal(label * 0.5).astype(np.float32)
    return label, score if request.param == "distinct" else np.round(score * 2) / 2


def test_auc_by_hand():
    # Positives 3 and 1, negatives 2 and 1: won, won, lost, tied.
    assert ctr.auc(np.array([1, 0, 1, 0]), np.array([3.0, 2.0, 1.0, 1.0])) == 2.5 / 4


def test_auc_is_that_of_scipy_and_of_counting(labelled):
    label, score = labelled
    u = mannwhitneyu(score[label > 0], score[label == 0]).statistic
    assert ctr.auc(label, score) == pytest.approx(u / ((label > 0).sum() * (label == 0).sum()), abs=1e-12)
    assert ctr.auc(label, score) == pytest.approx(counted_auc(label, score), abs=1e-12)


def test_auc_knows_signs_zeros_and_infinities():
    label = np.array([0, 0, 1, 1, 0, 1])
    score = np.array([-np.inf, -2.0, -1.0, 0.0, -0.0, np.inf], dtype=np.float32)
    assert ctr.auc(label, score) == pytest.approx(counted_auc(label, score))


def test_f1_is_that_of_its_definition(labelled):
    label, score = labelled
    for threshold in (-1.0, 0.0, 0.5, 99.0):
        assert ctr.f1(label, score, threshold) == pytest.approx(counted_f1(label, score, threshold))


def test_best_threshold_is_best_among_all(labelled):
    label, score = labelled
    best = max(counted_f1(label, score, t) for t in np.unique(score))
    assert ctr.f1(label, score, ctr.best_threshold(label, score)) == pytest.approx(best)


def test_batch_means_drop_the_last_short_batch(labelled):
    label, score = labelled
    cuts = [slice(at, at + 64) for at in range(0, 448, 64)]
    assert ctr.auc_batch_mean(label, score, 64) == pytest.approx(
        np.mean([counted_auc(label[c], score[c]) for c in cuts])
    )
    assert ctr.f1_batch_mean(label, score, 64, 0.2) == pytest.approx(
        np.mean([counted_f1(label[c], score[c], 0.2) for c in cuts])
    )


@pytest.mark.parametrize(
    ("label", "score", "note"),
    [
        ([1, 1], [0.1, 0.2], "all 2 pairs are positives"),
        ([0, 0, 0], [0.1, 0.2, 0.3], "all 3 pairs are negatives"),
        ([], [], "there are no pairs"),
        ([0, 1], [0.1, math.nan], "1 of 2 scores are not numbers"),
    ],
)
def test_undefined_auc_is_nan_and_says_why(label, score, note, caplog):
    assert math.isnan(ctr.auc(np.array(label), np.array(score, dtype=np.float32)))
    assert note in caplog.text


def test_batches_of_one_class_are_left_out_and_told(caplog):
    label, score = np.array([1, 1, 0, 1]), np.array([1.0, 2.0, 1.0, 2.0])
    assert ctr.auc_batch_mean(label, score, 2) == 1.0
    assert "1 of 2 batches of 2" in caplog.text
    assert math.isnan(ctr.auc_batch_mean(label, score, 5))
