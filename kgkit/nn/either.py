"""Operations that equations need and that torch and numpy spell differently, on arrays of either.

With them a model's query can be answered from vectors in the graph by numpy alone, which loads twenty times faster.
Complex vectors hold their real parts in the first half and their imaginary parts in the second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kgkit.lazy import np, torch

if TYPE_CHECKING:
    Either = torch.Tensor  # or a numpy array, of which equations ask nothing else


def join(*parts: Any) -> Either:
    """Arrays [..., a], [..., b] beside each other: [..., a + b]."""
    of: Any = np.concatenate if isinstance(parts[0], np.ndarray) else torch.cat
    return of(parts, -1)


def rows(table: Any, at: Any) -> Either:
    """Rows of a table [N, d] or [N]: at, integers [...] or a slice -> [..., d] or [...].

    Indexing in brackets gives the same, but torch adds up the gradient of repeated rows in whatever order threads come
    by, so that a seed would not give the same metrics again.
    """
    if isinstance(table, np.ndarray) or isinstance(at, slice):
        return table[at]
    of = torch.nn.functional.embedding
    return of(at, table) if table.dim() > 1 else of(at, table[:, None])[..., 0]


def halves(x: Any) -> tuple[Either, Either]:
    """The first and second half of the last axis."""
    d = x.shape[-1] // 2
    return x[..., :d], x[..., d:]


def product(a: Any, b: Any) -> Either:
    """a * b of complex vectors [..., 2 k]."""
    (ar, ai), (br, bi) = halves(a), halves(b)
    return join(ar * br - ai * bi, ar * bi + ai * br)


def conjugate(a: Any) -> Either:
    """The conjugate of complex vectors [..., 2 k]."""
    real, imaginary = halves(a)
    return join(real, -imaginary)


def cubed_moduli(a: Any) -> Either:
    """The sum of |a_i|^3 over complex numbers: [..., 2 k] -> [...]; what N3 weighs (Lacroix et al. 2018, Eq. 4)."""
    real, imaginary = halves(a)
    return ((real * real + imaginary * imaginary) ** 1.5).sum(-1)


def within_ball(x: Any) -> Either:
    """Vectors [..., d] longer than 1 cut to length 1, others as they are."""
    return x / (x * x).sum(-1)[..., None].clip(min=1) ** 0.5


def turn(phase: Any) -> Either:
    """exp(i phase), of modulus one: [..., k] -> complex [..., 2 k]."""
    of = np if isinstance(phase, np.ndarray) else torch
    return join(of.cos(phase), of.sin(phase))
