"""From two sides to a proposal: linkage first, then titles, then nearly equal names; nobody is claimed twice."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kgkit.align.candidates import Options, Pool
from kgkit.align.table import ACCEPTED, AMBIGUOUS, REVIEW, STATUSES, Row
from kgkit.arrays import Bools, Ints

LINKAGE, LINKAGE_TITLE, TITLE, FUZZY = "linkage", "linkage+title", "title", "fuzzy"
_RANK = {LINKAGE: 0, LINKAGE_TITLE: 0, TITLE: 1, FUZZY: 2}
LISTED = 10  # candidates of an ambiguous item that the table shows
REVIEW_BAND = 10.0  # points below min_score within which a person is asked
ALIKE = 60.0  # names of a linked pair that are less alike than this are worth a look


@dataclass
class Proposal:
    """The table, and counts for the summary that it does not show."""

    rows: list[Row] = field(default_factory=list)
    items: int = 0  # items that an entity was looked for
    entities: int = 0  # entities that titles may name
    notes: Counter[str] = field(default_factory=Counter)

    def summary(self) -> dict[str, object]:
        """Items by status, accepted ones by method, and what else to know. Keys are words for people."""
        by_status: dict[str, set[str]] = {status: set() for status in STATUSES}
        for row in self.rows:
            by_status[row.status].add(row.item)
        methods = Counter(row.method for row in self.rows if row.status == ACCEPTED)
        return {
            "items": self.items,
            "entities with a name": self.entities,
            **{status: len(found) for status, found in by_status.items()},
            "accepted by method": dict(sorted(methods.items())),
            **dict(sorted(self.notes.items())),
        }


def propose(
    pool: Pool,
    links: pa.Table | None,
    options: Options,
    tell: Callable[[str, int, int], None] = lambda phase, done, total: None,
) -> Proposal:
    """Says which item is which entity. links: columns item, entity (string [L]), None for none."""
    found = _Matching(pool, options)
    if links is not None:
        tell("linkage", 0, links.num_rows)
        found.by_linkage(links)
    tell("titles", 0, len(pool.wanted))
    found.by_title()
    if options.fuzzy:
        found.by_likeness(lambda done: tell("nearly equal names", done, len(pool.eligible)))
    found.close()
    return found.proposal


class _Matching:
    """Rows found so far (`done`: item -> rows), and the items that are still looked for (`left`: rows of items)."""

    def __init__(self, pool: Pool, options: Options) -> None:
        self.pool, self.options = pool, options
        self.done: dict[str, list[Row]] = {}
        self.why: dict[int, str] = {}
        self.left = list(pool.wanted)
        self.proposal = Proposal(items=len(pool.wanted), entities=len(pool.eligible))
        self._keys: pa.Array | None = None
        self._others: dict[int, tuple[str, ...]] = {}

    # -- linkage -------------------------------------------------------------------------------------------------
    def by_linkage(self, links: pa.Table) -> None:
        """Takes what linkage files say; of several candidates the only one in the graph, or the one of that title."""
        linked: dict[str, list[str]] = defaultdict(list)
        for item, entity in zip(links["item"].to_pylist(), links["entity"].to_pylist(), strict=True):
            if entity not in linked[item]:
                linked[item].append(entity)
        distinct = pa.array({e for found in linked.values() for e in found}, pa.string())
        where = pc.index_in(distinct, self.pool.entities.ids)
        row_of = {e: r for e, r in zip(distinct.to_pylist(), where.to_pylist(), strict=True) if r is not None}
        items = pa.array(linked.keys(), pa.string())
        at = pc.index_in(items, self.pool.items.ids).to_pylist()
        wanted = set(self.left)
        for (item, entities), row in zip(linked.items(), at, strict=True):
            now = self.pool.entity_of.get(item)
            if now in entities:
                self.proposal.notes["linked items that are that entity already"] += 1
                if row in wanted:
                    wanted.discard(row)
                continue
            rows = self._linked(item, row, entities, row_of)
            doubt = ""
            if row is None:  # a linkage of a larger shop
                doubt = "the graph has no such item: accepting makes it one that nobody bought"
            elif now is not None and not self.options.realign:
                doubt = f"the item is entity {now} now: accepting moves it"
            for one in rows:
                if doubt and one.status == ACCEPTED:
                    one.status, one.note = REVIEW, doubt
            self.done[item] = rows
            if row is None:
                self.proposal.notes["linked items that the graph does not have"] += 1
            else:
                wanted.discard(row)
        self.left = [row for row in self.left if row in wanted]

    def _linked(self, item: str, row: int | None, entities: list[str], row_of: dict[str, int]) -> list[Row]:
        here = [e for e in entities if e in row_of]
        method, note, chosen = LINKAGE, "", entities
        if len(entities) > 1 and len(here) == 1:
            chosen, note = here, f"the only one of {len(entities)} linked entities that the graph has"
        elif len(here) > 1 and row is not None:
            same = [e for e in here if self._same_title(row, row_of[e])]
            same = [self.pool.entities.ids[r].as_py() for r in self._restrict(row, [row_of[e] for e in same])]
            if len(same) == 1:
                chosen, method = same, LINKAGE_TITLE
                note = f"of {len(entities)} linked entities the one of that title"
        rows = []
        for entity in chosen[:LISTED]:
            out = self._row(item, row, row_of.get(entity), entity, method)
            if len(chosen) > 1:
                out.status, out.note = AMBIGUOUS, _several(len(chosen), "linked entities")
            else:
                out.status, out.note = ACCEPTED, note
                if entity not in row_of:
                    out.note = "the graph has no such entity: accepting makes one, without facts"
                    if row is not None:
                        self.proposal.notes["linked entities that the graph does not have"] += 1
                elif out.score is not None and out.score < ALIKE:
                    out.note = "the names differ"
                    self.proposal.notes["linked pairs whose names differ"] += 1
            rows.append(out)
        return rows

    def _same_title(self, item: int, entity: int) -> bool:
        return bool(key := self.pool.items.title(item).key) and key == self.pool.entities.title(entity).key

    # -- titles --------------------------------------------------------------------------------------------------
    def by_title(self) -> None:
        """Equal keys; where there are none, equal parts of names that end in brackets."""
        if not (self.options.titles or self.options.fuzzy):
            return
        entities, items = self.pool.entities, self.pool.items
        self._keys, self._others = entities.keys(self.pool.eligible)
        if not self.options.titles:
            return
        whole: dict[str, list[int]] = {}
        for row in self.left:
            found = items.title(row)
            for key in (found.key, *found.others):
                whole[key] = []
        part: dict[str, list[int]] = {key: [] for key in whole}
        for row, key in zip(self.pool.eligible.tolist(), self._keys.to_pylist(), strict=True):
            if key in whole:
                whole[key].append(row)
        for row, keys in self._others.items():
            for key in keys:
                if key in part:
                    part[key].append(row)
        left = []
        for row in self.left:
            found = items.title(row)
            candidates = whole[found.key] if found.key else []
            if not candidates:
                more = [*(r for key in found.others for r in whole[key]), *part[found.key]]
                candidates = list(dict.fromkeys(more)) if found.key else []
            kept = self._restrict(row, candidates)
            if not kept:
                if candidates:
                    self.why[row] = f"{len(candidates)} entities of this title, none of its year and creator"
                left.append(row)
                continue
            item = items.ids[row].as_py()
            self.done[item] = []
            for entity in kept[:LISTED]:
                out = self._row(item, row, entity, entities.ids[entity].as_py(), TITLE)
                out.score = 100.0
                out.status = ACCEPTED if len(kept) == 1 else AMBIGUOUS
                out.note = "" if len(kept) == 1 else _several(len(kept), "entities of this title")
                self.done[item].append(out)
        self.left = left

    def _restrict(self, item: int, candidates: Sequence[int]) -> list[int]:
        """Candidates that year and creator allow, and of these the ones they speak for most."""
        items, entities = self.pool.items, self.pool.entities
        kept = list(candidates)
        if creators := items.creators.get(item):
            kept = [e for e in kept if e not in entities.creators or creators & entities.creators[e]]
            kept = [e for e in kept if e in entities.creators] or kept
        items.title(item)  # its year may stand in its name
        if year := int(items.years[item]):
            best: dict[int, list[int]] = defaultdict(list)
            for entity in kept:
                entities.title(entity)
                other = int(entities.years[entity])
                apart = abs(other - year)
                if not other:
                    best[2].append(entity)
                elif apart <= self.options.year_slack:
                    best[1 if apart else 0].append(entity)
            kept = best[min(best)] if best else []
        return kept

    # -- nearly equal names --------------------------------------------------------------------------------------
    def by_likeness(self, tell: Callable[[int], None]) -> None:
        """The most alike of the names, if it stands out."""
        from kgkit.align.fuzzy import near

        assert self._keys is not None
        items, entities, options = self.pool.items, self.pool.entities, self.options
        named = np.array([row for row in self.left if items.title(row).key], dtype=np.int64)
        keys = pa.array([items.title(row).key for row in named.tolist()], pa.string())
        slack, years, eligible = options.year_slack, (items.years, entities.years), self.pool.eligible

        def allowed(item: Ints, entity: Ints) -> Bools:
            one, other = years[0][named[item]], years[1][eligible[entity]]
            return np.asarray((one == 0) | (other == 0) | (np.abs(one - other) <= slack))

        lowest = max(0.0, options.min_score - max(REVIEW_BAND, options.min_margin))
        pairs = near(keys, self._keys, allowed, lowest, tell)
        by_item: dict[int, list[tuple[int, float]]] = defaultdict(list)
        for item, entity, score in zip(
            named[pairs.item].tolist(),
            eligible[pairs.entity].tolist(),
            pairs.score.tolist(),
            strict=True,
        ):
            known, others = items.creators.get(item), entities.creators.get(entity)
            if not (known and others and not known & others):
                by_item[item].append((entity, score))
        left = []
        for row in self.left:
            if row not in by_item or by_item[row][0][1] < options.min_score - REVIEW_BAND:
                left.append(row)
            else:
                item = items.ids[row].as_py()
                self.done[item] = [self._likely(item, row, by_item[row])]
        self.left = left

    def _likely(self, item: str, row: int, found: list[tuple[int, float]]) -> Row:
        entities, options = self.pool.entities, self.options
        (entity, score), *others = found
        out = self._row(item, row, entity, entities.ids[entity].as_py(), FUZZY)
        out.score, out.margin = score, score
        if others:
            out.runner_up, out.runner_up_name = (
                entities.ids[others[0][0]].as_py(),
                entities.name(others[0][0]),
            )
            out.margin = score - others[0][1]
        if out.margin < options.min_margin:
            out.status = AMBIGUOUS
            out.note = f"the next is nearer than {options.min_margin:g} points"
        elif score < options.min_score:
            out.status, out.note = REVIEW, f"less alike than {options.min_score:g} points"
        else:
            out.status = ACCEPTED
        return out

    # -- the table -----------------------------------------------------------------------------------------------
    def _row(self, item: str, row: int | None, place: int | None, entity: str, method: str) -> Row:
        """A row with both names, and the likeness of these."""
        out = Row(item, entity, method=method)
        if row is not None:
            out.item_name = self.pool.items.name(row)
        if place is not None:
            out.entity_name = self.pool.entities.name(place)
        if method in (LINKAGE, LINKAGE_TITLE) and out.item_name and out.entity_name:
            from rapidfuzz import fuzz

            assert row is not None and place is not None
            one, other = self.pool.items.title(row).key, self.pool.entities.title(place).key
            out.score = float(fuzz.ratio(one, other))
        return out

    def close(self) -> None:
        """Gives each entity to one item at most, and lists what found none."""
        claims: dict[str, list[Row]] = defaultdict(list)
        for rows in self.done.values():
            for row in rows:
                if row.status in (ACCEPTED, REVIEW):
                    claims[row.entity].append(row)
        item_of = {entity: item for item, entity in self.pool.entity_of.items()}
        leaving = {r.item: r.entity for rows in claims.values() for r in rows if r.status == ACCEPTED}
        for entity, rows in claims.items():
            holder = item_of.get(entity)
            if holder is not None and leaving.get(holder, entity) == entity:
                _lose((r for r in rows if r.item != holder), f"the entity is item {holder} already")
            elif len(rows) > 1:
                _lose(_losers(rows), f"items {', '.join(r.item for r in rows[:LISTED])} want this entity")
        out = self.proposal
        for rows in self.done.values():
            out.rows += rows
        for place in self.left:
            name = self.pool.items.name(place)
            note = self.why.get(place, "") if name else "the item has no name: ingest its features"
            out.rows.append(Row(self.pool.items.ids[place].as_py(), item_name=name, note=note))
        out.rows.sort(key=lambda r: (STATUSES.index(r.status), _RANK.get(r.method, 9), -(r.score or 0.0)))


def _losers(rows: list[Row]) -> Iterable[Row]:
    """All but the one that is surest (accepted before review, then by method, then a linked entity of its very title);
    all if that is not one."""

    def doubt(row: Row) -> tuple[bool, int]:
        return row.status == REVIEW, _RANK[row.method]

    best = min(map(doubt, rows))
    surest = [r for r in rows if doubt(r) == best]
    if len(surest) > 1 and best == (False, 0):
        surest = [r for r in surest if r.score == 100.0]
    return [r for r in rows if len(surest) != 1 or r is not surest[0]]


def _lose(rows: Iterable[Row], note: str) -> None:
    for row in rows:
        row.status, row.note = AMBIGUOUS, note


def _several(count: int, what: str) -> str:
    more = f", {LISTED} shown" if count > LISTED else ""
    return f"{count} {what}{more}: write accepted at one"
