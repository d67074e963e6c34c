"""From scores to probabilities, and how far to trust them: Platt's and isotonic calibration, Brier score, ECE.

Platt, "Probabilistic Outputs for Support Vector Machines", 1999; Zadrozny and Elkan, KDD 2002 (isotonic).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from kgkit.errors import ConfigError
from kgkit.lazy import np

if TYPE_CHECKING:
    from kgkit.arrays import Bools, Doubles

Method = Literal["platt", "isotonic"]
METHODS: tuple[Method, ...] = ("platt", "isotonic")
FEWEST = 10  # right answers, and wrong ones, below which nothing is fitted
BINS = 10


def calibrate(method: Method, scores: Doubles, right: Bools) -> Callable[[Doubles], Doubles]:
    """A function from scores to probabilities, non-decreasing. scores: float64 [N]; right: bool [N].

    platt     1 / (1 + exp(-(a s + b))) by maximum likelihood, with Platt's targets (N+ + 1) / (N+ + 2) and 1 / (N- + 2)
              in place of 1 and 0, so that few answers do not make it certain
    isotonic  the non-decreasing step function nearest to the labels

    Raises ConfigError when there are fewer than FEWEST right or wrong answers, or when right ones do not score higher.
    """
    n_right = int(right.sum())
    n_wrong = len(right) - n_right
    if min(n_right, n_wrong) < FEWEST:
        raise ConfigError(
            f"too few validation answers to calibrate by: {n_right} right and {n_wrong} wrong, "
            f"{FEWEST} of each are needed"
        )
    if method == "isotonic":
        from sklearn.isotonic import IsotonicRegression

        steps = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(
            scores, right.astype(np.float64)
        )
        # It refuses to say nothing about nothing.
        return lambda s: np.asarray(steps.predict(s), dtype=np.float64) if len(s) else s
    from sklearn.linear_model import LogisticRegression

    centre, spread = scores.mean(), scores.std() or 1.0
    x = (scores - centre) / spread
    target = np.where(right, (n_right + 1) / (n_right + 2), 1 / (n_wrong + 2))
    # A soft target t is a right answer of weight t and a wrong one of weight 1 - t. C: as good as no penalty.
    line = LogisticRegression(C=1e6, tol=1e-8, max_iter=1000).fit(
        np.concatenate([x, x])[:, None],
        np.repeat([1, 0], len(x)),
        sample_weight=np.concatenate([target, 1 - target]),
    )
    slope, offset = float(line.coef_[0, 0]), float(line.intercept_[0])
    if slope <= 0:
        raise ConfigError("validation answers that are right score no higher than wrong ones: train longer")
    return lambda s: 1 / (1 + np.exp(-(slope * (s - centre) / spread + offset)))


def brier(probabilities: Doubles, right: Bools) -> float:
    """Mean of (p - y)^2, 0 is the best. probabilities, right: [N]."""
    return float(np.mean((probabilities - right) ** 2))


def expected_calibration_error(probabilities: Doubles, right: Bools) -> float:
    """Sum over BINS equal intervals of p of (answers in it / N) |mean p - share right| (Naeini et al., AAAI 2015)."""
    at = np.minimum((probabilities * BINS).astype(np.int64), BINS - 1)
    gap = np.bincount(at, probabilities - right, BINS)
    return float(np.abs(gap).sum() / len(right))
