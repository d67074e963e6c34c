"""One training run on disk: its folder, record (run.json), trace (trace.jsonl), split, checkpoint and weights.

Weights are arrays by name (model.npz), and whose rows they are stands beside them (nodes.json), so that neither torch nor
the graph is needed to use them.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from kgkit.errors import ConfigError
from kgkit.lazy import np, torch

Observer = Callable[[str, Mapping[str, Any]], None]


@dataclass
class Run:
    """A run's folder and record. `record` is what run.json holds; `observe` hears of every epoch."""

    folder: Path
    record: dict[str, Any]
    observe: Observer = field(default=lambda event, data: None)
    resume: bool = False

    @property
    def id(self) -> str:
        return str(self.record["id"])

    # -- life ----------------------------------------------------------------------------------------------------
    @classmethod
    def create(cls, runs: Path, plugin: str, parameters: Mapping[str, Any], **more: Any) -> Run:
        """Makes a new folder under `runs` and writes its first record."""
        now = datetime.now(UTC)
        id = f"{plugin}-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
        record = {
            "id": id,
            "plugin": plugin,
            "status": "running",
            "created": now.isoformat(timespec="milliseconds"),
            "parameters": dict(parameters),
            "seed": parameters.get("seed"),
            **more,
            "versions": versions(plugin),
            "timings": {},
            "metrics": {},
        }
        folder = runs / id
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise ConfigError(f"--runs {runs}: cannot make a folder there: {error.strerror}") from error
        run = cls(folder, record)
        run.save()
        return run

    @classmethod
    def open(cls, runs: Path, id: str) -> Run:
        """Opens a run by id, or by an unambiguous beginning of it. Raises ConfigError naming the ones there are."""
        found = [r for r in list_runs(runs) if r["id"].startswith(id)]
        exact = [r for r in found if r["id"] == id]
        if len(exact or found) != 1:
            known = ", ".join(r["id"] for r in (found or list_runs(runs))) or "none"
            raise ConfigError(f"{'several runs start with' if found else 'no run'} {id!r} in {runs}: {known}")
        record = (exact or found)[0]
        return cls(runs / record["id"], record)

    def update(self, **values: Any) -> None:
        """Changes the record and saves it."""
        self.record.update(values)
        self.save()

    def save(self) -> None:
        """Writes run.json so that a kill leaves the old or the new one whole."""
        _replace(
            self.folder / "run.json",
            lambda p: p.write_text(json.dumps(self.record, indent=2, default=str) + "\n"),
        )

    def erase(self) -> None:
        """Removes the folder."""
        shutil.rmtree(self.folder)

    # -- while training ------------------------------------------------------------------------------------------
    def epoch_ended(self, line: Mapping[str, Any]) -> None:
        """One line of trace.jsonl: epoch, losses by phase, validation metric, seconds."""
        with (self.folder / "trace.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        self.observe("epoch", line)

    def trace(self) -> list[dict[str, Any]]:
        """The lines of trace.jsonl."""
        path = self.folder / "trace.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def trim_trace(self, epochs: int) -> None:
        """Forgets lines after an epoch: those whose checkpoint a kill prevented come again."""
        kept = "".join(json.dumps(line) + "\n" for line in self.trace() if line["epoch"] <= epochs)
        _replace(self.folder / "trace.jsonl", lambda p: p.write_text(kept))

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Adds the seconds of a block to timings[what]."""
        started = time.perf_counter()
        try:
            yield
        finally:
            timings = self.record["timings"]
            timings[what] = round(timings.get(what, 0.0) + time.perf_counter() - started, 4)

    # -- files ---------------------------------------------------------------------------------------------------
    def save_tensors(self, name: str, content: Mapping[str, Any]) -> None:
        """Writes NAME (checkpoint.pt) atomically."""
        _replace(self.folder / name, lambda p: torch.save(dict(content), p))

    def load_tensors(self, name: str) -> dict[str, Any] | None:
        """Reads NAME, or None if it is not there. Only tensors and plain values are unpickled."""
        path = self.folder / name
        if not path.exists():
            return None
        try:
            loaded: dict[str, Any] = torch.load(path, weights_only=True)
        except Exception as error:
            raise _damaged(path, error) from error
        return loaded

    def save_weights(self, arrays: Mapping[str, Any], nodes: Mapping[str, list[str]]) -> None:
        """Writes model.npz, arrays by name, and nodes.json: the ids, by label, that the rows of its tables are."""

        def write(path: Path) -> None:
            with path.open("wb") as file:  # to a name that does not end so, numpy would add .npz
                np.savez(file, **arrays)

        self.save_json("nodes.json", nodes)
        _replace(self.folder / "model.npz", write)

    def load_weights(self) -> dict[str, Any]:
        """The arrays that `save_weights` wrote. Raises ConfigError when they are not there, or not whole."""
        path = self.folder / "model.npz"
        if not path.exists():
            raise ConfigError(
                f"run {self.id} has no weights: finish it with `kgkit train --resume {self.id}`, or train again if it "
                "was another version of kgkit that trained it"
            )
        try:
            with np.load(path) as arrays:
                return dict(arrays)
        except Exception as error:
            raise _damaged(path, error) from error

    def save_json(self, name: str, content: Any) -> None:
        """Writes NAME as JSON: what is too long for the record."""
        _replace(self.folder / name, lambda p: p.write_text(json.dumps(content) + "\n"))

    def load_json(self, name: str) -> Any:
        """What `save_json` wrote, or None if it is not there."""
        path = self.folder / name
        return json.loads(path.read_text()) if path.exists() else None

    def save_split(self, split: Any, save: Callable[[Any, Path], None]) -> None:
        """Stores the split by `save` (of the split's own module), its hash going into the record."""
        self.record["split"] = split.fingerprint
        _replace(self.folder / "split.npz", lambda p: save(split, p))

    def load_split(self, load: Callable[[Path], Any]) -> Any:
        """The split stored with the run. Raises ConfigError if its hash is not the recorded one."""
        path = self.folder / "split.npz"
        if not path.exists():
            raise ConfigError(f"{path} is missing: this run cannot be evaluated or resumed; train again")
        split = load(path)
        if split.fingerprint != self.record.get("split"):
            raise ConfigError(f"{path} is not the split that run {self.id} recorded; train again")
        return split


def list_runs(runs: Path) -> list[dict[str, Any]]:
    """The records of all runs in a folder, oldest first."""
    found = []
    for path in runs.glob("*/run.json"):
        try:
            found.append(json.loads(path.read_text()))
        except ValueError as error:
            raise ConfigError(f"{path} is damaged ({error}): remove its folder") from error
    return sorted(found, key=lambda r: (r["created"], r["id"]))


def versions(plugin: str) -> dict[str, str]:
    """Versions of what a result depends on, and of the distribution that brings the plugin."""
    found = {"python": platform.python_version()}
    for name in ("kgkit", "torch", "numpy", "pyarrow", "ladybug", "neo4j"):
        found[name] = metadata.version(name)
    for point in metadata.entry_points(group="kgkit.models", name=plugin):
        if point.dist is not None:
            found[point.dist.name] = point.dist.version
    return found


def peak_memory() -> int:
    """Most memory that this process has held, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _damaged(path: Path, error: Exception) -> ConfigError:
    return ConfigError(f"{path}: not readable ({error.__class__.__name__}); train again")


def _replace(path: Path, write: Callable[[Path], Any]) -> None:
    """Writes beside a file and renames, so that a kill leaves one of both whole."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    write(beside)
    beside.replace(path)
