"""Every loss of link prediction by numbers worked by hand: sampled negatives with and without masks, all entities."""

from __future__ import annotations

import math

import pytest
import torch

from kgkit.train.losses import ALL, LOSSES, SAMPLED, Answers, LossSettings

# Two facts with two negatives each.
POSITIVE = torch.tensor([2.0, 0.0])
NEGATIVE = torch.tensor([[1.5, 0.0], [-0.5, 3.0]])
MASK = torch.tensor([[True, False], [True, True]])


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def sampled(name: str, mask: torch.Tensor | None = None, **settings: float) -> float:
    return float(SAMPLED[name](POSITIVE, NEGATIVE, mask, LossSettings(**settings)))


def test_every_loss_is_sampled_or_over_all() -> None:
    assert set(LOSSES) == set(SAMPLED) | set(ALL)


def test_margin() -> None:
    """margin 1: 1 - 2 + 1.5 = 0.5, 1 - 2 + 0 < 0, 1 - 0 - 0.5 = 0.5, 1 - 0 + 3 = 4."""
    assert sampled("margin") == pytest.approx((0.5 + 0 + 0.5 + 4) / 4)
    assert sampled("margin", MASK) == pytest.approx((0.5 + 0.5 + 4) / 3)
    assert sampled("margin", margin=3.0) == pytest.approx((2.5 + 1 + 2.5 + 6) / 4)


def test_softplus() -> None:
    right = (softplus(-2) + softplus(0)) / 2
    wrong = [softplus(x) for x in (1.5, 0, -0.5, 3)]
    assert sampled("softplus") == pytest.approx((right + sum(wrong) / 4) / 2)
    assert sampled("softplus", MASK) == pytest.approx((right + (wrong[0] + wrong[2] + wrong[3]) / 3) / 2)


def test_bce_without_smoothing_is_softplus_and_smoothed_has_labels_of_095_and_005() -> None:
    assert sampled("bce") == pytest.approx(sampled("softplus"))

    def entropy(label: float, score: float) -> float:
        p = 1 / (1 + math.exp(-score))
        return -label * math.log(p) - (1 - label) * math.log(1 - p)

    right = (entropy(0.95, 2) + entropy(0.95, 0)) / 2
    wrong = sum(entropy(0.05, x) for x in (1.5, 0, -0.5, 3)) / 4
    assert sampled("bce", smoothing=0.1) == pytest.approx((right + wrong) / 2)


def test_cross_entropy() -> None:
    def share(*scores: float) -> float:
        """-log of the first one's share."""
        return math.log(sum(map(math.exp, scores))) - scores[0]

    assert sampled("cross-entropy") == pytest.approx((share(2, 1.5, 0) + share(0, -0.5, 3)) / 2)
    assert sampled("cross-entropy", MASK) == pytest.approx((share(2, 1.5) + share(0, -0.5, 3)) / 2)
    # Smoothed by 0.3, each of the three has 0.1 of the label and the fact 0.7 more.
    spread = [
        (share(a, b, c) + share(b, a, c) + share(c, a, b)) / 3 for a, b, c in ((2, 1.5, 0), (0, -0.5, 3))
    ]
    plain = [share(2, 1.5, 0), share(0, -0.5, 3)]
    expected = sum(0.7 * x + 0.3 * y for x, y in zip(plain, spread, strict=True)) / 2
    assert sampled("cross-entropy", smoothing=0.3) == pytest.approx(expected)
    # Masked, the first fact's label is spread over two: itself and the one negative that counts.
    two = 0.7 * share(2, 1.5) + 0.3 * (share(2, 1.5) + share(1.5, 2)) / 2
    expected = (two + 0.7 * plain[1] + 0.3 * spread[1]) / 2
    assert sampled("cross-entropy", MASK, smoothing=0.3) == pytest.approx(expected)


def test_self_adversarial() -> None:
    """gamma 1, alpha 0.5: -log s(gamma + f) of facts, and of negatives -log s(-f - gamma) weighted by softmax(f / 2)."""

    def weighted(*scores: float) -> float:
        e = [math.exp(0.5 * x) for x in scores]
        return sum(w / sum(e) * softplus(x + 1) for w, x in zip(e, scores, strict=True))

    right = (softplus(-3) + softplus(-1)) / 2
    found = sampled("self-adversarial", margin=1.0, temperature=0.5)
    assert found == pytest.approx((right + (weighted(1.5, 0) + weighted(-0.5, 3)) / 2) / 2)
    found = sampled("self-adversarial", MASK, margin=1.0, temperature=0.5)
    assert found == pytest.approx((right + (weighted(1.5) + weighted(-0.5, 3)) / 2) / 2)
    found = sampled("self-adversarial", MASK, margin=1.0, temperature=0.0)
    even = (softplus(0.5) + softplus(4)) / 2
    assert found == pytest.approx((right + (softplus(2.5) + even) / 2) / 2)


def test_the_weights_of_self_adversarial_have_no_gradient() -> None:
    """The gradient of a negative is its weight times s(f + gamma) / 2, as if the weight were given."""
    for temperature in (0.0, 1.0, 7.0):
        negative = torch.tensor([[0.5, -1.0]], requires_grad=True)
        loss = SAMPLED["self-adversarial"](
            torch.zeros(1), negative, None, LossSettings(1.0, temperature=temperature)
        )
        (gradient,) = torch.autograd.grad(loss, negative)
        p = torch.softmax(temperature * negative.detach(), 1)
        torch.testing.assert_close(gradient, p * torch.sigmoid(negative.detach() + 1) / 2)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("name", SAMPLED)
def test_what_is_masked_does_not_count(name: str, smoothing: float) -> None:
    """Neither value nor gradient depends on a masked score; with all masked the loss is finite."""
    settings, values = LossSettings(smoothing=smoothing), []
    for score in (0.0, 50.0):
        negative = NEGATIVE.clone()
        negative[0, 1] = score
        negative.requires_grad_()
        loss = SAMPLED[name](POSITIVE, negative, MASK, settings)
        (gradient,) = torch.autograd.grad(loss, negative)
        assert gradient[0, 1] == 0 and (gradient[1] != 0).any()
        values.append(float(loss))
    assert values[0] == pytest.approx(values[1])
    nothing = [SAMPLED[name](POSITIVE, x * NEGATIVE, torch.zeros_like(MASK), settings) for x in (1, 2)]
    assert math.isfinite(nothing[0]) and nothing[0] == nothing[1]


# --- All entities ---------------------------------------------------------------------------------------------------

SCORES = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, -1.0]])
# The first query has entities 0 and 2 as answers, the second entity 1.
ANSWERS = Answers(torch.tensor([0, 0, 1]), torch.tensor([0, 2, 1]), torch.tensor([0, 2, 3]))
LABELS = [[1, 0, 1], [0, 1, 0]]


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_bce_over_all(smoothing: float) -> None:
    """Labels (1 - smoothing) y + smoothing / 3, the mean over six scores."""
    total = 0.0
    for scores, labels in zip(SCORES.tolist(), LABELS, strict=True):
        for x, y in zip(scores, labels, strict=True):
            label = (1 - smoothing) * y + smoothing / 3
            total += label * softplus(-x) + (1 - label) * softplus(x)
    found = ALL["bce"](SCORES, ANSWERS, LossSettings(smoothing=smoothing))
    assert float(found) == pytest.approx(total / 6)


def test_softplus_over_all_ignores_smoothing() -> None:
    found = ALL["softplus"](SCORES, ANSWERS, LossSettings(smoothing=0.3))
    assert float(found) == pytest.approx(float(ALL["bce"](SCORES, ANSWERS, LossSettings())))


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_cross_entropy_over_all(smoothing: float) -> None:
    """The first query's two answers have half of the target each; smoothed, every entity has a third of 0.3."""
    total = 0.0
    for scores, labels in zip(SCORES.tolist(), LABELS, strict=True):
        whole = math.log(sum(map(math.exp, scores)))
        target = [(1 - smoothing) * y / sum(labels) + smoothing / 3 for y in labels]
        total += sum(share * (whole - x) for share, x in zip(target, scores, strict=True))
    found = ALL["cross-entropy"](SCORES, ANSWERS, LossSettings(smoothing=smoothing))
    assert float(found) == pytest.approx(total / 2)
