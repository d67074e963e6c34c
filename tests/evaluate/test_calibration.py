"""Calibration against known curves, and its figures against numbers worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from kgkit.errors import ConfigError
from kgkit.evaluate.calibration import METHODS, Method, brier, calibrate, expected_calibration_error


@pytest.mark.parametrize("method", METHODS)
def test_a_known_curve_is_found_again(method: Method) -> None:
    rng = np.random.default_rng(3)
    scores = rng.normal(5.0, 2.0, 20_000)
    truth = 1 / (1 + np.exp(-(1.5 * scores - 9)))
    right = rng.random(len(scores)) < truth
    chance = calibrate(method, scores, right)
    at = np.linspace(2, 9, 8)
    found = chance(at)
    assert len(chance(np.zeros(0))) == 0
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-(1.5 * at - 9))), atol=0.05)
    assert (np.diff(found) >= 0).all() and (found >= 0).all() and (found <= 1).all()


def test_platts_targets_keep_separated_answers_from_certainty() -> None:
    # Two scores only: maximum likelihood with soft targets gives exactly the targets, 11/12 and 1/12.
    scores = np.repeat([0.0, 1.0], 10)
    chance = calibrate("platt", scores, scores > 0.5)
    np.testing.assert_allclose(chance(np.array([0.0, 1.0])), [1 / 12, 11 / 12], atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_too_few_answers(method: Method) -> None:
    right = np.array([True] * 9 + [False] * 50)
    with pytest.raises(ConfigError, match="9 right and 50 wrong"):
        calibrate(method, np.arange(59.0), right)


def test_scores_that_order_the_wrong_way() -> None:
    with pytest.raises(ConfigError, match="train longer"):
        calibrate("platt", np.arange(40.0), np.arange(40) < 20)


def test_figures_by_hand() -> None:
    p, right = np.array([0.95, 0.95, 0.25, 1.0]), np.array([True, False, False, True])
    assert brier(p, right) == pytest.approx((0.0025 + 0.9025 + 0.0625 + 0) / 4)
    # Intervals [.2, .3): mean p .25, share 0. [.9, 1]: mean p 2.9 / 3, share 2 / 3.
    assert expected_calibration_error(p, right) == pytest.approx(0.25 / 4 + 3 / 4 * abs(2.9 / 3 - 2 / 3))
