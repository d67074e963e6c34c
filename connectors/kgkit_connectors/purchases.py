"""Purchase logs: CSV, TSV, JSON lines or Parquet, one row an event or a pair of user and item."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from kgkit import Connector, hookimpl, option
from kgkit.records import Kept, Purchases, Record, Skipped
from kgkit.tabular import PASSED, Column, FileOptions, read, seconds

if TYPE_CHECKING:
    import pyarrow as pa

USER = ("user", "user_id", "customer", "customer_id", "client_id", "visitor_id", "member_id", "uid", "u")
ITEM = ("item", "item_id", "product", "product_id", "sku", "asin", "article_id", "artist_id", "movie_id",
        "book_id", "stock_code", "track_id", "business_id", "isbn", "iid", "i")  # fmt: skip
TIME = ("time", "timestamp", "date", "datetime", "event_time", "ordered_at", "purchased_at", "order_date",
        "purchase_date", "invoice_date", "created_at", "ts", "t_dat")  # fmt: skip
TIME_LIKE = r"(time|(?<!up)date)$|_(at|on|ts)$"  # where there is one such column: its time
RATING = ("rating", "stars", "score", "book_rating", "overall")
MOST = 1e12  # of one row: so the sum of nine million rows cannot overflow
COUNT = ("count", "quantity", "qty", "times", "plays", "weight")


class PurchaseLog(Connector):
    """Rows of user, item and optionally time, rating and count."""

    name = "purchases"
    about = "purchase logs: CSV, TSV, JSON lines, Parquet, gzip or zstd of them"

    @dataclass(frozen=True)
    class Config(FileOptions):
        """Options of `kgkit ingest purchases`."""

        user: str | None = option(
            None, "column of the user's id; default: the first of " + ", ".join(USER[:4]) + ".."
        )
        item: str | None = option(
            None, "column of the item's id; default: the first of " + ", ".join(ITEM[:5]) + ".."
        )
        time: str | None = option(
            None, "column of the time; default: the first of " + ", ".join(TIME[:3]) + ".."
        )
        rating: str | None = option(
            None, "column of the rating; default: the first of " + ", ".join(RATING[:3]) + ".."
        )
        count: str | None = option(
            None, "column of the quantity; default: the first of " + ", ".join(COUNT[:3]) + ".."
        )
        refunds: str = option(
            "reject",
            "rows with a negative count: malformed, left out (skip), or taken off what the pair of user and item "
            "bought (net), which is no purchase when nothing is left",
            choices=("reject", "skip", "net"),
        )
        min_rating: float | None = option(None, "leave out rows with a lower rating, or with none")
        since: str | None = option(
            None, "leave out rows before this time (2024-05-31, or seconds since 1970)"
        )
        until: str | None = option(None, "leave out rows at or after this time")
        core: int | None = option(
            None, "k-core: leave out users and items with fewer than K of the other, again and again", ge=1
        )
        min_user_rows: int | None = option(
            None,
            "seed users: leave out users with fewer rows (after the other limits; over a --source's files)",
            ge=1,
        )

    def files(self, config: Config) -> list[Path]:
        """The logs."""
        return list(config.paths)

    def read(self, config: Config) -> Iterator[Record]:
        """Yields Purchases of the rows within rating threshold and time window; then of seed users, then of the k-core.

        Each of the last two needs the rows before it twice: first to count.
        """
        records = partial(self._rows, config)
        if config.min_user_rows is not None:
            records = partial(
                _kept,
                records,
                _active(records(), config.min_user_rows),
                "of users with fewer rows than --min-user-rows",
            )
        if config.core is not None:
            keep, steps = _core(records(), config.core)
            yield from steps
            records = partial(_kept, records, keep, "not in the --core of users and items")
        yield from records()

    def _rows(self, config: Config) -> Iterator[Record]:
        since, until = seconds(config.since, "--since"), seconds(config.until, "--until")
        windowed = since is not None or until is not None
        columns = [
            Column("user", "id", config.user, USER, position=0, optional_row=True),
            Column("item", "id", config.item, ITEM, position=1),
            Column("time", "time", config.time, TIME, required=windowed, nullable=True, like=TIME_LIKE),
            Column(
                "rating",
                "float64",
                config.rating,
                RATING,
                required=config.min_rating is not None,
                nullable=True,
            ),
            Column(
                "count",
                "int64",
                config.count,
                COUNT,
                required=config.refunds != "reject",
                nullable=True,
                ge=1 if config.refunds == "reject" else -MOST,
                le=MOST,
            ),
        ]
        for path in config.paths:
            for found in read(path, columns, config.layout):
                if isinstance(found, PASSED):
                    yield found
                    continue
                if config.refunds != "reject":
                    found, skipped = _without_refunds(found, config.refunds == "net")
                    yield from skipped
                kept = _within(found, "rating", config.min_rating, None)
                if left_out := found.num_rows - kept.num_rows:
                    yield Skipped(left_out, "below --min-rating")
                windowed_rows = _within(kept, "time", since, until)
                if left_out := kept.num_rows - windowed_rows.num_rows:
                    yield Skipped(left_out, "outside --since and --until")
                yield Purchases(windowed_rows)


def _without_refunds(table: pa.Table, net: bool) -> tuple[pa.Table, list[Skipped]]:
    """The rows without those of negative counts or, to net, with these as they are but without time and rating.

    Rows that count nothing (0) are left out.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    count = pc.fill_null(table["count"], 1)
    least = {"none bought (a count of 0)": pc.equal(count, 0)}
    least["refunds, netted" if net else "refunds"] = pc.less(count, 0)
    skipped = [Skipped(n, why) for why, rows in least.items() if (n := pc.sum(rows).as_py())]
    if not net:
        return table.filter(pc.greater(count, 0)), skipped
    bought = pc.greater(count, 0)
    for name in {"time", "rating"} & set(table.column_names):
        column = table[name]
        cells = pc.if_else(bought, column, pa.scalar(None, column.type))
        table = table.set_column(table.column_names.index(name), name, cells)
    return table.filter(pc.not_equal(count, 0)), skipped


def _kept(
    records: Callable[[], Iterator[Record]], keep: Callable[[pa.Table], pa.Table], why: str
) -> Iterator[Record]:
    """The records with the purchases that `keep` keeps; the others are counted."""
    for record in records():
        if not isinstance(record, Purchases):
            yield record
            continue
        kept = keep(record.table)
        if left_out := record.table.num_rows - kept.num_rows:
            yield Skipped(left_out, why)
        yield Purchases(kept)


def _active(records: Iterator[Record], least: int) -> Callable[[pa.Table], pa.Table]:
    """The filter for rows of users with at least so many: KQGC's seed users (section 3.3.1), picked by activity."""
    import pyarrow.compute as pc

    rows = _grouped(records, ["user"])
    users = rows.filter(pc.greater_equal(rows["rows"], least))["user"].combine_chunks()
    return lambda table: table.filter(pc.is_in(table["user"], users))


def _grouped(records: Iterator[Record], keys: list[str]) -> pa.Table:
    """The distinct keys (string) with the number of their `rows`, in memory that grows with those."""
    import pyarrow as pa

    done = pa.table({**{k: pa.array([], pa.string()) for k in keys}, "rows": pa.array([], pa.int64())})
    fresh: list[pa.Table] = []

    def join() -> pa.Table:
        joined = pa.concat_tables([done, *fresh]).group_by(keys).aggregate([("rows", "sum")])
        return joined.rename_columns([*keys, "rows"])

    for record in records:
        if isinstance(record, Purchases):
            ones = pa.repeat(pa.scalar(1, pa.int64()), record.table.num_rows)
            fresh.append(record.table.select(keys).append_column("rows", ones))
            if sum(t.num_rows for t in fresh) > max(1_000_000, done.num_rows):  # seldom: each join reads all
                done, fresh = join(), []
    return join()


def _core(records: Iterator[Record], least: int) -> tuple[Callable[[pa.Table], pa.Table], list[Kept]]:
    """The filter for rows of the k-core (UPGAN, section 5.1), and what each round keeps.

    Holds the distinct pairs of user and item in memory.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    from kgkit.subgraph import Thresholds, k_core

    pairs = _grouped(records, ["user", "item"])
    ends = {name: pairs[name].combine_chunks().dictionary_encode() for name in ("user", "item")}
    user, item = (np.asarray(ends[name].indices, dtype=np.int64) for name in ("user", "item"))
    none = np.zeros(0, dtype=np.int64)
    sizes = {
        "n_users": len(ends["user"].dictionary),
        "n_entities": len(ends["item"].dictionary),
        "n_relations": 0,
    }
    core = k_core(none, none, none, user, item, Thresholds(user=least, item=least), **sizes)
    users, items = (
        ends[name].dictionary.filter(pa.array(kept))
        for name, kept in (("user", core.users), ("item", core.items))
    )

    def keep(table: pa.Table) -> pa.Table:
        return table.filter(pc.and_(pc.is_in(table["user"], users), pc.is_in(table["item"], items)))

    # That an item is an entity is not known here.
    return keep, [replace(step, entities=0) for step in core.steps]


def _within(table: pa.Table, name: str, low: float | None, high: float | None) -> pa.Table:
    """The rows with low <= value < high; rows without a value go when there is a bound."""
    import pyarrow.compute as pc

    if low is not None:
        table = table.filter(pc.greater_equal(table[name], low))
    if high is not None:
        table = table.filter(pc.less(table[name], high))
    return table


@hookimpl
def register_connectors() -> list[type[Connector]]:
    """The connector of this file."""
    return [PurchaseLog]
