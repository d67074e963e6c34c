"""KGAT's and LightGCN's `train.txt`: on each line a user and the items that this user bought, with blanks between."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kgkit import Connector, hookimpl, option
from kgkit.records import Progress, Purchases, Record, Reject

if TYPE_CHECKING:
    import pyarrow as pa


class Adjacency(Connector):
    """A user without items has bought nothing; an item that stands twice on a line is bought twice."""

    name = "adjacency"
    about = "KGAT's and LightGCN's train.txt: user item item item .."

    @dataclass(frozen=True)
    class Config:
        """Options of `kgkit ingest adjacency`."""

        paths: tuple[Path, ...] = option(
            help="files to read; .gz, .bz2, .xz and .zst are unpacked on the way"
        )
        source: str | None = option(
            None, "name by which the graph remembers the rows; default: the file's name"
        )
        encoding: str = option("utf-8", "character encoding of the files, for example latin-1")

    def files(self, config: Config) -> list[Path]:
        """The lists."""
        return list(config.paths)

    def read(self, config: Config) -> Iterator[Record]:
        """Yields Purchases, a row an item of a line."""
        from kgkit.tabular.source import blocks

        for path in config.paths:
            yield Progress(0, notes=(f"{path.name}: user = column 1, items = all others",))
            for block in blocks(path, config.encoding):
                rows, table = _rows(block.data)
                if table.num_rows:
                    yield Purchases(table)
                yield from (Reject(str(path), line, why, text) for line, why, text in block.rejects)
                yield Progress(rows + len(block.rejects), block.done, block.total)


def _rows(data: bytes) -> tuple[int, pa.Table]:
    """The number of lines with a user, and user and item (string) of all their items."""
    import pyarrow as pa

    from kgkit.tabular.convert import ids

    lines = [cells for line in data.decode().split("\n") if (cells := line.split())]
    users = [cells[0] for cells in lines for _ in cells[1:]]
    items = [item for cells in lines for item in cells[1:]]
    columns = [ids(pa.array(column, pa.string()))[0] for column in (users, items)]
    return len(lines), pa.table(columns, names=["user", "item"])


@hookimpl
def register_connectors() -> list[type[Connector]]:
    """The connector of this file."""
    return [Adjacency]
