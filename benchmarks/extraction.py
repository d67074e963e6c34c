"""Facts from a graph database into torch tensors: kgkit's bulk Cypher beside a plain loop over records.

python -m benchmarks.extraction [--store neo4j-managed]
"""

from __future__ import annotations

import torch

from benchmarks import graphs
from benchmarks.common import Report, empty_store, gib, median, parser, peak_memory, rate, say, server, timed
from kgkit.extract import extract
from kgkit.server import ServerInfo
from kgkit.store.port import GraphStore

LOOP = (
    "MATCH (h:Entity)-[f:FACT]->(t:Entity) "
    "RETURN h.id AS head, f.relation AS relation, t.id AS tail LIMIT {limit}"
)
Tensors = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def bulk(store: GraphStore) -> Tensors:
    """Head, relation and tail, int64, by the adapter; the node index that gives dense ends included."""
    index = store.node_index("Entity")
    edges = store.edges("FACT", index, index, properties=("rid",))
    return (
        torch.from_numpy(edges.source),
        torch.from_numpy(edges.columns["rid"]),
        torch.from_numpy(edges.target),
    )


def plain_loop(store: GraphStore, info: ServerInfo | None, limit: int) -> Tensors:
    """The same as people write it: one record at a time, ids counted up in a dict."""
    dense: dict[str, int] = {}
    relations: dict[str, int] = {}
    head, relation, tail = [], [], []
    query = LOOP.format(limit=limit)
    if info is None:
        for h, r, t in store.query(query).rows:
            head.append(dense.setdefault(h, len(dense)))
            relation.append(relations.setdefault(r, len(relations)))
            tail.append(dense.setdefault(t, len(dense)))
    else:
        import neo4j

        with (
            neo4j.GraphDatabase.driver(info.uri, auth=(info.username, info.password())) as driver,
            driver.session() as session,
        ):
            for record in session.run(query):
                head.append(dense.setdefault(record["head"], len(dense)))
                relation.append(relations.setdefault(record["relation"], len(relations)))
                tail.append(dense.setdefault(record["tail"], len(dense)))
    return torch.tensor(head), torch.tensor(relation), torch.tensor(tail)


def main() -> None:
    p = parser(__doc__, repeats=5, store=True)
    p.add_argument("--facts", type=int, default=5_000_000)
    p.add_argument("--entities", type=int, default=1_000_000)
    p.add_argument("--relations", type=int, default=50)
    p.add_argument("--loop-facts", type=int, default=500_000, help="facts that the plain loop reads")
    args = p.parse_args()
    n, slice_ = args.facts, min(args.facts, args.loop_facts)
    report = Report(
        f"Extraction of {n:,} facts among {args.entities:,} entities, {args.store}",
        ["what", "facts", "median s", "facts/s", "times the loop"],
    )
    with server(args.store) as info, empty_store(args.store) as store:
        say("filling the store ..")
        store.upsert_nodes("Entity", graphs.entities(args.entities, items=args.entities // 20))
        store.upsert_edges("FACT", graphs.facts(n, args.entities, args.relations))
        index = store.node_index("Entity")
        jobs = {
            "plain loop over records": (slice_, lambda: plain_loop(store, info, slice_)),
            "node index and facts into tensors": (n, lambda: bulk(store)),
            "of that: the facts": (n, lambda: store.edges("FACT", index, index, properties=("rid",))),
            "of that: the node index": (args.entities, lambda: store.node_index("Entity")),
            "whole training graph, sorted and distinct": (n, lambda: extract(store)),
        }
        seconds: dict[str, list[float]] = {name: [] for name in jobs}
        for repeat in range(args.repeats):
            for name, (rows, work) in jobs.items():
                seconds[name].append(timed(work)[0])
                say(f"{repeat + 1}/{args.repeats} {name}: {rate(rows / seconds[name][-1])}")
        loop = slice_ / median(seconds["plain loop over records"])
        for name, (rows, _) in jobs.items():
            s = median(seconds[name])
            times = f"{rows / s / loop:.1f}" if rows == n and rows != slice_ else ""
            report.add(name, f"{rows:,}", s, rate(rows / s), times)
    report.notes.append(f"Peak memory of the client: {gib(peak_memory())}, the generated tables included.")
    report.print(args.json)


if __name__ == "__main__":
    main()
