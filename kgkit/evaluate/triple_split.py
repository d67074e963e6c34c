"""Facts parted into training, validation and test for link prediction."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from kgkit.lazy import np

if TYPE_CHECKING:
    from kgkit.arrays import Bools
    from kgkit.graph import Triples

PARTS = ("train", "valid", "test")


@dataclass(frozen=True)
class TripleSplit:
    """Training, validation and test facts over `entities` entities and `relations` relations (dense ids)."""

    train: Triples
    valid: Triples
    test: Triples
    entities: int
    relations: int

    @cached_property
    def seen(self) -> Bools:
        """bool [entities]: those that training facts name. The vectors of the others are never trained."""
        seen = np.zeros(self.entities, dtype=bool)
        seen[self.train.head] = True
        seen[self.train.tail] = True
        return seen

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all facts in all parts, stored with the run."""
        digest = hashlib.blake2b(digest_size=16)
        for part in (self.train, self.valid, self.test):
            digest.update(f"{len(part)};".encode())
            for array in (part.head, part.relation, part.tail):
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()
