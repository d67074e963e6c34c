"""Purchase logs: CSV, TSV, JSON lines or Parquet, one row an event or a pair of user and item."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kgkit import Connector, hookimpl, option
from kgkit.records import Progress, Purchases, Record, Reject, Skipped
from kgkit.tabular import Column, FileOptions, read, seconds

if TYPE_CHECKING:
    import pyarrow as pa

USER = ("user", "user_id", "customer", "customer_id", "client_id", "visitor_id", "member_id", "uid", "u")
ITEM = ("item", "item_id", "product", "product_id", "sku", "asin", "article_id", "artist_id", "movie_id",
        "book_id", "track_id", "business_id", "isbn", "iid", "i")  # fmt: skip
TIME = ("time", "timestamp", "date", "datetime", "event_time", "purchased_at", "created_at", "ts", "t_dat")
RATING = ("rating", "stars", "score", "book_rating", "overall")
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
        min_rating: float | None = option(None, "leave out rows with a lower rating, or with none")
        since: str | None = option(
            None, "leave out rows before this time (2024-05-31, or seconds since 1970)"
        )
        until: str | None = option(None, "leave out rows at or after this time")
        min_user_rows: int | None = option(
            None,
            "seed users: leave out users with fewer rows (after the other limits; over a --source's files)",
            ge=1,
        )

    def files(self, config: Config) -> list[Path]:
        """The logs."""
        return list(config.paths)

    def read(self, config: Config) -> Iterator[Record]:
        """Yields Purchases of the rows within rating threshold and time window, of users with enough of them."""
        if config.min_user_rows is None:
            yield from self._rows(config)
            return
        active = _active(self._rows(config), config.min_user_rows)
        for record in self._rows(config):
            if not isinstance(record, Purchases):
                yield record
                continue
            kept = active(record.table)
            if left_out := record.table.num_rows - kept.num_rows:
                yield Skipped(left_out, "of users with fewer rows than --min-user-rows")
            yield Purchases(kept)

    def _rows(self, config: Config) -> Iterator[Record]:
        since, until = seconds(config.since, "--since"), seconds(config.until, "--until")
        windowed = since is not None or until is not None
        columns = [
            Column("user", given=config.user, usual=USER, position=0),
            Column("item", given=config.item, usual=ITEM, position=1),
            Column("time", "time", config.time, TIME, required=windowed, nullable=True),
            Column(
                "rating",
                "float64",
                config.rating,
                RATING,
                required=config.min_rating is not None,
                nullable=True,
            ),
            Column("count", "int64", config.count, COUNT, required=False, nullable=True, ge=1),
        ]
        for path in config.paths:
            for found in read(path, columns, config.layout):
                if isinstance(found, (Reject, Progress)):
                    yield found
                    continue
                kept = _within(found, "rating", config.min_rating, None)
                if left_out := found.num_rows - kept.num_rows:
                    yield Skipped(left_out, "below --min-rating")
                windowed_rows = _within(kept, "time", since, until)
                if left_out := kept.num_rows - windowed_rows.num_rows:
                    yield Skipped(left_out, "outside --since and --until")
                yield Purchases(windowed_rows)


def _active(records: Iterator[Record], least: int) -> Callable[[pa.Table], pa.Table]:
    """Reads a source through, and gives the filter for rows of users with at least so many (KQGC's seed users)."""
    import pyarrow as pa
    import pyarrow.compute as pc

    rows: pa.Table | None = None
    for record in records:
        if isinstance(record, Purchases):
            found = record.table.group_by("user").aggregate([("user", "count")])
            both = found if rows is None else pa.concat_tables([rows, found])
            rows = both.group_by("user").aggregate([("user_count", "sum")])
            rows = rows.rename_columns(["user", "user_count"])
    users = pa.array([], pa.string())
    if rows is not None:
        users = rows.filter(pc.greater_equal(rows["user_count"], least))["user"].combine_chunks()
    return lambda table: table.filter(pc.is_in(table["user"], users))


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
