"""A graph store in plain dictionaries, written from the words of `kgkit.store.port` alone: what real stores must equal.

Nothing here is taken from the stores' own code, nor from the plan that they share: two readings of one text are compared.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kgkit.schema import EDGES, NODES

Row = dict[str, Any]
Key = tuple[Any, ...]
STUB = "item:"
NAMES = ("name", "entity_name", "name_of")
MOVING = ("PURCHASED", "RECOMMENDED")
ANSWERS = tuple(kind for kind, about in EDGES.items() if about.answer)


class Refused(Exception):
    """The store must raise StoreError, and leave the graph as it is."""


@dataclass(frozen=True)
class OneOf:
    """A value that the port leaves open, since several rows come to the same key at once: one of these."""

    values: tuple[Any, ...]


@dataclass(frozen=True)
class Vector:
    """A vector property: label, ids, rows of numbers, and the name of the model's table ("": the embedding)."""

    label: str
    ids: tuple[str, ...]
    rows: tuple[tuple[float, ...], ...]
    table: str = ""
    packed: bool = False


@dataclass
class Graph:
    """{label: {id: properties}} and {type: {(head, tail, *key): properties}}, as `kgkit.testing.graph_dump` gives them."""

    nodes: dict[str, dict[str, Row]] = field(default_factory=lambda: {n: {} for n in NODES if n != "Kgkit"})
    edges: dict[str, dict[Key, Row]] = field(default_factory=lambda: {e: {} for e in EDGES})

    def copy(self) -> Graph:
        return copy.deepcopy(self)

    # -- observed facts in -----------------------------------------------------------------------------------
    def upsert_nodes(self, label: str, rows: Sequence[Row]) -> tuple[int, int]:
        """Rows have `id` and properties, None for null. (created, matched)."""
        last = {row["id"]: row for row in rows}
        created = sum(id not in self.nodes[label] for id in last)
        for id, row in last.items():
            kept = self.nodes[label].setdefault(id, {})
            kept |= {name: value for name, value in row.items() if name != "id" and value is not None}
        return created, len(last) - created

    def upsert_edges(self, kind: str, rows: Sequence[Row], missing: str) -> tuple[int, int, int]:
        """Rows have head, tail, key and properties. (created, matched, skipped)."""
        about = EDGES[kind]
        heads, tails = self.nodes[about.source], self.nodes[about.target]
        whole = [row for row in rows if row["head"] in heads and row["tail"] in tails]
        if missing == "error" and len(whole) < len(rows):
            raise Refused
        skipped = len(rows) - len(whole)
        if missing == "create":
            for row in rows:
                heads.setdefault(row["head"], {})
                tails.setdefault(row["tail"], {})
            whole, skipped = list(rows), 0
        last = {(row["head"], row["tail"], *(row[k] for k in about.key)): row for row in whole}
        created = sum(key not in self.edges[kind] for key in last)
        for key, row in last.items():
            kept = self.edges[kind].setdefault(key, {})
            kept |= {n: v for n, v in row.items() if n not in ("head", "tail") and v is not None}
            if kind == "FACT":
                self.nodes["Relation"].setdefault(row["relation"], {})
        return created, len(last) - created, skipped

    # -- alignment -------------------------------------------------------------------------------------------
    def place_of(self, item: str) -> str:
        """The node that stands for an item: its entity, or its stub whether there or not."""
        for id, row in self.nodes["Entity"].items():
            if row.get("item_id") == item:
                return id
        return STUB + item

    def align(self, rows: Sequence[tuple[str, str]], move: bool) -> dict[str, Any]:
        """aligned, unchanged, folded, moved, and the (item, entity) of conflicts; see `GraphStore.align`."""
        entities = self.nodes["Entity"]
        distinct = list(dict.fromkeys(rows))
        chosen = self._chosen(distinct, move)
        left = {}  # item: the entity that it leaves
        unchanged = 0
        for item, entity in chosen.items():
            now = self.place_of(item)
            unchanged += entities.get(entity, {}).get("item_id") == item
            if now not in (STUB + item, entity):
                left[item] = now
        stubs = {STUB + item: entity for item, entity in chosen.items()}
        folded = {stub: entity for stub, entity in stubs.items() if stub in entities and stub != entity}
        names = self._names(chosen, left)
        self._move_edges({now: chosen[item] for item, now in left.items()}, folded)
        self._move_properties(chosen, left, folded, names)
        return {
            "aligned": len(chosen) - unchanged - len(left),
            "unchanged": unchanged,
            "folded": len(folded),
            "moved": len(left),
            "conflicts": set(distinct) - set(chosen.items()),
        }

    def _chosen(self, rows: Sequence[tuple[str, str]], move: bool) -> dict[str, str]:
        """The rows to carry out: {item: entity}."""
        holder = {id: row.get("item_id") for id, row in self.nodes["Entity"].items()}
        chosen: dict[str, str] = {}
        for item, entity in rows:
            foreign = entity.startswith(STUB) and entity != STUB + item
            said = item in chosen or entity in chosen.values()
            elsewhere = self.place_of(item) not in (STUB + item, entity)
            taken = holder.get(entity) not in (None, item)
            if not (foreign or said or (not move and (elsewhere or taken))):
                chosen[item] = entity
        while stuck := [i for i, e in chosen.items() if holder.get(e) not in (None, i, *chosen)]:
            for item in stuck:  # its entity's own item stays, so it stays too, and so on
                del chosen[item]
        return chosen

    def _names(self, chosen: Mapping[str, str], left: Mapping[str, str]) -> dict[str, Row]:
        """What the nodes of an alignment are called afterwards: the titles go along with items, own names stay."""
        entities = self.nodes["Entity"]
        out: dict[str, Row] = {}
        for item, entity in chosen.items():
            goal = entities.get(entity, {})
            title = entities.get(STUB + item, {}).get("name")
            if title is None and item in left:
                title = _title(entities[left[item]])
            elif title is None and goal.get("item_id") == item:
                title = _title(goal)
            own = None if entity == STUB + item else _own(goal)
            if entity == STUB + item or title is None:
                out[entity] = {"name": own if title is None else title}
            elif title == own:
                out[entity] = {"name": title, "name_of": "both"}
            else:
                out[entity] = {"name": title, "entity_name": own, "name_of": "item"}
        for entity in left.values():
            out.setdefault(entity, {"name": _own(entities[entity])})
        return out

    def _move_edges(self, leaving: Mapping[str, str], folded: Mapping[str, str]) -> None:
        """leaving: {entity: where its item goes}; folded: {stub: its entity}."""
        for kind, edges in self.edges.items():
            about, arriving = EDGES[kind], dict[Key, list[Row]]()
            for key in list(edges):
                head, tail, *rest = key
                to_head = folded.get(head, head) if about.source == "Entity" else head
                to_tail = folded.get(tail, tail)
                if kind in MOVING:
                    to_tail = leaving.get(tail, to_tail)
                if (to_head, to_tail) != (head, tail):
                    arriving.setdefault((to_head, to_tail, *rest), []).append(edges.pop(key))
            for key, rows in arriving.items():
                kept = edges.setdefault(key, {})
                for name in {name for row in rows for name in row}:
                    values = [row[name] for row in rows if name in row]
                    flat = [v for value in values for v in _values(value)]
                    kept[name] = flat[0] if len(set(flat)) == 1 else OneOf(tuple(dict.fromkeys(flat)))

    def _move_properties(
        self,
        chosen: Mapping[str, str],
        left: Mapping[str, str],
        folded: Mapping[str, str],
        names: Mapping[str, Row],
    ) -> None:
        entities = self.nodes["Entity"]
        for entity in left.values():
            del entities[entity]["item_id"]
        for stub, entity in folded.items():
            more = entities.pop(stub)
            kept = entities.setdefault(entity, {})
            kept |= {name: v for name, v in more.items() if name not in ("item_id", *NAMES)}
        for item, entity in chosen.items():
            entities.setdefault(entity, {})["item_id"] = item
        for entity, called in names.items():
            for name in NAMES:
                entities[entity].pop(name, None)
            entities[entity] |= {name: value for name, value in called.items() if value is not None}
        for entity in left.values():
            linked = any(entity in key[:2] for edges in self.edges.values() for key in edges)
            if not entities[entity] and not linked:
                del entities[entity]

    # -- answers ---------------------------------------------------------------------------------------------
    def replace_answers(
        self,
        run: Row,
        vectors: Sequence[Vector],
        answers: Mapping[str, Sequence[Row]],
        weights: Mapping[str, Row],
    ) -> dict[str, int]:
        """run: properties of the node, with id; weights: what nodes `Weights` are to hold, by id. Rows by kind."""
        runs = self.nodes["Run"]
        known = {label: set(rows) for label, rows in self.nodes.items()}
        self._refuse_unknown_ends(answers)
        mine = {id for id, row in runs.items() if row["plugin"] == run["plugin"]} | {run["id"]}
        self._remove_answers(mine, ANSWERS)
        embedding = _embedding(run["plugin"])
        self._remove_vectors(embedding)
        written = {"embeddings": 0}
        for part in vectors:
            prop = f"{embedding}.{part.table}" if part.table else embedding
            there = [(i, r) for i, r in zip(part.ids, part.rows, strict=True) if i in known[part.label]]
            for id, row in there:
                self.nodes[part.label][id][prop] = list(row)
            written["embeddings"] += 0 if part.table else len(there)
        written |= self._write_answers(run["id"], answers)
        self.nodes["Weights"] |= copy.deepcopy(dict(weights))
        for id in mine & runs.keys():
            runs[id]["current"] = False
        runs[run["id"]] = {**{k: v for k, v in run.items() if k != "id"}, "current": True}
        return written

    def update_answers(self, run_id: str, answers: Mapping[str, Sequence[Row]]) -> dict[str, int]:
        if not self.nodes["Run"].get(run_id, {}).get("current"):
            raise Refused
        self._refuse_unknown_ends(answers)
        self._remove_answers({run_id}, answers, weights=False)
        return self._write_answers(run_id, answers)

    def _refuse_unknown_ends(self, answers: Mapping[str, Sequence[Row]]) -> None:
        for kind, rows in answers.items():
            heads, tails = self.nodes[EDGES[kind].source], self.nodes[EDGES[kind].target]
            if any(row["head"] not in heads or row["tail"] not in tails for row in rows):
                raise Refused

    def _remove_answers(self, runs: set[str], kinds: Iterable[str], weights: bool = True) -> int:
        removed = 0
        for kind in kinds:
            kept = {key: row for key, row in self.edges[kind].items() if row["run"] not in runs}
            removed += len(self.edges[kind]) - len(kept)
            self.edges[kind] = kept
        if weights:
            held = self.nodes["Weights"]
            self.nodes["Weights"] = {id: row for id, row in held.items() if row["run"] not in runs}
        return removed

    def _write_answers(self, run_id: str, answers: Mapping[str, Sequence[Row]]) -> dict[str, int]:
        written = {}
        for kind, rows in answers.items():
            key = EDGES[kind].key
            last = {(r["head"], r["tail"], *({**r, "run": run_id}[k] for k in key)): r for r in rows}
            for ends, row in last.items():
                given = {n: v for n, v in row.items() if n not in ("head", "tail") and v is not None}
                self.edges[kind][ends] = {**given, "run": run_id}
            written[kind] = len(last)
        return written

    def _remove_vectors(self, embedding: str) -> int:
        removed = 0
        for rows in self.nodes.values():
            for row in rows.values():
                for name in [n for n in row if n == embedding or n.startswith(f"{embedding}.")]:
                    del row[name]
                    removed += name == embedding
        return removed

    def write_vectors(self, prop: str, part: Vector) -> int:
        there = {i: r for i, r in zip(part.ids, part.rows, strict=True) if i in self.nodes[part.label]}
        for id, row in there.items():
            self.nodes[part.label][id][prop] = list(row)
        return len(there)

    def erase_run(self, run_id: str) -> int:
        removed = self._remove_answers({run_id}, ANSWERS)
        run = self.nodes["Run"].pop(run_id, None)
        if run and run["current"]:
            removed += self._remove_vectors(_embedding(run["plugin"]))
        return removed + bool(run)

    # -- the rest --------------------------------------------------------------------------------------------
    def delete_nodes(self, label: str, ids: Sequence[str]) -> int:
        gone = set(ids) & self.nodes[label].keys()
        for id in gone:
            del self.nodes[label][id]
        for kind, edges in self.edges.items():
            ends = (EDGES[kind].source, EDGES[kind].target)
            for key in list(edges):
                if any(end == label and id in gone for end, id in zip(ends, key[:2], strict=True)):
                    del edges[key]
        return len(gone)

    def clear(self) -> None:
        self.nodes = {label: {} for label in self.nodes}
        self.edges = {kind: {} for kind in self.edges}

    def stats(self) -> dict[str, Any]:
        entities = self.nodes["Entity"].values()
        counts = {label: len(self.nodes[label]) for label in ("Entity", "Run", "User")}
        relations: dict[str, int] = {}
        for row in self.edges["FACT"].values():
            relations[row["relation"]] = relations.get(row["relation"], 0) + 1
        return {
            "nodes": {**counts, "Item": sum("item_id" in row for row in entities)},
            "relationships": {kind: len(edges) for kind, edges in self.edges.items()},
            "relations": relations,
        }

    # -- comparison ------------------------------------------------------------------------------------------
    def settle(self, dump: Mapping[str, Mapping[Any, Row]]) -> list[str]:
        """Differences from a store's dump, a line each. What the port leaves open is taken from the dump."""
        lines = []
        for kind, mine in [*self.nodes.items(), *self.edges.items()]:
            theirs = dump.get(kind, {})
            for key in {**mine, **theirs}:
                want, have = mine.get(key), theirs.get(key)
                if want is not None and have is not None:
                    for name, value in want.items():
                        if isinstance(value, OneOf) and have.get(name) in value.values:
                            want[name] = have[name]
                if want != have:
                    lines.append(f"{kind} {key!r}: {have} instead of {want}")
        return lines

    def same(self, dump: Mapping[str, Mapping[Any, Row]]) -> bool:
        return not self.copy().settle(dump)


def _values(value: Any) -> tuple[Any, ...]:
    return value.values if isinstance(value, OneOf) else (value,)


def _embedding(plugin: str) -> str:
    return "embedding_" + "".join(c if c.isalnum() or c == "_" else "_" for c in plugin)


def _title(row: Row) -> str | None:
    """An item's, of a node that is an entity, too."""
    return row.get("name") if "entity_name" in row or "name_of" in row else None


def _own(row: Row) -> str | None:
    """An entity's."""
    if row.get("name_of") == "both":
        return row.get("name")
    return row.get("entity_name") if "entity_name" in row or "name_of" in row else row.get("name")
