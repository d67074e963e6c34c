"""Purchases as a matrix, for models that score by what a user bought: y = x_u W."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kgkit.lazy import np

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from kgkit.evaluate.splits import Split


def profiles(split: Split) -> csr_matrix:
    """The training positives as X, sparse float32 [users, items]: 1 where the user bought the item."""
    from scipy.sparse import csr_matrix

    bought = split.train.positives()
    shape = (split.users, split.items)
    return csr_matrix((np.ones(len(bought), dtype=np.float32), (bought.user, bought.item)), shape=shape)
