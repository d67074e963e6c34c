"""One training run on disk: its folder, record (run.json), trace (trace.jsonl), split, checkpoint and weights.

Weights are arrays by name (model.npz), and whose rows they are stands beside them (nodes.json), so that neither torch nor
the graph is needed to use them.
"""

from __future__ import annotations

import json
import platform
import re
import resource
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import IO, Any

from kgkit import disk
from kgkit.errors import ConfigError, DamagedRun, DiskError
from kgkit.lazy import np, torch
from kgkit.processes import this_process
from kgkit.run_files import (
    RECORD_NAME,
    TRACE_NAME,
    damaged,
    digest,
    read_arrays,
    read_json,
    read_record,
    read_tensors,
    read_trace,
    sealed,
)
from kgkit.run_shapes import mismatch

CHECKPOINT = "checkpoint.pt"
_KEPT = ("split.npz", "model.npz", "nodes.json", "relations.json", "ranking.json", TRACE_NAME)
_TEMPORARY = re.compile(r"\..+\.\d+")  # what `disk.replace` writes beside

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
            "process": this_process(),
        }
        run = cls(runs / id, record)
        try:
            with disk.writing(runs):
                run.folder.mkdir(parents=True)
            run.save()
        except DiskError as error:
            shutil.rmtree(run.folder, ignore_errors=True)
            raise DiskError(
                f"--runs {runs}: {error}; nothing was begun and the graph is as it was: make room, or name another "
                "folder by --runs"
            ) from error
        return run

    @classmethod
    def open(cls, runs: Path, id: str) -> Run:
        """Opens a run by id, or by an unambiguous beginning of it.

        Raises ConfigError naming the ones there are, DamagedRun when its run.json is not whole.
        """
        folder = runs / pick(runs, id)
        return cls(folder, read_record(folder / RECORD_NAME))

    def update(self, **values: Any) -> None:
        """Changes the record and saves it."""
        self.record.update(values)
        self.save()

    def save(self) -> None:
        """Writes run.json so that a kill leaves the old or the new one whole. Raises DiskError."""
        text = json.dumps(sealed(self.record), indent=2) + "\n"
        disk.replace(self.folder / RECORD_NAME, lambda file: file.write(text.encode()))

    def finish(self, keep_checkpoint: bool) -> None:
        """Records that all is there, with the hashes of the files; the checkpoint goes unless it is to be kept."""
        kept = [name for name in _KEPT if (self.folder / name).exists()]
        self.record.pop("process", None)
        self.update(status="finished", files={name: digest(self.folder / name) for name in kept})
        if not keep_checkpoint:
            with suppress(OSError):
                (self.folder / CHECKPOINT).unlink(missing_ok=True)

    def stopped(self, status: str, error: str | None) -> None:
        """Records that it ended before its end, as far as the disk lets it be written."""
        with suppress(DiskError):
            self.update(status=status, error=error)

    def begin_again(self) -> None:
        """Records that this process goes on with it, and removes what an earlier one was in the middle of writing."""
        for path in self.folder.iterdir():
            if _TEMPORARY.fullmatch(path.name):
                path.unlink(missing_ok=True)
        self.update(status="running", error=None, process=this_process())

    def erase(self) -> None:
        """Removes the folder. Raises DiskError."""
        with disk.writing(self.folder, f"run {self.id} is still there"):
            shutil.rmtree(self.folder)

    @property
    def flags(self) -> str:
        """What a command about this run must say: --resume's argument, and --runs where it is not the usual folder."""
        runs = self.folder.parent
        return self.id if runs == Path("runs") else f"{self.id} --runs {runs}"

    def store(self, given: str | None = None) -> str | None:
        """The store to open: the given one, else the one that the run was trained on."""
        return given or self.record.get("store")

    # -- while training ------------------------------------------------------------------------------------------
    def epoch_ended(self, line: Mapping[str, Any]) -> None:
        """One line of trace.jsonl: epoch, losses by phase, validation metric, seconds. Raises DiskError."""
        disk.append(self.folder / TRACE_NAME, json.dumps(line).encode() + b"\n")
        self.observe("epoch", line)

    def trace(self) -> list[dict[str, Any]]:
        """The lines of trace.jsonl. Raises DamagedRun."""
        finished = self.record["status"] == "finished"
        self._compare(TRACE_NAME)
        return read_trace(self.folder / TRACE_NAME, whole=finished)

    def trim_trace(self, epochs: int) -> None:
        """Forgets lines after an epoch: those whose checkpoint a kill prevented come again."""
        if (self.folder / TRACE_NAME).exists():
            kept = "".join(json.dumps(line) + "\n" for line in self.trace() if line["epoch"] <= epochs)
            disk.replace(self.folder / TRACE_NAME, lambda file: file.write(kept.encode()))

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
        """Writes NAME (checkpoint.pt) whole or not at all. Raises DiskError."""
        disk.replace(self.folder / name, lambda file: torch.save(dict(content), file))

    def load_tensors(self, name: str) -> dict[str, Any] | None:
        """Reads NAME, or None if it is not there. Only tensors and plain values are unpickled. Raises DamagedRun."""
        path = self.folder / name
        return read_tensors(path) if path.exists() else None

    def save_weights(self, arrays: Mapping[str, Any], nodes: Mapping[str, list[str]]) -> None:
        """Writes model.npz, arrays by name, and nodes.json: the ids, by label, that the rows of its tables are."""
        self.save_json("nodes.json", nodes)
        disk.replace(self.folder / "model.npz", lambda file: np.savez(file, **arrays))

    def load_weights(self, like: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The arrays that `save_weights` wrote. like: those of the same names, shapes and types are expected.

        Raises ConfigError when they are not there, DamagedRun when they are not whole, or others.
        """
        path = self.folder / "model.npz"
        if not path.exists() and "files" not in self.record:
            raise ConfigError(
                f"run {self.id} has no weights: finish it with `kgkit train --resume {self.flags}`, or train again if it "
                "was another version of kgkit that trained it"
            )
        found = read_arrays(path, known=self._compare(path.name))
        for name in sorted({*found, *(found if like is None else like)}):
            have, want = (
                "no such table" if name not in these else f"{these[name].dtype} {list(these[name].shape)}"
                for these in (found, found if like is None else like)
            )
            if have != want:
                raise damaged(path, f"table {name}: {have} where the model has {want}")
        return found

    def save_json(self, name: str, content: Any) -> None:
        """Writes NAME as JSON: what is too long for the record. Raises DiskError."""
        disk.replace(self.folder / name, lambda file: file.write(json.dumps(content).encode() + b"\n"))

    def load_json(self, name: str, shape: Any = object) -> Any:
        """What `save_json` wrote, or None if there never was any. shape: see `run_shapes`. Raises DamagedRun."""
        path = self.folder / name
        if not self._compare(name) and not path.exists():
            return None
        content = read_json(path)
        if wrong := mismatch(content, shape):
            raise damaged(path, wrong)
        return content

    def save_split(self, split: Any, save: Callable[[Any, IO[bytes]], None]) -> None:
        """Stores the split by `save` (of the split's own module), its hash going into the record. Raises DiskError."""
        self.record["split"] = split.fingerprint
        disk.replace(self.folder / "split.npz", lambda file: save(split, file))

    def load_split(self, load: Callable[[Path], Any]) -> Any:
        """The split stored with the run. Raises DamagedRun if it is missing, or its hash is not the recorded one."""
        path = self.folder / "split.npz"
        self._compare(path.name)
        split = load(path)
        if split.fingerprint != self.record.get("split"):
            raise damaged(path, f"it is not the split that run {self.id} recorded")
        return split

    def _compare(self, name: str) -> bool:
        """Whether the record has a hash of a file, which is then the file's. Raises DamagedRun when it is not."""
        recorded = self.record.get("files", {}).get(name)
        if recorded is not None and digest(self.folder / name) != recorded:
            raise damaged(
                self.folder / name, "it is not the file that the run wrote (its SHA-256 is another)"
            )
        return recorded is not None


def pick(runs: Path, id: str) -> str:
    """The id of the one run in a folder that is called so, or else begins so. Raises ConfigError naming those there are."""
    there = run_ids(runs)
    if id in there:
        return id
    found = [name for name in there if name.startswith(id)] if id else []
    if len(found) != 1:
        known = ", ".join(found or there) or "none"
        raise ConfigError(f"{'several runs start with' if found else 'no run'} {id!r} in {runs}: {known}")
    return found[0]


def run_ids(runs: Path) -> list[str]:
    """The names of the folders in `runs` that hold a run, whole or not."""
    return sorted(path.parent.name for path in runs.glob(f"*/{RECORD_NAME}"))


def list_runs(runs: Path, tell: Callable[[DamagedRun], None] = lambda damaged: None) -> list[dict[str, Any]]:
    """The records of all runs in a folder, oldest first; `tell` hears of those that are damaged."""
    found = []
    for id in run_ids(runs):
        try:
            found.append(read_record(runs / id / RECORD_NAME))
        except DamagedRun as error:
            if (runs / id / RECORD_NAME).exists():  # else it was erased meanwhile
                tell(error)
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
