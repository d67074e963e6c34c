"""The contract of a connector: a name, typed options, and `read`, which yields records."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from kgkit.records import Record


class Connector(ABC):
    """One kind of source. A subclass is one small file and knows nothing of stores.

    `name` is what people type after `kgkit ingest`; `about` is one line for `kgkit connectors`; `Config` is a frozen
    dataclass of `kgkit.config.option` fields, and becomes the command's options. A positional argument of
    `kgkit ingest NAME PATH...` fills the field named `paths` (tuple[Path, ...]). `whole` says that the files of one
    command are one source, such as a dump in parts, rather than a source each.
    """

    name: ClassVar[str]
    about: ClassVar[str]
    Config: ClassVar[type]
    whole: ClassVar[bool] = False

    @abstractmethod
    def read(self, config: Any) -> Iterator[Record]:
        """Yields the records of the source in bounded batches.

        Raises ConnectorError(message, file, line) when the source itself cannot be read; a single bad row is yielded
        as a Reject instead.
        """

    @abstractmethod
    def files(self, config: Any) -> list[Path]:
        """The files that `read` will open, for the fingerprint by which an unchanged source is skipped."""

    def source(self, config: Any) -> str:
        """The name by which the graph remembers this source: option `source` when given, else the file name."""
        given = getattr(config, "source", None)
        return str(given) if given else "+".join(sorted(p.name for p in self.files(config)))
