"""All Cypher that the Neo4j adapter sends: named constants, and builders where a name has to be spelled out.

Values travel as parameters; names go through `kgkit.schema.identifier`. `id()` is deprecated but is what makes bulk work
fast, and is used within one extraction or write only. Rates are rows a second on two cores, server and client together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kgkit.schema import PACKED, identifier, vector_property

MISSING_INT = -(
    2**63
)  # stands for null in collected integers: collect() leaves nulls out, which would shift columns

# -- schema ------------------------------------------------------------------------------------------------------

# Without a constraint every MERGE scans its label.
CONSTRAINT = "CREATE CONSTRAINT {name} IF NOT EXISTS FOR (n:{label}) REQUIRE n.{prop} IS UNIQUE"
CONSTRAINTS = "SHOW CONSTRAINTS YIELD name WHERE name STARTS WITH 'kgkit_' RETURN name"
LEFTOVER_INDEX = (
    "SHOW INDEXES YIELD name, owningConstraint WHERE name = $name AND owningConstraint IS NULL RETURN name"
)
DROP_INDEX = "DROP INDEX {name} IF EXISTS"
AWAIT_INDEXES = "CALL db.awaitIndexes(600)"
# Settings of the graph; what is stored wins, so that two processes agree.
SETTING = "MERGE (k:Kgkit {id: $id}) ON CREATE SET k.value = $value RETURN k.value AS value"
CHANGE_SETTING = "MATCH (k:Kgkit {id: $id}) SET k.value = $value"
SETTINGS = "MATCH (k:Kgkit) RETURN k.id AS id, k.value AS value"
# One writer of relationships at a time: the lock lasts as long as the transaction that runs this, and leaves no trace.
LOCK_WRITER = "MATCH (k:Kgkit {id: 'schema'}) SET k.lock = true REMOVE k.lock"
# What a bulk load would throw away: nodes that are not our settings, indexes that are not ours. From the count store.
COUNT_FOREIGN = (
    "MATCH (n) WITH count(n) AS every OPTIONAL MATCH (k:Kgkit) WITH every, count(k) AS own "
    "RETURN every - own AS n"
)
FOREIGN_INDEXES = (
    "SHOW INDEXES YIELD name, type WHERE type <> 'LOOKUP' AND NOT name STARTS WITH 'kgkit_' RETURN name"
)
# What is left running of a job whose connection broke.
UNFINISHED = "SHOW TRANSACTIONS YIELD metaData WHERE metaData.kgkit = $job RETURN count(*) AS unfinished"

# -- nodes -------------------------------------------------------------------------------------------------------

# The key map, 2.8M/s: chunks of lists instead of rows. A node without an id is not kgkit's.
KEY_MAP = (
    "MATCH (n:{label}) WHERE n.id IS NOT NULL AND n.{having} IS NOT NULL "
    "WITH id(n) / 20000 AS chunk, collect(id(n)) AS handles, collect(n.id) AS keys RETURN handles, keys"
)
# The same for few keys of a large label, by its constraint's index.
KEY_LOOKUP = (
    "UNWIND $keys AS key MATCH (n:{label} {{id: key}}) "
    "WITH id(n) / 20000 AS chunk, collect(id(n)) AS handles, collect(n.id) AS keys RETURN handles, keys"
)
COUNT_NODES = "MATCH (n:{label}) RETURN count(n) AS n"  # from the count store
COUNT_RELATIONSHIPS = "MATCH ()-[r:{type}]->() RETURN count(r) AS n"  # from the count store
PROPERTY_KEYS = "CALL db.propertyKeys() YIELD propertyKey AS name RETURN name"  # those that were ever used
COUNT_ITEMS = "MATCH (n:Entity) WHERE n.item_id IS NOT NULL RETURN count(n) AS n"
# Which properties a label's nodes have, and of which types.
PROPERTY_TYPES = (
    "MATCH (n:{label}) UNWIND keys(n) AS name "
    "RETURN name, collect(DISTINCT valueType(n[name])) AS types ORDER BY name"
)
DELETE_NODES = "UNWIND $ids AS id MATCH (n:{label} {{id: id}}) DETACH DELETE n"
# In bounded transactions, which the server allows only outside of one: relationships first, as hubs have very many.
CLEAR_RELATIONSHIPS = "MATCH (n:{labels})-[r]->() CALL {{ WITH r DELETE r }} IN TRANSACTIONS OF 20000 ROWS"
CLEAR_NODES = "MATCH (n:{labels}) CALL {{ WITH n DETACH DELETE n }} IN TRANSACTIONS OF 20000 ROWS"

# -- relations ---------------------------------------------------------------------------------------------------

RELATIONS = "MATCH (r:Relation) RETURN r.id AS id, r.rid AS rid"
REGISTER_RELATIONS = "UNWIND $rows AS x MERGE (r:Relation {id: x[0]}) ON CREATE SET r.rid = x[1]"
COUNT_BY_RELATION = "MATCH ()-[r:FACT]->() RETURN r.rid AS rid, count(*) AS n"

# -- answers -----------------------------------------------------------------------------------------------------

RUNS_OF_PLUGIN = "MATCH (r:Run) WHERE r.plugin = $plugin RETURN r.id AS id"
RUN = "MATCH (r:Run {id: $id}) RETURN r.plugin AS plugin, r.current AS current"
RETIRE_RUNS = "MATCH (r:Run) WHERE r.plugin = $plugin SET r.current = false"
WRITE_RUN = "MERGE (r:Run {id: $id}) SET r += $properties, r.current = true"
DELETE_RUN = "MATCH (r:Run {id: $id}) DETACH DELETE r"
# No relationship has the handle of one that is deleted in the same transaction: the first tells old ones from new.
COUNT_ANSWERS = "MATCH ()-[r:{type}]->() WHERE r.run = $run RETURN count(r) AS n, min(id(r)) AS first"
DELETE_ANSWERS = "MATCH ()-[r:{type}]->() WHERE r.run IN $runs DELETE r"
DELETE_WEIGHTS = "MATCH (w:Weights) WHERE w.run IN $runs DELETE w"

# -- vectors -----------------------------------------------------------------------------------------------------

# Stored as 32-bit floats. By handle it costs the server half of what it costs by id.
SET_VECTORS = (
    "UNWIND $rows AS x MATCH (n:{label} {{id: x[0]}}) "
    "CALL db.create.setNodeVectorProperty(n, $prop, x[1]) SET n.{packed} = x[2] RETURN count(n) AS n"
)
SET_VECTORS_BY_HANDLE = (
    "UNWIND $rows AS x MATCH (n:{label}) WHERE id(n) = x[0] "
    "CALL db.create.setNodeVectorProperty(n, $prop, x[1])"
)
SET_PACKED_BY_HANDLE = SET_VECTORS_BY_HANDLE + " SET n.{packed} = x[2]"
VECTOR_SIZES = "MATCH (n:{label}) WHERE n.{prop} IS NOT NULL RETURN DISTINCT size(n.{prop}) AS size"
WITH_VECTOR = (
    "MATCH (n:{label}) WHERE n.{prop} IS NOT NULL AND n.id IS NOT NULL "
    "WITH id(n) / 20000 AS chunk, collect(id(n)) AS handles, collect(n.id) AS keys, "
    "collect(DISTINCT size(n.{prop})) AS sizes RETURN handles, keys, sizes"
)
READ_VECTORS = "UNWIND $handles AS i MATCH (n) WHERE id(n) = i RETURN collect(n.id) AS keys, collect(n.{prop}) AS vectors"
REMOVE_VECTORS = "UNWIND $handles AS i MATCH (n) WHERE id(n) = i REMOVE n.{prop}, n.{packed}"
REMOVE_PROPERTY = "UNWIND $handles AS i MATCH (n) WHERE id(n) = i REMOVE n.{prop}"
VECTOR_INDEXES = (
    "SHOW VECTOR INDEXES YIELD name, state, options WHERE name STARTS WITH 'kgkit_' RETURN name, state, "
    "options['indexConfig']['vector.dimensions'] AS dimensions"
)
CREATE_VECTOR_INDEX = (
    "CREATE VECTOR INDEX {name} IF NOT EXISTS FOR (n:{label}) ON (n.{prop}) OPTIONS {{indexConfig: "
    "{{`vector.dimensions`: $dimensions, `vector.similarity_function`: 'cosine'}}}}"
)
# Neo4j's cosine is (1 + cos) / 2. The index is approximate and quantised: its candidates are scored again exactly.
SIMILAR_BY_INDEX = (
    "MATCH (n:{label} {{id: $id}}) CALL db.index.vector.queryNodes($index, $candidates, n.{prop}) YIELD node "
    "WITH n, node WHERE node <> n AND node.id IS NOT NULL "
    "RETURN node.id AS id, 2 * vector.similarity.cosine(n.{prop}, node.{prop}) - 1 AS cosine "
    "ORDER BY cosine DESC, id LIMIT $k"
)
SIMILAR_BY_SCAN = (
    "MATCH (n:{label} {{id: $id}}) MATCH (m:{label}) WHERE m <> n AND m.id IS NOT NULL "
    "AND size(m.{prop}) = size(n.{prop}) "
    "RETURN m.id AS id, 2 * vector.similarity.cosine(n.{prop}, m.{prop}) - 1 AS cosine "
    "ORDER BY cosine DESC, id LIMIT $k"
)
HAS_VECTOR = "MATCH (n:{label} {{id: $id}}) RETURN n.{prop} IS NOT NULL AS has"

# -- alignment ---------------------------------------------------------------------------------------------------

# Nodes that rows of an alignment speak of: by item_id, by id.
BY_ITEM = "UNWIND $items AS item MATCH (n:Entity {item_id: item}) RETURN item, n.id AS id"
BY_ID = "UNWIND $ids AS id MATCH (n:Entity {id: id}) RETURN id, n.item_id AS item, id(n) AS handle"
NAMES = "UNWIND $ids AS id MATCH (n:Entity {id: id}) RETURN id, n.name, n.entity_name, n.name_of"
SET_NAMES = (
    "UNWIND $rows AS x MATCH (n:Entity {id: x[0]}) SET n.name = x[1], n.entity_name = x[2], n.name_of = x[3]"
)
# A stub whose entity is not there yet becomes the entity: nothing has to move.
RENAME = "UNWIND $rows AS x MATCH (n:Entity {id: x[0]}) SET n.id = x[1], n.item_id = x[2], n:Item"
CREATE_ALIGNED = "UNWIND $rows AS x CREATE (:Entity:Item {id: x[0], item_id: x[1]})"
SET_ITEM = "UNWIND $rows AS x MATCH (n:Entity {id: x[0]}) SET n.item_id = x[1], n:Item"
UNSET_ITEM = "UNWIND $ids AS id MATCH (n:Entity {id: id}) REMOVE n.item_id, n:Item"
# Nodes that an item has left and that hold nothing else.
DELETE_BARE = (
    "UNWIND $ids AS id MATCH (n:Entity {id: id}) WHERE size(keys(n)) = 1 AND labels(n) = ['Entity'] AND NOT (n)--() "
    "DELETE n"
)
RELATIONSHIPS_OF = (
    "UNWIND $handles AS i MATCH (s) WHERE id(s) = i MATCH (s)-[r]-() WITH DISTINCT r "
    "RETURN id(startNode(r)) AS source, id(endNode(r)) AS target, type(r) AS type, properties(r) AS properties"
)
# The stub's properties as an upsert would write them, but for its id and names. It goes first: item_id is unique.
FOLD_PROPERTIES = (
    "UNWIND $rows AS x MATCH (s) WHERE id(s) = x[0] MATCH (n) WHERE id(n) = x[1] "
    "WITH s, n, properties(s) AS more, n {.id, .name, .entity_name, .name_of} AS kept "
    "DETACH DELETE s SET n += more, n += kept"
)


def vector_index(label: str, prop: str) -> str:
    """Name of the vector index of a property, unquoted."""
    return f"kgkit_{label}_{prop}"


def vectors_at(prop: str, relation: str | None, side: str, bias: str | None, native: bool) -> str:
    """The vectors of one of $parts, packed ones first, as one list: a row a vector costs the driver more than it.

    Fetched like this they are compared in less time than the server's own functions take. Those at an end of $relation,
    or all for None.
    """
    observed = ""
    if relation is not None:
        type_, where = (identifier(relation), "") if native else ("FACT", "WHERE f.relation = $relation ")
        fact = "(:Entity)-[f:{}]->(n)" if side == "tail" else "(n)-[f:{}]->(:Entity)"
        observed = f"AND EXISTS {{ {fact.format(type_)} {where}}} "
    more = "" if bias is None else f", collect(coalesce(n.{identifier(bias)}[0], $nan)) AS bias"
    # The list is asked for only where there are no bytes: `coalesce` would read both.
    return (
        f"MATCH (n:Entity) WHERE id(n) % $parts = $part {observed}"
        f"WITH n, n.{identifier(vector_property(prop, PACKED))} AS p "
        f"WITH n, n.id AS id, CASE WHEN p IS NULL THEN n.{identifier(prop)} ELSE p END AS v "
        "WHERE id IS NOT NULL AND v IS NOT NULL "
        f"RETURN collect(id) AS ids, collect(v) AS vectors{more}"
    )


def upsert_nodes(label: str, properties: Sequence[str], nullable: Sequence[str], item: bool) -> str:
    """Rows [id, property..]: 57k-73k/s new, 177k/s when all exist. A null in a `nullable` property leaves what is stored."""
    assign = []
    for i, name in enumerate(properties, start=1):
        quoted = identifier(name)
        assign.append(f"n.{quoted} = " + (f"coalesce(x[{i}], n.{quoted})" if name in nullable else f"x[{i}]"))
    text = f"UNWIND $rows AS x MERGE (n:{identifier(label)} {{id: x[0]}})"
    if assign:
        text += " SET " + ", ".join(assign)
    if item:  # the convenience label of entities that are items
        text += " FOREACH (_ IN CASE WHEN n.item_id IS NULL THEN [] ELSE [1] END | SET n:Item)"
    return text


def create_edges(type: str, row: Sequence[str], constant: Sequence[str]) -> str:
    """Rows [source handle, [[target handle, property..]..]]; properties that never differ come as `$c0`..: 45k-50k/s.

    Grouped by source, so that each source is found and locked once. Not idempotent.
    """
    values = [f"{identifier(name)}: y[{i}]" for i, name in enumerate(row, start=1)]
    values += [f"{identifier(name)}: $c{i}" for i, name in enumerate(constant)]
    properties = f" {{{', '.join(values)}}}" if values else ""
    return (
        "UNWIND $rows AS x MATCH (a) WHERE id(a) = x[0] UNWIND x[1] AS y MATCH (b) WHERE id(b) = y[0] "
        f"CREATE (a)-[:{identifier(type)}{properties}]->(b)"
    )


def update_edges(type: str, properties: Sequence[str]) -> str:
    """Rows [relationship handle, property..]; a null leaves what is stored."""
    assign = [
        f"r.{identifier(p)} = coalesce(x[{i}], r.{identifier(p)})" for i, p in enumerate(properties, start=1)
    ]
    return f"UNWIND $rows AS x MATCH ()-[r:{identifier(type)}]->() WHERE id(r) = x[0] SET {', '.join(assign)}"


def merge_edges(type: str, key: Sequence[str]) -> str:
    """Rows [source handle, target handle, properties, key..]: for a handful, and where CREATE could double one."""
    keys = ", ".join(f"{identifier(name)}: x[{i}]" for i, name in enumerate(key, start=3))
    return (
        "UNWIND $rows AS x MATCH (a) WHERE id(a) = x[0] MATCH (b) WHERE id(b) = x[1] "
        f"MERGE (a)-[r:{identifier(type)}{f' {{{keys}}}' if keys else ''}]->(b) SET r += x[2]"
    )


def arriving(type: str) -> str:
    """The relationships that end at `$ids`."""
    return (
        f"UNWIND $ids AS id MATCH (n:Entity {{id: id}})<-[r:{identifier(type)}]-(s) "
        "RETURN id, id(s) AS source, properties(r) AS properties"
    )


def delete_arriving(type: str) -> str:
    """The same, deleted."""
    return f"UNWIND $ids AS id MATCH (n:Entity {{id: id}})<-[r:{identifier(type)}]-() DELETE r"


def edge_pattern(kind: str, native: bool) -> str:
    """MATCH of all relationships of a kind. No labels on the ends: with them it is four times slower.

    Facts stored natively are those whose type is among `$relations` ({name: rid}).
    """
    if native:
        return "MATCH (a)-[r]->(b) WHERE $relations[type(r)] IS NOT NULL"
    return f"MATCH (a)-[r:{identifier(kind)}]->(b)"


def edge_columns(properties: Mapping[str, str], native: bool, coded: Sequence[str] = ()) -> list[str]:
    """Expressions for the properties {name: type} of `r`, never null. `coded` strings come as numbers in `$codes_<name>`."""
    out = []
    for name, kind in properties.items():
        if native and name in ("rid", "relation"):
            value = "$relations[type(r)]" if name == "rid" else "type(r)"
        else:
            value = f"r.{identifier(name)}"
        if name in coded:
            out.append(
                f"coalesce($codes_{name}[{value}], CASE WHEN {value} IS NULL THEN $missing ELSE -1 END)"
            )
        elif kind == "int64":
            out.append(f"coalesce({value}, $missing)")
        elif kind == "float64":
            out.append(f"coalesce({value}, $nan)")
        else:
            out.append(f"coalesce({value}, false)")
    return out


def collect_edges(match: str, columns: Sequence[str], parted: bool) -> str:
    """Chunks of lists s, t, c0..: 2M/s for two handles and an integer. `$part` of `$parts`, so that results stay bounded."""
    where = ""
    if parted:
        where = f" {'AND' if ' WHERE ' in match else 'WHERE'} (id(r) / 20000) % $parts = $part"
    lists = "".join(f", collect({column}) AS c{i}" for i, column in enumerate(columns))
    names = "".join(f", c{i}" for i in range(len(columns)))
    return (
        f"{match}{where} WITH id(r) / 20000 AS chunk, collect(id(a)) AS s, collect(id(b)) AS t{lists} "
        f"RETURN s, t{names}"
    )


def out_of(pattern_type: str | None) -> str:
    """MATCH of the relationships that leave `$sources`; None for facts stored natively."""
    from_sources = "UNWIND $sources AS i MATCH (a) WHERE id(a) = i MATCH (a)"
    if pattern_type is None:
        return f"{from_sources}-[r]->(b) WHERE $relations[type(r)] IS NOT NULL"
    return f"{from_sources}-[r:{identifier(pattern_type)}]->(b)"


def around(native: bool) -> str:
    """The facts that touch `$frontier`, each with its handle, once or twice: 3 hops of 16k facts in 0.2 s."""
    pattern, where = ("[r]", " WHERE $relations[type(r)] IS NOT NULL") if native else ("[r:FACT]", "")
    rid = "$relations[type(r)]" if native else "coalesce(r.rid, $missing)"
    return (
        f"UNWIND $frontier AS i MATCH (f) WHERE id(f) = i MATCH (f)-{pattern}-(){where} "
        "WITH id(r) / 20000 AS chunk, collect(id(startNode(r))) AS s, collect(id(endNode(r))) AS t, "
        f"collect({rid}) AS c0, collect(id(r)) AS c1 RETURN s, t, c0, c1"
    )


def read_nodes(properties: Sequence[str]) -> str:
    """Rows of the nodes `$handles` as one list of lists."""
    values = "".join(f", n.{identifier(p)}" for p in properties)
    return f"UNWIND $handles AS i MATCH (n) WHERE id(n) = i RETURN collect([n.id{values}]) AS rows"
