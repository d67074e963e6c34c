"""What a graph says that it holds, so that `kgkit check` can tell when something is gone.

The node `Kgkit {id: 'ledger'}` has a JSON document:

    totals     how many User, Entity, FACT and HAS_ATTRIBUTE there were when the last command that writes any ended
    purchases  of each source, how many pairs of a user and an item it tells of, and so PURCHASED that name it
    aligning   true while an alignment is under way

Each is a lower bound. An ingest that is killed leaves more than the ledger says, and never less. An alignment folds stubs
into entities, by which Entity goes down, and FACT and HAS_ATTRIBUTE may, of pairs that become one; so the totals are
not compared while it is under way, and are taken anew when it has ended. PURCHASED of a source and User stay through it.
Losses raise no total: giving a source again brings it back to what it was. What people delete by their own Cypher is
accepted with `kgkit check --accept`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    from kgkit.store.port import GraphStore

LEDGER = "ledger"
TOTALS = ("User", "Entity", "FACT", "HAS_ATTRIBUTE")
FOLDED = ("Entity", "FACT", "HAS_ATTRIBUTE")  # of which an alignment may leave fewer
_WRITTEN = "written"  # in a provenance: relationships by kind, nodes with an embedding by `LABEL.embedding`


@dataclass
class Ledger:
    """See the module. Empty where a graph has none, since an earlier kgkit wrote it."""

    totals: dict[str, int] = field(default_factory=dict)
    purchases: dict[str, int] = field(default_factory=dict)
    aligning: bool = False


def read_ledger(store: GraphStore) -> Ledger:
    """The ledger of a graph; an empty one where there is none, or it cannot be understood."""
    for table in store.read_nodes("Kgkit", ["value"]):
        for row in table.to_pylist():
            if row["id"] == LEDGER:
                told = _document(row["value"])
                return Ledger(
                    _numbers(told.get("totals")),
                    _numbers(told.get("purchases")),
                    told.get("aligning") is True,
                )
    return Ledger()


def record(store: GraphStore, source: str = "", purchases: int = 0, *, afresh: bool = False) -> None:
    """Notes what a graph holds at the end of a command, and of a source, if it told of any, its pairs.

    afresh: less than before is not a loss.
    """
    before = read_ledger(store)
    counts = store.counts()
    least = {} if afresh or before.aligning else before.totals
    now = Ledger({kind: max(counts[kind], least.get(kind, 0)) for kind in TOTALS}, dict(before.purchases))
    if purchases:
        now.purchases[source] = purchases
    if now != before:
        keep_ledger(store, now)


def keep_ledger(store: GraphStore, ledger: Ledger) -> None:
    """Puts a ledger in the place of the one that there is."""
    told = {"totals": ledger.totals, "purchases": ledger.purchases} | (
        {"aligning": True} if ledger.aligning else {}
    )
    store.upsert_nodes("Kgkit", pa.table({"id": [LEDGER], "value": [json.dumps(told, sort_keys=True)]}))


def begin_alignment(store: GraphStore) -> None:
    """Before stubs are folded; `record` ends it. Of a graph without a ledger nothing is noted."""
    ledger = read_ledger(store)
    if ledger.totals and not ledger.aligning:
        ledger.aligning = True
        keep_ledger(store, ledger)


# -- runs ------------------------------------------------------------------------------------------------------------


def with_written(provenance: Mapping[str, Any], written: Mapping[str, int]) -> dict[str, Any]:
    """A run's provenance that says how many relationships of each kind the run wrote."""
    return {**provenance, _WRITTEN: dict(written)}


def written_by(provenance: str) -> dict[str, int]:
    """What a run's provenance (JSON) says that it wrote, by kind; nothing of what is not known."""
    return _numbers(_document(provenance).get(_WRITTEN))


@contextmanager
def rewriting(store: GraphStore, run_id: str) -> Iterator[dict[str, int]]:
    """While COMPLETED take the place of a run's; gives where to say how many there are.

    Killed in between, the run says nothing of them.
    """
    before = _provenances(store).get(run_id)
    now: dict[str, int] = {}
    if before is not None:
        kept = {kind: n for kind, n in _numbers(before.get(_WRITTEN)).items() if kind != "COMPLETED"}
        _say(store, run_id, before, kept)
    yield now
    if before is not None:
        _say(store, run_id, before, {**kept, **now})


def accept_answers(store: GraphStore, kind: str, there: Mapping[str, int]) -> None:
    """Runs wrote no more relationships of a kind than are there, by run."""
    for run_id, provenance in _provenances(store).items():
        told = _numbers(provenance.get(_WRITTEN))
        if there.get(run_id, 0) < told.get(kind, 0):
            _say(store, run_id, provenance, {**told, kind: there.get(run_id, 0)})


def _provenances(store: GraphStore) -> dict[str, dict[str, Any]]:
    rows = (row for table in store.read_nodes("Run", ["provenance"]) for row in table.to_pylist())
    return {row["id"]: _document(row["provenance"]) for row in rows}


def _say(store: GraphStore, run_id: str, provenance: Mapping[str, Any], written: Mapping[str, int]) -> None:
    text = json.dumps(with_written(provenance, written))
    store.upsert_nodes("Run", pa.table({"id": [run_id], "provenance": [text]}))


def _document(text: str | None) -> dict[str, Any]:
    try:
        told = json.loads(text or "{}")
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _numbers(told: Any) -> dict[str, int]:
    return {k: v for k, v in told.items() if isinstance(v, int)} if isinstance(told, dict) else {}
