"""Batch normalisation, dropout and first weights of models whose parameters are a dict, for convolutions over queries."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from kgkit.lazy import np, torch

if TYPE_CHECKING:
    from kgkit.nn.either import Either

    Tensor = torch.Tensor
    Parameters = dict[str, Tensor]

_EPSILON = 1e-5  # added to a variance, so that a constant channel does not divide by zero


def batch_norm_parameters(name: str, size: int) -> Parameters:
    """Scale, shift and running moments, float32 [size] each, of the batch normalisation called `name`."""
    return {
        f"scale_{name}": torch.ones(size),
        f"shift_{name}": torch.zeros(size),
        f"running_mean_{name}": torch.zeros(size),
        f"running_variance_{name}": torch.ones(size),
    }


def batch_norm(p: Parameters, name: str, x: Any, training: bool) -> Either:
    """x: [B, size, ...], each channel less its mean and over its deviation (Ioffe and Szegedy 2015, Algorithm 1).

    In training by the batch's own moments, which also move the running ones by a tenth; else by the running ones. A
    batch with one number a channel has no deviation, so it too takes the running ones. Outside training x, and then p,
    may be of numpy.
    """
    if isinstance(x, np.ndarray):
        mean, variance, scale, shift = (
            np.reshape(p[f"{of}_{name}"], (-1, *(1 for _ in x.shape[2:])))
            for of in ("running_mean", "running_variance", "scale", "shift")
        )
        found: Any = (x - mean) / (variance + _EPSILON) ** 0.5 * scale + shift
        return found  # type: ignore[no-any-return]  # what `Either` says of numpy
    return torch.nn.functional.batch_norm(
        x,
        p[f"running_mean_{name}"],
        p[f"running_variance_{name}"],
        p[f"scale_{name}"],
        p[f"shift_{name}"],
        training=training and x.numel() > x.shape[1],
        eps=_EPSILON,
    )


def dropout(x: Any, share: float, training: bool, channels: bool = False) -> Either:
    """x: [B, size, ...], in training a share of its numbers, or of whole channels, set to zero and the others raised."""
    found: Either = x
    if training:
        of = torch.nn.functional.dropout2d if channels else torch.nn.functional.dropout
        found = of(x, share)
    return found


def glorot(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    """float32 [rows, columns], normal of variance 2 / (rows + columns) (Glorot and Bengio 2010)."""
    return torch.randn(rows, columns, generator=generator) * math.sqrt(2 / (rows + columns))


def fan_in(shape: tuple[int, ...], inputs: int, generator: torch.Generator) -> Tensor:
    """float32 of a shape, uniform in +-1 / sqrt(inputs), as torch begins linear and convolutional layers."""
    return (torch.rand(*shape, generator=generator) * 2 - 1) / math.sqrt(inputs)
