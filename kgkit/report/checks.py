"""What in a graph deserves a second look before anybody trains on it, and what to do about each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kgkit.align.audit import SHUFFLED
from kgkit.report.figures import EXAMPLES, GraphFigures, ItemExample
from kgkit.report.relations import HUB_FACTS, HUB_SHARE, Hub

_OUT = (
    "Leave it out of training with `kgkit train --triples-query`, or take it out of the file and ingest that again "
    "into a new graph."
)


@dataclass(frozen=True)
class Finding:
    """A warning: what was seen, what to do about it, and examples as rows of a table, of `total`."""

    title: str
    advice: str
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[Any, ...], ...] = ()
    total: int = 0


def findings(f: GraphFigures) -> list[Finding]:
    """The warnings of a graph, those that spoil most first. None for a graph that is empty."""
    return [
        *_missing(f), *_alignment(f), *_relations(f), *_users(f),
    ]  # fmt: skip


def _missing(f: GraphFigures) -> list[Finding]:
    found = []
    if f.counts["nodes"]["Entity"] + f.counts["nodes"]["User"] == 0:
        return []
    if not f.coverage.purchases:
        found.append(
            Finding(
                "No purchases",
                "Nothing can be recommended from: `kgkit ingest purchases FILE` (or recbole, kgcn).",
            )
        )
    if not f.relations:
        found.append(
            Finding(
                "No facts", "There is no knowledge graph yet: `kgkit ingest triples FILE` (or recbole, kgcn)."
            )
        )
    if f.facts_without_relation:
        found.append(
            Finding(
                f"{_n(f.facts_without_relation, 'fact')} not written by kgkit",
                "They have no rid, so this page leaves them out, and training may refuse them. Delete them "
                "(`MATCH ()-[r:FACT]->() WHERE r.rid IS NULL DELETE r`) and ingest them.",
            )
        )
    if f.bought_without_item_id:
        found.append(
            Finding(
                f"{_n(f.bought_without_item_id, 'entity', 'entities')} bought and without an item_id",
                "They were not written by `kgkit ingest purchases`, and no alignment will find them: set their "
                "item_id, or ingest the purchases again.",
            )
        )
    return found


def _alignment(f: GraphFigures) -> list[Finding]:
    found, c = [], f.coverage
    if f.audit is not None and f.audit.verdict == SHUFFLED:
        said, beside = f.audit.table_of_agreements()
        found.append(
            Finding(
                "Aligned items and entities agree no more than shuffled ones do",
                f"Of {f.audit.compared:,} items compared, nothing that they say of themselves goes together with what the "
                f"facts say better than in {f.audit.shuffles:,} alignments drawn by lot. Are both sides' ids of the same "
                "edition? Look at a few pairs by hand; `kgkit align --realign` proposes others by title, and `kgkit align "
                "--audit` judges again. (If attributes and facts speak of nothing common, such as stock and cast, "
                "this says nothing.)",
                tuple(said), tuple(map(tuple, beside)), len(beside),
            )
        )  # fmt: skip
    if c.stubs and f.relations:
        lost = c.purchases - c.purchases_with_entity
        found.append(
            Finding(
                f"{_n(c.stubs, 'item')} of {c.items:,} not aligned with an entity",
                f"Their {_n(lost, 'purchase')} ({_share(lost, c.purchases)}) teach a model nothing through the graph. "
                "Align them: `kgkit ingest alignment FILE` with columns item, entity.",
            )
        )
    aligned_bare = c.with_entity - c.with_facts
    if aligned_bare > 0 and f.relations:
        found.append(
            Finding(
                f"{_n(aligned_bare, 'aligned item')} whose entity no fact mentions",
                "Either the alignment names ids of another version of the knowledge graph, or their facts were "
                "filtered away. Compare the ids in the alignment with those in the facts.",
                *_items([e for e in f.without_facts_examples if not e.id.startswith("item:")]),
                aligned_bare,
            )
        )
    if f.twins:
        rows = tuple(
            (t.name, len(t.items), ", ".join(f"{i.id} ({i.users:,})" for i in t.items))
            for t in f.twin_examples
        )
        found.append(
            Finding(
                f"{_n(f.twins, 'name')} that several items bear",
                "Equal but for case, accents and punctuation. If they are one thing, its purchases are split: join "
                "the item ids in the purchase log and ingest it again. If not (remakes, editions), put the year or "
                "edition into the name, or title matching will call them ambiguous.",
                ("name", "items", "ids (users who bought)"), rows, f.twins,
            )
        )  # fmt: skip
    if f.unnamed:
        found.append(
            Finding(
                f"{_n(f.unnamed, 'item')} without a name",
                "Nobody can read their recommendations, and title matching cannot align them: "
                "`kgkit ingest features FILE --of item` with a column name.",
                *_items(f.unnamed_examples), f.unnamed,
            )
        )  # fmt: skip
    return found


def _relations(f: GraphFigures) -> list[Finding]:
    found, finds = [], f.finds
    if finds.inverses_total:
        rows = tuple((i.relation, i.facts, i.inverse, i.inverse_facts, i.matched) for i in finds.inverses)
        found.append(
            Finding(
                f"{_n(finds.inverses_total, 'pair')} of relations that say the same in both directions",
                "For completion, remove one of each pair (UPGAN, section 5.1), or a test fact stands reversed in the "
                "training part. For recommendation over undirected neighbours it only doubles the weight of these "
                "facts. A relation paired with itself is symmetric.",
                ("relation", "facts", "reversed", "its facts", "facts in both"), rows, finds.inverses_total,
            )
        )  # fmt: skip
    if finds.hubs_total:
        found.append(
            Finding(
                f"{_n(finds.hubs_total, 'hub')}: entities in more than {HUB_SHARE:.0%} of a relation's facts",
                f"(Relations of {HUB_FACTS} facts and more.) Paths through a hub join nearly everything to nearly "
                "everything, so a second hop is mostly noise. Leave the relation out with `kgkit train "
                "--triples-query`, or train with fewer hops.",
                *_hubs(finds.hubs), finds.hubs_total,
            )
        )  # fmt: skip
    if finds.one_tail_total:
        found.append(
            Finding(
                f"{_n(finds.one_tail_total, 'relation')} with a single tail",
                f"It says the same of every head, so it tells nothing apart. {_OUT}",
                *_hubs(finds.one_tail), finds.one_tail_total,
            )
        )  # fmt: skip
    single = [r.name for r in f.relations if r.facts == 1]
    if single:
        found.append(
            Finding(
                f"{_n(len(single), 'relation')} with a single fact",
                f"A relation's vector cannot be learned from one fact, and a split leaves its test fact unseen. {_OUT}",
                ("relation",), tuple((name,) for name in single[:EXAMPLES]), len(single),
            )
        )  # fmt: skip
    if f.self_facts:
        found.append(
            Finding(
                f"{_n(f.self_facts, 'fact')} of an entity with itself",
                "Usually an id that was mapped twice. Look at them: "
                "`MATCH (e:Entity)-[f:FACT]->(e) RETURN e.id, f.relation`.",
            )
        )
    return found


def _users(f: GraphFigures) -> list[Finding]:
    found = []
    once = dict(zip(f.items_per_user.degree, f.items_per_user.nodes, strict=True)).get(1, 0)
    if once:
        buyers = sum(f.items_per_user.nodes)
        found.append(
            Finding(
                f"{_n(once, 'user')} of {buyers:,} with one item only",
                "A split gives such a user either nothing to learn from or nothing to test on. The papers keep users "
                "with at least 5 or 10 items (UPGAN, section 5.1); filter the log before ingesting it.",
            )
        )
    if f.items_per_user.zero and f.coverage.purchases:
        found.append(
            Finding(
                f"{_n(f.items_per_user.zero, 'user')} without purchases",
                "They come from attributes alone; training leaves them out. Ingest their purchases if there are any.",
            )
        )
    return found


def _items(examples: list[ItemExample]) -> tuple[tuple[str, ...], tuple[tuple[Any, ...], ...]]:
    return ("id", "name", "users who bought"), tuple((i.id, i.name, i.users) for i in examples)


def _hubs(hubs: list[Hub]) -> tuple[tuple[str, ...], tuple[tuple[Any, ...], ...]]:
    columns = ("relation", "side", "entity", "name", "facts", "share")
    return columns, tuple((h.relation, h.side, h.id, h.name, h.facts, f"{h.share:.0%}") for h in hubs)


def _n(count: int, one: str, many: str | None = None) -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "0 %"
