"""Every error that kgkit raises on purpose, sorted by what the caller does next.

A message says what was seen, what was expected and what to type next. `kgkit.cli.main` catches `KgkitError` once and
prints it as one line with exit code 1; anything else is a bug and keeps its traceback.
"""

from __future__ import annotations

from pathlib import Path


class KgkitError(Exception):
    """Root of all expected failures; `str(error)` is the line that a person reads."""


class ConfigError(KgkitError):
    """An option, recipe or query that the user must change."""


class PluginError(KgkitError):
    """A plugin or connector that is unknown, doubled, or breaks its contract."""


class ConnectorError(KgkitError):
    """A source that cannot be read: missing, empty, truncated, wrongly encoded, lacking a column."""

    def __init__(self, message: str, source: str | Path | None = None, line: int | None = None) -> None:
        where = "" if source is None else f"{source}{'' if line is None else f', line {line}'}: "
        super().__init__(where + message)
        self.source, self.line = source, line


class TooManyRejects(ConnectorError):
    """More malformed rows than --max-rejects allows; what was valid so far is stored."""


class StoppedError(KgkitError):
    """Somebody asked for an end; what was read so far is stored."""


class StoreError(KgkitError):
    """The graph store refused or failed."""


class RetryableStoreError(StoreError):
    """The store is busy or away; the same command may succeed later."""


class DamagedStoreError(StoreError):
    """The graph's file, or its log, is not what was written."""


class ReadOnlyStoreError(StoreError):
    """A statement that writes was sent through a read-only door."""


class DiskError(KgkitError):
    """A disk that takes no more, or a folder that may not be written: full, over its quota, read-only, refused."""


class DamagedRun(ConfigError):
    """A file of a run's folder that is not what kgkit wrote there."""


class EmptyExtraction(KgkitError):
    """A query found nothing to train on."""


class LeakError(KgkitError):
    """Test data, or what a model wrote, was found among the training input."""


class TrainingError(KgkitError):
    """Training cannot go on."""


class NonFiniteLoss(TrainingError):
    """The loss became NaN or infinite; names epoch and phase."""

    def __init__(self, epoch: int, phase: str, value: float) -> None:
        super().__init__(
            f"the loss became {value} in epoch {epoch}, phase '{phase}': "
            "lower --learning-rate, or look for extreme values in the input"
        )
        self.epoch, self.phase = epoch, phase
