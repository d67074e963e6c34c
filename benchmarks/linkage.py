"""How much a wrong linkage costs: recommenders on MovieLens-100K with its films linked rightly, and as published.

    python -m benchmarks.linkage [--seeds 5] [--epochs 15]

The published `.link` gives nearly every item another film's entity. Both graphs hold the same purchases (ratings of 4 and
more), the same facts and the same items under the same ids, so that a seed makes the same split and the same negatives
in both: differences are paired. The classics know purchases only; they show that nothing else differs.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa

from benchmarks.common import Report, empty_store, parser, say
from kgkit.config import make_config
from kgkit.pipeline import TrainOptions, train
from kgkit.records import Alignments, Facts, Purchases
from kgkit.registry import load_connector
from kgkit.store.port import GraphStore

LINKAGES = ("as-published", "movielens-100k")
MODELS = ("kgcn", "kgnn_ls")
CLASSICS = ("popularity", "itemknn", "ease")
METRICS = ("auc", "recall@20", "ndcg@20")
# The demo's: found on the validation part of this data, with the linkage as published.
SETTINGS = {"dim": 32, "batch_size": 1024, "learning_rate": 0.01, "select": "recall@20"}
T_95 = {
    2: 12.706,
    3: 4.303,
    4: 3.182,
    5: 2.776,
    6: 2.571,
    7: 2.447,
    8: 2.365,
    9: 2.306,
    10: 2.262,
}  # by pairs


def load(store: GraphStore, folder: Path, link: str) -> int:
    """The graph, every item under an id of its own number; returns how many items have facts."""
    connector = load_connector("recbole")()
    config = make_config(connector.Config, {"paths": (folder,), "min_rating": 4.0, "link": link})
    facts, bought, entity_of = [], [], dict[str, str]()
    for record in connector.read(config):
        if isinstance(record, Facts):
            facts.append(record.table)
        elif isinstance(record, Purchases):
            bought.append(record.table)
        elif isinstance(record, Alignments):
            entity_of |= dict(
                zip(record.table["item"].to_pylist(), record.table["entity"].to_pylist(), strict=True)
            )
    purchases = pa.concat_tables(bought)
    items = sorted(set(purchases["item"].to_pylist()))
    node = {entity: f"film.{int(item):04}" for item, entity in entity_of.items() if item in set(items)}
    triples = pa.concat_tables(facts)
    ends = {end: [node.get(e, e) for e in triples[end].to_pylist()] for end in ("head", "tail")}
    told = pa.table({**ends, "relation": triples["relation"]})
    store.upsert_edges("FACT", told, missing="create")
    store.align(pa.table({"item": items, "entity": [f"film.{int(i):04}" for i in items]}))
    users = purchases["user"].to_pylist()
    store.upsert_nodes("User", pa.table({"id": sorted(set(users))}))
    edges = {"head": users, "tail": [f"film.{int(i):04}" for i in purchases["item"].to_pylist()]}
    n = len(users)
    store.upsert_edges("PURCHASED", pa.table({**edges, "source": ["ml-100k"] * n, "count": [1] * n}))
    return len(set(node.values()) & {*ends["head"], *ends["tail"]})


def interval(values: Iterable[float]) -> tuple[float, float]:
    """The mean, and half of its 95 % interval (Student's t)."""
    found = list(values)
    if len(found) < 2:
        return found[0], math.nan
    spread = statistics.stdev(found) / math.sqrt(len(found))
    return statistics.fmean(found), T_95[len(found)] * spread


def main() -> None:
    p = parser(__doc__, repeats=5, flags=("--seeds", "--repeats"))
    p.add_argument("--epochs", type=int, default=15, help="of the graph's models (default 15)")
    options = p.parse_args()
    if not 2 <= options.repeats <= max(T_95):
        raise SystemExit(f"--seeds {options.repeats}: 2 to {max(T_95)}")
    results: dict[tuple[str, str], list[dict[str, float]]] = {}
    linked = {}
    with ExitStack() as stack:
        runs = Path(stack.enter_context(TemporaryDirectory(prefix="kgkit-bench-")))
        stores = {link: stack.enter_context(empty_store("ladybug")) for link in LINKAGES}
        for link, store in stores.items():
            linked[link] = load(store, options.data / "ml-100k", link)
        for seed in range(options.repeats):
            for name in (*CLASSICS, *MODELS):
                settings = {"seed": seed} | (SETTINGS | {"epochs": options.epochs} if name in MODELS else {})
                for link, store in stores.items():
                    how = TrainOptions(runs=runs / link, write_back=False)
                    test = train(store, name, settings, how).record["metrics"]["test"]
                    results.setdefault((name, link), []).append(test)
                    say(f"seed {seed}, {name}, {link}: " + ", ".join(f"{m} {test[m]:.4f}" for m in METRICS))
    report = Report(
        "MovieLens-100K, its films linked as published and rightly",
        [
            "model",
            "metric",
            "as published",
            "right",
            "right - published",
            "95 % within +-",
            "right / published",
        ],
    )
    for name in (*MODELS, *CLASSICS):
        for metric in METRICS:
            wrong, right = ([m[metric] for m in results[name, link]] for link in LINKAGES)
            change, half = interval(r - w for r, w in zip(right, wrong, strict=True))
            before, after = statistics.fmean(wrong), statistics.fmean(right)
            cells = (
                f"{before:.4f}",
                f"{after:.4f}",
                f"{change:+.4f}",
                f"{half:.4f}",
                f"{after / before:.3f}",
            )
            report.add(name, metric, *cells)
    report.notes.append(
        f"Means of {options.repeats} seeds, one split a seed for both; items with facts: "
        + ", ".join(f"{n:,} {link}" for link, n in linked.items())
        + f"; models: {SETTINGS}, {options.epochs} epochs, else their defaults."
    )
    report.print(options.json)


if __name__ == "__main__":
    main()
