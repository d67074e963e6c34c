"""How many candidates answer a query better than its true answer, or as well; compiled, and in torch elsewhere."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kgkit.lazy import np, torch
from kgkit.native.build import load
from kgkit.native.threads import thread_count
from kgkit.nn.similarity import SIMILARITIES, Candidates, Similarity, crossed

if TYPE_CHECKING:
    from kgkit.arrays import Array, Ints

_I, _P = ctypes.c_int64, ctypes.c_void_p


@dataclass(frozen=True)
class Asked:
    """True answers by query, and all known ones, in CSR over B queries.

    start: int64 [B + 1], query b's true answers are answer[start[b]:start[b + 1]]; answer: int64 [F] candidates.
    known_start: int64 [B + 1]; known: int64 [K], of each query ascending and distinct, its true answers among them.
    """

    start: Ints
    answer: Ints
    known_start: Ints
    known: Ints

    def __len__(self) -> int:
        return len(self.start) - 1

    def part(self, low: int, high: int) -> Asked:
        """Those of the queries low ... high - 1."""
        start, known = self.start[low : high + 1], self.known_start[low : high + 1]
        return Asked(
            start - start[0],
            self.answer[start[0] : start[-1]],
            known - known[0],
            self.known[known[0] : known[-1]],
        )

    def check(self, candidates: int) -> None:
        """Raises ValueError unless it is as described: the kernel reads where these point, and does not look."""
        for start, items in ((self.start, self.answer), (self.known_start, self.known)):
            if not len(start) or start[0] != 0 or start[-1] != len(items) or (np.diff(start) < 0).any():
                raise ValueError(f"CSR starts must rise from 0 to {len(items)}")
            if len(items) and (items.min() < 0 or items.max() >= candidates):
                raise ValueError(f"answers must lie in 0..{candidates - 1}")
        if len(self.start) != len(self.known_start):
            raise ValueError("true and known answers must be of the same queries")
        key = np.repeat(np.arange(len(self)) * candidates, np.diff(self.start)) + self.answer
        known = np.repeat(np.arange(len(self)) * candidates, np.diff(self.known_start)) + self.known
        if (np.diff(known) <= 0).any():
            raise ValueError("known answers of a query must ascend")
        if len(key) and (not len(known) or (known[np.searchsorted(known, key) % len(known)] != key).any()):
            raise ValueError("true answers must be among the known ones")


@dataclass(frozen=True)
class AnswerCounts:
    """int64 [F] each: candidates that score higher than the true answer, and others that score the same.

    Without the query's other known answers; raw_...: with them, or None where nobody asked.
    """

    better: Ints
    equal: Ints
    raw_better: Ints | None = None
    raw_equal: Ints | None = None


class _Problem(ctypes.Structure):
    """`Problem` of answers.c."""

    _fields_ = [
        *((name, _I) for name in ("similarity", "dim", "queries", "candidates")),
        *((name, _P) for name in ("query", "table", "bias")),
    ]


def count_answers(
    similarity: Similarity,
    queries: torch.Tensor,
    candidates: Candidates,
    asked: Asked,
    *,
    raw: bool = False,
    memory: int = 512 << 20,
) -> AnswerCounts:
    """Compares every candidate [N, d] with the true answers of the queries, float32 [B, d].

    A true answer's score is the one that its column has, so that it ties with itself and with what equals it. A score
    of NaN counts as minus infinity. Compiled on the CPU: memory beyond the arguments is a copy of the queries and half
    a megabyte a thread, whatever N is. Elsewhere torch makes the scores of as many queries at once as `memory` bytes
    hold, of one at least.
    """
    asked.check(len(candidates))
    if len(queries) != len(asked) or queries.shape[1] != candidates.table.shape[1]:
        raise ValueError(
            f"queries {tuple(queries.shape)} do not fit {len(asked)} rows of answers and candidates "
            f"{tuple(candidates.table.shape)}"
        )
    if similarity == "modulus" and queries.shape[1] % 2:
        raise ValueError("the modulus similarity takes vectors of even length: real halves, imaginary halves")
    library = load("answers") if queries.device.type == candidates.table.device.type == "cpu" else None
    if library is None:
        return _by_torch(similarity, queries, candidates, asked, raw, memory)
    return _compiled(library, similarity, queries, candidates, asked, raw)


def _compiled(
    library: ctypes.CDLL,
    similarity: Similarity,
    queries: torch.Tensor,
    candidates: Candidates,
    asked: Asked,
    raw: bool,
) -> AnswerCounts:
    n, dim = queries.shape
    # [B / Q, d, Q]: the block's queries side by side at each coordinate.
    q = int(library.kgkit_answers_block())
    packed = torch.zeros(-(-n // q), dim, q)
    for at in range(q):
        rows = queries.detach()[at::q]
        packed[: len(rows), :, at] = rows
    table = candidates.table.detach().float().contiguous()
    bias = None if candidates.bias is None else candidates.bias.detach().float().contiguous()
    if bias is not None and bias.shape != (len(table),):
        raise ValueError(f"a bias of shape {tuple(bias.shape)} for {len(table)} candidates")
    problem = _Problem(
        similarity=SIMILARITIES.index(similarity),
        dim=dim,
        queries=n,
        candidates=len(table),
        query=packed.data_ptr(),
        table=table.data_ptr(),
        bias=None if bias is None else bias.data_ptr(),
    )
    arrays = [
        np.ascontiguousarray(a, dtype=np.int64)
        for a in (asked.start, asked.answer, asked.known_start, asked.known)
    ]
    facts = len(asked.answer)
    own = np.empty(facts, dtype=np.float32)
    counts = [np.zeros(facts, dtype=np.int64) for _ in range(4 if raw else 2)]
    failed = library.kgkit_count_answers(
        ctypes.byref(problem),
        *(_pointer(a) for a in arrays),
        _pointer(own),
        *(_pointer(a) for a in counts),
        *(() if raw else (_P(), _P())),
        ctypes.c_int32(thread_count()),
    )
    if failed:
        raise MemoryError("comparing candidates with true answers")
    if raw:
        counts[3] -= 1  # the answer itself
    return AnswerCounts(*counts)


def _by_torch(
    similarity: Similarity,
    queries: torch.Tensor,
    candidates: Candidates,
    asked: Asked,
    raw: bool,
    memory: int,
) -> AnswerCounts:
    """The twin, on the device of the queries."""
    found: list[list[Ints]] = [[np.empty(0, dtype=np.int64)] for _ in range(4 if raw else 2)]
    # A score takes 24 bytes: itself, a copy of its row, comparisons, and what `crossed` makes it of.
    step = max(1, min(memory // (24 * max(len(candidates), 1)), len(asked)))
    # Room that all blocks share: allocators keep much more than is in use when such large pieces come and go.
    room = torch.empty(2, step, len(candidates), device=queries.device)
    with torch.no_grad():
        for at in range(0, len(asked), step):
            some = asked.part(at, min(at + step, len(asked)))
            scores = _scores(similarity, queries[at : at + step].float(), candidates, memory, room[0])
            row, answer = _rows(some.start, scores), _on(some.answer, scores)
            own = scores[row, answer]
            counts = []
            if raw:
                better, equal = _count(scores, row, own, room[1])
                counts = [better, equal - 1]  # without the answer itself
            # NaN compares false with everything: what is known is neither better nor equal, the answer included.
            scores[_rows(some.known_start, scores), _on(some.known, scores)] = torch.nan
            counts = [*_count(scores, row, own, room[1]), *counts]
            for all_of_it, part in zip(found, counts, strict=True):
                all_of_it.append(part.cpu().numpy())
    return AnswerCounts(*(np.concatenate(parts) for parts in found))


def _scores(
    similarity: Similarity, queries: torch.Tensor, candidates: Candidates, memory: int, room: torch.Tensor
) -> torch.Tensor:
    """float32 [B, N], without NaN, in the first rows of room [at least B, N]."""
    n = wide = len(candidates)
    if similarity == "modulus":  # [B, tile, d] of a query and candidate each, some six times over
        wide = max(1, memory // 4 // (24 * max(queries.numel(), 1)))
    scores = room[: len(queries)]
    for low in range(0, n, max(wide, 1)):
        tile = slice(low, low + wide)
        bias = None if candidates.bias is None else candidates.bias[tile]
        scores[:, tile] = crossed(similarity, queries, Candidates(candidates.table[tile].float(), bias))
    return scores.nan_to_num_(-torch.inf, torch.inf, -torch.inf)


def _count(
    scores: torch.Tensor, row: torch.Tensor, own: torch.Tensor, room: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """For each true answer, the scores in its row that are above its own, and those that equal it: int64 [F]."""
    step = len(room)
    better, equal = torch.zeros_like(row), torch.zeros_like(row)
    for at in range(0, len(row), step):
        some = slice(at, at + step)
        mine = own[some, None]
        others = torch.index_select(scores, 0, row[some], out=room[: len(mine)])
        better[some], equal[some] = (others > mine).sum(1), (others == mine).sum(1)
    return better, equal


def _rows(start: Ints, like: torch.Tensor) -> torch.Tensor:
    """The row of each entry of a CSR, int64."""
    return _on(np.repeat(np.arange(len(start) - 1), np.diff(start)), like)


def _on(array: Ints, like: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(like.device)


def _pointer(array: Array) -> ctypes.c_void_p:
    return _P(array.ctypes.data)
