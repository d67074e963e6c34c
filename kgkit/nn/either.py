"""Operations that equations need and that torch and numpy spell differently, on arrays of either.

With them a model's query can be answered from vectors in the graph or in a run's folder by numpy alone, which loads
twenty times faster.
Complex vectors hold their real parts in the first half and their imaginary parts in the second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kgkit.lazy import np, torch

if TYPE_CHECKING:
    Either = torch.Tensor  # or a numpy array, of which equations ask nothing else


def join(*parts: Any, axis: int = -1) -> Either:
    """Arrays [..., a], [..., b] beside each other: [..., a + b]; or along another axis."""
    of: Any = np.concatenate if isinstance(parts[0], np.ndarray) else torch.cat
    return of(parts, axis)


def rows(table: Any, at: Any, sparse: bool = False) -> Either:
    """Rows of a table [N, d] or [N]: at, integers [...] or a slice -> [..., d] or [...].

    Indexing in brackets gives the same, but torch adds up the gradient of repeated rows in whatever order threads come
    by, so that a seed would not give the same metrics again. sparse: the table's gradient has only the rows asked for.
    """
    if isinstance(table, np.ndarray) or isinstance(at, slice):
        return table[at]
    of = torch.nn.functional.embedding
    return of(at, table, sparse=sparse) if table.dim() > 1 else of(at, table[:, None])[..., 0]


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


def relu(x: Any) -> Either:
    """x where it is positive, else 0."""
    found: Either = np.maximum(x, 0) if isinstance(x, np.ndarray) else torch.relu(x)  # type: ignore[assignment]
    return found


def linear(x: Any, weight: Any, bias: Any) -> Either:
    """x W^T + b: [..., a], [c, a] and [c] -> [..., c]."""
    return x @ weight.T + bias if isinstance(x, np.ndarray) else torch.nn.functional.linear(x, weight, bias)


def convolved(x: Any, filters: Any, bias: Any, padding: int = 0) -> Either:
    """The convolution, of stride 1, over the last one or two axes.

    x: [B, C, ...]; filters: [F, C, ...]; bias: [F]; padding: zeros around each of those axes -> [B, F, ...].
    """
    size = filters.shape[2:]
    if not isinstance(x, np.ndarray):
        of: Any = torch.nn.functional.conv1d if len(size) == 1 else torch.nn.functional.conv2d
        return of(x, filters, bias, padding=padding)
    axes = range(2, x.ndim)
    padded = np.pad(x, [(0, 0), (0, 0), *((padding, padding) for _ in axes)])
    windows: Any = np.lib.stride_tricks.sliding_window_view(padded, size, tuple(axes))  # [B, C, places, size]
    summed = (1, *range(x.ndim, windows.ndim))
    maps = np.tensordot(windows, filters, (summed, range(1, filters.ndim))) + bias
    return np.moveaxis(maps, -1, 1)
