"""Which nodes of a graph are items: those with an `item_id`, be they entities or the stubs of items without one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from kgkit.schema import ITEM_PREFIX

if TYPE_CHECKING:
    from kgkit.store.port import GraphStore


def item_nodes(store: GraphStore, *properties: str) -> pa.Table:
    """The items: columns id, item_id and `properties` (string [N] each)."""
    schema = pa.schema([(name, pa.string()) for name in ("id", "item_id", *properties)])
    found = [schema.empty_table()]
    for table in store.read_nodes("Entity", schema.names[1:], having="item_id"):
        found.append(table.cast(schema))
    return pa.concat_tables(found).combine_chunks()


def is_stub(nodes: pa.Table) -> pa.ChunkedArray:
    """bool [N]: which nodes (columns id, item_id) stand for an item that no alignment names."""
    stubs = pc.binary_join_element_wise(ITEM_PREFIX, nodes["item_id"], "")
    return pc.fill_null(pc.equal(nodes["id"], stubs), False)
