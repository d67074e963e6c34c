"""The one reader of the files in a run's folder: what it hands on has been checked, and what is damaged is named.

Of a finished run the record holds the SHA-256 of every file that is read later, and run.json one of itself, so that a
changed digit is noticed as well as a file that no longer parses. Runs of earlier versions have neither; theirs are
checked for their form alone.
"""

from __future__ import annotations

import hashlib
import json
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from kgkit.errors import DamagedRun
from kgkit.lazy import np, torch
from kgkit.processes import still_runs
from kgkit.run_shapes import RECORD, STATUSES, TRACE_LINE, mismatch

RECORD_NAME, TRACE_NAME = "run.json", "trace.jsonl"
SEAL = "sha256"  # the key of run.json's own
KILLED = "its process ended without a word: it was killed, or the machine went down"


def damaged(path: Path, what: str) -> DamagedRun:
    """The error that names a file of a run's folder, what is wrong with it, and what to do."""
    run = path.parent.name
    if path.name == RECORD_NAME:
        remedy = (
            f"bring it back from a copy, or give the run up with `kgkit runs erase {run}` (--store STORE takes its "
            "answers out of the graph, --keep-graph leaves them)"
        )
    elif path.name == "checkpoint.pt":
        remedy = "bring it back from a copy, or remove it, and --resume begins at the first epoch"
    else:
        remedy = "bring it back from a copy, or train again"
    return DamagedRun(f"{path}: {what}; {remedy}")


def sealed(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record as JSON will hold it, with the hash of all of it."""
    plain = json.loads(json.dumps({k: v for k, v in record.items() if k != SEAL}, default=str))
    return {**plain, SEAL: _seal(plain)}


def read_record(path: Path) -> dict[str, Any]:
    """What run.json holds. Of a run whose process is gone the status is "interrupted", whatever is written there.

    Raises DamagedRun.
    """
    record = read_json(path)
    if not isinstance(record, dict):
        raise damaged(path, "it is not a JSON object")
    seal = record.pop(SEAL, None)
    if seal is not None and seal != _seal(record):
        raise damaged(
            path,
            f'its content is not what its "{SEAL}" says (whoever changed it on purpose takes that line out)',
        )
    if wrong := mismatch(record, RECORD) or _contradiction(record):
        raise damaged(path, wrong)
    if record["id"] != path.parent.name:
        raise damaged(
            path, f"it speaks of run {record['id']}: the folder was renamed, or the file is another's"
        )
    if record["status"] == "running" and ("process" not in record or still_runs(record["process"]) is False):
        record |= {"status": "interrupted", "error": KILLED}
    return record


def _seal(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _contradiction(record: Mapping[str, Any]) -> str | None:
    if record["status"] not in STATUSES:
        return f"status is {record['status'][:40]!r}, none of {', '.join(STATUSES)}"
    tested = record.get("leaks", {}).get("test", {})
    if tested and tested["any"] > tested["facts"]:
        return "leaks.test counts more facts than there are"
    return None


def read_json(path: Path) -> Any:
    """A JSON document. Raises DamagedRun where there is none."""
    try:
        return json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise damaged(path, f"it is not JSON ({_first_line(error)})") from None


def read_trace(path: Path, whole: bool) -> list[dict[str, Any]]:
    """The lines of trace.jsonl, epochs in rising order; none where there is no file.

    whole: the run is finished; otherwise a last line without an end is one that a kill cut short, and left out.
    Raises DamagedRun.
    """
    if not path.exists():
        return []
    lines = _text(path).split("\n")
    if lines[-1] and whole:
        raise damaged(path, f"line {len(lines)} has no end: the file was cut short")
    found: list[dict[str, Any]] = []
    for number, text in enumerate(lines[:-1], 1):
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            raise damaged(path, f"line {number} is not JSON") from None
        wrong = mismatch(line, TRACE_LINE) or mismatch(
            {k: v for k, v in line.items() if k.startswith("valid_")}, {str: float}
        )
        if not wrong and not line["loss"]:
            wrong = "it has no loss"
        if not wrong and found and list(line["loss"]) != list(found[0]["loss"]):
            wrong = "its losses are not those of line 1"
        if not wrong and line["epoch"] <= (found[-1]["epoch"] if found else 0):
            wrong = f"epoch {line['epoch']} does not come after the one before"
        if wrong:
            raise damaged(path, f"line {number}: {wrong}")
        found.append(line)
    return found


def read_arrays(path: Path, known: bool = False) -> dict[str, Any]:
    """The arrays of an npz file, by name; pickled objects are refused. known: its SHA-256 has been compared already.

    Raises DamagedRun.
    """
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy's and Python's own about headers that make no sense
            if not known:
                _test_zip(file)
            with np.load(file) as arrays:
                return dict(arrays)
    except Exception as error:  # numpy and zipfile have no common kind
        _not_readable(path, error)


def read_tensors(path: Path) -> dict[str, Any]:
    """What `torch.save` wrote: only tensors and plain values are unpickled. Raises DamagedRun."""
    try:
        with path.open("rb") as file:
            _test_zip(file)  # torch does not look at the sums itself
            loaded = torch.load(file, weights_only=True)
    except Exception as error:  # torch has no common kind either
        _not_readable(path, error)
    if not isinstance(loaded, dict):
        raise damaged(path, "it holds something else than a checkpoint")
    return loaded


def digest(path: Path) -> str:
    """SHA-256 of a file. Raises DamagedRun when it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        _not_readable(path, error)


def _test_zip(file: Any) -> None:
    with zipfile.ZipFile(file) as archive:
        if (name := archive.testzip()) is not None:
            raise ValueError(f"the sum of {name} is wrong")
    file.seek(0)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise damaged(path, f"it is no text in UTF-8 (byte {error.start:,})") from None
    except OSError as error:
        _not_readable(path, error)


def _not_readable(path: Path, error: Exception) -> NoReturn:
    if isinstance(error, FileNotFoundError):
        raise damaged(path, "it is missing") from None
    raise damaged(path, f"it cannot be read ({_first_line(error)})") from error


def _first_line(error: Exception) -> str:
    words = str(getattr(error, "strerror", None) or error).strip().splitlines()
    return words[0][:120] if words else type(error).__name__
