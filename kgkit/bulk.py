"""The bulk road: which graphs take it, and how an ingest gets onto it.

What an ingest writes is gathered in an embedded graph first, whose own upserts and `align` do what they always do; in
the end that graph is loaded at once. So `kgkit copy` and `kgkit ingest` take one and the same road.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from kgkit.errors import ConfigError, RetryableStoreError, StoreError

if TYPE_CHECKING:
    from kgkit.store.port import BulkLoader, GraphStore

MODES = ("auto", "always", "never")
PAYS_FROM = 1_000_000  # relationships: importer and restart take 20 s, in which Bolt writes 0.5M to 1M
LEAST_BYTES = (
    4  # of a file for a relationship, compressed as it may be: what is smaller cannot hold PAYS_FROM
)


def chosen(target: GraphStore, relationships: int | None, bulk: str) -> tuple[BulkLoader | None, str]:
    """The loader to use, None for the live road; and why, in a few words, where people may want to know.

    relationships: how many there are, None for unknown. Raises ConfigError for an unknown mode, StoreError when
    "always" cannot be had.
    """
    if bulk not in MODES:
        raise ConfigError(f"--bulk {bulk!r}: say {', '.join(MODES[:-1])} or {MODES[-1]}")
    if bulk == "never":
        return None, ""
    loader = target.bulk_loader
    refusal = "it is no Neo4j that kgkit runs" if loader is None else loader.refusal()
    if refusal or loader is None:
        if bulk == "always":
            raise StoreError(
                f"--bulk always: {target.uri} cannot be loaded by Neo4j's offline importer, as {refusal}; leave the "
                "option out, or give an empty neo4j-managed"
            )
        return None, ""
    if bulk == "always":
        return loader, "as --bulk always says"
    if relationships is not None and relationships < PAYS_FROM:
        return (
            None,
            f"{relationships:,} relationships: over Bolt, as the offline importer pays from {PAYS_FROM:,}",
        )
    many = "" if relationships is None else f" and there are {relationships:,} relationships"
    return loader, f"as the graph is empty{many}"


def relationships(store: GraphStore) -> int:
    """How many a graph holds, of all types."""
    return sum(store.stats()["relationships"].values())


def may_pay(files: Iterable[Path]) -> bool:
    """Whether files could hold PAYS_FROM relationships; what is no plain file, such as a pipe, could."""
    total = 0
    for path in files:
        if not path.is_file():
            return True
        total += path.stat().st_size
    return total >= PAYS_FROM * LEAST_BYTES


@contextmanager
def bulk_road(
    store: GraphStore, files: Iterable[Path], bulk: str, say: Callable[[str], None]
) -> Iterator[GraphStore]:
    """Gives the store that an ingest of `files` writes into: `store` itself, or a graph that goes into it in the end.

    Nothing of that graph reaches `store` after an exception or a kill: it waits on disk, and the next ingest into
    `store`, if that is still empty, goes on in it. Its end is `copy_graph`, which counts and chooses once more.
    Raises what `chosen` does; RetryableStoreError when another process is gathering for the same server.
    """
    from kgkit.copy import copy_graph
    from kgkit.store.gathering import GatheringStore

    road, why = chosen(store, None, bulk)
    loader = store.bulk_loader
    left = loader is not None and _waiting(loader).exists()
    if loader is None or road is None or not (left or bulk == "always" or may_pay(files)):
        if loader is not None and left:
            store.ensure_schema()  # a kill after the load's last step but for this would leave it out
            _discard(loader)
            say("discarded what an interrupted bulk load had gathered")
        yield store
        return
    _waiting(loader).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    gone_on = "going on with what an interrupted ingest had gathered, " if left else ""
    say(f"{gone_on}gathering an embedded graph for Neo4j's offline importer, {why} (--bulk never avoids it)")
    with GatheringStore(_waiting(loader)) as gathered:
        try:
            yield gathered
        except BaseException:
            say(f"nothing is in {store.uri} yet: what was gathered waits for the same command again")
            raise
        copy_graph(gathered, store, bulk=bulk, say=say)
    _discard(loader)


def _waiting(loader: BulkLoader) -> Path:
    return loader.folder / "gathered" / "graph.lbug"


def _discard(loader: BulkLoader) -> None:
    """Removes what was gathered; its files go at once, as the engine would mistake those that a kill leaves behind."""
    from kgkit.store.open import open_store

    try:
        open_store(_waiting(loader)).close()
    except RetryableStoreError:
        raise RetryableStoreError(
            f"another process gathers a bulk load in {_waiting(loader)}: let it end first"
        ) from None
    except StoreError:
        pass  # spoilt, and not wanted
    folder = _waiting(loader).parent
    gone = folder.with_name("discarded")
    shutil.rmtree(gone, ignore_errors=True)
    folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)
