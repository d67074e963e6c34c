"""Tensors as compiled kernels take them: checked for type, shape and range, because the kernels do not look."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

from kgkit.lazy import torch


def checked(tensor: torch.Tensor, dtype: torch.dtype, dims: int) -> torch.Tensor:
    """The tensor itself, which the kernel may write to. Raises ValueError unless it is as the kernel reads it."""
    if (
        tensor.dtype != dtype
        or tensor.dim() != dims
        or tensor.device.type != "cpu"
        or not tensor.is_contiguous()
    ):
        raise ValueError(f"compiled kernels take contiguous {dtype} [{dims} dimensions] on the CPU")
    return tensor


def indices(tensor: torch.Tensor, size: int) -> torch.Tensor:
    """int64 indices, all within 0 ... size - 1: the kernel does not look."""
    tensor = checked(tensor, torch.int64, 1)
    if len(tensor) and (int(tensor.min()) < 0 or int(tensor.max()) >= size):
        raise ValueError(f"indices must lie in 0..{size - 1}")
    return tensor


def pointer(tensor: torch.Tensor | None) -> ctypes.c_void_p:
    """Where a tensor's numbers begin; NULL for None."""
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


def pointers(tensors: Sequence[torch.Tensor]) -> ctypes.Array[ctypes.c_void_p]:
    """The same of several, as a C array."""
    return (ctypes.c_void_p * len(tensors))(*(t.data_ptr() for t in tensors))
